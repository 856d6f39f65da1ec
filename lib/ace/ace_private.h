// SPDX-License-Identifier: MIT
/* ace_private: big blocks (ace_big.c), for ace.c only. */
#ifndef HK_ACE_PRIVATE_H
#define HK_ACE_PRIVATE_H

#include "ace/ace.h"

enum hk_big_state { HK_BIG_DEAD, HK_BIG_LIVE };

/*
 * mapping:  | colour | block ........................... |   base 16 KiB-aligned, bytes a multiple of it
 * A big block's descriptor; type-stable, in one global list for ever.
 */
struct hk_big {
    char *base;
    size_t bytes;             /* of the mapping; changed by the block's owner */
    uint32_t offset;          /* of the block */
    uint32_t state;           /* LIVE -> DEAD by compare-and-swap */
    const void *site;
    struct hk_big *next_free; /* under the lock */
    struct hk_big *next_ever; /* constant once linked */
};

void hk_big_init(void);
void *hk_big_alloc(size_t n, size_t align, const void *site, bool *zero);
bool hk_big_kill(struct hk_big *big);
void hk_big_release(struct hk_big *big); /* after a successful kill */
/* In place only. */
bool hk_big_resize(struct hk_big *big, size_t n);
/* The new address; NULL: unchanged. Moves pages, not bytes. */
void *hk_big_move(struct hk_big *big, size_t n);
/* Live block whose mapping covers p, or NULL. Diagnostics only: walks a list. */
struct hk_big *hk_big_covering(const void *p);
size_t hk_big_live_bytes(void);
size_t hk_big_resident_bytes(void); /* of live blocks; walks a list */
extern struct hk_lock hk_big_lock; /* for fork only */
void hk_big_forget(void);          /* in a fork child: the free descriptors are lost */

HK_INLINE void *hk_big_start(const struct hk_big *big)
{
    return big->base + big->offset;
}

HK_INLINE size_t hk_big_usable(const struct hk_big *big)
{
    return big->bytes - big->offset;
}

#endif
