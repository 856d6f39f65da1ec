// SPDX-License-Identifier: MIT
/*
 * arena: runs of granules from 64 KiB to HK_ARENA_MAX, out of one address space in which free neighbours
 * join; the source of memory for l25 runs and for most big blocks.
 *
 *   | live run | dirty extent | clean extent | live run | clean extent |    granules, any number of mappings
 *
 * What is free is described by extents. Two free neighbours of one kind are always one extent: dirty (may
 * hold stale content and resident pages) or clean (reads as zero, costs address space only). Every extent
 * carries its address in the page map at its first and last granule (HK_PM_FREE), so that a neighbour is
 * found by one look-up, whichever mapping it came from. Extents hang in bins by size.
 *
 * A request takes the tightest dirty extent, else a dirty one together with its clean neighbours, else the
 * tightest clean one, else a new mapping. What is expected to grow is placed at the start of the largest
 * extent that has room, or in its middle where what lies before it may grow too.
 *
 * Memory goes back least recently freed first, in pieces of at least 1 MiB, outside the lock; a range the
 * kernel works on is in no bin. Clean address space beyond a bound is unmapped. A range that the kernel
 * refuses to unmap stays clean.
 *
 * Invariants (hk_arena_check): used + dirty + clean + busy + lost == mapped; dirty and clean are the sums over the
 * extents of that kind; no two neighbouring extents are of one kind; each hangs in the bin of its size
 * and both its ends are marked.
 *
 * In a fork child an extent of an earlier generation may be half changed: nobody looks at it.
 *
 * Owner: one global under one lock (HK_RANK_ARENA). All calls from any thread. Failure: NULL or false and
 * nothing changed; hk_arena_release cannot fail: without a descriptor it unmaps, and what it cannot unmap
 * either is lost and counted.
 */
#ifndef HK_ARENA_H
#define HK_ARENA_H

#include "pagemap/pagemap.h"

#define HK_ARENA_MAX (64 * HK_MIB) /* larger blocks are mapped one by one */

struct hk_arena_stats {
    size_t mapped_bytes;
    size_t used_bytes;  /* handed out */
    size_t dirty_bytes; /* free, may hold stale content */
    size_t clean_bytes; /* free, reads as zero */
    size_t busy_bytes;  /* in the kernel's hands just now, or borrowed */
    size_t nr_maps;
    size_t nr_unmaps;
    size_t nr_purges; /* purge calls to the kernel */
    size_t nr_purged_bytes;
    size_t nr_mixed; /* requests met by a dirty extent and its clean neighbours */
    size_t nr_borrowed; /* pieces */
    size_t fresh_bytes; /* handed out with no page behind, ever */
    size_t lost_bytes;  /* of nobody: the kernel refused to take them, or a fork child could not tell */
};

/*
 * nr_granules > 0, base aligned to align_granules (power of two). *zero: the whole run reads as zero.
 * Page-map words: HK_PM_SPAN, the first one the caller's to set.
 */
void *hk_arena_acquire(size_t nr_granules, size_t align_granules, bool *zero);
/* With room behind it to grow into. NULL also when there is no extent of many times the size and making one
 * would leave much address space unused: then hk_arena_acquire. */
void *hk_arena_acquire_roomy(size_t nr_granules, bool *zero);
/* The same out of one dirty extent, three quarters of it at least; else NULL. */
void *hk_arena_acquire_dirty(size_t nr_granules, size_t align_granules);
/* Any part of what was acquired. `dirty` false: the range still reads as zero. */
void hk_arena_release(void *base, size_t nr_granules, bool dirty);
/* Takes the `more` granules right behind a run of nr_granules, if they are free. */
bool hk_arena_extend(void *base, size_t nr_granules, size_t more, bool *zero);
/* A mapping of the caller's becomes a dirty part of the arena. Its page-map leaf exists. False: still the
 * caller's. */
bool hk_arena_donate(void *base, size_t nr_granules);
/* An acquired range leaves the arena, because the caller is about to move its pages elsewhere; and comes
 * back, because he could not. */
void hk_arena_lend(void *base, size_t nr_granules);
void hk_arena_take_back(void *base, size_t nr_granules);

/*
 * Dirty ranges whose pages the caller moves elsewhere for a time, n granules together or nearly so, at most max
 * of them; 0: there are not enough. Their addresses stay the arena's, busy, until each is returned: with
 * its pages (dirty), or as fresh ones.
 */
struct hk_arena_piece {
    char *base;
    size_t n; /* granules */
};
unsigned hk_arena_borrow(struct hk_arena_piece *piece, unsigned max, size_t n);
void hk_arena_return(const struct hk_arena_piece *piece, bool dirty);
/* Nobody knows what is there by now: never used again. */
void hk_arena_lose(const struct hk_arena_piece *piece);

/* Purges what has been dirty for delay_ns; returns bytes given back. */
size_t hk_arena_purge_expired(uint64_t now_ns, uint64_t delay_ns);
/* Purges until at most keep_bytes are dirty. */
size_t hk_arena_purge_to(size_t keep_bytes);
/* Unmaps clean extents, largest first, until at most keep_bytes are clean. Above 0 it leaves extents below
 * 1 MiB alone, which would cost the kernel one mapping each. */
void hk_arena_unmap_to(size_t keep_bytes);

size_t hk_arena_dirty_bytes(void); /* relaxed; for thresholds */
/* Where the page before may not be touched, as long as that mapping lasts; NULL: nowhere. */
const char *hk_arena_behind_fence(void);
size_t hk_arena_used_bytes(void);
size_t hk_arena_fresh_bytes(void); /* relaxed */
const struct hk_arena_stats *hk_arena_counters(void); /* relaxed */
void hk_arena_stats(struct hk_arena_stats *out);
void hk_arena_check(void);
extern struct hk_lock hk_arena_lock; /* for fork only */
/* In a fork child, lock held: what threads that are gone were purging is dirty. */
void hk_arena_inherit(void);
/* In a fork child, when a thread that is gone was changing it: what was free is lost. */
void hk_arena_forget(void);

#endif
