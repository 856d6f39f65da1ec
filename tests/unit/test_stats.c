// SPDX-License-Identifier: MIT
#include "stats/stats.h"

#include "support.h"

#include <pthread.h>

static void setup(void)
{
}

static void teardown(void)
{
}

/* ---- times --------------------------------------------------------------------------------- */

static uint64_t quantile(unsigned thousandths)
{
    uint64_t nr;

    return hk_latency_quantile(thousandths, &nr);
}

START_TEST(no_samples)
{
    uint64_t nr = 5;

    ck_assert_uint_eq(hk_latency_quantile(500, &nr), 0);
    ck_assert_uint_eq(nr, 0);
}
END_TEST

/* A single value is every quantile: never above 5/4 of it, never below it. */
START_TEST(one_value)
{
    memset(hk_latency, 0, sizeof hk_latency);
    uint64_t value = UINT64_C(1) << _i;
    value += value * (uint64_t)(_i % 3) / 3;
    hk_latency_note(value);
    ck_assert_uint_ge(quantile(500), value);
    ck_assert_uint_le(quantile(500), value < 4 ? value : value + value / 4);
    ck_assert_uint_eq(quantile(1), quantile(999));
}
END_TEST

START_TEST(quantiles_of_a_ramp)
{
    uint64_t nr;

    for (uint64_t ns = 1; ns <= 10000; ns++)
        hk_latency_note(ns);
    ck_assert_uint_eq((hk_latency_quantile(500, &nr), nr), 10000);
    ck_assert(quantile(500) >= 5000 && quantile(500) <= 6250);
    ck_assert(quantile(950) >= 9500 && quantile(950) <= 11875);
    ck_assert(quantile(990) >= 9900 && quantile(990) <= 12375);
    ck_assert(quantile(10) >= 100 && quantile(10) <= 125);
}
END_TEST

START_TEST(extremes)
{
    hk_latency_note(0);
    ck_assert_uint_eq(quantile(500), 0);
    hk_latency_note(UINT64_MAX); /* the last bucket, and no write behind it */
    ck_assert_uint_eq(hk_latency[HK_LATENCY_BUCKETS - 1], 1);
    ck_assert_uint_gt(quantile(999), UINT64_C(4000000000));
}
END_TEST

/* ---- events -------------------------------------------------------------------------------- */

START_TEST(nothing_while_off)
{
    hk_trace(HK_TRACE_REFILL, 3, 16);
    ck_assert_uint_eq(hk_trace_ring[1].number, 0);
    ck_assert_uint_eq(hk_trace_ring[1].what, HK_TRACE_NONE);
}
END_TEST

START_TEST(an_event)
{
    hk_trace_on = true;
    hk_trace(HK_TRACE_SLAB, 12, UINT64_C(0x7f0000004000));
    ck_assert_uint_eq(hk_trace_ring[1].number, 1);
    ck_assert_uint_eq(hk_trace_ring[1].what, HK_TRACE_SLAB);
    ck_assert_uint_eq(hk_trace_ring[1].class, 12);
    ck_assert_uint_eq(hk_trace_ring[1].value, UINT64_C(0x7f0000004000));
    ck_assert_uint_gt(hk_trace_ring[1].time_ns, 0);
}
END_TEST

static void dump_two(void)
{
    hk_trace_on = true;
    hk_trace(HK_TRACE_REFILL, 3, 16);
    hk_trace(HK_TRACE_SLAB, 12, UINT64_C(0x7f0000004000));
    hk_trace_dump();
}

START_TEST(dumped_as_lines)
{
    struct child child = run_child(dump_two);

    ck_assert_msg(strncmp(child.text, "hakmem: trace 1: at ", 20) == 0, "%s", child.text);
    ck_assert_msg(strstr(child.text, ", refill, blocks 16, class 3\nhakmem: trace 2: at ") != NULL, "%s",
                  child.text);
    ck_assert_msg(strstr(child.text, ", slab made 0x7f0000004000, class 12\n") != NULL, "%s", child.text);
}
END_TEST

static void dump_nothing(void)
{
    hk_trace_slow(HK_TRACE_REFILL, 3, 16);
    hk_trace_dump(); /* off: silent whatever the ring holds */
}

START_TEST(no_dump_while_off)
{
    struct child child = run_child(dump_nothing);

    ck_assert_str_eq(child.text, "");
}
END_TEST

START_TEST(the_oldest_are_forgotten)
{
    hk_trace_on = true;
    for (unsigned i = 1; i <= 3 * HK_TRACE_EVENTS; i++)
        hk_trace(HK_TRACE_FLUSH, 1, i);
    for (unsigned i = 0; i < HK_TRACE_EVENTS; i++) {
        const struct hk_trace_event *e = &hk_trace_ring[i];
        ck_assert_uint_gt(e->number, 2 * HK_TRACE_EVENTS - 1);
        ck_assert_uint_eq(e->value, e->number);
        ck_assert_uint_eq(e->number % HK_TRACE_EVENTS, i);
    }
}
END_TEST

#define PER_THREAD 300

static void *trace_some(void *thread)
{
    for (unsigned i = 0; i < PER_THREAD; i++)
        hk_trace(HK_TRACE_SEND, (unsigned)(uintptr_t)thread, i);
    return NULL;
}

START_TEST(threads_do_not_share_an_event)
{
    unsigned seen[3] = {0};
    pthread_t thread[3];

    hk_trace_on = true;
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&thread[i], NULL, trace_some, (void *)i);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    for (unsigned n = 1; n <= 3 * PER_THREAD; n++) {
        ck_assert_uint_eq(hk_trace_ring[n].number, n);
        seen[hk_trace_ring[n].class]++;
    }
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(seen[i], PER_THREAD);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stats");
    TCase *tc = new_case(suite, "stats", setup, teardown);

    tcase_add_test(tc, no_samples);
    tcase_add_loop_test(tc, one_value, 0, 32);
    tcase_add_test(tc, quantiles_of_a_ramp);
    tcase_add_test(tc, extremes);
    tcase_add_test(tc, nothing_while_off);
    tcase_add_test(tc, an_event);
    tcase_add_test(tc, dumped_as_lines);
    tcase_add_test(tc, no_dump_while_off);
    tcase_add_test(tc, the_oldest_are_forgotten);
    tcase_add_test(tc, threads_do_not_share_an_event);
    return run_suite(suite);
}
