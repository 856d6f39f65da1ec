// SPDX-License-Identifier: MIT
/* ucb1 and the fixed-point functions below it, against floating point. */
#include "ucb1/ucb1.h"

#include "base/fixed.h"

#include "support.h"

#include <math.h>

static void setup(void)
{
}

static void teardown(void)
{
}

START_TEST(fixed_point_is_exact_enough)
{
    for (uint32_t n = 1; n < 100000; n++)
        ck_assert_double_lt(fabs(hk_fixed_ln(n) / 65536.0 - log(n)), 3.0 / 65536);
    ck_assert_double_lt(fabs(hk_fixed_ln(UINT32_MAX) / 65536.0 - log(UINT32_MAX)), 3.0 / 65536);
    for (uint32_t i = 0; i < 100000; i++) {
        uint32_t x = (uint32_t)(i * UINT64_C(42949));
        ck_assert_double_lt(fabs(hk_fixed_sqrt(x) / 65536.0 - sqrt(x / 65536.0)), 1.0 / 65536 + 1e-12);
    }
    for (int32_t x = -16 * 65536; x < 15 * 65536; x += 37) {
        double exact = exp2(x / 65536.0);
        ck_assert_double_lt(fabs(hk_fixed_exp2(x) / 65536.0 - exact), (1 + 3 * exact) / 65536);
    }
    ck_assert_uint_eq(hk_fixed_exp2(-18 * 65536), 0);
    ck_assert_uint_eq(hk_fixed_isqrt(UINT64_MAX), UINT32_MAX);
    ck_assert_uint_eq(hk_fixed_isqrt(0), 0);
}
END_TEST

START_TEST(bonus_is_that_of_the_paper)
{
    for (unsigned all = 2; all <= HK_UCB1_WINDOW; all++)
        for (unsigned n = 1; n <= all; n++)
            ck_assert_double_lt(fabs(hk_ucb1_bonus(all, n) / 65536.0 - sqrt(2 * log(all) / n)), 2e-3);
}
END_TEST

/* The same rules in floating point; untried arms stand above all. */
static double exact_index(const struct hk_ucb1 *u, unsigned arm)
{
    unsigned first = u->incumbent ? u->incumbent - 1u : 0;
    unsigned last = u->incumbent + 1u < u->nr_arms ? u->incumbent + 1u : u->incumbent;
    double dearest = 1;

    if (arm < first || arm > last)
        return -1;
    if (arm != u->incumbent && u->n[arm] >= 2 && u->n[u->incumbent] &&
        (double)(u->sum[arm] / u->n[arm]) > 2.0 * (double)(u->sum[u->incumbent] / u->n[u->incumbent]) + u->least)
        return -1;
    for (unsigned a = first; a <= last; a++)
        if (u->n[a])
            dearest = fmax(dearest, (double)u->sum[a] / u->n[a]);
    return u->n[arm] ? (dearest - (double)u->sum[arm] / u->n[arm]) / dearest +
                           sqrt(2 * log(u->nr_trials) / u->n[arm])
                     : HUGE_VAL;
}

START_TEST(choices_are_those_of_the_reference)
{
    struct hk_ucb1 u;

    start_random(_i);
    hk_ucb1_init(&u, 2 + (unsigned)below(5), 1);
    for (unsigned i = 0; i < 2000; i++) {
        unsigned arm = hk_ucb1_choose(&u);
        double mine = exact_index(&u, arm);
        for (unsigned other = 0; other < u.nr_arms; other++)
            ck_assert(isinf(mine) || mine >= exact_index(&u, other) - 2e-3);
        ck_assert_int_le(abs((int)arm - u.incumbent), 1); /* one step at a time */
        hk_ucb1_note(&u, arm, (uint32_t)(10000 + 1000 * arm + below(20000)), 0);
        hk_ucb1_check(&u);
    }
}
END_TEST

static void play(struct hk_ucb1 *u, unsigned rounds, const uint32_t cost[], unsigned noise)
{
    for (unsigned i = 0; i < rounds; i++) {
        unsigned arm = hk_ucb1_choose(u);
        hk_ucb1_note(u, arm, cost[arm] + (uint32_t)(noise ? below(noise) : 0), 2000);
    }
}

START_TEST(finds_the_cheapest_and_follows_it)
{
    static const uint32_t rising[] = {10000, 20000, 40000, 80000}, falling[] = {80000, 40000, 20000, 10000};
    struct hk_ucb1 u;

    start_random(1);
    hk_ucb1_init(&u, 4, 2);
    play(&u, 60, rising, 1500);
    ck_assert_uint_eq(u.incumbent, 0);
    play(&u, 200, falling, 1500); /* the window forgets */
    ck_assert_uint_eq(u.incumbent, 3);
    ck_assert(hk_ucb1_is_settled(&u, 3));
}
END_TEST

START_TEST(a_tie_moves_nothing)
{
    static const uint32_t close[] = {19000, 19500, 20000, 19400}, tiny[] = {100, 1500, 1900, 10};
    struct hk_ucb1 u;

    hk_ucb1_init(&u, 4, 2);
    play(&u, 500, close, 0); /* within 8 % */
    ck_assert_uint_eq(u.incumbent, 2);
    hk_ucb1_init(&u, 4, 2);
    play(&u, 500, tiny, 0); /* twenty times cheaper, but by less than counts */
    ck_assert_uint_eq(u.incumbent, 2);
}
END_TEST

START_TEST(twice_as_dear_is_out)
{
    static const uint32_t cost[] = {90000, 10000, 11000};
    struct hk_ucb1 u;
    unsigned tried = 0;

    hk_ucb1_init(&u, 3, 1);
    for (unsigned i = 0; i < 60; i++) {
        unsigned arm = hk_ucb1_choose(&u);
        tried += arm == 0;
        hk_ucb1_note(&u, arm, cost[arm], 100);
    }
    ck_assert_uint_eq(tried, 2);
    ck_assert(hk_ucb1_is_settled(&u, 3));
    /* The window forgets, so it comes back; less than twice, or less than counts, is not out. */
    for (unsigned i = 0; i < HK_UCB1_WINDOW; i++)
        hk_ucb1_note(&u, 1, 10000, 100);
    ck_assert_uint_eq(hk_ucb1_choose(&u), 0);
    hk_ucb1_init(&u, 3, 1);
    for (unsigned i = 0; i < 2; i++) {
        hk_ucb1_note(&u, 0, 20000, 0);
        hk_ucb1_note(&u, 1, 10000, 0);
        hk_ucb1_note(&u, 2, 10000, 0);
    }
    ck_assert(!hk_ucb1_is_settled(&u, 3));
    hk_ucb1_note(&u, 0, 20010, 0);
    hk_ucb1_note(&u, 1, 10000, 0);
    hk_ucb1_note(&u, 2, 10000, 0);
    ck_assert(hk_ucb1_is_settled(&u, 3));
}
END_TEST

START_TEST(three_wins_in_a_row_not_two)
{
    struct hk_ucb1 u;

    hk_ucb1_init(&u, 3, 1);
    for (unsigned i = 0; i < 5; i++)
        hk_ucb1_note(&u, 1, 10000, 0);
    ck_assert(!hk_ucb1_note(&u, 2, 9000, 0));
    ck_assert(!hk_ucb1_note(&u, 2, 9000, 0));
    ck_assert(!hk_ucb1_note(&u, 2, 9300, 0)); /* 7 %: the row is broken */
    ck_assert(!hk_ucb1_note(&u, 2, 9000, 0));
    ck_assert(!hk_ucb1_note(&u, 2, 9000, 0));
    ck_assert(hk_ucb1_note(&u, 2, 9199, 0));
    ck_assert_uint_eq(u.incumbent, 2);
}
END_TEST

static void damage(void)
{
    struct hk_ucb1 u;

    hk_ucb1_init(&u, 3, 1);
    hk_ucb1_note(&u, 1, 10, 0);
    u.sum[1]++;
    hk_ucb1_check(&u);
}

START_TEST(check_sees_damage)
{
    must_panic(damage, "ucb1: window");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ucb1");
    TCase *tc = new_case(suite, "arithmetic", setup, teardown);

    tcase_add_test(tc, fixed_point_is_exact_enough);
    tcase_add_test(tc, bonus_is_that_of_the_paper);
    tc = new_case(suite, "bandit", setup, teardown);
    tcase_add_loop_test(tc, choices_are_those_of_the_reference, 0, 10);
    tcase_add_test(tc, finds_the_cheapest_and_follows_it);
    tcase_add_test(tc, a_tie_moves_nothing);
    tcase_add_test(tc, twice_as_dear_is_out);
    tcase_add_test(tc, three_wins_in_a_row_not_two);
    tcase_add_test(tc, check_sees_damage);
    return run_suite(suite);
}
