/* SPDX-License-Identifier: MIT */
/*
 * malloc_h: <malloc.h> as glibc has it since 2.33, for libcs that have less (musl: neither mallopt nor mallinfo; glibc
 * 2.32 and before: no mallinfo2). The library exports the same names everywhere. No state.
 */
#ifndef HK_ENTRY_MALLOC_H_H
#define HK_ENTRY_MALLOC_H_H

#include "base/base.h"

#include <malloc.h>
#include <stdio.h>

#ifndef M_MXFAST
#define M_MXFAST 1
#endif
#ifndef M_TRIM_THRESHOLD
#define M_TRIM_THRESHOLD -1
#define M_TOP_PAD -2
#define M_MMAP_THRESHOLD -3
#define M_MMAP_MAX -4
#define M_CHECK_ACTION -5
#endif
#ifndef M_PERTURB
#define M_PERTURB -6
#define M_ARENA_TEST -7
#define M_ARENA_MAX -8
#endif

#ifndef HAVE_STRUCT_MALLINFO
struct mallinfo {
    int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo mallinfo(void);
void *pvalloc(size_t n);
int malloc_trim(size_t keep_bytes);
int mallopt(int param, int value);
void malloc_stats(void);
int malloc_info(int options, FILE *stream);
#endif

#ifndef HAVE_STRUCT_MALLINFO2
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 mallinfo2(void);
#endif

#endif
