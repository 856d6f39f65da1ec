// SPDX-License-Identifier: MIT
#include "ace/ace_private.h"

#include "arena/arena.h"
#include "base/panic.h"
#include "batch/batch.h"
#include "bigcache/bigcache.h"
#include "config/config.h"
#include "guard/guard.h"
#include "heap/heap_inline.h"
#include "l25/l25_inline.h"
#include "meta/meta.h"
#include "os/os.h"
#include "stats/stats.h"

#include <string.h>

void (*hk_ace_on_tick)(struct hk_heap *heap, uint64_t now_ns);
const struct hk_foreign *hk_ace_foreign;
void (*hk_ace_watch)(void);
static const char *first_break; /* program break at start; constant after hk_ace_init */

void hk_ace_init(void)
{
    first_break = hk_os_program_break();
    hk_big_init();
}

/* Or in the arena; hk_big_resident_bytes knows the granules of HK_PM_BIG. */
static bool is_in_region(const char *p)
{
    uintptr_t word = hk_pagemap_word(p);

    return word == HK_PM_SPAN || word == HK_PM_FREE || word == HK_PM_RUN || word == HK_PM_GUARD ||
           word >= HK_PM_KINDS;
}

/* Neighbouring granules of regions and the arena in one question; a region that goes meanwhile counts 0. */
static size_t resident_in_leaf(uintptr_t first)
{
    size_t bytes = 0;

    for (size_t i = 0; i < HK_LEAF_GRANULES; i++) {
        const char *p = (const char *)(first + i * HK_GRANULE);
        uintptr_t word = hk_pagemap_word(p);
        size_t n = 0;

        while (i + n < HK_LEAF_GRANULES && is_in_region(p + n * HK_GRANULE))
            n++;
        if (n > 0)
            bytes += hk_os_resident(p, n * HK_GRANULE);
        else if (word == HK_PM_LOOSE)
            bytes += hk_os_resident(p, (size_t)hk_pagemap_desc(p));
        i += n > 0 ? n - 1 : 0;
    }
    return bytes;
}

static void add_resident(const struct hk_big_range *range, void *bytes)
{
    if (!range->arena)
        *(size_t *)bytes += hk_os_resident(range->base, range->bytes);
}

size_t hk_ace_resident_bytes(void)
{
    size_t bytes = hk_meta_touched_bytes() + hk_big_resident_bytes();

    for (size_t entry = 0; entry < HK_ROOT_ENTRIES; entry++) {
        const struct hk_pm_leaf *leaf = hk_pagemap_leaf((uintptr_t)entry << HK_ROOT_SHIFT);
        if (leaf == &hk_pagemap.zero)
            continue;
        bytes += hk_os_resident(leaf, sizeof *leaf);
        bytes += resident_in_leaf((uintptr_t)entry << HK_ROOT_SHIFT);
    }
    hk_bigcache_each(add_resident, &bytes);
    return bytes + hk_heaps_counters()->nr_heaps * HK_HEAP_ALIGN;
}

/* ---- alloc --------------------------------------------------------------------------------- */

unsigned hk_ace_class(size_t n, size_t align)
{
    if (align <= 16)
        return n <= HK_FAST_MAX ? hk_size_to_class(n ? n : 1) : HK_NR_CLASSES;
    return n <= HK_FAST_MAX ? hk_size_to_aligned_class(n, align) : HK_NR_CLASSES;
}

static void *small_alloc(struct hk_heap *heap, unsigned class)
{
    return heap ? hk_heap_alloc_slow(heap, class) : hk_heap_alloc_from_depot(class);
}

static void *run_alloc(struct hk_heap *heap, size_t n, size_t align, const void *site, bool *zero)
{
    struct hk_run *run = hk_l25_alloc(heap ? &heap->l25 : NULL, heap ? heap->id : 0, n, align);

    if (!run)
        return NULL;
    run->site = site;
    *zero = run->zero;
    return hk_run_start(run);
}

static void *alloc_once(struct hk_heap *heap, size_t n, size_t align, bool *zero, const void *site)
{
    unsigned class = hk_ace_class(n, align);

    *zero = false;
    if (class < HK_NR_CLASSES)
        return small_alloc(heap, class);
    if (n < hk_policy()->big_threshold && n <= HK_L25_MAX && align <= HK_MIB)
        return run_alloc(heap, n, align, site, zero);
    return hk_big_alloc(n, align, site, false, zero);
}

/* A slab is larger than a few of its blocks, and aligned: where none fits any more a run may. Not for small
 * blocks, of which a run would hold one instead of many. */
static void *alloc_without_slab(struct hk_heap *heap, size_t n, size_t align, bool *zero, const void *site)
{
    if (n <= HK_GRANULE / 4 || hk_ace_class(n, align) >= HK_NR_CLASSES)
        return NULL;
    return run_alloc(heap, n, align, site, zero);
}

static void *alloc_and_clear(struct hk_heap *heap, size_t n, size_t align, bool zero, const void *site)
{
    bool is_zero;
    void *p = alloc_once(heap, n, align, &is_zero, site);

    if (HK_UNLIKELY(!p)) {
        hk_ace_purge(heap);
        p = alloc_once(heap, n, align, &is_zero, site);
        if (!p)
            p = alloc_without_slab(heap, n, align, &is_zero, site);
    }
    if (HK_UNLIKELY(n > HK_FAST_MAX && hk_policy()->limit_bytes))
        hk_ace_trim_if_over(heap);
    if (p && zero && !is_zero)
        memset(p, 0, n);
    return p;
}

/* The clock of the vDSO; a system call only where there is none. */
static HK_NOINLINE void *alloc_timed(struct hk_heap *heap, size_t n, size_t align, bool zero,
                                     const void *site)
{
    uint64_t start = hk_os_fine_ns();
    void *p = alloc_and_clear(heap, n, align, zero, site);

    hk_latency_note(hk_os_fine_ns() - start);
    return p;
}

void *hk_ace_alloc(struct hk_heap *heap, size_t n, size_t align, bool zero, const void *site)
{
    if (HK_UNLIKELY(n == 0)) {
        void *p = align <= 16 && hk_config.empty_guard ? hk_guard_alloc_empty() : NULL;
        if (p)
            return p;
        n = 1; /* a block of its own all the same */
    }
    hk_ace_tick(heap);
    if (heap && HK_UNLIKELY(heap->ticks % HK_LATENCY_EVERY == 0))
        return alloc_timed(heap, n, align, zero, site);
    return alloc_and_clear(heap, n, align, zero, site);
}

size_t hk_ace_good_size(size_t n)
{
    unsigned class = hk_ace_class(n, 16);

    if (class < HK_NR_CLASSES) /* the last has more than may be asked of a class */
        return hk_min(hk_size_class[class].size, HK_FAST_MAX);
    if (n <= HK_L25_MAX && n < hk_policy()->big_threshold)
        return hk_l25_class_granules[hk_l25_class(n)] * HK_GRANULE - HK_L25_COLOUR;
    return n > PTRDIFF_MAX - 64 ? n : hk_align_up(n, 64); /* colour may take all but that */
}

/* ---- what is p? ---------------------------------------------------------------------------- */

static enum hk_verdict identify_slab(const void *p, struct hk_block *b)
{
    const struct hk_size_class *sc = &hk_size_class[hk_class_of_word(b->word)];
    size_t offset = (uintptr_t)p & sc->slab_mask;
    unsigned slot = hk_size_slot(sc, offset);

    b->desc = hk_pagemap_desc(p);
    b->usable = sc->size;
    b->owner = hk_heap_of_word(b->word)->thread_id;
    b->start = (char *)p - (offset - (size_t)slot * sc->size);
    if ((uintptr_t)p % 16)
        return HK_BLOCK_MISALIGNED;
    /* Relaxed: a live block was carved before. */
    if (slot >= hk_load_relaxed(&((const struct hk_slab *)b->desc)->carved)) {
        b->start = NULL;
        return HK_BLOCK_UNKNOWN;
    }
    if (b->start != p)
        return HK_BLOCK_INTERIOR;
    if (*hk_mark_of((void *)p) == sc->magic && hk_heap_holds(p, b->word))
        return HK_BLOCK_DEAD;
    return hk_slab_block_is_free(b->desc, p) ? HK_BLOCK_DEAD : HK_BLOCK_LIVE;
}

static enum hk_verdict place_in(const void *p, struct hk_block *b, void *start, size_t usable, bool live)
{
    b->start = start;
    b->usable = usable;
    if ((uintptr_t)p % 16)
        return HK_BLOCK_MISALIGNED;
    if (p != start)
        return HK_BLOCK_INTERIOR;
    return live ? HK_BLOCK_LIVE : HK_BLOCK_DEAD;
}

static enum hk_verdict identify_elsewhere(const void *p, struct hk_block *b)
{
    struct hk_big *big = hk_big_covering(p);

    if (big)
        return place_in(p, b, hk_big_start(big), hk_big_usable(big), true);
    if ((uintptr_t)p % 16)
        return HK_BLOCK_MISALIGNED;
    return b->word == HK_PM_UNKNOWN ? HK_BLOCK_UNKNOWN : HK_BLOCK_DEAD; /* was ours once */
}

/* In the part of a slab that was never used. */
static bool is_beyond(const struct hk_slab *slab, const void *p)
{
    return (uintptr_t)p - slab->base <= hk_size_class[slab->class].slab_mask;
}

/* In a region or the arena, but not at the head of a block: inside one, in the unused part of a slab, or free
 * memory. Walks back to the head. */
static enum hk_verdict identify_span(const void *p, struct hk_block *b)
{
    uintptr_t granule = (uintptr_t)p & ~(HK_GRANULE - 1);

    for (size_t back = 1; back < granule / HK_GRANULE; back++) {
        const void *head = (const void *)(granule - back * HK_GRANULE);
        uintptr_t word = hk_pagemap_word(head);
        if (word == HK_PM_RUN) {
            struct hk_run *run = hk_pagemap_desc(head);
            if ((const char *)p < run->base + run->nr_granules * HK_GRANULE)
                return place_in(p, b, hk_run_start(run), hk_run_usable(run), true);
        }
        if (word == HK_PM_BIG)
            return identify_elsewhere(p, b);
        if (word >= HK_PM_KINDS && is_beyond(hk_pagemap_desc(head), p))
            return (uintptr_t)p % 16 ? HK_BLOCK_MISALIGNED : HK_BLOCK_UNKNOWN;
        if (word != HK_PM_SPAN)
            break;
    }
    return (uintptr_t)p % 16 ? HK_BLOCK_MISALIGNED : HK_BLOCK_DEAD;
}

/* What lies beside the block in its page is nobody's. */
static enum hk_verdict identify_guarded(const void *p, struct hk_block *b)
{
    const struct hk_guard_slot *slot = hk_guard_slot_at(p);

    if (!slot || (size_t)((const char *)p - slot->start) >= slot->bytes)
        return (uintptr_t)p % 16 ? HK_BLOCK_MISALIGNED : HK_BLOCK_UNKNOWN;
    b->desc = (void *)slot;
    b->owner = slot->alloc_thread;
    return place_in(p, b, slot->start, slot->bytes, hk_load_relaxed(&slot->state) == HK_GUARD_LIVE);
}

/* Between our looks at its word and its descriptor another thread freed it. */
static HK_COLD enum hk_verdict identify_going(const void *p, struct hk_block *b)
{
    b->word = HK_PM_GONE;
    return identify_elsewhere(p, b);
}

enum hk_verdict hk_ace_identify(const void *p, struct hk_block *b)
{
    *b = (struct hk_block){.word = hk_pagemap_word(p)};
    switch (b->word) {
    case HK_PM_UNKNOWN:
    case HK_PM_GONE:
        return identify_elsewhere(p, b);
    case HK_PM_SPAN:
    case HK_PM_FREE:
        return identify_span(p, b);
    case HK_PM_RUN: {
        struct hk_run *run = b->desc = hk_pagemap_desc(p);
        if (HK_UNLIKELY(!run))
            return identify_going(p, b);
        return place_in(p, b, hk_run_start(run), hk_run_usable(run),
                        hk_load_relaxed(&run->state) == HK_RUN_LIVE);
    }
    case HK_PM_BIG: {
        struct hk_big *big = b->desc = hk_pagemap_desc(p);
        if (HK_UNLIKELY(!big))
            return identify_going(p, b);
        return place_in(p, b, hk_big_start(big), hk_big_usable(big),
                        hk_load_relaxed(&big->state) == HK_BIG_LIVE);
    }
    case HK_PM_GUARD:
        return identify_guarded(p, b);
    case HK_PM_EMPTY:
        return place_in(p, b, (void *)((uintptr_t)p & ~(uintptr_t)15), 0, hk_guard_empty_is_live(p));
    case HK_PM_LOOSE:
        return place_in(p, b, (void *)((uintptr_t)p & ~(HK_GRANULE - 1)), (size_t)hk_pagemap_desc(p), true);
    default:
        return identify_slab(p, b);
    }
}

struct complaint {
    const char *unknown, *interior, *misaligned, *dead;
};

static const struct complaint about_free = {
    "invalid free: unknown pointer",
    "invalid free: interior pointer",
    "invalid free: misaligned pointer",
    "double free",
};
static const struct complaint about_realloc = {
    "invalid realloc: unknown pointer",
    "invalid realloc: interior pointer",
    "invalid realloc: misaligned pointer",
    "invalid realloc: freed pointer",
};
static const struct complaint about_size = {
    "invalid malloc_usable_size: unknown pointer",
    "invalid malloc_usable_size: interior pointer",
    "invalid malloc_usable_size: misaligned pointer",
    "invalid malloc_usable_size: freed pointer",
};

static void add_sites(struct hk_diag *diag, const struct hk_block *b)
{
    const struct hk_guard_slot *slot = b->word == HK_PM_GUARD ? b->desc : NULL;

    if (!slot)
        return;
    diag->alloc_site = slot->alloc_site;
    diag->free_site = slot->free_site;
    diag->freed_by = slot->free_thread;
}

static HK_COLD _Noreturn void complain(const struct complaint *about, enum hk_verdict verdict, const void *p,
                             const struct hk_block *b, const void *site)
{
    struct hk_diag diag = {
        .ptr = p, .block = b->start, .size = b->usable, .owner = b->owner, .caller = site};

    switch (verdict) {
    case HK_BLOCK_UNKNOWN:
        diag.what = about->unknown;
        break;
    case HK_BLOCK_INTERIOR:
        diag.what = about->interior;
        break;
    case HK_BLOCK_MISALIGNED:
        diag.what = about->misaligned;
        break;
    default:
        diag.what = about->dead;
        break;
    }
    add_sites(&diag, b);
    hk_panic(&diag);
}

/* Lives in the memory that libc's own allocator took by brk since we are there (a plugin under
 * RTLD_DEEPBIND). What libc made before, when we came by dlopen, is not recognised. */
static bool is_foreign(enum hk_verdict verdict, const void *p)
{
    return verdict == HK_BLOCK_UNKNOWN && hk_ace_foreign && (const char *)p >= first_break &&
           (const char *)p < hk_os_program_break();
}

/* ---- loose blocks -------------------------------------------------------------------------- */

void *hk_ace_loose_alloc(size_t n, size_t align)
{
    size_t unit = hk_max(HK_GRANULE, hk_os_page_bytes()), bytes;
    void *p;

    if (n > PTRDIFF_MAX - unit)
        return NULL;
    bytes = hk_align_up(n + (n == 0), unit);
    p = hk_os_reserve(bytes, hk_max(align, unit));
    if (p && !hk_pagemap_cover(p, 1)) {
        hk_os_abandon(p, bytes);
        p = NULL;
    }
    if (!p)
        return NULL;
    hk_pagemap_set(p, 1, HK_PM_LOOSE, (void *)bytes);
    hk_add_relaxed(&hk_ace_counters.loose_bytes, bytes);
    return p;
}

bool hk_ace_loose_free(void *p)
{
    size_t bytes;

    if (hk_pagemap_word(p) != HK_PM_LOOSE || (uintptr_t)p % HK_GRANULE)
        return false;
    bytes = (size_t)hk_pagemap_desc(p);
    hk_pagemap_set(p, 1, HK_PM_GONE, NULL);
    hk_sub_relaxed(&hk_ace_counters.loose_bytes, bytes);
    hk_os_abandon(p, bytes);
    return true;
}

/* ---- free ---------------------------------------------------------------------------------- */

static void free_run(struct hk_heap *heap, void *p, struct hk_block *b, const void *site)
{
    struct hk_run *run = b->desc;

    if (HK_UNLIKELY(!hk_l25_kill(run)))
        complain(&about_free, HK_BLOCK_DEAD, p, b, site);
    if (HK_UNLIKELY(run->followed))
        hk_l25_unfollow(run);
    hk_l25_cache_run(heap ? &heap->l25 : NULL, heap ? heap->id : 0, run);
    hk_ace_trim_if_over(heap);
}

static void free_big(struct hk_heap *heap, void *p, struct hk_block *b, const void *site)
{
    if (HK_UNLIKELY(!hk_big_kill(b->desc)))
        complain(&about_free, HK_BLOCK_DEAD, p, b, site);
    hk_big_release(b->desc);
    hk_ace_trim_if_over(heap);
}

/* Found by what the write left: the address is the first byte that differs. */
static HK_COLD _Noreturn void complain_of_write(const char *at, const struct hk_block *b, const void *site)
{
    struct hk_diag diag = {
        .what = at < (const char *)b->start ? "heap underflow, found at free" : "heap overflow, found at free",
        .ptr = at,
        .block = b->start,
        .size = b->usable,
        .owner = b->owner,
        .caller = site};

    add_sites(&diag, b);
    hk_panic(&diag);
}

static void free_guarded(struct hk_heap *heap, void *p, const struct hk_block *b, const void *site)
{
    const char *damage;

    if (HK_LIKELY(hk_guard_free(b->desc, site, heap ? heap->thread_id : 0, &damage)))
        return;
    if (damage)
        complain_of_write(damage, b, site);
    complain(&about_free, HK_BLOCK_DEAD, p, b, site);
}

static void free_empty(void *p, const struct hk_block *b, const void *site)
{
    if (HK_UNLIKELY(!hk_guard_free_empty(p)))
        complain(&about_free, HK_BLOCK_DEAD, p, b, site);
}

/*
 * May it wait in this thread's magazine? Not if another thread made its slab and the mode is secure, which looks at neighbours, or it
 * shares a cache line with them: free's fast path does not ask, but a thread's first, mostly of what it was handed, comes here.
 */
static bool is_kept(const struct hk_heap *heap, unsigned class, uintptr_t word)
{
    return heap && (hk_heap_of_word(word) == heap || (hk_size_class[class].size >= HK_CACHE_LINE && !hk_config.secure));
}

static void free_small(struct hk_heap *heap, void *p, const struct hk_block *b)
{
    unsigned class = hk_class_of_word(b->word);

    if (HK_CHECKS)
        *hk_mark_of(p) = hk_size_class[class].magic;
    if (HK_UNLIKELY(hk_heap_is_sampled_word(b->word)))
        hk_heap_free_sampled(p);
    else if (is_kept(heap, class, b->word))
        hk_heap_free_full(heap, class, p);
    else
        hk_heap_free_remote(heap, p, b->word);
    hk_ace_trim_if_over(heap);
}

/* A block of another thread's slab, and the magazine is full: without the full identification. */
bool hk_ace_free_remote(struct hk_heap *heap, void *p, uintptr_t word)
{
    unsigned class = hk_class_of_word(word);
    const struct hk_size_class *sc = &hk_size_class[class];

    if (HK_UNLIKELY(!hk_size_starts_block(sc->magic, (uintptr_t)p & sc->slab_mask) ||
                    *hk_mark_of(p) == sc->magic))
        return false;
    if (HK_CHECKS)
        *hk_mark_of(p) = sc->magic;
    hk_heap_free_full(heap, class, p);
    hk_ace_tick(heap);
    hk_ace_trim_if_over(heap);
    return true;
}

void hk_ace_free(struct hk_heap *heap, void *p, const void *site)
{
    struct hk_block b;
    enum hk_verdict verdict;

    if (!p)
        return;
    hk_ace_tick(heap);
    verdict = hk_ace_identify(p, &b);
    if (HK_UNLIKELY(verdict != HK_BLOCK_LIVE)) {
        if (is_foreign(verdict, p) && hk_ace_foreign->free(p))
            return;
        complain(&about_free, verdict, p, &b, site);
    }
    if (HK_UNLIKELY(hk_config.safe_free) && b.word >= HK_PM_KINDS && hk_heap_holds(p, b.word))
        complain(&about_free, HK_BLOCK_DEAD, p, &b, site);
    if (b.word >= HK_PM_KINDS)
        free_small(heap, p, &b);
    else if (b.word == HK_PM_RUN)
        free_run(heap, p, &b, site);
    else if (b.word == HK_PM_LOOSE)
        hk_ace_loose_free(p);
    else if (b.word == HK_PM_GUARD)
        free_guarded(heap, p, &b, site);
    else if (b.word == HK_PM_EMPTY)
        free_empty(p, &b, site);
    else
        free_big(heap, p, &b, site);
}

/* ---- followed ------------------------------------------------------------------------------ */

bool hk_ace_is_large(const void *p)
{
    uintptr_t word = hk_pagemap_word(p);

    return word == HK_PM_RUN || word == HK_PM_BIG;
}

bool hk_ace_follow(void *p)
{
    uintptr_t word = hk_pagemap_word(p);

    if (word == HK_PM_RUN)
        hk_l25_follow(hk_pagemap_desc(p));
    else if (word == HK_PM_BIG)
        ((struct hk_big *)hk_pagemap_desc(p))->followed = 1;
    return word == HK_PM_RUN || word == HK_PM_BIG;
}

bool hk_ace_follows(const void *p)
{
    uintptr_t word = hk_pagemap_word(p);

    if (word == HK_PM_RUN) {
        const struct hk_run *run = hk_pagemap_desc(p);
        return run && run->followed; /* NULL: another thread frees it just now */
    }
    if (word == HK_PM_BIG) {
        const struct hk_big *big = hk_pagemap_desc(p);
        return big && big->followed;
    }
    return false;
}

/* ---- realloc ------------------------------------------------------------------------------- */

size_t hk_ace_usable(const void *p, const void *site)
{
    struct hk_block b;
    enum hk_verdict verdict = hk_ace_identify(p, &b);
    size_t bytes;

    if (HK_LIKELY(verdict == HK_BLOCK_LIVE))
        return b.usable;
    if (!is_foreign(verdict, p) || !hk_ace_foreign->usable(p, &bytes))
        complain(&about_size, verdict, p, &b, site);
    return bytes;
}

static bool keeps_big(size_t usable, size_t n)
{
    return n <= usable && (n > usable / 2 + HK_GRANULE || (usable - n < 2 * HK_GRANULE && n > usable / 4));
}

bool hk_ace_keeps(const void *p, size_t n)
{
    uintptr_t word = hk_pagemap_word(p);

    if (HK_UNLIKELY(hk_config.secure))
        return false; /* not for us to say */
    if (word == HK_PM_RUN) {
        const struct hk_run *run = hk_pagemap_desc(p);
        return run && p == run->start && hk_load_relaxed(&run->state) == HK_RUN_LIVE && keeps_big(run->usable, n);
    }
    if (word == HK_PM_BIG) {
        const struct hk_big *big = hk_pagemap_desc(p);
        return big && p == hk_big_start(big) && hk_load_relaxed(&big->state) == HK_BIG_LIVE &&
               keeps_big(hk_big_usable(big), n);
    }
    return false;
}

static bool resize_block(struct hk_block *b, size_t n)
{
    if (b->word == HK_PM_EMPTY)
        return false;
    if (b->word >= HK_PM_KINDS || b->word == HK_PM_GUARD)
        return hk_ace_keeps_small(b->usable, n);
    if ((n <= HK_FAST_MAX / 2 && n <= b->usable) || b->word == HK_PM_LOOSE)
        return n <= b->usable && b->word == HK_PM_LOOSE; /* else: shrunk out of its tier */
    if (b->word == HK_PM_RUN)
        return n <= HK_ARENA_MAX && hk_l25_resize(b->desc, n);
    return keeps_big(b->usable, n) || hk_big_resize(b->desc, n);
}

/* What a shrink lets go of counts against the bound as what is freed does. */
static bool resize_in_place(struct hk_heap *heap, struct hk_block *b, size_t n)
{
    if (!resize_block(b, n))
        return false;
    if (n < b->usable && (b->word == HK_PM_RUN || b->word == HK_PM_BIG))
        hk_ace_trim_if_over(heap);
    return true;
}

/*
 * What grows by realloc grows again. Above the classes it is put where it can, and where there is no such
 * place it is given half as much again: pages that are not touched are not there.
 */
static void *alloc_to_grow(struct hk_heap *heap, size_t n, const void *site)
{
    bool zero;
    void *p = NULL;

    if (n < hk_policy()->big_threshold && n <= HK_L25_MAX) {
        struct hk_run *run = hk_l25_alloc_roomy(n);
        if (run)
            run->site = site;
        p = run ? hk_run_start(run) : NULL;
    } else {
        p = hk_big_alloc(n, 16, site, true, &zero);
    }
    if (!p && n <= HK_MIB)
        p = hk_ace_alloc(heap, n + n / 2, 16, false, site);
    return p;
}

#define NR_MOVED_SHIFT 6

/* The last small blocks that realloc moved. By any thread, relaxed: a stale one costs a block a better place than it needs. */
static const void *moved_last[1u << NR_MOVED_SHIFT];

static const void **moved_slot(const void *p)
{
    return &moved_last[(uint32_t)((uintptr_t)p >> 12) * UINT32_C(2654435769) >> (32 - NR_MOVED_SHIFT)]; /* site.c, hash */
}

void hk_ace_note_moved(const void *p, size_t n)
{
    if (n > HK_ACE_GROW_MIN && n <= HK_FAST_MAX)
        hk_store_relaxed(moved_slot(p), p);
}

void *hk_ace_regrow(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    struct hk_block b;
    struct hk_run *run;

    if (n <= 2 * HK_ACE_GROW_MIN || n > HK_FAST_MAX || hk_load_relaxed(moved_slot(p)) != p ||
        hk_ace_identify(p, &b) != HK_BLOCK_LIVE || b.word < HK_PM_KINDS || n <= b.usable)
        return NULL;
    run = hk_l25_alloc_roomy(n);
    if (!run)
        return NULL;
    run->site = site;
    memcpy(hk_run_start(run), p, b.usable);
    hk_ace_free(heap, p, site);
    return hk_run_start(run);
}

bool hk_ace_resize(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    struct hk_block b;
    enum hk_verdict verdict = hk_ace_identify(p, &b);

    if (HK_UNLIKELY(verdict != HK_BLOCK_LIVE)) {
        if (is_foreign(verdict, p))
            return false; /* nobody says in place or not at all */
        complain(&about_realloc, verdict, p, &b, site);
    }
    return n <= PTRDIFF_MAX && resize_in_place(heap, &b, n);
}

/* The same bytes at another address. NULL: to be copied. */
static void *move_pages(const struct hk_block *b, size_t n, const void *site)
{
    if (b->word == HK_PM_BIG)
        return hk_big_move(b->desc, n);
    return b->word == HK_PM_RUN && n > HK_L25_MAX ? hk_big_from_run(b->desc, n, site) : NULL;
}

void *hk_ace_realloc(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    struct hk_block b;
    enum hk_verdict verdict = hk_ace_identify(p, &b);
    void *moved;

    if (HK_UNLIKELY(verdict != HK_BLOCK_LIVE)) {
        if (is_foreign(verdict, p) && hk_ace_foreign->resize(p, n, &moved))
            return moved;
        complain(&about_realloc, verdict, p, &b, site);
    }
    if (resize_in_place(heap, &b, n))
        return p;
    moved = n > b.usable ? move_pages(&b, n, site) : NULL;
    if (moved)
        return moved;
    moved = n > b.usable && n > HK_FAST_MAX ? alloc_to_grow(heap, n, site) : NULL;
    if (!moved)
        moved = hk_ace_alloc(heap, n, 16, false, site);
    if (!moved)
        return n <= b.usable ? p : NULL; /* a shrink never fails */
    hk_ace_note_moved(moved, n);
    memcpy(moved, p, hk_min(n, b.usable));
    hk_ace_free(heap, p, site);
    return moved;
}

void hk_ace_check(struct hk_heap *heap)
{
    if (heap)
        hk_heap_check(heap);
    hk_l25_check();
    hk_guard_check();
    hk_arena_check();
    hk_bigcache_check();
    hk_batch_check();
    hk_span_check();
    hk_meta_check();
}
