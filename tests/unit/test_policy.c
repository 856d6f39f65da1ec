// SPDX-License-Identifier: MIT
/* policy, and the rules of tiny and pool that fill it. */
#include "policy/policy.h"

#include "support.h"

#define MAX_TINY_BYTES (128 * HK_KIB) /* in one magazine, when it has more than its minimum */
#define MAX_POOL_BYTES (2 * HK_MIB)

static void setup(void)
{
    hk_size_init(SIZE_KEY);
}

static void teardown(void)
{
}

static bool is_capacity(unsigned n)
{
    return hk_is_pow2((size_t)n + 1);
}

/* What heap relies on, whatever the options say. */
static void must_be_usable(const struct hk_class_policy *p)
{
    ck_assert_uint_ge(p->refill, 1);
    ck_assert_uint_ge(p->refill_hot, p->refill);
    ck_assert_uint_ge(p->cap_initial, 1);
    ck_assert_uint_le(p->cap_initial, p->cap_max);
    ck_assert(is_capacity(p->cap_initial));
    ck_assert(is_capacity(p->cap_max));
    ck_assert_uint_le(p->refill, p->cap_max);
    ck_assert_uint_le(p->refill_hot, p->cap_max);
    ck_assert_uint_le(p->cap_max, 1023); /* a descriptor's worth of pointers */
}

START_TEST(tiny_within_bounds)
{
    static const unsigned refills[] = {1, 2, 16, 64, 1024};
    static const unsigned caps[] = {8, 64, 100, 2048, 65536};

    for (size_t r = 0; r < 5; r++)
        for (size_t h = 0; h < 5; h++)
            for (size_t m = 0; m < 5; m++)
                for (unsigned c = 0; c < HK_FIRST_POOL_CLASS; c++) {
                    struct hk_tiny_options options = {refills[r], refills[h], caps[m]};
                    struct hk_class_policy p = hk_tiny_class_policy(c, &options);
                    must_be_usable(&p);
                    ck_assert_uint_le(p.cap_max, caps[m]);
                    ck_assert_uint_le(p.cap_max * hk_size_class[c].size, MAX_TINY_BYTES);
                    ck_assert_uint_le(p.refill, refills[r]);
                    ck_assert_uint_le(p.refill_hot, hk_max(refills[r], refills[h]));
                }
}
END_TEST

START_TEST(tiny_defaults)
{
    struct hk_tiny_options options = {16, 64, 2048};
    struct hk_class_policy small = hk_tiny_class_policy(0, &options);
    struct hk_class_policy large = hk_tiny_class_policy(HK_FIRST_POOL_CLASS - 1, &options);

    ck_assert_uint_eq(small.refill, 16);
    ck_assert_uint_eq(small.refill_hot, 64);
    ck_assert_uint_eq(small.cap_initial, 31);
    ck_assert_uint_eq(small.cap_max, 1023);
    ck_assert_uint_eq(large.cap_max, 127); /* 128 KiB / 1 KiB */
}
END_TEST

START_TEST(pool_within_bounds)
{
    static const unsigned caps[] = {0, 1, 8, 64, 65535};

    for (size_t m = 0; m < 5; m++)
        for (int tls = 0; tls < 2; tls++)
            for (unsigned c = HK_FIRST_POOL_CLASS; c < HK_NR_CLASSES; c++) {
                struct hk_pool_options options = {caps[m], tls};
                struct hk_class_policy p = hk_pool_class_policy(c, &options);
                size_t size = hk_size_class[c].size;
                must_be_usable(&p);
                ck_assert_uint_le(p.cap_max, hk_max(caps[m], 7));
                ck_assert_uint_le(p.cap_max * size, hk_max(MAX_POOL_BYTES, 7 * size));
                ck_assert_uint_le(p.cap_initial * size, hk_max(64 * HK_KIB, 3 * size));
                ck_assert_uint_le(p.refill * size, hk_max(64 * HK_KIB, 2 * size));
                ck_assert_uint_le(p.refill, p.cap_initial);
                if (!tls)
                    ck_assert_uint_eq(p.cap_max, 1);
            }
}
END_TEST

/* A magazine of large blocks must not pin what a magazine of small ones does. */
START_TEST(larger_blocks_never_get_more_room)
{
    struct hk_tiny_options tiny = {16, 64, 2048};
    struct hk_pool_options pool = {64, true};

    for (unsigned c = 1; c < HK_FIRST_POOL_CLASS; c++)
        ck_assert_uint_le(hk_tiny_class_policy(c, &tiny).cap_max,
                          hk_tiny_class_policy(c - 1, &tiny).cap_max);
    for (unsigned c = HK_FIRST_POOL_CLASS + 1; c < HK_NR_SIZED_CLASSES; c++) {
        struct hk_class_policy p = hk_pool_class_policy(c, &pool);
        struct hk_class_policy smaller = hk_pool_class_policy(c - 1, &pool);
        ck_assert_uint_le(p.cap_max, smaller.cap_max);
        ck_assert_uint_le(p.cap_initial, smaller.cap_initial);
        ck_assert_uint_le(p.refill, smaller.refill);
    }
}
END_TEST

START_TEST(published_policy_is_the_current_one)
{
    static struct hk_policy other = {.l25_cap = 77};

    ck_assert_ptr_eq(hk_policy(), &hk_policy_builtin);
    hk_policy_publish(&other);
    ck_assert_ptr_eq(hk_policy(), &other);
    ck_assert_uint_eq(hk_policy()->l25_cap, 77);
    hk_policy_publish(&hk_policy_builtin);
    ck_assert_ptr_eq(hk_policy(), &hk_policy_builtin);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("policy");
    TCase *tc = new_case(suite, "rules", setup, teardown);

    tcase_add_test(tc, tiny_within_bounds);
    tcase_add_test(tc, tiny_defaults);
    tcase_add_test(tc, pool_within_bounds);
    tcase_add_test(tc, larger_blocks_never_get_more_room);
    tcase_add_test(tc, published_policy_is_the_current_one);
    return run_suite(suite);
}
