// SPDX-License-Identifier: MIT
#include "secure/secure_private.h"

#include "ace/ace.h"
#include "base/panic.h"
#include "config/config.h"
#include "guard/guard.h"
#include "heap/heap_inline.h"
#include "os/os.h"

#include <string.h>

bool (*hk_secure_operators_are_ours)(void);

#define MIN_ALIGN 16
#define MANY_SLOTS 8 /* of a slab: one of them may be left out */
#define LOOK_BYTES 64 /* of a block that is looked at in passing */
#define MIN_BYTES 32 /* 16: the mark of a dead block is not to lie in a trailer; and what is just beyond a small block is its own */

#define UNDERFLOW "heap underflow, or overflow of the block before"

/* ---- what is p? ---------------------------------------------------------------------------- */

/* A block of ace's that has a trailer, or is to have one. The page map is asked once. */
struct place {
    void *p;
    uintptr_t word;  /* of the page map */
    size_t usable;   /* of the box below */
    uint32_t serial; /* of the slab; 0: in none */
    unsigned owner;  /* of what is in no slab */
    const void *site;
    struct hk_trailer trailer;
};

HK_INLINE bool is_in_slab(const struct place *place)
{
    return HK_LIKELY(place->word >= HK_PM_KINDS);
}

HK_INLINE const struct hk_size_class *class_of(const struct place *place)
{
    return &hk_size_class[hk_class_of_word(place->word)];
}

HK_INLINE void sit_in_slab(struct place *place, const void *p, uintptr_t word, const void *site)
{
    place->p = (void *)p;
    place->word = word;
    place->usable = class_of(place)->size;
    place->serial = hk_slab_of(p)->serial;
    place->owner = 0;
    place->site = site;
}

static HK_NOINLINE size_t usable_elsewhere(const void *p)
{
    struct hk_block b;

    (void)hk_ace_identify(p, &b);
    return hk_closed_usable(p, b.usable);
}

/* Of a block that is known to be one. */
HK_INLINE void sit(struct place *place, const void *p, const void *site)
{
    uintptr_t word = hk_pagemap_word(p);

    if (HK_LIKELY(word >= HK_PM_KINDS))
        sit_in_slab(place, p, word, site);
    else
        *place = (struct place){.p = (void *)p, .word = word, .usable = usable_elsewhere(p), .site = site};
}

HK_INLINE struct hk_trailer trailer_of(const struct place *place)
{
    return hk_trailer_read(place->p, place->usable, hk_trailer_pad(place->p, place->usable, place->serial));
}

HK_INLINE void sit_and_read(struct place *place, const void *p, const void *site)
{
    sit(place, p, site);
    place->trailer = trailer_of(place);
}

/* By value, as all that is cold: so that the place of a block may stay in registers until then. */
static HK_COLD HK_NOINLINE _Noreturn void complain(struct place at, const char *what, const void *ptr)
{
    const struct place *place = &at;
    struct hk_trailer t = place->trailer;
    struct hk_diag diag = {.what = what,
                           .ptr = ptr,
                           .block = place->p,
                           .size = hk_trailer_state(t) != HK_TRAILER_NONE ? hk_trailer_bytes(t) : place->usable - HK_TRAILER_BYTES,
                           .owner = is_in_slab(place) ? hk_heap_of_word(place->word)->thread_id : place->owner,
                           .caller = place->site};

    hk_panic(&diag);
}

/* True: a block of a slab that lives, by its trailer and for all that ace's mark says. */
HK_INLINE bool find_in_slab(const void *p, uintptr_t word, const void *site, struct place *place)
{
    const struct hk_size_class *sc = &hk_size_class[hk_class_of_word(word)];

    if (!hk_size_starts_block(sc->magic, (uintptr_t)p & sc->slab_mask) || *hk_mark_of((void *)p) == sc->magic)
        return false;
    sit_in_slab(place, p, word, site);
    place->trailer = trailer_of(place);
    return hk_trailer_state(place->trailer) == HK_TRAILER_LIVE;
}

static HK_NOINLINE bool find_elsewhere(const void *p, const void *site, struct place *place)
{
    struct hk_block b;

    if (hk_ace_identify(p, &b) != HK_BLOCK_LIVE || b.word == HK_PM_GUARD || b.word == HK_PM_EMPTY ||
        b.word == HK_PM_LOOSE)
        return false;
    sit_and_read(place, p, site);
    place->owner = b.owner;
    return true;
}

/* False: not one of ours; ace knows what to say of it, or to do with it. */
HK_INLINE bool find(const void *p, const void *site, struct place *place)
{
    struct place other;
    uintptr_t word = hk_pagemap_word(p);

    if (HK_LIKELY(word >= HK_PM_KINDS) && HK_LIKELY(find_in_slab(p, word, site, place)))
        return true;
    if (!find_elsewhere(p, site, &other))
        return false;
    *place = other;
    return true;
}

/* Live and unharmed, or the process ends. */
HK_INLINE void verify(const struct place *place, const char *if_freed)
{
    struct hk_trailer t = place->trailer;
    const char *damage;

    if (HK_UNLIKELY(hk_trailer_state(t) != HK_TRAILER_LIVE)) {
        bool freed = hk_trailer_state(t) != HK_TRAILER_NONE && hk_trailer_origin(t) != HK_ORIGIN_NOBODY;
        complain(*place, freed ? if_freed : "heap overflow", freed ? place->p : (char *)place->p + place->usable - HK_TRAILER_BYTES);
    }
    damage = hk_canary_find_damage(place->p, place->usable, t);
    if (HK_UNLIKELY(damage != NULL))
        complain(*place, "heap overflow", damage);
    damage = place->word == HK_PM_RUN ? hk_front_find_damage(place->p, t) : NULL;
    if (HK_UNLIKELY(damage != NULL))
        complain(*place, UNDERFLOW, damage);
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

static HK_COLD HK_NOINLINE _Noreturn void complain_of_origin(struct place place, enum hk_origin took)
{
    static const char *const made_by[HK_NR_ORIGINS] = {"malloc", "new", "new[]", "aligned new", "aligned new[]"};
    static const char *const freed_by[HK_NR_ORIGINS] = {"free", "delete", "delete[]", "aligned delete",
                                                        "aligned delete[]"};
    enum hk_origin made = hk_trailer_origin(place.trailer);
    struct what what = {.used = 0};

    put(&what, "mismatched free: block of ");
    put(&what, made < HK_NR_ORIGINS ? made_by[made] : "nobody");
    put(&what, " given to ");
    put(&what, freed_by[took]);
    complain(place, what.text, place.p);
}

static HK_COLD HK_NOINLINE _Noreturn void complain_of_size(struct place place, size_t size)
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
    complain(place, what.text, place.p);
}

/* It was made by what frees it now, and as large as that says. */
HK_INLINE void verify_how(const struct place *place, enum hk_origin origin, size_t size)
{
    enum hk_origin made = hk_trailer_origin(place->trailer);
    bool is_size = size == HK_SIZE_UNSAID ||
                   hk_max(size, 1) == hk_max(hk_trailer_bytes(place->trailer), 1); /* realloc(p, 0) asks for 1 */

    if (HK_LIKELY(made == origin && is_size))
        return;
    if ((origin != HK_ORIGIN_MALLOC || made != HK_ORIGIN_MALLOC) &&
        (!hk_secure_operators_are_ours || !hk_secure_operators_are_ours()))
        return;
    if (made != origin)
        complain_of_origin(*place, origin);
    complain_of_size(*place, size);
}

/* ---- the block before ---------------------------------------------------------------------- */

/*
 * A write before a block meets the trailer of the one before it in the slab. So that there is always one while the block
 * lives, alloc gives it a mark if it was never out. Only the thread whose slab it is looks: it alone makes blocks there,
 * and what others do to a trailer, one store of the word that changes, never makes it invalid.
 */
HK_INLINE bool is_own(const struct hk_heap *heap, const struct place *place)
{
    return is_in_slab(place) && heap && hk_heap_of_word(place->word) == heap;
}

/* NULL: it is the first of its slab, or another thread's. */
HK_INLINE char *before(const struct hk_heap *heap, const struct place *place)
{
    if (!is_own(heap, place) || ((uintptr_t)place->p & class_of(place)->slab_mask) < place->usable)
        return NULL;
    return (char *)place->p - place->usable;
}

HK_INLINE void mark_before(const struct hk_heap *heap, const struct place *place)
{
    char *q = before(heap, place);

    if (q)
        hk_trailer_mark(q, place->usable, hk_trailer_pad(q, place->usable, place->serial));
}

HK_INLINE void verify_before(const struct hk_heap *heap, const struct place *place)
{
    char *q = before(heap, place);
    const char *damage = NULL;
    struct hk_trailer t;

    if (!q)
        return;
    t = hk_trailer_read(q, place->usable, hk_trailer_pad(q, place->usable, place->serial));
    if (HK_UNLIKELY(hk_trailer_state(t) == HK_TRAILER_NONE))
        damage = (char *)place->p - HK_TRAILER_BYTES;
    else if (hk_trailer_origin(t) == HK_ORIGIN_NOBODY) /* this thread alone may give it to somebody */
        damage = hk_mark_find_damage(q, place->usable, t);
    if (HK_UNLIKELY(damage != NULL))
        complain(*place, UNDERFLOW, damage);
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

HK_INLINE struct last *last_of(const struct hk_heap *heap)
{
    return &lasts[heap->id % NR_LAST];
}

HK_INLINE void remember_made(const struct hk_heap *heap, void *p, uint64_t pad)
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
HK_INLINE void verify_rest(const struct place *place, size_t bytes)
{
    const char *damage = NULL;

    if (hk_trailer_state(place->trailer) != HK_TRAILER_RESTING)
        damage = (char *)place->p + place->usable - HK_TRAILER_BYTES;
    else if (hk_trailer_origin(place->trailer) != HK_ORIGIN_NOBODY)
        damage = hk_find_nonzero(place->p, hk_min(bytes, place->usable - HK_TRAILER_BYTES));
    if (HK_UNLIKELY(damage != NULL))
        complain(*place, "write after free", damage);
}

/* What is large went to the kernel page by page: all of it is zero, and its first page is read. */
static size_t bytes_to_verify(size_t usable)
{
    return usable <= HK_CHECKED_MAX ? usable : LOOK_BYTES;
}

/* As free's fast path does: into the magazine of a heap's own class, if there is room. */
HK_INLINE bool push(struct hk_heap *heap, const struct place *place)
{
    struct hk_class_record *r;

    if (!is_own(heap, place) || HK_UNLIKELY(hk_config.safe_free))
        return false;
    r = &heap->record[hk_class_of_word(place->word)];
    if (HK_UNLIKELY(r->cursor >= r->limit))
        return false;
    if (HK_CHECKS)
        *hk_mark_of(place->p) = r->magic;
    *r->cursor = place->p;
    hk_signal_fence(); /* then the cursor, as free does */
    r->cursor++;
    return true;
}

/* It rested, and goes to ace: ours alone, though a neighbour may look at its trailer. */
HK_INLINE void release(struct hk_heap *heap, struct place *place)
{
    verify_rest(place, bytes_to_verify(place->usable));
    hk_trailer_rewrite(place->p, place->usable, hk_trailer_in_state(place->trailer, HK_TRAILER_DEAD));
    if (push(heap, place))
        return;
    if (hk_secure_let_past(place->p))
        hk_ace_free(heap, place->p, place->site);
}

static void leave(struct hk_heap *heap, void *p, const void *site)
{
    struct place place;

    sit_and_read(&place, p, site);
    hk_quarantine_count(-place.usable, (size_t)-1);
    release(heap, &place);
}

/* Its trailer says that it rests. Who leaves for it is counted together with it. */
HK_INLINE void rest_at(struct hk_heap *heap, void **at, const struct place *place)
{
    void *p = hk_quarantine_exchange(at, place->p);
    struct place leaving;

    if (!p) {
        hk_quarantine_count(place->usable, 1);
        return;
    }
    sit_and_read(&leaving, p, place->site);
    if (leaving.usable != place->usable)
        hk_quarantine_count(place->usable - leaving.usable, 0);
    release(heap, &leaving);
}

static void rest(struct hk_heap *heap, struct place *place)
{
    void **at = hk_quarantine_place(heap ? heap->id : 0, place->usable);

    if (!at) {
        release(heap, place);
        return;
    }
    rest_at(heap, at, place);
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
    sit_in_slab(place, p, word, site);
    place->trailer = trailer_of(place);
    return place->trailer.pad == hk_load_relaxed(&last->pad);
}

static void look_at_made(const struct hk_heap *heap, const struct last *last, void *p, const void *site)
{
    struct place place;

    if (!find_made(heap, last, p, site, &place))
        return;
    if (hk_trailer_state(place.trailer) == HK_TRAILER_LIVE || hk_trailer_state(place.trailer) == HK_TRAILER_NONE) {
        verify_before(heap, &place);
        if (hk_trailer_state(place.trailer) == HK_TRAILER_NONE || hk_is_single_threaded()) /* others may just be moving the canary */
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
    sit(&place, p, site);
    damage = hk_find_nonzero(p, hk_min(LOOK_BYTES, place.usable - HK_TRAILER_BYTES));
    if (HK_UNLIKELY(damage != NULL)) {
        place.trailer = trailer_of(&place);
        complain(place, "write after free", damage);
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

HK_INLINE void write_live(const struct place *place, size_t n, enum hk_origin origin)
{
    struct hk_trailer trailer = hk_trailer_make(HK_TRAILER_LIVE, origin, n, place->trailer.pad);

    hk_canary_write(place->p, place->usable, trailer);
    if (place->word == HK_PM_RUN)
        hk_front_write(place->p, trailer);
    hk_trailer_write(place->p, place->usable, trailer);
}

/*
 * True: the block left our hands zeroed, and still is. Only a slab has a serial number: where a run lies another may have lain
 * since, shorter or longer, and the trailer of before looks valid.
 */
HK_INLINE bool is_as_left(const struct place *place)
{
    const char *damage;

    if (!is_in_slab(place))
        return false;
    if (hk_trailer_state(place->trailer) != HK_TRAILER_DEAD || hk_trailer_origin(place->trailer) == HK_ORIGIN_NOBODY)
        return false;
    damage = hk_find_nonzero(place->p, place->usable - HK_TRAILER_BYTES);
    if (HK_UNLIKELY(damage != NULL))
        complain(*place, "write after free", damage);
    return true;
}

/*
 * The bytes before such a trailer are about to change: from here on it does not vouch for them. A fork child may find this thread
 * between the two, with the next block live.
 */
HK_INLINE void leave_nobody(const struct place *place)
{
    struct hk_trailer t = place->trailer;

    if (HK_LIKELY(hk_trailer_state(t) == HK_TRAILER_NONE || hk_trailer_origin(t) != HK_ORIGIN_NOBODY))
        return;
    hk_trailer_rewrite(place->p, place->usable,
                       hk_trailer_make(hk_trailer_state(t), HK_ORIGIN_MALLOC, hk_trailer_bytes(t), t.pad));
    hk_signal_fence();
}

HK_INLINE void prepare(struct place *place, size_t n, bool zero, bool is_zero)
{
    place->trailer = trailer_of(place);
    if (place->usable <= HK_CHECKED_MAX && is_as_left(place))
        is_zero = true;
    leave_nobody(place);
    if (zero && !is_zero)
        memset(place->p, 0, n);
    write_live(place, n, HK_ORIGIN_MALLOC);
}

/* Before the first block of a slab nothing is ours. Where there are others it is not given out but rests, time and again. */
HK_INLINE bool is_exposed(const struct hk_heap *heap, const struct place *place)
{
    return is_own(heap, place) && ((uintptr_t)place->p & class_of(place)->slab_mask) == 0 &&
           class_of(place)->nr_slots >= MANY_SLOTS;
}

static void avoid(struct hk_heap *heap, struct place *place, size_t inner, bool zero)
{
    void *q = hk_ace_alloc(heap, inner, MIN_ALIGN, zero, place->site);

    if (!q)
        return;
    place->trailer = hk_trailer_make(HK_TRAILER_RESTING, HK_ORIGIN_NOBODY, 0,
                                     hk_trailer_pad(place->p, place->usable, place->serial));
    hk_mark_fill(place->p, place->usable, place->trailer); /* before the trailer that says so: a fork child may find this thread here */
    hk_signal_fence();
    hk_trailer_write(place->p, place->usable, place->trailer);
    rest_at(heap, hk_quarantine_place_exposed(heap->id), place);
    sit(place, q, place->site);
}

/* As malloc's fast path does: the top of the magazine. */
HK_INLINE void *pop(struct hk_heap *heap, size_t inner, size_t align)
{
    return heap && inner <= HK_FAST_MAX && align <= MIN_ALIGN ? hk_heap_pop_fast(&heap->record[hk_size_to_class(inner)])
                                                             : NULL;
}

static void *alloc_or_flush(struct hk_heap *heap, size_t inner, size_t align, bool zero, const void *site)
{
    void *p = pop(heap, inner, align);

    if (HK_LIKELY(p != NULL))
        return p;
    p = hk_ace_alloc(heap, inner, align, zero, site);
    if (HK_UNLIKELY(!p)) {
        hk_secure_flush(heap);
        p = hk_ace_alloc(heap, inner, align, zero, site);
    }
    return p;
}

void *hk_secure_alloc(struct hk_heap *heap, size_t n, size_t align, bool zero, const void *site)
{
    size_t extra = hk_closed_extra(n), inner = hk_max(n, MIN_BYTES) + HK_TRAILER_BYTES + extra;
    bool zeroed = zero && inner > HK_CHECKED_MAX; /* what is fresh from the kernel is not cleared once more */
    void *p = n == 0 && align <= MIN_ALIGN ? hk_guard_alloc_empty() : NULL;
    struct place place;

    if (heap)
        hk_secure_look_at_last(heap, site);
    if (extra)
        free_kept(heap);
    if (p || inner > PTRDIFF_MAX)
        return p;
    p = alloc_or_flush(heap, inner, align, zeroed, site);
    if (!p)
        return NULL;
    sit(&place, p, site);
    if (align <= MIN_ALIGN && HK_UNLIKELY(is_exposed(heap, &place)))
        avoid(heap, &place, inner, zeroed);
    if (extra && place.word == HK_PM_BIG) {
        hk_closed_put(place.p, place.usable);
        sit(&place, place.p, site);
    }
    prepare(&place, n, zero, zeroed);
    mark_before(heap, &place);
    remember_made(heap, place.p, place.trailer.pad);
    return place.p;
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
    place = (struct place){.p = p, .word = b.word, .usable = b.usable, .owner = b.owner, .site = site};
    place.trailer = hk_trailer_make(HK_TRAILER_LIVE, (enum hk_origin)slot->origin, slot->asked, 0);
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
    if (HK_UNLIKELY(!hk_trailer_advance(p, place.usable, place.trailer, HK_TRAILER_RESTING)))
        complain(place, "double free", p);
    if (heap && hk_load_relaxed(&last_of(heap)->made) == p)
        hk_store_relaxed(&last_of(heap)->made, NULL); /* nothing is left to look at */
    clear(p, place.usable - HK_TRAILER_BYTES);
    place.trailer = hk_trailer_in_state(place.trailer, HK_TRAILER_RESTING);
    rest(heap, &place);
}

/* Its pages stay as they are: others may run on. */
static void look_at(void *p)
{
    struct place place;

    sit_and_read(&place, p, NULL);
    verify_rest(&place, bytes_to_verify(place.usable));
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
    write_live(&place, n, hk_trailer_origin(place.trailer));
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
        write_live(&place, n, hk_trailer_origin(place.trailer));
        return p;
    }
    moved = move(heap, p, hk_trailer_bytes(place.trailer), n, site);
    if (!moved && n <= hk_trailer_bytes(place.trailer)) { /* a shrink never fails */
        write_live(&place, n, hk_trailer_origin(place.trailer));
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
    return hk_trailer_bytes(place.trailer);
}

/* ---- origin -------------------------------------------------------------------------------- */

void hk_secure_mark_origin(void *p, enum hk_origin origin)
{
    struct place place;

    if (find(p, NULL, &place)) {
        place.trailer = hk_trailer_make(HK_TRAILER_LIVE, origin, hk_trailer_bytes(place.trailer), place.trailer.pad);
        hk_trailer_rewrite(p, place.usable, place.trailer);
    } else if (hk_pagemap_word(p) == HK_PM_GUARD) {
        hk_guard_set_origin(p, (unsigned)origin);
    }
}
