// SPDX-License-Identifier: MIT
/* ace_private: big blocks (ace_big.c), for ace.c only. */
#ifndef HK_ACE_PRIVATE_H
#define HK_ACE_PRIVATE_H

#include "ace/ace.h"
#include "arena/arena.h"
#include "bigcache/bigcache.h"
#include "l25/l25.h"
#include "os/os.h"

enum hk_big_state { HK_BIG_DEAD, HK_BIG_LIVE };

#define HK_LOAN_PIECES 8

/* Dirty pages of the arena in a big block's own mapping, from its base on (ace_loan.c). */
struct hk_loan {
    unsigned nr;
    struct hk_arena_piece piece[HK_LOAN_PIECES];
};

#define HK_BIG_GUARD_MIN (2 * HK_MIB)

/*
 * range:  | colour | block .................... | page |   base 16 KiB-aligned, bytes a multiple of it
 * The page is there in ranges of at least HK_BIG_GUARD_MIN, and nobody's: a guard page where the kernel has them.
 * A big block's descriptor; type-stable, in one global list for ever.
 */
struct hk_big {
    char *base;
    size_t bytes;             /* of the range; changed by the block's owner */
    uint32_t offset;          /* of the block */
    uint32_t state;           /* LIVE -> DEAD by compare-and-swap */
    uint8_t arena;            /* the range is the arena's; else a mapping of its own */
    uint8_t guarded;          /* the range ends in a guard page */
    uint8_t repeats;          /* its site asked for the same size before */
    uint8_t followed;         /* the profile wants to hear of its end */
    const void *site;
    struct hk_loan *loan;     /* of a mapping of its own; else NULL */
    struct hk_big *next_free; /* under the lock */
    struct hk_big *next_ever; /* constant once linked */
};

void hk_big_init(void);
/* roomy: where it can grow, or NULL. */
void *hk_big_alloc(size_t n, size_t align, const void *site, bool roomy, bool *zero);
bool hk_big_kill(struct hk_big *big);
void hk_big_release(struct hk_big *big); /* after a successful kill */
/* In place only. */
bool hk_big_resize(struct hk_big *big, size_t n);
/* The new address, in a mapping of its own; NULL: unchanged. Moves pages, not bytes. */
void *hk_big_move(struct hk_big *big, size_t n);
/* A live run outgrew its place: the same for it. NULL: unchanged, or too small to be worth it. */
void *hk_big_from_run(struct hk_run *run, size_t n, const void *site);
/* Live block whose range covers p, or NULL. Diagnostics only: walks a list. */
struct hk_big *hk_big_covering(const void *p);
size_t hk_big_resident_bytes(void); /* of live mappings of their own, and where a block of the arena starts; walks a list */
/* A range that bigcache lets go. */
void hk_big_evict(const struct hk_big_range *range, void *arg);
/* target: a fresh mapping, which becomes the loan's or is given back (NULL). */
/* No page of the arena's is among the last `spare` bytes. */
struct hk_loan *hk_loan_take(char *target, size_t bytes, size_t spare);
/* The loan ends, and so does the mapping. */
void hk_loan_repay(struct hk_loan *loan, char *base, size_t bytes);
extern struct hk_lock hk_big_lock; /* for fork only */
void hk_big_forget(void);          /* in a fork child: the free descriptors are lost */

/* ace_trim.c: the bound of the library's promise. heap: the caller's or NULL. */
void hk_ace_trim_if_over(struct hk_heap *heap);

HK_INLINE void *hk_big_start(const struct hk_big *big)
{
    return big->base + big->offset;
}

/* At the end of a range, for a guard page, whether there is one or not. */
HK_INLINE size_t hk_big_guard_bytes(size_t range_bytes)
{
    return range_bytes >= HK_BIG_GUARD_MIN ? hk_os_page_bytes() : 0;
}

HK_INLINE size_t hk_big_usable(const struct hk_big *big)
{
    return big->bytes - big->offset - hk_big_guard_bytes(big->bytes);
}

#endif
