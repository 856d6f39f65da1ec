// SPDX-License-Identifier: MIT
#include "l25/l25_inline.h"

#include "meta/meta.h"
#include "share/share.h"

#include "fake_os.h"
#include "support.h"

#include <errno.h>

#define G HK_GRANULE
#define RUN(k) ((size_t)(k)*G - HK_L25_COLOUR) /* the largest request that k granules serve */

static struct hk_l25_cache cache;

static size_t colour_of(const struct hk_run *run)
{
    return (size_t)(run->start - run->base);
}

static void setup(void)
{
    fake_os_install();
    fake_os_place(2 * HK_MIB, 0);
    set_policy();
}

static void teardown(void)
{
    hk_l25_check();
    hk_arena_check();
    hk_meta_check();
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

/* Granules of the class that serves n bytes: 1 to 7, then four classes per doubling and one granule, up to 128. */
static size_t class_granules(size_t n)
{
    size_t need = (n + HK_L25_COLOUR + G - 1) / G, step = 2;

    if (need < 8)
        return need;
    while (8 * step < need - 1)
        step *= 2;
    return hk_min(hk_align_up(need - 1, step) + 1, 128);
}

static struct hk_run *must_alloc(struct hk_l25_cache *from, unsigned shard, size_t n, size_t align)
{
    struct hk_run *run = hk_l25_alloc(from, shard, n, align);

    ck_assert_msg(run != NULL, "no run for %zu bytes", n);
    ck_assert_uint_eq(run->state, HK_RUN_LIVE);
    ck_assert_uint_ge(hk_run_usable(run), n);
    ck_assert_uint_eq(hk_run_usable(run), run->nr_granules * G - colour_of(run));
    ck_assert_uint_eq((uintptr_t)hk_run_start(run) % hk_max(align, 64), 0);
    ck_assert_uint_lt(colour_of(run), 4096);
    ck_assert_uint_eq(hk_pagemap_word(run->base), HK_PM_RUN);
    ck_assert_ptr_eq(hk_pagemap_desc(run->base), run);
    ck_assert(fake_os_all_mapped(run->base, run->nr_granules * G));
    return run;
}

static void kill_and_cache(struct hk_l25_cache *to, unsigned shard, struct hk_run *run)
{
    ck_assert(hk_l25_kill(run));
    hk_l25_cache_run(to, shard, run);
}

static unsigned nr_cached(void)
{
    unsigned n = 0;

    for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++)
        n += cache.count[c];
    return n;
}

/* The cache's counters against its lists. */
static void check_cache(void)
{
    size_t granules = 0;

    for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++) {
        unsigned n = 0;
        for (const struct hk_run *run = cache.runs[c]; run; run = run->next, n++) {
            ck_assert_uint_eq(run->class, c);
            ck_assert_uint_eq(run->state, HK_RUN_DEAD);
            granules += run->nr_granules;
        }
        ck_assert_uint_eq(cache.count[c], n);
        ck_assert_uint_le(n, hk_policy()->l25_cap);
    }
    ck_assert_uint_eq(cache.granules, granules);
    ck_assert_uint_le(granules, HK_L25_CACHE_GRANULES);
}

/* ---- sizes and places ---------------------------------------------------------------------- */

START_TEST(every_size)
{
    for (size_t n = 1; n <= HK_L25_MAX; n += n < G ? 1000 : G / 2) {
        struct hk_run *run = must_alloc(NULL, 0, n, 16);
        ck_assert_uint_eq(run->nr_granules, class_granules(n));
        ck_assert(run->zero);
        ck_assert(reads_zero(run->base, run->nr_granules * G));
        kill_and_cache(NULL, 0, run);
        hk_l25_expire(true);
        hk_arena_purge_to(0);
    }
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
}
END_TEST

START_TEST(every_alignment)
{
    for (size_t align = 16; align <= HK_MIB; align *= 2)
        for (size_t n = 1; n <= HK_MIB; n = 3 * n + 5) {
            struct hk_run *run = must_alloc(&cache, 0, n, align);
            if (align > 64)
                ck_assert_uint_eq(colour_of(run), 0);
            kill_and_cache(&cache, 0, run);
        }
    check_cache();
}
END_TEST

START_TEST(equal_buffers_start_at_different_offsets)
{
    /* the largest that a run serves, whole granules, and small ones */
    static const size_t sizes[] = {RUN(5), 4 * G, 16 * G, G + 1};

    for (unsigned k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        bool seen[64] = {false};
        unsigned nr_seen = 0;

        for (int i = 0; i < 64; i++) {
            struct hk_run *run = must_alloc(NULL, 0, sizes[k], 16);
            ck_assert_uint_eq(colour_of(run) % 64, 0);
            nr_seen += !seen[colour_of(run) / 64];
            seen[colour_of(run) / 64] = true;
        }
        ck_assert_uint_ge(nr_seen, 40);
    }
}
END_TEST

START_TEST(behind_the_fence_is_no_colour)
{
    struct hk_run *first = must_alloc(NULL, 0, 5 * G, 16);

    ck_assert_ptr_eq(first->base, hk_arena_behind_fence());
    ck_assert_uint_eq(colour_of(first), 0);
}
END_TEST

/* ---- caches -------------------------------------------------------------------------------- */

START_TEST(freed_run_serves_the_next_request)
{
    struct hk_run *a = must_alloc(&cache, 0, RUN(21), 16), *b = must_alloc(&cache, 0, RUN(21), 16);

    hk_l25_flush(&cache);
    stamp(a->base, 21 * G, 7);
    kill_and_cache(&cache, 0, a);
    kill_and_cache(&cache, 0, b);
    ck_assert_uint_eq(nr_cached(), 2);
    ck_assert_uint_eq(cache.granules, 42);
    ck_assert_ptr_eq(must_alloc(&cache, 0, RUN(19), 16), b); /* last in, first out */
    ck_assert_ptr_eq(must_alloc(&cache, 0, RUN(21), 16), a);
    ck_assert(!a->zero);
    ck_assert(is_stamped(a->base, 21 * G, 7)); /* with its pages */
    check_cache();
}
END_TEST

START_TEST(pop_and_push_are_the_short_way)
{
    struct hk_run *run = must_alloc(NULL, 0, RUN(21), 16);

    ck_assert_ptr_null(hk_l25_pop(&cache, RUN(21)));
    ck_assert(hk_l25_kill(run));
    ck_assert(!hk_l25_has_room(&cache, run)); /* no slow call has been here */
    hk_l25_cache_run(&cache, 0, run);
    ck_assert_ptr_eq(hk_l25_pop(&cache, RUN(19)), run);
    ck_assert(hk_l25_kill(run));
    ck_assert(hk_l25_has_room(&cache, run));
    hk_l25_push(&cache, run);
    check_cache();
    run->start = run->base + HK_L25_COLOUR;
    run->usable = RUN(21);
    ck_assert_ptr_null(hk_l25_pop(&cache, RUN(21) + 1)); /* of the next class */
    ck_assert_ptr_eq(hk_l25_pop(&cache, RUN(21)), run); /* with any colour */
    ck_assert_uint_eq(run->state, HK_RUN_LIVE);
    ck_assert_uint_ne(hk_l25_uses(&cache), cache.uses_at_look);
    check_cache();
    hk_policy_builtin.l25_cap = 0;
    ck_assert(hk_l25_kill(run));
    hk_l25_cache_run(&cache, 0, run); /* hears of the policy */
    ck_assert_uint_eq(hk_l25_shared_bytes(), 21 * G);
    ck_assert(!hk_l25_has_room(&cache, run));
}
END_TEST

/* Room is taken from what all threads share, half a MiB at a time, and given back by a flush. */
START_TEST(room_is_shared)
{
    struct hk_run *run[4];

    for (unsigned i = 0; i < 4; i++)
        run[i] = must_alloc(NULL, 0, RUN(21), 16);
    ck_assert_uint_eq(hk_share_taken(), 0);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(hk_l25_kill(run[i]));
        hk_l25_cache_run(&cache, 0, run[i]);
        ck_assert_uint_eq(cache.room, i == 0 ? 32 : 64);
        ck_assert_uint_eq(hk_share_taken(), cache.room * G);
    }
    hk_l25_flush(&cache);
    ck_assert_uint_eq(hk_share_taken(), 0);
    hk_share_force(HK_SHARE_BYTES - 31 * G);
    ck_assert(hk_l25_kill(run[3]));
    hk_l25_cache_run(&cache, 0, run[3]);
    ck_assert_uint_eq(cache.granules + cache.room, 0);
    ck_assert_uint_eq(hk_l25_shared_bytes(), 21 * G); /* to the shard */
    ck_assert_uint_eq(hk_share_taken(), HK_SHARE_BYTES - 31 * G);
    hk_share_set_budget(HK_SHARE_BYTES + G);
    run[3] = must_alloc(&cache, 0, RUN(21), 16);
    ck_assert(hk_l25_kill(run[3]));
    hk_l25_cache_run(&cache, 0, run[3]);
    ck_assert_uint_eq(cache.room, 32);
    check_cache();
}
END_TEST

START_TEST(miss_makes_a_few_small_runs)
{
    struct hk_run *run = must_alloc(&cache, 0, RUN(5), 16);

    ck_assert_uint_eq(nr_cached(), 3);
    ck_assert_uint_eq(hk_arena_used_bytes(), 20 * G);
    for (int i = 0; i < 3; i++)
        ck_assert(must_alloc(&cache, 0, RUN(5), 16)->zero); /* never touched */
    ck_assert_uint_eq(nr_cached(), 0);
    ck_assert_uint_eq(hk_arena_used_bytes(), 20 * G);
    kill_and_cache(&cache, 0, run);
    hk_l25_flush(&cache);
    must_alloc(&cache, 0, RUN(17), 16); /* above 256 KiB one at a time */
    ck_assert_uint_eq(nr_cached(), 0);
    must_alloc(&cache, 0, 6 * G, 16 * HK_KIB);
    must_alloc(&cache, 0, 7 * G, 32 * HK_KIB); /* so are strictly aligned ones */
    ck_assert_uint_eq(cache.count[hk_l25_class_of[7]], 0);
    check_cache();
}
END_TEST

START_TEST(bundle_stays_below_the_cap)
{
    for (unsigned cap = 0; cap < 8; cap++) {
        hk_policy_builtin.l25_cap = cap;
        must_alloc(&cache, 0, RUN(8), 16);
        ck_assert_uint_eq(nr_cached(), hk_min(3, cap ? cap - 1 : 0));
        check_cache();
        hk_l25_flush(&cache);
    }
}
END_TEST

START_TEST(cache_keeps_a_few_per_class_the_shard_the_rest)
{
    struct hk_run *run[8];

    for (int i = 0; i < 8; i++)
        run[i] = must_alloc(NULL, 0, RUN(11), 16);
    for (int i = 0; i < 8; i++)
        kill_and_cache(&cache, 2, run[i]);
    ck_assert_uint_eq(nr_cached(), 4);
    ck_assert_uint_eq(hk_l25_shared_bytes(), 4 * 11 * G);
    check_cache();
    for (int i = 0; i < 8; i++) {
        struct hk_run *again = must_alloc(&cache, 2, RUN(11), 16);
        bool known = false;
        for (int j = 0; j < 8; j++)
            known |= again == run[j];
        ck_assert(known);
    }
    ck_assert_uint_eq(hk_l25_shared_bytes(), 0);
}
END_TEST

START_TEST(cache_and_shard_are_bounded_in_bytes)
{
    struct hk_run *run[40];

    hk_policy_builtin.l25_cap = 255;
    for (int i = 0; i < 40; i++)
        run[i] = must_alloc(NULL, 0, RUN(27), 16); /* of 28 granules */
    for (int i = 0; i < 40; i++) {
        kill_and_cache(&cache, 1, run[i]);
        check_cache();
        ck_assert_uint_le(hk_l25_shared_bytes(), 4 * HK_MIB);
    }
    ck_assert_uint_eq(nr_cached(), HK_L25_CACHE_GRANULES / 28);
    ck_assert_uint_gt(hk_l25_shared_bytes(), 0);
    /* the rest went to the arena */
    ck_assert_uint_eq(hk_arena_used_bytes(), cache.granules * G + hk_l25_shared_bytes());
    ck_assert_uint_lt(hk_arena_used_bytes(), 40 * 28 * G);
}
END_TEST

START_TEST(own_shard_and_two_neighbours_are_asked)
{
    for (unsigned shard = 0; shard < HK_L25_NR_SHARDS; shard++)
        for (unsigned asker = 0; asker < HK_L25_NR_SHARDS; asker++) {
            struct hk_run *run = must_alloc(NULL, 0, RUN(30), 16), *got;
            kill_and_cache(NULL, shard, run);
            got = must_alloc(NULL, asker, RUN(30), 16);
            unsigned distance = (shard + HK_L25_NR_SHARDS - asker) % HK_L25_NR_SHARDS;
            ck_assert_int_eq(got == run, distance < 3);
            kill_and_cache(NULL, 0, got);
            hk_l25_expire(true);
        }
}
END_TEST

/* Runs of the wrong size in the cache lie side by side: together they serve what would else touch new pages. */
START_TEST(cached_runs_join_before_new_pages_are_touched)
{
    struct hk_run *a = must_alloc(&cache, 0, RUN(17), 16), *b = must_alloc(&cache, 0, RUN(17), 16), *joined;
    char *first = a->base < b->base ? a->base : b->base;
    size_t fresh;

    ck_assert_uint_eq((size_t)(a->base < b->base ? b->base - a->base : a->base - b->base), 17 * G);
    kill_and_cache(&cache, 0, a);
    kill_and_cache(&cache, 0, b);
    fresh = hk_arena_fresh_bytes();
    joined = must_alloc(&cache, 0, RUN(33), 16);
    ck_assert_ptr_eq(joined->base, first);
    ck_assert(!joined->zero);
    ck_assert_uint_eq(hk_arena_fresh_bytes(), fresh);
    ck_assert_uint_eq(nr_cached(), 0);
    check_cache();
}
END_TEST

START_TEST(cached_runs_stay_where_dirty_memory_is_left)
{
    struct hk_run *large = must_alloc(&cache, 0, RUN(65), 16), *small = must_alloc(&cache, 0, RUN(17), 16);

    kill_and_cache(&cache, 0, small);
    kill_and_cache(NULL, 0, large); /* too large for a shard */
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 65 * G);
    must_alloc(&cache, 0, RUN(33), 16);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 32 * G);
    ck_assert_uint_eq(nr_cached(), 1);
    check_cache();
}
END_TEST

/* W_MAX bounds what a larger cached run may waste. */
START_TEST(larger_run_serves_up_to_wmax)
{
    static const struct {
        unsigned wmax;
        size_t largest; /* granules that may serve a request for 21: exactly */
    } cases[] = {{1000, 21}, {1190, 21}, {1191, 25}, {1250, 25}, {1400, 29}, {2000, 41}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hk_policy_builtin.wmax_large = cases[i].wmax;
        for (size_t granules = 21; granules <= 49; granules += 4) {
            struct hk_run *run = must_alloc(NULL, 0, RUN(granules), 16), *got;
            bool may = run->nr_granules <= cases[i].largest;
            kill_and_cache(i % 2 ? &cache : NULL, 0, run);
            got = must_alloc(&cache, 0, RUN(21), 16);
            ck_assert_msg((got == run) == may, "wmax %u, %zu granules", cases[i].wmax, granules);
            kill_and_cache(NULL, 0, got);
            hk_l25_flush(&cache);
            hk_l25_expire(true);
        }
    }
}
END_TEST

START_TEST(cached_run_must_be_aligned_for_the_request)
{
    struct hk_run *run[4];

    for (int i = 0; i < 4; i++)
        run[i] = must_alloc(NULL, 0, RUN(17), 16);
    for (int i = 0; i < 4; i++)
        kill_and_cache(i % 2 ? &cache : NULL, 0, run[i]);
    must_alloc(&cache, 0, 17 * G, 512 * HK_KIB);
    must_alloc(&cache, 0, 17 * G, 256 * HK_KIB);
    check_cache();
}
END_TEST

/* A size that is a multiple of an eighth of its power of two needs one granule for its colour, and no more. */
START_TEST(round_sizes_waste_one_granule)
{
    for (size_t n = 8; n < 128; n *= 2)
        for (size_t eighths = 8; eighths < 16; eighths += 2) {
            struct hk_run *run = must_alloc(NULL, 0, n * eighths / 8 * G, 16);
            ck_assert_uint_eq(run->nr_granules, n * eighths / 8 + 1);
            kill_and_cache(NULL, 0, run);
        }
}
END_TEST

START_TEST(kill_twice)
{
    struct hk_run *run = must_alloc(NULL, 0, RUN(5), 16);

    ck_assert(hk_l25_kill(run));
    ck_assert(!hk_l25_kill(run));
    hk_l25_cache_run(&cache, 0, run);
    ck_assert(!hk_l25_kill(run));
    ck_assert_ptr_eq(must_alloc(&cache, 0, RUN(5), 16), run);
    ck_assert(hk_l25_kill(run));
}
END_TEST

/* ---- realloc ------------------------------------------------------------------------------- */

START_TEST(grows_into_free_neighbours_only)
{
    struct hk_run *run = must_alloc(NULL, 0, 11 * G, 64 * HK_KIB);
    struct hk_run *wall = must_alloc(NULL, 0, 11 * G, 64 * HK_KIB);

    stamp(run->base, 10 * G, 7);
    ck_assert_ptr_eq(wall->base, run->base + 12 * G);
    ck_assert(!hk_l25_resize(run, 13 * G));
    ck_assert_uint_eq(run->nr_granules, 11);
    ck_assert(hk_l25_resize(run, 11 * G + 1));
    ck_assert_uint_eq(run->nr_granules, 12);
    ck_assert_uint_eq(hk_run_usable(run), 12 * G);
    ck_assert(is_stamped(run->base, 10 * G, 7));
    ck_assert_uint_eq(hk_arena_used_bytes(), 23 * G);
    kill_and_cache(&cache, 0, wall);
    ck_assert(!hk_l25_resize(run, 13 * G)); /* cached is not free */
    hk_l25_flush(&cache);
    ck_assert(hk_l25_resize(run, 20 * G));
    ck_assert(is_stamped(run->base, 10 * G, 7));
    ck_assert(!run->zero);
}
END_TEST

START_TEST(shrinks_when_half_is_unused)
{
    struct hk_run *run = must_alloc(NULL, 0, 65 * G, 64 * HK_KIB);

    stamp(run->base, 64 * G, 7);
    ck_assert(hk_l25_resize(run, 33 * G));
    ck_assert_uint_eq(run->nr_granules, 65);
    ck_assert(hk_l25_resize(run, 20 * G - 5));
    ck_assert_uint_eq(run->nr_granules, 20);
    ck_assert_uint_eq(hk_arena_used_bytes(), 20 * G);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 45 * G);
    ck_assert(is_stamped(run->base, 20 * G, 7));
    ck_assert_uint_eq(hk_pagemap_word(run->base + 20 * G), HK_PM_FREE);
    ck_assert(hk_l25_resize(run, 64 * G)); /* and back */
    ck_assert_uint_eq(run->nr_granules, 64);
    kill_and_cache(&cache, 0, run);
    ck_assert_uint_eq(nr_cached(), 0); /* resized once, in no class for ever */
    check_cache();
}
END_TEST

START_TEST(colour_counts_when_it_grows)
{
    struct hk_run *run = must_alloc(NULL, 0, RUN(5), 16);

    run->start = run->base + 64;
    run->usable = 5 * G - 64;
    ck_assert(hk_l25_resize(run, 5 * G - 64));
    ck_assert_uint_eq(run->nr_granules, 5);
    ck_assert(hk_l25_resize(run, 5 * G - 63));
    ck_assert_uint_eq(run->nr_granules, 6);
}
END_TEST

START_TEST(resized_run_is_not_cached)
{
    struct hk_run *run = must_alloc(NULL, 0, RUN(11), 16);

    ck_assert(hk_l25_resize(run, 11 * G + G / 2));
    kill_and_cache(&cache, 0, run);
    ck_assert_uint_eq(nr_cached(), 0);
    ck_assert_uint_eq(hk_l25_shared_bytes(), 0);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
}
END_TEST

START_TEST(runs_that_grow_have_room)
{
    struct hk_run *run[4];

    for (size_t i = 0; i < 4; i++) {
        run[i] = hk_l25_alloc_roomy(RUN(5));
        ck_assert_ptr_nonnull(run[i]);
        ck_assert_uint_eq(run[i]->state, HK_RUN_LIVE);
        ck_assert_ptr_eq(hk_pagemap_desc(run[i]->base), run[i]);
        stamp(run[i]->base, 5 * G, i + 1);
    }
    for (size_t i = 0; i < 4; i++) {
        ck_assert(hk_l25_resize(run[i], 20 * G));
        ck_assert(is_stamped(run[i]->base, 5 * G, i + 1));
        kill_and_cache(&cache, 0, run[i]);
    }
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    ck_assert_ptr_null(hk_l25_alloc_roomy(HK_L25_MAX)); /* and no descriptor is lost */
    hk_meta_check();
}
END_TEST

START_TEST(a_run_outgrows_its_tier)
{
    struct hk_run *run = hk_l25_alloc_roomy(RUN(100));

    ck_assert_ptr_nonnull(run);
    stamp(run->base, 100 * G, 7);
    ck_assert(hk_l25_resize(run, 3 * HK_L25_MAX));
    ck_assert_uint_ge(hk_run_usable(run), 3 * HK_L25_MAX);
    ck_assert(is_stamped(run->base, 100 * G, 7));
    kill_and_cache(&cache, 0, run);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
}
END_TEST

START_TEST(killed_once_alone)
{
    struct hk_run *run = must_alloc(NULL, 0, RUN(100), 16);

    ck_assert(hk_l25_kill_alone(run));
    ck_assert_uint_eq(run->state, HK_RUN_DEAD);
    ck_assert(!hk_l25_kill_alone(run));
    ck_assert(!hk_l25_kill(run));
    hk_l25_cache_run(NULL, 0, run);
}
END_TEST

/* As when its pages move elsewhere, and when they could not. */
START_TEST(a_run_that_is_lent)
{
    struct hk_run *run = must_alloc(NULL, 0, RUN(100), 16);
    size_t mapped = hk_arena_counters()->mapped_bytes;

    stamp(run->base, 100 * G, 7);
    ck_assert(hk_l25_lend(run));
    ck_assert(!hk_l25_lend(run)); /* dead */
    ck_assert_uint_eq(hk_pagemap_word(run->base), HK_PM_GONE);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
    ck_assert_uint_lt(hk_arena_counters()->mapped_bytes, mapped);
    hk_arena_check();
    hk_l25_take_back(run);
    ck_assert_uint_eq(run->state, HK_RUN_LIVE);
    ck_assert_uint_eq(hk_pagemap_word(run->base), HK_PM_RUN);
    ck_assert_ptr_eq(hk_pagemap_desc(run->base), run);
    ck_assert_uint_eq(hk_arena_counters()->mapped_bytes, mapped);
    ck_assert(is_stamped(run->base, 100 * G, 7));
    hk_arena_check();
    char *base = run->base;
    unsigned class = run->made_as;
    ck_assert(hk_l25_lend(run));
    hk_l25_forget_run(run);
    ck_assert_uint_eq(hk_l25_class_counters()[class].nr_runs, 0);
    ck_assert_uint_eq(hk_l25_class_counters()[class].nr_granules, 0);
    ck_assert_uint_eq(hk_pagemap_word(base), HK_PM_GONE);
    hk_meta_check();
}
END_TEST

/* ---- memory goes back ---------------------------------------------------------------------- */

START_TEST(flush_gives_all_to_the_arena)
{
    struct hk_run *run[4];

    for (size_t i = 0; i < 4; i++)
        run[i] = must_alloc(&cache, 0, RUN(5 + i), 16);
    for (int i = 0; i < 4; i++)
        kill_and_cache(&cache, 0, run[i]);
    hk_l25_flush(&cache);
    ck_assert_uint_eq(nr_cached(), 0);
    ck_assert_uint_eq(cache.granules, 0);
    ck_assert_uint_eq(hk_l25_uses(&cache), cache.uses_at_look);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), (5 + 6 + 7 + 9) * G); /* not the untouched ones */
}
END_TEST

START_TEST(idle_shard_expires_at_the_second_call)
{
    kill_and_cache(NULL, 0, must_alloc(NULL, 0, RUN(21), 16));
    hk_l25_expire(false);
    ck_assert_uint_eq(hk_l25_shared_bytes(), 21 * G);
    kill_and_cache(NULL, 0, must_alloc(NULL, 0, RUN(21), 16)); /* used in between */
    hk_l25_expire(false);
    ck_assert_uint_eq(hk_l25_shared_bytes(), 21 * G);
    hk_l25_expire(false);
    ck_assert_uint_eq(hk_l25_shared_bytes(), 0);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
}
END_TEST

START_TEST(expire_all)
{
    for (unsigned shard = 0; shard < HK_L25_NR_SHARDS; shard++)
        kill_and_cache(NULL, shard, must_alloc(NULL, (shard + 1) % 4, RUN(20 + shard), 16));
    hk_l25_expire(true);
    ck_assert_uint_eq(hk_l25_shared_bytes(), 0);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------ */

START_TEST(nth_map_refused)
{
    fake_os_fail(FAKE_MAP, (unsigned)_i, ENOMEM);
    struct hk_run *run = hk_l25_alloc(&cache, 0, RUN(6), 16);
    check_cache();
    if (run)
        kill_and_cache(&cache, 0, run);
    hk_l25_flush(&cache);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
    must_alloc(&cache, 0, RUN(6), 16);
}
END_TEST

START_TEST(no_memory)
{
    struct hk_run *run = must_alloc(&cache, 0, RUN(60), 16);
    size_t used, meta_bytes;

    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while (hk_l25_alloc(NULL, 0, G, 16))
        ;
    used = hk_arena_used_bytes();
    meta_bytes = hk_meta_mapped_bytes();
    for (int i = 0; i < 10000; i++)
        ck_assert_ptr_null(hk_l25_alloc(&cache, 0, RUN(60), 16));
    ck_assert_uint_eq(hk_arena_used_bytes(), used);
    ck_assert_uint_eq(hk_meta_mapped_bytes(), meta_bytes);
    kill_and_cache(&cache, 0, run);
    ck_assert_ptr_eq(must_alloc(&cache, 0, RUN(60), 16), run);
    ck_assert(!hk_l25_resize(run, 100 * G));
    ck_assert(hk_l25_resize(run, 20 * G)); /* a shrink needs nothing */
    fake_os_fail_all(FAKE_MAP, 0);
    must_alloc(&cache, 0, RUN(60), 16);
}
END_TEST

START_TEST(no_descriptor)
{
    must_alloc(NULL, 0, RUN(1), 16);
    size_t used = hk_arena_used_bytes();
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while (hk_meta_alloc(sizeof(struct hk_run)))
        ;
    ck_assert_ptr_null(hk_l25_alloc(&cache, 0, G, 16));
    ck_assert_uint_eq(hk_arena_used_bytes(), used);
}
END_TEST

/* ---- a random life ------------------------------------------------------------------------- */

#define NR_LIVE 60

static struct {
    struct hk_run *run;
    size_t n;
    uint64_t id;
} live[NR_LIVE];

static void write_run(unsigned i)
{
    live[i].id = next_random() | 1;
    stamp(hk_run_start(live[i].run), live[i].n & ~(size_t)4095, live[i].id);
}

static void step_alloc(unsigned i)
{
    size_t align = one_in(4) ? (size_t)16 << below(16) : 16;

    live[i].n = 4096 + below(one_in(10) ? HK_L25_MAX - 4096 : 20 * G);
    live[i].run = hk_l25_alloc(one_in(8) ? NULL : &cache, (unsigned)below(4), live[i].n, align);
    if (!live[i].run)
        return;
    ck_assert_uint_ge(hk_run_usable(live[i].run), live[i].n);
    ck_assert_uint_eq((uintptr_t)hk_run_start(live[i].run) & (align - 1), 0);
    if (live[i].run->zero)
        ck_assert(reads_zero(live[i].run->base, live[i].run->nr_granules * G));
    write_run(i);
}

static void step_resize(unsigned i)
{
    size_t n = 4096 + below(30 * G), kept = hk_min(n, live[i].n) & ~(size_t)4095;

    if (!hk_l25_resize(live[i].run, n))
        return;
    ck_assert_uint_ge(hk_run_usable(live[i].run), n);
    ck_assert(is_stamped(hk_run_start(live[i].run), kept, live[i].id));
    live[i].n = n;
    write_run(i);
}

static void step_free(unsigned i)
{
    ck_assert_msg(is_stamped(hk_run_start(live[i].run), live[i].n & ~(size_t)4095, live[i].id),
                  "run of %zu bytes overwritten", live[i].n);
    kill_and_cache(one_in(8) ? NULL : &cache, (unsigned)below(4), live[i].run);
    live[i].run = NULL;
}

START_TEST(random_runs)
{
    start_random((unsigned)_i);
    for (int step = 0; step < 10000; step++) {
        unsigned i = (unsigned)below(NR_LIVE);
        if (_i % 2 && one_in(40))
            fake_os_fail(one_in(2) ? FAKE_MAP : FAKE_ADVISE, 1, ENOMEM);
        if (!live[i].run)
            step_alloc(i);
        else if (one_in(3))
            step_resize(i);
        else
            step_free(i);
        if (one_in(200))
            hk_l25_expire(one_in(2));
        if (one_in(200))
            hk_l25_flush(&cache);
        if (one_in(200))
            hk_arena_purge_to(below(4 * HK_MIB));
        if (step % 500 == 0) {
            check_cache();
            hk_l25_check();
            hk_arena_check();
        }
    }
    for (unsigned i = 0; i < NR_LIVE; i++)
        if (live[i].run)
            step_free(i);
    hk_l25_flush(&cache);
    hk_l25_expire(true);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
}
END_TEST

/* ---- negative controls --------------------------------------------------------------------- */

static struct hk_run *damaged;

static void revive_in_shard(void)
{
    damaged->state = HK_RUN_LIVE;
    hk_l25_check();
}

static void resize_in_shard(void)
{
    damaged->nr_granules++;
    hk_l25_check();
}

static void lose_a_run(void)
{
    damaged->next = NULL;
    hk_l25_check();
}

START_TEST(check_finds_damage)
{
    struct hk_run *first = must_alloc(NULL, 0, RUN(20), 16);

    damaged = must_alloc(NULL, 0, RUN(20), 16);
    kill_and_cache(NULL, 3, first);
    kill_and_cache(NULL, 3, damaged);
    must_panic(revive_in_shard, "l25: run in a shard");
    must_panic(resize_in_shard, "l25: run in a shard");
    must_panic(lose_a_run, "l25: cached granules");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("l25");
    TCase *tc = new_case(suite, "runs", setup, teardown);

    tcase_add_test(tc, every_size);
    tcase_add_test(tc, every_alignment);
    tcase_add_test(tc, equal_buffers_start_at_different_offsets);
    tcase_add_test(tc, behind_the_fence_is_no_colour);
    tcase_add_test(tc, round_sizes_waste_one_granule);
    tcase_add_test(tc, kill_twice);
    tcase_add_test(tc, room_is_shared);

    tc = new_case(suite, "caches", setup, teardown);
    tcase_add_test(tc, freed_run_serves_the_next_request);
    tcase_add_test(tc, pop_and_push_are_the_short_way);
    tcase_add_test(tc, miss_makes_a_few_small_runs);
    tcase_add_test(tc, bundle_stays_below_the_cap);
    tcase_add_test(tc, cache_keeps_a_few_per_class_the_shard_the_rest);
    tcase_add_test(tc, cache_and_shard_are_bounded_in_bytes);
    tcase_add_test(tc, own_shard_and_two_neighbours_are_asked);
    tcase_add_test(tc, cached_runs_join_before_new_pages_are_touched);
    tcase_add_test(tc, cached_runs_stay_where_dirty_memory_is_left);
    tcase_add_test(tc, larger_run_serves_up_to_wmax);
    tcase_add_test(tc, cached_run_must_be_aligned_for_the_request);

    tc = new_case(suite, "resize", setup, teardown);
    tcase_add_test(tc, grows_into_free_neighbours_only);
    tcase_add_test(tc, shrinks_when_half_is_unused);
    tcase_add_test(tc, colour_counts_when_it_grows);
    tcase_add_test(tc, resized_run_is_not_cached);
    tcase_add_test(tc, runs_that_grow_have_room);
    tcase_add_test(tc, a_run_outgrows_its_tier);
    tcase_add_test(tc, a_run_that_is_lent);
    tcase_add_test(tc, killed_once_alone);

    tc = new_case(suite, "memory goes back", setup, teardown);
    tcase_add_test(tc, flush_gives_all_to_the_arena);
    tcase_add_test(tc, idle_shard_expires_at_the_second_call);
    tcase_add_test(tc, expire_all);

    tc = new_case(suite, "refusals", setup, teardown);
    tcase_add_loop_test(tc, nth_map_refused, 1, 10);
    tcase_add_test(tc, no_memory);
    tcase_add_test(tc, no_descriptor);

    tc = new_case(suite, "random", setup, teardown);
    tcase_add_loop_test(tc, random_runs, 0, 4);
    tcase_add_test(tc, check_finds_damage);
    return run_suite(suite);
}
