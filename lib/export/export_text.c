// SPDX-License-Identifier: MIT
/* The view as lines for people and as JSON. Both walk one list of members. */
#include "export/export_private.h"

#include "base/text.h"
#include "config/config.h"
#include "stats/stats.h"

#define M(member, kind, group)                                                                     \
    {#member, offsetof(hak_stats_t, member), HAK_KIND_##kind, GROUP_##group}

const struct hk_export_member hk_export_members[HK_EXPORT_NR_MEMBERS] = {
    M(mapped, BYTES, IDENTITY), M(live, BYTES, IDENTITY), M(cached, BYTES, IDENTITY),
    M(slab_free, BYTES, IDENTITY), M(dirty, BYTES, IDENTITY), M(purged, BYTES, IDENTITY),
    M(metadata, BYTES, IDENTITY),
    M(resident, BYTES, RESIDENT),
    M(live_small, BYTES, LIVE), M(live_runs, BYTES, LIVE), M(live_big, BYTES, LIVE),
    M(live_blocks, GAUGE, LIVE),
    M(cached_magazines, BYTES, CACHED), M(cached_parcels, BYTES, CACHED), M(cached_runs, BYTES, CACHED),
    M(cached_big, BYTES, CACHED), M(slab_tails, BYTES, CACHED), M(pending, BYTES, CACHED),
    M(refill_popped, COUNTER, REFILL), M(refill_drained, COUNTER, REFILL),
    M(refill_larger, COUNTER, REFILL), M(refill_current, COUNTER, REFILL),
    M(refill_partial, COUNTER, REFILL), M(refill_depot, COUNTER, REFILL),
    M(refill_parked, COUNTER, REFILL), M(refill_new, COUNTER, REFILL),
    M(refill_single, COUNTER, REFILL), M(refill_failed, COUNTER, REFILL),
    M(refills, COUNTER, REFILL), M(refills_mid, COUNTER, REFILL), M(flushes, COUNTER, REFILL), M(idle_flushes, COUNTER, REFILL),
    M(magazines_grown, COUNTER, REFILL), M(magazines_shrunk, COUNTER, REFILL),
    M(slabs_acquired, COUNTER, REFILL), M(slabs_retired, COUNTER, REFILL),
    M(slabs_published, COUNTER, REFILL),
    M(remote_frees, COUNTER, REMOTE), M(parcels_sent, COUNTER, REMOTE),
    M(parcels_drained, COUNTER, REMOTE), M(remote_forwarded, COUNTER, REMOTE),
    M(remote_lost, COUNTER, REMOTE),
    M(run_hits_cache, COUNTER, RUNS), M(run_hits_shard, COUNTER, RUNS),
    M(run_hits_larger, COUNTER, RUNS), M(run_misses, COUNTER, RUNS), M(run_bundled, COUNTER, RUNS),
    M(run_released, COUNTER, RUNS),
    M(big_hits_site, COUNTER, BIG), M(big_hits_shared, COUNTER, BIG), M(big_hits_part, COUNTER, BIG),
    M(big_misses, COUNTER, BIG), M(big_puts, COUNTER, BIG), M(big_evictions_age, COUNTER, BIG),
    M(big_evictions_budget, COUNTER, BIG),
    M(purge_calls, COUNTER, KERNEL), M(purged_bytes_total, BYTES_TOTAL, KERNEL),
    M(regions, GAUGE, KERNEL), M(regions_unmapped, COUNTER, KERNEL), M(batch_queued, COUNTER, KERNEL),
    M(batch_immediate, COUNTER, KERNEL), M(batch_flushes, COUNTER, KERNEL),
    M(batch_unmaps, COUNTER, KERNEL), M(batch_refused, COUNTER, KERNEL),
    M(heaps, GAUGE, PROCESS), M(heaps_active, GAUGE, PROCESS), M(size_mismatches, COUNTER, PROCESS),
    M(pid, NUMBER, ROOT), M(start_ns, NS, ROOT), M(mode, ENUM, ROOT),
    M(guard_samples, COUNTER, PROCESS), M(guard_live, GAUGE, PROCESS), M(guard_refused, COUNTER, PROCESS),
    M(huge_bytes, BYTES, KERNEL), M(huge_promoted, COUNTER, KERNEL), M(huge_demoted, COUNTER, KERNEL),
};

static const char *const group_titles[NR_PRINTED_GROUPS] = {
    "bytes", "in memory", "live", "kept", "refill", "remote", "runs", "big", "kernel", "process",
};

static uint64_t value_of(const hak_stats_t *total, const struct hk_export_member *m)
{
    return *(const uint64_t *)((const char *)total + m->offset);
}

static void mode_name(char name[16])
{
    (void)hk_config_format(HK_OPTION_mode, name, 16);
}

/* ---- lines --------------------------------------------------------------------------------- */

static void print_head(struct hk_text *t, const hak_stats_t *total)
{
    char mode[16];

    mode_name(mode);
    hk_text_put(t, "hakmem: version ");
    hk_text_put(t, hk_export_version());
    hk_text_put(t, ", mode ");
    hk_text_put(t, mode);
    hk_text_put(t, ", process ");
    hk_text_number(t, total->pid);
    hk_text_put(t, "\n");
}

/* Groups of counters leave out what never happened; the identity is always whole. */
static void print_group(struct hk_text *t, const hak_stats_t *total, unsigned group)
{
    bool any = false;

    for (unsigned i = 0; i < HK_EXPORT_NR_MEMBERS; i++) {
        const struct hk_export_member *m = &hk_export_members[i];
        uint64_t value = value_of(total, m);

        if (m->group != group || (value == 0 && group != GROUP_IDENTITY))
            continue;
        hk_text_put(t, any ? ", " : "hakmem: ");
        if (!any)
            hk_text_put(t, group_titles[group]);
        hk_text_put(t, any ? "" : ": ");
        hk_text_put(t, m->name);
        hk_text_char(t, ' ');
        hk_text_number(t, value);
        any = true;
    }
    if (any)
        hk_text_char(t, '\n');
}

static void print_times(struct hk_text *t)
{
    uint64_t nr;
    uint64_t p50 = hk_latency_quantile(500, &nr), p95 = hk_latency_quantile(950, &nr);
    uint64_t p99 = hk_latency_quantile(990, &nr);

    if (nr == 0)
        return;
    hk_text_put(t, "hakmem: slow allocations: samples ");
    hk_text_number(t, nr);
    hk_text_put(t, ", ns p50 ");
    hk_text_number(t, p50);
    hk_text_put(t, ", p95 ");
    hk_text_number(t, p95);
    hk_text_put(t, ", p99 ");
    hk_text_number(t, p99);
    hk_text_char(t, '\n');
}

static void print_class(struct hk_text *t, const hak_stats_class_t *row)
{
    hk_text_put(t, "hakmem: ");
    hk_text_padded(t, row->size, 9);
    hk_text_padded(t, row->slabs, 9);
    hk_text_padded(t, row->live, 11);
    hk_text_padded(t, row->cached, 9);
    hk_text_padded(t, row->parcels, 9);
    hk_text_padded(t, row->free, 9);
    hk_text_padded(t, row->live * row->size, 14);
    hk_text_char(t, '\n');
}

void hk_export_print(hak_write_t *write, void *arg, bool resident)
{
    struct hk_text t = {.used = 0, .write = write, .arg = arg};
    struct hk_view view;

    hk_export_view(&view, resident);
    print_head(&t, &view.total);
    for (unsigned group = 0; group < NR_PRINTED_GROUPS; group++)
        print_group(&t, &view.total, group);
    print_times(&t);
    hk_text_put(&t, "hakmem:      size    slabs       live   cached  parcels     free    live bytes\n");
    for (unsigned c = 0; c < HK_VIEW_CLASSES; c++)
        if (view.class[c].slabs)
            print_class(&t, &view.class[c]);
    hk_text_flush(&t);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void json_pair(struct hk_text *t, const char *name, uint64_t value, bool first)
{
    hk_text_put(t, first ? "\"" : ",\"");
    hk_text_put(t, name);
    hk_text_put(t, "\":");
    hk_text_number(t, value);
}

static void json_class(struct hk_text *t, const hak_stats_class_t *row, bool first)
{
    hk_text_put(t, first ? "\n{" : ",\n{");
    json_pair(t, "size", row->size, true);
    json_pair(t, "slab_bytes", row->slab_bytes, false);
    json_pair(t, "slots", row->slots, false);
    json_pair(t, "slabs", row->slabs, false);
    json_pair(t, "live", row->live, false);
    json_pair(t, "cached", row->cached, false);
    json_pair(t, "parcels", row->parcels, false);
    json_pair(t, "free", row->free, false);
    hk_text_char(t, '}');
}

void hk_export_json(hak_write_t *write, void *arg)
{
    struct hk_text t = {.used = 0, .write = write, .arg = arg};
    struct hk_view view;
    bool first = true;
    char mode[16];

    hk_export_view(&view, true);
    mode_name(mode);
    hk_text_put(&t, "{\"version\":\"");
    hk_text_put(&t, hk_export_version());
    hk_text_put(&t, "\",\"mode_name\":\"");
    hk_text_put(&t, mode);
    hk_text_put(&t, "\",\n");
    for (unsigned i = 0; i < HK_EXPORT_NR_MEMBERS; i++)
        json_pair(&t, hk_export_members[i].name, value_of(&view.total, &hk_export_members[i]), i == 0);
    hk_text_put(&t, ",\n\"classes\":[");
    for (unsigned c = 0; c < HK_VIEW_CLASSES; c++)
        if (view.class[c].slabs) {
            json_class(&t, &view.class[c], first);
            first = false;
        }
    hk_text_put(&t, "]}\n");
    hk_text_flush(&t);
}
