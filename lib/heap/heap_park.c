// SPDX-License-Identifier: MIT
/* heap_park: birth, parking, adoption and stealing. See heap.h, "Life of a heap". */
#include "heap/heap_private.h"

#include "base/panic.h"
#include "meta/meta.h"
#include "os/os.h"

#define CHUNK (8 * HK_HEAP_ALIGN)
#define MAX_STEAL_LOOKS 8 /* parked heaps looked at before a new slab is made */

struct hk_lock hk_heap_lock = HK_LOCK_INIT(HK_RANK_HEAP);

static struct {
    struct hk_heap *all;       /* release G1 / acquire G2; only grows */
    struct hk_heap *parked;    /* stack, under the lock; without the depot */
    struct hk_heap *depot;     /* under the lock; constant once made */
    char *chunk, *chunk_end;   /* memory for new heaps, under the lock */
    unsigned nr_heaps;         /* under the lock */
    unsigned nr_parked;        /* written under the lock, read relaxed: 0 means do not look */
    unsigned nr_active;        /* the same */
} heaps;

struct hk_heap *hk_heap_first(void)
{
    return hk_load_acquire(&heaps.all); /* G2 acquire, pairs with G1 */
}

static struct hk_heap *make_heap_locked(void)
{
    struct hk_heap *heap;

    if (heaps.chunk == heaps.chunk_end) {
        char *chunk = hk_os_reserve(CHUNK, hk_max(HK_HEAP_ALIGN, hk_os_page_bytes()));
        if (!chunk)
            return NULL;
        heaps.chunk = chunk;
        heaps.chunk_end = chunk + CHUNK;
    }
    heap = (struct hk_heap *)heaps.chunk;
    heaps.chunk += HK_HEAP_ALIGN;
    heap->id = heaps.nr_heaps++;
    heap->next_ever = heaps.all;
    hk_heap_setup(heap);
    hk_store_release(&heaps.all, heap); /* G1 release, pairs with G2: publishes next_ever and the records */
    return heap;
}

struct hk_heap *hk_heap_adopt(void)
{
    struct hk_heap *heap;

    hk_lock(&hk_heap_lock);
    heap = heaps.parked;
    if (heap) {
        heaps.parked = heap->next_parked;
        hk_store_relaxed(&heaps.nr_parked, heaps.nr_parked - 1);
    } else {
        heap = make_heap_locked();
    }
    if (heap) {
        hk_store_relaxed(&heap->state, HK_HEAP_ACTIVE);
        hk_store_relaxed(&heaps.nr_active, heaps.nr_active + 1);
    }
    hk_unlock(&hk_heap_lock);
    return heap;
}

/* Magazines are given up: a parked heap holds slabs only. */
static void drop_magazines(struct hk_heap *heap)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_class_slabs *cs = &heap->slabs[c];
        if (cs->bottom)
            hk_meta_free(cs->bottom, (cs->cap + 1u) * sizeof(void *));
        cs->bottom = NULL;
        cs->cap = 0;
        cs->nr_refills = 0;
    }
    heap->cap_bytes = 0;
    hk_heap_setup(heap);
}

void hk_heap_park(struct hk_heap *heap)
{
    hk_heap_flush_all(heap);
    drop_magazines(heap);
    hk_lock(&hk_heap_lock);
    hk_store_relaxed(&heap->state, HK_HEAP_PARKED);
    hk_store_relaxed(&heaps.nr_active, heaps.nr_active - 1);
    hk_fence_full(); /* F2, pairs with F1: state before the last look into the inbox */
    hk_unlock(&hk_heap_lock);
    hk_heap_drain_parked(NULL, heap);
    hk_lock(&hk_heap_lock);
    heap->next_parked = heaps.parked;
    heaps.parked = heap;
    hk_store_relaxed(&heaps.nr_parked, heaps.nr_parked + 1);
    hk_unlock(&hk_heap_lock);
}

/* ---- slabs of parked heaps ----------------------------------------------------------------- */

/* A slab with free blocks leaves the parked heap; NULL: it has none of that class. */
static struct hk_slab *detach_locked(struct hk_heap *parked, unsigned class)
{
    struct hk_class_slabs *cs = &parked->slabs[class];
    struct hk_slab *slab = cs->partial;

    if (slab) {
        hk_heap_unlink_partial(parked, slab);
    } else if (cs->current && cs->current->nr_free) {
        slab = cs->current;
        cs->current = NULL;
    }
    return slab;
}

struct hk_slab *hk_heap_steal(struct hk_heap *thief, unsigned class)
{
    struct hk_slab *slab = NULL;
    unsigned looks = 0;

    /* Relaxed: a stale 0 costs one slab made anew. */
    if (hk_load_relaxed(&heaps.nr_parked) == 0 && !hk_load_relaxed(&heaps.depot))
        return NULL;
    hk_lock(&hk_heap_lock);
    if (heaps.depot)
        slab = detach_locked(heaps.depot, class);
    for (struct hk_heap *h = heaps.parked; h && !slab && looks < MAX_STEAL_LOOKS;
         h = h->next_parked, looks++)
        slab = detach_locked(h, class);
    if (slab)
        hk_slab_set_owner(slab, (uintptr_t)&thief->record[class], thief);
    hk_unlock(&hk_heap_lock);
    if (slab)
        hk_count_add(&thief->stats.nr_slabs_stolen, 1);
    return slab;
}

void hk_heap_reclaim_parked(void)
{
    if (hk_load_relaxed(&heaps.nr_parked) == 0 && !hk_load_relaxed(&heaps.depot))
        return;
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        if (hk_load_relaxed(&h->state) == HK_HEAP_PARKED && hk_load_relaxed(&h->inbox))
            hk_heap_drain_parked(NULL, h);
}

/* ---- depot --------------------------------------------------------------------------------- */

struct hk_heap *hk_heap_depot_locked(void)
{
    if (!heaps.depot) {
        struct hk_heap *depot = make_heap_locked();
        if (depot) {
            depot->depot = true;
            hk_store_relaxed(&depot->state, HK_HEAP_PARKED);
            hk_store_relaxed(&heaps.depot, depot);
        }
    }
    return heaps.depot;
}

void *hk_heap_alloc_from_depot(unsigned class)
{
    struct hk_heap *depot;
    struct hk_slab *slab;
    void *p = NULL;

    hk_lock(&hk_heap_lock);
    depot = hk_heap_depot_locked();
    slab = depot ? hk_heap_usable_slab(depot, class) : NULL;
    if (slab && hk_slab_take(slab, &p, 1))
        *hk_mark_of(p) = 0;
    hk_unlock(&hk_heap_lock);
    return p;
}

/* Slabs with free blocks that an idle class holds go where others can find them. */
static void publish_partial(struct hk_heap *heap, unsigned class)
{
    struct hk_class_slabs *cs = &heap->slabs[class];
    struct hk_heap *depot;

    if (!cs->partial)
        return;
    hk_lock(&hk_heap_lock);
    depot = hk_heap_depot_locked();
    while (depot && cs->partial) {
        struct hk_slab *slab = cs->partial;
        hk_heap_unlink_partial(heap, slab);
        hk_slab_set_owner(slab, (uintptr_t)&depot->record[class], depot);
        hk_heap_link_partial(depot, slab);
        hk_count_add(&heap->stats.nr_published, 1);
    }
    hk_unlock(&hk_heap_lock);
}

void hk_heap_flush_idle(struct hk_heap *heap)
{
    bool shared = hk_load_relaxed(&heaps.nr_active) > 1 && hk_policy()->steal;

    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_class_slabs *cs = &heap->slabs[c];
        bool idle = cs->bottom && cs->idle_cursor == heap->record[c].cursor &&
                    cs->idle_refills == cs->nr_refills;

        if (idle && heap->record[c].cursor > cs->bottom + 1) {
            hk_heap_flush_class(heap, c, UINT16_MAX);
            hk_count_add(&heap->stats.nr_idle_flushes, 1);
        }
        if (idle && shared)
            publish_partial(heap, c);
        cs->idle_cursor = heap->record[c].cursor;
        cs->idle_refills = cs->nr_refills;
    }
}

void hk_heap_tick(struct hk_heap *heap)
{
    hk_heap_send_all(heap);
    hk_heap_drain(heap, HK_MIB);
}

void hk_heap_fork_child(struct hk_heap *mine)
{
    /* Heaps that were active belong to threads that do not exist here and may have been interrupted in
     * the middle of anything. They keep the state ACTIVE, so that nobody enters them: blocks freed into
     * them wait in their inboxes for ever. */
    (void)mine;
    hk_store_relaxed(&heaps.nr_active, mine ? 1u : 0u);
}
