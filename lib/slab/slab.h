// SPDX-License-Identifier: MIT
/*
 * slab: one run of granules cut into blocks of one class, with its descriptor elsewhere.
 *
 *   span:   | block 0 | block 1 | ...            | tail |     (slab_mask + 1 bytes, aligned to that)
 *   meta:   struct hk_slab: counts, links, one bit per block (1 = free)
 *
 * A block whose bit is 0 is "out": live in the program, or dead in some magazine or batch. Bits change
 * only when blocks move between a slab and a heap (refill, flush), never on malloc or free.
 *
 * Owner: slab->owner; only the owner's thread, or whoever holds a parked owner's lock, touches the rest.
 * The page map learns of a granule when the first block that touches it leaves: until then the granule
 * is span's, and a pointer into it is nobody's block.
 * Invariants (hk_slab_check): nr_free == number of set bits >= nr_slots - carved; no bit at or above
 * nr_slots; page-map word == slab->word and desc == the slab in granules reached, HK_PM_SPAN in others.
 * Failure: hk_slab_acquire returns NULL.
 */
#ifndef HK_SLAB_H
#define HK_SLAB_H

#include "size/size.h"
#include "span/span.h"

#define HK_SLAB_WORDS 16 /* 1024 blocks of 16 bytes in 16 KiB */

struct hk_slab {
    uintptr_t base;           /* constant while acquired, as are class and nr_slots */
    void *owner;              /* struct hk_heap *; changed by the owner, read relaxed by drainers */
    struct hk_slab *next, *prev; /* owner's list of slabs with free blocks */
    struct hk_region *home;
    uintptr_t word;           /* owner's page-map word */
    uint8_t class;
    bool listed;         /* in the owner's list */
    uint16_t nr_slots;
    uint16_t nr_free;
    uint16_t first_word; /* no free bit in the words below: where take() starts */
    uint16_t carved;     /* blocks from here on never left */
    uint16_t marked;     /* slots from here on never carried a mark; >= carved unless the slab is used up */
    uint32_t serial;     /* of the slabs acquired, ever; wraps. Constant while acquired */
    uint64_t free_bits[HK_SLAB_WORDS]; /* only the words that nr_slots needs are allocated */
};

/*
 * The mark of a dead block: the class's secret reciprocal in the block's second word (heap.h). A block gets
 * it when it is freed. Blocks up to 2 KiB get it as soon as a block of their page leaves the slab; of larger
 * ones the first that never left (or the unused tail) has it, so that a pointer one past a live block finds
 * a mark.
 */
HK_INLINE uint64_t *hk_mark_of(void *p)
{
    return (uint64_t *)p + 1;
}

/* A slab of free blocks whose granules will carry `word` in the page map. */
struct hk_slab *hk_slab_acquire(unsigned class, uintptr_t word, void *owner);
/* All blocks are free. */
void hk_slab_retire(struct hk_slab *slab);
/* Hands the slab to another owner. */
void hk_slab_set_owner(struct hk_slab *slab, uintptr_t word, void *owner);
/* Up to n free blocks in address order; returns how many: at least one if n and nr_free are not 0. */
unsigned hk_slab_take(struct hk_slab *slab, void **blocks, unsigned n);
/* False, and nothing changed: the block is free already, or p does not start a block. */
bool hk_slab_give(struct hk_slab *slab, void *p);
/* The same of the block in this slot. */
HK_INLINE bool hk_slab_give_slot(struct hk_slab *slab, unsigned slot)
{
    uint64_t *word = &slab->free_bits[slot / 64], bit = UINT64_C(1) << (slot % 64);

    if (HK_UNLIKELY(slot >= slab->nr_slots || *word & bit))
        return false;
    hk_store_relaxed(word, *word | bit);
    slab->nr_free++;
    if (slot / 64 < slab->first_word)
        slab->first_word = (uint16_t)(slot / 64);
    return true;
}

/*
 * A look at a used granule of a region and what the page map describes it by, a slab, under hk_span_lock: is every page of it in
 * memory, because blocks of at most 2 KiB left it, which are marked? A slab that is about to retire waits for the lock; one that
 * is being made may be seen half: the answer is a hint.
 */
bool hk_slab_fills(const void *desc, const void *granule);

/*
 * In a fork child: a thread that is gone was taking blocks from the slab, giving some back or linking it, and may have stopped between any
 * two instructions. The bits count; a block on its way is out. In no list afterwards.
 */
void hk_slab_mend(struct hk_slab *slab);

/* Relaxed look from any thread, for diagnostics: is the block of this address free in its slab? */
bool hk_slab_block_is_free(const struct hk_slab *slab, const void *p);

HK_INLINE struct hk_slab *hk_slab_of(const void *p)
{
    return (struct hk_slab *)hk_pagemap_desc(p);
}

void hk_slab_check(const struct hk_slab *slab);

#endif
