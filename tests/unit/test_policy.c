// SPDX-License-Identifier: MIT
/* policy, and the rules of tiny and pool that fill it. */
#include "policy/policy.h"

#include "os/os.h"

#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

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

/* ---- snapshots ----------------------------------------------------------------------------- */

#define NR_READERS 3

static uint64_t seen[NR_READERS];
static bool active[NR_READERS];

static uint64_t oldest_seen(void)
{
    uint64_t oldest = UINT64_MAX;

    for (unsigned i = 0; i < NR_READERS; i++)
        if (hk_load_relaxed(&active[i])) {
            uint64_t e = hk_load_acquire(&seen[i]);
            oldest = e < oldest ? e : oldest;
        }
    return oldest;
}

/* The negative control: nobody ever reads. */
static uint64_t nobody_reads(void)
{
    return UINT64_MAX;
}

static void stamp_policy(struct hk_policy *policy, void *arg)
{
    size_t n = *(size_t *)arg;

    policy->l25_cap = policy->limit_bytes = policy->remote_batch_bytes = policy->purge_floor_bytes = n;
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        policy->class[c].refill = (uint16_t)n;
}

static int publish_stamp(size_t n, unsigned max)
{
    return hk_policy_update(stamp_policy, &n, max);
}

START_TEST(publishing_moves_the_pointer_and_keeps_the_old_content)
{
    const struct hk_policy *first = hk_policy(), *second;

    ck_assert_ptr_eq(first, &hk_policy_builtin);
    ck_assert_int_eq(publish_stamp(77, 0), 0);
    second = hk_policy();
    ck_assert_ptr_ne(first, second);
    ck_assert_uint_eq(second->l25_cap, 77);
    ck_assert_uint_eq(first->l25_cap, 0);
    ck_assert_int_eq(publish_stamp(78, 0), 0);
    ck_assert_uint_eq(second->l25_cap, 77);
    hk_policy_check();
}
END_TEST

START_TEST(equal_snapshots_are_published_once)
{
    struct hk_policy_stats stats;
    const struct hk_policy *a, *b;

    publish_stamp(1, 0);
    a = hk_policy();
    publish_stamp(2, 0);
    b = hk_policy();
    for (unsigned i = 0; i < 100; i++) {
        publish_stamp(1, 0);
        ck_assert_ptr_eq(hk_policy(), a);
        publish_stamp(2, 0);
        ck_assert_ptr_eq(hk_policy(), b);
    }
    hk_policy_stats(&stats);
    ck_assert_uint_eq(stats.nr_snapshots, 2);
    ck_assert_uint_eq(stats.nr_published, 202);
    publish_stamp(2, 0); /* nothing changes */
    hk_policy_stats(&stats);
    ck_assert_uint_eq(stats.nr_published, 202);
    ck_assert_int_eq(hk_policy_publish(&hk_policy_builtin), 0);
    ck_assert_ptr_eq(hk_policy(), &hk_policy_builtin);
    hk_policy_check();
}
END_TEST

START_TEST(memory_is_reused_when_every_reader_has_passed)
{
    struct hk_policy_stats stats;

    hk_policy_set_readers(oldest_seen);
    active[0] = active[1] = true;
    for (size_t n = 1; n <= 1000; n++) {
        ck_assert_int_eq(publish_stamp(n, 0), 0);
        hk_policy_note(&seen[0]);
        hk_policy_note(&seen[1]);
    }
    hk_policy_stats(&stats);
    ck_assert_uint_le(stats.nr_snapshots, 2);
    ck_assert_uint_ge(stats.nr_reused, 998);
    hk_policy_check();
}
END_TEST

START_TEST(a_sleeper_keeps_what_it_may_be_reading)
{
    struct hk_policy_stats stats;
    const struct hk_policy *held;
    size_t n = 1;

    hk_policy_set_readers(oldest_seen);
    active[0] = active[1] = true;
    publish_stamp(n++, 0);
    hk_policy_note(&seen[0]); /* then it sleeps, with this in hand: */
    held = hk_policy();
    for (; n <= 8; n++) {
        ck_assert_int_eq(publish_stamp(n, 8), 0);
        hk_policy_note(&seen[1]);
    }
    ck_assert_int_eq(publish_stamp(n, 8), EAGAIN); /* a learner goes no further */
    ck_assert_uint_eq(hk_policy()->l25_cap, 8);
    ck_assert_uint_eq(held->l25_cap, 1);
    ck_assert_int_eq(publish_stamp(n, 0), 0); /* the user does */
    ck_assert_uint_eq(held->l25_cap, 1);
    hk_policy_note(&seen[0]); /* awake */
    ck_assert_int_eq(publish_stamp(n + 1, 8), 0);
    active[0] = false; /* a heap that is parked reads nothing */
    hk_policy_stats(&stats);
    ck_assert_uint_eq(stats.nr_refused, 1);
    ck_assert_uint_eq(stats.nr_snapshots, 9);
    hk_policy_check();
}
END_TEST

/* As a publisher leaves it that fork cut off: the new snapshot is none any more, the pointer still at the old one. */
START_TEST(a_publisher_that_is_gone)
{
    struct snapshot {
        struct hk_policy policy;
        uint64_t retired;
    };
    const size_t retired = offsetof(struct snapshot, retired);
    struct hk_policy_stats stats;
    char *cut_off;

    hk_policy_set_readers(nobody_reads);
    publish_stamp(1, 0);
    cut_off = (char *)hk_policy();
    publish_stamp(2, 0);
    ck_assert_uint_ne(*(uint64_t *)(cut_off + retired), 0);
    *(uint64_t *)(cut_off + retired) = 0;
    hk_policy_forget();
    hk_policy_check(); /* would panic */
    publish_stamp(3, 0); /* into its memory */
    ck_assert_ptr_eq(hk_policy(), (const struct hk_policy *)cut_off);
    hk_policy_stats(&stats);
    ck_assert_uint_eq(stats.nr_snapshots, 2);
    hk_policy_check();
}
END_TEST

static intptr_t no_map(void *hint, size_t bytes)
{
    (void)hint, (void)bytes;
    return -ENOMEM;
}

START_TEST(without_memory_nothing_changes)
{
    struct hk_os_calls kernel = hk_os_calls;
    struct hk_policy_stats before, after;
    const struct hk_policy *policy;
    size_t n = 1;

    hk_os_calls.map = no_map;
    do {
        policy = hk_policy();
        hk_policy_stats(&before);
    } while (publish_stamp(n++, 0) == 0 && n < 10000); /* until the pages at hand are full */
    ck_assert_int_eq(publish_stamp(n, 0), ENOMEM);
    hk_policy_stats(&after);
    ck_assert_ptr_eq(hk_policy(), policy);
    ck_assert_mem_eq(&before, &after, sizeof before);
    hk_policy_check();
    hk_os_calls = kernel;
    ck_assert_int_eq(publish_stamp(n, 0), 0);
    ck_assert_ptr_ne(hk_policy(), policy);
    hk_policy_check();
}
END_TEST

START_TEST(a_stranger_stops_reuse)
{
    struct hk_policy_stats before, after;

    hk_policy_set_readers(oldest_seen);
    hk_policy_stranger_enters();
    for (size_t n = 1; n <= 10; n++)
        publish_stamp(n, 0);
    hk_policy_stats(&before);
    ck_assert_uint_eq(before.nr_snapshots, 10);
    hk_policy_stranger_leaves();
    for (size_t n = 11; n <= 20; n++)
        publish_stamp(n, 0);
    hk_policy_stats(&after);
    ck_assert_uint_eq(after.nr_snapshots, 10);
    hk_policy_stranger_enters();
    hk_policy_stranger_enters();
    hk_policy_fork_child(false); /* those threads are not in the child */
    publish_stamp(21, 10);
    ck_assert_uint_eq(hk_policy()->l25_cap, 21);
}
END_TEST

/* Readers hold a snapshot over a yield and then look whether it is still one. */
static bool stop_readers;
static size_t nr_torn, nr_looks;

static void *read_policies(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;

    while (!hk_load_relaxed(&stop_readers)) {
        const struct hk_policy *p = hk_policy();
        size_t n = hk_load_relaxed(&p->l25_cap);
        sched_yield();
        bool whole = hk_load_relaxed(&p->l25_cap) == n && hk_load_relaxed(&p->limit_bytes) == n &&
                     hk_load_relaxed(&p->purge_floor_bytes) == n &&
                     hk_load_relaxed(&p->class[HK_NR_CLASSES - 1].refill) == (uint16_t)n;
        hk_add_relaxed(&nr_torn, !whole);
        hk_add_relaxed(&nr_looks, 1);
        hk_policy_note(&seen[me]);
    }
    return NULL;
}

/* Publishes while they read, until enough was read and reused; with refusals once 64 snapshots have readers,
 * so that a machine that runs one thread at a time needs no longer than one with many. */
static size_t torn_reads(uint64_t (*readers)(void), bool one_is_enough)
{
    pthread_t thread[NR_READERS];
    struct hk_policy_stats stats = {0};

    nr_torn = nr_looks = 0;
    stop_readers = false;
    publish_stamp(1, 0);
    hk_policy_set_readers(readers);
    for (uintptr_t i = 0; i < NR_READERS; i++) {
        active[i] = true;
        hk_policy_note(&seen[i]);
        pthread_create(&thread[i], NULL, read_policies, (void *)i);
    }
    for (size_t n = 2; hk_load_relaxed(&nr_looks) < 3000 || stats.nr_reused < 1000; n = n % 60000 + 1) {
        if (one_is_enough && hk_load_relaxed(&nr_torn))
            break;
        if (publish_stamp(n, 64) == EAGAIN || n % 8 == 0)
            sched_yield();
        hk_policy_stats(&stats);
    }
    hk_store_relaxed(&stop_readers, true);
    for (unsigned i = 0; i < NR_READERS; i++)
        pthread_join(thread[i], NULL);
    return nr_torn;
}

START_TEST(no_reader_sees_its_snapshot_change)
{
    ck_assert_uint_eq(torn_reads(oldest_seen, false), 0);
    hk_policy_check();
}
END_TEST

START_TEST(negative_control_reuse_without_waiting_is_seen)
{
    ck_assert_uint_gt(torn_reads(nobody_reads, true), 0);
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
    tc = new_case(suite, "snapshots", setup, teardown);
    tcase_add_test(tc, publishing_moves_the_pointer_and_keeps_the_old_content);
    tcase_add_test(tc, equal_snapshots_are_published_once);
    tcase_add_test(tc, memory_is_reused_when_every_reader_has_passed);
    tcase_add_test(tc, a_sleeper_keeps_what_it_may_be_reading);
    tcase_add_test(tc, a_publisher_that_is_gone);
    tcase_add_test(tc, without_memory_nothing_changes);
    tcase_add_test(tc, a_stranger_stops_reuse);
    tcase_add_test(tc, no_reader_sees_its_snapshot_change);
    if (!UNDER_TSAN) /* a race on purpose */
        tcase_add_test(tc, negative_control_reuse_without_waiting_is_seen);
    return run_suite(suite);
}
