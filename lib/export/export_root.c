// SPDX-License-Identifier: MIT
/*
 * hak_stats_root and its tables. Nothing is copied: a table says where a box keeps its counters. Names,
 * offsets and the root itself are writable data although they never change, because a core dump leaves
 * constant data out; addresses are filled in at start, so that nothing has to be relocated.
 */
#include "export/export_private.h"

#include "ace/ace.h"
#include "acectl/acectl.h"
#include "arena/arena.h"
#include "batch/batch.h"
#include "bigcache/bigcache.h"
#include "config/config.h"
#include "guard/guard.h"
#include "meta/meta.h"
#include "os/os.h"
#include "site/site.h"
#include "span/span.h"
#include "stats/stats.h"
#include "thread/thread.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* glibc 2.32; elsewhere one system call tells. */
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#else
static const char __libc_single_threaded;
#endif

#define F(name, member, kind) HK_FIELD(name, member, kind)

/* ---- fields -------------------------------------------------------------------------------- */

typedef struct hak_stats_field field;

/* Never written, but data for a core dump's sake (above): behind what start-up writes, so that these pages
 * stay shared with the file. */
#define KEPT HK_LATE_DATA

#define ROW struct hk_os_counters
static KEPT field os_fields[] = {
    F("mapped", mapped_bytes, BYTES), F("lost", lost_bytes, BYTES), F("shared", shared_bytes, BYTES)};
#undef ROW

static KEPT field size_fields[] = {{"mapped", 0, sizeof(size_t), HAK_KIND_BYTES, 0}};
static KEPT field leaf_fields[] = {{"nr_leaves", 0, sizeof(size_t), HAK_KIND_GAUGE, 0}};

#define ROW struct hk_span_stats
static KEPT field span_fields[] = {
    F("mapped", mapped_bytes, BYTES), F("used", used_bytes, BYTES), F("dirty", dirty_bytes, BYTES),
    F("nr_regions", nr_regions, GAUGE), F("nr_purges", nr_purges, COUNTER),
    F("purged_total", nr_purged_bytes, BYTES_TOTAL), F("nr_unmaps", nr_unmaps, COUNTER), F("huge", huge_bytes, BYTES),
    F("nr_promoted", nr_promoted, COUNTER), F("nr_demoted", nr_demoted, COUNTER)};
#undef ROW

#define ROW struct hk_arena_stats
static KEPT field arena_fields[] = {
    F("mapped", mapped_bytes, BYTES), F("used", used_bytes, BYTES), F("dirty", dirty_bytes, BYTES),
    F("clean", clean_bytes, BYTES), F("busy", busy_bytes, BYTES), F("lost", lost_bytes, BYTES),
    F("nr_maps", nr_maps, COUNTER), F("nr_unmaps", nr_unmaps, COUNTER), F("nr_purges", nr_purges, COUNTER),
    F("purged_total", nr_purged_bytes, BYTES_TOTAL), F("nr_mixed", nr_mixed, COUNTER),
    F("nr_borrowed", nr_borrowed, COUNTER)};
#undef ROW

#define ROW struct hk_ace_counters
static KEPT field big_fields[] = {
    F("live", live_bytes, BYTES), F("arena", arena_bytes, BYTES), F("nr_live", nr_live, GAUGE), F("loose", loose_bytes, BYTES),
    F("emergency", emergency_bytes, BYTES), F("size_mismatches", size_mismatches, COUNTER),
    F("guards", nr_guarded, COUNTER)};
#undef ROW

#define ROW struct hk_guard_counters
static KEPT field guard_fields[] = {
    F("mapped", mapped_bytes, BYTES), F("live", live_bytes, BYTES), F("nr_live", nr_live, GAUGE),
    F("nr_samples", nr_samples, COUNTER), F("nr_refused", nr_refused, COUNTER)};
#undef ROW

#define ROW struct hk_guard_slot
static KEPT field slot_fields[] = {
    F("state", state, ENUM), F("bytes", bytes, BYTES), F("start", start, ADDRESS),
    F("alloc_site", alloc_site, ADDRESS), F("free_site", free_site, ADDRESS),
    F("alloc_thread", alloc_thread, NUMBER), F("free_thread", free_thread, NUMBER)};
#undef ROW

#define ROW struct hk_bigcache_counters
static KEPT field bigcache_fields[] = {
    F("hits_site", hits_site, COUNTER), F("hits_shared", hits_shared, COUNTER),
    F("hits_part", hits_part, COUNTER), F("misses", misses, COUNTER), F("puts", puts, COUNTER),
    F("evictions_age", evictions_age, COUNTER), F("evictions_budget", evictions_budget, COUNTER),
    F("bytes", bytes, BYTES)};
#undef ROW

#define ROW struct hk_batch_counters
static KEPT field batch_fields[] = {
    F("queued", nr_queued, COUNTER), F("immediate", nr_immediate, COUNTER), F("flushes", nr_flushes, COUNTER),
    F("unmaps", nr_unmaps, COUNTER), F("refused", nr_refused, COUNTER), F("lost", nr_lost_bytes, BYTES),
    F("pending", pending_bytes, BYTES)};
#undef ROW

#define ROW struct hk_heaps_counters
static KEPT field heaps_fields[] = {
    F("chunks", chunk_bytes, BYTES), F("nr_heaps", nr_heaps, GAUGE), F("nr_active", nr_active, GAUGE)};
#undef ROW

#define ROW struct hk_size_class
static KEPT field class_fields[] = {
    F("size", size, NUMBER), F("slab_mask", slab_mask, NUMBER), F("slots", nr_slots, NUMBER)};
#undef ROW

#define ROW struct hk_heap
static KEPT field heap_fields[] = {
    F("id", id, NUMBER), F("thread_id", thread_id, NUMBER), F("state", state, ENUM), F("depot", depot, ENUM),
    F("l25_granules", l25.granules, GAUGE), F("run_hits_cache", l25.nr_hits, COUNTER),
    F("run_misses_cache", l25.nr_misses, COUNTER), F("inbox_bytes", inbox_bytes, BYTES),
    F("cap_bytes", cap_bytes, BYTES),
    F("untold_site", site_pending.site, ADDRESS), F("untold_allocs", site_pending.nr_allocs, GAUGE),
    F("untold_bytes", site_pending.bytes, BYTES), F("untold_max_bytes", site_pending.max_bytes, BYTES),
    F("refills", stats.nr_refills, COUNTER), F("refills_mid", stats.nr_refills_mid, COUNTER),
    F("flushes", stats.nr_flushes, COUNTER),
    F("slabs_acquired", stats.nr_slabs_acquired, COUNTER),
    F("slabs_retired", stats.nr_slabs_retired, COUNTER), F("slabs_adopted", stats.nr_slabs_stolen, COUNTER),
    F("remote_frees", stats.nr_remote_frees, COUNTER), F("parcels_sent", stats.nr_parcels_sent, COUNTER),
    F("parcels_drained", stats.nr_parcels_drained, COUNTER),
    F("remote_forwarded", stats.nr_forwarded, COUNTER), F("slabs_published", stats.nr_published, COUNTER),
    F("idle_flushes", stats.nr_idle_flushes, COUNTER), F("remote_lost", stats.nr_lost, COUNTER),
    F("refill_popped", stats.nr_popped, COUNTER), F("refill_drained", stats.nr_drained, COUNTER),
    F("refill_larger", stats.nr_larger, COUNTER), F("refill_single", stats.nr_single, COUNTER),
    F("refill_failed", stats.nr_failed, COUNTER), F("refill_current", stats.nr_from_current, COUNTER),
    F("refill_partial", stats.nr_from_partial, COUNTER), F("refill_depot", stats.nr_from_depot, COUNTER),
    F("magazines_grown", stats.nr_grown, COUNTER), F("magazines_shrunk", stats.nr_shrunk, COUNTER)};
#undef ROW

#define ROW struct hk_class_slabs
static KEPT field slabs_fields[] = {
    F("bottom", bottom, ADDRESS), F("nr_slabs", nr_slabs, GAUGE), F("nr_free", nr_free, GAUGE),
    F("nr_gaps", nr_gaps, GAUGE)};
#undef ROW

#define ROW struct hk_class_record
static KEPT field magazine_fields[] = {F("cursor", cursor, ADDRESS), F("limit", limit, ADDRESS)};
#undef ROW

static KEPT field count_fields[] = {{"count", 0, 1, HAK_KIND_GAUGE, 0}};

#define ROW struct hk_parcel
static KEPT field parcel_fields[] = {
    F("count", count, GAUGE), F("bytes", bytes, BYTES), F("classes", class, ARRAY)};
#undef ROW

#define ROW struct hk_l25_class_counters
static KEPT field run_fields[] = {F("nr_runs", nr_runs, GAUGE), F("nr_granules", nr_granules, GAUGE)};
#undef ROW

static KEPT field run_class_fields[] = {{"granules", 0, 1, HAK_KIND_NUMBER, 0}};

#define ROW struct hk_l25_shard_counters
static KEPT field shard_fields[] = {F("cached_granules", granules, GAUGE), F("counts", count, ARRAY)};
#undef ROW

#define ROW struct hk_l25_counters
static KEPT field runs_fields[] = {
    F("run_hits_shard", hits_shard, COUNTER), F("run_hits_larger", hits_larger, COUNTER),
    F("run_misses", misses, COUNTER), F("run_bundled", bundled, COUNTER),
    F("run_released", released, COUNTER)};
#undef ROW

/* Whatever the site table keeps goes here under a name of its own. */
#define ROW struct hk_site_slot
KEPT struct hak_stats_field hk_export_site_fields[] = {
    F("key", site, ADDRESS), F("allocs", nr_allocs, COUNTER), F("frees", nr_frees, COUNTER),
    F("total_bytes", total_bytes, BYTES_TOTAL), F("live_bytes", live_bytes, BYTES),
    F("max_bytes", max_bytes, BYTES),
    F("est_allocs_256ths", est_allocs, COUNTER), F("est_frees_256ths", est_frees, COUNTER),
    F("est_bytes", est_bytes, BYTES_TOTAL), F("est_live_bytes", est_live_bytes, BYTES),
    F("samples", nr_samples, COUNTER), F("samples_ended", nr_ended, COUNTER),
    F("samples_grown", nr_grown, COUNTER), F("samples_handed", nr_handed, COUNTER),
    F("samples_brief", nr_brief, COUNTER), F("samples_long", nr_long, COUNTER),
    F("last_ns", last_ns, NS), F("paths", paths, NUMBER), F("base", base, ADDRESS),
    F("build_id", build_id, ARRAY), F("purpose", purpose, ENUM), F("labelled", labelled, ENUM),
    F("size_p50_4096ths", size_p50.height[2], BYTES), F("size_p99_4096ths", size_p99.height[2], BYTES),
    F("lifetime_p50_4096ths", lifetime_p50.height[2], NS),
    F("lifetime_p99_4096ths", lifetime_p99.height[2], NS)};
#undef ROW
const size_t hk_export_nr_site_fields = sizeof hk_export_site_fields / sizeof *hk_export_site_fields;

#define ROW struct hk_policy
static KEPT field policy_fields[] = {
    F("cache_budget_bytes", cache_budget_bytes, BYTES), F("remote_batch_bytes", remote_batch_bytes, BYTES),
    F("purge_delay_ns", purge_delay_ns, NS), F("purge_floor_bytes", purge_floor_bytes, BYTES),
    F("idle_flush_ns", idle_flush_ns, NS), F("big_threshold", big_threshold, BYTES),
    F("l25_cap", l25_cap, NUMBER), F("wmax_mid", wmax_mid, NUMBER), F("wmax_large", wmax_large, NUMBER),
    F("limit_bytes", limit_bytes, BYTES), F("huge_pages", huge_pages, ENUM), F("promote", promote, ENUM), F("steal", steal, ENUM),
    F("cache_big", cache_big, ENUM), F("batch", batch, ENUM)};
#undef ROW

#define ROW struct hk_acectl_view
#define KNOB(name, k)                                                                              \
    F(name, knob[k].value, NUMBER), F(name ".learns", knob[k].learns, ENUM), F(name ".arm", knob[k].arm, NUMBER), \
        F(name ".n0", knob[k].pulls[0], GAUGE), F(name ".n1", knob[k].pulls[1], GAUGE),            \
        F(name ".n2", knob[k].pulls[2], GAUGE), F(name ".n3", knob[k].pulls[3], GAUGE)
KEPT struct hak_stats_field hk_export_evo_fields[HK_EXPORT_EVO_FIELDS] = {
    F("state", state, ENUM), F("context", context, NUMBER), F("contexts", nr_contexts, GAUGE),
    F("windows", windows, COUNTER), F("trials", trials, COUNTER), F("adopted", adopted, COUNTER),
    F("broken_off", broken_off, COUNTER), F("shifts", shifts, COUNTER), F("recalled", recalled, COUNTER),
    F("cost_ns_per_mib", cost, NS), F("usual_ns_per_mib", usual_cost, NS),
    KNOB("purge_delay_ns", HK_KNOB_PURGE_DELAY), KNOB("purge_cap_bytes", HK_KNOB_CACHE_FLOOR)};
#undef ROW

static field option_fields[] = {{"type", 0, 1, HAK_KIND_ENUM, 0}, {"offset", 0, 2, HAK_KIND_NUMBER, 0}};
static KEPT field source_fields[] = {{"source", 0, 1, HAK_KIND_ENUM, 0}};
static KEPT field latency_fields[] = {{"buckets", 0, sizeof hk_latency, HAK_KIND_ARRAY, 0}};

#define ROW struct hk_trace_event
static KEPT field trace_fields[] = {
    F("number", number, NUMBER), F("time_ns", time_ns, NS), F("thread_id", thread, ADDRESS),
    F("what", what, ENUM), F("class", class, NUMBER), F("value", value, NUMBER)};
#undef ROW

/* ---- tables -------------------------------------------------------------------------------- */

enum table_number {
    T_OS, T_META, T_PAGEMAP, T_SPAN, T_ARENA, T_BIG, T_BIGCACHE, T_BATCH, T_HEAPS, T_SIZE, T_HEAP, T_HEAP_SLABS,
    T_HEAP_MAGAZINE, T_HEAP_RUNS, T_PARCEL, T_RUN, T_RUN_CLASS, T_SHARD, T_RUNS, T_SITE, T_POLICY, T_EVO,
    T_CONFIG, T_OPTION, T_OPTION_SOURCE, T_OPTION_NAMES, T_OPTION_WORDS, T_LATENCY, T_TRACE, T_GUARD, T_GUARD_SLOT,
    NR_TABLES
};

#define FIELDS(f) .nr_fields = sizeof(f) / sizeof *(f)
#define TABLE(text, rows, row, f) {.name = text, .nr_rows = (rows), .row_bytes = sizeof(row), FIELDS(f)}

static struct hak_stats_table tables[NR_TABLES] = {
    [T_OS] = TABLE("os", 1, hk_os_counters, os_fields),
    [T_META] = TABLE("meta", 1, size_t, size_fields),
    [T_PAGEMAP] = TABLE("pagemap", 1, size_t, leaf_fields),
    [T_SPAN] = TABLE("span", 1, struct hk_span_stats, span_fields),
    [T_ARENA] = TABLE("arena", 1, struct hk_arena_stats, arena_fields),
    [T_BIG] = TABLE("big", 1, struct hk_ace_counters, big_fields),
    [T_BIGCACHE] = TABLE("bigcache", 1, struct hk_bigcache_counters, bigcache_fields),
    [T_BATCH] = TABLE("batch", 1, struct hk_batch_counters, batch_fields),
    [T_HEAPS] = TABLE("heaps", 1, struct hk_heaps_counters, heaps_fields),
    [T_SIZE] = TABLE("size", HK_NR_CLASSES, struct hk_size_class, class_fields),
    [T_HEAP] = {.name = "heap", .row_bytes = sizeof(struct hk_heap), FIELDS(heap_fields),
                .flags = HAK_STATS_CHAINED, .next = offsetof(struct hk_heap, next_ever)},
    [T_HEAP_SLABS] = {.name = "heap.slabs", .nr_rows = HK_NR_CLASSES, FIELDS(slabs_fields),
                      .row_bytes = sizeof(struct hk_class_slabs), .flags = HAK_STATS_NESTED,
                      .rows = offsetof(struct hk_heap, slabs), .parent = T_HEAP},
    [T_HEAP_MAGAZINE] = {.name = "heap.magazine", .nr_rows = HK_NR_CLASSES, FIELDS(magazine_fields),
                         .row_bytes = sizeof(struct hk_class_record), .flags = HAK_STATS_NESTED,
                         .rows = offsetof(struct hk_heap, record), .parent = T_HEAP},
    [T_HEAP_RUNS] = {.name = "heap.runs", .nr_rows = HK_L25_NR_CLASSES, FIELDS(count_fields), .row_bytes = 1,
                     .flags = HAK_STATS_NESTED, .rows = offsetof(struct hk_heap, l25.count),
                     .parent = T_HEAP},
    [T_PARCEL] = {.name = "parcel", .row_bytes = sizeof(struct hk_parcel), FIELDS(parcel_fields),
                  .flags = HAK_STATS_CHAINED, .next = offsetof(struct hk_parcel, next_ever)},
    [T_RUN] = TABLE("run", HK_L25_NR_CLASSES, struct hk_l25_class_counters, run_fields),
    [T_RUN_CLASS] = TABLE("run.class", HK_L25_NR_CLASSES, uint8_t, run_class_fields),
    [T_SHARD] = TABLE("shard", HK_L25_NR_SHARDS, struct hk_l25_shard_counters, shard_fields),
    [T_RUNS] = TABLE("runs", 1, struct hk_l25_counters, runs_fields),
    [T_SITE] = TABLE("site", HK_SITE_SLOTS, struct hk_site_slot, hk_export_site_fields),
    [T_POLICY] = {.name = "policy", .nr_rows = 1, .row_bytes = sizeof(struct hk_policy),
                  FIELDS(policy_fields), .flags = HAK_STATS_INDIRECT},
    [T_EVO] = TABLE("evo", 1, struct hk_acectl_view, hk_export_evo_fields),
    [T_CONFIG] = {.name = "config", .nr_rows = sizeof hk_config, .flags = HAK_STATS_BLOB},
    [T_OPTION] = {.name = "option", .nr_rows = HK_NR_OPTIONS, FIELDS(option_fields)},
    [T_OPTION_SOURCE] = TABLE("option.source", HK_NR_OPTIONS, uint8_t, source_fields),
    [T_OPTION_NAMES] = {.name = "option.names", .flags = HAK_STATS_BLOB},
    [T_OPTION_WORDS] = {.name = "option.words", .flags = HAK_STATS_BLOB},
    [T_LATENCY] = TABLE("latency", 1, hk_latency, latency_fields),
    [T_TRACE] = TABLE("trace", HK_TRACE_EVENTS, struct hk_trace_event, trace_fields),
    [T_GUARD] = TABLE("guard", 1, struct hk_guard_counters, guard_fields),
    [T_GUARD_SLOT] = TABLE("guard.slot", HK_GUARD_SLOTS, struct hk_guard_slot, slot_fields),
};

/* abi, sizes and magic are there before the library starts; self says that the rest is. */
HK_EXPORT struct hak_stats_root hak_stats_root = {
    .magic = {'H', 'A', 'K', 'S', 'T', 'A', 'T', 'S'},
    .byte_order = HAK_STATS_BYTE_ORDER,
    .abi = HAK_STATS_ABI,
    .word_bytes = sizeof(void *),
    .root_bytes = sizeof(struct hak_stats_root),
    .nr_tables = NR_TABLES,
};
_Static_assert(sizeof(struct hak_stats_root) == 128 && sizeof(struct hak_stats_table) == 64 &&
                   sizeof(struct hak_stats_field) == 32,
               "ABI 1: a change needs a new number");

static void place(enum table_number number, const void *rows, const field *fields)
{
    tables[number].rows = (uintptr_t)rows;
    tables[number].fields = (uintptr_t)fields;
}

static void place_boxes(void)
{
    place(T_OS, &hk_os_counters, os_fields);
    place(T_META, hk_meta_mapped_field(), size_fields);
    place(T_PAGEMAP, hk_pagemap_leaves_field(), leaf_fields);
    place(T_SPAN, hk_span_counters(), span_fields);
    place(T_ARENA, hk_arena_counters(), arena_fields);
    place(T_BIG, &hk_ace_counters, big_fields);
    place(T_BIGCACHE, hk_bigcache_counters(), bigcache_fields);
    place(T_BATCH, hk_batch_counters(), batch_fields);
    place(T_HEAPS, hk_heaps_counters(), heaps_fields);
    place(T_SIZE, hk_size_class, class_fields);
    place(T_HEAP, hk_heap_head(), heap_fields);
    tables[T_HEAP_SLABS].fields = (uintptr_t)slabs_fields;
    tables[T_HEAP_MAGAZINE].fields = (uintptr_t)magazine_fields;
    tables[T_HEAP_RUNS].fields = (uintptr_t)count_fields;
    place(T_PARCEL, hk_parcel_head(), parcel_fields);
    place(T_RUN, hk_l25_class_counters(), run_fields);
    place(T_RUN_CLASS, hk_l25_class_granules, run_class_fields);
    place(T_SHARD, hk_l25_shard_counters(0), shard_fields);
    tables[T_SHARD].row_bytes =
        (uint32_t)((uintptr_t)hk_l25_shard_counters(1) - (uintptr_t)hk_l25_shard_counters(0));
    place(T_RUNS, hk_l25_counters(), runs_fields);
    place(T_SITE, hk_site_slots, hk_export_site_fields);
    place(T_POLICY, &hk_policy_current, policy_fields);
    place(T_EVO, &hk_acectl_view, hk_export_evo_fields);
    place(T_LATENCY, hk_latency, latency_fields);
    place(T_TRACE, hk_trace_ring, trace_fields);
    place(T_GUARD, hk_guard_counters(), guard_fields);
    place(T_GUARD_SLOT, hk_guard_slots, slot_fields);
}

static void place_options(void)
{
    struct hk_config_layout layout;

    hk_config_layout(&layout);
    option_fields[0].offset = (uint32_t)layout.type_offset;
    option_fields[1].offset = (uint32_t)layout.field_offset;
    tables[T_OPTION].row_bytes = (uint32_t)layout.row_bytes;
    tables[T_OPTION_NAMES].nr_rows = (uint32_t)layout.names_bytes;
    tables[T_OPTION_WORDS].nr_rows = (uint32_t)layout.words_bytes;
    place(T_CONFIG, &hk_config, NULL);
    place(T_OPTION, layout.rows, option_fields);
    place(T_OPTION_SOURCE, layout.sources, source_fields);
    place(T_OPTION_NAMES, layout.names, NULL);
    place(T_OPTION_WORDS, layout.words, NULL);
}

/* ---- start and fork ------------------------------------------------------------------------ */

const char *hk_export_version(void)
{
    return hak_stats_root.version;
}

#define STRING(x) #x
#define VERSION(a, b, c) STRING(a) "." STRING(b) "." STRING(c)
_Static_assert(sizeof VERSION(HAKMEM_VERSION_MAJOR, HAKMEM_VERSION_MINOR, HAKMEM_VERSION_PATCH) <= 16,
               "fits root.version");

/* The first thread's kernel id is the process's, and can be had without a system call. */
static uint64_t process_id(void)
{
    return __libc_single_threaded ? hk_thread_kernel_id() : (uint64_t)getpid();
}

static void child_of_fork(void)
{
    hak_stats_root.pid = hk_thread_kernel_id(); /* alone */
    hak_stats_root.start_ns = hk_os_boot_ns();
    hk_export_file_child();
}

static void start_root(void)
{
    struct hak_stats_root *root = &hak_stats_root;

    memcpy(root->version, VERSION(HAKMEM_VERSION_MAJOR, HAKMEM_VERSION_MINOR, HAKMEM_VERSION_PATCH),
           sizeof VERSION(HAKMEM_VERSION_MAJOR, HAKMEM_VERSION_MINOR, HAKMEM_VERSION_PATCH));
    root->pid = process_id();
    root->start_ns = hk_os_start_ns();
    root->mode = hk_config.mode;
    root->tables = (uintptr_t)tables;
    place_boxes();
    place_options();
    if (hk_config.stats != HK_STATS_OFF)
        root->self = (uintptr_t)root;
}

/* Mode research: the ring on demand, but only where the signal would have ended the program. */
static void on_sigusr2(int number)
{
    (void)number;
    hk_trace_dump();
}

static void watch_sigusr2(void)
{
    struct sigaction old, ours;

    if (!hk_trace_on || hk_config.mode != HK_MODE_RESEARCH || sigaction(SIGUSR2, NULL, &old) != 0 ||
        old.sa_handler != SIG_DFL)
        return;
    memset(&ours, 0, sizeof ours);
    ours.sa_handler = on_sigusr2;
    ours.sa_flags = SA_RESTART | SA_ONSTACK;
    (void)sigaction(SIGUSR2, &ours, NULL);
}

void hk_export_start(void)
{
    start_root();
    watch_sigusr2();
    pthread_atfork(NULL, NULL, child_of_fork);
    if (hk_config.stats == HK_STATS_EXPORT && !hk_os_is_secure())
        hk_export_file_start();
}
