// SPDX-License-Identifier: MIT
/*
 * base: attributes, alignment, static facts. No state, no system call, no failure.
 * Everything above may include this; this includes only freestanding headers.
 */
#ifndef HK_BASE_H
#define HK_BASE_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HK_LIKELY(x) __builtin_expect(!!(x), 1)
#define HK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HK_COLD __attribute__((cold, noinline))
#define HK_NOINLINE __attribute__((noinline))
#ifndef HK_INLINE /* `make coverage` has them as functions, whose branches count once */
#define HK_INLINE static inline __attribute__((always_inline))
#endif
#define HK_HIDDEN __attribute__((visibility("hidden")))
#define HK_EXPORT __attribute__((visibility("default")))
#define HK_CACHE_LINE 64
/* Zero, and large or not needed by most processes: the linker puts it behind all other variables
 * (configure.ac, "Linker flags"), so that these share few pages and a process's start few faults. */
#define HK_LARGE_BSS __attribute__((section(".bss.large")))
/* Behind that too: so large that what every process touches should not lie beyond it (page tables). */
#define HK_HUGE_BSS __attribute__((section(".bss.largest")))
/* Zero, yet beside the initialised variables that every process writes at its start: their page has room. */
#define HK_START_DATA __attribute__((section(".data")))
/* For data: behind what every process writes at its start. */
#define HK_LATE_DATA __attribute__((section(".data.late")))
/* Constants that every process reads at its start: beside the code that does (layout.ld). */
#define HK_START_CONST __attribute__((section(".rodata.start")))
/* Behind them: large, and most of it not read. */
#define HK_START_TABLE __attribute__((section(".rodata.start.table")))

/* 0/1 build options, used in ordinary `if` so that both sides always compile. */
#ifndef HK_DEBUG
#define HK_DEBUG 0 /* run invariants and lock ranks */
#endif
#ifndef HK_CHECKS
#define HK_CHECKS 1 /* misuse checks; 0 only to measure their price */
#endif
#ifndef HK_USDT
#define HK_USDT 0 /* static probes of sampled blocks */
#endif

#define HK_KIB ((size_t)1 << 10)
#define HK_MIB ((size_t)1 << 20)

_Static_assert(sizeof(void *) == sizeof(size_t), "flat address space");
_Static_assert(sizeof(uintptr_t) == sizeof(size_t), "flat address space");

/* `align` is a power of two. The sum may wrap: callers bound `n` first. */
HK_INLINE size_t hk_align_up(size_t n, size_t align)
{
    return (n + align - 1) & ~(align - 1);
}

HK_INLINE bool hk_is_pow2(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

HK_INLINE size_t hk_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

HK_INLINE size_t hk_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* n * thousandths / 1000, rounded down; SIZE_MAX when that is too large. */
HK_INLINE size_t hk_scale(size_t n, unsigned thousandths)
{
    size_t whole;

    if (__builtin_mul_overflow(n / 1000, (size_t)thousandths, &whole) ||
        __builtin_add_overflow(whole, n % 1000 * thousandths / 1000, &whole))
        return SIZE_MAX;
    return whole;
}

/* floor(log2(n)), n > 0 */
HK_INLINE unsigned hk_log2_floor(size_t n)
{
    return (unsigned)(sizeof(unsigned long) * 8 - 1) - (unsigned)__builtin_clzl(n);
}

#endif
