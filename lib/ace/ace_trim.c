// SPDX-License-Identifier: MIT
/* ace_trim: memory goes back: the bound that free keeps, ticks, ends of threads. See ace.h. */
#include "ace/ace_private.h"

#include "batch/batch.h"
#include "config/config.h"
#include "heap/heap.h"
#include "share/share.h"
#include "span/span.h"

#define TICK_EVERY 16                      /* slow-path events between two looks at the clock */
#define KEPT_AT_THREAD_EXIT (4 * HK_MIB)   /* dirty bytes at least, while other threads run */
#define KEPT_WHEN_ALONE (512 * HK_KIB)     /* when the last other thread is gone */
#define MAX_HELD_HEAPS 16                  /* of which it is worth knowing what they hold */
#define TICK_NS UINT64_C(20000000)         /* work at most this often */
#define MAX_PROMOTED_AT_ONCE 8             /* regions: a system call each, of 1 to 2 us */
#define LOOK_NS UINT64_C(100000000)        /* the profile looks at what is going on */

size_t hk_ace_live_bytes(void)
{
    return hk_span_used_bytes() + hk_arena_used_bytes() - hk_load_relaxed(&hk_ace_counters.arena_bytes) +
           hk_load_relaxed(&hk_ace_counters.live_bytes);
}

size_t hk_ace_cached_bytes(void)
{
    return hk_span_dirty_bytes() + hk_arena_dirty_bytes() + hk_bigcache_bytes() +
           hk_batch_pending_bytes() + hk_l25_shared_bytes();
}

/* A little stays cached even beyond the limit, which is soft: else every free would end in the kernel. */
static size_t room_below(size_t limit, size_t live)
{
    return hk_max(limit > live ? limit - live : 0, limit / 32);
}

/* What heaps hold for themselves, as the last tick saw it. Relaxed, a hint. */
static size_t held_bytes = SIZE_MAX;

/* Only near the limit, where it matters. */
static void measure_held(size_t limit)
{
    if (hk_ace_cached_bytes() > limit / 2)
        hk_store_relaxed(&held_bytes, hk_heap_held_bytes(MAX_HELD_HEAPS));
}

/* What is promised but for an eighth, which is for what magazines and partial slabs hold; less when they are known to
 * hold less. */
static size_t cache_limit(void)
{
    const struct hk_policy *policy = hk_policy();
    size_t live = hk_ace_live_bytes();
    size_t limit = hk_max(policy->purge_floor_bytes, live / 10);

    if (policy->limit_bytes)
        limit = hk_min(limit, room_below(policy->limit_bytes, live));
    return limit - hk_min(limit / 8, hk_load_relaxed(&held_bytes));
}

/* Half of what is kept may be slabs', and what the arena leaves of its half: its purges are exact, while
 * those of span take whole regions. */
static void purge_to(size_t keep)
{
    size_t larger = hk_min(hk_arena_dirty_bytes(), keep);
    size_t slabs = hk_min(hk_span_dirty_bytes(), hk_max(keep / 2, keep - larger));

    hk_span_purge_to(slabs);
    hk_arena_purge_to(keep - slabs);
}

/* The bound of the library's promise, kept on free itself: dirty memory first, then cached blocks. */
static HK_NOINLINE void trim(struct hk_heap *heap, size_t limit)
{
    size_t cached;

    if (heap) {
        hk_heap_flush_all(heap); /* a cached block may pin a slab that is empty but for it */
        hk_l25_flush(&heap->l25);
    }
    hk_batch_flush();
    hk_bigcache_set_budget(limit);
    hk_bigcache_trim(limit, hk_big_evict, NULL);
    hk_batch_flush();
    if (hk_bigcache_bytes() + hk_l25_shared_bytes() > limit)
        hk_l25_expire(true); /* to the arena, as dirty memory */
    cached = hk_bigcache_bytes() + hk_l25_shared_bytes();
    /* Some way below, so that the next free does not come back here at once. */
    purge_to(cached < limit ? (limit - cached) / 32 * 31 : 0);
}

/* What the last trim could not give back (locked pages, say): relaxed, a hint. */
static size_t untrimmable_bytes;

void hk_ace_trim_if_over(struct hk_heap *heap)
{
    size_t limit = cache_limit(), cached = hk_ace_cached_bytes();

    if (HK_LIKELY(cached <= limit) ||
        cached <= hk_load_relaxed(&untrimmable_bytes) + limit / 8)
        return;
    trim(heap, limit);
    cached = hk_ace_cached_bytes();
    hk_store_relaxed(&untrimmable_bytes, cached > limit ? cached : 0);
}

static void promote(uint64_t now)
{
    for (unsigned n = 0; n < MAX_PROMOTED_AT_ONCE && hk_span_promote(now, hk_slab_fills); n++)
        continue;
}

static void tick_idle(struct hk_heap *heap)
{
    hk_heap_flush_idle(heap);
    if (heap->l25.uses_at_look == hk_l25_uses(&heap->l25))
        hk_l25_flush(&heap->l25);
    heap->l25.uses_at_look = hk_l25_uses(&heap->l25);
    hk_heap_reclaim(heap);
    hk_l25_expire(false);
}

static HK_NOINLINE void tick_slow(struct hk_heap *heap)
{
    const struct hk_policy *policy;
    void (*on_tick)(struct hk_heap *heap, uint64_t now_ns);
    uint64_t now = hk_os_now_ns();

    if (now - heap->last_tick_ns < TICK_NS)
        return;
    if (now / LOOK_NS != heap->last_tick_ns / LOOK_NS)
        heap->sampling.attention |= HK_SAMPLE_LOOK;
    heap->last_tick_ns = now;
    hk_heap_inherit(heap);
    hk_policy_note(&heap->policy_seen); /* nobody who calls a tick holds a snapshot */
    on_tick = hk_load_relaxed(&hk_ace_on_tick);
    if (on_tick)
        on_tick(heap, now);
    policy = hk_policy();
    hk_heap_tick(heap);
    hk_share_set_budget(hk_ace_live_bytes() / 10);
    measure_held(cache_limit());
    hk_bigcache_set_budget(cache_limit());
    if (now - heap->last_idle_ns >= policy->idle_flush_ns) {
        heap->last_idle_ns = now;
        tick_idle(heap);
    }
    promote(now);
    hk_bigcache_expire(now, hk_big_evict, NULL);
    hk_batch_flush();
    hk_span_purge_expired(now, policy->purge_delay_ns);
    hk_arena_purge_expired(now, policy->purge_delay_ns);
    if (policy->limit_bytes)
        hk_ace_trim_if_over(heap); /* live grows without a free */
    if (HK_UNLIKELY(hk_ace_watch != NULL))
        hk_ace_watch();
}

void hk_ace_obey(struct hk_heap *heap)
{
    bool off = hk_load_relaxed(&hk_config.disable_bigcache);

    if (heap) {
        hk_heap_obey(heap);
        hk_l25_obey(&heap->l25);
    }
    hk_bigcache_trim(off ? 0 : hk_load_relaxed(&hk_config.bigcache_bytes), hk_big_evict, NULL);
    hk_batch_flush();
    while (!hk_policy()->promote && hk_span_promote(0, hk_slab_fills))
        continue; /* thp:off */
    hk_ace_trim_if_over(heap);
}

void hk_ace_tick(struct hk_heap *heap)
{
    if (heap && HK_UNLIKELY(++heap->ticks % TICK_EVERY == 0))
        tick_slow(heap);
}

/* Where threads come and go their number stays and the next one wants the memory; where they only go nobody does. */
static size_t kept_at_thread_exit(void)
{
    static size_t seen_most; /* threads at once since one was last alone; relaxed, a hint */
    size_t nr = hk_load_relaxed(&hk_heaps_counters()->nr_active);
    size_t most = hk_max(hk_load_relaxed(&seen_most), nr + 1); /* and the one that ends */
    bool alone = hk_heap_is_alone();

    hk_store_relaxed(&seen_most, alone ? 0 : most);
    return alone ? KEPT_WHEN_ALONE : hk_max(KEPT_AT_THREAD_EXIT, hk_policy()->purge_floor_bytes / most * nr);
}

void hk_ace_thread_ended(void)
{
    size_t keep = hk_max(kept_at_thread_exit(), hk_ace_live_bytes() / 10);

    if (hk_span_dirty_bytes() + hk_arena_dirty_bytes() > keep)
        purge_to(keep / 8 * 7);
}

void hk_ace_background(struct hk_heap *heap)
{
    uint64_t now = hk_os_now_ns();

    hk_heap_reclaim(heap);
    hk_l25_expire(false);
    promote(now);
    hk_bigcache_expire(now, hk_big_evict, NULL);
    hk_batch_flush();
    hk_span_purge_expired(now, hk_policy()->purge_delay_ns);
    hk_arena_purge_expired(now, hk_policy()->purge_delay_ns);
}

size_t hk_ace_purge(struct hk_heap *heap)
{
    size_t before = hk_ace_cached_bytes();

    if (heap) {
        hk_heap_flush_all(heap);
        hk_l25_flush(&heap->l25);
    }
    hk_heap_reclaim(heap);
    hk_l25_expire(true);
    before = hk_max(before, hk_ace_cached_bytes());
    hk_bigcache_trim(0, hk_big_evict, NULL);
    hk_batch_flush();
    purge_to(0);
    hk_arena_unmap_to(0);
    return before - hk_min(before, hk_ace_cached_bytes());
}
