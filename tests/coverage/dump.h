/* SPDX-License-Identifier: MIT */
/* Included before everything in a build for coverage: a process that ends by abort, by _exit or by a fault that it was told of
 * tells its counts too, and an inline function is a function. */
#ifndef TESTS_COVERAGE_DUMP_H
#define TESTS_COVERAGE_DUMP_H

/* lib/base/base.h: one that is always inlined would have its branches once for each of its callers. */
#define HK_INLINE static inline

#ifndef __cplusplus
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#define COVERAGE_GNU_SOURCE
#endif
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef COVERAGE_GNU_SOURCE
#undef _GNU_SOURCE
#endif

void __gcov_dump(void);

static inline __attribute__((noreturn, unused)) void coverage_abort(void)
{
    __gcov_dump();
    abort();
}

static inline __attribute__((noreturn, unused)) void coverage_exit(int status)
{
    __gcov_dump();
    _exit(status);
}

/* A handler that gives a fault's default action back returns to the access that ends the process. */
static inline __attribute__((unused)) int coverage_sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    if ((number == SIGSEGV || number == SIGBUS) && action != NULL && action->sa_handler == SIG_DFL)
        __gcov_dump();
    return sigaction(number, action, old);
}

#define sigaction(number, action, old) coverage_sigaction(number, action, old)
#define abort() coverage_abort()
#define _exit(status) coverage_exit(status)
#endif

#endif
