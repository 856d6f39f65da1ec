/* SPDX-License-Identifier: MIT */
/*
 * source: bytes at addresses, wherever they come from: a running process (process_vm_readv: no attach, no
 * pause), a core dump, or a file whose addresses are offsets. All reads are bounded and whole or failed;
 * nothing that was read is believed here.
 */
#ifndef SOURCE_H
#define SOURCE_H

#include "maps.h"
#include "problem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct source {
    /* 0, or an errno value: nothing was read. */
    int (*read)(struct source *source, uint64_t address, void *buffer, size_t bytes);
    /* The same of what the source itself holds: of a core, not what it leaves to the files that were mapped. */
    int (*read_held)(const struct source *source, uint64_t address, void *buffer, size_t bytes);
    void (*close)(struct source *source);
    struct maps maps; /* empty for a file */
    pid_t pid;        /* 0: not a process */
    int fd;           /* core and file; else -1 */
    uint64_t fd_bytes;
    bool is_cut; /* core: shorter than its headers say */
    void *private;     /* core.c */
    const char *exe;   /* core: takes the place of the program's file; may be NULL */
    char program[256]; /* path of the executable; "" if unknown */
};

int source_process(struct source *source, pid_t pid, struct problem *problem);
int source_file(struct source *source, const char *path, struct problem *problem);
/* Takes the descriptor over. */
int source_descriptor(struct source *source, int fd, const char *name, struct problem *problem);
/* core.c. `exe` may be NULL. */
int source_core(struct source *source, const char *path, const char *exe, struct problem *problem);
void source_close(struct source *source);

/* The file behind a mapping, if its first page is that of the mapping (or nobody can tell), also one deleted or replaced since, and in the process's own mount namespace;
 * -1 when there is none. The caller closes it. */
int source_open_mapping(const struct source *source, const struct mapping *mapping);

/* pread in full; 0 or an errno value (ENODATA at the end of the file). */
int read_fully(int fd, void *buffer, size_t bytes, uint64_t offset);

#endif
