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
    struct hk_site_life life;
};

/* Untouched pages cost nothing: a segment is used when those before it are crowded. */
static HK_LARGE_BSS struct record records[SEGMENTS][SEGMENT_RECORDS];
static uint32_t nr_segments = 1; /* only grows */
static uint64_t nr_samples, nr_dropped_samples;
static uint32_t nr_large; /* records of life.nr_calls */
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

static uint64_t est_count(const struct hk_site_life *life)
{
    if (life->nr_calls)
        return (uint64_t)life->nr_calls << HK_SITE_COUNT_BITS;
    if (life->weight_bytes == 0)
        return UINT64_C(1) << HK_SITE_COUNT_BITS;
    return (life->weight_bytes << HK_SITE_COUNT_BITS) / life->block_bytes;
}

static uint64_t est_bytes(const struct hk_site_life *life)
{
    uint64_t product;

    if (life->weight_bytes == 0)
        return life->bytes;
    if (__builtin_mul_overflow(life->weight_bytes, (uint64_t)life->bytes, &product))
        return life->weight_bytes / life->block_bytes * life->bytes;
    return product / life->block_bytes;
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

static void note_estimates(struct hk_site_slot *slot, const struct hk_site_life *life)
{
    if (hk_load_relaxed(&slot->labelled))
        return;
    hk_add_relaxed(&slot->est_live_bytes, est_bytes(life));
    if (life->nr_calls)
        return; /* counted exactly */
    hk_add_relaxed(&slot->est_allocs, est_count(life));
    hk_add_relaxed(&slot->est_bytes, est_bytes(life));
}

static void note_birth(struct hk_site_slot *slot, const struct hk_site_sample *s, const struct hk_site_life *life)
{
    note_estimates(slot, life);
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

/* The record's next owner finds it empty. */
static void vacate(struct record *r)
{
    if (r->life.nr_calls)
        hk_sub_relaxed(&nr_large, 1);
    publish(r, NULL);
}

uint64_t hk_site_sample(const struct hk_site_sample *s, const void *p)
{
    struct hk_site_slot *slot = hk_site_find(s->site, true, s->now_ns);
    uint64_t serial;
    struct record *r;

    hk_site_sample_freed(p, s->thread, s->now_ns); /* of a block whose free nobody told us */
    if (slot)
        slot = of_this_module(slot, s);
    r = slot ? take_free(p) : NULL;
    if (!r) {
        hk_add_relaxed(&nr_dropped_samples, 1);
        return 0;
    }
    serial = hk_add_relaxed(&nr_samples, 1) + 1;
    r->life = (struct hk_site_life){.site = s->site,
                                    .serial = serial,
                                    .born_ns = s->now_ns,
                                    .weight_bytes = s->weight_bytes,
                                    .bytes = s->bytes,
                                    .block_bytes = s->block_bytes,
                                    .nr_calls = s->nr_calls,
                                    .thread = s->thread};
    if (s->nr_calls)
        hk_add_relaxed(&nr_large, 1);
    note_birth(slot, s, &r->life);
    publish(r, p);
    conclude(slot, s->now_ns);
    return serial;
}

/* ---- life and death ------------------------------------------------------------------------ */

static void note_end(struct hk_site_slot *slot, const struct hk_site_life *life, uint32_t thread, uint64_t now_ns)
{
    uint64_t lifetime = now_ns > life->born_ns ? now_ns - life->born_ns : 0;

    if (!hk_load_relaxed(&slot->labelled)) {
        hk_add_relaxed(&slot->est_frees, est_count(life));
        hk_sub_relaxed(&slot->est_live_bytes, est_bytes(life));
    }
    hk_add_relaxed(&slot->nr_ended, 1);
    hk_sub_relaxed(&slot->born_ms, life->born_ns / 1000000);
    if (thread != life->thread)
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

/* The slot of a sample that has not ended; NULL: it was given to another site since. */
static struct hk_site_slot *slot_of(const struct hk_site_life *life)
{
    struct hk_site_slot *slot = hk_site_find(life->site, false, 0);

    return slot && has_live_samples(slot) ? slot : NULL;
}

void hk_site_sample_end(const struct hk_site_life *life, uint32_t thread, uint64_t now_ns)
{
    struct hk_site_slot *slot = slot_of(life);

    if (slot)
        note_end(slot, life, thread, now_ns);
}

/* A block that another thread freed goes home, where it is counted anew. */
static uint64_t stays(const struct hk_site_life *life, uint32_t thread)
{
    return life->nr_calls || life->thread != thread ? 0 : life->weight_bytes;
}

uint64_t hk_site_sample_freed(const void *p, uint32_t thread, uint64_t now_ns)
{
    struct record *r = take(p, p);
    uint64_t weight_bytes;

    if (!r)
        return 0;
    weight_bytes = stays(&r->life, thread);
    hk_site_sample_end(&r->life, thread, now_ns);
    vacate(r);
    return weight_bytes;
}

static void note_growth(struct hk_site_slot *slot, struct hk_site_life *life, size_t bytes)
{
    if (bytes > life->bytes && !life->grown) {
        life->grown = true;
        hk_add_relaxed(&slot->nr_grown, 1);
    }
    hk_site_raise_max(&slot->max_bytes, bytes);
}

/* In place: what the sample stands for is so many bytes more, or fewer. */
static void note_size(struct hk_site_slot *slot, struct hk_site_life *life, size_t bytes)
{
    uint64_t before = est_bytes(life), after;

    life->bytes = bytes;
    after = est_bytes(life);
    if (!hk_load_relaxed(&slot->labelled))
        hk_add_relaxed(&slot->est_live_bytes, after - before);
}

uint64_t hk_site_sample_resized(const void *p, size_t bytes, bool ended, uint32_t thread, uint64_t now_ns)
{
    struct record *r = take(p, p);
    uint64_t weight_bytes;
    struct hk_site_slot *slot;

    if (!r)
        return 0;
    weight_bytes = ended ? stays(&r->life, thread) : 0;
    slot = slot_of(&r->life);
    if (slot) {
        note_growth(slot, &r->life, bytes);
        if (ended)
            note_end(slot, &r->life, thread, now_ns);
        else
            note_size(slot, &r->life, bytes);
    }
    if (ended)
        vacate(r);
    else
        publish(r, p);
    return weight_bytes;
}

void hk_site_sample_weigh(const void *site, const void *p, uint64_t serial, uint32_t nr_calls, uint64_t bytes)
{
    struct hk_site_slot *slot = hk_site_find(site, false, 0);
    struct record *r = take(p, p);
    bool lives = r && r->life.serial == serial;
    uint64_t before = lives ? est_bytes(&r->life) : 0;

    if (lives) {
        r->life.nr_calls += nr_calls;
        r->life.weight_bytes += bytes;
    }
    if (slot && !hk_load_relaxed(&slot->labelled)) {
        if (lives)
            hk_add_relaxed(&slot->est_live_bytes, est_bytes(&r->life) - before);
        else
            hk_add_relaxed(&slot->est_frees, (uint64_t)nr_calls << HK_SITE_COUNT_BITS);
    }
    if (r)
        publish(r, p);
}

/* ---- from one address to another ----------------------------------------------------------- */

bool hk_site_sample_lift(const void *p, struct hk_site_life *life)
{
    struct record *r = take(p, p);

    if (!r)
        return false;
    *life = r->life;
    vacate(r);
    return true;
}

void hk_site_sample_lay(const void *q, const struct hk_site_life *life, size_t bytes, uint64_t now_ns)
{
    struct hk_site_slot *slot = slot_of(life);
    struct record *r = slot ? take_free(q) : NULL;

    if (!r) {
        hk_site_sample_end(life, life->thread, now_ns);
        return;
    }
    r->life = *life;
    if (life->nr_calls)
        hk_add_relaxed(&nr_large, 1);
    note_growth(slot, &r->life, bytes);
    note_size(slot, &r->life, bytes);
    publish(r, q);
    conclude(slot, now_ns);
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

unsigned hk_site_nr_large(void)
{
    return hk_load_relaxed(&nr_large);
}

/* Whoever was adding to them is gone. */
static void restart_quantiles(struct hk_site_slot *slot)
{
    slot->size_p50.count = slot->size_p99.count = 0;
    slot->lifetime_p50.count = slot->lifetime_p99.count = 0;
    slot->busy = 0;
}

/* What a thread that is gone had taken is free again. The common case reads one word and touches no page. */
void hk_site_fork_child(void)
{
    if (hk_load_relaxed(&nr_inside) == 0)
        return;
    hk_store_relaxed(&nr_inside, 0u);
    hk_store_relaxed(&nr_large, 0u);
    for (unsigned s = 0; s < nr_segments; s++)
        for (unsigned i = 0; i < SEGMENT_RECORDS; i++) {
            struct record *r = &records[s][i];
            if (r->block == BUSY)
                r->block = NULL;
            nr_large += r->block && r->life.nr_calls;
        }
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        if (hk_site_slots[i].busy)
            restart_quantiles(&hk_site_slots[i]);
}
