// SPDX-License-Identifier: MIT
/* The map never touches the memory it speaks of, so most addresses here are plain numbers. */
#include "pagemap/pagemap.h"

#include "os/os.h"

#include "fake_os.h"
#include "support.h"

#include <errno.h>

#define LEAF_SPAN ((uintptr_t)1 << HK_ROOT_SHIFT)
#define AT(a) ((void *)(uintptr_t)(a))

static int desc; /* its address is all that counts */

static void setup(void)
{
    fake_os_install();
}

static void teardown(void)
{
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

START_TEST(nothing_is_known_at_first)
{
    int local;

    start_random(0);
    ck_assert_uint_eq(hk_pagemap_word(NULL), HK_PM_UNKNOWN);
    ck_assert_uint_eq(hk_pagemap_word(&local), HK_PM_UNKNOWN);
    ck_assert_uint_eq(hk_pagemap_word(&desc), HK_PM_UNKNOWN);
    ck_assert_uint_eq(hk_pagemap_word(AT(UINTPTR_MAX)), HK_PM_UNKNOWN);
    for (unsigned bit = 0; bit < sizeof(void *) * 8; bit++)
        ck_assert_uint_eq(hk_pagemap_word(AT((uintptr_t)1 << bit)), HK_PM_UNKNOWN);
    for (int i = 0; i < 100000; i++)
        ck_assert_uint_eq(hk_pagemap_word(AT(next_random())), HK_PM_UNKNOWN);
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), 0);
}
END_TEST

START_TEST(words_and_descriptors_are_read_back)
{
    uintptr_t base = 5 * LEAF_SPAN + 7 * HK_GRANULE;

    ck_assert(hk_pagemap_cover(AT(base), 3 * HK_GRANULE));
    hk_pagemap_set(AT(base), 3, HK_PM_SPAN, &desc);
    for (uintptr_t a = base; a < base + 3 * HK_GRANULE; a += 1000) {
        ck_assert_uint_eq(hk_pagemap_word(AT(a)), HK_PM_SPAN);
        ck_assert_ptr_eq(hk_pagemap_desc(AT(a)), &desc);
    }
    ck_assert_uint_eq(hk_pagemap_word(AT(base - 1)), HK_PM_UNKNOWN);
    ck_assert_uint_eq(hk_pagemap_word(AT(base + 3 * HK_GRANULE)), HK_PM_UNKNOWN);
    ck_assert_uint_eq(hk_pagemap_word(AT(base + LEAF_SPAN)), HK_PM_UNKNOWN);
    ck_assert_uint_eq(hk_pagemap_word(AT(base - LEAF_SPAN)), HK_PM_UNKNOWN);
    hk_pagemap_set(AT(base + HK_GRANULE), 1, HK_PM_GONE, NULL);
    ck_assert_uint_eq(hk_pagemap_word(AT(base + HK_GRANULE - 1)), HK_PM_SPAN);
    ck_assert_uint_eq(hk_pagemap_word(AT(base + HK_GRANULE)), HK_PM_GONE);
    ck_assert_ptr_null(hk_pagemap_desc(AT(base + HK_GRANULE)));
    ck_assert_uint_eq(hk_pagemap_word(AT(base + 2 * HK_GRANULE)), HK_PM_SPAN);
}
END_TEST

START_TEST(both_ends_of_the_address_space)
{
    uintptr_t top = (uintptr_t)((UINT64_C(1) << HK_ADDRESS_BITS) - HK_GRANULE);

    ck_assert(hk_pagemap_cover(AT(0), 1));
    ck_assert(hk_pagemap_cover(AT(top), HK_GRANULE));
    hk_pagemap_set(AT(top), 1, HK_PM_RUN, &desc);
    ck_assert_uint_eq(hk_pagemap_word(AT(top + HK_GRANULE - 1)), HK_PM_RUN);
    if (sizeof(void *) == 8) {
        ck_assert(!hk_pagemap_in_range(top + HK_GRANULE));
        ck_assert_uint_eq(hk_pagemap_word(AT(top + HK_GRANULE)), HK_PM_UNKNOWN);
        ck_assert(!hk_pagemap_cover(AT(top), 2 * HK_GRANULE));
        ck_assert(!hk_pagemap_cover(AT(top + HK_GRANULE), 1));
    }
}
END_TEST

START_TEST(a_range_may_cross_leaves)
{
    uintptr_t base = 9 * LEAF_SPAN - 2 * HK_GRANULE;

    ck_assert(hk_pagemap_cover(AT(base), 2 * LEAF_SPAN));
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), 3);
    hk_pagemap_set(AT(base), 4, HK_PM_SPAN, &desc);
    for (uintptr_t i = 0; i < 4; i++)
        ck_assert_uint_eq(hk_pagemap_word(AT(base + i * HK_GRANULE)), HK_PM_SPAN);
    ck_assert_uint_eq(hk_pagemap_word(AT(base + 4 * HK_GRANULE)), HK_PM_UNKNOWN);
}
END_TEST

START_TEST(covered_once_is_covered)
{
    ck_assert_uint_eq(hk_pagemap_mapped_bytes(), 0);
    ck_assert(hk_pagemap_cover(AT(3 * LEAF_SPAN), 1));
    ck_assert(hk_pagemap_cover(AT(3 * LEAF_SPAN), LEAF_SPAN));
    ck_assert(hk_pagemap_cover(AT(4 * LEAF_SPAN - 1), 1));
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), 1);
    ck_assert_uint_eq(hk_pagemap_mapped_bytes(), sizeof(struct hk_pm_leaf));
    ck_assert_uint_eq(fake_os_mapped_bytes(), sizeof(struct hk_pm_leaf));
}
END_TEST

START_TEST(map_refused)
{
    fake_os_fail(FAKE_MAP, (unsigned)_i, ENOMEM);
    ck_assert(!hk_pagemap_cover(AT(20 * LEAF_SPAN), 3 * LEAF_SPAN));
    ck_assert_uint_eq(hk_pagemap_mapped_bytes(), ((size_t)_i - 1) * sizeof(struct hk_pm_leaf));
    for (uintptr_t i = 0; i < 3; i++)
        ck_assert_uint_eq(hk_pagemap_word(AT((20 + i) * LEAF_SPAN)), HK_PM_UNKNOWN);
    ck_assert(hk_pagemap_cover(AT(20 * LEAF_SPAN), 3 * LEAF_SPAN));
    ck_assert_uint_eq(hk_pagemap_mapped_bytes(), 3 * sizeof(struct hk_pm_leaf));
}
END_TEST

START_TEST(huge_pages_refused_is_harmless)
{
    fake_os_fail_all(FAKE_ADVISE, EINVAL);
    ck_assert(hk_pagemap_cover(AT(LEAF_SPAN), 1));
}
END_TEST

/* Leaves that are had before the range is. */
START_TEST(stock_covers_without_a_system_call)
{
    uintptr_t base = (sizeof(void *) > 4 ? 40 : 1) * LEAF_SPAN + (_i ? HK_GRANULE : 0);
    size_t leaf = sizeof(struct hk_pm_leaf), covered = _i ? 3 : 2;
    struct hk_pm_stock stock;
    unsigned nr_maps;

    if (_i == 2)
        ck_assert(hk_pagemap_cover(AT(base), 1)); /* one of them is there */
    ck_assert(hk_pagemap_stock(&stock, 2 * LEAF_SPAN));
    ck_assert_uint_eq(fake_os_mapped_bytes(), (_i == 2 ? 5 : 4) * leaf);
    nr_maps = fake_os_calls(FAKE_MAP);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    hk_pagemap_use_stock(&stock, AT(base), 2 * LEAF_SPAN);
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), nr_maps);
    ck_assert_uint_eq(fake_os_mapped_bytes(), covered * leaf); /* the rest went back */
    ck_assert_uint_eq(hk_pagemap_mapped_bytes(), covered * leaf);
    hk_pagemap_set(AT(base), 2 * LEAF_SPAN / HK_GRANULE, HK_PM_FREE, &desc);
    ck_assert_uint_eq(hk_pagemap_word(AT(base)), HK_PM_FREE);
    ck_assert_uint_eq(hk_pagemap_word(AT(base + 2 * LEAF_SPAN - 1)), HK_PM_FREE);
    ck_assert_uint_eq(hk_pagemap_word(AT(base + 2 * LEAF_SPAN)), HK_PM_UNKNOWN);
}
END_TEST

START_TEST(stock_that_is_not_wanted_goes_back)
{
    struct hk_pm_stock stock;

    ck_assert(hk_pagemap_stock(&stock, 3 * LEAF_SPAN));
    hk_pagemap_use_stock(&stock, NULL, 3 * LEAF_SPAN);
    ck_assert_uint_eq(fake_os_mapped_bytes(), 0);
    ck_assert_uint_eq(hk_pagemap_mapped_bytes(), 0);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    ck_assert(!hk_pagemap_stock(&stock, LEAF_SPAN));
}
END_TEST

#define NR_GRANULES 4096

START_TEST(random_sets)
{
    static uintptr_t word[NR_GRANULES];
    uintptr_t base = 31 * LEAF_SPAN - NR_GRANULES / 2 * HK_GRANULE;

    start_random(1);
    ck_assert(hk_pagemap_cover(AT(base), NR_GRANULES * HK_GRANULE));
    for (int step = 0; step < 5000; step++) {
        size_t from = below(NR_GRANULES), n = 1 + below(hk_min(40, NR_GRANULES - from));
        uintptr_t value = next_random();
        hk_pagemap_set(AT(base + from * HK_GRANULE), n, value, AT(~value));
        for (size_t i = from; i < from + n; i++)
            word[i] = value;
        size_t look = below(NR_GRANULES);
        uintptr_t a = base + look * HK_GRANULE + below(HK_GRANULE);
        ck_assert_uint_eq(hk_pagemap_word(AT(a)), word[look]);
        if (word[look])
            ck_assert_ptr_eq(hk_pagemap_desc(AT(a)), AT(~word[look]));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pagemap");
    TCase *tc = new_case(suite, "words", setup, teardown);

    tcase_add_test(tc, nothing_is_known_at_first);
    tcase_add_test(tc, words_and_descriptors_are_read_back);
    tcase_add_test(tc, both_ends_of_the_address_space);
    tcase_add_test(tc, a_range_may_cross_leaves);
    tcase_add_test(tc, covered_once_is_covered);
    tcase_add_loop_test(tc, map_refused, 1, 4);
    tcase_add_test(tc, huge_pages_refused_is_harmless);
    tcase_add_loop_test(tc, stock_covers_without_a_system_call, 0, 3);
    tcase_add_test(tc, stock_that_is_not_wanted_goes_back);
    tcase_add_test(tc, random_sets);
    return run_suite(suite);
}
