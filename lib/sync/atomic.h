// SPDX-License-Identifier: MIT
/*
 * sync: atomic operations named by their memory order, so that no access is sequentially consistent
 * by accident. They work on plain objects through the compiler's builtins: a field's comment says who
 * may write it and by which of these.
 *
 * A label such as "M1 release, pairs with M2" beside a use names its partner and what it publishes;
 * tests/lint refuses a label without a partner.
 */
#ifndef HK_ATOMIC_H
#define HK_ATOMIC_H

#include "base/base.h"

#if defined(__has_include)
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define HK_KNOWS_SINGLE_THREADED 1
#endif
#endif

#define hk_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define hk_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define hk_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define hk_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define hk_exchange_acquire(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE)
#define hk_exchange_release(p, v) __atomic_exchange_n((p), (v), __ATOMIC_RELEASE)
#define hk_exchange_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define hk_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define hk_sub_release(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELEASE)
#define hk_sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define hk_or_relaxed(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELAXED)
/* On failure *expected holds what was found. */
#define hk_cas_relaxed(p, expected, v)                                                             \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define hk_cas_acquire(p, expected, v)                                                             \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
#define hk_cas_release(p, expected, v)                                                             \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)
#define hk_cas_acq_rel(p, expected, v)                                                             \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)
/* Store-load ordering (Dekker); the only full fence in the library. */
#define hk_fence_full() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/*
 * A counter with one writer: a plain add whose halves are atomic, so that a reader never sees a torn
 * value and no bus lock is paid.
 */
#define hk_count_add(p, v) hk_store_relaxed((p), hk_load_relaxed(p) + (v))

/* Program order as this thread's own signal handlers, and a fork child, see it. */
#define hk_signal_fence() __asm__ volatile("" ::: "memory")

/*
 * This thread has made no other yet, and so none can come before it does. False where libc does not say. A handler
 * may interrupt, so an operation that would be atomic must do without only where no handler does the same.
 */
#ifdef HK_KNOWS_SINGLE_THREADED
#define hk_is_single_threaded() (__libc_single_threaded != 0)
#else
#define hk_is_single_threaded() false
#endif

/* A hint to the processor inside a spin. */
HK_INLINE void hk_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

#endif
