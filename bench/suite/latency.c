// SPDX-License-Identifier: MIT
/*
 * latency: how long single operations take, as histograms.
 *
 * Buckets are 32 per power of two, so a percentile is exact to 3 %. Ticks are those of the processor's
 * time-stamp counter where there is one and nanoseconds elsewhere; their length is measured at the end.
 * `timer` is the clock's step: what it cannot tell apart; on a virtual machine that may be ten nanoseconds.
 * A thread writes its own histogram; they are summed under the lock when it ends.
 */
#include "suite.h"

#include <pthread.h>
#include <string.h>

#define STEPS      32u
#define NR_BUCKETS (STEPS * 60)

enum kind { MALLOC, FREE, REALLOC, NR_KINDS };

struct histogram {
    uint32_t count[NR_KINDS][NR_BUCKETS];
    uint64_t longest[NR_KINDS];
};

static _Thread_local struct histogram mine;
static struct histogram all; /* guarded by lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t first_tick, first_ns; /* written by the first operation of the main thread */

#if defined(__x86_64__) || defined(__i386__)
static inline uint64_t ticks(void)
{
    uint64_t t = __builtin_ia32_rdtsc();
    __asm__ volatile("" ::: "memory");
    return t;
}
#else
static inline uint64_t ticks(void)
{
    return suite_now_ns();
}
#endif

__attribute__((constructor)) static void note_start(void)
{
    first_ns = suite_now_ns();
    first_tick = ticks();
}

static unsigned bucket_of(uint64_t t)
{
    if (t < STEPS)
        return (unsigned)t;
    unsigned shift = 63u - (unsigned)__builtin_clzll(t) - 5;
    return (shift + 1) * STEPS + (unsigned)(t >> shift) - STEPS;
}

/* The middle of a bucket. */
static uint64_t ticks_of(unsigned bucket)
{
    if (bucket < STEPS)
        return bucket;
    unsigned shift = bucket / STEPS - 1;
    return ((uint64_t)(bucket % STEPS + STEPS) << shift) + ((1ull << shift) >> 1);
}

static void note(enum kind kind, uint64_t t)
{
    mine.count[kind][bucket_of(t)]++;
    if (t > mine.longest[kind])
        mine.longest[kind] = t;
}

void *suite_timed_malloc(size_t n)
{
    uint64_t start = ticks();
    void *p = malloc(n);
    note(MALLOC, ticks() - start);
    return p;
}

void suite_timed_free(void *p)
{
    uint64_t start = ticks();
    free(p);
    note(FREE, ticks() - start);
}

void *suite_timed_realloc(void *p, size_t n)
{
    uint64_t start = ticks();
    p = realloc(p, n);
    note(REALLOC, ticks() - start);
    return p;
}

void suite_latency_merge(void)
{
    if (!SUITE_LATENCY)
        return;
    pthread_mutex_lock(&lock);
    for (unsigned k = 0; k < NR_KINDS; k++) {
        for (unsigned b = 0; b < NR_BUCKETS; b++)
            all.count[k][b] += mine.count[k][b];
        if (mine.longest[k] > all.longest[k])
            all.longest[k] = mine.longest[k];
    }
    pthread_mutex_unlock(&lock);
    memset(&mine, 0, sizeof mine);
}

/* Ticks that `per_mille` thousandths of all operations do not exceed. */
static uint64_t percentile(enum kind kind, uint64_t per_mille)
{
    uint64_t total = 0, seen = 0;

    for (unsigned b = 0; b < NR_BUCKETS; b++)
        total += all.count[kind][b];
    for (unsigned b = 0; b < NR_BUCKETS; b++) {
        seen += all.count[kind][b];
        if (seen * 1000 >= total * per_mille && seen)
            return ticks_of(b);
    }
    return 0;
}

/* The least time between two readings that is not none. */
static uint64_t timer_step(void)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t start = ticks(), t = ticks() - start;
        if (t && t < least)
            least = t;
    }
    return least;
}

/* Tenths of nanoseconds: the fastest paths take only a few. */
static void report(const char *name, uint64_t t)
{
    double ns = (double)(suite_now_ns() - first_ns) / (double)(ticks() - first_tick);
    suite_report(name, (uint64_t)((double)t * ns * 10));
}

static const char *const names[NR_KINDS][4] = {
    {"malloc_p50", "malloc_p95", "malloc_p99", "malloc_p99.9"},
    {"free_p50", "free_p95", "free_p99", "free_p99.9"},
    {"realloc_p50", "realloc_p95", "realloc_p99", "realloc_p99.9"},
};

void suite_latency_report(void)
{
    static const uint64_t per_mille[] = {500, 950, 990, 999};

    suite_latency_merge();
    report("timer", timer_step());
    for (unsigned k = 0; k < NR_KINDS; k++)
        for (unsigned i = 0; all.longest[k] && i < COUNT(per_mille); i++)
            report(names[k][i], percentile((enum kind)k, per_mille[i]));
}
