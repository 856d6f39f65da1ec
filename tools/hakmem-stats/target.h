/* SPDX-License-Identifier: MIT */
/* target: what a command looks at: a process by number, a snapshot by path, or a core dump. */
#ifndef TARGET_H
#define TARGET_H

#include "capture.h"
#include "symbols.h"

struct target {
    struct source source;
    struct capture capture;
    struct symbols *symbols; /* made when first asked for */
    uint64_t root;
    pid_t pid; /* 0: not a process */
    bool from_export_file;
    bool memory_denied; /* the library is there, its memory may not be read */
};

/* "123" or a path that has a character other than a digit. */
int target_open(struct target *target, const char *name, bool thorough, struct problem *problem);
int target_open_core(struct target *target, const char *path, const char *exe,
                     struct problem *problem);
/* Takes the numbers anew. */
int target_again(struct target *target, struct problem *problem);
/* What the kernel says of the process's memory, apart: it walks the page tables, so not for every look. */
void target_read_rollup(struct target *target);
void target_close(struct target *target);

/* Of row `row` of table "site": from the process, or as a snapshot recorded it. */
void target_symbol(struct target *target, uint32_t row, struct symbol *symbol);
/* The same, and what was inlined there (symbols_find). */
unsigned target_frames(struct target *target, uint32_t row, struct symbol *symbol, struct frame inlined[MAX_INLINED]);

#endif
