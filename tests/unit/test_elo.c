// SPDX-License-Identifier: MIT
/* elo, against floating point. */
#include "elo/elo.h"

#include "support.h"

#include <math.h>

static void setup(void)
{
}

static void teardown(void)
{
}

START_TEST(ratings_follow_the_formula)
{
    struct hk_elo elo;
    double rating[HK_ELO_STRATEGIES];

    start_random(1);
    hk_elo_init(&elo, 1, 100);
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        rating[s] = HK_ELO_START;
    for (unsigned i = 0; i < 3000; i++) {
        unsigned a = (unsigned)below(HK_ELO_STRATEGIES), b = (unsigned)below(HK_ELO_STRATEGIES);
        enum hk_elo_result result = a < b ? HK_ELO_WIN : (enum hk_elo_result)below(3);
        if (a == b)
            continue;
        double expected = 1 / (1 + pow(10, (rating[b] - rating[a]) / 400));
        double change = HK_ELO_K * (result * 0.5 - expected);
        rating[a] += change;
        rating[b] -= change;
        hk_elo_note(&elo, a, b, result);
    }
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        ck_assert_double_lt(fabs(hk_elo_rating(&elo, s) - rating[s]), 1.5);
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        ck_assert_double_ge(rating[hk_elo_best(&elo)] + 1.5, rating[s]);
}
END_TEST

START_TEST(ratings_keep_their_sum)
{
    struct hk_elo elo;
    int64_t sum = 0;

    start_random(2);
    hk_elo_init(&elo, 1, 100);
    for (unsigned i = 0; i < 10000; i++)
        hk_elo_note(&elo, 0, 1 + (unsigned)below(5), HK_ELO_WIN); /* to the ends of the scale */
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        sum += elo.rating[s];
    ck_assert_int_eq(sum, (int64_t)HK_ELO_STRATEGIES * HK_ELO_START * 65536);
}
END_TEST

START_TEST(nobody_plays_against_himself)
{
    struct hk_elo elo;

    hk_elo_init(&elo, 1, 100);
    hk_elo_note(&elo, 2, 2, HK_ELO_WIN);
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        ck_assert_int_eq(elo.rating[s], HK_ELO_START * 65536);
    hk_elo_init(&elo, 1, 0); /* no temperature is the lowest */
    hk_elo_note(&elo, 1, 0, HK_ELO_WIN);
    ck_assert_uint_gt(hk_elo_share(&elo, 1), 65000);
}
END_TEST

START_TEST(shares_are_softmax)
{
    struct hk_elo elo;
    double sum = 0;
    unsigned chosen[HK_ELO_STRATEGIES] = {0};

    hk_elo_init(&elo, 42, 80);
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        elo.rating[s] = (int32_t)(HK_ELO_START + 50 * s) * 65536;
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        sum += exp(50.0 * s / 80);
    for (unsigned i = 0; i < 60000; i++)
        chosen[hk_elo_choose(&elo)]++;
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++) {
        double share = exp(50.0 * s / 80) / sum;
        ck_assert_double_lt(fabs(hk_elo_share(&elo, s) / 65536.0 - share), 1e-3);
        ck_assert_double_lt(fabs(chosen[s] / 60000.0 - share), 0.01);
    }
}
END_TEST

START_TEST(greedy_takes_the_best_but_for_epsilon)
{
    struct hk_elo elo;
    unsigned others = 0;

    hk_elo_init(&elo, 7, 80);
    hk_elo_note(&elo, 3, 2, HK_ELO_WIN);
    hk_elo_be_greedy(&elo, 6554); /* 10 % */
    for (unsigned i = 0; i < 20000; i++)
        others += hk_elo_choose(&elo) != 3;
    ck_assert_double_lt(fabs(others / 20000.0 - 0.1 * 5 / 6), 0.01);
}
END_TEST

START_TEST(a_seed_gives_the_same_choices)
{
    struct hk_elo a, b, c;
    unsigned differ = 0;

    hk_elo_init(&a, 5, 80);
    hk_elo_init(&b, 5, 80);
    hk_elo_init(&c, 6, 80);
    for (unsigned i = 0; i < 1000; i++) {
        unsigned s = hk_elo_choose(&a);
        ck_assert_uint_eq(s, hk_elo_choose(&b));
        differ += s != hk_elo_choose(&c);
    }
    ck_assert_uint_gt(differ, 500);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("elo");
    TCase *tc = new_case(suite, "elo", setup, teardown);

    tcase_add_test(tc, ratings_follow_the_formula);
    tcase_add_test(tc, ratings_keep_their_sum);
    tcase_add_test(tc, nobody_plays_against_himself);
    tcase_add_test(tc, shares_are_softmax);
    tcase_add_test(tc, greedy_takes_the_best_but_for_epsilon);
    tcase_add_test(tc, a_seed_gives_the_same_choices);
    return run_suite(suite);
}
