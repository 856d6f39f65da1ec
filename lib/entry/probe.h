/* SPDX-License-Identifier: MIT */
/*
 * probe: static probes (USDT) of sampled blocks, for profilers that look on from outside by uprobes. The contract is
 * that of OpenTelemetry's eBPF profiler:
 *
 *   otel_memory:alloc(address, bytes asked for, bytes that the sample stands for)
 *   otel_memory:free(address)
 *
 * Each is one nop in the slow path of a sample (sample.c), and a note in the file that is not loaded. Whoever
 * attaches raises a semaphore, a word of ours that the kernel or a debugger writes; nothing is done while it is
 * 0. A profiler that comes late sees a free without its alloc. Built where <sys/sdt.h> is (HK_USDT), else
 * nothing. No lock, no failure.
 */
#ifndef HK_ENTRY_PROBE_H
#define HK_ENTRY_PROBE_H

#include "sync/atomic.h"

#if HK_USDT

#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

/* <sys/sdt.h> makes the names. In sample.c. */
extern HK_HIDDEN unsigned short otel_memory_alloc_semaphore, otel_memory_free_semaphore;

/* Relaxed: a sample more or less. */
HK_INLINE bool hk_probe_wants_alloc(void)
{
    return hk_load_relaxed(&otel_memory_alloc_semaphore) != 0;
}

HK_INLINE bool hk_probe_wants_free(void)
{
    return hk_load_relaxed(&otel_memory_free_semaphore) != 0;
}

HK_INLINE void hk_probe_alloc(const void *p, uint64_t bytes, uint64_t weight_bytes)
{
    STAP_PROBE3(otel_memory, alloc, p, bytes, weight_bytes);
}

HK_INLINE void hk_probe_free(const void *p)
{
    STAP_PROBE1(otel_memory, free, p);
}

#else

HK_INLINE bool hk_probe_wants_alloc(void)
{
    return false;
}

HK_INLINE bool hk_probe_wants_free(void)
{
    return false;
}

HK_INLINE void hk_probe_alloc(const void *p, uint64_t bytes, uint64_t weight_bytes)
{
    (void)p;
    (void)bytes;
    (void)weight_bytes;
}

HK_INLINE void hk_probe_free(const void *p)
{
    (void)p;
}

#endif
#endif
