// SPDX-License-Identifier: MIT
/*
 * program: which file a command will run, and whether a library can be preloaded into it.
 *
 * Follows what the kernel and env(1) will do: PATH, #! lines, `env [options] [NAME=value] COMMAND`. It says
 * on stderr why something cannot work. Nothing is executed. Not for threads.
 */
#ifndef HAKMEM_RUN_PROGRAM_H
#define HAKMEM_RUN_PROGRAM_H

#include "elf.h"

#include <limits.h>

#define STATUS_REFUSED 125     /* hakmem-run itself will not or cannot */
#define STATUS_CANNOT_RUN 126  /* found, but it does not run */
#define STATUS_NOT_FOUND 127

struct program {
    char path[PATH_MAX];  /* what is to be executed */
    char final[PATH_MAX]; /* the ELF file that it comes down to; for messages */
    unsigned nr_execs;    /* by env, between path and the program itself */
    bool is_script;       /* without a #! line: the shell runs it */
};

/* 0, or an exit status, and it has been said why. `library`: what is to be loaded. */
int program_find(char **argv, const char *library, const struct elf_facts *library_facts,
                 struct program *program);

/* "hakmem-run: ..." on stderr. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
