// SPDX-License-Identifier: MIT
/* Over 900 lines because regions have one lock and one set of helpers, which a split would have to share. */
#include "span/span.h"

#include "base/panic.h"
#include "meta/meta.h"
#include "os/os.h"
#include "policy/policy.h"
#include "stats/stats.h"

#include <string.h>

#define FIRST_REGION_BYTES (HK_MIB)
#define NR_BINS 9 /* bin b holds regions whose longest free run is in [2^b, 2^(b+1)); 0 in none */
#define WORDS (HK_REGION_GRANULES / 64)
#define KEPT_EMPTY_REGIONS 1 /* purged, still mapped */
#define MAX_TRIES 16         /* regions looked at per bin before the next larger bin */
#define CALM_NS UINT64_C(2000000000) /* nothing came back to a region for so long: its blocks live long */
#define MAX_LOOKS 16         /* regions looked at per call for one to promote */
#define DENSE (HK_REGION_GRANULES - HK_REGION_SLACK)
#define MAX_PROMOTED 4096    /* regions; each is two mappings more at most, of 65530 that Linux allows */
#define MAX_REFUSED 3        /* in a row: a kernel without huge pages, or a filter */

/* One bit per granule, granule 0 lowest. */
struct bits {
    uint64_t w[WORDS];
};
_Static_assert(WORDS == 2, "the bit loops below are written for any, sized for two words");

struct hk_region {
    /* All under hk_span_lock. */
    char *base;
    unsigned nr_granules;
    unsigned longest;    /* longest run of free granules */
    struct bits used;
    struct bits dirty;
    struct hk_region *next, *prev;             /* in bins[bin] */
    struct hk_region *older, *newer;           /* in the dirty queue */
    uint64_t dirty_since_ns;
    struct bits purging;                    /* counted as used while the kernel has them */
    struct hk_region *next_purging;         /* in span.purging, while `purging` is not empty */
    unsigned generation;                    /* span.generation when it was added */
    signed char bin;                        /* -1: in none */
    bool queued;                            /* in the dirty queue */
    bool huge;                              /* promoted */
    uint64_t calm_since_ns;                 /* its birth, the last release into it, or a look that found it sparse */
    struct hk_region *next_whole, *prev_whole; /* ring of those that can be one huge page; NULL: no such */
};

static HK_LARGE_BSS struct {
    struct hk_region *bins[NR_BINS];
    struct hk_region *oldest, *newest; /* dirty queue, by the time a region became dirty */
    bool any_unqueued;              /* a region may be dirty and not in it */
    struct hk_span_stats stats;     /* written under the lock by relaxed stores, read relaxed */
    size_t nr_empty;                /* regions with no used granule */
    struct hk_region *purging;      /* under purge, unlocked */
    unsigned generation;            /* regions of another one were lost by a fork */
    struct hk_region *hand;         /* in the ring of whole regions: where the next look begins */
    struct hk_region *advised;      /* in the kernel's hands just now: not to be purged */
    unsigned nr_refused;            /* advice, in a row */
    uint64_t promote_from_ns;       /* none is calm before: the first whole region is too young; 0: there was none. Relaxed */
} span;

struct hk_lock hk_span_lock = HK_LOCK_INIT(HK_RANK_SPAN);

/* ---- bits ---------------------------------------------------------------------------------- */


/* The part of [from, from + n) that lies in word w, as a mask. */
static uint64_t word_mask(unsigned w, unsigned from, unsigned n)
{
    unsigned lo = from > w * 64 ? from - w * 64 : 0;
    unsigned hi = from + n < (w + 1) * 64 ? from + n - w * 64 : 64;

    if (from + n <= w * 64 || lo >= 64)
        return 0;
    return (hi == 64 ? ~UINT64_C(0) : (UINT64_C(1) << hi) - 1) & ~((UINT64_C(1) << lo) - 1);
}

static void set_bits(struct bits *b, unsigned from, unsigned n)
{
    for (unsigned w = 0; w < WORDS; w++)
        b->w[w] |= word_mask(w, from, n);
}

static void clear_bits(struct bits *b, unsigned from, unsigned n)
{
    for (unsigned w = 0; w < WORDS; w++)
        b->w[w] &= ~word_mask(w, from, n);
}

/* Warren, "Hacker's Delight", 5-1. The builtin is a call into libgcc where the processor may lack the instruction. */
static unsigned count_ones(uint64_t x)
{
    x -= x >> 1 & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (unsigned)(x * UINT64_C(0x0101010101010101) >> 56);
}

static unsigned count_bits(const struct bits *b, unsigned from, unsigned n)
{
    unsigned count = 0;

    for (unsigned w = 0; w < WORDS; w++)
        count += count_ones(b->w[w] & word_mask(w, from, n));
    return count;
}

static bool no_bits(const struct bits *b)
{
    uint64_t any = 0;

    for (unsigned w = 0; w < WORDS; w++)
        any |= b->w[w];
    return any == 0;
}

/* First set bit at or after `from`, or `end`. */
static unsigned next_set(const struct bits *b, unsigned from, unsigned end)
{
    for (unsigned w = from / 64; w < WORDS && w * 64 < end; w++) {
        uint64_t word = b->w[w];
        if (w == from / 64)
            word &= ~UINT64_C(0) << (from % 64);
        if (word) {
            unsigned i = w * 64 + (unsigned)__builtin_ctzll(word);
            return i < end ? i : end;
        }
    }
    return end;
}

static unsigned next_clear(const struct bits *b, unsigned from, unsigned end)
{
    struct bits inverse;

    for (unsigned w = 0; w < WORDS; w++)
        inverse.w[w] = ~b->w[w];
    return next_set(&inverse, from, end);
}

/* Where the clear bits that end before `end` begin. */
static unsigned run_start(const struct bits *b, unsigned end)
{
    for (unsigned w = (end + 63) / 64; w-- > 0;) {
        uint64_t word = b->w[w];
        if (end < (w + 1) * 64)
            word &= (UINT64_C(1) << (end % 64)) - 1;
        if (word)
            return w * 64 + 64 - (unsigned)__builtin_clzll(word);
    }
    return 0;
}

/* Length of the free run that [from, from + n), free, is part of. */
static unsigned run_around(const struct hk_region *r, unsigned from, unsigned n)
{
    return next_set(&r->used, from + n, r->nr_granules) - run_start(&r->used, from);
}

static unsigned longest_free(const struct hk_region *r)
{
    unsigned longest = 0;

    for (unsigned i = next_clear(&r->used, 0, r->nr_granules); i < r->nr_granules;) {
        unsigned end = next_set(&r->used, i, r->nr_granules);
        if (end - i > longest)
            longest = end - i;
        i = next_clear(&r->used, end, r->nr_granules);
    }
    return longest;
}

/* ---- bins and queue ------------------------------------------------------------------------ */

static void unlink_bin(struct hk_region *r)
{
    if (r->bin < 0)
        return;
    if (r->prev)
        r->prev->next = r->next;
    else
        span.bins[r->bin] = r->next;
    if (r->next)
        r->next->prev = r->prev;
    r->bin = -1;
}

/* After `used` changed. */
static void rebin(struct hk_region *r, unsigned longest)
{
    signed char bin = longest ? (signed char)hk_log2_floor(longest) : -1;

    r->longest = longest;
    if (bin == r->bin)
        return;
    unlink_bin(r);
    if (bin < 0)
        return;
    r->bin = bin;
    r->prev = NULL;
    r->next = span.bins[bin];
    if (r->next)
        r->next->prev = r;
    span.bins[bin] = r;
}

static void dequeue(struct hk_region *r)
{
    if (!r->queued)
        return;
    *(r->older ? &r->older->newer : &span.oldest) = r->newer;
    *(r->newer ? &r->newer->older : &span.newest) = r->older;
    r->queued = false;
}

static void enqueue_dirty(struct hk_region *r, uint64_t now_ns)
{
    if (r->queued)
        return;
    r->dirty_since_ns = now_ns;
    r->older = span.newest;
    r->newer = NULL;
    *(span.newest ? &span.newest->newer : &span.oldest) = r;
    span.newest = r;
    r->queued = true;
}

/* Little that is free in a promoted region stays; who wants all that there is gets it. */
static void queue_if_purgeable(struct hk_region *r, uint64_t now_ns)
{
    if (r == span.advised || (r->huge && count_bits(&r->used, 0, r->nr_granules) >= DENSE))
        span.any_unqueued = true;
    else
        enqueue_dirty(r, now_ns);
}

static bool is_empty(const struct hk_region *r)
{
    return no_bits(&r->used);
}

static bool is_lost(const struct hk_region *r)
{
    return r->generation != span.generation;
}

/* ---- use and disuse ------------------------------------------------------------------------ */

static void add_stat(size_t *field, size_t bytes)
{
    hk_store_relaxed(field, *field + bytes);
}

static void set_huge(struct hk_region *r, bool huge)
{
    r->huge = huge;
    add_stat(&span.stats.huge_bytes, huge ? HK_REGION_BYTES : -HK_REGION_BYTES);
    add_stat(huge ? &span.stats.nr_promoted : &span.stats.nr_demoted, 1);
}

/* Marks granules used; returns whether all of them were clean. */
static bool take_locked(struct hk_region *r, unsigned from, unsigned n)
{
    unsigned dirty = count_bits(&r->dirty, from, n), run = run_around(r, from, n);

    if (is_empty(r))
        span.nr_empty--;
    set_bits(&r->used, from, n);
    clear_bits(&r->dirty, from, n);
    if (dirty) {
        add_stat(&span.stats.dirty_bytes, -(dirty * HK_GRANULE));
        if (no_bits(&r->dirty))
            dequeue(r);
    }
    add_stat(&span.stats.used_bytes, n * HK_GRANULE);
    add_stat(&span.stats.fresh_bytes, (n - dirty) * HK_GRANULE);
    if (run == r->longest)
        rebin(r, longest_free(r));
    return dirty == 0;
}

static void put_locked(struct hk_region *r, unsigned from, unsigned n, bool dirty)
{
    clear_bits(&r->used, from, n);
    if (dirty) {
        set_bits(&r->dirty, from, n);
        add_stat(&span.stats.dirty_bytes, n * HK_GRANULE);
    }
    add_stat(&span.stats.used_bytes, -(n * HK_GRANULE));
    if (is_empty(r))
        span.nr_empty++;
    rebin(r, hk_max(r->longest, run_around(r, from, n)));
}

/* ---- regions ------------------------------------------------------------------------------- */

/* Nothing is before the first region's first slab: what is written there meets a fence. */
static struct hk_region *map_region(size_t bytes, size_t align, bool first)
{
    static void *fence;
    struct hk_region *r = hk_meta_alloc(sizeof *r);
    char *base = NULL;

    if (r)
        base = first ? hk_os_reserve_fenced(bytes, align, &fence) : hk_os_reserve(bytes, align);
    if (base && !hk_pagemap_cover(base, bytes)) {
        hk_os_abandon(base, bytes);
        base = NULL;
    }
    if (!base) {
        if (r)
            hk_meta_free(r, sizeof *r);
        return NULL;
    }
    if (bytes == HK_REGION_BYTES)
        (void)hk_os_huge_pages(base, bytes, hk_policy()->huge_pages);
    r->base = base;
    r->nr_granules = (unsigned)(bytes / HK_GRANULE);
    r->bin = -1;
    r->calm_since_ns = hk_os_now_ns();
    hk_pagemap_set(base, r->nr_granules, HK_PM_SPAN, r);
    return r;
}

static size_t granule_align(void)
{
    return hk_max(HK_GRANULE, hk_os_page_bytes());
}

/* A whole region if the system has it, else just what was asked for. */
static struct hk_region *new_region(size_t nr_granules, size_t align_granules)
{
    bool first = hk_load_relaxed(&span.stats.mapped_bytes) == 0;
    size_t need = nr_granules * HK_GRANULE, align = align_granules * HK_GRANULE;
    struct hk_region *r = NULL;

    if (first && need <= FIRST_REGION_BYTES && align <= granule_align())
        r = map_region(FIRST_REGION_BYTES, granule_align(), true);
    if (!r)
        r = map_region(HK_REGION_BYTES, HK_REGION_BYTES, first);
    if (!r)
        r = map_region(hk_align_up(need, granule_align()), hk_max(align, granule_align()), false);
    return r;
}

static bool is_whole(const struct hk_region *r)
{
    return r->nr_granules == HK_REGION_GRANULES && ((uintptr_t)r->base & (HK_REGION_BYTES - 1)) == 0;
}

static void join_ring(struct hk_region *r)
{
    struct hk_region *next = span.hand ? span.hand : r;

    if (next == r)
        hk_store_relaxed(&span.promote_from_ns, r->calm_since_ns + CALM_NS);
    r->next_whole = next;
    r->prev_whole = next == r ? r : next->prev_whole;
    r->prev_whole->next_whole = r;
    next->prev_whole = r;
    span.hand = next;
}

static void leave_ring(struct hk_region *r)
{
    r->prev_whole->next_whole = r->next_whole;
    r->next_whole->prev_whole = r->prev_whole;
    if (span.hand == r)
        span.hand = r->next_whole == r ? NULL : r->next_whole;
}

static void add_region_locked(struct hk_region *r)
{
    if (is_whole(r))
        join_ring(r);
    add_stat(&span.stats.mapped_bytes, r->nr_granules * HK_GRANULE);
    add_stat(&span.stats.nr_regions, 1);
    span.nr_empty++;
    r->generation = span.generation;
    rebin(r, longest_free(r));
}

/* ---- search -------------------------------------------------------------------------------- */

/* First fit for n granules at an aligned address; nr_granules if there is none. */
static unsigned find_in_region(const struct hk_region *r, unsigned n, unsigned align)
{
    uintptr_t first = (uintptr_t)r->base >> HK_GRANULE_SHIFT;
    unsigned i = 0;

    while (i + n <= r->nr_granules) {
        i += (unsigned)(-(first + i) & (align - 1));
        if (i + n > r->nr_granules)
            break;
        unsigned blocked = next_set(&r->used, i, i + n);
        if (blocked == i + n)
            return i;
        i = next_clear(&r->used, blocked, r->nr_granules);
    }
    return r->nr_granules;
}

static void *acquire_locked(unsigned n, unsigned align, bool *zero, struct hk_region **home)
{
    for (unsigned bin = hk_log2_floor(n); bin < NR_BINS; bin++) {
        unsigned tries = 0;
        for (struct hk_region *r = span.bins[bin]; r && tries < MAX_TRIES; r = r->next, tries++) {
            unsigned at = r->longest < n ? r->nr_granules : find_in_region(r, n, align);
            if (at == r->nr_granules)
                continue;
            *zero = take_locked(r, at, n);
            *home = r;
            return r->base + at * HK_GRANULE;
        }
    }
    return NULL;
}

void *hk_span_acquire(size_t nr_granules, size_t align_granules, bool *zero, struct hk_region **home)
{
    unsigned n = (unsigned)nr_granules, align = (unsigned)align_granules;
    struct hk_region *fresh;
    void *p;

    hk_lock(&hk_span_lock);
    p = acquire_locked(n, align, zero, home);
    hk_unlock(&hk_span_lock);
    if (p)
        return p;
    fresh = new_region(nr_granules, align_granules); /* outside the lock: system calls */
    if (!fresh)
        return NULL;
    hk_trace(HK_TRACE_REGION, 0, fresh->nr_granules * HK_GRANULE);
    hk_lock(&hk_span_lock);
    add_region_locked(fresh); /* and take from it directly: others must not empty it first */
    unsigned at = find_in_region(fresh, n, align);
    *zero = take_locked(fresh, at, n);
    *home = fresh;
    p = fresh->base + at * HK_GRANULE;
    hk_unlock(&hk_span_lock);
    return p;
}

void hk_span_release(struct hk_region *home, void *base, size_t nr_granules, bool dirty)
{
    unsigned from = (unsigned)(((char *)base - home->base) >> HK_GRANULE_SHIFT);
    unsigned n = (unsigned)nr_granules;
    uint64_t now = hk_os_now_ns();

    hk_pagemap_set(base, nr_granules, HK_PM_SPAN, home);
    hk_lock(&hk_span_lock);
    HK_ASSERT(count_bits(&home->used, from, n) == n);
    if (HK_LIKELY(!is_lost(home))) {
        dirty |= home->huge || home == span.advised; /* the kernel may have filled it */
        put_locked(home, from, n, dirty);
        home->calm_since_ns = now;
        if (dirty)
            queue_if_purgeable(home, now);
    }
    hk_unlock(&hk_span_lock);
}

/* ---- memory goes back ---------------------------------------------------------------------- */

static void forget_region_locked(struct hk_region *r)
{
    if (is_whole(r))
        leave_ring(r);
    unlink_bin(r);
    dequeue(r);
    add_stat(&span.stats.mapped_bytes, -(r->nr_granules * HK_GRANULE));
    add_stat(&span.stats.dirty_bytes, -(count_bits(&r->dirty, 0, r->nr_granules) * HK_GRANULE));
    add_stat(&span.stats.nr_regions, -(size_t)1);
    span.nr_empty--;
}

/* The region is in no list any more. Its page-map words remember that it was ours. */
static bool unmap_region(struct hk_region *r)
{
    char *base = r->base;
    unsigned n = r->nr_granules;

    hk_trace(HK_TRACE_UNMAP, 0, n * HK_GRANULE);
    hk_pagemap_set(base, n, HK_PM_GONE, NULL);
    if (!hk_os_release(base, n * HK_GRANULE)) {
        hk_pagemap_set(base, n, HK_PM_SPAN, r);
        return false;
    }
    hk_meta_free(r, sizeof *r);
    return true;
}

/* The kernel refused to unmap (too many mappings): the region stays, its pages dropped if that at least
 * was possible, else its content unknown. */
static void readd_region_locked(struct hk_region *r, bool clean)
{
    clear_bits(&r->dirty, 0, r->nr_granules);
    if (!clean)
        set_bits(&r->dirty, 0, r->nr_granules);
    span.any_unqueued |= !clean;
    add_region_locked(r);
    add_stat(&span.stats.dirty_bytes, count_bits(&r->dirty, 0, r->nr_granules) * HK_GRANULE);
}

/* Whole pages inside [*from, *end), in granules; where a page is larger than a granule. */
static void shrink_to_pages(const struct hk_region *r, unsigned *from, unsigned *end)
{
    uintptr_t page = hk_os_page_bytes(), base = (uintptr_t)r->base;
    uintptr_t first = hk_align_up(base + *from * HK_GRANULE, page);
    uintptr_t last = (base + *end * HK_GRANULE) & ~(page - 1);

    *from = (unsigned)((first - base) / HK_GRANULE);
    *end = last > first ? (unsigned)((last - base) / HK_GRANULE) : *from;
}

static size_t purge_runs(struct hk_region *r, const struct bits *dirty, struct bits *cleaned)
{
    size_t nr_calls = 0;

    for (unsigned i = next_set(dirty, 0, r->nr_granules); i < r->nr_granules;) {
        unsigned next = next_clear(dirty, i, r->nr_granules), end = next;
        shrink_to_pages(r, &i, &end);
        if (end > i && hk_os_purge(r->base + i * HK_GRANULE, (end - i) * HK_GRANULE))
            set_bits(cleaned, i, end - i);
        nr_calls++;
        i = next_set(dirty, next, r->nr_granules);
    }
    return nr_calls;
}

/* Two threads may purge granules of one region: both are noted in it. */
static void start_purging(struct hk_region *r, const struct bits *granules)
{
    if (count_bits(&r->purging, 0, r->nr_granules) == 0) {
        r->next_purging = span.purging;
        span.purging = r;
    }
    for (unsigned w = 0; w < WORDS; w++)
        r->purging.w[w] |= granules->w[w];
}

static void end_purging(struct hk_region *r, const struct bits *granules)
{
    struct hk_region **link = &span.purging;

    for (unsigned w = 0; w < WORDS; w++)
        r->purging.w[w] &= ~granules->w[w];
    if (count_bits(&r->purging, 0, r->nr_granules) > 0)
        return;
    while (*link != r)
        link = &(*link)->next_purging;
    *link = r->next_purging;
}

void hk_span_inherit(void)
{
    struct hk_region *r;

    if ((r = span.advised) != NULL) { /* which the kernel may have heard or not */
        if (hk_os_huge_pages(r->base, HK_REGION_BYTES, false) && r->huge)
            set_huge(r, false);
        span.advised = NULL; /* if it is dirty: any_unqueued says so */
    }
    while ((r = span.purging) != NULL) {
        span.purging = r->next_purging;
        size_t bytes = count_bits(&r->purging, 0, r->nr_granules) * HK_GRANULE;
        for (unsigned w = 0; w < WORDS; w++) {
            r->used.w[w] &= ~r->purging.w[w];
            r->dirty.w[w] |= r->purging.w[w];
            r->purging.w[w] = 0;
        }
        if (is_empty(r))
            span.nr_empty++;
        rebin(r, longest_free(r));
        enqueue_dirty(r, hk_os_now_ns());
        add_stat(&span.stats.dirty_bytes, bytes);
    }
}

void hk_span_forget(void)
{
    span.generation++;
    for (unsigned bin = 0; bin < NR_BINS; bin++)
        span.bins[bin] = NULL;
    span.oldest = span.newest = span.purging = span.hand = span.advised = NULL;
    hk_store_relaxed(&span.stats.huge_bytes, (size_t)0);
    span.nr_empty = 0;
    hk_store_relaxed(&span.stats.dirty_bytes, (size_t)0);
}

/* It is empty, and demoted in our books if `demote`. The lock is dropped meanwhile. True: none of it is dirty any more. */
static bool unmap_locked(struct hk_region *r, bool demote)
{
    bool gone, demoted, clean;

    forget_region_locked(r);
    hk_unlock(&hk_span_lock);
    gone = unmap_region(r);
    demoted = gone || !demote || hk_os_huge_pages(r->base, HK_REGION_BYTES, false);
    clean = gone || (demoted && hk_os_purge(r->base, r->nr_granules * HK_GRANULE));
    hk_lock(&hk_span_lock);
    if (gone)
        add_stat(&span.stats.nr_unmaps, 1);
    else
        readd_region_locked(r, clean);
    if (!demoted)
        set_huge(r, true);
    return clean;
}

/*
 * Gives back the oldest dirty region; returns bytes. Called with the lock held, drops it around the
 * system calls. The granules under purge count as used meanwhile, so nobody can take them.
 */
static size_t purge_oldest_locked(void)
{
    struct hk_region *r = span.oldest;
    struct bits dirty = r->dirty, cleaned = {{0}};
    size_t bytes = count_bits(&dirty, 0, r->nr_granules) * HK_GRANULE, nr_calls;
    bool demote = r->huge, demoted;

    if (demote)
        set_huge(r, false);
    if (is_empty(r) && span.nr_empty > KEPT_EMPTY_REGIONS)
        return unmap_locked(r, demote) ? bytes : 0;
    hk_trace(HK_TRACE_PURGE, 0, bytes);
    dequeue(r);
    if (is_empty(r))
        span.nr_empty--;
    for (unsigned w = 0; w < WORDS; w++) {
        r->used.w[w] |= dirty.w[w];
        r->dirty.w[w] = 0;
    }
    add_stat(&span.stats.dirty_bytes, -bytes);
    start_purging(r, &dirty);
    rebin(r, longest_free(r));
    hk_unlock(&hk_span_lock);

    /* Else the kernel would fill the holes again. */
    demoted = !demote || hk_os_huge_pages(r->base, HK_REGION_BYTES, false);
    nr_calls = demoted ? purge_runs(r, &dirty, &cleaned) : 0;

    hk_lock(&hk_span_lock);
    if (HK_UNLIKELY(is_lost(r)))
        return 0;
    if (!demoted)
        set_huge(r, true);
    end_purging(r, &dirty);
    for (unsigned w = 0; w < WORDS; w++) {
        r->used.w[w] &= ~dirty.w[w];
        r->dirty.w[w] |= dirty.w[w] & ~cleaned.w[w];
    }
    if (is_empty(r))
        span.nr_empty++;
    rebin(r, longest_free(r));
    size_t kept = count_bits(&dirty, 0, r->nr_granules) - count_bits(&cleaned, 0, r->nr_granules);
    /* What the kernel refused stays dirty but is not queued: it would be refused again at once. The next release into the region
     * queues it anew, or somebody who wants all that there is. */
    span.any_unqueued |= kept > 0;
    add_stat(&span.stats.dirty_bytes, kept * HK_GRANULE);
    add_stat(&span.stats.nr_purges, nr_calls);
    add_stat(&span.stats.nr_purged_bytes, bytes - kept * HK_GRANULE);
    return bytes - kept * HK_GRANULE;
}

size_t hk_span_purge_expired(uint64_t now_ns, uint64_t delay_ns)
{
    size_t bytes = 0;

    hk_lock(&hk_span_lock);
    while (span.oldest && now_ns - span.oldest->dirty_since_ns >= delay_ns &&
           now_ns >= span.oldest->dirty_since_ns)
        bytes += purge_oldest_locked();
    hk_unlock(&hk_span_lock);
    return bytes;
}

/* Regions in no bin are full: no granule of theirs is dirty. */
static void queue_all_locked(void)
{
    uint64_t now = hk_os_now_ns();

    span.any_unqueued = span.advised != NULL;
    for (unsigned bin = 0; bin < NR_BINS; bin++)
        for (struct hk_region *r = span.bins[bin]; r; r = r->next)
            if (!no_bits(&r->dirty) && r != span.advised)
                enqueue_dirty(r, now);
}

size_t hk_span_purge_to(size_t keep_bytes)
{
    size_t bytes = 0;
    bool all = keep_bytes == 0;

    hk_lock(&hk_span_lock);
    if (all && HK_UNLIKELY(span.any_unqueued))
        queue_all_locked();
    while (span.stats.dirty_bytes > keep_bytes) {
        if (!span.oldest && !all && span.any_unqueued && span.stats.huge_bytes) {
            all = true; /* what stays in promoted regions counts as well */
            queue_all_locked();
        }
        if (!span.oldest)
            break;
        bytes += purge_oldest_locked();
    }
    hk_unlock(&hk_span_lock);
    return bytes;
}

/* ---- huge pages ---------------------------------------------------------------------------- */

/* Could it be promoted, if its granules are filled? */
static bool is_calm(const struct hk_region *r, uint64_t now_ns)
{
    return !r->huge && !r->queued && no_bits(&r->purging) && count_bits(&r->used, 0, r->nr_granules) >= DENSE &&
           now_ns > r->calm_since_ns && now_ns - r->calm_since_ns >= CALM_NS;
}

static bool is_dense(const struct hk_region *r, bool (*is_filled)(const void *desc, const void *granule))
{
    unsigned nr = 0;

    for (unsigned i = next_set(&r->used, 0, r->nr_granules); i < r->nr_granules;
         i = next_set(&r->used, i + 1, r->nr_granules)) {
        const void *granule = r->base + i * HK_GRANULE, *desc = hk_pagemap_desc(granule);
        nr += desc != r && is_filled(desc, granule); /* the region itself: none of it has left, or it comes back just now */
    }
    return nr >= DENSE;
}

static struct hk_region *next_to_demote_locked(void)
{
    for (size_t i = span.stats.huge_bytes ? span.stats.nr_regions : 0; span.hand && i > 0; i--) {
        if (span.hand->huge) {
            dequeue(span.hand); /* for the time being */
            return span.hand;
        }
        span.hand = span.hand->next_whole;
    }
    return NULL;
}

/* One region is looked at granule by granule, at most. */
static struct hk_region *next_to_promote_locked(uint64_t now_ns, bool (*is_filled)(const void *desc, const void *granule))
{
    for (unsigned looks = 0; span.hand && looks < MAX_LOOKS; looks++) {
        struct hk_region *r = span.hand;
        span.hand = r->next_whole;
        if (!is_calm(r, now_ns))
            continue;
        if (is_dense(r, is_filled))
            return r;
        r->calm_since_ns = now_ns;
        break;
    }
    return NULL;
}

static struct hk_region *start_advice(bool promote, uint64_t now_ns, bool (*is_filled)(const void *desc, const void *granule))
{
    struct hk_region *r = NULL;

    hk_lock(&hk_span_lock);
    if (!span.advised && span.nr_refused < MAX_REFUSED)
        span.advised = r = promote ? next_to_promote_locked(now_ns, is_filled) : next_to_demote_locked();
    hk_unlock(&hk_span_lock);
    return r;
}

/* What is free and clean of a huge page the kernel may fill: it goes back with the rest. */
static void expect_filled(struct hk_region *r)
{
    size_t before = count_bits(&r->dirty, 0, r->nr_granules);

    for (unsigned w = 0; w < WORDS; w++)
        r->dirty.w[w] = ~r->used.w[w];
    add_stat(&span.stats.dirty_bytes, (r->nr_granules - count_bits(&r->used, 0, r->nr_granules) - before) * HK_GRANULE);
}

static void end_advice(struct hk_region *r, bool huge, bool done, uint64_t now_ns)
{
    hk_lock(&hk_span_lock);
    if (HK_LIKELY(span.advised == r)) { /* else a handler forked, and this is the child */
        span.advised = NULL;
        span.nr_refused = done ? 0 : span.nr_refused + 1;
        if (done)
            set_huge(r, huge);
        if (r->huge)
            expect_filled(r);
        if (!no_bits(&r->dirty))
            queue_if_purgeable(r, now_ns);
    }
    hk_unlock(&hk_span_lock);
}

static HK_NOINLINE bool advise_one(bool promote, uint64_t now_ns, bool (*is_filled)(const void *desc, const void *granule))
{
    struct hk_region *r = start_advice(promote, now_ns, is_filled);
    bool done;

    if (!r)
        return false;
    done = hk_os_huge_pages(r->base, HK_REGION_BYTES, promote);
    end_advice(r, promote, done, now_ns);
    return done;
}

/* Programs that are short or small end here. */
static bool may_promote(uint64_t now_ns)
{
    uint64_t from_ns = hk_load_relaxed(&span.promote_from_ns);

    return from_ns != 0 && now_ns >= from_ns && hk_load_relaxed(&span.stats.huge_bytes) / HK_REGION_BYTES < MAX_PROMOTED;
}

bool hk_span_promote(uint64_t now_ns, bool (*is_filled)(const void *desc, const void *granule))
{
    const struct hk_policy *policy = hk_policy();

    if (policy->huge_pages)
        return false;
    if (policy->promote ? !may_promote(now_ns) : hk_load_relaxed(&span.stats.huge_bytes) == 0)
        return false;
    return advise_one(policy->promote, now_ns, is_filled);
}

/* ---- counters ------------------------------------------------------------------------------ */

size_t hk_span_dirty_bytes(void)
{
    return hk_load_relaxed(&span.stats.dirty_bytes);
}

size_t hk_span_used_bytes(void)
{
    return hk_load_relaxed(&span.stats.used_bytes);
}

void hk_span_stats(struct hk_span_stats *out)
{
    const struct hk_span_stats *s = &span.stats;

    /* Relaxed, no lock: the caller is in no slow section, and a signal handler that allocates would wait for
     * its own thread. The numbers may be some steps apart. */
    *out = (struct hk_span_stats){
        .mapped_bytes = hk_load_relaxed(&s->mapped_bytes),
        .used_bytes = hk_load_relaxed(&s->used_bytes),
        .dirty_bytes = hk_load_relaxed(&s->dirty_bytes),
        .nr_regions = hk_load_relaxed(&s->nr_regions),
        .nr_purges = hk_load_relaxed(&s->nr_purges),
        .nr_purged_bytes = hk_load_relaxed(&s->nr_purged_bytes),
        .nr_unmaps = hk_load_relaxed(&s->nr_unmaps),
        .huge_bytes = hk_load_relaxed(&s->huge_bytes),
        .nr_promoted = hk_load_relaxed(&s->nr_promoted),
        .nr_demoted = hk_load_relaxed(&s->nr_demoted),
    };
    out->used_bytes = hk_min(out->used_bytes, out->mapped_bytes);
}

const struct hk_span_stats *hk_span_counters(void)
{
    return &span.stats;
}

static void check_region(const struct hk_region *r)
{
    for (unsigned w = 0; w < WORDS; w++)
        if (r->used.w[w] & r->dirty.w[w])
            hk_panic_internal("span: granule both used and dirty", r);
    if (r->longest != longest_free(r))
        hk_panic_internal("span: longest free run", r);
    unsigned nr_held = count_bits(&r->used, 0, r->nr_granules) + count_bits(&r->dirty, 0, r->nr_granules);
    if (r->huge && nr_held < r->nr_granules)
        hk_panic_internal("span: promoted region with holes", r);
}

static void check_huge(void)
{
    size_t huge = 0;
    struct hk_region *r = span.hand;

    do {
        huge += r && r->huge ? HK_REGION_BYTES : 0;
        r = r ? r->next_whole : NULL;
    } while (r != span.hand);
    if (huge != span.stats.huge_bytes)
        hk_panic_internal("span: promoted regions do not add up", NULL);
}

/* Only regions with a free granule hang in a bin; full ones have no dirty granule. */
void hk_span_check(void)
{
    size_t dirty = 0;

    hk_lock(&hk_span_lock);
    for (unsigned bin = 0; bin < NR_BINS; bin++)
        for (const struct hk_region *r = span.bins[bin]; r; r = r->next) {
            check_region(r);
            if (r->bin != (signed char)bin || hk_log2_floor(r->longest) != bin)
                hk_panic_internal("span: region in the wrong bin", r);
            dirty += count_bits(&r->dirty, 0, r->nr_granules) * HK_GRANULE;
        }
    check_huge();
    if (dirty != span.stats.dirty_bytes)
        hk_panic_internal("span: dirty bytes do not add up", NULL);
    if (span.stats.used_bytes + span.stats.dirty_bytes > span.stats.mapped_bytes)
        hk_panic_internal("span: more handed out than mapped", NULL);
    hk_unlock(&hk_span_lock);
}
