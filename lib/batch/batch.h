// SPDX-License-Identifier: MIT
/*
 * batch: mappings that are to go back to the kernel, gathered and unmapped together.
 *
 * Boxes that evict a mapping hand it over here and forget it. The queue is emptied when it is full,
 * when it holds more than HK_BATCH_MAX_BYTES, on a tick, and under memory pressure; neighbours are
 * merged into one munmap. System calls are made outside the lock. A range that the kernel refuses to
 * unmap (its table of mappings is full) stays in the queue, purged, and is tried again.
 *
 * Owner: one global under one lock (HK_RANK_BATCH). Failure: none; without room the range is unmapped
 * at once, and if that fails as well it is leaked and counted.
 * Invariant (hk_batch_check): sum of the queued bytes == pending_bytes.
 */
#ifndef HK_BATCH_H
#define HK_BATCH_H

#include "base/base.h"
#include "sync/lock.h"

#define HK_BATCH_SLOTS 64
#define HK_BATCH_MAX_BYTES (64 * HK_MIB)

struct hk_batch_counters {
    size_t nr_queued;     /* ranges that came through the queue */
    size_t nr_immediate;  /* ranges unmapped at once: batching is off */
    size_t nr_flushes;
    size_t nr_unmaps;     /* munmap calls that succeeded */
    size_t nr_refused;    /* munmap calls that failed */
    size_t nr_lost_bytes;
    size_t pending_bytes; /* in the queue now */
};

/* enabled false: unmaps at once. */
void hk_batch_unmap(void *base, size_t bytes, bool enabled);
void hk_batch_flush(void);
size_t hk_batch_pending_bytes(void);
const struct hk_batch_counters *hk_batch_counters(void);
extern struct hk_lock hk_batch_lock; /* for fork only */
/* In a fork child, when a thread that is gone was changing it: what is queued is lost. */
void hk_batch_forget(void);
void hk_batch_check(void);

#endif
