// SPDX-License-Identifier: MIT
/* heap_divert: classes whose mallocs take the slow path. See heap.h, hk_heap_divert. */
#include "heap/heap_private.h"

#include "meta/meta.h"

#include <string.h>

#define NOWHERE ((uint16_t)offsetof(struct hk_heap, no_cursor))
_Static_assert(offsetof(struct hk_class_record, cursor) == 0, "which malloc reads, and when it leads to NULL nothing else");

/* The entries of a class: requests of more than the class below has, and up to HK_FAST_MAX. Returns how many. */
static size_t entries(unsigned class, size_t *first)
{
    *first = class ? hk_size_class[class - 1].size / 16 : 0;
    return hk_min(hk_size_class[class].size, HK_FAST_MAX) / 16 - *first;
}

bool hk_heap_is_diverted(const struct hk_heap *heap, unsigned class)
{
    size_t first;

    return heap->nr_diverted > 0 && class < HK_NR_SIZED_CLASSES && entries(class, &first) > 0 &&
           heap->detour->offset[first] == NOWHERE;
}

static bool has_detour(struct hk_heap *heap)
{
    struct hk_detour *d;

    if (heap->detour)
        return true;
    d = hk_meta_alloc(sizeof *d); /* zeros */
    if (!d)
        return false;
    d->offset = hk_meta_alloc(sizeof hk_class_offset);
    if (!d->offset) {
        hk_meta_free(d, sizeof *d);
        return false;
    }
    memcpy(d->offset, hk_class_offset, sizeof hk_class_offset);
    heap->detour = d;
    return true;
}

void hk_heap_divert(struct hk_heap *heap, unsigned class)
{
    size_t first, n;

    if (class >= HK_NR_SIZED_CLASSES || hk_heap_is_diverted(heap, class) || !has_detour(heap))
        return;
    n = entries(class, &first);
    for (size_t i = 0; i < n; i++)
        heap->detour->offset[first + i] = NOWHERE;
    heap->nr_diverted++;
    heap->class_offset = heap->detour->offset;
}

void hk_heap_restore(struct hk_heap *heap, unsigned class)
{
    size_t first, n;

    if (!hk_heap_is_diverted(heap, class))
        return;
    n = entries(class, &first);
    memcpy(heap->detour->offset + first, hk_class_offset + first, n * sizeof *hk_class_offset);
    if (--heap->nr_diverted == 0)
        heap->class_offset = hk_class_offset;
}

void hk_heap_restore_all(struct hk_heap *heap)
{
    for (unsigned c = 0; heap->nr_diverted > 0 && c < HK_NR_SIZED_CLASSES; c++)
        hk_heap_restore(heap, c);
    heap->class_offset = hk_class_offset;
}
