// SPDX-License-Identifier: MIT
/* heap_park: birth, parking, adoption and stealing. See heap.h, "Life of a heap". */
#include "heap/heap_private.h"

#include "base/panic.h"
#include "config/config.h"
#include "meta/meta.h"
#include "os/os.h"
#include "share/share.h"

#define CHUNK (8 * HK_HEAP_ALIGN)
#define MAX_STEAL_LOOKS 16 /* heaps looked at before a new slab is made, */
#define MAX_SPARE_STEPS 4  /* and slabs of an active one */

static struct hk_lock heaps_lock = HK_LOCK_INIT(HK_RANK_HEAPS);

static struct {
    struct hk_heap *all;       /* release G1 / acquire G2; only grows */
    struct hk_heap *parked;    /* stack, under the lock; without the depot */
    struct hk_heap *depot;     /* release D1 / acquire D2; constant once made */
    char *chunk, *chunk_end;   /* memory for new heaps, under the lock */
    unsigned nr_parked;        /* written under the lock, read relaxed: 0 means do not look */
    struct hk_heaps_counters counters; /* the same; nr_active 1: do not share */
    bool has_orphans;          /* set in a fork child: hk_heap_inherit has work */
} heaps;

/* The first thread's heap needs no mapping: room for one at whatever address the library is loaded. */
static HK_LARGE_BSS char first_chunk[2 * HK_HEAP_ALIGN];
struct hk_heap *const *hk_heap_head(void)
{
    return &heaps.all;
}

const struct hk_heaps_counters *hk_heaps_counters(void)
{
    return &heaps.counters;
}

struct hk_heap *hk_heap_first(void)
{
    return hk_load_acquire(&heaps.all); /* G2 acquire, pairs with G1 */
}

static size_t held_by(const struct hk_heap *heap)
{
    size_t bytes = hk_load_relaxed(&heap->cap_bytes) + hk_load_relaxed(&heap->held_granules) * HK_GRANULE;

    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        bytes += (size_t)hk_load_relaxed(&heap->slabs[c].nr_free) * hk_size_class[c].size;
    return bytes;
}

size_t hk_heap_held_bytes(unsigned max_heaps)
{
    size_t bytes = 0;

    for (const struct hk_heap *h = hk_heap_first(); h; h = h->next_ever) {
        if (max_heaps-- == 0)
            return SIZE_MAX;
        bytes += held_by(h);
    }
    return bytes;
}

static bool new_chunk_locked(void)
{
    char *chunk = (char *)hk_align_up((uintptr_t)first_chunk, HK_HEAP_ALIGN);
    size_t bytes = HK_HEAP_ALIGN;

    if (heaps.chunk) {
        bytes = CHUNK;
        chunk = hk_os_reserve(bytes, hk_max(HK_HEAP_ALIGN, hk_os_page_bytes()));
    }
    if (!chunk)
        return false;
    if (heaps.chunk) /* the first one is no mapping */
        hk_count_add(&heaps.counters.chunk_bytes, bytes);
    heaps.chunk = chunk;
    heaps.chunk_end = chunk + bytes;
    return true;
}

static struct hk_heap *make_heap_locked(void)
{
    struct hk_heap *heap;

    if (heaps.chunk == heaps.chunk_end && !new_chunk_locked())
        return NULL;
    heap = (struct hk_heap *)heaps.chunk;
    heaps.chunk += HK_HEAP_ALIGN;
    hk_store_relaxed(&heap->id, (unsigned)heaps.counters.nr_heaps);
    hk_count_add(&heaps.counters.nr_heaps, 1);
    heap->next_ever = heaps.all;
    heap->lock.rank = HK_RANK_HEAP; /* its word is not written: who met a slab of the heap early may hold it already */
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
        hk_store_relaxed(&heaps.counters.nr_active, heaps.counters.nr_active + 1);
        hk_trace(HK_TRACE_ADOPT, 0, heap->id);
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
        cs->cap_in_use = cs->nr_gaps = cs->owed_back = 0;
        if (bottom)
            hk_meta_free(bottom, (cs->cap + 1u) * sizeof(void *));
        cs->cap = 0;
        cs->nr_refills = 0;
    }
    hk_share_give(heap->cap_bytes);
    hk_store_relaxed(&heap->cap_bytes, (size_t)0);
    hk_heap_setup(heap);
}

/* A parked heap has no current slab: whatever becomes empty in it goes back at once. */
static void settle(struct hk_heap *heap)
{
    hk_heap_retire_empty(heap);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_slab *slab = heap->slabs[c].current;
        hk_store_relaxed(&heap->slabs[c].current, NULL);
        if (slab && slab->nr_free)
            hk_heap_link_partial(heap, slab);
    }
}

static void push_parked_locked(struct hk_heap *heap)
{
    heap->next_parked = heaps.parked;
    hk_signal_fence(); /* a fork child that could not wait for the lock takes the stack as it is */
    heaps.parked = heap;
    hk_store_relaxed(&heaps.nr_parked, heaps.nr_parked + 1);
    hk_store_relaxed(&heaps.counters.nr_active, heaps.counters.nr_active - 1);
}

void hk_heap_park(struct hk_heap *heap)
{
    hk_heap_flush_all(heap);
    hk_store_relaxed(&heap->held_granules, heap->l25.granules);
    hk_lock(&heap->lock);
    drop_magazines(heap);
    hk_store_relaxed(&heap->state, HK_HEAP_PARKED);
    hk_fence_full(); /* F2 fence, pairs with F1: state before the last look into the inbox */
    hk_heap_drain_locked(heap, heap, 0); /* no magazine is left: into the slabs */
    settle(heap);
    hk_unlock(&heap->lock);
    hk_heap_send_all(heap);
    hk_trace(HK_TRACE_PARK, 0, heap->id);
    hk_lock(&heaps_lock);
    push_parked_locked(heap);
    hk_unlock(&heaps_lock);
}

/* ---- slabs of other heaps -------------------------------------------------------------------- */

/*
 * A slab that the heap can spare. All of a parked one's; of an active one's one with room, behind the first of its list, which its next
 * refill takes. In mode secure threads look at blocks beside their own in slabs of theirs, so they keep them.
 */
static struct hk_slab *spare_slab(const struct hk_heap *heap, unsigned class)
{
    const struct hk_class_slabs *cs = &heap->slabs[class];
    struct hk_slab *slab = cs->partial;

    if (hk_load_relaxed(&heap->state) == HK_HEAP_PARKED)
        return slab ? slab : cs->current && cs->current->nr_free ? cs->current : NULL;
    if (!slab || heap->orphan || hk_config.secure)
        return NULL;
    for (unsigned i = 0; slab->next && i < MAX_SPARE_STEPS; i++)
        slab = slab->next;
    return slab != cs->partial && slab->nr_free >= slab->nr_slots / 4 ? slab : NULL;
}

/* A slab with free blocks leaves the heap; NULL: it has none of that class to spare. */
static struct hk_slab *detach(struct hk_heap *victim, unsigned class, struct hk_heap *thief)
{
    struct hk_class_slabs *cs = &victim->slabs[class];
    struct hk_slab *slab;

    /* Relaxed look first: most heaps have nothing of the class. */
    if (!hk_load_relaxed(&cs->partial) && !hk_load_relaxed(&cs->current))
        return NULL;
    if (!hk_try_lock(&victim->lock))
        return NULL;
    slab = spare_slab(victim, class);
    if (slab) {
        if (slab->listed)
            hk_heap_unlink_partial(victim, slab);
        else
            hk_store_relaxed(&cs->current, NULL);
        hk_heap_count_slab_out(victim, slab);
        hk_slab_set_owner(slab, hk_heap_word(thief, class), thief);
        hk_heap_count_slab_in(thief, slab);
    }
    hk_unlock(&victim->lock);
    return slab;
}

/* From the thief on round the list, so that thieves do not all meet at its head. */
static struct hk_slab *steal_from_any(struct hk_heap *thief, unsigned class)
{
    struct hk_heap *h = thief;

    /* Relaxed: a stale number costs one slab made anew. */
    if (hk_load_relaxed(&heaps.nr_parked) == 0 && hk_heap_is_alone())
        return NULL;
    for (unsigned looks = 0; looks < MAX_STEAL_LOOKS; looks++) {
        struct hk_slab *slab;
        h = h->next_ever ? h->next_ever : hk_heap_first();
        if (h == thief)
            return NULL;
        slab = h == hk_load_relaxed(&hk_heap_sampled) ? NULL : detach(h, class, thief);
        if (slab)
            return slab;
    }
    return NULL;
}

struct hk_slab *hk_heap_steal(struct hk_heap *thief, unsigned class)
{
    struct hk_heap *depot = hk_load_acquire(&heaps.depot); /* D2 acquire, pairs with D1 */
    struct hk_slab *slab = depot ? detach(depot, class, thief) : NULL;

    if (slab)
        hk_count_add(&thief->stats.nr_from_depot, 1);
    else
        slab = steal_from_any(thief, class);
    if (slab) {
        hk_count_add(&thief->stats.nr_slabs_stolen, 1);
        hk_trace(HK_TRACE_STEAL, class, slab->base);
    }
    return slab;
}

/* ---- depot --------------------------------------------------------------------------------- */

/* A heap that no thread owns. */
static struct hk_heap *make_shared(struct hk_heap **which)
{
    hk_lock(&heaps_lock);
    if (!*which) {
        struct hk_heap *heap = make_heap_locked();
        if (heap) {
            heap->depot = true;
            hk_store_relaxed(&heap->state, HK_HEAP_PARKED);
            /* D1 release, pairs with D2: publishes depot and state. The sampled heap: D3 release, pairs with
             * D4: the same. */
            hk_store_release(which, heap);
        }
    }
    hk_unlock(&heaps_lock);
    return hk_load_relaxed(which); /* ours, or made under the lock before */
}

struct hk_heap *hk_heap_depot(void)
{
    struct hk_heap *depot = hk_load_acquire(&heaps.depot); /* D2 acquire, pairs with D1 */

    return HK_LIKELY(depot) ? depot : make_shared(&heaps.depot);
}

static void *alloc_from(struct hk_heap *shared, unsigned class)
{
    void *p;

    if (!shared)
        return NULL;
    hk_lock(&shared->lock);
    p = hk_heap_take_one(shared, class);
    hk_unlock(&shared->lock);
    return p;
}

void *hk_heap_alloc_from_depot(unsigned class)
{
    return alloc_from(hk_heap_depot(), class);
}

struct hk_heap *hk_heap_sampled;

void *hk_heap_alloc_sampled(unsigned class)
{
    struct hk_heap *sampled = hk_load_acquire(&hk_heap_sampled); /* D4 acquire, pairs with D3 */

    return alloc_from(HK_LIKELY(sampled) ? sampled : make_shared(&hk_heap_sampled), class);
}

/*
 * The owner of a sampled slab never changes, and it is known to whoever was handed p. Of small blocks the last empty slab
 * stays for the next sample; of larger ones it would be a page or more per class for a sample that may never come.
 */
void hk_heap_free_sampled(void *p)
{
    struct hk_slab *slab = hk_slab_of(p);
    struct hk_heap *sampled = slab->owner;
    unsigned class = slab->class;

    hk_lock(&sampled->lock);
    hk_heap_give_block(sampled, slab, p);
    if (class >= HK_FIRST_POOL_CLASS)
        hk_heap_retire_empty_class(sampled, class);
    hk_unlock(&sampled->lock);
}

static void settle_shared(struct hk_heap *shared)
{
    if (!shared || !hk_try_lock(&shared->lock))
        return;
    hk_heap_retire_empty(shared);
    hk_unlock(&shared->lock);
}

void hk_heap_settle_depot(void)
{
    settle_shared(hk_load_acquire(&heaps.depot));    /* D2 acquire, pairs with D1 */
    settle_shared(hk_load_acquire(&hk_heap_sampled)); /* D4 acquire, pairs with D3 */
}

/* A heap that becomes active meanwhile belongs to a stranger until it is (policy.h). */
uint64_t hk_heap_policy_seen(void)
{
    uint64_t oldest = UINT64_MAX;

    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever) {
        uint64_t seen;
        /* After N4, or active before the pointer moved. N5 acquire, pairs with N1: who parked it was a stranger by
         * then, and had read what it read as the owner. */
        if (hk_load_acquire(&h->state) != HK_HEAP_ACTIVE || h->orphan)
            continue;
        seen = hk_load_acquire(&h->policy_seen); /* E4 acquire, pairs with E3 */
        oldest = seen < oldest ? seen : oldest;
    }
    return oldest;
}

bool hk_heap_is_alone(void)
{
    return hk_load_relaxed(&heaps.counters.nr_active) <= 1;
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
        hk_heap_count_slab_out(heap, slab);
        hk_slab_set_owner(slab, hk_heap_word(depot, class), depot);
        hk_heap_count_slab_in(depot, slab);
        hk_heap_link_partial(depot, slab);
        hk_count_add(&heap->stats.nr_published, 1);
        hk_trace(HK_TRACE_PUBLISH, class, slab->base);
    }
    hk_unlock(&depot->lock);
}

static uint16_t slots_in_use(const struct hk_heap *heap, unsigned class)
{
    void **bottom = heap->slabs[class].bottom;

    return bottom ? (uint16_t)(heap->record[class].cursor - bottom) : 0;
}

void hk_heap_flush_idle(struct hk_heap *heap)
{
    bool shared = hk_load_relaxed(&heaps.counters.nr_active) > 1 && hk_policy()->steal;
    struct hk_heap *depot = shared ? hk_heap_depot() : NULL;

    hk_lock(&heap->lock);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_class_slabs *cs = &heap->slabs[c];
        bool idle = cs->bottom && cs->idle_used == slots_in_use(heap, c) &&
                    cs->idle_refills == cs->nr_refills;

        if (idle && heap->record[c].cursor > cs->bottom + 1) {
            hk_heap_flush_watched(heap, c);
            hk_count_add(&heap->stats.nr_idle_flushes, 1);
        }
        if (idle)
            hk_heap_retire_empty_class(heap, c);
        if (idle && depot)
            publish_partial(heap, depot, c);
        cs->idle_used = slots_in_use(heap, c);
        cs->idle_refills = cs->nr_refills;
    }
    hk_unlock(&heap->lock);
}

void hk_heap_tick(struct hk_heap *heap)
{
    hk_store_relaxed(&heap->held_granules, heap->l25.granules);
    hk_heap_obey(heap);
    hk_heap_send_all(heap);
    hk_lock(&heap->lock);
    hk_heap_drain_locked(heap, heap, HK_MIB);
    hk_unlock(&heap->lock);
}

/* ---- fork ---------------------------------------------------------------------------------- */

bool hk_heap_fork_prepare(bool force)
{
    bool complete = hk_lock_for_fork(&heaps_lock);

    for (struct hk_heap *h = hk_heap_first(); h && (complete || force); h = h->next_ever)
        complete &= hk_lock_for_fork(&h->lock);
    return complete;
}

void hk_heap_fork_parent(void)
{
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        hk_unlock_after_fork(&h->lock);
    hk_unlock_after_fork(&heaps_lock);
}

/*
 * A heap whose thread is gone. It may have been taking a block, or giving one: that one is lost, or was pushed already. All else in its
 * magazines changes under the heap's lock. It is parked first: if a handler forks meanwhile, the grandchild goes on here, and once is enough.
 */
static void inherit(struct hk_heap *heap)
{
    hk_store_relaxed(&heap->state, HK_HEAP_PARKED);
    hk_signal_fence();
    heap->orphan = false;
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        hk_heap_flush_class(heap, c, UINT16_MAX);
    hk_heap_send_all(heap);
    drop_magazines(heap);
    hk_l25_flush(&heap->l25);
    settle(heap);
    push_parked_locked(heap);
}

static void inherit_all(struct hk_heap *mine)
{
    hk_lock(&heaps_lock);
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        if (h != mine && h->orphan) {
            hk_lock(&h->lock);
            inherit(h);
            hk_unlock(&h->lock);
        }
    hk_unlock(&heaps_lock);
}

void hk_heap_inherit(struct hk_heap *mine)
{
    if (HK_LIKELY(!hk_load_relaxed(&heaps.has_orphans)))
        return;
    hk_store_relaxed(&heaps.has_orphans, false);
    inherit_all(mine);
}

/*
 * A thread that is gone was making a heap, or moving one to the stack or from it. Both lists are whole after each of its instructions.
 * What was left of the chunk is lost; not NULL: the first one has been used.
 */
static void mend_lists(void)
{
    heaps.chunk = heaps.chunk_end = first_chunk;
    hk_lock_reset(&heaps_lock);
}

/* And here it was changing a heap (see hk_ace_fork_prepare): its slabs are mended, and the magazines, unless they are the caller's
 * own, lost. So are their arrays: what was being moved from one to the other may be in both. */
static void mend_heap(struct hk_heap *heap, const struct hk_heap *mine)
{
    hk_heap_mend_slabs(heap);
    if (heap != mine) {
        for (unsigned c = 0; c < HK_NR_CLASSES; c++)
            heap->slabs[c].bottom = NULL;
        drop_magazines(heap);
    }
    hk_lock_reset(&heap->lock);
}

void hk_heap_fork_child(struct hk_heap *mine, bool inside)
{
    hk_heap_note_fork();
    if (!hk_lock_reset_after_fork(&heaps_lock))
        mend_lists();
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever) {
        if (!hk_lock_reset_after_fork(&h->lock))
            mend_heap(h, mine);
        /* Without a heap of its own, an interrupted section may be about to get any of them. */
        h->orphan = h != mine && h->state == HK_HEAP_ACTIVE && (mine || !inside);
    }
    hk_store_relaxed(&heaps.has_orphans, true);
    if (!inside)
        hk_heap_inherit(mine);
}
