/* SPDX-License-Identifier: MIT */
/* Included before everything in a build for coverage: a process that ends by abort or _exit tells its counts too, and an
 * inline function is a function. */
#ifndef TESTS_COVERAGE_DUMP_H
#define TESTS_COVERAGE_DUMP_H

/* lib/base/base.h: one that is always inlined would have its branches once for each of its callers. */
#define HK_INLINE static inline

#ifndef __cplusplus
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#define COVERAGE_GNU_SOURCE
#endif
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

#define abort() coverage_abort()
#define _exit(status) coverage_exit(status)
#endif

#endif
