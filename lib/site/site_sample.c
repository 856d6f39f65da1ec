// SPDX-License-Identifier: MIT
/* site_sample: sampled blocks while they live, and what their sites learn from them. */
#include "site/site_private.h"

#include <string.h>

#define SEGMENTS 16
#define SEGMENT_RECORDS 1024
#define PROBES 8
#define BUSY ((const void *)1)

/* One sampled block. Whoever moved `block` to BUSY owns the rest. */
struct record {
    const void *block; /* NULL: free. CAS acquire Y1, store release Y2 */
    const void *site;
    uint64_t born_ns;
    uint64_t weight_bytes;
    uint32_t bytes;
    uint32_t block_bytes;
    uint32_t thread;
    uint32_t grown;
};

/* Untouched pages cost nothing: a segment is used when those before it are crowded. */
static HK_LARGE_BSS struct record records[SEGMENTS][SEGMENT_RECORDS];
static uint32_t nr_segments = 1; /* only grows */
static uint64_t nr_samples, nr_dropped_samples;
static uint32_t nr_inside; /* records and quantiles taken now; relaxed: fork_child alone acts on it */

static struct record *probe(const void *p, unsigned segment, unsigned i)
{
    return &records[segment][(hk_site_mix((uintptr_t)p) + i) % SEGMENT_RECORDS];
}

/* Takes a record whose key is `key`; the caller gives it back by `publish`. */
static struct record *take(const void *p, const void *key)
{
    unsigned segments = hk_load_relaxed(&nr_segments);

    for (unsigned s = 0; s < segments; s++)
        for (unsigned i = 0; i < PROBES; i++) {
            struct record *r = probe(p, s, i);
            const void *seen = key;
            /* Y1 acquire, pairs with Y2: the fields as the last owner left them */
            if (hk_load_relaxed(&r->block) != key)
                continue;
            hk_add_relaxed(&nr_inside, 1); /* before, so that a child never misses one */
            if (hk_cas_acquire(&r->block, &seen, BUSY))
                return r;
            hk_sub_relaxed(&nr_inside, 1);
        }
    return NULL;
}

static void publish(struct record *r, const void *key)
{
    hk_store_release(&r->block, key); /* Y2 release, pairs with Y1: publishes the fields */
    hk_sub_relaxed(&nr_inside, 1);
}

static struct record *take_free(const void *p)
{
    struct record *r = take(p, NULL);
    uint32_t used = hk_load_relaxed(&nr_segments);

    if (r || used == SEGMENTS)
        return r;
    (void)hk_cas_relaxed(&nr_segments, &used, used + 1);
    return take(p, NULL);
}

/* ---- what a sample stands for -------------------------------------------------------------- */

static uint64_t est_count(const struct record *r)
{
    if (r->weight_bytes == 0)
        return UINT64_C(1) << HK_SITE_COUNT_BITS;
    return (r->weight_bytes << HK_SITE_COUNT_BITS) / r->block_bytes;
}

static uint64_t est_bytes(const struct record *r)
{
    return r->weight_bytes == 0 ? r->bytes : r->weight_bytes * r->bytes / r->block_bytes;
}

/* ---- quantiles ----------------------------------------------------------------------------- */

static bool try_quantiles(struct hk_site_slot *slot)
{
    uint32_t idle = 0;

    hk_add_relaxed(&nr_inside, 1);
    if (hk_cas_acquire(&slot->busy, &idle, (uint32_t)1)) /* L1 acquire, pairs with L2 */
        return true;
    hk_sub_relaxed(&nr_inside, 1);
    return false;
}

static void end_quantiles(struct hk_site_slot *slot)
{
    hk_store_release(&slot->busy, (uint32_t)0); /* L2 release, pairs with L1: the markers are whole */
    hk_sub_relaxed(&nr_inside, 1);
}

static void add_both(struct hk_site_slot *slot, struct hk_p2 *p50, struct hk_p2 *p99, uint64_t value)
{
    if (!try_quantiles(slot))
        return;
    if (p50->count == 0) {
        hk_p2_init(p50, HK_P2_ONE / 2);
        hk_p2_init(p99, HK_P2_ONE / 100 * 99);
    }
    hk_p2_add(p50, value);
    hk_p2_add(p99, value);
    end_quantiles(slot);
}

void hk_site_note_size(const void *site, size_t bytes)
{
    struct hk_site_slot *slot = hk_site_find(site, false, 0);

    if (slot)
        add_both(slot, &slot->size_p50, &slot->size_p99, bytes);
}

/* ---- birth --------------------------------------------------------------------------------- */

/* Another module lies where the slot's was: the numbers are not this site's. */
static struct hk_site_slot *of_this_module(struct hk_site_slot *slot, const struct hk_site_sample *s)
{
    uint8_t build_id[HK_SITE_BUILD_ID];
    uint64_t base;

    if (!hk_site_module(s->site, &base, build_id) ||
        (base == slot->base && memcmp(build_id, slot->build_id, sizeof build_id) == 0))
        return slot;
    return hk_site_renew(slot, s->site);
}

static void note_birth(struct hk_site_slot *slot, const struct hk_site_sample *s, const struct record *r)
{
    if (!hk_load_relaxed(&slot->labelled)) {
        hk_add_relaxed(&slot->est_allocs, est_count(r));
        hk_add_relaxed(&slot->est_bytes, est_bytes(r));
        hk_add_relaxed(&slot->est_live_bytes, est_bytes(r));
    }
    hk_add_relaxed(&slot->nr_samples, 1);
    hk_add_relaxed(&slot->born_ms, s->now_ns / 1000000);
    hk_or_relaxed(&slot->paths, UINT64_C(1) << (hk_site_mix(s->height) % 64));
    hk_site_raise_max(&slot->max_bytes, s->bytes);
    add_both(slot, &slot->size_p50, &slot->size_p99, s->bytes);
}

static void conclude(struct hk_site_slot *slot, uint64_t now_ns)
{
    hk_store_relaxed(&slot->last_ns, now_ns);
    hk_store_relaxed(&slot->purpose, (uint32_t)hk_site_infer(slot, now_ns));
}

bool hk_site_sample(const struct hk_site_sample *s, const void *p)
{
    struct hk_site_slot *slot = hk_site_find(s->site, true, s->now_ns);
    struct record *r;

    hk_site_sample_freed(p, s->thread, s->now_ns); /* of a block whose free nobody told us */
    if (slot)
        slot = of_this_module(slot, s);
    r = slot ? take_free(p) : NULL;
    if (!r) {
        hk_add_relaxed(&nr_dropped_samples, 1);
        return false;
    }
    r->site = s->site;
    r->born_ns = s->now_ns;
    r->weight_bytes = s->weight_bytes;
    r->bytes = s->bytes;
    r->block_bytes = s->block_bytes;
    r->thread = s->thread;
    r->grown = 0;
    note_birth(slot, s, r);
    publish(r, p);
    hk_add_relaxed(&nr_samples, 1);
    conclude(slot, s->now_ns);
    return true;
}

/* ---- life and death ------------------------------------------------------------------------ */

static void note_end(struct hk_site_slot *slot, const struct record *r, uint32_t thread, uint64_t now_ns)
{
    uint64_t lifetime = now_ns > r->born_ns ? now_ns - r->born_ns : 0;

    if (!hk_load_relaxed(&slot->labelled)) {
        hk_add_relaxed(&slot->est_frees, est_count(r));
        hk_sub_relaxed(&slot->est_live_bytes, est_bytes(r));
    }
    hk_add_relaxed(&slot->nr_ended, 1);
    hk_sub_relaxed(&slot->born_ms, r->born_ns / 1000000);
    if (thread != r->thread)
        hk_add_relaxed(&slot->nr_handed, 1);
    if (lifetime < HK_SITE_SHORT_NS)
        hk_add_relaxed(&slot->nr_brief, 1);
    if (lifetime >= HK_SITE_LONG_NS)
        hk_add_relaxed(&slot->nr_long, 1);
    add_both(slot, &slot->lifetime_p50, &slot->lifetime_p99, lifetime);
    conclude(slot, now_ns);
}

/* Does the slot know of a sample that has not ended? Ended first: others end meanwhile, and each was born before. Else it
 * was renewed since. */
static bool has_live_samples(const struct hk_site_slot *slot)
{
    uint64_t nr_ended = hk_load_relaxed(&slot->nr_ended);

    hk_signal_fence(); /* program order is enough: a wrong answer is one sample in a statistic */
    return hk_load_relaxed(&slot->nr_samples) > nr_ended;
}

void hk_site_sample_freed(const void *p, uint32_t thread, uint64_t now_ns)
{
    struct record *r = take(p, p);
    struct hk_site_slot *slot;

    if (!r)
        return;
    slot = hk_site_find(r->site, false, 0);
    if (slot && has_live_samples(slot))
        note_end(slot, r, thread, now_ns);
    publish(r, NULL);
}

static void note_growth(struct hk_site_slot *slot, struct record *r, size_t bytes)
{
    if (bytes > r->bytes && !r->grown) {
        r->grown = 1;
        hk_add_relaxed(&slot->nr_grown, 1);
    }
}

/* In place: what the sample stands for is so many bytes more, or fewer. */
static void note_size(struct hk_site_slot *slot, struct record *r, size_t bytes)
{
    uint64_t before = est_bytes(r), after;

    r->bytes = (uint32_t)bytes;
    after = est_bytes(r);
    if (!hk_load_relaxed(&slot->labelled))
        hk_add_relaxed(&slot->est_live_bytes, after - before);
}

void hk_site_sample_resized(const void *p, size_t bytes, bool ended, uint32_t thread, uint64_t now_ns)
{
    struct record *r = take(p, p);
    struct hk_site_slot *slot;

    if (!r)
        return;
    slot = hk_site_find(r->site, false, 0);
    if (slot && has_live_samples(slot)) {
        note_growth(slot, r, bytes);
        if (ended)
            note_end(slot, r, thread, now_ns);
        else
            note_size(slot, r, bytes);
    }
    publish(r, ended ? NULL : p);
}

/* ---- numbers, fork ------------------------------------------------------------------------- */

uint64_t hk_site_nr_samples(void)
{
    return hk_load_relaxed(&nr_samples);
}

uint64_t hk_site_dropped_samples(void)
{
    return hk_load_relaxed(&nr_dropped_samples);
}

/* What a thread that is gone had taken is free again. The common case reads one word and touches no page. */
void hk_site_fork_child(void)
{
    if (hk_load_relaxed(&nr_inside) == 0)
        return;
    hk_store_relaxed(&nr_inside, 0u);
    for (unsigned s = 0; s < nr_segments; s++)
        for (unsigned i = 0; i < SEGMENT_RECORDS; i++)
            if (records[s][i].block == BUSY)
                records[s][i].block = NULL;
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        hk_site_slots[i].busy = 0;
}
