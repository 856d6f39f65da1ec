/* SPDX-License-Identifier: MIT */
/*
 * maps: the address space of a process as a list of mappings, from /proc/PID/maps or from the notes of a core
 * dump. Ascending, owned by the reader. A line that makes no sense is left out.
 */
#ifndef MAPS_H
#define MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mapping {
    uint64_t start, end;
    uint64_t offset; /* in the file */
    uint64_t inode;  /* 0: unknown or no file */
    bool readable, writable, executable;
    bool deleted; /* the kernel says so: the file was removed, or another took its name */
    char *path; /* "" for anonymous memory; " (deleted)" is cut off */
};

struct maps {
    struct mapping *list;
    size_t nr, room;
};

/* 0 or an errno value. A kernel thread has no mappings. */
int maps_read_process(struct maps *maps, pid_t pid);
/* For the parser of core notes. Copies the path. false: no memory. */
bool maps_add(struct maps *maps, const struct mapping *mapping);
void maps_parse(struct maps *maps, char *text);
void maps_free(struct maps *maps);
/* The mapping that holds the address, or NULL. */
const struct mapping *maps_find(const struct maps *maps, uint64_t address);

/* A whole file of /proc as NUL-terminated text, at most `limit` bytes; NULL: errno says why. free() it. */
char *read_text_file(const char *path, size_t limit, size_t *bytes);

#endif
