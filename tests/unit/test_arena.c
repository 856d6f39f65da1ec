// SPDX-License-Identifier: MIT
/* arena is included, so that the negative controls can damage its extents. Over 900 lines because every kind of
 * refusal and of fork meets every kind of extent over one fixture. */
#include "arena/arena.c"

#include "fake_clock.h"
#include "fake_os.h"
#include "support.h"

#include <errno.h>
#include <sys/mman.h>

#define G HK_GRANULE
#define MS UINT64_C(1000000)

static void setup(void)
{
    fake_os_install();
    fake_os_place(2 * HK_MIB, 0);
}

static void teardown(void)
{
    hk_arena_check();
    hk_meta_check();
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static struct hk_arena_stats stats(void)
{
    struct hk_arena_stats s;

    hk_arena_stats(&s);
    return s;
}

struct run {
    char *base;
    size_t n;
    bool zero;
};

static struct run must_acquire(size_t n, size_t align)
{
    struct run run = {.n = n};

    run.base = hk_arena_acquire(n, align, &run.zero);
    ck_assert_msg(run.base != NULL, "no %zu granules", n);
    ck_assert_uint_eq((uintptr_t)run.base % (align * G), 0);
    ck_assert(fake_os_all_mapped(run.base, n * G));
    return run;
}

static void release(const struct run *run, bool dirty)
{
    hk_arena_release(run->base, run->n, dirty);
}

/* Neighbours, the whole of one mapping. */
static void fill_mapping(struct run run[], size_t nr, size_t n)
{
    for (size_t i = 0; i < nr; i++) {
        run[i] = must_acquire(n, 1);
        ck_assert_ptr_eq(run[i].base, run[0].base + i * n * G);
    }
    ck_assert_uint_eq(stats().clean_bytes, 0);
}

static unsigned nr_extents(bool dirty)
{
    unsigned nr = 0;

    for (unsigned bin = 0; bin < NR_BINS; bin++)
        for (const struct extent *e = arena.bins[dirty][bin]; e; e = e->next)
            nr++;
    return nr;
}

/* ---- acquire and release ------------------------------------------------------------------- */

START_TEST(fresh_run_is_zero_and_ours)
{
    struct run run = must_acquire(5, 1);

    ck_assert(run.zero);
    ck_assert(reads_zero(run.base, 5 * G));
    for (size_t i = 0; i < 5; i++)
        ck_assert_uint_eq(hk_pagemap_word(run.base + i * G), HK_PM_SPAN);
    ck_assert_uint_eq(hk_pagemap_word(run.base + 5 * G), HK_PM_FREE);
    ck_assert_uint_eq(stats().used_bytes, 5 * G);
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB); /* the first mapping is small */
    ck_assert_int_eq(fake_os_last_advice(), MADV_NOHUGEPAGE);
}
END_TEST

START_TEST(bins_rise_with_size)
{
    for (size_t n = 1; n < 100000; n++) {
        ck_assert_uint_le(bin_of(n), bin_of(n + 1));
        ck_assert_uint_le(bin_of(n + 1) - bin_of(n), 1);
        if (n >= 16)
            ck_assert_uint_lt(bin_of(n), bin_of(n + n / 4));
    }
    ck_assert_uint_lt(bin_of(SIZE_MAX), NR_BINS);
}
END_TEST

START_TEST(every_alignment)
{
    for (size_t align = 1; align <= 512; align *= 2)
        for (size_t n = 1; n <= 2048; n = 3 * n + 1) {
            struct run a = must_acquire(n, align), b = must_acquire(n, align);
            ck_assert(a.base + n * G <= b.base || b.base + n * G <= a.base);
            release(&a, true);
            release(&b, false);
            hk_arena_check();
        }
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
}
END_TEST

START_TEST(neighbours_of_a_kind_join)
{
    struct run run[4];

    fill_mapping(run, 4, 16);
    release(&run[1], true);
    release(&run[3], true);
    ck_assert_uint_eq(nr_extents(true), 2);
    release(&run[2], true); /* both sides */
    ck_assert_uint_eq(nr_extents(true), 1);
    release(&run[0], false); /* another kind */
    ck_assert_uint_eq(nr_extents(true), 1);
    ck_assert_uint_eq(nr_extents(false), 1);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 48 * G);
    ck_assert_ptr_eq(must_acquire(48, 1).base, run[1].base);
}
END_TEST

/* The fake maps at rising addresses without a gap. */
START_TEST(neighbouring_mappings_join)
{
    must_acquire(64, 1); /* page map and descriptors are there now */
    struct run a = must_acquire(64, 1), b = must_acquire(64, 1);
    ck_assert_uint_eq(stats().nr_maps, 3);
    ck_assert_ptr_eq(b.base, a.base + 64 * G);
    release(&a, true);
    release(&b, true);
    ck_assert_uint_eq(nr_extents(true), 1);
    ck_assert_ptr_eq(must_acquire(128, 1).base, a.base);
    ck_assert_uint_eq(stats().nr_maps, 3);
}
END_TEST

START_TEST(dirty_is_not_zero_clean_is)
{
    struct run run = must_acquire(8, 1);

    stamp(run.base, 8 * G, 7);
    release(&run, true);
    run = must_acquire(8, 1);
    ck_assert(!run.zero);
    memset(run.base, 0, 8 * G);
    release(&run, false);
    run = must_acquire(8, 1);
    ck_assert(run.zero);
}
END_TEST

START_TEST(tightest_dirty_first)
{
    struct run run[8];

    fill_mapping(run, 8, 8);
    hk_arena_release(run[1].base, 6, true);
    hk_arena_release(run[4].base, 5, true);
    hk_arena_release(run[6].base, 7, true);
    must_acquire(400, 1); /* clean memory behind it, more than enough */
    ck_assert_ptr_eq(must_acquire(5, 1).base, run[4].base);
    ck_assert_ptr_eq(must_acquire(5, 1).base, run[1].base);
    ck_assert_ptr_eq(must_acquire(7, 1).base, run[6].base);
}
END_TEST

/* Dirty memory is used up together with the clean memory beside it. */
START_TEST(dirty_and_clean_neighbours_serve_together)
{
    struct run run[4];

    fill_mapping(run, 4, 16);
    stamp(run[1].base, 16 * G, 7);
    release(&run[1], true);
    release(_i ? &run[0] : &run[2], false);
    struct run mixed = must_acquire(24, 1);
    ck_assert(!mixed.zero);
    ck_assert_ptr_eq(mixed.base, _i ? run[1].base - 8 * G : run[1].base);
    ck_assert_uint_eq(stats().nr_mixed, 1);
    ck_assert_uint_eq(stats().dirty_bytes, 0);
    ck_assert_uint_eq(stats().clean_bytes, 8 * G);
    hk_arena_check();
    release(&mixed, true);
    release(_i ? &run[2] : &run[0], false);
    mixed = must_acquire(40, 1); /* all three */
    ck_assert(mixed.base == run[0].base || mixed.base == run[0].base + 8 * G);
    ck_assert_uint_eq(stats().nr_mixed, 2);
}
END_TEST

START_TEST(any_part_may_be_released)
{
    struct run run = must_acquire(20, 1);

    hk_arena_release(run.base + 15 * G, 5, true);
    hk_arena_release(run.base, 5, true);
    hk_arena_release(run.base + 8 * G, 2, true);
    ck_assert_uint_eq(stats().used_bytes, 8 * G);
    ck_assert_uint_eq(stats().dirty_bytes, 12 * G);
    ck_assert_uint_eq(nr_extents(true), 3);
}
END_TEST

START_TEST(extend_takes_what_is_behind)
{
    struct run run[4];
    bool zero;

    fill_mapping(run, 4, 16);
    ck_assert(!hk_arena_extend(run[0].base, 16, 1, &zero));
    release(&run[1], true);
    release(&run[2], false);
    ck_assert(!hk_arena_extend(run[0].base, 16, 33, &zero));
    ck_assert_uint_eq(stats().used_bytes, 32 * G);
    ck_assert(hk_arena_extend(run[0].base, 16, 20, &zero)); /* of both kinds */
    ck_assert(!zero);
    ck_assert_uint_eq(stats().dirty_bytes, 0);
    ck_assert_uint_eq(stats().clean_bytes, 12 * G);
    ck_assert(hk_arena_extend(run[0].base, 36, 12, &zero));
    ck_assert(zero);
    ck_assert_uint_eq(hk_pagemap_word(run[0].base + 40 * G), HK_PM_SPAN);
}
END_TEST

/* ---- room ---------------------------------------------------------------------------------- */

START_TEST(what_grows_has_room_on_both_sides)
{
    char *p[8];
    bool zero;

    for (unsigned i = 0; i < 8; i++) {
        p[i] = hk_arena_acquire_roomy(5, &zero);
        ck_assert_ptr_nonnull(p[i]);
        ck_assert(zero);
        ck_assert(fake_os_all_mapped(p[i], 5 * G));
    }
    for (unsigned i = 0; i < 8; i++)
        ck_assert(hk_arena_extend(p[i], 5, 5, &zero));
    ck_assert_uint_eq(hk_arena_used_bytes(), 80 * G);
}
END_TEST

/* Freed and wanted again, it comes back to the memory that it left. */
START_TEST(room_is_sought_in_dirty_memory)
{
    bool zero;
    char *p = hk_arena_acquire_roomy(5, &zero), *first = p;

    for (unsigned i = 0; i < 20; i++) {
        ck_assert(hk_arena_extend(p, 5, 10, &zero));
        hk_arena_release(p, 15, true);
        p = hk_arena_acquire_roomy(5, &zero);
        ck_assert(!zero);
    }
    ck_assert_ptr_eq(p, first);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 10 * G);
    ck_assert_uint_eq(hk_arena_purge_to(0), 10 * G);
    hk_arena_release(p, 3, true);
    hk_arena_release(p + 3 * G, 2, false);
    p = hk_arena_acquire_roomy(5, &zero); /* more than what is dirty */
    ck_assert_ptr_eq(p, first);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 0);
}
END_TEST

/* Dirty and clean by turns: what grows side by side does not begin in one dirty extent, right behind another. */
START_TEST(what_grows_is_spread_over_dirty_memory)
{
    bool zero;
    char *base = hk_arena_acquire(8 * 64, 1, &zero), *p[4];

    for (size_t i = 0; i < 8; i++)
        hk_arena_release(base + i * 64 * G, 64, i % 2 == 0);
    for (unsigned i = 0; i < 4; i++) {
        p[i] = hk_arena_acquire_roomy(5, &zero);
        ck_assert(!zero);
        ck_assert_uint_eq((size_t)(p[i] - base) % (128 * G), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        ck_assert(hk_arena_extend(p[i], 5, 59, &zero));
        ck_assert(!zero);
    }
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 0);
}
END_TEST

/* One block after the other, each as large as can be: no drift through the address space. */
START_TEST(what_grows_comes_back_to_where_it_was)
{
    bool zero;
    char *first = hk_arena_acquire_roomy(8, &zero), *p = first;

    for (unsigned i = 0; i < 10; i++) {
        ck_assert(hk_arena_extend(p, 8, 120, &zero));
        ck_assert(zero == (i == 0));
        hk_arena_release(p, 128, true);
        p = hk_arena_acquire_roomy(8, &zero);
        ck_assert_ptr_eq(p, first);
    }
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 120 * G);
}
END_TEST

START_TEST(room_is_bounded_address_space)
{
    unsigned nr = 0;
    bool zero;

    while (hk_arena_acquire_roomy(64, &zero) != NULL && nr < 1000)
        nr++;
    ck_assert_uint_ge(nr, 2);
    ck_assert_uint_lt(nr, 1000);
    ck_assert_uint_le(stats().clean_bytes, 2 * MAX_MAP_BYTES);
}
END_TEST

/* ---- in and out ---------------------------------------------------------------------------- */

START_TEST(a_mapping_is_donated)
{
    struct run run = must_acquire(64, 1); /* all there is */
    char *mine = hk_os_reserve(100 * G, G);

    ck_assert(hk_pagemap_cover(mine, 100 * G));
    stamp(mine, 100 * G, 7);
    ck_assert(hk_arena_donate(mine, 100));
    ck_assert_uint_eq(stats().mapped_bytes, 164 * G);
    ck_assert_uint_eq(stats().dirty_bytes, 100 * G);
    struct run again = must_acquire(100, 1);
    ck_assert_ptr_eq(again.base, mine);
    ck_assert(!again.zero);
    release(&run, true);
    release(&again, true);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 164 * G);
}
END_TEST

START_TEST(a_range_is_lent_and_taken_back)
{
    struct run run[4];

    fill_mapping(run, 4, 16);
    hk_arena_lend(run[1].base, 16);
    ck_assert_uint_eq(stats().mapped_bytes, 48 * G);
    ck_assert_uint_eq(stats().used_bytes, 48 * G);
    ck_assert_uint_eq(hk_pagemap_word(run[1].base + 15 * G), HK_PM_GONE);
    hk_arena_take_back(run[1].base, 16);
    hk_arena_check();
    hk_arena_lend(run[1].base, 16);
    ck_assert(hk_os_release(run[1].base, 16 * G));
    release(&run[0], true);
    release(&run[2], true);
    ck_assert_uint_eq(nr_extents(true), 2); /* not across the gap */
}
END_TEST

/* ---- memory goes back ---------------------------------------------------------------------- */

START_TEST(purge_waits_for_the_delay)
{
    struct run run[4];
    uint64_t start = hk_os_now_ns();

    fill_mapping(run, 4, 16);
    stamp(run[0].base, 16 * G, 7);
    release(&run[0], true);
    fake_clock_advance(100 * MS);
    release(&run[2], true);
    ck_assert_uint_eq(hk_arena_purge_expired(start + 99 * MS, 100 * MS), 0);
    ck_assert_uint_eq(hk_arena_purge_expired(start - 1, 0), 0); /* another processor's clock */
    ck_assert_uint_eq(hk_arena_purge_expired(start + 100 * MS, 100 * MS), 16 * G);
    ck_assert_uint_eq(stats().clean_bytes, 16 * G);
    ck_assert_uint_eq(stats().dirty_bytes, 16 * G);
    ck_assert_uint_eq(hk_arena_purge_expired(start + 200 * MS, 100 * MS), 16 * G);
    ck_assert_uint_eq(stats().nr_purges, 2);
    ck_assert_uint_eq(stats().nr_purged_bytes, 32 * G);
    ck_assert(must_acquire(16, 1).zero);
    ck_assert(reads_zero(run[0].base, 16 * G));
}
END_TEST

/* What joins older memory goes when that does, so that steady use of a part keeps no whole. */
START_TEST(joined_memory_is_as_old_as_its_oldest_part)
{
    struct run run[4];
    uint64_t start = hk_os_now_ns();

    fill_mapping(run, 4, 16);
    release(&run[0], true);
    for (unsigned i = 0; i < 10; i++) {
        fake_clock_advance(9 * MS);
        release(&run[1], true);
        struct run again = must_acquire(16, 1);
        ck_assert_ptr_eq(again.base, run[0].base);
        run[1] = (struct run){run[0].base, 16, false};
    }
    release(&run[1], true);
    ck_assert_uint_eq(hk_arena_purge_expired(start + 100 * MS, 100 * MS), 32 * G);
}
END_TEST

START_TEST(purge_to_takes_the_least_recent_and_no_more)
{
    struct run other = must_acquire(400, 1);

    release(&other, true);
    ck_assert_uint_eq(hk_arena_purge_to(400 * G), 0);
    ck_assert_uint_eq(hk_arena_purge_to(399 * G), PIECE * G); /* a piece at least */
    ck_assert_uint_eq(hk_arena_purge_to(200 * G), 136 * G);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 200 * G);
    ck_assert_uint_eq(stats().clean_bytes, 200 * G);
    ck_assert_uint_eq(nr_extents(false), 1);
    ck_assert_ptr_eq(arena.oldest->base, other.base); /* its end went first */
    struct run hot = must_acquire(100, 1);
    release(&hot, true);
    ck_assert_uint_eq(hk_arena_purge_to(10 * G), 200 * G); /* would leave less than a piece */
    ck_assert_uint_eq(hk_arena_purge_to(0), 0);
    ck_assert_ptr_null(arena.oldest);
}
END_TEST

START_TEST(excess_address_space_is_unmapped)
{
    struct run run[6];

    for (unsigned i = 0; i < 6; i++)
        run[i] = must_acquire(2048, 1);
    for (unsigned i = 0; i < 6; i++)
        release(&run[i], true);
    ck_assert_uint_eq(hk_arena_purge_to(0), 6 * 2048 * G);
    ck_assert_uint_le(stats().clean_bytes, CLEAN_KEPT_BYTES);
    ck_assert_uint_eq(stats().mapped_bytes, stats().clean_bytes);
    ck_assert_uint_ge(stats().nr_unmaps, 1);
    hk_arena_unmap_to(0);
    ck_assert_uint_eq(stats().mapped_bytes, 0);
    ck_assert_uint_eq(nr_extents(false), 0);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert(fake_os_none_mapped(run[i].base, 2048 * G));
        ck_assert_uint_eq(hk_pagemap_word(run[i].base + G), HK_PM_GONE);
    }
    must_acquire(10, 1);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------ */

START_TEST(nth_map_refused)
{
    bool zero;

    fake_os_fail(FAKE_MAP, (unsigned)_i, ENOMEM);
    char *p = hk_arena_acquire(10, 1, &zero);
    ck_assert_uint_eq(hk_arena_used_bytes(), p ? 10 * G : 0);
    hk_arena_check();
    must_acquire(1, 1);
}
END_TEST

START_TEST(all_maps_refused)
{
    struct run run = must_acquire(64, 1);
    bool zero;

    size_t mapped = fake_os_mapped_bytes(), meta_bytes = hk_meta_mapped_bytes();
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (size_t i = 0; i < 10000; i++) {
        ck_assert_ptr_null(hk_arena_acquire(1 + i % 3000, 1, &zero));
        ck_assert_ptr_null(hk_arena_acquire_roomy(1 + i % 3000, &zero));
    }
    ck_assert_uint_eq(fake_os_mapped_bytes(), mapped);
    ck_assert_uint_eq(hk_meta_mapped_bytes(), meta_bytes);
    release(&run, true);
    must_acquire(64, 1);
}
END_TEST

START_TEST(near_a_limit_a_mapping_is_as_small_as_the_request)
{
    must_acquire(64, 1);
    fake_os_fail(FAKE_MAP, 1, ENOMEM);
    must_acquire(5, 1);
    ck_assert_uint_eq(stats().mapped_bytes, 69 * G);
    ck_assert_uint_eq(stats().clean_bytes, 0);
}
END_TEST

static void use_up_descriptors(void)
{
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    arena.descriptors = NULL;
    while (hk_meta_alloc(sizeof(struct extent)))
        ;
}

/* Nothing can describe what is free then: it goes back to the system. */
START_TEST(release_without_a_descriptor)
{
    struct run run[4];

    fill_mapping(run, 4, 16);
    use_up_descriptors();
    if (_i)
        fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    release(&run[1], true);
    ck_assert_uint_eq(stats().mapped_bytes, (_i ? 64 : 48) * G);
    ck_assert_uint_eq(stats().lost_bytes, _i ? 16 * G : 0);
    ck_assert_uint_eq(hk_pagemap_word(run[1].base), HK_PM_GONE);
    ck_assert_uint_eq(nr_extents(true), 0);
}
END_TEST

START_TEST(a_split_without_a_descriptor)
{
    struct run run = must_acquire(64, 1);
    bool zero;

    hk_arena_release(run.base + G, 39, true);
    use_up_descriptors();
    ck_assert_ptr_null(hk_arena_acquire(2, 8, &zero)); /* would leave two ends */
    ck_assert_ptr_null(hk_arena_acquire_roomy(1, &zero));
    hk_arena_check();
    ck_assert_ptr_nonnull(hk_arena_acquire(5, 1, &zero));
}
END_TEST

START_TEST(purge_refused_stays_dirty)
{
    struct run run[4];

    fill_mapping(run, 4, 16);
    stamp(run[0].base, 16 * G, 7);
    release(&run[0], true);
    release(&run[2], true);
    fake_os_fail_all(FAKE_ADVISE, EINVAL);
    ck_assert_uint_eq(hk_arena_purge_to(0), 0);
    ck_assert_uint_eq(hk_arena_purge_expired(UINT64_MAX / 2, 0), 0);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 32 * G);
    ck_assert_uint_le(stats().nr_purges, 2 * MAX_REFUSED);
    hk_arena_check();
    fake_os_fail_all(FAKE_ADVISE, 0);
    fake_os_fail(FAKE_ADVISE, 1, EINVAL);
    ck_assert_uint_eq(hk_arena_purge_to(16 * G), 16 * G); /* the other one's turn */
    ck_assert_uint_eq(hk_arena_purge_to(0), 16 * G);
}
END_TEST

START_TEST(unmap_refused_keeps_the_range)
{
    struct run run = must_acquire(200, 1);

    release(&run, false);
    size_t mapped = stats().mapped_bytes;
    fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    hk_arena_unmap_to(0);
    ck_assert_uint_eq(stats().mapped_bytes, mapped);
    ck_assert_uint_eq(stats().nr_unmaps, 0);
    hk_arena_check();
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    run = must_acquire(200, 1); /* it serves on */
    ck_assert(run.zero);
    ck_assert_uint_eq(hk_pagemap_word(run.base + 100 * G), HK_PM_SPAN);
}
END_TEST

/* ---- against a shadow map ------------------------------------------------------------------ */

#define MAX_RUNS 100

static struct shadow {
    struct run run;
    uint64_t id; /* what every granule of it is stamped with; 0: untouched, reads as zero */
} live[MAX_RUNS];
static unsigned nr_live;
static uint64_t next_id = 1;
static bool refusals;

static void must_be_intact(const struct shadow *s)
{
    if (s->id)
        ck_assert_msg(is_stamped(s->run.base, s->run.n * G, s->id), "run of %zu granules overwritten",
                      s->run.n);
    else
        ck_assert(reads_zero(s->run.base, s->run.n * G));
}

/* Stamps that are not overwritten by a neighbour are the proof that runs do not overlap. */
static void touch(struct shadow *s)
{
    s->id = next_id++;
    stamp(s->run.base, s->run.n * G, s->id);
}

static void step_acquire(void)
{
    struct shadow *s = &live[nr_live];
    size_t n = one_in(8) ? 1 + below(500) : 1 + below(24);
    size_t align = one_in(4) ? (size_t)1 << below(6) : 1;

    s->run.n = n;
    if (one_in(4))
        s->run.base = hk_arena_acquire_roomy(n, &s->run.zero);
    else
        s->run.base = hk_arena_acquire(n, align, &s->run.zero);
    if (!s->run.base)
        return; /* a refused map, or no room */
    ck_assert_uint_eq(hk_pagemap_word(s->run.base), HK_PM_SPAN);
    ck_assert_uint_eq(hk_pagemap_word(s->run.base + (n - 1) * G), HK_PM_SPAN);
    hk_pagemap_set(s->run.base, 1, HK_PM_RUN, NULL);
    s->id = 0;
    if (s->run.zero)
        ck_assert_msg(reads_zero(s->run.base, n * G), "said to be zero, is not");
    if (!s->run.zero || !one_in(3))
        touch(s);
    nr_live++;
}

static void step_release(unsigned i)
{
    struct shadow *s = &live[i];
    size_t n = 1 + below(s->run.n);

    must_be_intact(s);
    if (one_in(3)) {
        s->run.n -= n;
        hk_arena_release(s->run.base + s->run.n * G, n, s->id != 0);
    } else {
        release(&s->run, s->id != 0);
        s->run.n = 0;
    }
    if (s->run.n == 0)
        live[i] = live[--nr_live];
}

static void step_extend(unsigned i)
{
    struct shadow *s = &live[i];
    char *end = s->run.base + s->run.n * G;
    size_t more = 1 + below(20);
    bool zero;

    if (!hk_arena_extend(s->run.base, s->run.n, more, &zero))
        return;
    if (zero)
        ck_assert(reads_zero(end, more * G));
    must_be_intact(s);
    s->run.n += more;
    touch(s);
}

/* Its pages move away, and come back as somebody's gift. */
static void step_lend(unsigned i)
{
    struct shadow *s = &live[i];

    hk_arena_lend(s->run.base, s->run.n);
    if (one_in(2)) {
        hk_arena_take_back(s->run.base, s->run.n);
        return;
    }
    must_be_intact(s);
    if (!hk_arena_donate(s->run.base, s->run.n)) {
        ck_assert(refusals);
        hk_arena_take_back(s->run.base, s->run.n);
        return;
    }
    live[i] = live[--nr_live];
}

static void step_purge(void)
{
    size_t keep = below(hk_arena_dirty_bytes() + G);

    fake_clock_advance(below(20) * MS);
    if (one_in(3)) {
        hk_arena_unmap_to(below(20 * HK_MIB));
    } else if (one_in(2)) {
        hk_arena_purge_expired(hk_os_now_ns(), below(40) * MS);
    } else {
        hk_arena_purge_to(keep);
        if (!refusals)
            ck_assert_uint_le(hk_arena_dirty_bytes(), keep);
    }
}

static void verify(void)
{
    size_t bytes = 0;

    hk_arena_check();
    for (unsigned i = 0; i < nr_live; i++) {
        must_be_intact(&live[i]);
        bytes += live[i].run.n * G;
    }
    ck_assert_uint_eq(stats().used_bytes, bytes);
    ck_assert_uint_eq(stats().busy_bytes, 0);
}

static void step_refuse(void)
{
    static const enum fake_call calls[] = {FAKE_MAP, FAKE_UNMAP, FAKE_ADVISE};

    fake_os_fail(calls[below(3)], 1 + (unsigned)below(3), one_in(2) ? ENOMEM : EINVAL);
}

static void random_stream(void)
{
    for (int step = 0; step < 5000; step++) {
        unsigned kind = (unsigned)below(100);

        if (refusals && one_in(20))
            step_refuse();
        if ((kind < 45 && nr_live < MAX_RUNS) || nr_live == 0)
            step_acquire();
        else if (kind < 80)
            step_release((unsigned)below(nr_live));
        else if (kind < 94)
            step_extend((unsigned)below(nr_live));
        else if (kind < 95)
            step_lend((unsigned)below(nr_live));
        else
            step_purge();
        if (step % 100 == 0)
            verify();
    }
    verify();
    while (nr_live)
        step_release(nr_live - 1);
    ck_assert_uint_eq(hk_arena_used_bytes(), 0);
}

START_TEST(random_runs)
{
    start_random((unsigned)_i);
    random_stream();
    hk_arena_purge_to(0);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), 0);
    hk_arena_check();
    hk_arena_unmap_to(0);
    ck_assert_uint_eq(stats().mapped_bytes, 0);
}
END_TEST

START_TEST(random_runs_under_refusals)
{
    start_random(100 + (unsigned)_i);
    refusals = true;
    random_stream();
}
END_TEST

/* ---- negative controls --------------------------------------------------------------------- */

static struct extent *damaged;

static void lose_dirty_bytes(void)
{
    arena.stats.dirty_bytes += G;
    hk_arena_check();
}

static void lose_used_bytes(void)
{
    arena.stats.used_bytes -= G;
    hk_arena_check();
}

static void hang_in_wrong_bin(void)
{
    damaged->n++;
    hk_arena_check();
}

static void unmark_an_end(void)
{
    hk_pagemap_set(damaged->base + (damaged->n - 1) * G, 1, HK_PM_SPAN, NULL);
    hk_arena_check();
}

static void forget_to_join(void)
{
    static struct extent left;

    left = (struct extent){.base = damaged->base - 16 * G, .n = 16, .dirty = true};
    enqueue(&left);
    link_extent(&left);
    arena.stats.used_bytes -= 16 * G;
    hk_arena_check();
}

static void leave_the_queue(void)
{
    dequeue(damaged);
    hk_arena_check();
}

static void mistake_the_bin_for_empty(void)
{
    arena.occupied[true][0] = 0;
    hk_arena_check();
}

START_TEST(check_finds_damage)
{
    struct run run[4];

    fill_mapping(run, 4, 16);
    hk_arena_release(run[2].base, 14, true);
    damaged = arena.oldest;
    hk_arena_check();
    must_panic(lose_dirty_bytes, "arena: dirty bytes do not add up");
    must_panic(lose_used_bytes, "arena: mapped bytes do not add up");
    must_panic(hang_in_wrong_bin, "arena: extent in the wrong bin");
    must_panic(unmark_an_end, "arena: ends not marked");
    must_panic(forget_to_join, "arena: neighbours not joined");
    must_panic(leave_the_queue, "arena: dirty queue");
    must_panic(mistake_the_bin_for_empty, "arena: occupied bins");
}
END_TEST

/* ---- fork ---------------------------------------------------------------------------------- */

static int (*real_advise)(void *base, size_t bytes, int advice);
static void (*meanwhile)(void);
static struct run purged_run;

/* While the kernel purges. */
static int advise_and_fork(void *base, size_t bytes, int advice)
{
    if (advice == MADV_DONTNEED)
        meanwhile();
    return real_advise(base, bytes, advice);
}

static void purge_with(void (*what_happens)(void))
{
    struct run run[4];

    fill_mapping(run, 4, 16);
    purged_run = run[1];
    release(&run[1], true);
    real_advise = hk_os_calls.advise;
    hk_os_calls.advise = advise_and_fork;
    meanwhile = what_happens;
    hk_arena_purge_to(0);
    hk_os_calls.advise = real_advise;
}

static void child_inherits(void)
{
    if (hk_arena_dirty_bytes() != 0 || stats().busy_bytes != 16 * G)
        _exit(2);
    hk_lock(&hk_arena_lock);
    hk_arena_inherit();
    hk_unlock(&hk_arena_lock);
    hk_arena_check();
    if (hk_arena_dirty_bytes() != 16 * G || stats().busy_bytes != 0)
        _exit(3);
    struct run again = must_acquire(16, 1);
    if (again.base != purged_run.base || again.zero)
        _exit(4);
}

static void fork_with_inheritance(void)
{
    struct child child = run_child(child_inherits);

    ck_assert_msg(child_exited_0(&child), "status %x, said '%s'", (unsigned)child.status, child.text);
}

START_TEST(what_was_being_purged_is_dirty_in_a_child)
{
    purge_with(fork_with_inheritance);
    ck_assert_uint_eq(stats().clean_bytes, 16 * G); /* here the purge went on */
    ck_assert_uint_eq(stats().busy_bytes, 0);
    ck_assert_ptr_null(arena.purging);
}
END_TEST

static void forget_now(void)
{
    hk_lock(&hk_arena_lock);
    hk_arena_forget();
    hk_unlock(&hk_arena_lock);
}

START_TEST(a_forgotten_purge_ends_quietly)
{
    purge_with(forget_now);
    hk_arena_check();
    ck_assert_uint_eq(stats().busy_bytes, 0);
    ck_assert_uint_eq(stats().lost_bytes, 16 * G);
    ck_assert_ptr_ne(must_acquire(16, 1).base, purged_run.base);
}
END_TEST

/* Free neighbours of before are described by words that lead to extents of before. */
START_TEST(what_was_free_is_lost_in_a_child_that_forgets)
{
    struct run run[4];

    fill_mapping(run, 4, 16);
    release(&run[0], true);
    release(&run[2], false);
    forget_now();
    hk_arena_check();
    ck_assert_uint_eq(stats().dirty_bytes + stats().clean_bytes, 0);
    ck_assert_uint_eq(stats().lost_bytes, 32 * G);
    release(&run[1], true);
    ck_assert_uint_eq(stats().dirty_bytes, 16 * G);
    hk_arena_check();
    ck_assert_ptr_eq(must_acquire(16, 1).base, run[1].base);
    for (unsigned i = 0; i < 8; i++) {
        char *p = must_acquire(16, 1).base;
        ck_assert(p + 16 * G <= run[0].base || p >= run[3].base + 16 * G);
    }
}
END_TEST

START_TEST(a_loan_of_before_comes_back_to_a_child_that_forgot)
{
    struct hk_arena_piece piece[1];
    struct run run[4];

    fill_mapping(run, 4, 16);
    release(&run[1], true);
    ck_assert_uint_eq(hk_arena_borrow(piece, 1, 16), 1);
    forget_now();
    hk_arena_return(&piece[0], true);
    hk_arena_check();
    ck_assert_uint_eq(stats().dirty_bytes, 16 * G);
    ck_assert_uint_eq(stats().busy_bytes + stats().lost_bytes, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *tc = new_case(suite, "acquire", setup, teardown);

    tcase_add_test(tc, fresh_run_is_zero_and_ours);
    tcase_add_test(tc, bins_rise_with_size);
    tcase_add_test(tc, every_alignment);
    tcase_add_test(tc, neighbours_of_a_kind_join);
    tcase_add_test(tc, neighbouring_mappings_join);
    tcase_add_test(tc, dirty_is_not_zero_clean_is);
    tcase_add_test(tc, tightest_dirty_first);
    tcase_add_loop_test(tc, dirty_and_clean_neighbours_serve_together, 0, 2);
    tcase_add_test(tc, any_part_may_be_released);
    tcase_add_test(tc, extend_takes_what_is_behind);

    tc = new_case(suite, "room", setup, teardown);
    tcase_add_test(tc, what_grows_has_room_on_both_sides);
    tcase_add_test(tc, room_is_sought_in_dirty_memory);
    tcase_add_test(tc, what_grows_is_spread_over_dirty_memory);
    tcase_add_test(tc, what_grows_comes_back_to_where_it_was);
    tcase_add_test(tc, room_is_bounded_address_space);

    tc = new_case(suite, "in and out", setup, teardown);
    tcase_add_test(tc, a_mapping_is_donated);
    tcase_add_test(tc, a_range_is_lent_and_taken_back);

    tc = new_case(suite, "memory goes back", setup, teardown);
    tcase_add_test(tc, purge_waits_for_the_delay);
    tcase_add_test(tc, joined_memory_is_as_old_as_its_oldest_part);
    tcase_add_test(tc, purge_to_takes_the_least_recent_and_no_more);
    tcase_add_test(tc, excess_address_space_is_unmapped);

    tc = new_case(suite, "refusals", setup, teardown);
    tcase_add_loop_test(tc, nth_map_refused, 1, 6);
    tcase_add_test(tc, all_maps_refused);
    tcase_add_test(tc, near_a_limit_a_mapping_is_as_small_as_the_request);
    tcase_add_loop_test(tc, release_without_a_descriptor, 0, 2);
    tcase_add_test(tc, a_split_without_a_descriptor);
    tcase_add_test(tc, purge_refused_stays_dirty);
    tcase_add_test(tc, unmap_refused_keeps_the_range);

    tc = new_case(suite, "random", setup, teardown);
    tcase_add_loop_test(tc, random_runs, 0, 3);
    tcase_add_loop_test(tc, random_runs_under_refusals, 0, 3);
    tcase_add_test(tc, check_finds_damage);

    tc = new_case(suite, "fork", setup, teardown);
    tcase_add_test(tc, what_was_being_purged_is_dirty_in_a_child);
    tcase_add_test(tc, a_forgotten_purge_ends_quietly);
    tcase_add_test(tc, what_was_free_is_lost_in_a_child_that_forgets);
    tcase_add_test(tc, a_loan_of_before_comes_back_to_a_child_that_forgot);
    return run_suite(suite);
}
