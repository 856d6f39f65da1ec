// SPDX-License-Identifier: MIT
#include "batch/batch.h"

#include "os/os.h"

#include "fake_os.h"
#include "support.h"

#include <errno.h>
#include <sys/mman.h>

static const struct hk_batch_counters *counters;
static size_t page;

static void setup(void)
{
    fake_os_install();
    counters = hk_batch_counters();
    page = hk_os_page_bytes();
}

static void teardown(void)
{
    hk_batch_check();
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static char *must_map(size_t pages)
{
    char *p = hk_os_reserve(pages * page, page);

    ck_assert_ptr_nonnull(p);
    return p;
}

START_TEST(off_means_at_once)
{
    char *p = must_map(4);

    hk_batch_unmap(p, 4 * page, false);
    ck_assert(fake_os_none_mapped(p, 4 * page));
    ck_assert_uint_eq(hk_batch_pending_bytes(), 0);
    ck_assert_uint_eq(counters->nr_immediate, 1);
    ck_assert_uint_eq(counters->nr_unmaps, 1);
    ck_assert_uint_eq(counters->nr_queued, 0);
}
END_TEST

START_TEST(on_means_later)
{
    char *p = must_map(4);

    hk_batch_unmap(p, 4 * page, true);
    ck_assert(fake_os_all_mapped(p, 4 * page));
    ck_assert_uint_eq(hk_batch_pending_bytes(), 4 * page);
    ck_assert_uint_eq(counters->nr_queued, 1);
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), 0);
    hk_batch_check();
    hk_batch_flush();
    ck_assert(fake_os_none_mapped(p, 4 * page));
    ck_assert_uint_eq(hk_batch_pending_bytes(), 0);
    ck_assert_uint_eq(counters->nr_flushes, 1);
    hk_batch_flush(); /* nothing to do */
    ck_assert_uint_eq(counters->nr_flushes, 1);
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), 1);
}
END_TEST

/* Handed over in any order, unmapped by one call. */
START_TEST(neighbours_are_merged)
{
    static const int order[] = {3, 0, 5, 1, 4, 2};
    char *p = must_map(20);

    for (int i = 0; i < 6; i++)
        hk_batch_unmap(p + (size_t)order[i] * 2 * page, 2 * page, true);
    hk_batch_unmap(p + 14 * page, 6 * page, true); /* past a gap */
    hk_batch_flush();
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), 2);
    ck_assert_uint_eq(counters->nr_unmaps, 2);
    ck_assert(fake_os_none_mapped(p, 12 * page));
    ck_assert(fake_os_all_mapped(p + 12 * page, 2 * page));
    ck_assert(fake_os_none_mapped(p + 14 * page, 6 * page));
}
END_TEST

START_TEST(full_queue_is_emptied)
{
    char *p = must_map(2 * HK_BATCH_SLOTS);

    for (size_t i = 0; i < HK_BATCH_SLOTS - 1; i++)
        hk_batch_unmap(p + 2 * i * page, page, true);
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), 0);
    hk_batch_unmap(p + 2 * (HK_BATCH_SLOTS - 1) * page, page, true);
    ck_assert_uint_eq(hk_batch_pending_bytes(), 0);
    ck_assert_uint_eq(counters->nr_unmaps, HK_BATCH_SLOTS);
    ck_assert_uint_eq(fake_os_mapped_bytes(), HK_BATCH_SLOTS * page);
}
END_TEST

START_TEST(heavy_queue_is_emptied)
{
    size_t bytes = HK_BATCH_MAX_BYTES / 2;

    hk_batch_unmap(must_map(bytes / page), bytes, true);
    hk_batch_unmap(must_map(bytes / page), bytes, true);
    ck_assert_uint_eq(hk_batch_pending_bytes(), HK_BATCH_MAX_BYTES);
    hk_batch_unmap(must_map(1), page, true);
    ck_assert_uint_eq(hk_batch_pending_bytes(), 0);
    ck_assert_uint_eq(fake_os_mapped_bytes(), 0);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------ */

START_TEST(refused_range_is_purged_and_tried_again)
{
    char *p = must_map(4);

    stamp(p, 4 * page, 7);
    hk_batch_unmap(p, 4 * page, true);
    fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    hk_batch_flush();
    ck_assert_uint_eq(counters->nr_refused, 1);
    ck_assert_uint_eq(counters->nr_unmaps, 0);
    ck_assert_uint_eq(hk_batch_pending_bytes(), 4 * page);
    ck_assert_int_eq(fake_os_last_advice(), MADV_DONTNEED);
    ck_assert(reads_zero(p, 4 * page));
    hk_batch_check();
    fake_os_fail_all(FAKE_UNMAP, 0);
    hk_batch_flush();
    ck_assert_uint_eq(hk_batch_pending_bytes(), 0);
    ck_assert(fake_os_none_mapped(p, 4 * page));
    ck_assert_uint_eq(counters->nr_lost_bytes, 0);
}
END_TEST

START_TEST(refused_at_once_is_queued)
{
    char *p = must_map(4);

    fake_os_fail(FAKE_UNMAP, 1, ENOMEM);
    fake_os_fail(FAKE_ADVISE, 1, EINVAL); /* nor purged */
    hk_batch_unmap(p, 4 * page, false);
    ck_assert_uint_eq(hk_batch_pending_bytes(), 4 * page);
    hk_batch_flush();
    ck_assert_uint_eq(fake_os_mapped_bytes(), 0);
}
END_TEST

START_TEST(one_refused_of_many)
{
    char *p = must_map(20);

    for (size_t i = 0; i < 10; i++)
        hk_batch_unmap(p + 2 * i * page, page, true);
    fake_os_fail(FAKE_UNMAP, (unsigned)_i, ENOMEM);
    hk_batch_flush();
    ck_assert_uint_eq(hk_batch_pending_bytes(), page);
    ck_assert_uint_eq(counters->nr_unmaps, 9);
    hk_batch_flush();
    ck_assert_uint_eq(fake_os_mapped_bytes(), 10 * page);
}
END_TEST

/* No room for what the kernel does not take: leaked, and counted. */
START_TEST(queue_full_of_refused_ranges)
{
    size_t nr = HK_BATCH_SLOTS + 10;
    char *p = must_map(2 * nr);

    fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    for (size_t i = 0; i < nr; i++)
        hk_batch_unmap(p + 2 * i * page, page, true);
    ck_assert_uint_eq(hk_batch_pending_bytes(), HK_BATCH_SLOTS * page);
    ck_assert_uint_eq(counters->nr_lost_bytes, 10 * page);
    hk_batch_check();
    fake_os_fail_all(FAKE_UNMAP, 0);
    hk_batch_flush();
    ck_assert_uint_eq(hk_batch_pending_bytes(), 0);
    ck_assert_uint_eq(fake_os_mapped_bytes(), nr * page + counters->nr_lost_bytes);
}
END_TEST

/* Mapped == still live + pending + lost, after every step. */
START_TEST(random_ranges)
{
    size_t live_bytes = 0;
    char *p = NULL;
    size_t left = 0;

    start_random((unsigned)_i);
    for (int step = 0; step < 4000; step++) {
        if (left == 0) {
            left = 1 + below(40);
            p = must_map(left);
            live_bytes += left * page;
        }
        if (one_in(10))
            fake_os_fail(FAKE_UNMAP, 1 + (unsigned)below(3), one_in(2) ? ENOMEM : EINVAL);
        if (one_in(50))
            fake_os_fail_all(FAKE_UNMAP, one_in(3) ? ENOMEM : 0);
        if (one_in(40))
            hk_batch_flush();
        size_t n = 1 + below(left);
        hk_batch_unmap(p, n * page, !one_in(5));
        p += n * page;
        left -= n;
        live_bytes -= n * page;
        hk_batch_check();
        if (step % 50 == 0)
            ck_assert_uint_eq(fake_os_mapped_bytes(),
                              live_bytes + hk_batch_pending_bytes() + counters->nr_lost_bytes);
    }
    fake_os_fail_all(FAKE_UNMAP, 0);
    while (hk_batch_pending_bytes())
        hk_batch_flush();
    ck_assert_uint_eq(fake_os_mapped_bytes(), live_bytes + counters->nr_lost_bytes);
}
END_TEST

/* ---- negative controls --------------------------------------------------------------------- */

static void miscount(void)
{
    ((struct hk_batch_counters *)(uintptr_t)counters)->pending_bytes++;
    hk_batch_check();
}

START_TEST(check_finds_damage)
{
    hk_batch_unmap(must_map(1), page, true);
    must_panic(miscount, "batch: pending bytes");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batch");
    TCase *tc = new_case(suite, "queue", setup, teardown);

    tcase_add_test(tc, off_means_at_once);
    tcase_add_test(tc, on_means_later);
    tcase_add_test(tc, neighbours_are_merged);
    tcase_add_test(tc, full_queue_is_emptied);
    tcase_add_test(tc, heavy_queue_is_emptied);

    tc = new_case(suite, "refusals", setup, teardown);
    tcase_add_test(tc, refused_range_is_purged_and_tried_again);
    tcase_add_test(tc, refused_at_once_is_queued);
    tcase_add_loop_test(tc, one_refused_of_many, 1, 4);
    tcase_add_test(tc, queue_full_of_refused_ranges);

    tc = new_case(suite, "random", setup, teardown);
    tcase_add_loop_test(tc, random_ranges, 0, 3);
    tcase_add_test(tc, check_finds_damage);
    return run_suite(suite);
}
