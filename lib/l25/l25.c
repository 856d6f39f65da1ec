// SPDX-License-Identifier: MIT
#include "l25/l25_inline.h"

#include "base/panic.h"
#include "config/config.h"
#include "meta/meta.h"
#include "share/share.h"
#include "stats/stats.h"

#define NR_SHARDS HK_L25_NR_SHARDS
#define NR_PROBES 3                       /* own shard and two neighbours */
#define SHARD_MAX_GRANULES (64u)          /* 1 MiB per shard: the arena joins neighbours, a shard cannot */
#define MAX_CAP 240                       /* runs per class: a byte, and handlers may add to a full cache */
#define ROOM_STEP 32u                     /* granules taken from the share at a time */
#define MAX_BUNDLE 4                      /* runs made at one miss */
#define BUNDLE_MAX_BYTES (256 * HK_KIB)   /* larger runs are made one at a time */

struct shard {
    struct hk_lock lock;
    /* Under the lock. */
    struct hk_run *runs[HK_L25_NR_CLASSES];
    struct hk_l25_shard_counters cached;
    unsigned idle_calls;
} __attribute__((aligned(HK_CACHE_LINE)));

static HK_LATE_DATA struct shard shards[NR_SHARDS] = {
    {.lock = HK_LOCK_INIT(HK_RANK_L25)},
    {.lock = HK_LOCK_INIT(HK_RANK_L25)},
    {.lock = HK_LOCK_INIT(HK_RANK_L25)},
    {.lock = HK_LOCK_INIT(HK_RANK_L25)},
};

static struct hk_l25_counters counters;
static HK_LARGE_BSS struct hk_l25_class_counters class_counters[HK_L25_NR_CLASSES];

/* Granules of each class: 1 to 7, then four per doubling and one more, which a power of two needs for its colour. */
const uint8_t hk_l25_class_granules[HK_L25_NR_CLASSES] = {1,  2,  3,  4,  5,  6,  7,   9,
                                                          11, 13, 15, 17, 21, 25, 29,  33,
                                                          41, 49, 57, 65, 81, 97, 113, 128};

#define R4(c) c, c, c, c
#define R8(c) R4(c), R4(c)
#define R15(c) R8(c), R4(c), c, c, c
#define R16(c) R8(c), R8(c)
HK_START_CONST const uint8_t hk_l25_class_of[HK_L25_MAX_GRANULES + 1] = {
    0,      0,      1,      2,      3,      4,      5,       6,       7,       7,      8,      8,
    9,      9,      10,     10,     11,     11,     R4(12),  R4(13),  R4(14),  R4(15), R8(16), R8(17),
    R8(18), R8(19), R16(20), R16(21), R16(22), R15(23),
};

/* Fewer granules than this no request above the classes looks for, so in a cache such a run would only take room. */
#define LEAST_CACHED ((HK_FAST_MAX + HK_GRANULE) / HK_GRANULE)

/* ---- a run --------------------------------------------------------------------------------- */

static void set_colour(struct hk_run *run, size_t colour)
{
    run->start = run->base + colour;
    run->usable = run->nr_granules * HK_GRANULE - colour;
}

static size_t granules_for(size_t n, size_t colour)
{
    return (n + colour + HK_GRANULE - 1) / HK_GRANULE;
}

/* One that was resized fits no class. */
static uint8_t class_to_cache(const struct hk_run *run)
{
    bool fits = run->nr_granules == hk_l25_class_granules[run->made_as] && run->nr_granules >= LEAST_CACHED;

    return fits ? run->made_as : HK_L25_NO_CLASS;
}

/* base NULL: nothing could be had. */
static struct hk_run *finish_run(struct hk_run *run, char *base, unsigned class, bool zero)
{
    if (!base) {
        hk_meta_free(run, sizeof *run);
        return NULL;
    }
    run->base = base;
    run->nr_granules = hk_l25_class_granules[class];
    set_colour(run, 0);
    run->made_as = (uint8_t)class;
    run->class = class_to_cache(run);
    run->zero = zero;
    run->followed = 0;
    hk_trace(HK_TRACE_RUN, class, (uintptr_t)base);
    hk_add_relaxed(&class_counters[class].nr_runs, 1);
    hk_add_relaxed(&class_counters[class].nr_granules, run->nr_granules);
    hk_pagemap_set(base, 1, HK_PM_RUN, run); /* from now on, cached or live */
    return run;
}

static struct hk_run *new_run(unsigned class, size_t align)
{
    struct hk_run *run = hk_meta_alloc(sizeof *run);
    bool zero = false;
    char *base;

    if (!run)
        return NULL;
    base = hk_arena_acquire(hk_l25_class_granules[class], hk_max(align / HK_GRANULE, 1), &zero);
    return finish_run(run, base, class, zero);
}

/*
 * Before pages are touched that nobody touched yet, what the cache holds in other classes goes to the arena, where it may join with its
 * neighbours to what is wanted.
 */
static struct hk_run *new_run_beside(struct hk_l25_cache *cache, unsigned class, size_t align)
{
    struct hk_run *run = cache && cache->granules ? hk_meta_alloc(sizeof *run) : NULL;
    char *base = run ? hk_arena_acquire_dirty(hk_l25_class_granules[class], hk_max(align / HK_GRANULE, 1)) : NULL;

    if (base)
        return finish_run(run, base, class, false);
    if (run) {
        hk_meta_free(run, sizeof *run);
        hk_l25_flush(cache);
    }
    return new_run(class, align);
}

static void count_gone(const struct hk_run *run)
{
    hk_sub_relaxed(&class_counters[run->made_as].nr_runs, 1);
    hk_sub_relaxed(&class_counters[run->made_as].nr_granules, run->nr_granules);
}

static void release_run(struct hk_run *run)
{
    count_gone(run);
    hk_add_relaxed(&counters.released, 1);
    hk_arena_release(run->base, run->nr_granules, !run->zero);
    hk_meta_free(run, sizeof *run);
}

bool hk_l25_lend(struct hk_run *run)
{
    if (!hk_l25_kill(run))
        return false;
    hk_arena_lend(run->base, run->nr_granules);
    return true;
}

void hk_l25_forget_run(struct hk_run *run)
{
    count_gone(run);
    hk_meta_free(run, sizeof *run);
}

void hk_l25_take_back(struct hk_run *run)
{
    hk_arena_take_back(run->base, run->nr_granules);
    hk_store_relaxed(&run->state, HK_RUN_LIVE);
    hk_pagemap_set(run->base, 1, HK_PM_RUN, run);
}

/*
 * By address, so that a page that is used again meets the cache lines it was used with before. Neighbours of
 * a size land far apart (Weyl sequence by the golden ratio).
 */
static size_t pick_colour(const struct hk_run *run, size_t n, size_t align)
{
    uint32_t cell = (uint32_t)((uintptr_t)run->base >> hk_log2_floor(n));
    size_t colour;

    if (align > 64)
        return 0;
    colour = (size_t)((uint64_t)(cell * UINT32_C(0x9e3779b9)) * (HK_L25_COLOUR / 64 + 1) >> 32) * 64;
    if (run->base == hk_arena_behind_fence())
        colour = 0; /* an underflow ends there at once */
    return HK_UNLIKELY(hk_config.secure) && colour == 0 ? 64 : colour; /* secure keeps a fence there */
}

static void make_live(struct hk_run *run, size_t n, size_t align)
{
    set_colour(run, pick_colour(run, n, align));
    hk_store_relaxed(&run->state, HK_RUN_LIVE);
}

/* ---- lists --------------------------------------------------------------------------------- */

static bool fits(const struct hk_run *run, size_t align)
{
    return ((uintptr_t)run->base & (align - 1)) == 0;
}

static struct hk_run *pop_fit(struct hk_run **list, size_t align)
{
    for (struct hk_run **link = list; *link; link = &(*link)->next)
        if (fits(*link, align)) {
            struct hk_run *run = *link;
            *link = run->next;
            return run;
        }
    return NULL;
}

/* Largest class that may serve n bytes in place of class c. */
static unsigned last_class(unsigned c, size_t n)
{
    size_t limit = hk_scale(n + HK_L25_COLOUR, hk_policy()->wmax_large) / HK_GRANULE;

    while (c + 1 < HK_L25_NR_CLASSES && hk_l25_class_granules[c + 1] <= limit)
        c++;
    return c;
}

void hk_l25_obey(struct hk_l25_cache *cache)
{
    cache->cap = (uint8_t)hk_min(hk_policy()->l25_cap, MAX_CAP);
    cache->count[HK_L25_NO_CLASS] = MAX_CAP;
}

static struct hk_run *from_cache(struct hk_l25_cache *cache, unsigned first, unsigned last, size_t align)
{
    if (!cache)
        return NULL;
    hk_l25_obey(cache);
    for (unsigned c = first; c <= last; c++) {
        struct hk_run *run = pop_fit(&cache->runs[c], align);
        if (run) {
            cache->count[c]--;
            cache->granules -= run->nr_granules;
            cache->nr_hits++;
            return run;
        }
    }
    cache->nr_misses++;
    return NULL;
}

_Static_assert(SHARD_MAX_GRANULES <= UINT8_MAX, "a count is a byte");

static void count_shard(struct shard *s, const struct hk_run *run, int more)
{
    hk_count_add(&s->cached.granules, (uint32_t)more * run->nr_granules);
    hk_store_relaxed(&s->cached.count[run->class], (uint8_t)(s->cached.count[run->class] + more));
}

static struct hk_run *from_shard(struct shard *s, unsigned first, unsigned last, size_t align)
{
    struct hk_run *run = NULL;

    if (hk_load_relaxed(&s->cached.granules) == 0) /* stale: costs a new run */
        return NULL;
    hk_lock(&s->lock);
    s->idle_calls = 0;
    for (unsigned c = first; c <= last && !run; c++)
        run = pop_fit(&s->runs[c], align);
    if (run)
        count_shard(s, run, -1);
    hk_unlock(&s->lock);
    if (run)
        hk_add_relaxed(&counters.hits_shard, 1);
    return run;
}

/* A full cache of the class has no use for room; neither has a run that fits none. */
static bool take_room(struct hk_l25_cache *cache, const struct hk_run *run)
{
    uint32_t room = hk_min(hk_align_up(cache->granules + run->nr_granules, ROOM_STEP), HK_L25_CACHE_GRANULES);

    if (cache->count[run->class] >= cache->cap || cache->granules + run->nr_granules > room || room <= cache->room ||
        !hk_share_take((room - cache->room) * HK_GRANULE))
        return false;
    cache->room = room;
    return true;
}

/*
 * Soft cap: a miss in an empty cache makes up to four runs of a small class at once (the extra ones are
 * address space only until they are used), a miss in a cache near its cap makes one.
 */
static void bundle(struct hk_l25_cache *cache, unsigned class)
{
    unsigned cap = cache->cap;
    unsigned want = cap > cache->count[class] ? cap - cache->count[class] : 0;

    if (hk_l25_class_granules[class] * HK_GRANULE > BUNDLE_MAX_BYTES)
        return;
    for (unsigned i = 1; i < MAX_BUNDLE && i < want; i++) {
        struct hk_run *run = new_run(class, HK_GRANULE);
        uint8_t zero = run ? run->zero : 0;
        if (!run)
            return;
        if (!hk_l25_has_room(cache, run) && !take_room(cache, run)) {
            release_run(run);
            return;
        }
        hk_l25_push(cache, run);
        run->zero = zero;
        hk_add_relaxed(&counters.bundled, 1);
    }
}

struct hk_run *hk_l25_alloc(struct hk_l25_cache *cache, unsigned shard, size_t n, size_t align)
{
    unsigned class = align > 64 ? hk_l25_class_of[(n + HK_GRANULE - 1) / HK_GRANULE] : hk_l25_class(n);
    unsigned last = last_class(class, n);
    struct hk_run *run = from_cache(cache, class, last, align);

    for (unsigned i = 0; i < NR_PROBES && !run; i++)
        run = from_shard(&shards[(shard + i) % NR_SHARDS], class, last, align);
    if (run && run->class != class)
        hk_add_relaxed(&counters.hits_larger, 1);
    if (!run) {
        hk_add_relaxed(&counters.misses, 1);
        run = new_run_beside(cache, class, align);
        if (run && cache && align <= HK_GRANULE)
            bundle(cache, class);
    }
    if (run)
        make_live(run, n, align);
    return run;
}

struct hk_run *hk_l25_alloc_roomy(size_t n)
{
    unsigned class = hk_l25_class(n);
    struct hk_run *run = hk_meta_alloc(sizeof *run);
    bool zero = false;

    if (!run)
        return NULL;
    run = finish_run(run, hk_arena_acquire_roomy(hk_l25_class_granules[class], &zero), class, zero);
    if (run)
        make_live(run, n, 16);
    return run;
}

static void to_shard(struct shard *s, struct hk_run *run)
{
    bool kept;

    hk_lock(&s->lock);
    kept = s->cached.granules + run->nr_granules <= SHARD_MAX_GRANULES;
    if (kept) {
        run->next = s->runs[run->class];
        s->runs[run->class] = run;
        count_shard(s, run, 1);
    }
    hk_unlock(&s->lock);
    if (!kept)
        release_run(run);
}

void hk_l25_cache_run(struct hk_l25_cache *cache, unsigned shard, struct hk_run *run)
{
    if (cache) {
        hk_l25_obey(cache);
        if (hk_l25_has_room(cache, run) || take_room(cache, run)) {
            hk_l25_push(cache, run);
            return;
        }
    }
    run->zero = 0;
    if (run->class == HK_L25_NO_CLASS) {
        release_run(run);
        return;
    }
    to_shard(&shards[shard % NR_SHARDS], run);
}

void hk_l25_follow(struct hk_run *run)
{
    run->followed = 1;
    run->class = HK_L25_NO_CLASS;
}

void hk_l25_unfollow(struct hk_run *run)
{
    run->followed = 0;
    run->class = class_to_cache(run); /* it may have been resized meanwhile */
}

bool hk_l25_resize(struct hk_run *run, size_t n)
{
    size_t colour = (size_t)(run->start - run->base);
    size_t need = granules_for(n, colour);
    size_t have = run->nr_granules;
    bool zero;

    if (need <= have && need > have / 2)
        return true;
    if (need < have) {
        hk_arena_release(run->base + need * HK_GRANULE, have - need, true);
    } else if (need > UINT32_MAX || !hk_arena_extend(run->base, have, need - have, &zero)) {
        return false;
    }
    hk_add_relaxed(&class_counters[run->made_as].nr_granules, need - have);
    run->nr_granules = (uint32_t)need;
    set_colour(run, colour);
    run->class = HK_L25_NO_CLASS;
    run->zero = 0;
    return true;
}

/* ---- memory goes back ---------------------------------------------------------------------- */

static void release_list(struct hk_run *list)
{
    while (list) {
        struct hk_run *next = list->next;
        release_run(list);
        list = next;
    }
}

void hk_l25_flush(struct hk_l25_cache *cache)
{
    for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++) {
        struct hk_run *run;
        /* Out of the list first: this thread may be gone before release_run returns (fork), and the child
         * flushes what is in the list. Q2 acquire, pairs with Q1 */
        while ((run = hk_load_acquire(&cache->runs[c])) != NULL) {
            hk_store_relaxed(&cache->runs[c], run->next);
            hk_signal_fence();
            release_run(run);
        }
        cache->count[c] = 0;
    }
    cache->granules = 0;
    hk_share_give(cache->room * HK_GRANULE);
    cache->room = 0;
    cache->uses_at_look = hk_l25_uses(cache);
}

void hk_l25_expire(bool all)
{
    for (unsigned i = 0; i < NR_SHARDS; i++) {
        struct shard *s = &shards[i];
        struct hk_run *lists[HK_L25_NR_CLASSES] = {NULL};

        if (hk_load_relaxed(&s->cached.granules) == 0)
            continue;
        hk_lock(&s->lock);
        if (all || ++s->idle_calls >= 2) {
            for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++) {
                lists[c] = s->runs[c];
                s->runs[c] = NULL;
                hk_store_relaxed(&s->cached.count[c], 0);
            }
            hk_store_relaxed(&s->cached.granules, 0u);
        }
        hk_unlock(&s->lock);
        for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++)
            release_list(lists[c]);
    }
}

size_t hk_l25_shared_bytes(void)
{
    size_t granules = 0;

    for (unsigned i = 0; i < NR_SHARDS; i++)
        granules += hk_load_relaxed(&shards[i].cached.granules);
    return granules * HK_GRANULE;
}

const struct hk_l25_counters *hk_l25_counters(void)
{
    return &counters;
}

const struct hk_l25_class_counters *hk_l25_class_counters(void)
{
    return class_counters;
}

const struct hk_l25_shard_counters *hk_l25_shard_counters(unsigned shard)
{
    return &shards[shard].cached;
}

struct hk_lock *hk_l25_lock(unsigned shard)
{
    return &shards[shard].lock;
}

void hk_l25_forget(unsigned shard)
{
    struct shard *s = &shards[shard];

    for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++) {
        s->runs[c] = NULL;
        hk_store_relaxed(&s->cached.count[c], (uint8_t)0);
    }
    hk_store_relaxed(&s->cached.granules, 0u);
}

void hk_l25_check(void)
{
    for (unsigned i = 0; i < NR_SHARDS; i++) {
        struct shard *s = &shards[i];
        unsigned granules = 0, nr_runs[HK_L25_NR_CLASSES] = {0};

        hk_lock(&s->lock);
        for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++)
            for (const struct hk_run *run = s->runs[c]; run; run = run->next) {
                granules += run->nr_granules;
                nr_runs[c]++;
                if (run->state != HK_RUN_DEAD || run->nr_granules != hk_l25_class_granules[c])
                    hk_panic_internal("l25: run in a shard", run);
            }
        if (granules != s->cached.granules)
            hk_panic_internal("l25: cached granules", s);
        for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++)
            if (nr_runs[c] != s->cached.count[c])
                hk_panic_internal("l25: cached runs", s);
        hk_unlock(&s->lock);
    }
}
