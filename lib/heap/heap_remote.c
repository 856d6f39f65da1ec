// SPDX-License-Identifier: MIT
/* heap_remote: blocks freed by a thread that does not own their slab. See heap.h, "Remote free". */
#include "heap/heap_private.h"

#include "meta/meta.h"

/* All batches ever made, newest first; only grows. */
static struct hk_parcel *all_parcels;

struct hk_parcel *const *hk_parcel_head(void)
{
    return &all_parcels;
}

struct hk_parcel *hk_parcel_first(void)
{
    return hk_load_acquire(&all_parcels); /* B2 acquire, pairs with B1 */
}

static struct hk_parcel *make_parcel(struct hk_heap *sender)
{
    struct hk_parcel *b = hk_meta_alloc(sizeof *b);

    if (!b)
        return NULL;
    b->sender = sender;
    b->next_ever = hk_load_relaxed(&all_parcels);
    /* B1 release, pairs with B2: publishes next_ever */
    while (!hk_cas_release(&all_parcels, &b->next_ever, b))
        ;
    return b;
}

/* The caller owns the heap or, for the depot, holds its lock. */
static struct hk_parcel *get_parcel(struct hk_heap *heap)
{
    struct hk_parcel *b = heap->free_parcels;

    if (!b && hk_load_relaxed(&heap->returned))
        b = hk_exchange_acquire(&heap->returned, NULL); /* H4 acquire, pairs with H3 */
    if (!b)
        return make_parcel(heap);
    heap->free_parcels = b->next;
    hk_signal_fence(); /* before it is anywhere else: a fork child may find this thread here */
    return b;
}

static void push(struct hk_parcel **stack, struct hk_parcel *b)
{
    b->next = hk_load_relaxed(stack);
    /* H1 release, pairs with H2: publishes the parcel's fields. On the stack `returned`:
     * H3 release, pairs with H4: the same. */
    while (!hk_cas_release(stack, &b->next, b))
        hk_cpu_relax();
}

/* After the push either we see the owner parked and drain for it, or the owner, parking, sees the parcel. */
static void send(struct hk_heap *self, struct hk_heap *owner, struct hk_parcel *b)
{
    size_t waiting = hk_add_relaxed(&owner->inbox_bytes, b->bytes) + b->bytes;

    push(&owner->inbox, b);
    hk_fence_full(); /* F1 fence, pairs with F2: the push before the look at state */
    if (HK_UNLIKELY(hk_load_relaxed(&owner->state) == HK_HEAP_PARKED || waiting > HK_INBOX_MAX_BYTES))
        hk_heap_try_drain(self, owner);
}

static void send_outbox(struct hk_heap *heap, struct hk_outbox *box)
{
    struct hk_parcel *b = box->parcel;

    if (!b || b->count == 0)
        return;
    box->parcel = NULL; /* first: send() may come back here through a drain */
    hk_count_add(&heap->stats.nr_parcels_sent, 1);
    hk_trace(HK_TRACE_SEND, 0, b->count);
    send(heap, box->owner, b);
}

void hk_heap_send_all(struct hk_heap *heap)
{
    for (unsigned i = 0; i < HK_NR_OUTBOXES; i++)
        send_outbox(heap, &heap->outbox[i]);
}

static void add_block(struct hk_parcel *b, void *p, unsigned class, size_t bytes)
{
    hk_store_relaxed(&b->blocks[b->count], p);
    hk_store_relaxed(&b->class[b->count], (uint8_t)class);
    b->bytes += (uint32_t)bytes;
    hk_store_release(&b->count, b->count + 1); /* V2 release, pairs with V1 */
}

/* A thread without a heap borrows the depot's parcels. False: no memory. */
static bool send_single(struct hk_heap *owner, void *p, unsigned class)
{
    struct hk_heap *depot = hk_heap_depot();
    struct hk_parcel *b;

    if (!depot)
        return false;
    hk_lock(&depot->lock);
    b = get_parcel(depot);
    hk_unlock(&depot->lock);
    if (!b)
        return false;
    b->bytes = 0;
    add_block(b, p, class, hk_size_class[class].size);
    send(NULL, owner, b);
    return true;
}

/* The outbox has a parcel for another owner, or none. False: no memory. */
static HK_NOINLINE bool open_parcel(struct hk_heap *heap, struct hk_outbox *box, struct hk_heap *owner)
{
    if (box->owner != owner) {
        send_outbox(heap, box);
        box->owner = owner;
    }
    if (!box->parcel) {
        box->parcel = get_parcel(heap);
        if (!box->parcel)
            return false;
        box->parcel->bytes = 0;
    }
    return true;
}

unsigned hk_heap_send(struct hk_heap *heap, struct hk_heap *owner, unsigned class, void *const *blocks, unsigned n)
{
    size_t size = hk_size_class[class].size, batch_bytes = hk_policy()->remote_batch_bytes;
    /* By its address: nothing is read that the owner writes. */
    struct hk_outbox *box = &heap->outbox[(uintptr_t)owner / HK_HEAP_ALIGN % HK_NR_OUTBOXES];

    for (unsigned i = 0; i < n; i++) {
        if (HK_UNLIKELY(box->owner != owner || !box->parcel) && !open_parcel(heap, box, owner))
            return i;
        add_block(box->parcel, blocks[i], class, size);
        hk_count_add(&heap->stats.nr_remote_frees, 1);
        if (HK_UNLIKELY(box->parcel->count == HK_PARCEL_BLOCKS || box->parcel->bytes >= batch_bytes))
            send_outbox(heap, box);
    }
    return n;
}

/* False: there is no parcel for it. */
static bool try_send(struct hk_heap *self, void *p, uintptr_t word)
{
    struct hk_heap *owner = hk_heap_of_word(word);
    unsigned class = hk_class_of_word(word);

    return HK_LIKELY(self) ? hk_heap_send(self, owner, class, &p, 1) == 1 : send_single(owner, p, class);
}

/* The slab stays while a block of it is out, but may change owner until that one's lock is had. */
HK_COLD void hk_heap_bring_home(struct hk_heap *self, void *p)
{
    struct hk_slab *slab = hk_slab_of(p);
    bool is_home = false;

    while (!is_home) {
        struct hk_heap *owner = hk_load_relaxed(&slab->owner);
        hk_lock(&owner->lock);
        is_home = hk_load_relaxed(&slab->owner) == owner;
        if (is_home)
            hk_heap_give_block(owner, slab, p);
        hk_unlock(&owner->lock);
    }
    if (self)
        hk_count_add(&self->stats.nr_remote_frees, 1);
}

void hk_heap_free_remote(struct hk_heap *heap, void *p, uintptr_t word)
{
    if (HK_UNLIKELY(!try_send(heap, p, word)))
        hk_heap_bring_home(heap, p);
}

/* ---- drain --------------------------------------------------------------------------------- */

/* Into the magazine if the caller owns it and there is room. */
static void take_home(struct hk_heap *self, struct hk_heap *heap, struct hk_slab *slab, void *p)
{
    struct hk_class_record *r = &heap->record[slab->class];

    if (self == heap && r->cursor < r->limit) {
        *r->cursor++ = p;
        hk_heap_count_down(heap, slab->class, 1);
    } else {
        heap->slabs[slab->class].nr_overflows += self == heap;
        hk_heap_give_block(heap, slab, p);
    }
}

/* Empties a parcel. Blocks whose slab has another owner now go to `astray`; returns how many: forward() is next. With none it is
 * on its way back to its sender already. */
static unsigned unpack(struct hk_heap *self, struct hk_heap *heap, struct hk_parcel *b, void **astray)
{
    unsigned nr_astray = 0;

    for (unsigned i = 0; i < b->count; i++) {
        void *p = b->blocks[i];
        struct hk_slab *slab = hk_slab_of(p);

        if (HK_LIKELY(hk_load_relaxed(&slab->owner) == heap))
            take_home(self, heap, slab, p);
        else
            astray[nr_astray++] = p;
    }
    hk_count_add(&heap->stats.nr_parcels_drained, 1);
    hk_trace(HK_TRACE_DRAIN, 0, b->count);
    hk_store_release(&b->count, 0); /* V2 release, pairs with V1: the blocks are home */
    if (HK_LIKELY(nr_astray == 0))
        push(&b->sender->returned, b);
    return nr_astray;
}

/*
 * Blocks of an empty parcel travel on. Those for which there is no other keep it, on to the owner of the first: one block at least
 * arrives at each stop, unless its slab changes hands once more.
 */
static void forward(struct hk_heap *self, struct hk_parcel *b, void **astray, unsigned n)
{
    if (HK_LIKELY(n == 0))
        return;
    b->bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        uintptr_t word = hk_pagemap_word(astray[i]);
        unsigned class = hk_class_of_word(word);
        if (HK_UNLIKELY(!try_send(self, astray[i], word)))
            add_block(b, astray[i], class, hk_size_class[class].size);
    }
    if (self)
        hk_count_add(&self->stats.nr_forwarded, n);
    if (HK_UNLIKELY(b->count))
        send(self, hk_heap_of_word(hk_pagemap_word(b->blocks[0])), b);
    else
        push(&b->sender->returned, b);
}

static struct hk_parcel *next_pending(struct hk_heap *heap)
{
    struct hk_parcel *b = heap->pending;

    if (!b && hk_load_relaxed(&heap->inbox)) {
        hk_store_relaxed(&heap->inbox_bytes, (size_t)0);
        b = hk_exchange_acquire(&heap->inbox, NULL); /* H2 acquire, pairs with H1 */
    }
    if (b)
        hk_store_relaxed(&heap->pending, b->next);
    return b;
}

/* Bytes that came home; 0: nothing waits. */
static size_t drain_parcel(struct hk_heap *self, struct hk_heap *heap)
{
    void *astray[HK_PARCEL_BLOCKS];
    struct hk_parcel *b = next_pending(heap);
    size_t bytes = b ? b->bytes : 0;

    if (b)
        forward(self, b, astray, unpack(self, heap, b, astray));
    return bytes;
}

void hk_heap_drain_locked(struct hk_heap *self, struct hk_heap *heap, size_t max_bytes)
{
    size_t bytes = 0, more;

    while ((max_bytes == 0 || bytes < max_bytes) && (more = drain_parcel(self, heap)) != 0)
        bytes += more;
}

void hk_heap_drain_for(struct hk_heap *heap, unsigned class, size_t max_bytes)
{
    const struct hk_class_record *r = &heap->record[class];
    size_t bytes = 0, more;

    while (bytes < max_bytes && r->cursor < r->limit && (more = drain_parcel(heap, heap)) != 0)
        bytes += more;
}

/* A lock that is taken is held by the owner on a slow path, or by somebody who drains: either empties the
 * inbox soon, and the next tick of anybody does. */
void hk_heap_try_drain(struct hk_heap *self, struct hk_heap *heap)
{
    void *astray[HK_PARCEL_BLOCKS];
    struct hk_parcel *b;
    unsigned nr_astray;

    do {
        nr_astray = 0;
        if (!hk_try_lock(&heap->lock))
            return;
        b = next_pending(heap);
        if (b)
            nr_astray = unpack(self, heap, b, astray);
        hk_unlock(&heap->lock);
        forward(self, b, astray, nr_astray); /* may lock the depot: never with this lock held */
    } while (b);
}

void hk_heap_reclaim(struct hk_heap *self)
{
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        /* Pending: who drained found the lock taken before the last parcel. */
        if (h != self && (hk_load_relaxed(&h->inbox) || hk_load_relaxed(&h->pending)))
            hk_heap_try_drain(self, h);
        else if (h != self)
            hk_heap_retire_current(h);
    hk_heap_settle_depot();
}
