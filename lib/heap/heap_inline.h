// SPDX-License-Identifier: MIT
/*
 * heap_inline: the fast paths of malloc and free. Included by entry, by secure, and by
 * ace and heap for the mark and for slow paths that end in a fast one.
 *
 * malloc: one compare covers "zero", "larger than 64 KiB" and "no heap yet" (n - 1 wraps, max_fast is 0).
 * free: the low bits of the page-map word lead to a record of this thread's heap, and where no slab lies, or the heap is
 * the empty one, to one with a reciprocal of 0. So one multiplication and compare covers NULL, foreign, big and "no
 * heap yet" as well as interior and misaligned pointers; the mark covers a double free. No store happens before all
 * checks passed, so that a diagnostic sees an untouched heap.
 *
 * Two further notes on code generation: each record is reached by base-only addressing, the same in both
 * functions, because an indexed form loses store-to-load forwarding on the cursor; and the result is
 * held by tests/lint/instructions.golden.
 */
#ifndef HK_HEAP_INLINE_H
#define HK_HEAP_INLINE_H

#include "heap/heap.h"

/*
 * The cursor moves by one read-modify-write: one instruction less than storing the register that was
 * tested, and the compiler would always merge the two.
 */
HK_INLINE void hk_cursor_move(struct hk_class_record *r, ptrdiff_t blocks)
{
#if defined(__x86_64__) && defined(__LP64__)
    if (blocks < 0)
        __asm__("subq $8, %0" : "+m"(r->cursor) : "d"(r) : "cc"); /* rdx: leaves rax for the result */
    else
        __asm__("addq $8, %0" : "+m"(r->cursor) : : "cc");
#else
    r->cursor += blocks;
#endif
}

HK_INLINE void *hk_heap_pop_fast(struct hk_class_record *r)
{
    void **cursor = r->cursor;
    void *p = cursor[-1];

    if (HK_UNLIKELY(!p))
        return NULL;
    hk_cursor_move(r, -1);
    if (HK_CHECKS)
        *hk_mark_of(p) = 0;
    return p;
}

/* NULL: the caller takes the slow path. */
HK_INLINE void *hk_heap_alloc_fast(size_t n)
{
    struct hk_heap *heap = hk_heap_self;
    size_t i = n - 1;

    if (HK_UNLIKELY(i >= heap->max_fast))
        return NULL;
    return hk_heap_pop_fast((struct hk_class_record *)((char *)heap + heap->class_offset[i >> 4]));
}

/* The same with align a power of two above 16. The heap is read once: a handler may turn the fast paths off meanwhile. */
HK_INLINE void *hk_heap_alloc_aligned_fast(size_t n, size_t align)
{
    struct hk_heap *heap = hk_load_relaxed(&hk_heap_self);
    unsigned class = HK_LIKELY(n - 1 < heap->max_fast) ? hk_size_to_aligned_class(n, align) : HK_NR_CLASSES;

    return HK_LIKELY(class < HK_NR_CLASSES) ? hk_heap_pop_fast(&heap->record[class]) : NULL;
}

/*
 * Could a block of `usable` bytes be what a request for `size` got? Up to 64 bytes anything that fits; above,
 * at least a quarter is in use: realloc keeps a block down to half, W_MAX may add a quarter.
 */
HK_INLINE bool hk_size_is_plausible(size_t usable, size_t size)
{
    return size <= usable && (usable <= 64 || size >= usable / 4);
}

/* This thread's, whoever owns the slab. */
HK_INLINE struct hk_class_record *hk_heap_record_for(uintptr_t word)
{
    return (struct hk_class_record *)((uintptr_t)hk_heap_self + (word & (HK_HEAP_ALIGN - 1)));
}

HK_INLINE bool hk_heap_free_checked(void *p, bool sized, size_t size)
{
    uintptr_t a = (uintptr_t)p;
    struct hk_class_record *r;
    void **cursor;

    if (HK_CHECKS && HK_UNLIKELY(a >> HK_ROOT_SHIFT >= HK_ROOT_ENTRIES))
        return false;
    r = hk_heap_record_for(hk_load_relaxed(&hk_pagemap_leaf(a)->word[hk_pagemap_index(a)]));
    if (HK_CHECKS) {
        uint64_t magic = r->magic;
        if (HK_UNLIKELY(!hk_size_starts_block(magic, (uint32_t)a & r->mask)))
            return false;
        if (HK_UNLIKELY(*hk_mark_of(p) == magic))
            return false;
        if (sized && HK_UNLIKELY(!hk_size_is_plausible(r->size, size)))
            return false;
        cursor = r->cursor;
        if (HK_UNLIKELY(cursor >= r->limit))
            return false;
        *hk_mark_of(p) = magic;
    } else {
        cursor = r->cursor;
        if (HK_UNLIKELY(cursor >= r->limit))
            return false;
    }
    *cursor = p;
    hk_signal_fence(); /* then the cursor: in a fork child what is below it counts */
    hk_cursor_move(r, 1);
    return true;
}

/* For realloc: the bytes of p if it is a live block of a slab, else 0. */
HK_INLINE size_t hk_heap_small_size(void *p)
{
    uintptr_t a = (uintptr_t)p;
    struct hk_class_record *r;

    if (HK_UNLIKELY(a >> HK_ROOT_SHIFT >= HK_ROOT_ENTRIES))
        return 0;
    r = hk_heap_record_for(hk_load_relaxed(&hk_pagemap_leaf(a)->word[hk_pagemap_index(a)]));
    if (!hk_size_starts_block(r->magic, (uint32_t)a & r->mask) || *hk_mark_of(p) == r->magic)
        return 0;
    return r->size;
}

/* False: the caller takes the slow path; nothing has changed. */
HK_INLINE bool hk_heap_free_fast(void *p)
{
    return hk_heap_free_checked(p, false, 0);
}

/* The same, also when `size` cannot be what the block was asked for with. */
HK_INLINE bool hk_heap_free_sized_fast(void *p, size_t size)
{
    return hk_heap_free_checked(p, true, size);
}

#endif
