// SPDX-License-Identifier: MIT
#include "secure/secure_private.h"

#include "ace/ace.h"
#include "base/panic.h"
#include "guard/guard.h"
#include "os/os.h"

#include <string.h>

bool (*hk_secure_operators_are_ours)(void);

#define MIN_ALIGN 16
#define MANY_SLOTS 8 /* of a slab: one of them may be left out */
#define LOOK_BYTES 64 /* of a block that is looked at in passing */
#define MIN_BYTES 32 /* 16: the mark of a dead block is not to lie in a trailer; and what is just beyond a small block is its own */

#define UNDERFLOW "heap underflow, or overflow of the block before"

/* ---- what is p? ---------------------------------------------------------------------------- */

/* A live block of ace's that has a trailer. */
struct place {
    void *p;
    size_t usable; /* of the box below */
    unsigned owner;
    const void *site;
    struct hk_trailer trailer;
};

/* Of a block that is known to be one. */
static size_t usable_of(const void *p)
{
    uintptr_t word = hk_pagemap_word(p);
    struct hk_block b;

    if (HK_LIKELY(word >= HK_PM_KINDS))
        return hk_size_class[hk_class_of_word(word)].size;
    (void)hk_ace_identify(p, &b);
    return hk_closed_usable(p, b.usable);
}

static HK_COLD _Noreturn void complain(const struct place *place, const char *what, const void *ptr)
{
    const struct hk_trailer *t = &place->trailer;
    struct hk_diag diag = {.what = what,
                           .ptr = ptr,
                           .block = place->p,
                           .size = t->state != HK_TRAILER_NONE ? t->bytes : place->usable - HK_TRAILER_BYTES,
                           .owner = place->owner,
                           .caller = place->site};

    hk_panic(&diag);
}

/* False: not one of ours; ace knows what to say of it, or to do with it. */
static bool find(const void *p, const void *site, struct place *place)
{
    struct hk_block b;

    if (hk_ace_identify(p, &b) != HK_BLOCK_LIVE || b.word == HK_PM_GUARD || b.word == HK_PM_EMPTY ||
        b.word == HK_PM_LOOSE)
        return false;
    if (b.word == HK_PM_BIG)
        b.usable = hk_closed_usable(p, b.usable);
    *place = (struct place){.p = (void *)p, .usable = b.usable, .owner = b.owner, .site = site};
    place->trailer = hk_trailer_read(p, b.usable);
    return true;
}

/* Live and unharmed, or the process ends. */
static void verify(const struct place *place, const char *if_freed)
{
    const struct hk_trailer *t = &place->trailer;
    const char *damage;

    if (HK_UNLIKELY(t->state != HK_TRAILER_LIVE)) {
        bool freed = t->state != HK_TRAILER_NONE && t->origin != HK_ORIGIN_NOBODY;
        complain(place, freed ? if_freed : "heap overflow", freed ? place->p : (char *)place->p + place->usable - HK_TRAILER_BYTES);
    }
    damage = hk_canary_find_damage(place->p, place->usable, t);
    if (HK_UNLIKELY(damage != NULL))
        complain(place, "heap overflow", damage);
    damage = hk_front_find_damage(place->p, t);
    if (HK_UNLIKELY(damage != NULL))
        complain(place, UNDERFLOW, damage);
}

/* ---- by what, and how large? ---------------------------------------------------------------- */

struct what {
    char text[80];
    size_t used;
};

static void put(struct what *w, const char *s)
{
    while (*s && w->used < sizeof w->text - 1)
        w->text[w->used++] = *s++;
    w->text[w->used] = 0;
}

static HK_COLD _Noreturn void complain_of_origin(const struct place *place, enum hk_origin took)
{
    static const char *const made_by[HK_NR_ORIGINS] = {"malloc", "new", "new[]", "aligned new", "aligned new[]"};
    static const char *const freed_by[HK_NR_ORIGINS] = {"free", "delete", "delete[]", "aligned delete",
                                                        "aligned delete[]"};
    struct what what = {.used = 0};

    put(&what, "mismatched free: block of ");
    put(&what, place->trailer.origin < HK_NR_ORIGINS ? made_by[place->trailer.origin] : "nobody");
    put(&what, " given to ");
    put(&what, freed_by[took]);
    complain(place, what.text, place->p);
}

static HK_COLD _Noreturn void complain_of_size(const struct place *place, size_t size)
{
    char digits[24], *at = digits + sizeof digits - 1;
    struct what what = {.used = 0};

    *at = 0;
    do
        *--at = (char)('0' + size % 10);
    while (size /= 10);
    put(&what, "mismatched free: size ");
    put(&what, at);
    put(&what, " said");
    complain(place, what.text, place->p);
}

/* It was made by what frees it now, and as large as that says. */
static void verify_how(const struct place *place, enum hk_origin origin, size_t size)
{
    bool is_size = size == HK_SIZE_UNSAID || hk_max(size, 1) == hk_max(place->trailer.bytes, 1); /* realloc(p, 0) asks for 1 */

    if (HK_LIKELY(place->trailer.origin == origin && is_size))
        return;
    if ((origin != HK_ORIGIN_MALLOC || place->trailer.origin != HK_ORIGIN_MALLOC) &&
        (!hk_secure_operators_are_ours || !hk_secure_operators_are_ours()))
        return;
    if (place->trailer.origin != origin)
        complain_of_origin(place, origin);
    complain_of_size(place, size);
}

/* ---- the block before ---------------------------------------------------------------------- */

/*
 * A write before a block meets the trailer of the one before it in the slab. So that there is always one while the block
 * lives, alloc gives it a mark if it was never out. Only the thread whose slab it is looks: it alone makes blocks there,
 * and what others do to a trailer, one store of the word that changes, never makes it invalid.
 */
static char *before(const struct hk_heap *heap, const void *p, size_t *usable)
{
    uintptr_t word = hk_pagemap_word(p);
    const struct hk_size_class *sc;

    if (word < HK_PM_KINDS || !heap || hk_heap_of_word(word) != heap)
        return NULL;
    sc = &hk_size_class[hk_class_of_word(word)];
    *usable = sc->size;
    return ((uintptr_t)p & sc->slab_mask) >= sc->size ? (char *)p - sc->size : NULL;
}

static void mark_before(const struct hk_heap *heap, const void *p)
{
    size_t usable;
    char *q = before(heap, p, &usable);

    if (q)
        hk_trailer_mark(q, usable);
}

static void verify_before(const struct hk_heap *heap, const struct place *place)
{
    size_t usable;
    char *q = before(heap, place->p, &usable);
    struct hk_trailer t = {.state = HK_TRAILER_LIVE};
    const char *damage = NULL;

    if (q)
        t = hk_trailer_read(q, usable);
    if (t.state == HK_TRAILER_NONE)
        damage = (char *)place->p - HK_TRAILER_BYTES;
    else if (t.origin == HK_ORIGIN_NOBODY) /* this thread alone may give it to somebody */
        damage = hk_mark_find_damage(q, usable, &t);
    if (HK_UNLIKELY(damage != NULL))
        complain(place, UNDERFLOW, damage);
}

/* ---- what the thread did last --------------------------------------------------------------- */

/*
 * Who damages a block mostly does it soon, and may never free it: the block that a heap gave out last is looked at once
 * more when it is asked for the next, and so is the one that came to rest last. Heaps whose ids are NR_LAST apart share
 * an entry and look at less. A block of the heap's own slab stays readable, and its trailer whole, whatever other
 * threads do to it; the pad says that it is still the same slab. All else is looked at only where there is no second thread.
 */
#define NR_LAST 64

struct last {
    void *made;
    uint64_t pad;
    void **rested;
};
static HK_LARGE_BSS struct last lasts[NR_LAST]; /* relaxed */

static struct last *last_of(const struct hk_heap *heap)
{
    return &lasts[heap->id % NR_LAST];
}

static void remember_made(const struct hk_heap *heap, void *p, uint64_t pad)
{
    struct last *last = heap ? last_of(heap) : NULL;

    if (!last)
        return;
    hk_store_relaxed(&last->pad, pad);
    hk_store_relaxed(&last->made, p);
}

/* ---- rest ----------------------------------------------------------------------------------- */

/* All of it but the trailer. Whole pages of a large one go back to the kernel. */
static void clear(char *p, size_t bytes)
{
    size_t page = hk_os_page_bytes();
    char *first = (char *)hk_align_up((uintptr_t)p, page), *end = (char *)((uintptr_t)(p + bytes) & ~(uintptr_t)(page - 1));

    if (bytes < HK_CHECKED_MAX || !hk_os_purge(first, (size_t)(end - first))) {
        memset(p, 0, bytes);
        return;
    }
    memset(p, 0, (size_t)(first - p));
    memset(end, 0, (size_t)(p + bytes - end));
}

/* False: it rests on, with the fence. */
static bool take_fence_down(void *p)
{
    struct hk_block b;
    bool down;

    (void)hk_ace_identify(p, &b);
    down = hk_closed_take_down(p, b.usable);
    if (HK_UNLIKELY(!down))
        hk_quarantine_count(b.usable, 1);
    return down;
}

/* The kernel's first refusal ends it. */
static HK_COLD void free_kept(struct hk_heap *heap)
{
    void *p;

    while ((p = hk_closed_take_kept()) != NULL) {
        struct hk_block b;
        (void)hk_ace_identify(p, &b);
        hk_quarantine_count(-b.usable, (size_t)-1);
        if (!take_fence_down(p))
            return;
        hk_ace_free(heap, p, NULL);
    }
}

bool hk_secure_let_past(void *p)
{
    return hk_pagemap_word(p) != HK_PM_BIG || take_fence_down(p);
}

/* A block that rests, or did until now. */
static void verify_rest(const struct place *place, size_t bytes)
{
    const char *damage = NULL;

    if (place->trailer.state != HK_TRAILER_RESTING)
        damage = (char *)place->p + place->usable - HK_TRAILER_BYTES;
    else if (place->trailer.origin != HK_ORIGIN_NOBODY)
        damage = hk_find_nonzero(place->p, hk_min(bytes, place->usable - HK_TRAILER_BYTES));
    if (HK_UNLIKELY(damage != NULL))
        complain(place, "write after free", damage);
}

/* What is large went to the kernel page by page: all of it is zero, and its first page is read. */
static size_t bytes_to_verify(size_t usable)
{
    return usable <= HK_CHECKED_MAX ? usable : LOOK_BYTES;
}

/* It rested, and goes to ace. */
static void release(struct hk_heap *heap, void *p, size_t usable, const void *site)
{
    struct place place = {.p = p, .usable = usable, .site = site, .trailer = hk_trailer_read(p, usable)};

    verify_rest(&place, bytes_to_verify(usable));
    (void)hk_trailer_advance(p, usable, &place.trailer, HK_TRAILER_DEAD);
    if (hk_secure_let_past(p))
        hk_ace_free(heap, p, site);
}

static void leave(struct hk_heap *heap, void *p, const void *site)
{
    size_t usable = usable_of(p);

    hk_quarantine_count(-usable, (size_t)-1);
    release(heap, p, usable, site);
}

/* Its trailer says that it rests. */
static void rest_at(struct hk_heap *heap, void **at, void *p, size_t usable, const void *site)
{
    void *leaving;

    hk_quarantine_count(usable, 1);
    leaving = hk_quarantine_exchange(at, p);
    if (leaving)
        leave(heap, leaving, site);
}

static void rest(struct hk_heap *heap, void *p, size_t usable, const void *site)
{
    void **at = hk_quarantine_place(heap ? heap->id : 0, usable);

    if (!at) {
        release(heap, p, usable, site);
        return;
    }
    rest_at(heap, at, p, usable, site);
    if (heap)
        hk_store_relaxed(&last_of(heap)->rested, at);
}

/* Its own slab's block, or one that no other thread can free meanwhile. */
static bool find_made(const struct hk_heap *heap, const struct last *last, void *p, const void *site, struct place *place)
{
    uintptr_t word = hk_pagemap_word(p);

    if (word < HK_PM_KINDS)
        return hk_is_single_threaded() && find(p, site, place);
    if (hk_heap_of_word(word) != heap)
        return false;
    *place = (struct place){.p = p, .usable = usable_of(p), .owner = heap->thread_id, .site = site};
    place->trailer = hk_trailer_read(p, place->usable);
    return place->trailer.pad == hk_load_relaxed(&last->pad);
}

static void look_at_made(const struct hk_heap *heap, const struct last *last, void *p, const void *site)
{
    struct place place;

    if (!find_made(heap, last, p, site, &place))
        return;
    if (place.trailer.state == HK_TRAILER_LIVE || place.trailer.state == HK_TRAILER_NONE) {
        verify_before(heap, &place);
        if (place.trailer.state == HK_TRAILER_NONE || hk_is_single_threaded()) /* others may just be moving the canary */
            verify(&place, "heap overflow");
    }
}

/* Whatever rests there by now; while it is out it is ours alone. */
static void look_at_rested(struct hk_heap *heap, void **at, const void *site)
{
    void *p = hk_quarantine_exchange(at, NULL), *other;
    const char *damage;
    struct place place;

    if (!p)
        return;
    place = (struct place){.p = p, .usable = usable_of(p), .site = site};
    damage = hk_find_nonzero(p, hk_min(LOOK_BYTES, place.usable - HK_TRAILER_BYTES));
    if (HK_UNLIKELY(damage != NULL)) {
        place.trailer = hk_trailer_read(p, place.usable);
        complain(&place, "write after free", damage);
    }
    other = hk_quarantine_exchange(at, p);
    if (other)
        leave(heap, other, site);
}

void hk_secure_look_at_last(struct hk_heap *heap, const void *site)
{
    struct last *last = last_of(heap);
    void *made = hk_load_relaxed(&last->made), **rested = hk_load_relaxed(&last->rested);

    if (made) {
        hk_store_relaxed(&last->made, NULL);
        look_at_made(heap, last, made, site);
    }
    if (rested) {
        hk_store_relaxed(&last->rested, NULL);
        look_at_rested(heap, rested, site);
    }
}

/* ---- alloc --------------------------------------------------------------------------------- */

static void write_live(const struct place *place, size_t n, enum hk_origin origin)
{
    struct hk_trailer trailer = {.state = HK_TRAILER_LIVE, .origin = origin, .bytes = n, .pad = place->trailer.pad};

    hk_canary_write(place->p, place->usable, &trailer);
    hk_front_write(place->p, &trailer);
    hk_trailer_write(place->p, place->usable, &trailer);
}

/*
 * True: the block left our hands zeroed, and still is. Only a slab has a serial number: where a run lies another may have lain
 * since, shorter or longer, and the trailer of before looks valid.
 */
static bool is_as_left(const struct place *place)
{
    const char *damage;

    if (hk_pagemap_word(place->p) < HK_PM_KINDS)
        return false;
    if (place->trailer.state != HK_TRAILER_DEAD || place->trailer.origin == HK_ORIGIN_NOBODY)
        return false;
    damage = hk_find_nonzero(place->p, place->usable - HK_TRAILER_BYTES);
    if (HK_UNLIKELY(damage != NULL))
        complain(place, "write after free", damage);
    return true;
}

static uint64_t prepare(void *p, size_t n, bool zero, bool is_zero, const void *site)
{
    size_t usable = usable_of(p);
    struct place place = {.p = p, .usable = usable, .site = site, .trailer = hk_trailer_read(p, usable)};

    if (usable <= HK_CHECKED_MAX && is_as_left(&place))
        is_zero = true;
    if (zero && !is_zero)
        memset(p, 0, n);
    write_live(&place, n, HK_ORIGIN_MALLOC);
    return place.trailer.pad;
}

/* Before the first block of a slab nothing is ours. Where there are others it is not given out but rests, time and again. */
static bool is_exposed(const struct hk_heap *heap, const void *p)
{
    uintptr_t word = hk_pagemap_word(p);
    const struct hk_size_class *sc;

    if (word < HK_PM_KINDS || !heap || hk_heap_of_word(word) != heap)
        return false;
    sc = &hk_size_class[hk_class_of_word(word)];
    return ((uintptr_t)p & sc->slab_mask) == 0 && sc->nr_slots >= MANY_SLOTS;
}

static void *avoid(struct hk_heap *heap, void *p, size_t inner, bool zero, const void *site)
{
    void *q = hk_ace_alloc(heap, inner, MIN_ALIGN, zero, site);
    size_t usable = usable_of(p);
    struct hk_trailer resting;

    if (!q)
        return p;
    resting = (struct hk_trailer){
        .state = HK_TRAILER_RESTING, .origin = HK_ORIGIN_NOBODY, .pad = hk_trailer_pad(p, usable)};
    hk_trailer_write(p, usable, &resting);
    hk_mark_fill(p, usable, &resting);
    rest_at(heap, hk_quarantine_place_exposed(heap->id), p, usable, site);
    return q;
}

static void *alloc_or_flush(struct hk_heap *heap, size_t inner, size_t align, bool zero, const void *site)
{
    void *p = hk_ace_alloc(heap, inner, align, zero, site);

    if (HK_UNLIKELY(!p)) {
        hk_secure_flush(heap);
        p = hk_ace_alloc(heap, inner, align, zero, site);
    }
    if (p && align <= MIN_ALIGN && is_exposed(heap, p))
        p = avoid(heap, p, inner, zero, site);
    return p;
}

void *hk_secure_alloc(struct hk_heap *heap, size_t n, size_t align, bool zero, const void *site)
{
    size_t extra = hk_closed_extra(n), inner = hk_max(n, MIN_BYTES) + HK_TRAILER_BYTES + extra;
    bool zeroed = zero && inner > HK_CHECKED_MAX; /* what is fresh from the kernel is not cleared once more */
    void *p = n == 0 && align <= MIN_ALIGN ? hk_guard_alloc_empty() : NULL;
    uint64_t pad;

    if (heap)
        hk_secure_look_at_last(heap, site);
    if (extra)
        free_kept(heap);
    if (!p && inner <= PTRDIFF_MAX) {
        p = alloc_or_flush(heap, inner, align, zeroed, site);
        if (!p)
            return NULL;
        if (extra && hk_pagemap_word(p) == HK_PM_BIG)
            hk_closed_put(p, usable_of(p));
        pad = prepare(p, n, zero, zeroed, site);
        mark_before(heap, p);
        remember_made(heap, p, pad);
    }
    return p;
}

/* ---- free ---------------------------------------------------------------------------------- */

/* Guarded blocks, as if they had a trailer. Of others without one free says what is wrong. */
static void verify_guarded(void *p, enum hk_origin origin, size_t size, const void *site)
{
    const struct hk_guard_slot *slot;
    struct place place;
    struct hk_block b;

    if (hk_ace_identify(p, &b) != HK_BLOCK_LIVE || b.word != HK_PM_GUARD)
        return;
    slot = b.desc;
    place = (struct place){.p = p, .usable = b.usable, .owner = b.owner, .site = site};
    place.trailer = (struct hk_trailer){
        .state = HK_TRAILER_LIVE, .origin = (enum hk_origin)slot->origin, .bytes = slot->asked};
    verify_how(&place, origin, size);
}

void hk_secure_free(struct hk_heap *heap, void *p, enum hk_origin origin, size_t size, const void *site)
{
    struct place place;

    if (!find(p, site, &place)) {
        verify_guarded(p, origin, size, site);
        hk_ace_free(heap, p, site);
        return;
    }
    verify(&place, "double free");
    verify_before(heap, &place);
    verify_how(&place, origin, size);
    if (HK_UNLIKELY(!hk_trailer_advance(p, place.usable, &place.trailer, HK_TRAILER_RESTING)))
        complain(&place, "double free", p);
    if (heap && hk_load_relaxed(&last_of(heap)->made) == p)
        hk_store_relaxed(&last_of(heap)->made, NULL); /* nothing is left to look at */
    clear(p, place.usable - HK_TRAILER_BYTES);
    rest(heap, p, place.usable, site);
}

/* Its pages stay as they are: others may run on. */
static void look_at(void *p)
{
    size_t usable = usable_of(p);
    struct place place = {.p = p, .usable = usable, .trailer = hk_trailer_read(p, usable)};

    verify_rest(&place, bytes_to_verify(usable));
}

void hk_secure_look(void)
{
    unsigned next = 0;
    void *p;

    while ((p = hk_quarantine_take(&next)) != NULL)
        look_at(p);
}

void hk_secure_flush(struct hk_heap *heap)
{
    unsigned next = 0;
    void *p;

    while ((p = hk_quarantine_take(&next)) != NULL)
        leave(heap, p, NULL);
    free_kept(heap);
}

/* ---- realloc, size ------------------------------------------------------------------------- */

static bool keeps(const struct place *place, size_t n)
{
    size_t room = place->usable - HK_TRAILER_BYTES;

    return n <= room && (room <= 64 || n > room / 2);
}

/* A block without a trailer. */
static bool resize_elsewhere(void *p, size_t n, const void *site)
{
    if (!hk_ace_resize(NULL, p, n, site))
        return false;
    if (hk_pagemap_word(p) == HK_PM_GUARD)
        hk_guard_set_asked(p, n);
    return true;
}

bool hk_secure_resize(void *p, size_t n, const void *site)
{
    struct place place;

    if (!find(p, site, &place))
        return resize_elsewhere(p, n, site);
    verify(&place, "invalid realloc: freed pointer");
    if (!keeps(&place, n))
        return false;
    write_live(&place, n, place.trailer.origin);
    return true;
}

static void *move(struct hk_heap *heap, void *p, size_t old, size_t n, const void *site)
{
    void *moved = hk_secure_alloc(heap, n, MIN_ALIGN, false, site);

    if (!moved)
        return NULL;
    memcpy(moved, p, hk_min(old, n));
    hk_secure_free(heap, p, HK_ORIGIN_MALLOC, HK_SIZE_UNSAID, site);
    return moved;
}

/* As it grows or shrinks a guarded block leaves its page, so that what is beyond it stays forbidden. */
static void *realloc_elsewhere(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    struct hk_block b;
    void *moved;

    if (hk_ace_identify(p, &b) != HK_BLOCK_LIVE)
        return hk_ace_realloc(heap, p, n, site);
    if (b.word == HK_PM_GUARD && n == b.usable && resize_elsewhere(p, n, site))
        return p;
    moved = move(heap, p, b.usable, n, site);
    return moved || n > b.usable || !resize_elsewhere(p, n, site) ? moved : p; /* a shrink never fails */
}

void *hk_secure_realloc(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    struct place place;
    void *moved;

    if (!find(p, site, &place))
        return realloc_elsewhere(heap, p, n, site);
    verify(&place, "invalid realloc: freed pointer");
    verify_how(&place, HK_ORIGIN_MALLOC, HK_SIZE_UNSAID);
    if (keeps(&place, n)) {
        write_live(&place, n, place.trailer.origin);
        return p;
    }
    moved = move(heap, p, place.trailer.bytes, n, site);
    if (!moved && n <= place.trailer.bytes) { /* a shrink never fails */
        write_live(&place, n, place.trailer.origin);
        return p;
    }
    return moved;
}

size_t hk_secure_usable(const void *p, const void *site)
{
    struct place place;

    if (!find(p, site, &place))
        return hk_ace_usable(p, site);
    verify(&place, "invalid malloc_usable_size: freed pointer");
    return place.trailer.bytes;
}

/* ---- origin -------------------------------------------------------------------------------- */

void hk_secure_mark_origin(void *p, enum hk_origin origin)
{
    struct place place;

    if (find(p, NULL, &place)) {
        place.trailer.origin = origin;
        hk_trailer_write(p, place.usable, &place.trailer);
    } else if (hk_pagemap_word(p) == HK_PM_GUARD) {
        hk_guard_set_origin(p, (unsigned)origin);
    }
}
