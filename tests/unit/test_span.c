// SPDX-License-Identifier: MIT
/* span is included, so that the negative controls can damage its regions.
 * Over 900 lines because the tests of huge pages take part in the random stream and share its helpers. */
#include "span/span.c"

#include "fake_clock.h"
#include "fake_os.h"
#include "support.h"

#include <errno.h>
#include <sys/mman.h>

#define MS UINT64_C(1000000)

static void setup(void)
{
    fake_os_install();
    fake_os_place(HK_REGION_BYTES, 0); /* the 4 GiB arena then holds many hundreds of regions */
}

static void teardown(void)
{
    hk_span_check();
    hk_meta_check();
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static struct hk_span_stats stats(void)
{
    struct hk_span_stats s;

    hk_span_stats(&s);
    return s;
}

struct run {
    char *base;
    struct hk_region *home;
    size_t n;
    bool zero;
};

/* As a slab does, whose blocks have left. */
static void describe(const struct run *run)
{
    static char slab;

    hk_pagemap_set(run->base, run->n, HK_PM_KINDS, &slab);
}

static struct run must_acquire(size_t n, size_t align)
{
    struct run run = {.n = n};

    run.base = hk_span_acquire(n, align, &run.zero, &run.home);
    ck_assert_msg(run.base != NULL, "no %zu granules", n);
    ck_assert_uint_eq((uintptr_t)run.base % (align * HK_GRANULE), 0);
    ck_assert(fake_os_all_mapped(run.base, n * HK_GRANULE));
    return run;
}

static void release(const struct run *run, bool dirty)
{
    hk_span_release(run->home, run->base, run->n, dirty);
}

/* Takes the small first region as a whole, so that the next request makes a full one. */
static struct run fill_first_region(void)
{
    return must_acquire(FIRST_REGION_BYTES / HK_GRANULE, 1);
}

/* ---- acquire and release ------------------------------------------------------------------- */

START_TEST(fresh_run_is_zero_and_ours)
{
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
    struct run run = must_acquire(3, 1);
    ck_assert(run.zero);
    ck_assert(reads_zero(run.base, 3 * HK_GRANULE));
    for (size_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(hk_pagemap_word(run.base + i * HK_GRANULE), HK_PM_SPAN);
        ck_assert_ptr_eq(hk_pagemap_desc(run.base + i * HK_GRANULE), run.home);
    }
    ck_assert_uint_eq(hk_span_used_bytes(), 3 * HK_GRANULE);
}
END_TEST

START_TEST(first_region_is_small)
{
    must_acquire(1, 1);
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB);
    must_acquire(64, 1); /* does not fit any more */
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB + HK_REGION_BYTES);
    ck_assert_uint_eq(stats().nr_regions, 2);
}
END_TEST

START_TEST(first_request_may_need_more_than_the_small_region)
{
    must_acquire(65, 1);
    ck_assert_uint_eq(stats().mapped_bytes, HK_REGION_BYTES);
}
END_TEST

START_TEST(huge_pages_are_refused_for_full_regions)
{
    fill_first_region();
    unsigned before = fake_os_calls(FAKE_ADVISE);
    must_acquire(1, 1);
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), before + 1);
    ck_assert_int_eq(fake_os_last_advice(), MADV_NOHUGEPAGE);
}
END_TEST

START_TEST(every_size_and_alignment)
{
    for (size_t n = 1; n <= HK_REGION_GRANULES; n++) {
        for (size_t align = 1; align <= HK_REGION_GRANULES; align *= 2) {
            struct run run = must_acquire(n, align);
            release(&run, false);
        }
    }
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
    ck_assert_uint_le(stats().nr_regions, 2);
}
END_TEST

START_TEST(released_words_are_span_again)
{
    struct run run = must_acquire(4, 1);

    hk_pagemap_set(run.base, 4, HK_PM_RUN, &run);
    release(&run, true);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(hk_pagemap_word(run.base + i * HK_GRANULE), HK_PM_SPAN);
        ck_assert_ptr_eq(hk_pagemap_desc(run.base + i * HK_GRANULE), run.home);
    }
}
END_TEST

START_TEST(dirty_run_is_not_zero_clean_one_is)
{
    struct run run = must_acquire(2, 1);

    stamp(run.base, 2 * HK_GRANULE, 7);
    release(&run, true);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 2 * HK_GRANULE);
    struct run again = must_acquire(3, 1);
    ck_assert_ptr_eq(again.base, run.base);
    ck_assert(!again.zero); /* two of three */
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
    memset(again.base, 0, 3 * HK_GRANULE);
    release(&again, false);
    ck_assert(must_acquire(3, 1).zero);
}
END_TEST

START_TEST(any_part_may_be_released)
{
    struct run run = must_acquire(8, 1);

    hk_span_release(run.home, run.base + 3 * HK_GRANULE, 2, true);
    ck_assert_uint_eq(hk_span_used_bytes(), 6 * HK_GRANULE);
    ck_assert_ptr_eq(must_acquire(2, 1).base, run.base + 3 * HK_GRANULE);
    hk_span_release(run.home, run.base, 1, true);
    hk_span_release(run.home, run.base + 7 * HK_GRANULE, 1, true);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 2 * HK_GRANULE);
    ck_assert_ptr_eq(must_acquire(1, 1).base, run.base);
}
END_TEST

START_TEST(tightest_region_first)
{
    struct run first = fill_first_region();
    struct run hole = {first.base + 10 * HK_GRANULE, first.home, 3, false};

    must_acquire(1, 1); /* a second region with 127 left */
    release(&hole, true);
    ck_assert_ptr_eq(must_acquire(2, 1).base, hole.base);
    ck_assert_ptr_ne(must_acquire(2, 1).home, first.home); /* one is left there */
    ck_assert_ptr_eq(must_acquire(1, 1).home, first.home);
}
END_TEST

/* ---- memory goes back ---------------------------------------------------------------------- */

START_TEST(purge_waits_for_the_delay)
{
    struct run run = must_acquire(5, 1);
    uint64_t freed = hk_os_now_ns();

    must_acquire(1, 1);
    stamp(run.base, 5 * HK_GRANULE, 7);
    release(&run, true);
    ck_assert_uint_eq(hk_span_purge_expired(freed + 300 * MS - 1, 300 * MS), 0);
    ck_assert_uint_eq(hk_span_purge_expired(freed - 1, 0), 0); /* another processor's clock */
    ck_assert_uint_eq(stats().nr_purges, 0);
    ck_assert_uint_eq(hk_span_purge_expired(freed + 300 * MS, 300 * MS), 5 * HK_GRANULE);
    ck_assert_uint_eq(stats().nr_purges, 1);
    ck_assert_uint_eq(stats().nr_purged_bytes, 5 * HK_GRANULE);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
    ck_assert(must_acquire(5, 1).zero);
    ck_assert(reads_zero(run.base, 5 * HK_GRANULE));
}
END_TEST

/* Two regions with one live granule each, so that neither is unmapped. */
static void two_dirty_regions(struct run *older, struct run *newer)
{
    struct run first = fill_first_region();

    *newer = must_acquire(100, 1);
    must_acquire(1, 1);
    *older = (struct run){first.base, first.home, 20, false};
    release(older, true);
    fake_clock_advance(100 * MS);
    release(newer, true);
}

START_TEST(purge_takes_the_oldest_alone)
{
    struct run older, newer;

    two_dirty_regions(&older, &newer);
    ck_assert_uint_eq(hk_span_purge_expired(FAKE_CLOCK_START_NS + 50 * MS, 50 * MS),
                      20 * HK_GRANULE);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 100 * HK_GRANULE);
    ck_assert_uint_eq(hk_span_purge_expired(FAKE_CLOCK_START_NS + 150 * MS, 50 * MS),
                      100 * HK_GRANULE);
}
END_TEST

START_TEST(purge_to_keeps_the_bound)
{
    struct run older, newer;

    two_dirty_regions(&older, &newer);
    ck_assert_uint_eq(hk_span_purge_to(120 * HK_GRANULE), 0);
    ck_assert_uint_eq(hk_span_purge_to(110 * HK_GRANULE), 20 * HK_GRANULE);
    ck_assert_uint_eq(hk_span_purge_to(100 * HK_GRANULE), 0);
    ck_assert_uint_eq(hk_span_purge_to(0), 100 * HK_GRANULE);
    ck_assert_uint_eq(hk_span_purge_to(0), 0);
}
END_TEST

START_TEST(neighbours_are_purged_by_one_call)
{
    struct run run = must_acquire(12, 1);
    unsigned before = fake_os_calls(FAKE_ADVISE);

    hk_span_release(run.home, run.base + 1 * HK_GRANULE, 2, true);
    hk_span_release(run.home, run.base + 3 * HK_GRANULE, 2, true);
    hk_span_release(run.home, run.base + 8 * HK_GRANULE, 1, true);
    ck_assert_uint_eq(hk_span_purge_to(0), 5 * HK_GRANULE);
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), before + 2);
    ck_assert_int_eq(fake_os_last_advice(), MADV_DONTNEED);
}
END_TEST

START_TEST(dirty_again_after_reuse_waits_again)
{
    struct run run = must_acquire(2, 1);

    release(&run, true);
    fake_clock_advance(200 * MS);
    run = must_acquire(2, 1); /* nothing is dirty any more: out of the queue */
    release(&run, true);
    ck_assert_uint_eq(hk_span_purge_expired(FAKE_CLOCK_START_NS + 300 * MS, 300 * MS), 0);
    ck_assert_uint_eq(hk_span_purge_expired(FAKE_CLOCK_START_NS + 500 * MS, 300 * MS),
                      2 * HK_GRANULE);
}
END_TEST

/* Three full regions, all of them free and dirty. */
static void free_regions(struct run run[3])
{
    fill_first_region();
    for (int i = 0; i < 3; i++)
        run[i] = must_acquire(HK_REGION_GRANULES, 1);
    for (int i = 0; i < 3; i++) {
        stamp(run[i].base, HK_REGION_BYTES, 7);
        release(&run[i], true);
    }
}

START_TEST(free_regions_are_unmapped_but_one)
{
    struct run run[3];

    free_regions(run);
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB + 3 * HK_REGION_BYTES);
    ck_assert_uint_eq(hk_span_purge_to(0), 3 * HK_REGION_BYTES);
    ck_assert_uint_eq(stats().nr_unmaps, 2);
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB + HK_REGION_BYTES);
    ck_assert_uint_eq(stats().nr_regions, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert(fake_os_none_mapped(run[i].base, HK_REGION_BYTES));
        ck_assert_uint_eq(hk_pagemap_word(run[i].base), HK_PM_GONE);
        ck_assert_uint_eq(hk_pagemap_word(run[i].base + HK_REGION_BYTES - 1), HK_PM_GONE);
    }
    ck_assert_uint_eq(hk_pagemap_word(run[2].base), HK_PM_SPAN);
    struct run again = must_acquire(HK_REGION_GRANULES, 1);
    ck_assert_ptr_eq(again.base, run[2].base);
    ck_assert(again.zero);
    ck_assert(reads_zero(again.base, HK_REGION_BYTES));
}
END_TEST

START_TEST(a_loop_over_one_region_makes_no_system_call)
{
    fill_first_region();
    struct run run = must_acquire(HK_REGION_GRANULES, 1);
    release(&run, true);
    hk_span_purge_to(0);
    unsigned before = fake_os_calls(FAKE_MAP) + fake_os_calls(FAKE_UNMAP);
    for (int i = 0; i < 100; i++) {
        run = must_acquire(HK_REGION_GRANULES, 1);
        release(&run, true);
        hk_span_purge_to(0);
    }
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP) + fake_os_calls(FAKE_UNMAP), before);
}
END_TEST

/* ---- huge pages ---------------------------------------------------------------------------- */

static size_t nr_filled; /* of the granules that are looked at, from now on */

static bool is_filled(const void *desc, const void *granule)
{
    ck_assert_ptr_eq(desc, hk_pagemap_desc(granule));
    return nr_filled && nr_filled--;
}

static bool promote(void)
{
    nr_filled = HK_REGION_GRANULES;
    return hk_span_promote(hk_os_now_ns(), is_filled);
}

/* A region, of which n granules are used, and nothing came back to it for a while. */
static struct run calm_region(size_t n)
{
    hk_policy_builtin.promote = true;
    fill_first_region();
    struct run run = must_acquire(n, 1);
    describe(&run);
    fake_clock_advance(CALM_NS);
    return run;
}

static struct run promoted_region(void)
{
    struct run run = calm_region(HK_REGION_GRANULES);

    ck_assert(promote());
    return run;
}

static void give_back(const struct run *run, size_t first, size_t n)
{
    hk_span_release(run->home, run->base + first * HK_GRANULE, n, true);
}

START_TEST(a_calm_dense_region_is_promoted)
{
    struct run run = calm_region(HK_REGION_GRANULES - HK_REGION_SLACK);

    ck_assert_uint_eq(stats().huge_bytes, 0);
    ck_assert(promote());
    ck_assert_int_eq(fake_os_last_advice(), MADV_HUGEPAGE);
    ck_assert(run.home->huge);
    ck_assert_uint_eq(stats().huge_bytes, HK_REGION_BYTES);
    ck_assert_uint_eq(stats().nr_promoted, 1);
    ck_assert(!promote()); /* the first region of the process is too small */
}
END_TEST

START_TEST(a_young_or_dirty_region_is_not)
{
    hk_policy_builtin.promote = true;
    fill_first_region();
    struct run run = must_acquire(HK_REGION_GRANULES, 1);
    describe(&run);
    ck_assert(!promote());
    give_back(&run, 0, HK_REGION_SLACK);
    fake_clock_advance(CALM_NS);
    ck_assert(!promote());
    hk_span_purge_to(0);
    ck_assert(promote());
}
END_TEST

START_TEST(others_are_not)
{
    struct run sparse = calm_region(HK_REGION_GRANULES - HK_REGION_SLACK - 1);
    unsigned before = fake_os_calls(FAKE_ADVISE);

    ck_assert(!promote());
    struct run last = must_acquire(1, 1); /* dense, and it is long ago that something came back */
    describe(&last);
    nr_filled = HK_REGION_GRANULES - HK_REGION_SLACK - 1;
    ck_assert(!hk_span_promote(hk_os_now_ns(), is_filled));
    fake_clock_advance(CALM_NS - 1);
    ck_assert(!promote()); /* not looked at again so soon */
    fake_clock_advance(1);
    give_back(&sparse, 3, 1);
    last = must_acquire(1, 1);
    describe(&last);
    ck_assert(!promote()); /* not calm */
    fake_clock_advance(CALM_NS);
    hk_policy_builtin.promote = false;
    ck_assert(!promote());
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), before);
    hk_policy_builtin.promote = true;
    ck_assert(promote());
}
END_TEST

START_TEST(no_more_than_so_many)
{
    if (MAX_PROMOTED > SIZE_MAX / HK_REGION_BYTES)
        return; /* never so many */
    calm_region(HK_REGION_GRANULES);
    span.stats.huge_bytes = MAX_PROMOTED * HK_REGION_BYTES;
    ck_assert(!promote());
    span.stats.huge_bytes = 0;
    ck_assert(promote());
}
END_TEST

START_TEST(what_nobody_described_is_not_filled)
{
    struct run run = calm_region(HK_REGION_GRANULES);

    hk_pagemap_set(run.base, HK_REGION_SLACK + 1, HK_PM_SPAN, run.home);
    ck_assert(!promote());
    fake_clock_advance(CALM_NS);
    hk_pagemap_set(run.base, HK_REGION_SLACK, HK_PM_SPAN, run.home);
    describe(&run);
    ck_assert(promote());
}
END_TEST

START_TEST(little_that_is_free_stays_in_a_promoted_region)
{
    struct run run = promoted_region();
    unsigned before = fake_os_calls(FAKE_ADVISE);

    give_back(&run, 0, HK_REGION_SLACK);
    fake_clock_advance(1000 * MS);
    ck_assert_uint_eq(hk_span_purge_expired(hk_os_now_ns(), 300 * MS), 0);
    ck_assert_uint_eq(hk_span_dirty_bytes(), HK_REGION_SLACK * HK_GRANULE);
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), before);
    hk_span_check();

    give_back(&run, 100, 1);
    ck_assert_uint_eq(hk_span_purge_expired(hk_os_now_ns() + 299 * MS, 300 * MS), 0);
    ck_assert_uint_eq(hk_span_purge_expired(hk_os_now_ns() + 300 * MS, 300 * MS), (HK_REGION_SLACK + 1) * HK_GRANULE);
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), before + 3); /* small pages first, and two runs */
    ck_assert_int_eq(fake_os_last_advice(), MADV_DONTNEED);
    ck_assert_uint_eq(stats().huge_bytes, 0);
    ck_assert_uint_eq(stats().nr_demoted, 1);
}
END_TEST

START_TEST(who_wants_all_gets_it)
{
    struct run run = promoted_region();

    give_back(&run, 0, 1);
    ck_assert_uint_eq(hk_span_purge_to(HK_GRANULE), 0);
    ck_assert_uint_eq(hk_span_purge_to(_i), HK_GRANULE); /* also who wants less than what stays in promoted regions */
    ck_assert_uint_eq(stats().huge_bytes, 0);
}
END_TEST

/* The kernel may fill what was free and clean when the region was promoted. */
START_TEST(what_was_free_before_is_purged_as_well)
{
    struct run run = calm_region(HK_REGION_GRANULES - HK_REGION_SLACK);

    ck_assert(promote());
    ck_assert_uint_eq(stats().dirty_bytes, HK_REGION_SLACK * HK_GRANULE);
    give_back(&run, 0, 1);
    ck_assert_uint_eq(hk_span_purge_to(0), (HK_REGION_SLACK + 1) * HK_GRANULE);
    ck_assert_uint_eq(stats().dirty_bytes, 0);
}
END_TEST

START_TEST(a_free_promoted_region_is_unmapped)
{
    struct run run = promoted_region(), other = must_acquire(HK_REGION_GRANULES, 1);

    release(&other, true);
    release(&run, true);
    fake_os_fail_all(FAKE_UNMAP, _i ? ENOMEM : 0);
    fake_os_fail(FAKE_ADVISE, _i == 2 ? 2 : 0, ENOMEM); /* after the other region's pages: small ones again */
    ck_assert_uint_eq(hk_span_purge_to(0), (_i == 2 ? 1 : 2) * HK_REGION_BYTES);
    ck_assert_uint_eq(stats().huge_bytes, _i == 2 ? HK_REGION_BYTES : 0);
    hk_span_check();
    hk_span_purge_to(0);
    ck_assert_uint_eq(stats().huge_bytes, 0);
    ck_assert_uint_eq(stats().nr_promoted, stats().nr_demoted);
    ck_assert_uint_eq(stats().nr_unmaps, _i ? 0 : 1);
    hk_span_check();
    fake_os_fail_all(FAKE_UNMAP, 0);
}
END_TEST

START_TEST(thp_off_takes_them_back)
{
    struct run run = promoted_region();

    give_back(&run, 5, _i ? 20 : 1); /* queued, or not */
    hk_policy_builtin.promote = false;
    ck_assert(promote());
    ck_assert_int_eq(fake_os_last_advice(), MADV_NOHUGEPAGE);
    ck_assert(!promote());
    ck_assert_uint_eq(stats().huge_bytes, 0);
    ck_assert_uint_eq(hk_span_purge_expired(hk_os_now_ns() + 300 * MS, 300 * MS), (_i ? 20 : 1) * HK_GRANULE);
}
END_TEST

START_TEST(thp_on_changes_none)
{
    promoted_region();
    hk_policy_builtin.huge_pages = true;
    hk_policy_builtin.promote = false;
    ck_assert(!promote());
    hk_policy_builtin.huge_pages = false;
    hk_policy_builtin.promote = true;
}
END_TEST

START_TEST(refused_promotions_end)
{
    calm_region(HK_REGION_GRANULES);
    unsigned before = fake_os_calls(FAKE_ADVISE);

    fake_os_fail_all(FAKE_ADVISE, EINVAL);
    for (int i = 0; i < 10; i++)
        ck_assert(!promote());
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), before + MAX_REFUSED);
    ck_assert_uint_eq(stats().nr_promoted, 0);
    fake_os_fail_all(FAKE_ADVISE, 0);
}
END_TEST

/* Else the kernel might fill the holes again. */
START_TEST(what_cannot_be_demoted_is_not_purged)
{
    struct run run = promoted_region();

    give_back(&run, 0, 20);
    fake_os_fail(FAKE_ADVISE, 1, ENOMEM);
    ck_assert_uint_eq(hk_span_purge_expired(UINT64_MAX, 300 * MS), 0);
    ck_assert_uint_eq(stats().huge_bytes, HK_REGION_BYTES);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 20 * HK_GRANULE);
    hk_span_check();
    ck_assert_uint_eq(hk_span_purge_to(0), 20 * HK_GRANULE);
    ck_assert_uint_eq(stats().huge_bytes, 0);
}
END_TEST

static struct run under_advice;
static int (*fake_advise)(void *base, size_t bytes, int advice);

/* What other threads may do meanwhile. */
static int release_while_advised(void *base, size_t bytes, int advice)
{
    hk_os_calls.advise = fake_advise;
    release(&under_advice, true);
    ck_assert_uint_eq(hk_span_purge_to(0), 0);
    ck_assert(!promote());
    return fake_advise(base, bytes, advice);
}

START_TEST(nothing_is_purged_under_advice)
{
    under_advice = calm_region(HK_REGION_GRANULES);
    fake_advise = hk_os_calls.advise;
    hk_os_calls.advise = release_while_advised;
    under_advice.n = _i ? 1 : HK_REGION_GRANULES;
    ck_assert(promote());
    ck_assert_uint_eq(hk_span_dirty_bytes(), under_advice.n * HK_GRANULE);
    hk_span_check();
    ck_assert_uint_eq(hk_span_purge_expired(hk_os_now_ns() + 300 * MS, 300 * MS), _i ? 0 : HK_REGION_BYTES);
    ck_assert_uint_eq(hk_span_purge_to(0), _i ? HK_GRANULE : 0);
    ck_assert_uint_eq(stats().huge_bytes, 0);
}
END_TEST

static int purge_while_advised(void *base, size_t bytes, int advice)
{
    hk_os_calls.advise = fake_advise;
    ck_assert_uint_eq(hk_span_purge_to(0), 0);
    return fake_advise(base, bytes, advice);
}

START_TEST(nothing_is_purged_while_it_is_taken_back)
{
    struct run run = promoted_region();

    release(&run, true);
    hk_policy_builtin.promote = false;
    fake_advise = hk_os_calls.advise;
    hk_os_calls.advise = purge_while_advised;
    ck_assert(promote());
    ck_assert_uint_eq(hk_span_purge_to(0), HK_REGION_BYTES);
}
END_TEST

static int promote_while_purged(void *base, size_t bytes, int advice)
{
    hk_os_calls.advise = fake_advise;
    fake_clock_advance(CALM_NS);
    ck_assert(!promote());
    return fake_advise(base, bytes, advice);
}

START_TEST(nothing_is_promoted_under_purge)
{
    struct run run = calm_region(HK_REGION_GRANULES);

    give_back(&run, 0, 20);
    fake_advise = hk_os_calls.advise;
    hk_os_calls.advise = promote_while_purged;
    ck_assert_uint_eq(hk_span_purge_to(0), 20 * HK_GRANULE);
}
END_TEST

/* In the child of a fork: the kernel may have heard of it. */
START_TEST(a_fork_under_advice)
{
    struct run run = calm_region(HK_REGION_GRANULES);

    nr_filled = HK_REGION_GRANULES;
    ck_assert_ptr_eq(start_advice(true, hk_os_now_ns(), is_filled), run.home);
    give_back(&run, 0, 1);
    hk_span_inherit();
    ck_assert_int_eq(fake_os_last_advice(), MADV_NOHUGEPAGE);
    ck_assert_uint_eq(hk_span_purge_to(0), HK_GRANULE);
    must_acquire(1, 1);
    fake_clock_advance(CALM_NS);
    ck_assert(promote());
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------ */

/* Map calls of a first request: descriptors, region, leaf of the page map, then the fallbacks. */
START_TEST(nth_map_refused)
{
    bool zero;
    struct hk_region *home;

    fake_os_fail(FAKE_MAP, (unsigned)_i, ENOMEM);
    void *p = hk_span_acquire(64, 1, &zero, &home);
    ck_assert_uint_eq(hk_span_used_bytes(), p ? 64 * HK_GRANULE : 0);
    ck_assert_uint_eq(stats().nr_regions, p != NULL);
    hk_span_check();
    must_acquire(1, 1); /* that one alone was refused */
}
END_TEST

START_TEST(all_maps_refused)
{
    struct hk_region *home;
    bool zero;

    struct run first = fill_first_region();
    size_t mapped = fake_os_mapped_bytes(), meta_bytes = hk_meta_mapped_bytes();
    struct hk_span_stats before = stats(), after;
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (int i = 0; i < 10000; i++)
        ck_assert_ptr_null(hk_span_acquire(1 + (size_t)i % 128, 1, &zero, &home));
    after = stats();
    ck_assert_mem_eq(&before, &after, sizeof before);
    ck_assert_uint_eq(fake_os_mapped_bytes(), mapped);
    ck_assert_uint_eq(hk_meta_mapped_bytes(), meta_bytes); /* descriptors came back each time */
    release(&first, true);
    must_acquire(64, 1); /* needs no mapping */
}
END_TEST

START_TEST(near_a_limit_a_region_is_as_small_as_the_request)
{
    fill_first_region();
    fake_os_fail(FAKE_MAP, 1, ENOMEM); /* 2 MiB */
    must_acquire(5, 1);
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB + 5 * HK_GRANULE);
    fake_os_fail(FAKE_MAP, 1, ENOMEM);
    must_acquire(8, 8);
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB + 13 * HK_GRANULE);
    must_acquire(1, 1); /* whole regions again as soon as they can be had */
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB + 13 * HK_GRANULE + HK_REGION_BYTES);
}
END_TEST

START_TEST(small_regions_go_back)
{
    struct run run[2];

    fill_first_region();
    for (int i = 0; i < 2; i++) {
        fake_os_fail(FAKE_MAP, 1, ENOMEM);
        run[i] = must_acquire(5, 1);
    }
    for (int i = 0; i < 2; i++)
        release(&run[i], true);
    ck_assert_uint_eq(hk_span_purge_to(0), 10 * HK_GRANULE);
    ck_assert_uint_eq(stats().mapped_bytes, HK_MIB + 5 * HK_GRANULE);
}
END_TEST

START_TEST(page_map_refused_leaves_no_mapping)
{
    struct hk_region *home;
    bool zero;

    ck_assert_ptr_nonnull(hk_meta_alloc(64)); /* descriptors have their memory */
    size_t mapped = fake_os_mapped_bytes();
    fake_os_fail(FAKE_MAP, 2, ENOMEM); /* the leaf, after the first region */
    struct run run = {.base = hk_span_acquire(1, 1, &zero, &home)};
    ck_assert_ptr_nonnull(run.base); /* the 2 MiB region's turn */
    ck_assert_uint_eq(stats().mapped_bytes, HK_REGION_BYTES);
    ck_assert_uint_ge(fake_os_mapped_bytes(), mapped + HK_REGION_BYTES);
    ck_assert_uint_lt(fake_os_mapped_bytes(), mapped + HK_REGION_BYTES + HK_MIB);
}
END_TEST

START_TEST(unmap_refused_keeps_the_region)
{
    struct run run[3];

    free_regions(run);
    fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    ck_assert_uint_eq(hk_span_purge_to(0), 3 * HK_REGION_BYTES); /* their pages are dropped */
    ck_assert_uint_eq(stats().nr_regions, 4);
    ck_assert_uint_eq(stats().nr_unmaps, 0);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
    hk_span_check();
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(hk_pagemap_word(run[i].base), HK_PM_SPAN);
        ck_assert(fake_os_all_mapped(run[i].base, HK_REGION_BYTES));
    }
    fake_os_fail_all(FAKE_MAP, ENOMEM); /* they serve on */
    for (int i = 0; i < 3; i++) {
        run[i] = must_acquire(HK_REGION_GRANULES, 1);
        ck_assert(run[i].zero && reads_zero(run[i].base, HK_REGION_BYTES));
    }
    fake_os_fail_all(FAKE_UNMAP, 0);
    for (int i = 0; i < 3; i++)
        release(&run[i], true);
    ck_assert_uint_eq(hk_span_purge_to(0), 3 * HK_REGION_BYTES);
    ck_assert_uint_eq(stats().nr_regions, 2);
}
END_TEST

START_TEST(unmap_and_purge_refused)
{
    struct run run[3];

    free_regions(run);
    fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    fake_os_fail_all(FAKE_ADVISE, EINVAL);
    ck_assert_uint_eq(hk_span_purge_to(0), 0);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 3 * HK_REGION_BYTES);
    hk_span_check();
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (int i = 0; i < 3; i++) {
        run[i] = must_acquire(HK_REGION_GRANULES, 1);
        ck_assert(!run[i].zero && is_stamped(run[i].base, HK_REGION_BYTES, 7));
    }
}
END_TEST

START_TEST(purge_refused_stays_dirty)
{
    static const int errors[] = {EINVAL, EPERM, ENOMEM};

    struct run run = must_acquire(6, 1), behind = must_acquire(1, 1);
    stamp(run.base, 6 * HK_GRANULE, 7);
    release(&run, true);
    fake_os_fail_all(FAKE_ADVISE, errors[_i]);
    ck_assert_uint_eq(hk_span_purge_to(0), 0);
    ck_assert_uint_eq(hk_span_purge_expired(UINT64_MAX, 0), 0);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 6 * HK_GRANULE);
    ck_assert_uint_eq(stats().nr_purged_bytes, 0);
    hk_span_check();
    run = must_acquire(3, 1);
    ck_assert(!run.zero);
    ck_assert(is_stamped(run.base, 3 * HK_GRANULE, 7));
    fake_os_fail_all(FAKE_ADVISE, 0);
    release(&behind, true); /* queues the region anew */
    ck_assert_uint_eq(hk_span_purge_to(0), 4 * HK_GRANULE);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
}
END_TEST

/* Nothing is released into it: who wants all asks again. _i: whole regions, whose unmapping is refused as well. */
START_TEST(purge_refused_is_tried_again)
{
    size_t bytes = _i ? 3 * HK_REGION_BYTES : 6 * HK_GRANULE;
    struct run run[3];
    unsigned nr;

    if (_i) {
        free_regions(run);
        fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    } else {
        run[0] = must_acquire(6, 1);
        (void)must_acquire(1, 1);
        stamp(run[0].base, bytes, 7);
        release(&run[0], true);
    }
    fake_os_fail_all(FAKE_ADVISE, EINVAL);
    ck_assert_uint_eq(hk_span_purge_to(0), 0);
    nr = fake_os_calls(FAKE_ADVISE);
    ck_assert_uint_eq(hk_span_purge_to(1), 0); /* not by who wants less */
    ck_assert_uint_eq(hk_span_purge_expired(UINT64_MAX, 0), 0);
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), nr);
    ck_assert_uint_eq(hk_span_purge_to(0), 0); /* refused once more */
    ck_assert_uint_gt(fake_os_calls(FAKE_ADVISE), nr);
    fake_os_fail_all(FAKE_ADVISE, 0);
    ck_assert_uint_eq(hk_span_purge_to(0), bytes);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
    nr = fake_os_calls(FAKE_ADVISE);
    ck_assert_uint_eq(hk_span_purge_to(0), 0);
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), nr);
    hk_span_check();
}
END_TEST

START_TEST(purge_refused_in_part)
{
    struct run run = must_acquire(12, 1);

    stamp(run.base, 12 * HK_GRANULE, 7);
    hk_span_release(run.home, run.base, 2, true);
    hk_span_release(run.home, run.base + 4 * HK_GRANULE, 3, true);
    fake_os_fail(FAKE_ADVISE, 1, EINVAL);
    ck_assert_uint_eq(hk_span_purge_to(0), 3 * HK_GRANULE);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 2 * HK_GRANULE);
    struct run gone = must_acquire(3, 1), kept = must_acquire(2, 1);
    ck_assert_ptr_eq(gone.base, run.base + 4 * HK_GRANULE);
    ck_assert(gone.zero && reads_zero(gone.base, 3 * HK_GRANULE));
    ck_assert(!kept.zero);
    ck_assert(is_stamped(kept.base, 2 * HK_GRANULE, 7));
}
END_TEST

/* ---- against a shadow map ------------------------------------------------------------------ */

#define MAX_RUNS 200

static struct shadow {
    struct run run;
    uint64_t id; /* what every granule of it is stamped with; 0: untouched, reads as zero */
} live[MAX_RUNS];
static unsigned nr_live;
static uint64_t next_id = 1;
static bool refusals, promotions;

static size_t live_bytes(void)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < nr_live; i++)
        bytes += live[i].run.n * HK_GRANULE;
    return bytes;
}

static void must_be_intact(const struct shadow *s)
{
    if (s->id)
        ck_assert_msg(is_stamped(s->run.base, s->run.n * HK_GRANULE, s->id),
                      "run of %zu granules overwritten", s->run.n);
    else
        ck_assert(reads_zero(s->run.base, s->run.n * HK_GRANULE));
}

/* Stamps that are not overwritten by a neighbour are the proof that runs do not overlap. */
static void touch(struct shadow *s)
{
    s->id = next_id++;
    stamp(s->run.base, s->run.n * HK_GRANULE, s->id);
}

static void step_acquire(void)
{
    struct shadow *s = &live[nr_live];
    size_t n = one_in(8) ? 1 + below(HK_REGION_GRANULES) : 1 + below(12);
    size_t align = one_in(3) ? (size_t)1 << below(8) : 1;

    s->run.n = n;
    s->run.base = hk_span_acquire(n, align, &s->run.zero, &s->run.home);
    if (!s->run.base)
        return; /* a map that the test refused */
    ck_assert_uint_eq((uintptr_t)s->run.base % (align * HK_GRANULE), 0);
    ck_assert_uint_eq(hk_pagemap_word(s->run.base), HK_PM_SPAN);
    ck_assert_ptr_eq(hk_pagemap_desc(s->run.base + (n - 1) * HK_GRANULE), s->run.home);
    s->id = 0;
    if (s->run.zero)
        ck_assert_msg(reads_zero(s->run.base, n * HK_GRANULE), "said to be zero, is not");
    if (!s->run.zero || !one_in(3))
        touch(s);
    describe(&s->run);
    nr_live++;
}

static void drop(unsigned i)
{
    live[i] = live[--nr_live];
}

static void step_release(unsigned i)
{
    struct shadow *s = &live[i];
    size_t n = 1 + below(s->run.n);

    must_be_intact(s);
    if (one_in(4)) { /* the tail */
        s->run.n -= n;
        hk_span_release(s->run.home, s->run.base + s->run.n * HK_GRANULE, n, s->id != 0);
    } else if (one_in(4)) { /* the head */
        hk_span_release(s->run.home, s->run.base, n, s->id != 0);
        s->run.base += n * HK_GRANULE;
        s->run.n -= n;
    } else {
        release(&s->run, s->id != 0);
        s->run.n = 0;
    }
    if (s->run.n == 0)
        drop(i);
}

static void step_purge(void)
{
    size_t before = hk_span_dirty_bytes(), keep = below(before + HK_GRANULE), returned;
    bool by_age = one_in(2);

    fake_clock_advance(below(20) * MS);
    if (by_age)
        returned = hk_span_purge_expired(hk_os_now_ns(), below(40) * MS);
    else
        returned = hk_span_purge_to(keep);
    /* Where unmap and purge are both refused, what was clean counts as dirty. */
    if (refusals)
        ck_assert_uint_ge(hk_span_dirty_bytes() + returned, before);
    else
        ck_assert_uint_eq(hk_span_dirty_bytes() + returned, before);
    if (!refusals && !promotions && !by_age)
        ck_assert_uint_le(hk_span_dirty_bytes(), keep);
}

static bool mostly_filled(const void *desc, const void *granule)
{
    return !one_in(2000) && desc && granule;
}

static void step_promote(void)
{
    hk_policy_builtin.promote = !one_in(4);
    fake_clock_advance(below(5000) * MS);
    while (hk_span_promote(hk_os_now_ns(), mostly_filled))
        continue;
    span.nr_refused = 0;
}

static void step_refuse(void)
{
    static const int errors[] = {ENOMEM, EINVAL, EPERM};
    static const enum fake_call calls[] = {FAKE_MAP, FAKE_UNMAP, FAKE_ADVISE};

    fake_os_fail(calls[below(3)], 1 + (unsigned)below(4), errors[below(3)]);
}

static void verify(void)
{
    struct hk_span_stats s = stats();

    hk_span_check();
    ck_assert_uint_eq(s.used_bytes, live_bytes());
    ck_assert_uint_le(s.used_bytes + s.dirty_bytes, s.mapped_bytes);
    for (unsigned i = 0; i < nr_live; i++)
        must_be_intact(&live[i]);
}

static void random_stream(void)
{
    for (int step = 0; step < 6000; step++) {
        unsigned kind = (unsigned)below(100);

        if (refusals && one_in(20))
            step_refuse();
        if (promotions && one_in(10))
            step_promote();
        if ((kind < 50 && nr_live < MAX_RUNS) || nr_live == 0)
            step_acquire();
        else if (kind < 97)
            step_release((unsigned)below(nr_live));
        else
            step_purge();
        if (step % 500 == 0)
            verify();
    }
    verify();
    while (nr_live)
        step_release(nr_live - 1);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}

START_TEST(random_runs)
{
    start_random((unsigned)_i);
    random_stream();
    hk_span_purge_to(0);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
    /* Nothing dirty is left, so whatever is handed out must read as zero. */
    for (int i = 0; i < 50; i++) {
        struct run run = must_acquire(1 + below(HK_REGION_GRANULES), 1);
        ck_assert(run.zero);
        ck_assert(reads_zero(run.base, run.n * HK_GRANULE));
    }
}
END_TEST

START_TEST(random_runs_in_huge_pages)
{
    start_random(200 + (unsigned)_i);
    promotions = true;
    refusals = _i >= 2;
    random_stream();
    ck_assert_uint_gt(stats().nr_promoted, 20);
    ck_assert_uint_gt(stats().nr_demoted, 10);
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

static struct hk_region *damaged;

static void lose_dirty_bytes(void)
{
    span.stats.dirty_bytes += HK_GRANULE;
    hk_span_check();
}

static void use_a_dirty_granule(void)
{
    damaged->used.w[0] |= damaged->dirty.w[0];
    hk_span_check();
}

static void forget_to_rebin(void)
{
    damaged->used.w[1] = 0;
    hk_span_check();
}

static void hang_in_wrong_bin(void)
{
    damaged->bin++;
    hk_span_check();
}

static void hand_out_too_much(void)
{
    span.stats.used_bytes = span.stats.mapped_bytes + 1;
    hk_span_check();
}

static void promote_a_sparse_one(void)
{
    damaged->huge = true;
    hk_span_check();
}

static void lose_a_promotion(void)
{
    span.stats.huge_bytes = HK_REGION_BYTES;
    hk_span_check();
}

static void release_twice(void)
{
    struct run run = {damaged->base, damaged, 1, false};

    release(&run, true);
}

START_TEST(check_finds_damage)
{
    must_acquire(65, 1);
    struct run run = must_acquire(20, 1);
    damaged = run.home;
    hk_span_release(damaged, damaged->base, 1, true);
    hk_span_check();
    must_panic(lose_dirty_bytes, "span: dirty bytes do not add up");
    must_panic(use_a_dirty_granule, "span: granule both used and dirty");
    must_panic(forget_to_rebin, "span: longest free run");
    must_panic(hang_in_wrong_bin, "span: region in the wrong bin");
    must_panic(hand_out_too_much, "span: more handed out than mapped");
    must_panic(promote_a_sparse_one, "span: promoted region with holes");
    must_panic(lose_a_promotion, "span: promoted regions do not add up");
    if (HK_DEBUG)
        must_panic(release_twice, "count_bits(&home->used, from, n) == n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("span");
    TCase *tc = new_case(suite, "acquire", setup, teardown);

    tcase_add_test(tc, fresh_run_is_zero_and_ours);
    tcase_add_test(tc, first_region_is_small);
    tcase_add_test(tc, first_request_may_need_more_than_the_small_region);
    tcase_add_test(tc, huge_pages_are_refused_for_full_regions);
    tcase_add_test(tc, every_size_and_alignment);
    tcase_add_test(tc, released_words_are_span_again);
    tcase_add_test(tc, dirty_run_is_not_zero_clean_one_is);
    tcase_add_test(tc, any_part_may_be_released);
    tcase_add_test(tc, tightest_region_first);

    tc = new_case(suite, "memory goes back", setup, teardown);
    tcase_add_test(tc, purge_waits_for_the_delay);
    tcase_add_test(tc, purge_takes_the_oldest_alone);
    tcase_add_test(tc, purge_to_keeps_the_bound);
    tcase_add_test(tc, neighbours_are_purged_by_one_call);
    tcase_add_test(tc, dirty_again_after_reuse_waits_again);
    tcase_add_test(tc, free_regions_are_unmapped_but_one);
    tcase_add_test(tc, a_loop_over_one_region_makes_no_system_call);

    tc = new_case(suite, "huge pages", setup, teardown);
    tcase_add_test(tc, a_calm_dense_region_is_promoted);
    tcase_add_test(tc, a_young_or_dirty_region_is_not);
    tcase_add_test(tc, others_are_not);
    tcase_add_test(tc, no_more_than_so_many);
    tcase_add_test(tc, what_nobody_described_is_not_filled);
    tcase_add_test(tc, little_that_is_free_stays_in_a_promoted_region);
    tcase_add_loop_test(tc, who_wants_all_gets_it, 0, 2);
    tcase_add_test(tc, what_was_free_before_is_purged_as_well);
    tcase_add_loop_test(tc, a_free_promoted_region_is_unmapped, 0, 3);
    tcase_add_loop_test(tc, thp_off_takes_them_back, 0, 2);
    tcase_add_test(tc, thp_on_changes_none);
    tcase_add_test(tc, refused_promotions_end);
    tcase_add_test(tc, what_cannot_be_demoted_is_not_purged);
    tcase_add_loop_test(tc, nothing_is_purged_under_advice, 0, 2);
    tcase_add_test(tc, nothing_is_purged_while_it_is_taken_back);
    tcase_add_test(tc, nothing_is_promoted_under_purge);
    tcase_add_test(tc, a_fork_under_advice);

    tc = new_case(suite, "refusals", setup, teardown);
    tcase_add_loop_test(tc, nth_map_refused, 1, 8);
    tcase_add_test(tc, all_maps_refused);
    tcase_add_test(tc, near_a_limit_a_region_is_as_small_as_the_request);
    tcase_add_test(tc, small_regions_go_back);
    tcase_add_test(tc, page_map_refused_leaves_no_mapping);
    tcase_add_test(tc, unmap_refused_keeps_the_region);
    tcase_add_test(tc, unmap_and_purge_refused);
    tcase_add_loop_test(tc, purge_refused_stays_dirty, 0, 3);
    tcase_add_loop_test(tc, purge_refused_is_tried_again, 0, 2);
    tcase_add_test(tc, purge_refused_in_part);

    tc = new_case(suite, "random", setup, teardown);
    tcase_add_loop_test(tc, random_runs, 0, 3);
    tcase_add_loop_test(tc, random_runs_under_refusals, 0, 3);
    tcase_add_loop_test(tc, random_runs_in_huge_pages, 0, 4);
    tcase_add_test(tc, check_finds_damage);
    return run_suite(suite);
}
