// SPDX-License-Identifier: MIT
#include "evo/evo.h"

#include "support.h"

#define SECOND UINT64_C(1000000000)

static struct hk_evo evo;
static uint64_t now;

static const uint32_t small[HK_EVO_BUCKETS] = {1000, 800, 200};
static const uint32_t like_small[HK_EVO_BUCKETS] = {900, 900, 300};
static const uint32_t large[HK_EVO_BUCKETS] = {[12] = 700, [13] = 300};
static const uint32_t mixed[HK_EVO_BUCKETS] = {600, 500, 100, [12] = 900};

static void start(enum hk_evo_state state, bool learns)
{
    struct hk_evo_options options = {state, learns, 180 * SECOND, 256};

    now = SECOND;
    hk_evo_init(&evo, &options);
}

static void setup(void)
{
    start(HK_EVO_LEARN, true);
}

static void teardown(void)
{
}

static enum hk_evo_event look(const uint32_t events[])
{
    now += SECOND;
    return hk_evo_look(&evo, now, events);
}

START_TEST(distance_is_half_the_l1)
{
    uint32_t a[HK_EVO_BUCKETS] = {65536}, b[HK_EVO_BUCKETS] = {[3] = 65536}, c[HK_EVO_BUCKETS] = {32768, [3] = 32768};

    ck_assert_uint_eq(hk_evo_distance(a, a), 0);
    ck_assert_uint_eq(hk_evo_distance(a, b), 65536);
    ck_assert_uint_eq(hk_evo_distance(a, c), 32768);
}
END_TEST

START_TEST(what_is_alike_is_one_context)
{
    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(look(i % 2 ? small : like_small), HK_EVO_NOTHING);
    ck_assert_uint_eq(evo.nr_contexts, 1);
    ck_assert_uint_eq(evo.nr_shifts, 0);
}
END_TEST

START_TEST(a_shift_opens_a_context_and_the_way_back_recalls)
{
    look(small);
    ck_assert_int_eq(look(large), HK_EVO_NEW_CONTEXT);
    ck_assert_uint_eq(evo.current, 1);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_LEARN);
    ck_assert_int_eq(look(large), HK_EVO_NOTHING);
    ck_assert_int_eq(look(small), HK_EVO_RECALLED);
    ck_assert_uint_eq(evo.current, 0);
    ck_assert_int_eq(look(large), HK_EVO_RECALLED);
    ck_assert_uint_eq(evo.nr_contexts, 2);
}
END_TEST

START_TEST(half_a_shift_must_last_two_windows)
{
    look(small);
    ck_assert_int_eq(look(mixed), HK_EVO_NOTHING);
    ck_assert_int_eq(look(small), HK_EVO_NOTHING); /* it did not */
    ck_assert_int_eq(look(mixed), HK_EVO_NOTHING);
    ck_assert_int_eq(look(mixed), HK_EVO_NEW_CONTEXT);
}
END_TEST

START_TEST(few_events_say_nothing)
{
    static const uint32_t few[HK_EVO_BUCKETS] = {[13] = 255}, none[HK_EVO_BUCKETS] = {0};

    look(small);
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(look(few), HK_EVO_NOTHING);
        ck_assert_int_eq(look(none), HK_EVO_NOTHING);
    }
    ck_assert_uint_eq(evo.nr_contexts, 1);
}
END_TEST

START_TEST(the_longest_unused_context_gives_way)
{
    for (unsigned i = 0; i < HK_EVO_CONTEXTS; i++) {
        uint32_t events[HK_EVO_BUCKETS] = {0};
        events[i] = 1000;
        look(events);
    }
    ck_assert_uint_eq(evo.nr_contexts, HK_EVO_CONTEXTS);
    ck_assert_uint_eq(evo.current, HK_EVO_CONTEXTS - 1);
    ck_assert_int_eq(look(large), HK_EVO_NEW_CONTEXT);
    ck_assert_uint_eq(evo.current, 0);
}
END_TEST

START_TEST(settled_and_calm_freezes)
{
    ck_assert_int_eq(hk_evo_judge(&evo, now += SECOND, 1000, false), HK_EVO_NOTHING);
    ck_assert_int_eq(hk_evo_judge(&evo, now += SECOND, 1000, true), HK_EVO_NOTHING); /* nothing to compare */
    ck_assert_int_eq(hk_evo_judge(&evo, now += SECOND, 1010, true), HK_EVO_SETTLED);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_FROZEN);
    ck_assert_int_eq(hk_evo_judge(&evo, now += SECOND, 1010, true), HK_EVO_NOTHING);
}
END_TEST

START_TEST(a_p99_that_moves_keeps_it_learning)
{
    uint64_t cost = 1000;

    for (unsigned i = 0; i < 12; i++, cost *= 2)
        ck_assert_int_eq(hk_evo_judge(&evo, now += SECOND, cost, true), HK_EVO_NOTHING);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_LEARN);
}
END_TEST

START_TEST(freeze_sec_ends_it_whatever_it_says)
{
    look(small);
    for (unsigned i = 0; i < 179; i++)
        ck_assert_int_eq(hk_evo_judge(&evo, now += SECOND, 1000, false), HK_EVO_NOTHING);
    ck_assert_int_eq(hk_evo_judge(&evo, now += SECOND, 1000, false), HK_EVO_SETTLED);
}
END_TEST

START_TEST(time_elsewhere_does_not_count)
{
    look(small);
    for (unsigned i = 0; i < 100; i++)
        look(small);
    look(large);
    for (unsigned i = 0; i < 1000; i++)
        look(large);
    ck_assert_int_eq(look(small), HK_EVO_RECALLED);
    ck_assert_int_eq(hk_evo_judge(&evo, now, 1000, false), HK_EVO_NOTHING); /* 100 s so far */
    for (unsigned i = 0; i < 100; i++)
        look(small);
    ck_assert_int_eq(hk_evo_judge(&evo, now, 1000, false), HK_EVO_SETTLED);
}
END_TEST

START_TEST(without_learn_a_shift_wakes_canary)
{
    start(HK_EVO_FROZEN, false);
    look(small);
    ck_assert_int_eq(hk_evo_judge(&evo, now, 1000, true), HK_EVO_NOTHING);
    look(large);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_CANARY);
    hk_evo_revert(&evo, now);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_FROZEN);
    ck_assert_uint_eq(evo.nr_reverted, 1);
    look(small);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_FROZEN); /* as it was left */
}
END_TEST

START_TEST(the_word_of_the_program)
{
    look(small);
    hk_evo_freeze(&evo);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_FROZEN);
    look(large);
    hk_evo_judge(&evo, now, 1000, false);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_FROZEN);
    hk_evo_learn(&evo);
    ck_assert_int_eq(hk_evo_state(&evo), HK_EVO_LEARN);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evo");
    TCase *tc = new_case(suite, "contexts", setup, teardown);

    tcase_add_test(tc, distance_is_half_the_l1);
    tcase_add_test(tc, what_is_alike_is_one_context);
    tcase_add_test(tc, a_shift_opens_a_context_and_the_way_back_recalls);
    tcase_add_test(tc, half_a_shift_must_last_two_windows);
    tcase_add_test(tc, few_events_say_nothing);
    tcase_add_test(tc, the_longest_unused_context_gives_way);
    tc = new_case(suite, "states", setup, teardown);
    tcase_add_test(tc, settled_and_calm_freezes);
    tcase_add_test(tc, a_p99_that_moves_keeps_it_learning);
    tcase_add_test(tc, freeze_sec_ends_it_whatever_it_says);
    tcase_add_test(tc, time_elsewhere_does_not_count);
    tcase_add_test(tc, without_learn_a_shift_wakes_canary);
    tcase_add_test(tc, the_word_of_the_program);
    return run_suite(suite);
}
