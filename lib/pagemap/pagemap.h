// SPDX-License-Identifier: MIT
/*
 * pagemap: address -> who owns it, for every granule (16 KiB) of the address space.
 *
 * Two words per granule. The first, `word`, is what free() reads: the address of the owning heap's
 * record for the block's class when a slab lies there, else a small number (enum hk_pm_kind). The
 * second, `desc`, is for slow paths: the slab, run, big block or region.
 *
 *   address  | root index (18 bits) | granule in leaf (15 bits) | offset in granule (14 bits) |
 *
 * The root holds, for each 512 MiB, the distance from a leaf of zeros to the leaf in use. An untouched
 * root entry is 0 and so leads to the zero leaf: an address nobody gave us reads HK_PM_UNKNOWN without
 * a test for NULL. Root and zero leaf lie in .bss and cost address space only.
 *
 * Writers: whoever owns the granules (region, slab, run), one at a time; the words of a live block do
 * not change but by its owner. Readers: anybody, relaxed: a thread may only ask about a pointer it was
 * handed, and that handing over orders the write before the read.
 * Locks: none; a leaf is linked by compare-and-swap. Failure: hk_pagemap_cover() returns false.
 */
#ifndef HK_PAGEMAP_H
#define HK_PAGEMAP_H

#include "sync/atomic.h"

#define HK_GRANULE_SHIFT 14
#define HK_GRANULE ((size_t)1 << HK_GRANULE_SHIFT)
#define HK_LEAF_SHIFT 15
#define HK_LEAF_GRANULES ((size_t)1 << HK_LEAF_SHIFT)
#define HK_ROOT_SHIFT (HK_GRANULE_SHIFT + HK_LEAF_SHIFT)

#if defined(__x86_64__)
#define HK_ADDRESS_BITS 47 /* user half; higher only when a program asks mmap for it */
#elif UINTPTR_MAX > 0xffffffffu
#define HK_ADDRESS_BITS 48
#else
#define HK_ADDRESS_BITS 32
#endif
#define HK_ROOT_ENTRIES ((size_t)1 << (HK_ADDRESS_BITS - HK_ROOT_SHIFT))

/*
 * Words below HK_PM_KINDS are multiples of 8: as offsets into a heap they lead to what reads as a record that takes no pointer
 * (heap.h). All others are addresses of class records, but for HK_PM_SAMPLED, which has a class in the bits above.
 */
#define HK_PM_KIND_SHIFT 3
enum hk_pm_kind {
    HK_PM_UNKNOWN,                        /* never ours */
    HK_PM_SPAN = 1 << HK_PM_KIND_SHIFT,   /* ours, not the start of a live block: desc is the region, NULL in the arena */
    HK_PM_FREE = 2 << HK_PM_KIND_SHIFT,   /* first or last granule of a free extent of the arena, desc: written under its lock */
    HK_PM_RUN = 3 << HK_PM_KIND_SHIFT,    /* first granule of an l25 run */
    HK_PM_BIG = 4 << HK_PM_KIND_SHIFT,    /* first granule of a big block */
    HK_PM_LOOSE = 5 << HK_PM_KIND_SHIFT,  /* first granule of a loose mapping: desc is its size in bytes */
    HK_PM_GONE = 6 << HK_PM_KIND_SHIFT,   /* was ours, given back to the system */
    HK_PM_GUARD = 7 << HK_PM_KIND_SHIFT,  /* any granule of the guard's region */
    HK_PM_EMPTY = 8 << HK_PM_KIND_SHIFT,  /* of its region for blocks of size 0 */
    HK_PM_SAMPLED = 9 << HK_PM_KIND_SHIFT, /* low bits of a slab whose blocks the profile follows (heap.h) */
    HK_PM_KINDS = 10 << HK_PM_KIND_SHIFT
};

struct hk_pm_leaf {
    uintptr_t word[HK_LEAF_GRANULES];
    void *desc[HK_LEAF_GRANULES];
};

struct hk_pagemap {
    uintptr_t leaf_distance[HK_ROOT_ENTRIES]; /* bytes from &zero to the leaf; 0 until covered */
    struct hk_pm_leaf zero;                   /* never written */
};

extern HK_HIDDEN struct hk_pagemap hk_pagemap;

/*
 * Root and zero leaf share one base register, which the compiler would otherwise compute twice: the empty
 * asm makes it forget that it knows the address.
 */
HK_INLINE struct hk_pm_leaf *hk_pagemap_leaf(uintptr_t address)
{
    struct hk_pagemap *map = &hk_pagemap;

    __asm__("" : "+r"(map));
    map = (struct hk_pagemap *)((uintptr_t)map +
                                hk_load_relaxed(&map->leaf_distance[address >> HK_ROOT_SHIFT]));
    return &map->zero;
}

HK_INLINE size_t hk_pagemap_index(uintptr_t address)
{
    return (address >> HK_GRANULE_SHIFT) & (HK_LEAF_GRANULES - 1);
}

HK_INLINE bool hk_pagemap_in_range(uintptr_t address)
{
    return (uint64_t)address >> (HK_ADDRESS_BITS - 1) >> 1 == 0;
}

/* For any address, ours or not. */
HK_INLINE uintptr_t hk_pagemap_word(const void *p)
{
    uintptr_t a = (uintptr_t)p;

    if (HK_UNLIKELY(!hk_pagemap_in_range(a)))
        return HK_PM_UNKNOWN;
    return hk_load_relaxed(&hk_pagemap_leaf(a)->word[hk_pagemap_index(a)]);
}

/* The address lies in covered memory. */
HK_INLINE void *hk_pagemap_desc(const void *p)
{
    uintptr_t a = (uintptr_t)p;

    return hk_load_relaxed(&hk_pagemap_leaf(a)->desc[hk_pagemap_index(a)]);
}

/* Makes the leaves for [base, base + bytes). After that hk_pagemap_set there cannot fail. */
bool hk_pagemap_cover(const void *base, size_t bytes);
/* For a range whose address is not known yet: leaves enough for `bytes` anywhere. False: no memory. */
struct hk_pm_stock {
    char *leaves;
    size_t nr;
};
bool hk_pagemap_stock(struct hk_pm_stock *stock, size_t bytes);
/* Covers the range (none if base is NULL), which cannot fail, and gives back what is left. Once. */
void hk_pagemap_use_stock(struct hk_pm_stock *stock, const void *base, size_t bytes);
void hk_pagemap_set(const void *base, size_t nr_granules, uintptr_t word, void *desc);
size_t hk_pagemap_mapped_bytes(void);
const size_t *hk_pagemap_leaves_field(void); /* number of leaves, where it lies */

#endif
