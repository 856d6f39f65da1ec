// SPDX-License-Identifier: MIT
/* The sums. Numbers that belong together are read one after the other, relaxed: at rest they agree. */
#include "export/export_private.h"

#include "ace/ace.h"
#include "arena/arena.h"
#include "batch/batch.h"
#include "bigcache/bigcache.h"
#include "config/config.h"
#include "guard/guard.h"
#include "meta/meta.h"
#include "os/os.h"
#include "pagemap/pagemap.h"
#include "span/span.h"
#include "thread/thread.h"

#include <string.h>

/* While others allocate a part may overtake its whole. */
static uint64_t minus(uint64_t whole, uint64_t part)
{
    return whole > part ? whole - part : 0;
}

/* ---- small: slabs, magazines, parcels ------------------------------------------------------ */

static void add_heap_classes(struct hk_view *view, const struct hk_heap *heap)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        const struct hk_class_slabs *cs = &heap->slabs[c];
        hak_stats_class_t *row = &view->class[c];
        void **bottom = hk_load_relaxed(&cs->bottom), **cursor = hk_load_relaxed(&heap->record[c].cursor);

        row->slabs += hk_load_relaxed(&cs->nr_slabs);
        row->free += hk_load_relaxed(&cs->nr_free);
        if (bottom && cursor > bottom && cursor <= bottom + 1 + hk_load_relaxed(&cs->cap))
            row->cached += minus((uint64_t)(cursor - bottom) - 1, hk_load_relaxed(&cs->nr_gaps));
    }
}

static void add_parcels(struct hk_view *view)
{
    for (const struct hk_parcel *b = hk_parcel_first(); b; b = b->next_ever) {
        uint32_t count = hk_load_relaxed(&b->count);
        for (uint32_t i = 0; i < count && i < HK_PARCEL_BLOCKS; i++)
            view->class[hk_load_relaxed(&b->class[i])].parcels++;
    }
}

static void sum_classes(struct hk_view *view)
{
    hak_stats_t *t = &view->total;

    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        hak_stats_class_t *row = &view->class[c];
        const struct hk_size_class *sc = &hk_size_class[c];

        row->size = sc->size;
        row->slab_bytes = (uint64_t)sc->slab_mask + 1;
        row->slots = sc->nr_slots;
        row->live = minus(row->slabs * row->slots, row->free + row->cached + row->parcels);
        t->live_small += row->live * row->size;
        t->live_blocks += row->live;
        t->cached_magazines += row->cached * row->size;
        t->cached_parcels += row->parcels * row->size;
        t->slab_tails += row->slabs * (row->slab_bytes - row->slots * row->size);
        t->slab_free += row->free * row->size;
    }
    t->slab_free += t->slab_tails;
}

static void add_heap_counters(hak_stats_t *t, const struct hk_heap *heap)
{
    const struct hk_heap_stats *s = &heap->stats;
    uint64_t depot = hk_load_relaxed(&s->nr_from_depot);

    t->refill_popped += hk_load_relaxed(&s->nr_popped);
    t->refill_drained += hk_load_relaxed(&s->nr_drained);
    t->refill_larger += hk_load_relaxed(&s->nr_larger);
    t->refill_current += hk_load_relaxed(&s->nr_from_current);
    t->refill_partial += hk_load_relaxed(&s->nr_from_partial);
    t->refill_depot += depot;
    t->refill_parked += minus(hk_load_relaxed(&s->nr_slabs_stolen), depot);
    t->refill_new += hk_load_relaxed(&s->nr_slabs_acquired);
    t->refill_single += hk_load_relaxed(&s->nr_single);
    t->refill_failed += hk_load_relaxed(&s->nr_failed);
    t->refills += hk_load_relaxed(&s->nr_refills);
    t->refills_mid += hk_load_relaxed(&s->nr_refills_mid);
    t->flushes += hk_load_relaxed(&s->nr_flushes);
    t->idle_flushes += hk_load_relaxed(&s->nr_idle_flushes);
    t->magazines_grown += hk_load_relaxed(&s->nr_grown);
    t->magazines_shrunk += hk_load_relaxed(&s->nr_shrunk);
    t->slabs_acquired += hk_load_relaxed(&s->nr_slabs_acquired);
    t->slabs_retired += hk_load_relaxed(&s->nr_slabs_retired);
    t->slabs_published += hk_load_relaxed(&s->nr_published);
    t->remote_frees += hk_load_relaxed(&s->nr_remote_frees);
    t->parcels_sent += hk_load_relaxed(&s->nr_parcels_sent);
    t->parcels_drained += hk_load_relaxed(&s->nr_parcels_drained);
    t->remote_forwarded += hk_load_relaxed(&s->nr_forwarded);
    t->remote_lost += hk_load_relaxed(&s->nr_lost);
    t->run_hits_cache += hk_load_relaxed(&heap->l25.nr_hits);
}

static void add_heaps(struct hk_view *view)
{
    const struct hk_heaps_counters *heaps = hk_heaps_counters();

    for (const struct hk_heap *heap = hk_heap_first(); heap; heap = heap->next_ever) {
        add_heap_classes(view, heap);
        add_heap_counters(&view->total, heap);
        for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++)
            view->class[HK_NR_CLASSES + c].cached += hk_l25_cached_runs(&heap->l25, c);
    }
    view->total.heaps = hk_load_relaxed(&heaps->nr_heaps);
    view->total.heaps_active = hk_load_relaxed(&heaps->nr_active);
}

/* ---- runs and big blocks ------------------------------------------------------------------- */

static void add_runs(struct hk_view *view)
{
    const struct hk_l25_class_counters *classes = hk_l25_class_counters();
    const struct hk_l25_counters *counters = hk_l25_counters();
    hak_stats_t *t = &view->total;
    uint64_t used = minus(hk_load_relaxed(&hk_arena_counters()->used_bytes),
                          hk_load_relaxed(&hk_ace_counters.arena_bytes));

    for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++) {
        hak_stats_class_t *row = &view->class[HK_NR_CLASSES + c];
        row->size = row->slab_bytes = hk_l25_class_granules[c] * HK_GRANULE;
        row->slots = 1;
        row->slabs = hk_load_relaxed(&classes[c].nr_runs);
        for (unsigned i = 0; i < HK_L25_NR_SHARDS; i++)
            row->cached += hk_load_relaxed(&hk_l25_shard_counters(i)->count[c]);
        row->live = minus(row->slabs, row->cached);
        t->cached_runs += row->cached * row->size; /* a run that was resized is never cached */
        t->live_blocks += row->live;
    }
    t->live_runs = minus(used, t->cached_runs);
    t->run_hits_shard = hk_load_relaxed(&counters->hits_shard);
    t->run_hits_larger = hk_load_relaxed(&counters->hits_larger);
    t->run_misses = hk_load_relaxed(&counters->misses);
    t->run_bundled = hk_load_relaxed(&counters->bundled);
    t->run_released = hk_load_relaxed(&counters->released);
}

static void add_big(hak_stats_t *t)
{
    const struct hk_bigcache_counters *c = hk_bigcache_counters();

    t->live_big = hk_load_relaxed(&hk_ace_counters.live_bytes) + hk_load_relaxed(&hk_ace_counters.loose_bytes) +
                  hk_load_relaxed(&hk_ace_counters.emergency_bytes);
    t->live_blocks += hk_load_relaxed(&hk_ace_counters.nr_live);
    t->cached_big = hk_load_relaxed(&c->bytes);
    t->big_hits_site = hk_load_relaxed(&c->hits_site);
    t->big_hits_shared = hk_load_relaxed(&c->hits_shared);
    t->big_hits_part = hk_load_relaxed(&c->hits_part);
    t->big_misses = hk_load_relaxed(&c->misses);
    t->big_puts = hk_load_relaxed(&c->puts);
    t->big_evictions_age = hk_load_relaxed(&c->evictions_age);
    t->big_evictions_budget = hk_load_relaxed(&c->evictions_budget);
    t->size_mismatches = hk_load_relaxed(&hk_ace_counters.size_mismatches);
}

/* Their pages count as big blocks', the rest of the region as memory that was given back. */
static void add_guarded(hak_stats_t *t)
{
    const struct hk_guard_counters *c = hk_guard_counters();
    uint64_t live = hk_load_relaxed(&c->live_bytes);

    t->live_big += live;
    t->purged += minus(hk_load_relaxed(&c->mapped_bytes), live);
    t->guard_live = hk_load_relaxed(&c->nr_live);
    t->live_blocks += t->guard_live;
    t->guard_samples = hk_load_relaxed(&c->nr_samples);
    t->guard_refused = hk_load_relaxed(&c->nr_refused);
}

/* ---- the way back -------------------------------------------------------------------------- */

static void add_kernel(hak_stats_t *t)
{
    const struct hk_batch_counters *batch = hk_batch_counters();
    const struct hk_span_stats *span = hk_span_counters();
    const struct hk_arena_stats *arena = hk_arena_counters();
    uint64_t mapped = hk_load_relaxed(&span->mapped_bytes) + hk_load_relaxed(&arena->mapped_bytes);
    uint64_t used = hk_load_relaxed(&span->used_bytes) + hk_load_relaxed(&arena->used_bytes);
    uint64_t dirty = hk_load_relaxed(&span->dirty_bytes) + hk_load_relaxed(&arena->dirty_bytes);

    t->pending = hk_load_relaxed(&batch->pending_bytes);
    t->dirty = dirty + t->pending;
    t->purged = minus(mapped, used + dirty) +
                hk_load_relaxed(&batch->nr_lost_bytes) + hk_load_relaxed(&hk_os_counters.lost_bytes);
    t->purge_calls = hk_load_relaxed(&span->nr_purges) + hk_load_relaxed(&arena->nr_purges);
    t->purged_bytes_total =
        hk_load_relaxed(&span->nr_purged_bytes) + hk_load_relaxed(&arena->nr_purged_bytes);
    t->regions = hk_load_relaxed(&span->nr_regions);
    t->regions_unmapped = hk_load_relaxed(&span->nr_unmaps);
    t->huge_bytes = hk_load_relaxed(&span->huge_bytes);
    t->huge_promoted = hk_load_relaxed(&span->nr_promoted);
    t->huge_demoted = hk_load_relaxed(&span->nr_demoted);
    t->batch_queued = hk_load_relaxed(&batch->nr_queued);
    t->batch_immediate = hk_load_relaxed(&batch->nr_immediate);
    t->batch_flushes = hk_load_relaxed(&batch->nr_flushes);
    t->batch_unmaps = hk_load_relaxed(&batch->nr_unmaps);
    t->batch_refused = hk_load_relaxed(&batch->nr_refused);
    t->metadata = hk_meta_mapped_bytes() + hk_pagemap_mapped_bytes() +
                  hk_load_relaxed(&hk_heaps_counters()->chunk_bytes) +
                  hk_load_relaxed(&hk_os_counters.shared_bytes);
    t->mapped = hk_load_relaxed(&hk_os_counters.mapped_bytes);
}

/* Takes locks: in a slow section, so that a signal handler that comes now does not wait for them. In a handler
 * that interrupted one there is no answer. */
static uint64_t resident_bytes(void)
{
    uint64_t bytes;

    if (!hk_thread_enter())
        return 0;
    bytes = hk_ace_resident_bytes();
    hk_thread_leave();
    return bytes;
}

void hk_export_view(struct hk_view *view, bool resident)
{
    hak_stats_t *t = &view->total;

    memset(view, 0, sizeof *view);
    add_heaps(view);
    add_parcels(view);
    sum_classes(view);
    add_runs(view);
    add_big(t);
    add_kernel(t);
    add_guarded(t);
    t->live = t->live_small + t->live_runs + t->live_big;
    t->cached = t->cached_magazines + t->cached_parcels + t->cached_runs + t->cached_big;
    t->resident = resident ? resident_bytes() : 0;
    t->pid = hak_stats_root.pid;
    t->start_ns = hak_stats_root.start_ns;
    t->mode = hk_config.mode;
}
