// SPDX-License-Identifier: MIT
/*
 * heap_mend: in a fork child, the slabs of a heap that a thread of the parent was changing under its lock (see hk_ace_fork_prepare).
 *
 * That thread may have stopped between any two instructions. Each of these is whole after every one of them: a slab's owner, each word
 * of its bits, `carved`, and what the page map says of its first granule, which it does from the first block that leaves until the slab
 * goes back to span. All else is made anew from them: counts, lists, and the words of the other granules. A block is out before anybody has it, and
 * back after nobody has it any more: one on its way is lost to the child, and none is in two places. So is a slab on its way to span or
 * from there.
 */
#include "heap/heap_private.h"

/* Before the word of a slab goes, its descriptor is that of a region, whose second word, a small number, is no heap. */
static struct hk_slab *slab_at(uintptr_t at, const struct hk_heap *owner)
{
    struct hk_slab *slab = hk_pagemap_word((const void *)at) >= HK_PM_KINDS ? hk_pagemap_desc((const void *)at) : NULL;

    return slab && slab->base == at && slab->owner == owner ? slab : NULL;
}

static void take_in(struct hk_heap *heap, struct hk_slab *slab)
{
    hk_slab_mend(slab);
    hk_slab_set_owner(slab, hk_heap_word(heap, slab->class), heap);
    hk_heap_count_slab_in(heap, slab);
    if (slab->nr_free)
        hk_heap_link_partial(heap, slab);
}

void hk_heap_mend_slabs(struct hk_heap *heap)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_class_slabs *cs = &heap->slabs[c];
        cs->current = cs->partial = NULL;
        cs->nr_slabs = cs->nr_free = 0;
    }
    for (size_t entry = 0; entry < HK_ROOT_ENTRIES; entry++) {
        uintptr_t first = (uintptr_t)entry << HK_ROOT_SHIFT;
        if (hk_pagemap_leaf(first) == &hk_pagemap.zero)
            continue;
        for (size_t i = 0; i < HK_LEAF_GRANULES; i++) {
            struct hk_slab *slab = slab_at(first + i * HK_GRANULE, heap);
            if (slab)
                take_in(heap, slab);
        }
    }
}
