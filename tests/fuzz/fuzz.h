/* SPDX-License-Identifier: MIT */
/*
 * fuzz: what the harnesses share.
 *
 * Does:    lets one source be three programs: libFuzzer's (clang -fsanitize=fuzzer), AFL++'s, and a plain one that
 *          plays files (main.c). The library is linked with its public names renamed (apart_malloc for malloc), so
 *          that the sanitizer's malloc, or libc's, serves everybody else.
 * Doesn't: tell the engines apart; a harness sees bytes and answers or aborts.
 * Threads: inputs are played one after the other. Failure: fuzz_fail says what was wrong and aborts.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every harness defines both; engines call them. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

_Noreturn void fuzz_fail(const char *file, int line, const char *what);
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fuzz_fail(__FILE__, __LINE__, #condition);                                             \
    } while (0)

/* A file in memory that holds the bytes, and a path by which it can be opened. */
struct fuzz_file {
    int fd;
    char path[40];
};
void fuzz_file_open(struct fuzz_file *file, const void *data, size_t bytes);
void fuzz_file_close(struct fuzz_file *file);
/* A directory of our own, gone at exit; a static string. */
const char *fuzz_directory(void);
/* Standard output goes nowhere from now on. */
void fuzz_hush(void);

#endif
