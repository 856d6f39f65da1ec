// SPDX-License-Identifier: MIT
/*
 * large: what the profile of call sites knows of blocks above 64 KiB.
 *
 * Calls.  All are counted. They are gathered in the heap, a run of calls from one site at a time (site_pending), so
 *         that the shared table is touched once for many; malloc_run adds to it without leaving the fast path.
 * Ends.   The first 32 calls of a tick (20 ms) take the slow path and are followed: the block has a sample in the
 *         table of records, and its end comes to us, because a followed run seems to fit no cache (l25.h) and big
 *         blocks are freed slowly anyway. As long as no more come, what the table says is exact. Beyond, calls of one
 *         site that the fast path serves form a group, and the slow one that ends it stands for it: the first would be
 *         dead before the group is told, and a ring of buffers would seem to hold nothing. Groups grow twofold after
 *         each 32 samples of a tick, and shrink when there are few; their lengths are random. A slow call that ends no
 *         whole group is followed by chance, one in 16 at most. When 4096 are alive so are all; when 8192 are, one in
 *         256. What is left of a group when another site calls is of the sample before it.
 * Moves.  realloc takes the sample from one address to the other: to the profile it is one block that grew.
 *
 * Owner, threads: the heap's owner, inside slow sections; a block's end, any thread. Locks: none. Failure: without a
 * record the calls count, and what becomes of them is not known. Nothing is followed with prof off or secure on.
 */
#ifndef HK_ENTRY_LARGE_H
#define HK_ENTRY_LARGE_H

#include "ace/ace.h"

#define HK_MAX_PENDING_SITES 307 /* calls in a group, on average */

HK_INLINE void hk_entry_add_pending(struct hk_heap *heap, size_t n)
{
    heap->site_pending.nr_allocs++;
    heap->site_pending.bytes += n;
    if (n > heap->site_pending.max_bytes)
        heap->site_pending.max_bytes = n;
}

/* A slow call returned p, of n bytes. heap may be NULL. */
void hk_entry_note_large(struct hk_heap *heap, void *p, size_t n, const void *site);
/* p, which hk_ace_follows, is about to be freed. */
void hk_entry_large_freed(struct hk_heap *heap, const void *p);
/* hk_ace_realloc of any block above 64 KiB, or to more than that. */
void *hk_entry_large_realloc(struct hk_heap *heap, void *p, size_t n, const void *site);

#endif
