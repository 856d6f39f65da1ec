// SPDX-License-Identifier: MIT
/* ace_big: blocks with a mapping of their own. */
#include "ace/ace_private.h"

#include "base/panic.h"
#include "batch/batch.h"
#include "bigcache/bigcache.h"
#include "meta/meta.h"
#include "os/os.h"
#include "stats/stats.h"

#define COLOUR_STEPS 63 /* of 64 bytes, below one page of 4 KiB */

struct hk_lock hk_big_lock = HK_LOCK_INIT(HK_RANK_BIG);

static struct {
    struct hk_big *free;  /* descriptors without a block, under the lock */
    struct hk_big *ever;  /* release W1 / acquire W2 */
    uint32_t colour;      /* relaxed */
    size_t fresh_bytes;   /* relaxed adds: mapped, no page behind them yet */
} bigs;

struct hk_ace_counters hk_ace_counters;

static void evict(const struct hk_big_range *range, void *arg)
{
    (void)arg;
    hk_trace(HK_TRACE_EVICT, 0, range->bytes);
    hk_batch_unmap(range->base, range->bytes, hk_policy()->batch);
}

void hk_big_init(void)
{
    hk_bigcache_set_evict(evict);
}

/* ---- descriptors --------------------------------------------------------------------------- */

static struct hk_big *new_descriptor(void)
{
    struct hk_big *big;

    hk_lock(&hk_big_lock);
    big = bigs.free;
    if (big)
        bigs.free = big->next_free;
    hk_unlock(&hk_big_lock);
    if (big)
        return big;
    big = hk_meta_alloc(sizeof *big);
    if (!big)
        return NULL;
    big->next_ever = hk_load_relaxed(&bigs.ever);
    /* W1 release, pairs with W2: publishes next_ever */
    while (!hk_cas_release(&bigs.ever, &big->next_ever, big))
        ;
    return big;
}

static void free_descriptor(struct hk_big *big)
{
    hk_lock(&hk_big_lock);
    big->next_free = bigs.free;
    bigs.free = big;
    hk_unlock(&hk_big_lock);
}

struct hk_big *hk_big_covering(const void *p)
{
    for (struct hk_big *b = hk_load_acquire(&bigs.ever); b; b = b->next_ever) /* W2 acquire, pairs with W1 */
        if (hk_load_relaxed(&b->state) == HK_BIG_LIVE && (const char *)p >= b->base &&
            (const char *)p < b->base + b->bytes)
            return b;
    return NULL;
}

/* ---- mappings ------------------------------------------------------------------------------ */

static size_t map_unit(void)
{
    return hk_max(HK_GRANULE, hk_os_page_bytes());
}

/* 0 on overflow. */
static size_t mapping_bytes(size_t n, size_t offset)
{
    if (n > PTRDIFF_MAX - offset - map_unit())
        return 0;
    return hk_align_up(n + offset, map_unit());
}

static uint32_t pick_colour(size_t align)
{
    uint32_t k;

    if (align > 64)
        return 0;
    k = hk_add_relaxed(&bigs.colour, UINT32_C(0x9e3779b9)); /* Weyl sequence */
    return (uint32_t)((uint64_t)k * COLOUR_STEPS >> 32) * 64;
}

static void put_back(const struct hk_big_range *range)
{
    if (!hk_bigcache_put(range))
        evict(range, NULL);
}

/* A range beyond W_MAX times the request is cut, its tail stays cached. */
static void cut(struct hk_big_range *range, size_t bytes)
{
    struct hk_big_range tail = *range;
    size_t most = hk_scale(bytes, hk_policy()->wmax_large);

    if (range->bytes <= most || range->bytes - bytes < HK_BIGCACHE_MIN_BYTES)
        return;
    tail.base = (char *)range->base + bytes;
    tail.bytes = range->bytes - bytes;
    range->bytes = bytes;
    if (hk_pagemap_cover(tail.base, 1))
        put_back(&tail);
    else
        evict(&tail, NULL);
}

/* A smaller range grows by mremap: the pages it has need not be faulted in again. */
static bool grow(struct hk_big_range *range, size_t bytes)
{
    char *target;

    hk_add_relaxed(&bigs.fresh_bytes, bytes - range->bytes);
    if (hk_os_resize(range->base, range->bytes, bytes)) {
        range->bytes = bytes;
        return true;
    }
    target = hk_os_reserve(bytes, map_unit());
    if (!target || !hk_pagemap_cover(target, 1) ||
        !hk_os_move(range->base, range->bytes, target, bytes)) {
        if (target)
            hk_os_abandon(target, bytes);
        return false;
    }
    range->base = target;
    range->bytes = bytes;
    return true;
}

static bool from_cache(size_t bytes, size_t align, const void *site, struct hk_big_range *range)
{
    if (!hk_policy()->cache_big)
        return false;
    if (hk_bigcache_take(site, bytes, SIZE_MAX, range)) {
        if (((uintptr_t)range->base & (align - 1)) == 0) {
            cut(range, bytes);
            return true;
        }
        put_back(range);
        return false;
    }
    if (align > map_unit() || !hk_bigcache_take_part(bytes / 2, bytes, range))
        return false;
    if (grow(range, bytes)) {
        range->zero = 0;
        return true;
    }
    put_back(range);
    return false;
}

static void set_live(struct hk_big *big, char *base, size_t bytes)
{
    big->base = base;
    big->bytes = bytes;
    hk_add_relaxed(&hk_ace_counters.live_bytes, bytes);
    hk_add_relaxed(&hk_ace_counters.nr_live, 1);
    hk_store_relaxed(&big->state, HK_BIG_LIVE);
    hk_pagemap_set(base, 1, HK_PM_BIG, big);
}

void *hk_big_alloc(size_t n, size_t align, const void *site, bool *zero)
{
    uint32_t offset = pick_colour(align);
    size_t bytes = mapping_bytes(n, offset);
    struct hk_big *big = bytes ? new_descriptor() : NULL;
    struct hk_big_range range = {.base = NULL, .zero = 0};

    if (!big)
        return NULL;
    if (!from_cache(bytes, hk_max(align, map_unit()), site, &range)) {
        range.base = hk_os_reserve(bytes, hk_max(align, map_unit()));
        range.bytes = bytes;
        range.zero = 1;
        hk_add_relaxed(&bigs.fresh_bytes, bytes);
        if (range.base && !hk_pagemap_cover(range.base, 1)) {
            hk_os_abandon(range.base, bytes);
            range.base = NULL;
        }
    }
    if (!range.base) {
        free_descriptor(big);
        return NULL;
    }
    big->offset = offset;
    big->site = site;
    set_live(big, range.base, range.bytes);
    hk_trace(HK_TRACE_BIG, 0, range.bytes);
    *zero = range.zero;
    return hk_big_start(big);
}

bool hk_big_kill(struct hk_big *big)
{
    uint32_t live = HK_BIG_LIVE;

    /* K2 acq_rel, pairs with K2: of two frees one loses, after what the winner did before */
    return hk_cas_acq_rel(&big->state, &live, (uint32_t)HK_BIG_DEAD);
}

static void set_dead(struct hk_big *big)
{
    hk_pagemap_set(big->base, 1, HK_PM_GONE, NULL);
    hk_sub_relaxed(&hk_ace_counters.live_bytes, big->bytes);
    hk_sub_relaxed(&hk_ace_counters.nr_live, 1);
}

void hk_big_release(struct hk_big *big)
{
    struct hk_big_range range = {
        .base = big->base,
        .bytes = big->bytes,
        .freed_ns = hk_os_now_ns(),
        .site = big->site,
        .zero = 0,
        .resident = 1,
    };

    hk_trace(HK_TRACE_BIG_FREE, 0, range.bytes);
    set_dead(big);
    free_descriptor(big);
    if (!hk_policy()->cache_big || !hk_bigcache_put(&range))
        evict(&range, NULL);
}

/* ---- realloc ------------------------------------------------------------------------------- */

bool hk_big_resize(struct hk_big *big, size_t n)
{
    size_t bytes = mapping_bytes(n, big->offset), old = big->bytes;

    if (bytes == 0)
        return false;
    if (bytes == old)
        return true;
    if (!hk_os_resize(big->base, old, bytes))
        return bytes < old; /* a refused shrink is no harm */
    big->bytes = bytes;
    hk_add_relaxed(&hk_ace_counters.live_bytes, bytes - old);
    return true;
}

void *hk_big_move(struct hk_big *big, size_t n)
{
    size_t bytes = mapping_bytes(n, big->offset), old = big->bytes;
    char *target = bytes ? hk_os_reserve(bytes, map_unit()) : NULL;

    if (!target)
        return NULL;
    /* The word first: once the pages have moved, the old address may be somebody else's block. */
    hk_pagemap_set(big->base, 1, HK_PM_GONE, NULL);
    if (!hk_pagemap_cover(target, 1) || !hk_os_move(big->base, old, target, bytes)) {
        hk_pagemap_set(big->base, 1, HK_PM_BIG, big);
        hk_os_abandon(target, bytes);
        return NULL;
    }
    hk_sub_relaxed(&hk_ace_counters.live_bytes, old);
    hk_sub_relaxed(&hk_ace_counters.nr_live, 1);
    set_live(big, target, bytes);
    return hk_big_start(big);
}

size_t hk_ace_fresh_big_bytes(void)
{
    return hk_load_relaxed(&bigs.fresh_bytes);
}

size_t hk_big_live_bytes(void)
{
    return hk_load_relaxed(&hk_ace_counters.live_bytes);
}

size_t hk_big_resident_bytes(void)
{
    size_t bytes = 0;

    for (struct hk_big *b = hk_load_acquire(&bigs.ever); b; b = b->next_ever) /* W2 acquire, pairs with W1 */
        if (hk_load_relaxed(&b->state) == HK_BIG_LIVE)
            bytes += hk_os_resident(b->base, b->bytes);
    return bytes;
}

void hk_big_forget(void)
{
    bigs.free = NULL;
}
