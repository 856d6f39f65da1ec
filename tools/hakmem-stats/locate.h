/* SPDX-License-Identifier: MIT */
/*
 * locate: where hak_stats_root lies. The library (or the program, when it is static or took a copy of the
 * symbol) is found among the mapped files, the symbol in its ELF file; a stripped or vanished file is
 * replaced by a look for the magic in its writable memory.
 */
#ifndef LOCATE_H
#define LOCATE_H

#include "source.h"

/* The address in *root. With `thorough`, files that are neither named like the library nor the program are
 * looked into as well. EXIT_NOTHING: no export; EXIT_PERMISSION: memory may not be read. */
int locate_root(struct source *source, bool thorough, uint64_t *root, struct problem *problem);

/* The copy in a memfd (option stats:export), for readers that may not read memory. -1: there is none. */
int locate_export_file(pid_t pid);

#endif
