// SPDX-License-Identifier: MIT
/*
 * stats: what slow paths leave behind for whoever looks: how long they took, and the last of them.
 *
 * Plain counters belong to their boxes; this holds what has no box: a histogram of allocation times and a
 * ring of events. It does not read, sum or print counters (export does), and no fast path comes here.
 *
 * State: hk_latency, hk_trace; valid at zero, untouched pages while unused. Threads: any, also in signal
 * handlers; each number is a relaxed add of its own, an event is claimed by one add and sealed by a
 * release of its number (TR1). Locks: none. Failure: none; a ring that wraps forgets its oldest events, and
 * a reader skips an event that changes under its eyes.
 */
#ifndef HK_STATS_H
#define HK_STATS_H

#include "sync/atomic.h"

/* ---- times of slow allocations ---- */

#define HK_LATENCY_EVERY 63    /* one slow call in so many is timed; odd: malloc and free may alternate */
#define HK_LATENCY_BUCKETS 128 /* four per doubling: 1 ns to 4 s */

extern uint32_t hk_latency[HK_LATENCY_BUCKETS]; /* relaxed adds; wrap */

void hk_latency_note(uint64_t ns);
/* Upper bound in ns of the bucket that holds the `thousandths` quantile, and the number of samples; 0: none. */
uint64_t hk_latency_quantile(unsigned thousandths, uint64_t *nr_samples);

/* ---- the last events ---- */

#define HK_TRACE_EVENTS 1024

/* What value is; class: size class, where there is one. */
enum hk_trace_what {
    HK_TRACE_NONE,
    HK_TRACE_REFILL,  /* value: blocks */
    HK_TRACE_FLUSH,   /* value: blocks */
    HK_TRACE_SLAB,    /* value: its address, as in the next four */
    HK_TRACE_RETIRE,
    HK_TRACE_STEAL,
    HK_TRACE_PUBLISH,
    HK_TRACE_RUN,     /* class: of runs */
    HK_TRACE_SEND,    /* value: blocks */
    HK_TRACE_DRAIN,   /* value: blocks */
    HK_TRACE_ADOPT,   /* value: number of the heap */
    HK_TRACE_PARK,
    HK_TRACE_BIG,     /* value: bytes, as in the rest */
    HK_TRACE_BIG_FREE,
    HK_TRACE_EVICT,
    HK_TRACE_REGION,
    HK_TRACE_UNMAP,
    HK_TRACE_PURGE,
    HK_NR_TRACE
};

struct hk_trace_event {
    uint64_t number;  /* 1, 2, ...; 0: being written. Release TR1 / acquire TR2 */
    uint64_t time_ns; /* coarse monotonic clock */
    uint64_t thread;  /* hk_thread_id() */
    uint64_t value;
    uint16_t what;    /* enum hk_trace_what */
    uint16_t class;
    uint32_t unused;
};

extern struct hk_trace_event hk_trace_ring[HK_TRACE_EVENTS];
extern bool hk_trace_on; /* written before the second thread exists */

HK_COLD void hk_trace_slow(enum hk_trace_what what, unsigned class, uint64_t value);

HK_INLINE void hk_trace(enum hk_trace_what what, unsigned class, uint64_t value)
{
    if (HK_UNLIKELY(hk_trace_on))
        hk_trace_slow(what, class, value);
}

/* Writes the ring to stderr, oldest first. Async-signal-safe; nothing when tracing is off. */
void hk_trace_dump(void);

#endif
