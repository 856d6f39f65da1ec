// SPDX-License-Identifier: MIT
#include "metrics.h"

#include <string.h>

#define M(member, kind, group, help)                                                               \
    {                                                                                              \
#        member, offsetof(hak_stats_t, member), HAK_KIND_##kind, METRIC_##group, help              \
    }

const struct metric metrics[] = {
    M(mapped, BYTES, IDENTITY, "address space taken from the kernel"),
    M(live, BYTES, IDENTITY, "blocks the program holds, rounded up to their class"),
    M(cached, BYTES, IDENTITY, "free blocks kept for the next call"),
    M(slab_free, BYTES, IDENTITY, "free blocks in slabs, and tails that no block fits in"),
    M(dirty, BYTES, IDENTITY, "free memory that the kernel will get"),
    M(purged, BYTES, IDENTITY, "free address space without memory behind it"),
    M(metadata, BYTES, IDENTITY, "the library's own: page map, descriptors, heaps"),
    M(live_small, BYTES, LIVE, "blocks up to 64 KiB, in slabs"),
    M(live_runs, BYTES, LIVE, "blocks up to the mapping threshold"),
    M(live_big, BYTES, LIVE, "blocks with a mapping of their own"),
    M(live_blocks, GAUGE, LIVE, "number of blocks of all three kinds"),
    M(cached_magazines, BYTES, CACHED, "in threads' magazines"),
    M(cached_parcels, BYTES, CACHED, "freed by another thread, on the way home"),
    M(cached_runs, BYTES, CACHED, "runs kept by threads and shards"),
    M(cached_big, BYTES, CACHED, "mappings kept by the big cache"),
    M(slab_tails, BYTES, CACHED, "of slab_free: what no block can use"),
    M(pending, BYTES, CACHED, "of dirty: mappings that wait for their munmap"),
    M(refill_popped, COUNTER, REFILL, "the magazine was not empty: fast paths were off"),
    M(refill_drained, COUNTER, REFILL, "served by other threads' frees that came home"),
    M(refill_larger, COUNTER, REFILL, "served by a cached block of a larger class"),
    M(refill_current, COUNTER, REFILL, "from the slab in use"),
    M(refill_partial, COUNTER, REFILL, "from another slab of the heap"),
    M(refill_depot, COUNTER, REFILL, "from a slab that an idle class published"),
    M(refill_parked, COUNTER, REFILL, "from a slab that another thread left or could spare"),
    M(refill_new, COUNTER, REFILL, "from a new slab"),
    M(refill_single, COUNTER, REFILL, "one block, no magazine could be had"),
    M(refill_failed, COUNTER, REFILL, "out of memory"),
    M(refills, COUNTER, REFILL, "magazines filled from slabs"),
    M(flushes, COUNTER, REFILL, "magazines that were full when a block was freed"),
    M(idle_flushes, COUNTER, REFILL, "magazines emptied because nobody used them"),
    M(magazines_grown, COUNTER, REFILL, "magazines given more room"),
    M(magazines_shrunk, COUNTER, REFILL, "magazines given less room"),
    M(slabs_acquired, COUNTER, REFILL, "slabs made"),
    M(slabs_retired, COUNTER, REFILL, "slabs given up"),
    M(slabs_published, COUNTER, REFILL, "slabs that idle classes gave up"),
    M(remote_frees, COUNTER, REMOTE, "blocks freed by a thread that does not own them"),
    M(parcels_sent, COUNTER, REMOTE, "batches of such blocks sent"),
    M(parcels_drained, COUNTER, REMOTE, "batches that arrived"),
    M(remote_forwarded, COUNTER, REMOTE, "the slab had changed hands meanwhile"),
    M(remote_lost, COUNTER, REMOTE, "blocks leaked: no memory to note what a handler freed"),
    M(run_hits_cache, COUNTER, RUNS, "runs from the thread's own cache"),
    M(run_hits_shard, COUNTER, RUNS, "runs from the shared cache"),
    M(run_hits_larger, COUNTER, RUNS, "of both: a run of a larger class"),
    M(run_misses, COUNTER, RUNS, "new runs"),
    M(run_bundled, COUNTER, RUNS, "runs made ahead at a miss"),
    M(run_released, COUNTER, RUNS, "runs given up"),
    M(big_hits_site, COUNTER, BIG, "big blocks from the ring of their call site"),
    M(big_hits_shared, COUNTER, BIG, "big blocks from the shared ring"),
    M(big_hits_part, COUNTER, BIG, "big blocks cut from or grown out of a kept one"),
    M(big_misses, COUNTER, BIG, "big blocks that took a new mapping"),
    M(big_puts, COUNTER, BIG, "big blocks kept at free"),
    M(big_evictions_age, COUNTER, BIG, "kept mappings that were unused for too long"),
    M(big_evictions_budget, COUNTER, BIG, "kept mappings beyond the budget"),
    M(purge_calls, COUNTER, KERNEL, "calls that gave memory back"),
    M(purged_bytes_total, BYTES_TOTAL, KERNEL, "bytes given back, ever"),
    M(regions, GAUGE, KERNEL, "2 MiB regions mapped now"),
    M(regions_unmapped, COUNTER, KERNEL, "regions unmapped"),
    M(batch_queued, COUNTER, KERNEL, "mappings queued for munmap"),
    M(batch_immediate, COUNTER, KERNEL, "mappings unmapped at once"),
    M(batch_flushes, COUNTER, KERNEL, "batches handed to the kernel"),
    M(batch_unmaps, COUNTER, KERNEL, "munmap calls of batches"),
    M(batch_refused, COUNTER, KERNEL, "munmap calls that the kernel refused"),
    M(heaps, GAUGE, PROCESS, "heaps ever made; they are reused"),
    M(heaps_active, GAUGE, PROCESS, "heaps with a thread"),
    M(size_mismatches, COUNTER, PROCESS, "sized frees whose size did not fit the block"),
    M(guard_samples, COUNTER, PROCESS, "guarded blocks, ever"),
    M(guard_live, GAUGE, PROCESS, "guarded blocks in use"),
    M(guard_refused, COUNTER, PROCESS, "guarded blocks for which there was no slot or no memory"),
    M(huge_bytes, BYTES, KERNEL, "dense regions that may be made of huge pages (option thp)"),
    M(huge_promoted, COUNTER, KERNEL, "times that a region became one of these"),
    M(huge_demoted, COUNTER, KERNEL, "times that one was to be small pages again, or unmapped"),
};
const unsigned nr_metrics = sizeof metrics / sizeof *metrics;

const char *const metric_group_titles[NR_METRIC_GROUPS] = {
    "Where the address space is",
    "Live, by kind",
    "Kept, by place",
    "Refills of magazines",
    "Frees of other threads' blocks",
    "Runs (64 KiB to the mapping threshold)",
    "Big mappings",
    "The way back to the kernel",
    "Process",
};

uint64_t metric_value(const hak_stats_t *total, const struct metric *metric)
{
    uint64_t value;

    memcpy(&value, (const char *)total + metric->offset, sizeof value);
    return value;
}

void metric_set(hak_stats_t *total, const struct metric *metric, uint64_t value)
{
    memcpy((char *)total + metric->offset, &value, sizeof value);
}

const struct metric *metric_find(const char *name)
{
    for (unsigned i = 0; i < nr_metrics; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return &metrics[i];
    return NULL;
}

bool metric_is_bytes(const struct metric *metric)
{
    return metric->kind == HAK_KIND_BYTES || metric->kind == HAK_KIND_BYTES_TOTAL;
}

bool metric_is_counter(const struct metric *metric)
{
    return metric->kind == HAK_KIND_COUNTER || metric->kind == HAK_KIND_BYTES_TOTAL;
}

const char *mode_name(uint64_t mode)
{
    static const char *const names[] = {"minimal", "fast", "balanced", "learning", "research"};

    return mode < sizeof names / sizeof *names ? names[mode] : "?";
}
