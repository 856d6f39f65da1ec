// SPDX-License-Identifier: MIT
/*
 * ace_big: blocks above the threshold. Up to HK_ARENA_MAX they come from the arena, where what is freed joins
 * with its neighbours; larger ones, and those that grew out of the arena, have a mapping of their own.
 *
 * The cache of ranges in front of both is for sites that ask for one size again and again: a range that
 * another size will want next is more use to the arena.
 */
#include "ace/ace_private.h"

#include "arena/arena.h"
#include "base/panic.h"
#include "batch/batch.h"
#include "bigcache/bigcache.h"
#include "config/config.h"
#include "meta/meta.h"
#include "os/os.h"
#include "stats/stats.h"

#define COLOUR_STEPS 64 /* of 64 bytes, below one page of 4 KiB; no fewer than l25 has, whose runs become big */
#define COLOUR_MAX ((size_t)64 * (COLOUR_STEPS - 1))
#define MOVE_MIN HK_MIB  /* to copy less is cheaper than to move its pages */
#define MAX_REFUSED 4    /* guard pages */
#define NR_SITES 64      /* rows that remember the size asked for last; power of two */

struct hk_lock hk_big_lock = HK_LOCK_INIT(HK_RANK_BIG);

static HK_LARGE_BSS struct {
    struct hk_big *free;  /* descriptors without a block, under the lock */
    struct hk_big *ever;  /* release W1 / acquire W2 */
    uint32_t last_granules[NR_SITES]; /* relaxed: a hint */
    size_t fresh_bytes;   /* relaxed adds: mapped, no page behind them yet */
    unsigned nr_refused;  /* guard pages that were not to be had, in a row; relaxed */
} bigs;

struct hk_ace_counters hk_ace_counters;

static size_t map_unit(void)
{
    return hk_max(HK_GRANULE, hk_os_page_bytes());
}

/* Not so where the kernel chose a place for a block that moved (move_anywhere). */
static bool is_aligned(const struct hk_big_range *range)
{
    return ((uintptr_t)range->base & (map_unit() - 1)) == 0;
}

/* ---- guard pages --------------------------------------------------------------------------- */

static char *guard_of(char *base, size_t bytes)
{
    return base + bytes - hk_big_guard_bytes(bytes);
}

/* An older kernel, a sandbox or locked memory refuse them: after a few attempts in a row no more are made. */
static bool install_guard(char *base, size_t bytes)
{
    bool done;

    if (hk_big_guard_bytes(bytes) == 0 || !hk_load_relaxed(&hk_config.big_guard) ||
        hk_load_relaxed(&bigs.nr_refused) >= MAX_REFUSED)
        return false;
    done = hk_os_install_guard(guard_of(base, bytes), hk_big_guard_bytes(bytes));
    hk_store_relaxed(&bigs.nr_refused, done ? 0 : hk_load_relaxed(&bigs.nr_refused) + 1);
    hk_add_relaxed(&hk_ace_counters.nr_guarded, done);
    return done;
}

static bool remove_guard(char *base, size_t bytes)
{
    return hk_os_remove_guard(guard_of(base, bytes), hk_big_guard_bytes(bytes));
}

static bool unguard(struct hk_big *big)
{
    if (big->guarded && !remove_guard(big->base, big->bytes))
        return false;
    big->guarded = 0;
    return true;
}

/* The range is the arena's. A guard page that will not go takes its granule along: nobody may be given it. */
static size_t usable_by_arena(const struct hk_big_range *range)
{
    size_t unit = map_unit();

    if (!range->guarded || remove_guard(range->base, range->bytes))
        return range->bytes;
    hk_arena_lend((char *)range->base + range->bytes - unit, unit / HK_GRANULE);
    hk_os_lose(unit);
    return range->bytes - unit;
}

bool hk_ace_guards(const void *p, struct hk_block *b, const void **site)
{
    const struct hk_big *big = hk_big_covering(p);

    if (!big || !big->guarded || (const char *)p < guard_of(big->base, big->bytes))
        return false;
    b->start = hk_big_start(big);
    b->usable = hk_big_usable(big);
    *site = big->site;
    return true;
}

/* ---- evicted ------------------------------------------------------------------------------- */

/* A small mapping is worth more as a part of the arena. */
static bool donate(const struct hk_big_range *range)
{
    return hk_policy()->cache_big && range->bytes <= HK_ARENA_MAX && is_aligned(range) &&
           hk_pagemap_cover(range->base, range->bytes) &&
           (!range->guarded || remove_guard(range->base, range->bytes)) &&
           hk_arena_donate(range->base, range->bytes / HK_GRANULE);
}

void hk_big_evict(const struct hk_big_range *range, void *arg)
{
    (void)arg;
    hk_trace(HK_TRACE_EVICT, 0, range->bytes);
    if (range->arena) {
        hk_sub_relaxed(&hk_ace_counters.arena_bytes, range->bytes);
        hk_arena_release(range->base, usable_by_arena(range) / HK_GRANULE, true);
    } else if (!donate(range)) {
        hk_batch_unmap(range->base, range->bytes, hk_policy()->batch);
    }
}

void hk_big_init(void)
{
    hk_bigcache_set_evict(hk_big_evict);
}

/* ---- descriptors --------------------------------------------------------------------------- */

static struct hk_big *new_descriptor(void)
{
    struct hk_big *big;

    hk_lock(&hk_big_lock);
    big = bigs.free;
    if (big)
        bigs.free = big->next_free;
    hk_unlock(&hk_big_lock);
    if (big)
        return big;
    big = hk_meta_alloc(sizeof *big);
    if (!big)
        return NULL;
    big->next_ever = hk_load_relaxed(&bigs.ever);
    /* W1 release, pairs with W2: publishes next_ever */
    while (!hk_cas_release(&bigs.ever, &big->next_ever, big))
        ;
    return big;
}

static void free_descriptor(struct hk_big *big)
{
    hk_lock(&hk_big_lock);
    big->next_free = bigs.free;
    bigs.free = big;
    hk_unlock(&hk_big_lock);
}

struct hk_big *hk_big_covering(const void *p)
{
    for (struct hk_big *b = hk_load_acquire(&bigs.ever); b; b = b->next_ever) /* W2 acquire, pairs with W1 */
        if (hk_load_relaxed(&b->state) == HK_BIG_LIVE && (const char *)p >= b->base &&
            (const char *)p < b->base + b->bytes)
            return b;
    return NULL;
}

/* ---- ranges -------------------------------------------------------------------------------- */

/* With room for any colour and for the guard, so that one request always needs the same. 0 on overflow. */
static size_t range_bytes(size_t n, size_t align)
{
    size_t colour = align > 64 ? 0 : COLOUR_MAX;

    if (n > PTRDIFF_MAX - colour - 2 * map_unit())
        return 0;
    return hk_align_up(n + colour + hk_big_guard_bytes(hk_align_up(n + colour, map_unit())), map_unit());
}

/* By address, as in l25. */
static uint32_t pick_colour(const struct hk_big_range *range, size_t align)
{
    uint32_t cell = (uint32_t)((uintptr_t)range->base >> hk_log2_floor(range->bytes));

    if (align > 64)
        return 0;
    return (uint32_t)((uint64_t)(cell * UINT32_C(0x9e3779b9)) * COLOUR_STEPS >> 32) * 64;
}

/* Did the site ask for as much the last time? Fibonacci hashing; two sites in one row cost hits only. */
static bool site_repeats(const void *site, size_t bytes)
{
    uint64_t row = ((uint64_t)(uintptr_t)site * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (NR_SITES - 1);
    uint32_t granules = (uint32_t)hk_min(bytes / HK_GRANULE, UINT32_MAX);
    bool same = hk_load_relaxed(&bigs.last_granules[row]) == granules;

    if (!same)
        hk_store_relaxed(&bigs.last_granules[row], granules);
    return same;
}

static void park(struct hk_big_range *range)
{
    range->freed_ns = hk_os_now_ns();
    if (!hk_bigcache_put(range))
        hk_big_evict(range, NULL);
}

static bool from_cache(size_t bytes, size_t align, const void *site, struct hk_big_range *range)
{
    size_t most = hk_scale(bytes, hk_policy()->wmax_large);

    if (!hk_policy()->cache_big || hk_bigcache_bytes() == 0 ||
        !hk_bigcache_take(site, bytes, most, range))
        return false;
    if (((uintptr_t)range->base & (align - 1)) == 0)
        return true;
    park(range);
    return false;
}

static bool from_arena(size_t bytes, size_t align, bool roomy, struct hk_big_range *range)
{
    bool zero = false;

    if (roomy)
        range->base = hk_arena_acquire_roomy(bytes / HK_GRANULE, &zero);
    else
        range->base = hk_arena_acquire(bytes / HK_GRANULE, align / HK_GRANULE, &zero);
    range->zero = zero;
    return range->base != NULL;
}

static bool from_system(size_t bytes, size_t align, struct hk_big_range *range)
{
    range->base = hk_os_reserve(bytes, align);
    range->zero = 1;
    hk_add_relaxed(&bigs.fresh_bytes, bytes);
    if (range->base && !hk_pagemap_cover(range->base, 1)) {
        hk_os_abandon(range->base, bytes);
        range->base = NULL;
    }
    return range->base != NULL;
}

/* Pages of several dirty extents in a mapping of its own. */
static struct hk_loan *by_loan(size_t bytes, size_t align, struct hk_big_range *range)
{
    struct hk_loan *loan;

    if (bytes < MOVE_MIN || align > map_unit() || hk_arena_dirty_bytes() < bytes ||
        !from_system(bytes, align, range))
        return NULL;
    loan = hk_loan_take(range->base, bytes, hk_big_guard_bytes(bytes) ? map_unit() : 0);
    if (!loan)
        range->base = NULL;
    range->zero = 0;
    return loan;
}

/* As long as it is not given back there, live or cached. */
static bool count_arena(struct hk_big_range *range, bool obtained)
{
    range->arena = 1;
    if (obtained)
        hk_add_relaxed(&hk_ace_counters.arena_bytes, range->bytes);
    return obtained;
}

static bool is_for_arena(size_t bytes, size_t align)
{
    return hk_policy()->cache_big && bytes <= HK_ARENA_MAX && align <= HK_ARENA_MAX;
}

/* *loan: what the range is made of, NULL of nothing in particular. */
static bool obtain(size_t bytes, size_t align, const void *site, struct hk_big_range *range,
                   struct hk_loan **loan)
{
    if (from_cache(bytes, align, site, range))
        return true;
    *range = (struct hk_big_range){.bytes = bytes};
    if (!is_for_arena(bytes, align))
        return from_system(bytes, align, range);
    range->base = hk_arena_acquire_dirty(bytes / HK_GRANULE, align / HK_GRANULE);
    if (!range->base && (*loan = by_loan(bytes, align, range)) != NULL)
        return true;
    return count_arena(range, range->base || from_arena(bytes, align, false, range));
}

static bool obtain_roomy(size_t bytes, struct hk_big_range *range)
{
    *range = (struct hk_big_range){.bytes = bytes};
    return count_arena(range, is_for_arena(bytes, 1) && from_arena(bytes, 1, true, range));
}

/* ---- blocks -------------------------------------------------------------------------------- */

static void set_live(struct hk_big *big, const struct hk_big_range *range)
{
    big->base = range->base;
    big->bytes = range->bytes;
    big->arena = range->arena;
    big->followed = 0;
    big->guarded = range->guarded || install_guard(big->base, big->bytes);
    hk_add_relaxed(&hk_ace_counters.live_bytes, big->bytes);
    hk_add_relaxed(&hk_ace_counters.nr_live, 1);
    hk_store_relaxed(&big->state, HK_BIG_LIVE);
    hk_pagemap_set(hk_big_start(big), 1, HK_PM_BIG, big);
}

void *hk_big_alloc(size_t n, size_t align, const void *site, bool roomy, bool *zero)
{
    size_t bytes = range_bytes(n, align);
    struct hk_big *big = bytes ? new_descriptor() : NULL;
    struct hk_big_range range;

    if (!big)
        return NULL;
    big->loan = NULL;
    if (!(roomy ? obtain_roomy(bytes, &range)
                : obtain(bytes, hk_max(align, map_unit()), site, &range, &big->loan))) {
        free_descriptor(big);
        return NULL;
    }
    big->offset = pick_colour(&range, align); /* before set_live, which marks where the block starts */
    big->site = site;
    big->repeats = !roomy && site_repeats(site, bytes);
    set_live(big, &range);
    hk_trace(HK_TRACE_BIG, 0, range.bytes);
    *zero = range.zero;
    return hk_big_start(big);
}

bool hk_big_kill(struct hk_big *big)
{
    uint32_t live = HK_BIG_LIVE;

    /* K2 acq_rel, pairs with K2: of two frees one loses, after what the winner did before */
    return hk_cas_acq_rel(&big->state, &live, (uint32_t)HK_BIG_DEAD);
}

static void count_dead(size_t bytes)
{
    hk_sub_relaxed(&hk_ace_counters.live_bytes, bytes);
    hk_sub_relaxed(&hk_ace_counters.nr_live, 1);
}

void hk_big_release(struct hk_big *big)
{
    struct hk_big_range range = {
        .base = big->base,
        .bytes = big->bytes,
        .site = big->site,
        .resident = 1,
        .arena = big->arena,
        .guarded = big->guarded,
    };
    struct hk_loan *loan = big->loan;
    bool keep = !loan && hk_policy()->cache_big &&
                (range.arena ? big->repeats : range.bytes > HK_ARENA_MAX && is_aligned(&range));

    hk_trace(HK_TRACE_BIG_FREE, 0, range.bytes);
    hk_pagemap_set(hk_big_start(big), 1, range.arena ? HK_PM_SPAN : HK_PM_GONE, NULL);
    count_dead(range.bytes);
    free_descriptor(big);
    if (loan)
        hk_loan_repay(loan, range.base, range.bytes);
    else if (keep)
        park(&range);
    else
        hk_big_evict(&range, NULL);
}

/* ---- realloc ------------------------------------------------------------------------------- */

/* The range has changed, and ends in no guard page. */
static void resized(struct hk_big *big, size_t bytes)
{
    hk_add_relaxed(&hk_ace_counters.live_bytes, bytes - big->bytes);
    big->bytes = bytes;
    big->guarded = install_guard(big->base, bytes);
}

/*
 * What grows in place has mostly done so before, and will again: a 32nd more than asked for, if it is there, so that a
 * buffer that grows by a line at a time seldom comes here. `want` becomes what was had.
 */
static bool extend_in_arena(struct hk_big *big, size_t have, size_t *want, bool *zero)
{
    size_t ample = hk_align_up(have + have / 32, map_unit() / HK_GRANULE);

    if (ample > *want && ample * HK_GRANULE <= HK_ARENA_MAX && hk_arena_extend(big->base, have, ample - have, zero))
        *want = ample;
    else if (!hk_arena_extend(big->base, have, *want - have, zero))
        return false;
    return true;
}

/* The guard page goes when the place is known to have room: mostly it has none. */
static bool resize_in_arena(struct hk_big *big, size_t bytes)
{
    size_t have = big->bytes / HK_GRANULE, want = bytes / HK_GRANULE;
    bool zero;

    if (want > have && !extend_in_arena(big, have, &want, &zero))
        return false;
    if (!unguard(big)) {
        if (want > have)
            hk_arena_release(big->base + big->bytes, want - have, !zero);
        return want < have; /* a shrink that does not happen is no harm */
    }
    bytes = want * HK_GRANULE;
    if (want < have)
        hk_arena_release(big->base + bytes, have - want, true);
    hk_add_relaxed(&hk_ace_counters.arena_bytes, bytes - big->bytes);
    resized(big, bytes);
    return true;
}

static bool resize_mapping(struct hk_big *big, size_t bytes)
{
    size_t old = big->bytes;

    if (!hk_os_resize(big->base, old, bytes))
        return bytes < old; /* a refused shrink is no harm */
    if (bytes > old && !unguard(big)) {
        if (!hk_os_resize(big->base, bytes, old))
            hk_os_lose(bytes - old);
        return false;
    }
    resized(big, bytes);
    return true;
}

bool hk_big_resize(struct hk_big *big, size_t n)
{
    size_t bytes = range_bytes(n, 64);

    if (bytes == 0)
        return false;
    if (bytes == big->bytes)
        return true;
    if (big->loan)
        return false; /* several mappings to the kernel, which go home together: a copy costs less than half of a large block kept */
    big->repeats = 0;
    return big->arena ? resize_in_arena(big, bytes) : resize_mapping(big, bytes);
}

size_t hk_ace_fresh_big_bytes(void)
{
    return hk_load_relaxed(&bigs.fresh_bytes) + hk_arena_fresh_bytes();
}

/* Before the pages move: once they have, the old address may be somebody else's block. */
static void leave_place(const struct hk_big *big)
{
    if (big->arena) {
        hk_arena_lend(big->base, big->bytes / HK_GRANULE);
        hk_sub_relaxed(&hk_ace_counters.arena_bytes, big->bytes);
    } else {
        hk_pagemap_set(hk_big_start(big), 1, HK_PM_GONE, NULL);
    }
}

static void return_to_place(struct hk_big *big)
{
    if (big->arena) {
        hk_arena_take_back(big->base, big->bytes / HK_GRANULE);
        hk_add_relaxed(&hk_ace_counters.arena_bytes, big->bytes);
    }
    hk_pagemap_set(hk_big_start(big), 1, HK_PM_BIG, big);
}

#define MAX_UNSURE 4 /* each may leave a range of addresses behind */

/* Onto a range reserved for it. */
static char *move_to_reserve(const struct hk_big *big, size_t bytes)
{
    static unsigned nr_unsure; /* relaxed */
    char *target = hk_load_relaxed(&nr_unsure) < MAX_UNSURE ? hk_os_reserve(bytes, map_unit()) : NULL;
    enum hk_os_moved moved = HK_OS_REFUSED;

    if (!target)
        return NULL;
    if (hk_pagemap_cover(target, 1))
        moved = hk_os_move(big->base, big->bytes, target, bytes);
    if (moved == HK_OS_MOVED)
        return target;
    if (moved == HK_OS_UNSURE) {
        hk_add_relaxed(&nr_unsure, 1u);
        hk_os_lose(bytes);
    } else {
        hk_os_abandon(target, bytes);
    }
    return NULL;
}

/*
 * Near a limit of address space there is no room for old and new together, but there may be for the
 * difference. The kernel chooses the place, so the page map stocks up beforehand on what it may need. The
 * granule of the block's start is ours to mark even where we have but its end: blocks begin there only.
 */
static char *move_anywhere(const struct hk_big *big, size_t bytes)
{
    struct hk_pm_stock stock;
    char *target;

    if (!hk_pagemap_stock(&stock, 1))
        return NULL;
    target = hk_os_move_anywhere(big->base, big->bytes, bytes);
    hk_pagemap_use_stock(&stock, target, HK_GRANULE); /* the block starts on the first page or the second */
    return target;
}

/* range->base, NULL: nothing moved. */
static bool move_pages(const struct hk_big *big, struct hk_big_range *range)
{
    range->base = move_to_reserve(big, range->bytes);
    if (!range->base)
        range->base = move_anywhere(big, range->bytes);
    return range->base != NULL;
}

void *hk_big_move(struct hk_big *big, size_t n)
{
    struct hk_big_range range = {.bytes = range_bytes(n, 64)};

    if (range.bytes == 0 || big->bytes < MOVE_MIN || big->loan || !unguard(big))
        return NULL;
    leave_place(big);
    if (!move_pages(big, &range)) {
        return_to_place(big);
        big->guarded = install_guard(big->base, big->bytes);
        return NULL;
    }
    count_dead(big->bytes);
    big->repeats = 0;
    set_live(big, &range);
    return hk_big_start(big);
}

/* What moves is described as if it were a big block already. */
void *hk_big_from_run(struct hk_run *run, size_t n, const void *site)
{
    struct hk_big_range range = {.bytes = range_bytes(n, 64)};
    size_t bytes = run->nr_granules * HK_GRANULE;
    struct hk_big *big;

    if (range.bytes == 0 || bytes < MOVE_MIN || (big = new_descriptor()) == NULL)
        return NULL;
    big->base = run->base;
    big->bytes = bytes;
    big->offset = (uint32_t)(run->start - run->base);
    big->site = site;
    big->loan = NULL;
    big->repeats = 0;
    if (!hk_l25_lend(run)) {
        free_descriptor(big);
        return NULL;
    }
    if (!move_pages(big, &range)) {
        hk_l25_take_back(run);
        free_descriptor(big);
        return NULL;
    }
    hk_l25_forget_run(run);
    set_live(big, &range);
    return hk_big_start(big);
}

size_t hk_big_resident_bytes(void)
{
    size_t bytes = 0;

    for (struct hk_big *b = hk_load_acquire(&bigs.ever); b; b = b->next_ever) /* W2 acquire, pairs with W1 */
        if (hk_load_relaxed(&b->state) == HK_BIG_LIVE)
            bytes += hk_os_resident(b->base, b->arena ? HK_GRANULE : b->bytes);
    return bytes;
}

void hk_big_forget(void)
{
    bigs.free = NULL;
}
