// SPDX-License-Identifier: MIT
#include "totals.h"

#include "metrics.h"

#include <stdlib.h>
#include <string.h>

#define GRANULE_BYTES 16384u
#define LEAF_ENTRIES  32768u
#define MAX_CLASSES   65536u
/* A magazine of more blocks than this is a torn or damaged one. */
#define MAX_MAGAZINE 1048576u

/* While the program runs, a part may overtake its whole. */
static uint64_t minus(uint64_t whole, uint64_t part)
{
    return whole > part ? whole - part : 0;
}

/* ---- from a file --------------------------------------------------------------------------- */

static int from_file(struct capture *c, const struct table *stats, struct problem *problem)
{
    const struct table *class = capture_table(c, "class");

    for (unsigned i = 0; i < nr_metrics; i++)
        metric_set(&c->total, &metrics[i], table_get(stats, 0, metrics[i].name));
    c->total.resident = table_get(stats, 0, "resident");
    c->nr_classes = class ? class->nr_rows : 0;
    if (c->nr_classes > MAX_CLASSES)
        return problem_set(problem, EXIT_VERSION, "damaged counters: %u classes", c->nr_classes);
    c->classes = calloc(c->nr_classes + 1, sizeof *c->classes);
    if (!c->classes)
        return problem_set(problem, EXIT_NOTHING, "out of memory");
    for (uint32_t i = 0; i < c->nr_classes; i++) {
        hak_stats_class_t *row = &c->classes[i];
        row->size = table_get(class, i, "size");
        row->slab_bytes = table_get(class, i, "slab_bytes");
        row->slots = table_get(class, i, "slots");
        row->slabs = table_get(class, i, "slabs");
        row->live = table_get(class, i, "live");
        row->cached = table_get(class, i, "cached");
        row->parcels = table_get(class, i, "parcels");
        row->free = table_get(class, i, "free");
    }
    return 0;
}

/* ---- from live counters: small blocks ------------------------------------------------------ */

static void add_heap_classes(struct capture *c, uint32_t nr_small)
{
    const struct table *slabs = capture_table(c, "heap.slabs"),
                       *records = capture_table(c, "heap.magazine");
    const struct hak_stats_field *cursor = table_field(records, "cursor"),
                                 *bottom = table_field(slabs, "bottom");
    const struct hak_stats_field *nr_slabs = table_field(slabs, "nr_slabs");
    const struct hak_stats_field *nr_free = table_field(slabs, "nr_free");
    const struct hak_stats_field *nr_gaps = table_field(slabs, "nr_gaps"); /* may be missing: then none */

    if (!slabs || !records || !cursor || !bottom || !nr_slabs || !nr_free ||
        slabs->rows_per_parent == 0)
        return;
    for (uint32_t i = 0; i < slabs->nr_rows; i++) {
        uint64_t low = table_value(slabs, i, bottom);
        uint64_t high = i < records->nr_rows ? table_value(records, i, cursor) : 0;
        hak_stats_class_t *row = &c->classes[i % slabs->rows_per_parent];
        uint64_t blocks = high > low ? (high - low) / sizeof(void *) - 1 : 0;
        if (i % slabs->rows_per_parent >= nr_small)
            continue;
        row->slabs += table_value(slabs, i, nr_slabs);
        row->free += table_value(slabs, i, nr_free);
        if (low && blocks < MAX_MAGAZINE)
            row->cached += minus(blocks, nr_gaps ? table_value(slabs, i, nr_gaps) : 0);
    }
}

static void add_parcels(struct capture *c, uint32_t nr_small)
{
    const struct table *parcels = capture_table(c, "parcel");
    const struct hak_stats_field *count = table_field(parcels, "count");
    const struct hak_stats_field *classes = table_field(parcels, "classes");

    for (uint32_t p = 0; count && classes && p < parcels->nr_rows; p++) {
        uint64_t n = table_value(parcels, p, count);
        const unsigned char *class = table_bytes(parcels, p, classes);
        for (uint64_t i = 0; i < n && i < classes->bytes; i++)
            if (class[i] < nr_small)
                c->classes[class[i]].parcels++;
    }
}

static void sum_small(struct capture *c, uint32_t nr_small)
{
    const struct table *sizes = capture_table(c, "size");
    hak_stats_t *t = &c->total;

    for (uint32_t i = 0; i < nr_small; i++) {
        hak_stats_class_t *row = &c->classes[i];
        row->size = table_get(sizes, i, "size");
        row->slab_bytes = table_get(sizes, i, "slab_mask") + 1;
        row->slots = table_get(sizes, i, "slots");
        row->live = minus(row->slabs * row->slots, row->free + row->cached + row->parcels);
        t->live_small += row->live * row->size;
        t->live_blocks += row->live;
        t->cached_magazines += row->cached * row->size;
        t->cached_parcels += row->parcels * row->size;
        t->slab_tails += row->slabs * minus(row->slab_bytes, row->slots * row->size);
        t->slab_free += row->free * row->size;
    }
    t->slab_free += t->slab_tails;
}

/* ---- runs, big blocks ---------------------------------------------------------------------- */

static void add_runs(struct capture *c, uint32_t first)
{
    const struct table *run = capture_table(c, "run"), *class = capture_table(c, "run.class");
    const struct table *cached = capture_table(c, "heap.runs");
    const struct table *arena = capture_table(c, "arena"), *big = capture_table(c, "big");
    hak_stats_t *t = &c->total;

    for (uint32_t i = 0; i < c->nr_classes - first; i++) {
        hak_stats_class_t *row = &c->classes[first + i];
        row->size = row->slab_bytes = table_get(class, i, "granules") * GRANULE_BYTES;
        row->slots = 1;
        row->slabs = table_get(run, i, "nr_runs");
        for (uint32_t h = i; cached && cached->rows_per_parent && h < cached->nr_rows;
             h += cached->rows_per_parent)
            row->cached += table_get(cached, h, "count");
        row->live = minus(row->slabs, row->cached);
        t->live_blocks += row->live;
    }
    t->cached_runs = GRANULE_BYTES * (table_sum(capture_table(c, "heap"), "l25_granules") +
                                      table_sum(capture_table(c, "shard"), "cached_granules"));
    t->live_runs = minus(minus(table_get(arena, 0, "used"), table_get(big, 0, "arena")), t->cached_runs);
}

static void add_big(struct capture *c)
{
    const struct table *big = capture_table(c, "big"), *cache = capture_table(c, "bigcache");
    hak_stats_t *t = &c->total;

    t->live_big =
        table_get(big, 0, "live") + table_get(big, 0, "loose") + table_get(big, 0, "emergency");
    t->live_blocks += table_get(big, 0, "nr_live");
    t->size_mismatches = table_get(big, 0, "size_mismatches");
    t->cached_big = table_get(cache, 0, "bytes");
    t->big_hits_site = table_get(cache, 0, "hits_site");
    t->big_hits_shared = table_get(cache, 0, "hits_shared");
    t->big_hits_part = table_get(cache, 0, "hits_part");
    t->big_misses = table_get(cache, 0, "misses");
    t->big_puts = table_get(cache, 0, "puts");
    t->big_evictions_age = table_get(cache, 0, "evictions_age");
    t->big_evictions_budget = table_get(cache, 0, "evictions_budget");
}

/* ---- the rest ------------------------------------------------------------------------------ */

/* Of slabs, and of runs and big blocks. */
static uint64_t of_both(const struct capture *c, const char *field)
{
    return table_get(capture_table(c, "span"), 0, field) +
           table_get(capture_table(c, "arena"), 0, field);
}

static void add_kernel(struct capture *c)
{
    const struct table *span = capture_table(c, "span"), *batch = capture_table(c, "batch");
    const struct table *os = capture_table(c, "os");
    hak_stats_t *t = &c->total;

    t->pending = table_get(batch, 0, "pending");
    t->dirty = of_both(c, "dirty") + t->pending;
    t->purged = minus(of_both(c, "mapped"), of_both(c, "used") + of_both(c, "dirty")) +
                table_get(batch, 0, "lost") + table_get(os, 0, "lost");
    t->metadata =
        table_get(capture_table(c, "meta"), 0, "mapped") +
        table_get(capture_table(c, "pagemap"), 0, "nr_leaves") * 2 * sizeof(void *) * LEAF_ENTRIES +
        table_get(capture_table(c, "heaps"), 0, "chunks") + table_get(os, 0, "shared");
    t->mapped = table_get(os, 0, "mapped");
    t->purge_calls = of_both(c, "nr_purges");
    t->purged_bytes_total = of_both(c, "purged_total");
    t->regions = table_get(span, 0, "nr_regions");
    t->regions_unmapped = table_get(span, 0, "nr_unmaps");
    t->huge_bytes = table_get(span, 0, "huge");
    t->huge_promoted = table_get(span, 0, "nr_promoted");
    t->huge_demoted = table_get(span, 0, "nr_demoted");
    t->batch_queued = table_get(batch, 0, "queued");
    t->batch_immediate = table_get(batch, 0, "immediate");
    t->batch_flushes = table_get(batch, 0, "flushes");
    t->batch_unmaps = table_get(batch, 0, "unmaps");
    t->batch_refused = table_get(batch, 0, "refused");
    t->heaps = table_get(capture_table(c, "heaps"), 0, "nr_heaps");
    t->heaps_active = table_get(capture_table(c, "heaps"), 0, "nr_active");
}

static void add_guarded(struct capture *c)
{
    const struct table *guard = capture_table(c, "guard");
    uint64_t live = table_get(guard, 0, "live");
    hak_stats_t *t = &c->total;

    t->live_big += live;
    t->purged += minus(table_get(guard, 0, "mapped"), live);
    t->guard_live = table_get(guard, 0, "nr_live");
    t->live_blocks += t->guard_live;
    t->guard_samples = table_get(guard, 0, "nr_samples");
    t->guard_refused = table_get(guard, 0, "nr_refused");
}

/* Counters whose field in "heap" or "runs" bears the name of the member. */
static void add_counters(struct capture *c)
{
    const struct table *heap = capture_table(c, "heap"), *runs = capture_table(c, "runs");
    hak_stats_t *t = &c->total;

    for (unsigned i = 0; i < nr_metrics; i++) {
        if (metrics[i].group != METRIC_REFILL && metrics[i].group != METRIC_REMOTE &&
            metrics[i].group != METRIC_RUNS)
            continue;
        bool shared = table_field(runs, metrics[i].name) != NULL;
        metric_set(t, &metrics[i], table_sum(shared ? runs : heap, metrics[i].name));
    }
    t->refill_new = t->slabs_acquired;
    t->refill_parked = minus(table_sum(heap, "slabs_adopted"), t->refill_depot);
}

static int from_counters(struct capture *c, struct problem *problem)
{
    const struct table *sizes = capture_table(c, "size"), *run = capture_table(c, "run");
    uint32_t nr_small = sizes ? sizes->nr_rows : 0, nr_runs = run ? run->nr_rows : 0;
    hak_stats_t *t = &c->total;

    if (nr_small > MAX_CLASSES || nr_runs > MAX_CLASSES)
        return problem_set(problem, EXIT_VERSION, "damaged counters: %u classes", nr_small);
    if (!capture_table(c, "os") || !sizes || !capture_table(c, "heap"))
        return problem_set(problem, EXIT_VERSION,
                           "damaged counters: without the tables os, size and heap");
    c->nr_classes = nr_small + nr_runs;
    c->classes = calloc(c->nr_classes + 1, sizeof *c->classes);
    if (!c->classes)
        return problem_set(problem, EXIT_NOTHING, "out of memory");
    add_heap_classes(c, nr_small);
    add_parcels(c, nr_small);
    sum_small(c, nr_small);
    add_runs(c, nr_small);
    add_big(c);
    add_kernel(c);
    add_counters(c);
    add_guarded(c);
    t->live = t->live_small + t->live_runs + t->live_big;
    t->cached = t->cached_magazines + t->cached_parcels + t->cached_runs + t->cached_big;
    return 0;
}

/* At rest the two sides agree; what moves while one reads is some blocks of a magazine per thread. */
static bool is_torn(const hak_stats_t *t)
{
    uint64_t sum = t->live + t->cached + t->slab_free + t->dirty + t->purged + t->metadata;
    uint64_t off = sum > t->mapped ? sum - t->mapped : t->mapped - sum;

    return off > t->mapped / 10 + (4u << 20);
}

int totals_compute(struct capture *capture, struct problem *problem)
{
    const struct table *stats = capture_table(capture, "stats");
    int code = stats ? from_file(capture, stats, problem) : from_counters(capture, problem);

    capture->total.pid = capture->root.pid;
    capture->total.start_ns = capture->root.start_ns;
    capture->total.mode = capture->root.mode;
    capture->torn = is_torn(&capture->total);
    return code;
}
