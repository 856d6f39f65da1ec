// SPDX-License-Identifier: MIT
/*
 * support: what the tests of the memory boxes share.
 *
 * Every test of check runs in a process of its own, so each starts with the boxes at zero.
 * HK_TEST_SEED replays a random stream: failing tests print it.
 */
#ifndef TESTS_UNIT_SUPPORT_H
#define TESTS_UNIT_SUPPORT_H

#include "policy/policy.h"
#include "pool/pool.h"
#include "tiny/tiny.h"

#include "child.h"

#include <check.h>
#include <stdio.h>

#define SIZE_KEY UINT64_C(0x123456789abcdef)

/* ---- random streams ------------------------------------------------------------------------ */

static uint64_t random_state;

/* The same stream for the same seed and number. */
static inline void start_random(unsigned stream)
{
    const char *seed = getenv("HK_TEST_SEED");

    random_state = strtoull(seed ? seed : "1", NULL, 0) * 1000 + stream;
    fprintf(stderr, "stream %u, HK_TEST_SEED=%s\n", stream, seed ? seed : "1");
}

/* Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static inline uint64_t next_random(void)
{
    uint64_t x = random_state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline size_t below(size_t n)
{
    return (size_t)(next_random() % n);
}

static inline bool one_in(size_t n)
{
    return below(n) == 0;
}

/* ---- memory -------------------------------------------------------------------------------- */

/* Looks at the places that stamp() writes: both ends and the middle of every 4 KiB. */
static inline bool reads_zero(const void *base, size_t bytes)
{
    const char *p = base;

    for (size_t i = 0; i < bytes; i += 4096)
        if (*(const uint64_t *)(p + i) || *(const uint64_t *)(p + i + 2048) ||
            *(const uint64_t *)(p + i + 4088))
            return false;
    return true;
}

static inline void stamp(void *base, size_t bytes, uint64_t value)
{
    char *p = base;

    for (size_t i = 0; i < bytes; i += 4096)
        *(uint64_t *)(p + i) = *(uint64_t *)(p + i + 2048) = *(uint64_t *)(p + i + 4088) = value;
}

static inline bool is_stamped(const void *base, size_t bytes, uint64_t value)
{
    const char *p = base;

    for (size_t i = 0; i < bytes; i += 4096)
        if (*(const uint64_t *)(p + i) != value || *(const uint64_t *)(p + i + 2048) != value ||
            *(const uint64_t *)(p + i + 4088) != value)
            return false;
    return true;
}

/* ---- policy -------------------------------------------------------------------------------- */

/* What the library starts with; a test then changes what it is about. */
static inline void set_policy(void)
{
    struct hk_tiny_options tiny = {
        .refill_count = 16, .refill_count_hot = 64, .mag_cap = 2048};
    struct hk_pool_options pool = {.cap_mid = 64, .tls_free = true};
    struct hk_policy *policy = &hk_policy_builtin;

    hk_size_init(SIZE_KEY);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        policy->class[c] = c < HK_FIRST_POOL_CLASS ? hk_tiny_class_policy(c, &tiny)
                                                   : hk_pool_class_policy(c, &pool);
    policy->cache_budget_bytes = 4 * HK_MIB;
    policy->remote_batch_bytes = 64 * HK_KIB;
    policy->purge_delay_ns = UINT64_C(300000000);
    policy->purge_floor_bytes = 32 * HK_MIB;
    policy->idle_flush_ns = UINT64_C(1000000000);
    policy->big_threshold = 2 * HK_MIB;
    policy->l25_cap = 4;
    policy->wmax_mid = policy->wmax_large = 1250;
    policy->steal = policy->cache_big = policy->batch = true;
}

/* ---- negative controls --------------------------------------------------------------------- */

/* The function must end in a panic that says so. */
static inline void must_panic(void (*function)(void), const char *sentence)
{
    struct child child = run_child(function);

    ck_assert_msg(child_aborted(&child), "expected a panic about '%s', status %x, said '%s'",
                  sentence, (unsigned)child.status, child.text);
    ck_assert_msg(strstr(child.text, sentence) != NULL, "expected '%s', said '%s'", sentence,
                  child.text);
}

/* ---- main ---------------------------------------------------------------------------------- */

static inline TCase *new_case(Suite *suite, const char *name, void (*setup)(void),
                              void (*teardown)(void))
{
    TCase *tc = tcase_create(name);

    tcase_set_timeout(tc, 120); /* valgrind, on a loaded machine */
    tcase_add_checked_fixture(tc, setup, teardown);
    suite_add_tcase(suite, tc);
    return tc;
}

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);

    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#endif
