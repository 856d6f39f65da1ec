// SPDX-License-Identifier: MIT
/* heap_park: birth, parking, adoption and stealing. See heap.h, "Life of a heap". */
#include "heap/heap_private.h"

#include "base/panic.h"
#include "meta/meta.h"
#include "os/os.h"

#define CHUNK (8 * HK_HEAP_ALIGN)
#define MAX_STEAL_LOOKS 8 /* parked heaps looked at before a new slab is made */

static struct hk_lock heaps_lock = HK_LOCK_INIT(HK_RANK_HEAPS);

static struct {
    struct hk_heap *all;       /* release G1 / acquire G2; only grows */
    struct hk_heap *parked;    /* stack, under the lock; without the depot */
    struct hk_heap *depot;     /* release D1 / acquire D2; constant once made */
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
    heap->lock = (struct hk_lock)HK_LOCK_INIT(HK_RANK_HEAP);
    hk_heap_setup(heap);
    hk_store_release(&heaps.all, heap); /* G1 release, pairs with G2: publishes next_ever and the records */
    return heap;
}

struct hk_heap *hk_heap_adopt(void)
{
    struct hk_heap *heap;

    hk_lock(&heaps_lock);
    heap = heaps.parked;
    if (heap) {
        heaps.parked = heap->next_parked;
        hk_store_relaxed(&heaps.nr_parked, heaps.nr_parked - 1);
    } else {
        heap = make_heap_locked();
    }
    if (heap) {
        hk_policy_note(&heap->policy_seen);
        hk_lock(&heap->lock); /* not while somebody brings blocks home */
        hk_store_relaxed(&heap->state, HK_HEAP_ACTIVE);
        hk_unlock(&heap->lock);
        hk_store_relaxed(&heaps.nr_active, heaps.nr_active + 1);
    }
    hk_unlock(&heaps_lock);
    return heap;
}

/* Magazines are given up: a parked heap holds slabs only. */
static void drop_magazines(struct hk_heap *heap)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_class_slabs *cs = &heap->slabs[c];
        void **bottom = cs->bottom;
        cs->bottom = NULL;
        if (bottom)
            hk_meta_free(bottom, (cs->cap + 1u) * sizeof(void *));
        cs->cap = 0;
        cs->nr_refills = 0;
    }
    heap->cap_bytes = 0;
    hk_heap_setup(heap);
}

/* A parked heap has no current slab: whatever becomes empty in it goes back at once. */
static void settle(struct hk_heap *heap)
{
    hk_heap_retire_empty(heap);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_slab *slab = heap->slabs[c].current;
        heap->slabs[c].current = NULL;
        if (slab && slab->nr_free)
            hk_heap_link_partial(heap, slab);
    }
}

static void push_parked_locked(struct hk_heap *heap)
{
    heap->next_parked = heaps.parked;
    heaps.parked = heap;
    hk_store_relaxed(&heaps.nr_parked, heaps.nr_parked + 1);
    hk_store_relaxed(&heaps.nr_active, heaps.nr_active - 1);
}

void hk_heap_park(struct hk_heap *heap)
{
    hk_heap_flush_all(heap);
    hk_lock(&heap->lock);
    drop_magazines(heap);
    hk_store_relaxed(&heap->state, HK_HEAP_PARKED);
    hk_fence_full(); /* F2 fence, pairs with F1: state before the last look into the inbox */
    hk_heap_drain_locked(heap, heap, 0); /* no magazine is left: into the slabs */
    settle(heap);
    hk_unlock(&heap->lock);
    hk_heap_send_all(heap);
    hk_lock(&heaps_lock);
    push_parked_locked(heap);
    hk_unlock(&heaps_lock);
}

/* ---- slabs of parked heaps ----------------------------------------------------------------- */

/* A slab with free blocks leaves the parked heap; NULL: it has none of that class. */
static struct hk_slab *detach(struct hk_heap *parked, unsigned class, struct hk_heap *thief)
{
    struct hk_class_slabs *cs = &parked->slabs[class];
    struct hk_slab *slab = NULL;

    /* Relaxed look first: most heaps have nothing of the class. */
    if (!hk_load_relaxed(&cs->partial) && !hk_load_relaxed(&cs->current))
        return NULL;
    if (!hk_try_lock(&parked->lock))
        return NULL;
    if (hk_load_relaxed(&parked->state) == HK_HEAP_PARKED) {
        slab = cs->partial;
        if (slab) {
            hk_heap_unlink_partial(parked, slab);
        } else if (cs->current && cs->current->nr_free) {
            slab = cs->current;
            cs->current = NULL;
        }
        if (slab)
            hk_slab_set_owner(slab, (uintptr_t)&thief->record[class], thief);
    }
    hk_unlock(&parked->lock);
    return slab;
}

struct hk_slab *hk_heap_steal(struct hk_heap *thief, unsigned class)
{
    struct hk_heap *depot = hk_load_acquire(&heaps.depot); /* D2 acquire, pairs with D1 */
    struct hk_slab *slab = depot ? detach(depot, class, thief) : NULL;
    unsigned looks = 0;

    /* Relaxed: a stale 0 costs one slab made anew. */
    if (!slab && hk_load_relaxed(&heaps.nr_parked) > 0)
        for (struct hk_heap *h = hk_heap_first(); h && !slab && looks < MAX_STEAL_LOOKS; h = h->next_ever)
            if (hk_load_relaxed(&h->state) == HK_HEAP_PARKED) {
                slab = detach(h, class, thief);
                looks++;
            }
    if (slab)
        hk_count_add(&thief->stats.nr_slabs_stolen, 1);
    return slab;
}

/* ---- depot --------------------------------------------------------------------------------- */

struct hk_heap *hk_heap_depot(void)
{
    struct hk_heap *depot = hk_load_acquire(&heaps.depot); /* D2 acquire, pairs with D1 */

    if (HK_LIKELY(depot))
        return depot;
    hk_lock(&heaps_lock);
    if (!heaps.depot) {
        depot = make_heap_locked();
        if (depot) {
            depot->depot = true;
            hk_store_relaxed(&depot->state, HK_HEAP_PARKED);
            hk_store_release(&heaps.depot, depot); /* D1 release, pairs with D2: publishes depot and state */
        }
    }
    hk_unlock(&heaps_lock);
    return heaps.depot;
}

void *hk_heap_alloc_from_depot(unsigned class)
{
    struct hk_heap *depot = hk_heap_depot();
    struct hk_slab *slab;
    void *p = NULL;

    if (!depot)
        return NULL;
    hk_lock(&depot->lock);
    slab = hk_heap_usable_slab(depot, class);
    if (slab && hk_slab_take(slab, &p, 1))
        *hk_mark_of(p) = 0;
    hk_unlock(&depot->lock);
    return p;
}

void hk_heap_settle_depot(void)
{
    struct hk_heap *depot = hk_load_acquire(&heaps.depot); /* D2 acquire, pairs with D1 */

    if (!depot || !hk_try_lock(&depot->lock))
        return;
    hk_heap_retire_empty(depot);
    hk_unlock(&depot->lock);
}

/* A heap that becomes active meanwhile belongs to a stranger until it is (policy.h). */
uint64_t hk_heap_policy_seen(void)
{
    uint64_t oldest = UINT64_MAX;

    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever) {
        uint64_t seen;
        if (hk_load_relaxed(&h->state) != HK_HEAP_ACTIVE) /* after S4, or it was active before the pointer moved */
            continue;
        seen = hk_load_acquire(&h->policy_seen); /* E4 acquire, pairs with E3 */
        oldest = seen < oldest ? seen : oldest;
    }
    return oldest;
}

bool hk_heap_is_alone(void)
{
    return hk_load_relaxed(&heaps.nr_active) <= 1;
}

/* Slabs with free blocks that an idle class holds go where others can find them. The heap is locked. */
static void publish_partial(struct hk_heap *heap, struct hk_heap *depot, unsigned class)
{
    struct hk_class_slabs *cs = &heap->slabs[class];

    if (!cs->partial || !hk_try_lock(&depot->lock))
        return;
    while (cs->partial) {
        struct hk_slab *slab = cs->partial;
        hk_heap_unlink_partial(heap, slab);
        hk_slab_set_owner(slab, (uintptr_t)&depot->record[class], depot);
        hk_heap_link_partial(depot, slab);
        hk_count_add(&heap->stats.nr_published, 1);
    }
    hk_unlock(&depot->lock);
}

void hk_heap_flush_idle(struct hk_heap *heap)
{
    bool shared = hk_load_relaxed(&heaps.nr_active) > 1 && hk_policy()->steal;
    struct hk_heap *depot = shared ? hk_heap_depot() : NULL;

    hk_lock(&heap->lock);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_class_slabs *cs = &heap->slabs[c];
        bool idle = cs->bottom && cs->idle_cursor == heap->record[c].cursor &&
                    cs->idle_refills == cs->nr_refills;

        if (idle && heap->record[c].cursor > cs->bottom + 1) {
            hk_heap_flush_class(heap, c, UINT16_MAX);
            hk_count_add(&heap->stats.nr_idle_flushes, 1);
        }
        if (idle)
            hk_heap_retire_empty_class(heap, c);
        if (idle && depot)
            publish_partial(heap, depot, c);
        cs->idle_cursor = heap->record[c].cursor;
        cs->idle_refills = cs->nr_refills;
    }
    hk_unlock(&heap->lock);
}

void hk_heap_tick(struct hk_heap *heap)
{
    hk_heap_send_all(heap);
    hk_lock(&heap->lock);
    hk_heap_drain_locked(heap, heap, HK_MIB);
    hk_unlock(&heap->lock);
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* The calling thread's own lock may be its own already: fork from a signal handler. */
static struct hk_heap *fork_skipped;
static bool fork_skipped_list;

void hk_heap_fork_prepare(struct hk_heap *mine)
{
    fork_skipped_list = hk_lock_is_mine(&heaps_lock);
    if (!fork_skipped_list)
        hk_lock_nested(&heaps_lock);
    fork_skipped = mine && hk_lock_is_mine(&mine->lock) ? mine : NULL;
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        if (!hk_lock_is_mine(&h->lock))
            hk_lock_nested(&h->lock);
        else
            fork_skipped = h;
}

void hk_heap_fork_parent(void)
{
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        if (h != fork_skipped)
            hk_unlock(&h->lock);
    if (!fork_skipped_list)
        hk_unlock(&heaps_lock);
}

/* A heap whose thread is gone. Its magazines were at rest but for one block at most, the one that the
 * thread was taking or giving: that one is lost or was pushed already. */
static void inherit(struct hk_heap *heap)
{
    hk_heap_send_all(heap);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        hk_heap_flush_class(heap, c, UINT16_MAX);
    drop_magazines(heap);
    hk_l25_flush(&heap->l25);
    hk_store_relaxed(&heap->state, HK_HEAP_PARKED);
    settle(heap);
    push_parked_locked(heap);
}

void hk_heap_fork_child(struct hk_heap *mine)
{
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        if (h != fork_skipped)
            hk_lock_reset(&h->lock);
    if (!fork_skipped_list)
        hk_lock_reset(&heaps_lock);
    if (fork_skipped || fork_skipped_list)
        return; /* interrupted in the middle of something: leave the others as they are */
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        if (h != mine && h->state == HK_HEAP_ACTIVE) {
            hk_lock(&h->lock);
            inherit(h);
            hk_unlock(&h->lock);
        }
}
