// SPDX-License-Identifier: MIT
//
// What the C tests share: they run under the library, each case in a process of its own with a time
// limit, and print TAP.
//
// The library comes in by LD_PRELOAD: with HK_LIB in the environment a program starts itself again
// under it. Without HK_LIB it runs on whatever malloc the process has.
#ifndef TESTS_INTEGRATION_HARNESS_H
#define TESTS_INTEGRATION_HARNESS_H

// Included first everywhere: libc shows its extensions.
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE 1
#endif

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PASS = 0, FAIL = 1, SKIP = 77 };

struct test_case {
    const char *name;
    int (*run)(void);   // PASS, FAIL or SKIP; what it prints starts with '#'
    unsigned timeout_s; // 0: ten seconds
};

// Runs every case, or the one named on the command line, then in this process. Returns main's
// result.
int harness_main(int argc, char **argv, const struct test_case *cases, size_t count);

// Starts the program again under HK_LIB; returns at once when it already runs there.
void harness_preload(char **argv);

// One program, its output and its end. Output beyond the buffers is dropped.
struct run {
    const char *const *argv;
    unsigned timeout_s;
    int status; // as waitpid gives it
    bool timed_out;
    size_t out_size, err_size;
    char out[8192], err[8192]; // always end in NUL
};
void run_program(struct run *run);

// Says why a case is skipped.
int skip(const char *why);

// Hides a pointer from the optimiser: it may not assume that malloc made it, nor drop it.
static inline void *hide(const volatile void *p)
{
    void *q = (void *)(uintptr_t)p; // drops const and volatile
    __asm__ volatile("" : "+r"(q) : : "memory");
    return q;
}

// Bytes of memory that the process has in RAM.
size_t resident_bytes(void);
// A field of /proc/self/status or smaps_rollup, in bytes; 0 when it is missing.
size_t proc_bytes(const char *file, const char *field);

uint64_t random_next(uint64_t *state);

#ifdef __cplusplus
}
#endif

#define CHECK(condition) CHECK_MSG(condition, "%s", "")

#define CHECK_MSG(condition, ...)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            int check_errno = errno;                                                               \
            printf("# %s:%d: expected %s; errno %d; ", __FILE__, __LINE__, #condition,             \
                   check_errno);                                                                   \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            return FAIL;                                                                           \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(expected, actual)                                                                 \
    do {                                                                                           \
        intmax_t check_expected = (intmax_t)(expected);                                            \
        intmax_t check_actual = (intmax_t)(actual);                                                \
        if (check_expected != check_actual) {                                                      \
            printf("# %s:%d: %s: expected %jd, actual %jd\n", __FILE__, __LINE__, #actual,         \
                   check_expected, check_actual);                                                  \
            return FAIL;                                                                           \
        }                                                                                          \
    } while (0)

#endif
