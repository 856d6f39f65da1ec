// SPDX-License-Identifier: MIT
/*
 * size: which size class serves a request, and the arithmetic of a class.
 *
 * Classes 0..79 are chosen by size alone, 1 byte to 64 KiB, through one table. Classes 80..84 are the
 * powers of two from 4 KiB that aligned requests need exactly (the others from 4 KiB up carry 64 bytes
 * of colour, see size_classes.def). Owner: nobody; everything is constant after hk_size_init().
 *
 * The reciprocal. For a class of d bytes, M = ceil(2^64 / d) + k with a random k so small that, for
 * every offset x inside a slab, (x * M) mod 2^64 < M exactly when d divides x, and the high half of
 * x * M is floor(x / d) (Lemire, Kaser, Kurz, "Faster remainder by direct computation", 2019; the slack
 * that leaves room for k is in size.c). One multiplication finds an interior pointer, and M, secret and
 * already in a register, doubles as the mark of a dead block (heap/heap_inline.h).
 */
#ifndef HK_SIZE_H
#define HK_SIZE_H

#include "base/base.h"

#define HK_NR_SIZED_CLASSES 80
#define HK_NR_CLASSES 85
#define HK_FIRST_POOL_CLASS 32    /* tiny below, pool from here */
#define HK_FIRST_ALIGNED_CLASS 80 /* 4096 << (c - 80) bytes */
#define HK_TINY_MAX ((size_t)1024)
#define HK_FAST_MAX ((size_t)65536) /* largest request the classes serve */
#define HK_CLASS_RECORD_SHIFT 5     /* of the fast path's record size */
#define HK_FIRST_RECORD 3           /* class 0 has this one; what lies before is no record (heap.h) */

struct hk_size_class {
    uint64_t magic;      /* M above */
    uint32_t size;       /* bytes of a block, multiple of 16 */
    uint32_t slab_mask;  /* bytes of a slab - 1; slabs are aligned to their size */
    uint16_t nr_slots;   /* blocks per slab */
    uint8_t slab_shift;
};

extern struct hk_size_class hk_size_class[HK_NR_CLASSES];
/* (request - 1) / 16 -> offset of the class's record: (HK_FIRST_RECORD + class) << HK_CLASS_RECORD_SHIFT */
extern const uint16_t hk_class_offset[HK_FAST_MAX / 16];

/* `key` seeds the random part of the reciprocals. Once, before the first block. */
void hk_size_init(uint64_t key);

/* 1 <= n <= HK_FAST_MAX */
HK_INLINE unsigned hk_size_to_class(size_t n)
{
    return (unsigned)(hk_class_offset[(n - 1) >> 4] >> HK_CLASS_RECORD_SHIFT) - HK_FIRST_RECORD;
}

/* Smallest class whose blocks hold n bytes and are aligned to `align`, HK_NR_CLASSES if none is. */
unsigned hk_size_to_aligned_class(size_t n, size_t align);

/* offset: bytes from the slab's base */
HK_INLINE bool hk_size_starts_block(uint64_t magic, size_t offset)
{
    return (uint64_t)offset * magic < magic;
}

HK_INLINE unsigned hk_size_slot(const struct hk_size_class *sc, size_t offset)
{
#ifdef __SIZEOF_INT128__
    return (unsigned)(((unsigned __int128)sc->magic * offset) >> 64);
#else
    return (unsigned)(offset / sc->size);
#endif
}

#endif
