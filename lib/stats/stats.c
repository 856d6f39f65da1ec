// SPDX-License-Identifier: MIT
#include "stats/stats.h"

#include "base/text.h"
#include "os/os.h"
#include "sync/lock.h"

HK_LARGE_BSS uint32_t hk_latency[HK_LATENCY_BUCKETS];
HK_LARGE_BSS struct hk_trace_event hk_trace_ring[HK_TRACE_EVENTS];
bool hk_trace_on;

static uint64_t nr_events; /* relaxed adds */

/* ---- times --------------------------------------------------------------------------------- */

/* 0..3 ns in buckets of their own, then by the two bits below the highest. */
static unsigned bucket_of(uint64_t ns)
{
    unsigned log2, bucket;

    if (ns < 4)
        return (unsigned)ns;
    log2 = (unsigned)(63 - __builtin_clzll(ns));
    bucket = 4 * (log2 - 1) + (unsigned)(ns >> (log2 - 2) & 3);
    return bucket < HK_LATENCY_BUCKETS ? bucket : HK_LATENCY_BUCKETS - 1;
}

/* Largest value that falls into it. */
static uint64_t bucket_end(unsigned bucket)
{
    unsigned log2 = bucket / 4 + 1;

    if (bucket < 4)
        return bucket;
    return (UINT64_C(1) << log2) + ((uint64_t)(bucket % 4 + 1) << (log2 - 2)) - 1;
}

void hk_latency_note(uint64_t ns)
{
    hk_add_relaxed(&hk_latency[bucket_of(ns)], 1);
}

uint64_t hk_latency_quantile(unsigned thousandths, uint64_t *nr_samples)
{
    uint32_t copy[HK_LATENCY_BUCKETS];
    uint64_t total = 0, below = 0;

    for (unsigned i = 0; i < HK_LATENCY_BUCKETS; i++)
        total += copy[i] = hk_load_relaxed(&hk_latency[i]); /* a late sample is in the next answer */
    *nr_samples = total;
    for (unsigned i = 0; i < HK_LATENCY_BUCKETS; i++) {
        below += copy[i];
        if (total && below * 1000 >= total * thousandths)
            return bucket_end(i);
    }
    return 0;
}

/* ---- events -------------------------------------------------------------------------------- */

static const char *const names[HK_NR_TRACE] = {
    [HK_TRACE_NONE] = "nothing",
    [HK_TRACE_REFILL] = "refill, blocks",
    [HK_TRACE_FLUSH] = "flush, blocks",
    [HK_TRACE_SLAB] = "slab made",
    [HK_TRACE_RETIRE] = "slab retired",
    [HK_TRACE_STEAL] = "slab adopted",
    [HK_TRACE_PUBLISH] = "slab published",
    [HK_TRACE_RUN] = "run made",
    [HK_TRACE_SEND] = "parcel sent, blocks",
    [HK_TRACE_DRAIN] = "parcel drained, blocks",
    [HK_TRACE_ADOPT] = "heap adopted",
    [HK_TRACE_PARK] = "heap parked",
    [HK_TRACE_BIG] = "big block",
    [HK_TRACE_BIG_FREE] = "big block freed",
    [HK_TRACE_EVICT] = "big block evicted",
    [HK_TRACE_REGION] = "region mapped",
    [HK_TRACE_UNMAP] = "region unmapped",
    [HK_TRACE_PURGE] = "purged",
};

void hk_trace_slow(enum hk_trace_what what, unsigned class, uint64_t value)
{
    uint64_t number = hk_add_relaxed(&nr_events, 1) + 1;
    struct hk_trace_event *e = &hk_trace_ring[number % HK_TRACE_EVENTS];

    hk_store_relaxed(&e->number, UINT64_C(0));
    hk_fence_full(); /* TR3 fence, pairs with TR4: who sees a new field sees that the old event is gone */
    hk_store_relaxed(&e->time_ns, hk_os_now_ns());
    hk_store_relaxed(&e->thread, (uint64_t)(uintptr_t)hk_thread_id());
    hk_store_relaxed(&e->value, value);
    hk_store_relaxed(&e->what, (uint16_t)what);
    hk_store_relaxed(&e->class, (uint16_t)class);
    hk_store_release(&e->number, number); /* TR1 release, pairs with TR2: publishes the event */
}

/* False: overwritten, or being written. */
static bool read_event(uint64_t number, struct hk_trace_event *out)
{
    const struct hk_trace_event *e = &hk_trace_ring[number % HK_TRACE_EVENTS];

    if (hk_load_acquire(&e->number) != number) /* TR2 acquire, pairs with TR1 */
        return false;
    out->time_ns = hk_load_relaxed(&e->time_ns);
    out->thread = hk_load_relaxed(&e->thread);
    out->value = hk_load_relaxed(&e->value);
    out->what = hk_load_relaxed(&e->what);
    out->class = hk_load_relaxed(&e->class);
    hk_fence_full(); /* TR4 fence, pairs with TR3: the fields before the second look */
    return hk_load_relaxed(&e->number) == number && out->what < HK_NR_TRACE;
}

static void print_event(struct hk_text *t, uint64_t number, const struct hk_trace_event *e)
{
    hk_text_put(t, "hakmem: trace ");
    hk_text_number(t, number);
    hk_text_put(t, ": at ");
    hk_text_number(t, e->time_ns / 1000000);
    hk_text_put(t, " ms, thread ");
    hk_text_hex(t, e->thread);
    hk_text_put(t, ", ");
    hk_text_put(t, names[e->what]);
    hk_text_put(t, " ");
    if (e->value > UINT32_MAX)
        hk_text_hex(t, e->value);
    else
        hk_text_number(t, e->value);
    hk_text_put(t, ", class ");
    hk_text_number(t, e->class);
    hk_text_put(t, "\n");
    hk_text_flush(t); /* a line per write: a dump that is cut short is still text */
}

void hk_trace_dump(void)
{
    uint64_t last = hk_load_relaxed(&nr_events);
    uint64_t first = last > HK_TRACE_EVENTS ? last - HK_TRACE_EVENTS + 1 : 1;
    struct hk_text t = {.used = 0};

    if (!hk_trace_on)
        return;
    for (uint64_t number = first; number <= last; number++) {
        struct hk_trace_event e;
        if (read_event(number, &e))
            print_event(&t, number, &e);
    }
}
