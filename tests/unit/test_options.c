// SPDX-License-Identifier: MIT
/* Options that change at run time reach the policy snapshot, all of them, and nothing else changes. */
#include "thread/thread.h"

#include "config/config.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct hk_class_policy *tiny(void)
{
    return &hk_policy()->class[0];
}

static const struct hk_class_policy *pool(void)
{
    return &hk_policy()->class[HK_FIRST_POOL_CLASS];
}

/* What the snapshot says; options that it does not hold say their own field. */
static size_t seen(unsigned option)
{
    const struct hk_policy *policy = hk_policy();

    switch (option) {
    case HK_OPTION_stats_dump:
        return hk_config.stats_dump;
    case HK_OPTION_limit:
        return policy->limit_bytes;
    case HK_OPTION_realloc0:
        return hk_config.realloc0;
    case HK_OPTION_tiny_mag_cap:
        return tiny()->cap_max;
    case HK_OPTION_tiny_refill_count:
        return tiny()->refill;
    case HK_OPTION_tiny_refill_count_hot:
        return tiny()->refill_hot;
    case HK_OPTION_budget_mid:
        return policy->cache_budget_bytes;
    case HK_OPTION_tiny_must_adopt:
        return policy->steal;
    case HK_OPTION_remote_batch_bytes:
        return policy->remote_batch_bytes;
    case HK_OPTION_pool_tls_free:
    case HK_OPTION_cap_mid:
        return pool()->cap_max;
    case HK_OPTION_wmax_mid:
        return policy->wmax_mid;
    case HK_OPTION_wmax_large:
        return policy->wmax_large;
    case HK_OPTION_cap_large:
        return policy->l25_cap;
    case HK_OPTION_mmap_threshold:
        return policy->big_threshold;
    case HK_OPTION_disable_bigcache:
        return !policy->cache_big;
    case HK_OPTION_bigcache_bytes:
        return hk_config.bigcache_bytes;
    case HK_OPTION_bigcache_age_ms:
        return hk_config.bigcache_age_ms;
    case HK_OPTION_disable_batch:
        return !policy->batch;
    case HK_OPTION_purge_delay_ms:
        return (size_t)(policy->purge_delay_ns / 1000000);
    case HK_OPTION_purge_cap_bytes:
        return policy->purge_floor_bytes;
    case HK_OPTION_thp:
        return policy->huge_pages + 2u * policy->promote;
    default:
        return SIZE_MAX;
    }
}

static const struct {
    unsigned option;
    const char *value;
    size_t expected;
} cases[] = {
    {HK_OPTION_stats_dump, "on", 1},
    {HK_OPTION_stats_dump, "off", 0},
    {HK_OPTION_limit, "64M", 64 * HK_MIB},
    {HK_OPTION_limit, "none", 0},
    {HK_OPTION_realloc0, "alloc", HK_REALLOC0_ALLOC},
    {HK_OPTION_tiny_mag_cap, "64", 63},
    {HK_OPTION_tiny_mag_cap, "8", 7},
    {HK_OPTION_tiny_refill_count, "5", 5},
    {HK_OPTION_tiny_refill_count_hot, "48", 48},
    {HK_OPTION_tiny_must_adopt, "off", 0},
    {HK_OPTION_budget_mid, "3M", 3 * HK_MIB},
    {HK_OPTION_budget_mid, "none", SIZE_MAX / 2},
    {HK_OPTION_remote_batch_bytes, "8K", 8 * HK_KIB},
    {HK_OPTION_pool_tls_free, "off", 1},
    {HK_OPTION_cap_mid, "31,7", 31},
    {HK_OPTION_wmax_mid, "2.5", 2500},
    {HK_OPTION_wmax_large, "1.1", 1100},
    {HK_OPTION_cap_large, "9", 9},
    {HK_OPTION_cap_large, "65535", 255},
    {HK_OPTION_mmap_threshold, "1M", HK_MIB},
    {HK_OPTION_disable_bigcache, "on", 1},
    {HK_OPTION_bigcache_bytes, "3M", 3 * HK_MIB},
    {HK_OPTION_bigcache_age_ms, "77", 77},
    {HK_OPTION_disable_batch, "on", 1},
    {HK_OPTION_purge_delay_ms, "44", 44},
    {HK_OPTION_purge_cap_bytes, "0", 0},
    {HK_OPTION_thp, "on", 1},
    {HK_OPTION_thp, "off", 0},
    {HK_OPTION_thp, "auto", 2},
};

static void setup(void)
{
    ck_assert(hk_thread_enter());
    ck_assert_ptr_nonnull(hk_thread_heap());
}

static int set(const char *name, const char *value)
{
    struct hk_config_change change;
    int error;

    hk_lock(&hk_config_lock);
    error = hk_config_propose(name, value, &change);
    if (!error)
        error = hk_thread_change_option(&change, "test");
    hk_unlock(&hk_config_lock);
    return error;
}

static void is(unsigned option, const char *expected)
{
    char text[512];

    hk_config_format(option, text, sizeof text);
    ck_assert_str_eq(text, expected);
}

static const char *origin_of(unsigned option)
{
    static char text[256];

    hk_config_origin(option, text, sizeof text);
    return text;
}

START_TEST(change_while_running)
{
    struct hk_config before = hk_config;
    struct hk_config_change change;

    ck_assert_int_eq(hk_config_propose("no_such", "1", &change), ENOENT);
    ck_assert_int_eq(hk_config_propose("site_rules", "1", &change), ENOENT);
    ck_assert_int_eq(hk_config_propose("mode", "fast", &change), EPERM);
    ck_assert_int_eq(hk_config_propose("thp", "maybe", &change), EINVAL);
    ck_assert_int_eq(hk_config_propose("Thp", "on", &change), 0);
    ck_assert_mem_eq(&before, &hk_config, sizeof before); /* only proposed */
    hk_config_commit(&change, "hak_ctl_set");
    is(HK_OPTION_thp, "on");
    ck_assert_str_eq(origin_of(HK_OPTION_thp), "hak_ctl_set");
    hk_config_propose_number(HK_OPTION_purge_cap_bytes, 12345, &change);
    hk_config_commit(&change, "mallopt");
    is(HK_OPTION_purge_cap_bytes, "12345");
    ck_assert_str_eq(origin_of(HK_OPTION_purge_cap_bytes), "mallopt");
    ck_assert_str_eq(hk_config_source(HK_OPTION_purge_cap_bytes), "api");
}
END_TEST

/* Each type of field in its width: no neighbour changes. */
START_TEST(commit_changes_one_field)
{
    for (unsigned i = 0; i < HK_NR_OPTIONS; i++) {
        struct hk_config expected, before = hk_config;
        struct hk_config_change change;
        char text[512];
        if (!hk_config_is_settable(i))
            continue;
        hk_config_format(i, text, sizeof text);
        ck_assert_int_eq(hk_config_propose(hk_config_name(i), strcmp(text, "on") ? "1" : "off", &change) &&
                             hk_config_propose(hk_config_name(i), "on", &change) &&
                             hk_config_propose(hk_config_name(i), "alloc", &change) &&
                             hk_config_propose(hk_config_name(i), "1M", &change) &&
                             hk_config_propose(hk_config_name(i), "99", &change), 0);
        expected = change.config;
        ck_assert_mem_ne(&before, &expected, sizeof before);
        hk_config_commit(&change, "test");
        ck_assert_mem_eq(&expected, &hk_config, sizeof expected);
    }
}
END_TEST

START_TEST(option_reaches_the_snapshot)
{
    unsigned option = cases[_i].option;
    struct hk_policy before = *hk_policy();

    if (seen(option) == cases[_i].expected) /* it has to move */
        ck_assert_int_eq(set(hk_config_name(option), cases[_i - 1].value), 0);
    ck_assert_uint_ne(seen(option), cases[_i].expected);
    ck_assert_int_eq(set(hk_config_name(option), cases[_i].value), 0);
    ck_assert_uint_eq(seen(option), cases[_i].expected);
    /* Others keep theirs: back again is where we were. */
    ck_assert_int_eq(strcmp(hk_config_source(option), "api"), 0);
    for (unsigned other = 0; other < HK_NR_OPTIONS; other++)
        if (other != option)
            ck_assert_str_eq(hk_config_source(other), "default");
    if (option != HK_OPTION_budget_mid)
        ck_assert_uint_eq(before.cache_budget_bytes, hk_policy()->cache_budget_bytes);
}
END_TEST

/* A new XSET without a case above fails here. */
START_TEST(every_settable_option_is_tested)
{
    for (unsigned i = 0; i < HK_NR_OPTIONS; i++) {
        bool tested = false;
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
            tested |= cases[c].option == i;
        ck_assert_msg(tested == hk_config_is_settable(i), "%s", hk_config_name(i));
        if (!hk_config_is_settable(i))
            ck_assert_int_eq(set(hk_config_name(i), "on"), EPERM);
    }
}
END_TEST

START_TEST(what_somebody_else_published_stays)
{
    struct hk_policy learned = *hk_policy();

    learned.l25_cap = 17;
    learned.idle_flush_ns = 5;
    hk_policy_publish(&learned);
    ck_assert_int_eq(set("thp", "on"), 0);
    ck_assert(hk_policy()->huge_pages);
    ck_assert_uint_eq(hk_policy()->l25_cap, 17);
    ck_assert_uint_eq(hk_policy()->idle_flush_ns, 5);
}
END_TEST

START_TEST(no_change_publishes_nothing)
{
    const struct hk_policy *before = hk_policy();

    ck_assert_int_eq(set("realloc0", "alloc"), 0); /* nothing for the data plane */
    ck_assert_ptr_eq(hk_policy(), before);
    ck_assert_int_eq(set("thp", "maybe"), EINVAL);
    ck_assert_int_eq(set("nothing", "1"), ENOENT);
    ck_assert_ptr_eq(hk_policy(), before);
}
END_TEST

START_TEST(the_batch_and_its_delay_agree)
{
    ck_assert_int_eq(set("disable_batch", "on"), 0);
    ck_assert_uint_eq(hk_policy()->purge_delay_ns, 0);
    ck_assert_int_eq(set("purge_delay_ms", "50"), 0);
    ck_assert_uint_eq(hk_policy()->purge_delay_ns, 0);
    ck_assert_int_eq(set("disable_batch", "off"), 0);
    ck_assert_uint_eq(hk_policy()->purge_delay_ns, 50000000);
}
END_TEST

/* W_MAX in thousandths: exact below 1000 bytes' granularity, and no wrap near the end. */
START_TEST(scale)
{
    ck_assert_uint_eq(hk_scale(999, 1250), 1248);
    ck_assert_uint_eq(hk_scale(65536, 1250), 81920);
    ck_assert_uint_eq(hk_scale(1999, 1000), 1999);
    ck_assert_uint_eq(hk_scale(0, 4000), 0);
    ck_assert_uint_eq(hk_scale(SIZE_MAX, 1000), SIZE_MAX);
    ck_assert_uint_eq(hk_scale(SIZE_MAX, 1001), SIZE_MAX);
    ck_assert_uint_eq(hk_scale(SIZE_MAX / 2, 4000), SIZE_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tc = tcase_create("options");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, change_while_running);
    tcase_add_test(tc, commit_changes_one_field);
    tcase_add_loop_test(tc, option_reaches_the_snapshot, 0, sizeof cases / sizeof *cases);
    tcase_add_test(tc, every_settable_option_is_tested);
    tcase_add_test(tc, what_somebody_else_published_stays);
    tcase_add_test(tc, no_change_publishes_nothing);
    tcase_add_test(tc, the_batch_and_its_delay_agree);
    tcase_add_test(tc, scale);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
