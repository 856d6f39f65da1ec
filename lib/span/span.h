// SPDX-License-Identifier: MIT
/*
 * span: runs of granules (16 KiB) inside regions; the one source of memory for slabs. (Larger blocks: arena.)
 *
 * A region is one mapping: 2 MiB, 2 MiB-aligned; the first one of a process is small and unaligned, so
 * that "transparent huge pages: always" cannot make it 2 MiB resident; near a limit it is as small as
 * the request. Regions hang in bins by their longest free run and a request takes the tightest bin
 * first, so that full regions fill up and sparse ones drain.
 *
 * A granule is used, or free and clean (reads as zero), or free and dirty. Dirty granules are handed to
 * the kernel after a delay, oldest region first, outside the lock: while the kernel works on them they
 * count as used. A region that is wholly free for that long is unmapped.
 *
 * Regions are told to have no huge pages. A dense one, to which nothing came back for some seconds, is promoted: the
 * kernel may make a huge page of it, in its own time. At most HK_REGION_SLACK of its granules are free then, and that many
 * may be from then on: they are not purged, since that would break the huge page. With more of them free it is
 * demoted, after the delay, and purged. So promoted regions hold at most a sixteenth more than what is used of them.
 *
 * Invariants (hk_span_check): for each region, dirty & used == 0; longest == longest run of zeros in
 * used; sum over regions of dirty granules == dirty_bytes; used_bytes + dirty_bytes <= mapped_bytes; promoted regions
 * == huge_bytes; in each of these no granule is free and clean.
 *
 * Owner: one global under one lock (HK_RANK_SPAN). Failure: NULL or false; nothing changed.
 */
#ifndef HK_SPAN_H
#define HK_SPAN_H

#include "pagemap/pagemap.h"
#include "sync/lock.h"

#define HK_REGION_BYTES (2 * HK_MIB)
#define HK_REGION_GRANULES (HK_REGION_BYTES / HK_GRANULE)
#define HK_REGION_SLACK (HK_REGION_GRANULES / 16)

struct hk_span_stats {
    size_t mapped_bytes; /* all regions */
    size_t used_bytes;   /* handed out */
    size_t dirty_bytes;  /* free, may hold stale content */
    size_t nr_regions;
    size_t nr_purges;    /* purge calls to the kernel */
    size_t nr_purged_bytes;
    size_t nr_unmaps;
    size_t fresh_bytes;  /* handed out clean: pages that will fault in */
    size_t huge_bytes;   /* of promoted regions */
    size_t nr_promoted;
    size_t nr_demoted;
};

struct hk_region; /* opaque; the holder of a run keeps its region's address */

/*
 * nr_granules <= HK_REGION_GRANULES, base aligned to align_granules (power of two, <= 128). *zero: the
 * whole run reads as zero. *home: the region, for the calls below. The page-map words of the run stay
 * HK_PM_SPAN until the caller sets them.
 */
void *hk_span_acquire(size_t nr_granules, size_t align_granules, bool *zero,
                      struct hk_region **home);
/* Sets the words back to HK_PM_SPAN. Any part of what was acquired may be released. `dirty` false: the
 * range still reads as zero. */
void hk_span_release(struct hk_region *home, void *base, size_t nr_granules, bool dirty);

/* Purges what has been dirty for delay_ns; returns bytes given back. */
size_t hk_span_purge_expired(uint64_t now_ns, uint64_t delay_ns);
/* Purges oldest first until at most keep_bytes are dirty. 0: also what the kernel refused to take before. */
size_t hk_span_purge_to(size_t keep_bytes);

/*
 * Looks at a few regions and promotes one at most; where the policy takes huge pages back, demotes one. One system call, outside
 * the lock. is_filled, called with the lock held for a used granule that somebody described in the page map: is every page of it in
 * memory? True: it did, there may be more.
 */
bool hk_span_promote(uint64_t now_ns, bool (*is_filled)(const void *desc, const void *granule));

size_t hk_span_dirty_bytes(void); /* relaxed; for thresholds */
size_t hk_span_used_bytes(void);
/* Without the lock: fields may be some steps apart, but used_bytes <= mapped_bytes. */
void hk_span_stats(struct hk_span_stats *out);
const struct hk_span_stats *hk_span_counters(void); /* where they lie; each by itself */
void hk_span_check(void);
extern struct hk_lock hk_span_lock; /* for fork only */
/* In a fork child. inherit: what threads that are gone were purging is dirty again. forget: one of them was
 * changing the lists: regions of before are never used again, and what is released into them is lost. */
void hk_span_inherit(void);
void hk_span_forget(void);

#endif
