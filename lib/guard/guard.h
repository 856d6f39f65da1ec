// SPDX-License-Identifier: MIT
/*
 * guard: a few blocks, each in a page of its own between pages that nobody may touch. A write or read
 * beyond such a block ends there and then, and so does a use after free, for as long as the slot rests.
 *
 *   region:  | none | page 0 | none | page 1 | none | ... | page 63 | none |
 *   page:    | pattern ......... | block | pattern |    the block ends at the end, but for its alignment
 *            | block | pattern ................... |    every fourth: it starts at the start
 *
 * What the page has besides the block is filled with a pattern, verified when the block is freed. A freed slot is
 * closed and taken again after all others that are free: first in, first out.
 *
 * It does not choose which allocations come here (entry/guard.c), and says nothing itself: what is known of a slot
 * can be read, also by a signal handler and in a core dump (hk_guard_slots).
 *
 * The region is mapped at the first block and never unmapped; its page-map word is HK_PM_GUARD throughout.
 *
 * A slot: FREE -> BUSY -> LIVE -> BUSY -> DEAD -> BUSY ...; whoever moved it to BUSY owns it (CAS acquire GD1,
 * store release GD2). Threads: any, at any time. Locks: none. System calls: mmap once, mprotect and
 * madvise per block. Failure: NULL; a page that the kernel will not close stays open, and is DEAD all the same.
 */
#ifndef HK_GUARD_H
#define HK_GUARD_H

#include "pagemap/pagemap.h"

#define HK_GUARD_SLOTS 64

enum hk_guard_state { HK_GUARD_FREE, HK_GUARD_BUSY, HK_GUARD_LIVE, HK_GUARD_DEAD };

/* Written by who has it BUSY; read relaxed by anybody. */
struct hk_guard_slot {
    uint32_t state; /* enum hk_guard_state */
    uint32_t bytes; /* of the block; all of them usable */
    uint32_t asked; /* of the request; less where alignment gave more, or realloc in place took less */
    uint32_t origin; /* what the user of this box notes; 0 at first */
    char *start;    /* NULL: the slot was never used */
    const void *alloc_site, *free_site; /* return addresses; free_site NULL while live */
    uint32_t alloc_thread, free_thread; /* the kernel's ids; 0: unknown */
    uint64_t freed_at; /* number of the free, 1, 2, ...; 0: never */
};

/* Relaxed adds. */
struct hk_guard_counters {
    size_t mapped_bytes; /* the regions; each 0 until its first block */
    size_t live_bytes;   /* pages of live blocks */
    size_t nr_live;
    size_t nr_samples;   /* blocks given, ever */
    size_t nr_refused;   /* not given: no slot, no memory */
};

extern struct hk_guard_slot hk_guard_slots[HK_GUARD_SLOTS];

/* Could such a block be had? n > 0. */
bool hk_guard_fits(size_t n, size_t align);
/* Zeroed. thread: the caller's kernel id. NULL: none to be had, now or for such a request. */
void *hk_guard_alloc(size_t n, size_t align, const void *site, unsigned thread);

/* Does p lie in the region? Async-signal-safe. */
bool hk_guard_contains(const void *p);
/* The slot whose page p lies in, or, for a forbidden page, whose block is nearest to it; NULL: that slot was never
 * used. p lies in the region. Async-signal-safe. */
const struct hk_guard_slot *hk_guard_nearest(const void *p);
/* The same, but NULL for a forbidden page. */
const struct hk_guard_slot *hk_guard_slot_at(const void *p);

/* p starts a live block, of the caller's. */
void hk_guard_set_origin(const void *p, unsigned origin);
void hk_guard_set_asked(const void *p, size_t n); /* n: at most its bytes */
/* False, and nothing happened: it was not live, or its page was written to outside the block, first at *damage (else
 * NULL). */
bool hk_guard_free(const struct hk_guard_slot *slot, const void *site, unsigned thread, const char **damage);

/*
 * Blocks of no size: addresses, each its own, that nobody may touch; 65536 at a time, in a region of 1 MiB whose
 * page-map word is HK_PM_EMPTY. NULL: hardly any left, or no memory. The next one is far from the last.
 */
void *hk_guard_alloc_empty(void);
/* p is a multiple of 16 in that region. */
bool hk_guard_empty_is_live(const void *p);
bool hk_guard_free_empty(const void *p); /* false: it was not live */

const struct hk_guard_counters *hk_guard_counters(void);
/* In a fork child, alone: what other threads were about to do is done. `inside`: the fork comes from a signal handler that
 * interrupted this box, maybe: then all stays as it is, for what is BUSY may be this thread's, which goes on with it. */
void hk_guard_fork_child(bool inside);
void hk_guard_check(void);

#endif
