// SPDX-License-Identifier: MIT
#include "batch/batch.h"

#include "base/panic.h"
#include "os/os.h"
#include "sync/atomic.h"

struct range {
    char *base;
    size_t bytes;
};

static HK_LARGE_BSS struct {
    struct range queue[HK_BATCH_SLOTS];
    unsigned nr;
    struct hk_batch_counters counters; /* written under the lock, read relaxed */
} batch;

struct hk_lock hk_batch_lock = HK_LOCK_INIT(HK_RANK_BATCH);

static void count(size_t *field, size_t n)
{
    hk_store_relaxed(field, *field + n);
}

static bool enqueue_locked(char *base, size_t bytes)
{
    if (batch.nr == HK_BATCH_SLOTS)
        return false;
    batch.queue[batch.nr++] = (struct range){base, bytes};
    count(&batch.counters.pending_bytes, bytes);
    return true;
}

static void sort_by_address(struct range *r, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        struct range x = r[i];
        unsigned j = i;
        for (; j > 0 && r[j - 1].base > x.base; j--)
            r[j] = r[j - 1];
        r[j] = x;
    }
}

static unsigned merge_neighbours(struct range *r, unsigned n)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        if (kept && r[kept - 1].base + r[kept - 1].bytes == r[i].base)
            r[kept - 1].bytes += r[i].bytes;
        else
            r[kept++] = r[i];
    }
    return kept;
}

/* What could not be unmapped goes back into the queue: its pages at least are dropped. */
static void unmap_or_keep(const struct range *r)
{
    bool gone = hk_os_release(r->base, r->bytes), kept = true;

    if (!gone)
        hk_os_purge(r->base, r->bytes);
    hk_lock(&hk_batch_lock);
    if (!gone)
        kept = enqueue_locked(r->base, r->bytes);
    count(gone ? &batch.counters.nr_unmaps : &batch.counters.nr_refused, 1);
    if (!kept)
        count(&batch.counters.nr_lost_bytes, r->bytes);
    hk_unlock(&hk_batch_lock);
}

void hk_batch_flush(void)
{
    struct range todo[HK_BATCH_SLOTS];
    unsigned n;

    if (hk_load_relaxed(&batch.counters.pending_bytes) == 0)
        return;
    hk_lock(&hk_batch_lock);
    n = batch.nr;
    for (unsigned i = 0; i < n; i++)
        todo[i] = batch.queue[i];
    batch.nr = 0;
    hk_store_relaxed(&batch.counters.pending_bytes, (size_t)0);
    count(&batch.counters.nr_flushes, n != 0);
    hk_unlock(&hk_batch_lock);
    sort_by_address(todo, n);
    n = merge_neighbours(todo, n);
    for (unsigned i = 0; i < n; i++)
        unmap_or_keep(&todo[i]);
}

void hk_batch_unmap(void *base, size_t bytes, bool enabled)
{
    struct range r = {base, bytes};
    bool queued = false, full;

    hk_lock(&hk_batch_lock);
    if (enabled)
        queued = enqueue_locked(base, bytes);
    count(queued ? &batch.counters.nr_queued : &batch.counters.nr_immediate, 1);
    full = batch.nr == HK_BATCH_SLOTS || batch.counters.pending_bytes > HK_BATCH_MAX_BYTES;
    hk_unlock(&hk_batch_lock);
    if (!queued)
        unmap_or_keep(&r);
    if (full)
        hk_batch_flush();
}

size_t hk_batch_pending_bytes(void)
{
    return hk_load_relaxed(&batch.counters.pending_bytes);
}

const struct hk_batch_counters *hk_batch_counters(void)
{
    return &batch.counters;
}

void hk_batch_forget(void)
{
    batch.nr = 0;
    hk_store_relaxed(&batch.counters.pending_bytes, (size_t)0);
}

void hk_batch_check(void)
{
    size_t bytes = 0;

    hk_lock(&hk_batch_lock);
    for (unsigned i = 0; i < batch.nr; i++)
        bytes += batch.queue[i].bytes;
    if (bytes != batch.counters.pending_bytes)
        hk_panic_internal("batch: pending bytes", NULL);
    hk_unlock(&hk_batch_lock);
}
