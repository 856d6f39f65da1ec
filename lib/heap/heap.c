// SPDX-License-Identifier: MIT
#include "heap/heap_private.h"

#include "base/panic.h"
#include "config/config.h"
#include "meta/meta.h"
#include "os/os.h"
#include "share/share.h"

#include <string.h>

const struct hk_heap hk_heap_empty;
__thread struct hk_heap *hk_heap_self = (struct hk_heap *)&hk_heap_empty;

#define MAX_REFILL 64
#define DRAIN_BYTES (256 * HK_KIB) /* per refill, so that no malloc pauses for a flood of frees */
#define PINNED_MAX_BYTES (256 * HK_KIB) /* slabs that one shrunk magazine may pin */
#define GROW_AFTER_REFILLS 1 /* refills between two flushes that show a magazine too small */
#define FLUSH_BATCH 128 /* blocks on their way to slabs at a time: 1 KiB of stack */
#define GAP 4 /* slots left empty below and above what is put into an empty magazine */

/* What the cursor of a class without a magazine points behind: empty and full at once. */
static void *no_blocks[1];

uintptr_t hk_heap_word(const struct hk_heap *heap, unsigned class)
{
    if (HK_UNLIKELY(heap == hk_load_relaxed(&hk_heap_sampled)))
        return (uintptr_t)(class + 1) << HK_HEAP_SHIFT | HK_PM_SAMPLED;
    return (uintptr_t)&heap->record[class];
}

void hk_heap_setup(struct hk_heap *heap)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        const struct hk_size_class *sc = &hk_size_class[c];

        heap->record[c] = (struct hk_class_record){
            .cursor = no_blocks + 1,
            .limit = no_blocks + 1,
            .magic = sc->magic,
            .mask = sc->slab_mask,
            .size = sc->size,
        };
    }
    heap->no_cursor = no_blocks + 1;
    hk_heap_restore_all(heap);
    heap->max_fast = HK_FAST_MAX;
    hk_heap_obey(heap);
}

void hk_heap_set_runs(struct hk_heap *heap, bool fast)
{
    size_t below = hk_min(HK_L25_MAX, hk_policy()->big_threshold - 1);

    heap->max_run = fast ? hk_max(below, HK_FAST_MAX) - HK_FAST_MAX : 0;
}

void hk_heap_obey(struct hk_heap *heap)
{
    hk_heap_set_runs(heap, true);
}

void hk_heap_count_large(struct hk_heap *heap, unsigned nr, size_t bytes)
{
    size_t average = bytes / nr;
    unsigned kind = average < 256 * HK_KIB ? 0 : average < HK_MIB ? 1 : average < 4 * HK_MIB ? 2 : 3;

    hk_count_add(&heap->events[HK_NR_EVENTS - HK_NR_LARGE + kind], nr);
    hk_count_add(&heap->given_bytes, bytes);
}

/* ---- lists of slabs ------------------------------------------------------------------------ */

void hk_heap_link_partial(struct hk_heap *heap, struct hk_slab *slab)
{
    struct hk_slab **head = &heap->slabs[slab->class].partial;

    slab->prev = NULL;
    slab->next = *head;
    if (*head)
        (*head)->prev = slab;
    hk_store_relaxed(head, slab); /* thieves look before they take the lock (heap_park.c, detach) */
    slab->listed = true;
}

void hk_heap_unlink_partial(struct hk_heap *heap, struct hk_slab *slab)
{
    if (slab->prev)
        slab->prev->next = slab->next;
    else
        hk_store_relaxed(&heap->slabs[slab->class].partial, slab->next);
    if (slab->next)
        slab->next->prev = slab->prev;
    slab->next = slab->prev = NULL;
    slab->listed = false;
}

void hk_heap_count_slab_in(struct hk_heap *heap, const struct hk_slab *slab)
{
    struct hk_class_slabs *cs = &heap->slabs[slab->class];

    hk_count_add(&cs->nr_slabs, 1);
    hk_count_add(&cs->nr_free, slab->nr_free);
}

void hk_heap_count_slab_out(struct hk_heap *heap, const struct hk_slab *slab)
{
    struct hk_class_slabs *cs = &heap->slabs[slab->class];

    hk_count_add(&cs->nr_slabs, -1u);
    hk_count_add(&cs->nr_free, -(uint32_t)slab->nr_free);
}

/* Up to n blocks leave the slab, one of the heap's. */
static unsigned take_blocks(struct hk_heap *heap, struct hk_slab *slab, void **blocks, unsigned n)
{
    unsigned taken = hk_slab_take(slab, blocks, n);

    hk_count_add(&heap->slabs[slab->class].nr_free, -taken);
    return taken;
}

static void retire(struct hk_heap *heap, struct hk_slab *slab)
{
    hk_trace(HK_TRACE_RETIRE, slab->class, slab->base);
    hk_heap_count_slab_out(heap, slab);
    hk_slab_retire(slab);
    hk_count_add(&heap->stats.nr_slabs_retired, 1);
}

/*
 * An empty slab goes back unless it is the last one with room: a loop that allocates and frees one block
 * must not make and retire a slab each time. Nobody allocates from a parked heap.
 */
static void retire_if_spare(struct hk_heap *heap, struct hk_slab *slab)
{
    struct hk_class_slabs *cs = &heap->slabs[slab->class];
    bool others = slab->next || slab->prev || (cs->current && cs->current->nr_free > 0);
    bool in_use = heap->depot || hk_load_relaxed(&heap->state) == HK_HEAP_ACTIVE;

    if (in_use && !others)
        return;
    hk_heap_unlink_partial(heap, slab);
    retire(heap, slab);
}

/* A block of the heap's slab is back in it. The caller counts the block; a slab that retires takes its count along. */
HK_INLINE void note_given(struct hk_heap *heap, struct hk_slab *slab, const struct hk_slab *current)
{
    if (slab == current)
        return;
    if (!slab->listed)
        hk_heap_link_partial(heap, slab);
    if (HK_UNLIKELY(slab->nr_free == slab->nr_slots))
        retire_if_spare(heap, slab);
}

static HK_COLD void stop_double_free(const struct hk_heap *heap, const struct hk_slab *slab, void *p)
{
    hk_panic(&(struct hk_diag){.what = "double free",
                               .ptr = p,
                               .block = p,
                               .size = hk_size_class[slab->class].size,
                               .owner = heap->thread_id});
}

void hk_heap_give_block(struct hk_heap *heap, struct hk_slab *slab, void *p)
{
    hk_count_add(&heap->slabs[slab->class].nr_free, 1);
    if (HK_UNLIKELY(!hk_slab_give(slab, p)))
        stop_double_free(heap, slab, p);
    note_given(heap, slab, heap->slabs[slab->class].current);
}

/* In the child of a handler that forked, an interrupted fast path goes on with a block that has gone back. */
static bool heap_has_forked;

void hk_heap_note_fork(void)
{
    heap_has_forked = true;
}

/*
 * A pointer to a slot of a page that nobody touched passes free's fast path (slab.h), and lies on top of a magazine while its
 * slab says that it never left. A class gets its first slab so seldom that there is time to look at every magazine's top.
 */
static bool is_uncarved(const struct hk_slab *slab, const void *p)
{
    /* Relaxed: of another heap's slab, if it was carved for a live block, that was before. */
    return hk_size_slot(&hk_size_class[slab->class], (uintptr_t)p - slab->base) >= hk_load_relaxed(&slab->carved);
}

static void look_for_strays(const struct hk_heap *heap)
{
    if (heap_has_forked)
        return;
    for (unsigned c = 0; HK_CHECKS && c < HK_NR_CLASSES; c++) {
        void *top = heap->slabs[c].bottom ? heap->record[c].cursor[-1] : NULL;
        const struct hk_slab *slab = top ? hk_slab_of(top) : NULL;
        if (slab && slab->class == c && HK_UNLIKELY(is_uncarved(slab, top)))
            hk_panic(&(struct hk_diag){
                .what = "invalid free: unknown pointer, found later", .ptr = top, .owner = heap->thread_id});
    }
}

static struct hk_slab *new_slab(struct hk_heap *heap, unsigned class)
{
    struct hk_slab *slab = hk_slab_acquire(class, hk_heap_word(heap, class), heap);

    if (!slab)
        return NULL;
    if (heap->slabs[class].nr_slabs == 0)
        look_for_strays(heap);
    hk_heap_count_slab_in(heap, slab);
    hk_count_add(&heap->stats.nr_slabs_acquired, 1);
    hk_trace(HK_TRACE_SLAB, class, slab->base);
    return slab;
}

/* A slab with a free block, made current; NULL: no memory. The old current one is full: it is in no list
 * until a block comes back. */
struct hk_slab *hk_heap_usable_slab(struct hk_heap *heap, unsigned class)
{
    struct hk_class_slabs *cs = &heap->slabs[class];
    struct hk_slab *slab = cs->current;

    if (slab && slab->nr_free) {
        hk_count_add(&heap->stats.nr_from_current, 1);
        return slab;
    }
    slab = cs->partial;
    if (slab) {
        hk_heap_unlink_partial(heap, slab);
        hk_count_add(&heap->stats.nr_from_partial, 1);
    }
    if (!slab && hk_policy()->steal && !heap->depot)
        slab = hk_heap_steal(heap, class);
    if (!slab)
        slab = new_slab(heap, class);
    if (slab)
        hk_store_relaxed(&cs->current, slab);
    else
        hk_count_add(&heap->stats.nr_failed, 1);
    return slab;
}

/* ---- magazines ----------------------------------------------------------------------------- */

static size_t magazine_bytes(unsigned cap)
{
    return (cap + 1u) * sizeof(void *);
}

/* Blocks of a class that a thread may keep when all threads together keep enough. */
static unsigned least_capacity(unsigned class)
{
    return hk_size_class[class].size <= 512 ? 7 : 1;
}

/* Moves the magazine into an array of `cap`, or if it is the first one of less; false: no memory or no budget, nothing changed. */
static bool set_capacity(struct hk_heap *heap, unsigned class, unsigned cap)
{
    struct hk_class_record *r = &heap->record[class];
    struct hk_class_slabs *cs = &heap->slabs[class];
    size_t more_bytes = (size_t)(cap - cs->cap) * r->size;
    unsigned used = cs->bottom ? (unsigned)(r->cursor - cs->bottom) - 1 : 0;
    void **bottom;

    if (cs->bottom && heap->cap_bytes + more_bytes > hk_policy()->cache_budget_bytes)
        return false;
    if (!hk_share_take(more_bytes)) {
        if (cs->bottom)
            return false;
        cap = (unsigned)hk_min(cap, least_capacity(class));
        more_bytes = (size_t)cap * r->size;
        hk_share_force(more_bytes);
    }
    bottom = hk_meta_alloc(magazine_bytes(cap));
    if (!bottom) {
        hk_share_give(more_bytes);
        return false;
    }
    if (cs->bottom) {
        memcpy(bottom, cs->bottom, magazine_bytes(used));
        hk_meta_free(cs->bottom, magazine_bytes(cs->cap));
    }
    cs->bottom = bottom;
    cs->cap = (uint16_t)cap;
    hk_count_add(&heap->cap_bytes, more_bytes);
    r->cursor = bottom + 1 + used;
    r->limit = bottom + 1 + cap;
    return true;
}

/* What the magazine may hold now: at most cap. */
static unsigned soft_cap(const struct hk_class_record *r, const struct hk_class_slabs *cs)
{
    return (unsigned)(r->limit - cs->bottom) - 1;
}

/* Blocks per refill: the policy's number, a quarter for a class that may need no more (a short thread uses most of its
 * classes once or twice), more for one that keeps missing. */
static unsigned refill_count(const struct hk_class_record *r, const struct hk_class_slabs *cs,
                             unsigned class)
{
    const struct hk_class_policy *policy = &hk_policy()->class[class];
    unsigned n = policy->refill;

    if (cs->nr_refills == 0 && cs->cap == policy->cap_initial)
        n = (n + 3) / 4;
    if (cs->nr_refills >= 8)
        n = 2 * n;
    if (cs->nr_refills >= 32)
        n = 2 * n;
    n = n < policy->refill_hot ? n : policy->refill_hot;
    n = hk_min(n, (unsigned)(r->limit - r->cursor));
    return n < MAX_REFILL ? n : MAX_REFILL;
}

/*
 * Gaps. A signal handler may have interrupted this thread inside the fast path of free, which has read the
 * cursor of a magazine nearly empty and will still store its block there and add one slot. If the handler's
 * malloc filled the magazine from that place on, a block would be overwritten and the new top slot be stale.
 * So what is put into an empty magazine leaves some NULLs below, where such a store lands, and as many
 * above, where the cursor then stands; NULLs in a magazine mean "look further down". The fast paths take
 * them for the bottom, slow paths skip them.
 */
static unsigned gap_slots(const struct hk_class_record *r, const struct hk_class_slabs *cs)
{
    unsigned cap = soft_cap(r, cs);

    return cap < 3 ? 0 : (unsigned)hk_min(GAP, hk_max(cap / 4, 1));
}

static void skip_gap(struct hk_class_record *r, struct hk_class_slabs *cs)
{
    while (cs->bottom && r->cursor > cs->bottom + 1 && !r->cursor[-1])
        r->cursor--;
    if (cs->bottom && r->cursor == cs->bottom + 1)
        cs->nr_gaps = 0;
}

/* The magazine is empty. `limit` is lowered, so that what comes in leaves the upper gap; returns the old one. */
static void **open_gap(struct hk_class_record *r, struct hk_class_slabs *cs)
{
    unsigned n = gap_slots(r, cs);
    void **limit = r->limit;

    for (unsigned i = 0; i < n; i++)
        r->cursor[i] = NULL;
    r->cursor += n;
    r->limit -= n;
    cs->nr_gaps = (uint16_t)(cs->nr_gaps + n);
    return limit;
}

static void close_gap(struct hk_class_record *r, const struct hk_class_slabs *cs, void **limit)
{
    unsigned n;

    r->limit = limit;
    n = gap_slots(r, cs);
    for (unsigned i = 0; n && i <= n; i++) /* one more: a block was taken, and may come back */
        r->cursor[i] = NULL;
}

static void *pop(struct hk_class_record *r)
{
    void *p = r->cursor[-1];

    if (p) {
        r->cursor--;
        if (HK_CHECKS)
            *hk_mark_of(p) = 0;
    }
    return p;
}

/* All blocks of a class are multiples of this. */
static size_t natural_align(unsigned class)
{
    size_t size = hk_size_class[class].size;

    return size & -size;
}

/*
 * W_MAX: rather than make a slab, a mid-sized request takes a cached block of a class that is at most
 * wmax_mid times its own. NULL: nothing suitable is cached.
 */
static void *take_larger(struct hk_heap *heap, unsigned class)
{
    const struct hk_class_slabs *cs = &heap->slabs[class];
    size_t most = hk_scale(hk_size_class[class].size, hk_policy()->wmax_mid);

    if (class < HK_FIRST_POOL_CLASS || class >= HK_NR_SIZED_CLASSES || cs->partial ||
        (cs->current && cs->current->nr_free))
        return NULL;
    for (unsigned c = class + 1; c < HK_NR_SIZED_CLASSES && hk_size_class[c].size <= most; c++) {
        bool aligned = natural_align(c) >= natural_align(class); /* the request may rely on it */
        void *p = aligned ? pop(&heap->record[c]) : NULL;
        if (p) {
            hk_count_add(&heap->stats.nr_larger, 1);
            return p;
        }
    }
    return NULL;
}

/* Blocks that did not come from the thread's own frees enter a magazine. Once due, every such event says so. */
void hk_heap_count_down(struct hk_heap *heap, unsigned class, unsigned nr_blocks)
{
    struct hk_sampling *s = &heap->sampling;

    s->countdown -= (int64_t)nr_blocks * heap->record[class].size;
    if (HK_LIKELY(s->countdown > 0))
        return;
    s->due_class = (uint16_t)class;
    s->due_blocks = (uint16_t)nr_blocks;
    s->attention |= HK_SAMPLE_DUE;
}

/* Option secure: which block comes next shall not be known. Knuth, TAOCP 2, 3.4.2, algorithm P; xorshift64 (Marsaglia 2003). */
static HK_COLD void shuffle(struct hk_heap *heap, void **blocks, unsigned n)
{
    uint64_t x = heap->shuffled ? heap->shuffled : hk_os_random(~(uint64_t)heap->id) | 1;

    for (unsigned i = n; i > 1; i--) {
        unsigned j;
        void *p = blocks[i - 1];
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        j = (unsigned)((x >> 32) * i >> 32);
        blocks[i - 1] = blocks[j];
        blocks[j] = p;
    }
    heap->shuffled = x;
}

/* Fills the magazine, empty but for the gap, so that blocks leave it in address order. */
static bool refill(struct hk_heap *heap, unsigned class)
{
    struct hk_class_record *r = &heap->record[class];
    struct hk_class_slabs *cs = &heap->slabs[class];
    void *blocks[MAX_REFILL];
    struct hk_slab *slab = hk_heap_usable_slab(heap, class);
    unsigned n;

    if (!slab)
        return false;
    n = take_blocks(heap, slab, blocks, refill_count(r, cs, class));
    if (HK_UNLIKELY(hk_config.secure))
        shuffle(heap, blocks, n);
    for (unsigned i = 0; i < n; i++)
        r->cursor[i] = blocks[n - 1 - i];
    r->cursor += n;
    if (cs->nr_refills < UINT16_MAX)
        cs->nr_refills++;
    hk_count_add(&heap->stats.nr_refills, 1);
    hk_count_add(&heap->stats.nr_refills_mid, class >= HK_FIRST_POOL_CLASS);
    hk_trace(HK_TRACE_REFILL, class, n);
    hk_heap_count_down(heap, class, n);
    hk_count_add(&heap->events[hk_heap_event_of(class)], 1);
    hk_count_add(&heap->given_bytes, (uint64_t)n * r->size);
    return true;
}

/* No magazine can be had, or nobody owns the heap: one block straight from a slab. */
void *hk_heap_take_one(struct hk_heap *heap, unsigned class)
{
    struct hk_slab *slab = hk_heap_usable_slab(heap, class);
    void *p = NULL;

    hk_count_add(&heap->stats.nr_single, 1);
    if (slab && take_blocks(heap, slab, &p, 1) && HK_CHECKS)
        *hk_mark_of(p) = 0;
    return p;
}

/*
 * An idle look may come from a signal handler that interrupted this class's fast path: a malloc that has read the
 * top block, a free that has read the cursor. So the first look leaves the top block where malloc's
 * subtraction will find it, and NULLs above, where free's addition may lead. And it lowers the limit
 * below any cursor, so that the next free comes here and shows that the class is in use: a loop of malloc and
 * free has the cursor at the same place at every look.
 */
static void watch(struct hk_class_record *r, struct hk_class_slabs *cs)
{
    cs->cap_in_use = (uint16_t)soft_cap(r, cs);
    r->limit = cs->bottom + 1;
}

static void unwatch(struct hk_class_record *r, struct hk_class_slabs *cs)
{
    if (cs->cap_in_use)
        r->limit = cs->bottom + 1 + cs->cap_in_use;
    cs->cap_in_use = 0;
}

/* Both ends of the magazine were hit: it is too small. */
static bool grow(struct hk_heap *heap, unsigned class, const struct hk_class_policy *policy)
{
    struct hk_class_record *r = &heap->record[class];
    struct hk_class_slabs *cs = &heap->slabs[class];
    unsigned most = (unsigned)hk_min(cs->cap, policy->cap_max);

    if (soft_cap(r, cs) < most) { /* was lowered */
        r->limit = cs->bottom + 1 + hk_min(most, soft_cap(r, cs) * 2u + 1);
    } else if (cs->cap >= policy->cap_max || !set_capacity(heap, class, cs->cap * 2u + 1)) {
        return false;
    }
    hk_count_add(&heap->stats.nr_grown, 1);
    return true;
}

/* Blocks came home and found no room: next time they are refilled from there, not by way of their slabs. */
static void grow_for_parcels(struct hk_heap *heap, unsigned class)
{
    struct hk_class_slabs *cs = &heap->slabs[class];

    if (HK_UNLIKELY(cs->nr_overflows > cs->cap / 2))
        (void)grow(heap, class, &hk_policy()->class[class]);
    cs->nr_overflows = 0;
}

/* The magazine is empty. */
static void *fill_and_pop(struct hk_heap *heap, unsigned class)
{
    struct hk_class_record *r = &heap->record[class];
    void **limit = open_gap(r, &heap->slabs[class]);
    void *p;

    heap->slabs[class].owed_back = 0; /* what the magazine held has been handed out: their samples are due for good */
    hk_heap_drain_for(heap, class, DRAIN_BYTES);
    p = pop(r);
    if (p)
        hk_count_add(&heap->stats.nr_drained, 1);
    else
        p = take_larger(heap, class);
    if (!p && refill(heap, class))
        p = pop(r);
    close_gap(r, &heap->slabs[class], limit);
    grow_for_parcels(heap, class);
    return p;
}

void *hk_heap_alloc_slow(struct hk_heap *heap, unsigned class)
{
    struct hk_class_record *r = &heap->record[class];
    void *p;

    unwatch(r, &heap->slabs[class]);
    skip_gap(r, &heap->slabs[class]);
    p = pop(r); /* not empty when fast paths are off */
    if (p) {
        hk_count_add(&heap->stats.nr_popped, 1);
        return p;
    }
    hk_lock(&heap->lock);
    if (HK_UNLIKELY(!heap->slabs[class].bottom) &&
        !set_capacity(heap, class, hk_policy()->class[class].cap_initial))
        p = hk_heap_take_one(heap, class);
    else
        p = fill_and_pop(heap, class);
    hk_unlock(&heap->lock);
    return p;
}

/* A block whose slab is nearly empty but for what magazines hold: caching it costs a slab. */
static bool pins_slab(const struct hk_slab *slab)
{
    return slab->nr_free >= slab->nr_slots * 7 / 8;
}

struct given {
    unsigned nr_home;   /* blocks in slabs of the heap, */
    unsigned nr_away;   /* on their way to the owners of theirs */
    unsigned nr_pinned; /* about so many slabs were kept from retiring */
    unsigned nr_stuck;  /* of nr_away: at the batch's start, without a parcel */
};

/* How many of the blocks, from the first on, lie in slabs of one heap; no gap is among them. */
static unsigned same_owner(void *const *blocks, unsigned n, struct hk_heap **owner)
{
    unsigned i = 1;

    *owner = hk_heap_of_word(hk_pagemap_word(blocks[0]));
    while (i < n && blocks[i] && hk_heap_of_word(hk_pagemap_word(blocks[i])) == *owner)
        i++;
    return i;
}

/* Where p lies if that is the heap's own, else NULL. Nothing of another heap's slab is read. */
HK_INLINE struct hk_slab *own_slab(const struct hk_heap *heap, const void *p)
{
    const struct hk_pm_leaf *leaf = hk_pagemap_leaf((uintptr_t)p);
    size_t i = hk_pagemap_index((uintptr_t)p);

    return HK_LIKELY((hk_load_relaxed(&leaf->word[i]) & ~(HK_HEAP_ALIGN - 1)) == (uintptr_t)heap)
               ? hk_load_relaxed(&leaf->desc[i])
               : NULL;
}

/* Number i is of another heap's slab: it and those behind it of the same are sent there. Returns how many. */
static unsigned give_away(struct hk_heap *heap, unsigned class, void **batch, unsigned i, unsigned n, struct given *given)
{
    struct hk_heap *owner;
    unsigned same = same_owner(batch + i, n - i, &owner), sent = hk_heap_send(heap, owner, class, batch + i, same);

    for (unsigned k = i + sent; HK_UNLIKELY(k < i + same); k++)
        batch[given->nr_stuck++] = batch[k];
    given->nr_away += same;
    return same;
}

/* What give_batch left. To wait for another heap's lock this one's is let go of meanwhile. */
static HK_COLD void bring_stuck_home(struct hk_heap *heap, void *const *batch, struct given *given)
{
    hk_unlock(&heap->lock);
    for (unsigned i = 0; i < given->nr_stuck; i++)
        hk_heap_bring_home(heap, batch[i]);
    given->nr_stuck = 0;
    hk_lock(&heap->lock);
}

/*
 * Dead blocks of one class, out of every magazine, go back to their slabs, or to whoever owns those by now; gaps to nowhere. The
 * heap is locked. The caller counts what comes home, and then brings home what is stuck.
 */
static void give_batch(struct hk_heap *heap, unsigned class, void **batch, unsigned n, struct given *given)
{
    const struct hk_size_class *sc = &hk_size_class[class];
    const struct hk_slab *current = heap->slabs[class].current, *last = NULL;

    for (unsigned i = 0; i < n; i++) {
        struct hk_slab *slab;
        if (HK_UNLIKELY(!batch[i])) {
            heap->slabs[class].nr_gaps -= heap->slabs[class].nr_gaps > 0;
            continue;
        }
        slab = own_slab(heap, batch[i]);
        if (HK_UNLIKELY(!slab)) {
            i += give_away(heap, class, batch, i, n, given) - 1;
            continue;
        }
        given->nr_pinned += slab != last && pins_slab(slab);
        last = slab;
        if (HK_UNLIKELY(!hk_slab_give_slot(slab, hk_size_slot(sc, (uintptr_t)batch[i] - slab->base))))
            stop_double_free(heap, slab, batch[i]);
        note_given(heap, slab, current);
        given->nr_home++;
    }
}

/*
 * n of `used` blocks leave the magazine, and with them their share of what came back with them: when they return they are counted down
 * again. What refills made due stays, for those blocks were handed out. What does not divide is decided by chance.
 */
static void forget_owed(struct hk_heap *heap, unsigned class, unsigned n, unsigned used)
{
    struct hk_sampling *s = &heap->sampling;
    struct hk_class_slabs *cs = &heap->slabs[class];
    unsigned chance, forgotten;
    uint32_t mixed;

    if (HK_LIKELY(cs->owed_back == 0) || used == 0)
        return;
    mixed = ((uint32_t)heap->stats.nr_flushes + cs->nr_free) * UINT32_C(2654435769); /* site.c, hash */
    chance = (unsigned)((uint64_t)mixed * used >> 32);
    forgotten = (cs->owed_back * n + chance) / used;
    cs->owed_back = (uint16_t)(cs->owed_back - forgotten);
    if (heap->detour)
        heap->detour->nr_spare[class] -= (uint16_t)hk_min(heap->detour->nr_spare[class], forgotten);
    s->owed[class] = (uint16_t)(s->owed[class] - forgotten);
    if (s->owed[class])
        return;
    s->nr_owed--;
    hk_heap_restore(heap, class);
}

/* The oldest nr_blocks go back to their slabs. */
static struct given flush_class(struct hk_heap *heap, unsigned class, unsigned nr_blocks)
{
    struct hk_class_record *r = &heap->record[class];
    struct hk_class_slabs *cs = &heap->slabs[class];
    unsigned used = cs->bottom ? (unsigned)(r->cursor - cs->bottom) - 1 : 0;
    struct given all = {0, 0, 0, 0};
    void *batch[FLUSH_BATCH];

    forget_owed(heap, class, hk_min(nr_blocks, used), used);
    while (nr_blocks > 0 && used > 0) {
        unsigned n = (unsigned)hk_min(hk_min(nr_blocks, FLUSH_BATCH), used), nr_home = all.nr_home;
        /* Out of the magazine first: a block is in one place at a time, whatever give does. */
        memcpy(batch, cs->bottom + 1, n * sizeof *batch);
        memmove(cs->bottom + 1, cs->bottom + 1 + n, (used - n) * sizeof *batch);
        used -= n;
        r->cursor = cs->bottom + 1 + used;
        give_batch(heap, class, batch, n, &all); /* which may take from the count as well */
        hk_count_add(&cs->nr_free, all.nr_home - nr_home);
        if (HK_UNLIKELY(all.nr_stuck))
            bring_stuck_home(heap, batch, &all);
        nr_blocks -= n;
    }
    return all;
}

void hk_heap_flush_class(struct hk_heap *heap, unsigned class, unsigned nr_blocks)
{
    (void)flush_class(heap, class, nr_blocks);
}

void hk_heap_flush_watched(struct hk_heap *heap, unsigned class)
{
    struct hk_class_record *r = &heap->record[class];
    struct hk_class_slabs *cs = &heap->slabs[class];
    unsigned used = (unsigned)(r->cursor - cs->bottom) - 1;

    if (cs->cap_in_use) {
        unwatch(r, cs);
        hk_heap_flush_class(heap, class, UINT16_MAX);
        return;
    }
    hk_heap_flush_class(heap, class, used - 1);
    memset(r->cursor, 0, (used - 1) * sizeof *r->cursor);
    watch(r, cs);
}

/*
 * The program lets go of more than it takes, and what the magazine holds keeps otherwise empty slabs, or belongs to others: all
 * of it goes back and the magazine stays small until it proves too small again.
 */
static void shrink(struct hk_heap *heap, unsigned class, unsigned cap)
{
    struct hk_class_record *r = &heap->record[class];
    struct hk_class_slabs *cs = &heap->slabs[class];

    (void)flush_class(heap, class, UINT16_MAX);
    cs->nr_refills = 0;
    hk_count_add(&heap->stats.nr_shrunk, 1);
    r->limit = cs->bottom + 1 + hk_min(cs->cap, cap);
}

/* Grows the magazine when both ends were hit since the last flush, else flushes half of it. */
static void make_room(struct hk_heap *heap, unsigned class)
{
    struct hk_class_slabs *cs = &heap->slabs[class];
    const struct hk_class_policy *policy = &hk_policy()->class[class];
    bool oscillates = cs->nr_refills >= GROW_AFTER_REFILLS;
    size_t slab_bytes = (size_t)hk_size_class[class].slab_mask + 1;
    struct given given;
    unsigned half;

    cs->nr_refills /= 2; /* a wave of frees may double the magazine several times */
    if (!cs->bottom) {
        set_capacity(heap, class, policy->cap_initial);
        return;
    }
    if (soft_cap(&heap->record[class], cs) > policy->cap_max) { /* the option was lowered */
        shrink(heap, class, policy->cap_max);
        return;
    }
    if (oscillates && grow(heap, class, policy))
        return;
    half = (soft_cap(&heap->record[class], cs) + 1) / 2;
    given = flush_class(heap, class, half);
    if (given.nr_pinned * slab_bytes > PINNED_MAX_BYTES)
        shrink(heap, class, (unsigned)hk_min(policy->cap_initial, hk_max(3, PINNED_MAX_BYTES / slab_bytes)));
    else if (cs->nr_refills == 0 && given.nr_away > given.nr_home)
        shrink(heap, class, hk_max(1u, policy->cap_initial / 2u));
    hk_count_add(&heap->stats.nr_flushes, 1);
    hk_trace(HK_TRACE_FLUSH, class, half);
}

void hk_heap_free_full(struct hk_heap *heap, unsigned class, void *p)
{
    struct hk_class_record *r = &heap->record[class];
    struct given given = {0, 0, 0, 0};

    unwatch(r, &heap->slabs[class]);
    if (r->cursor >= r->limit) {
        hk_lock(&heap->lock);
        make_room(heap, class);
        hk_unlock(&heap->lock);
    }
    if (HK_LIKELY(r->cursor < r->limit)) {
        *r->cursor = p;
        hk_signal_fence(); /* then the cursor: a fork child may find this thread here, and takes over what is below */
        r->cursor++;
        return;
    }
    hk_lock(&heap->lock); /* no magazine to be had */
    give_batch(heap, class, &p, 1, &given);
    hk_count_add(&heap->slabs[class].nr_free, given.nr_home);
    if (HK_UNLIKELY(given.nr_stuck))
        bring_stuck_home(heap, &p, &given);
    hk_unlock(&heap->lock);
}

static void retire_current(struct hk_heap *heap, struct hk_class_slabs *cs)
{
    if (cs->current && cs->current->nr_free == cs->current->nr_slots) {
        retire(heap, cs->current);
        hk_store_relaxed(&cs->current, NULL);
    }
}

void hk_heap_retire_current(struct hk_heap *heap)
{
    if (!hk_try_lock(&heap->lock))
        return;
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        retire_current(heap, &heap->slabs[c]);
    hk_unlock(&heap->lock);
}

void hk_heap_retire_empty_class(struct hk_heap *heap, unsigned class)
{
    struct hk_class_slabs *cs = &heap->slabs[class];

    retire_current(heap, cs);
    for (struct hk_slab *slab = cs->partial, *next; slab; slab = next) {
        next = slab->next;
        if (slab->nr_free == slab->nr_slots) {
            hk_heap_unlink_partial(heap, slab);
            retire(heap, slab);
        }
    }
}

void hk_heap_retire_empty(struct hk_heap *heap)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        hk_heap_retire_empty_class(heap, c);
}

void hk_heap_flush_all(struct hk_heap *heap)
{
    hk_lock(&heap->lock);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        hk_heap_flush_class(heap, c, UINT16_MAX);
    hk_heap_drain_locked(heap, heap, 0);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        hk_heap_flush_class(heap, c, UINT16_MAX); /* what the drain put there */
    hk_heap_retire_empty(heap);
    hk_unlock(&heap->lock);
    hk_heap_send_all(heap);
}
