// SPDX-License-Identifier: MIT
/* heap_check: is a block dead, and are the heap's invariants whole? See heap.h. */
#include "heap/heap_private.h"

#include "base/panic.h"

/* ---- verification -------------------------------------------------------------------------- */

/*
 * Reads a magazine that its owner may be working on. Sound for a correct program: p is live, so at the
 * moment `cursor` was read no slot below it held p, and later pushes cannot push a live block. When the
 * owner swaps the array meanwhile the memory read is another magazine's, and no magazine holds p.
 */
static bool in_magazine(const struct hk_heap *heap, unsigned class, const void *p)
{
    void **top = hk_load_acquire(&heap->record[class].cursor); /* V1 acquire, pairs with V2 */
    void **bottom = hk_load_relaxed(&heap->slabs[class].bottom);
    size_t cap = hk_load_relaxed(&heap->slabs[class].cap);

    if (!bottom || top <= bottom || top > bottom + 1 + cap)
        return false;
    for (; top > bottom + 1; top--)
        if (hk_load_relaxed(&top[-1]) == p)
            return true;
    return false;
}

static bool in_transit(const void *p)
{
    for (const struct hk_parcel *b = hk_parcel_first(); b; b = b->next_ever) {
        uint32_t count = hk_load_acquire(&b->count); /* V1 acquire, pairs with V2 */
        for (uint32_t i = 0; i < count && i < HK_PARCEL_BLOCKS; i++)
            if (hk_load_relaxed(&b->blocks[i]) == p)
                return true;
    }
    return false;
}

bool hk_heap_holds(const void *p, uintptr_t word)
{
    for (const struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        if (in_magazine(h, hk_class_of_word(word), p))
            return true;
    return hk_slab_block_is_free(hk_slab_of(p), p) || in_transit(p);
}

/* ---- check --------------------------------------------------------------------------------- */

static void check_class(struct hk_heap *heap, unsigned class)
{
    struct hk_class_record *r = &heap->record[class];
    struct hk_class_slabs *cs = &heap->slabs[class];
    uint32_t nr_free = 0;

    if (cs->bottom) {
        void **limit = cs->cap_in_use ? cs->bottom + 1 + cs->cap_in_use : r->limit;
        if (cs->bottom[0] || r->cursor < cs->bottom + 1 || r->cursor > limit ||
            limit > cs->bottom + 1 + cs->cap)
            hk_panic_internal("heap: magazine bounds", r);
        for (void **top = r->cursor; top[-1]; top--)
            if (hk_slab_of(top[-1])->class != class ||
                hk_slab_block_is_free(hk_slab_of(top[-1]), top[-1]))
                hk_panic_internal("heap: block in a magazine and in its slab", top[-1]);
    }
    for (struct hk_slab *slab = cs->partial; slab; slab = slab->next) {
        hk_slab_check(slab);
        nr_free += slab->nr_free;
        if (slab->owner != heap || !slab->listed || slab->nr_free == 0 || slab == cs->current)
            hk_panic_internal("heap: partial list", slab);
    }
    if (cs->current) {
        hk_slab_check(cs->current);
        nr_free += cs->current->nr_free;
    }
    if (nr_free != cs->nr_free)
        hk_panic_internal("heap: free blocks do not add up", cs);
}

void hk_heap_check(struct hk_heap *heap)
{
    hk_lock(&heap->lock); /* others may be bringing blocks home */
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        check_class(heap, c);
    hk_unlock(&heap->lock);
}
