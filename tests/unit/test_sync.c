// SPDX-License-Identifier: MIT
/* The lock is compiled in with HK_DEBUG, so that ranks are verified whatever the build was told. */
#include "base/base.h"
#undef HK_DEBUG
#define HK_DEBUG 1
#include "sync/lock.c"

#include "child.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>

#define NR_THREADS 4
#define NR_ROUNDS 50000

static struct hk_lock low = HK_LOCK_INIT(HK_RANK_HEAP);
static struct hk_lock high = HK_LOCK_INIT(HK_RANK_META);
static struct hk_lock other_high = HK_LOCK_INIT(HK_RANK_META);

/* Two plain variables: they part as soon as two threads are inside at once. */
static unsigned long first_count, second_count;

static void *count(void *arg)
{
    unsigned long *nr_wrong = arg;

    for (int i = 0; i < NR_ROUNDS; i++) {
        if (i % 8 == 0) {
            while (!hk_try_lock(&low))
                hk_cpu_relax();
        } else {
            hk_lock(&low);
        }
        *nr_wrong += !hk_lock_is_mine(&low);
        first_count++;
        *nr_wrong += first_count != ++second_count;
        hk_unlock(&low);
        *nr_wrong += hk_lock_is_mine(&low);
    }
    return NULL;
}

START_TEST(excludes)
{
    pthread_t thread[NR_THREADS];
    unsigned long nr_wrong[NR_THREADS] = {0};

    for (int i = 0; i < NR_THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, count, &nr_wrong[i]), 0);
    for (int i = 0; i < NR_THREADS; i++) {
        pthread_join(thread[i], NULL);
        ck_assert_uint_eq(nr_wrong[i], 0);
    }
    ck_assert_uint_eq(first_count, (unsigned long)NR_THREADS * NR_ROUNDS);
}
END_TEST

static void *take_once(void *arg)
{
    int *result = arg;

    errno = EBADMSG;
    hk_lock(&low);
    hk_unlock(&low);
    *result = errno;
    return NULL;
}

/* No clock: the waiter announces itself in the word before it sleeps. */
START_TEST(wakes_a_sleeper_and_keeps_errno)
{
    pthread_t thread;
    int waiter_errno = 0;

    hk_lock(&low);
    pthread_create(&thread, NULL, take_once, &waiter_errno);
    while (!(hk_load_relaxed(&low.word) & WAITERS))
        hk_cpu_relax();
    errno = EBADMSG;
    hk_unlock(&low);
    ck_assert_int_eq(errno, EBADMSG);
    pthread_join(thread, NULL);
    ck_assert_int_eq(waiter_errno, EBADMSG);
    ck_assert_uint_eq(low.word, 0);
}
END_TEST

/* In /proc: S when it sleeps. */
static char state_of(long thread_id)
{
    char path[64], line[256] = "";
    FILE *f;

    snprintf(path, sizeof path, "/proc/self/task/%ld/stat", thread_id);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
    fclose(f);
    return strrchr(line, ')')[2];
}

static void *tell_and_take(void *arg)
{
    hk_store_release((long *)arg, syscall(SYS_gettid));
    hk_lock(&low);
    hk_unlock(&low);
    return NULL;
}

/* And does not turn in a loop until it has the lock: it would be seen asleep once by chance, and never stay so. */
START_TEST(a_waiter_sleeps)
{
    pthread_t thread;
    long id = 0;
    int nr_asleep = 0;

    hk_lock(&low);
    pthread_create(&thread, NULL, tell_and_take, &id);
    while (!hk_load_acquire(&id))
        hk_cpu_relax();
    for (int i = 0; i < 30000 && nr_asleep < 20; i++) {
        nr_asleep = state_of(id) == 'S' ? nr_asleep + 1 : 0;
        usleep(1000);
    }
    ck_assert_int_eq(nr_asleep, 20);
    hk_unlock(&low);
    pthread_join(thread, NULL);
}
END_TEST

/* Each waker wakes one: a lost one would hang here. */
START_TEST(wakes_all_sleepers)
{
    pthread_t thread[NR_THREADS];
    int waiter_errno[NR_THREADS] = {0};

    for (int round = 0; round < 200; round++) {
        hk_lock(&low);
        for (int i = 0; i < NR_THREADS; i++)
            ck_assert_int_eq(pthread_create(&thread[i], NULL, take_once, &waiter_errno[i]), 0);
        while (!(hk_load_relaxed(&low.word) & WAITERS))
            hk_cpu_relax();
        hk_unlock(&low);
        for (int i = 0; i < NR_THREADS; i++)
            pthread_join(thread[i], NULL);
    }
}
END_TEST

START_TEST(try_lock_fails_when_held)
{
    hk_lock(&low);
    ck_assert(!hk_try_lock(&low));
    hk_unlock(&low);
    ck_assert(hk_try_lock(&low));
    hk_unlock(&low);
}
END_TEST

static void *is_mine(void *arg)
{
    bool *result = arg;

    *result = hk_lock_is_mine(&low);
    return NULL;
}

START_TEST(knows_its_owner)
{
    pthread_t thread;
    bool others = true;

    ck_assert(!hk_lock_is_mine(&low));
    hk_lock(&low);
    ck_assert(hk_lock_is_mine(&low));
    pthread_create(&thread, NULL, is_mine, &others);
    pthread_join(thread, NULL);
    ck_assert_msg(!others, "another thread believes that it holds the lock");
    hk_unlock(&low);
    ck_assert(!hk_lock_is_mine(&low));
}
END_TEST

static void *thread_id(void *arg)
{
    *(const void **)arg = hk_thread_id();
    return NULL;
}

START_TEST(thread_ids_differ)
{
    pthread_t thread;
    const void *other = NULL;

    pthread_create(&thread, NULL, thread_id, &other);
    pthread_join(thread, NULL);
    ck_assert_ptr_nonnull(hk_thread_id());
    ck_assert_ptr_eq(hk_thread_id(), hk_thread_id());
    ck_assert_ptr_ne(hk_thread_id(), other);
}
END_TEST

static void *hold(void *arg)
{
    hk_lock(arg);
    return NULL; /* and leaves it held, as a thread does that a fork lost */
}

START_TEST(reset_frees_what_a_lost_thread_held)
{
    pthread_t thread;

    pthread_create(&thread, NULL, hold, &low);
    pthread_join(thread, NULL);
    ck_assert(!hk_try_lock(&low));
    hk_lock_reset(&low);
    ck_assert(hk_try_lock(&low));
    ck_assert(hk_lock_is_mine(&low));
    hk_unlock(&low);
}
END_TEST

/*
 * Ranks.
 */

static void take_low(void)
{
    hk_lock(&low);
}

static void expect_rank_panic(void (*function)(void))
{
    static const char text[] = "hakmem: heap corrupted: lock taken out of rank order: at 0x";
    struct child child = run_child(function);

    ck_assert_msg(strncmp(child.text, text, sizeof text - 1) == 0, "said \"%s\"", child.text);
    ck_assert(child_aborted(&child));
}

START_TEST(increasing_ranks_are_fine)
{
    hk_lock(&low);
    hk_lock(&high);
    hk_unlock(&low); /* any order out */
    hk_unlock(&high);
    hk_lock(&low);
    hk_unlock(&low);
}
END_TEST

START_TEST(trying_is_fine_in_any_order)
{
    hk_lock(&high);
    ck_assert(hk_try_lock(&low));
    hk_unlock(&low);
    hk_unlock(&high);
    hk_lock(&low); /* and leaves no rank behind */
    hk_unlock(&low);
}
END_TEST

START_TEST(a_tried_lock_counts)
{
    ck_assert(hk_try_lock(&high));
    expect_rank_panic(take_low);
    hk_unlock(&high);
}
END_TEST

/* Fork's way: whatever is held, and without a trace in the ranks. */
START_TEST(fork_takes_locks_in_any_order)
{
    hk_lock(&high);
    ck_assert(hk_lock_for_fork(&high)); /* mine: left alone */
    ck_assert(hk_lock_for_fork(&low));
    ck_assert(hk_lock_for_fork(&other_high));
    ck_assert(hk_lock_is_mine(&low));
    hk_unlock_after_fork(&low);
    hk_unlock_after_fork(&other_high);
    hk_unlock_after_fork(&high);
    ck_assert(!hk_lock_is_mine(&low));
    ck_assert(hk_lock_is_mine(&high));
    if (HK_DEBUG)
        expect_rank_panic(take_low); /* the section's rank still counts */
    hk_unlock(&high);
    hk_lock(&low);
    hk_unlock(&low);
}
END_TEST

static void *hold_a_while(void *arg)
{
    bool *has_it = arg;

    hk_lock(&low);
    hk_store_release(has_it, true);
    while (!(hk_load_relaxed(&low.word) & WAITERS))
        hk_cpu_relax();
    usleep(10 * FORK_WAITS * 1000);
    hk_unlock(&low);
    return NULL;
}

/* However long it takes: nobody else forks, for whose sake it would have to give up. */
START_TEST(a_lone_fork_waits_until_the_lock_is_free)
{
    pthread_t thread;
    bool has_it = false;

    hk_lock_fork_inside(1); /* as a child inherits it */
    hk_lock_fork_nobody_inside();
    pthread_create(&thread, NULL, hold_a_while, &has_it);
    while (!hk_load_acquire(&has_it))
        hk_cpu_relax();
    ck_assert(hk_lock_for_fork(&low));
    hk_unlock_after_fork(&low);
    pthread_join(thread, NULL);
}
END_TEST

static void *end_inside(void *unused)
{
    usleep(3000); /* more than one of its waits */
    hk_lock_fork_inside(-1);
    return unused;
}

START_TEST(a_fork_outside_lets_those_inside_go_first)
{
    pthread_t thread;

    hk_lock_fork_stand_back(); /* nobody: at once */
    hk_lock_fork_inside(1);
    pthread_create(&thread, NULL, end_inside, NULL);
    hk_lock_fork_stand_back();
    pthread_join(thread, NULL);
    hk_lock_fork_inside(1);
    hk_lock_fork_stand_back(); /* not for ever */
    hk_lock_fork_inside(-1);
}
END_TEST

START_TEST(fork_gives_up_a_lock_that_is_never_let_go)
{
    pthread_t thread;

    pthread_create(&thread, NULL, hold, &low);
    pthread_join(thread, NULL);
    hk_lock_fork_inside(1);
    ck_assert(!hk_lock_for_fork(&low));
    hk_lock_fork_inside(-1);
    hk_unlock_after_fork(&low);
    ck_assert(!hk_try_lock(&low));
    ck_assert(!hk_lock_reset_after_fork(&low)); /* held by a thread that is gone */
    hk_lock_reset(&low);
    ck_assert(hk_lock_reset_after_fork(&low));
    ck_assert(hk_lock_for_fork(&low));
    ck_assert(hk_lock_reset_after_fork(&low));
    ck_assert(hk_try_lock(&low));
    ck_assert(hk_lock_reset_after_fork(&low)); /* mine, not fork's */
    ck_assert(hk_lock_is_mine(&low));
    hk_unlock(&low);
}
END_TEST

static void take_downwards(void)
{
    hk_lock(&high);
    hk_lock(&low);
}

static void take_same_rank(void)
{
    hk_lock(&high);
    hk_lock(&other_high);
}

START_TEST(decreasing_ranks_panic)
{
    expect_rank_panic(take_downwards);
    expect_rank_panic(take_same_rank);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sync");
    TCase *tc = tcase_create("lock");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, excludes);
    tcase_add_test(tc, wakes_a_sleeper_and_keeps_errno);
    tcase_add_test(tc, a_waiter_sleeps);
    tcase_add_test(tc, wakes_all_sleepers);
    tcase_add_test(tc, try_lock_fails_when_held);
    tcase_add_test(tc, knows_its_owner);
    tcase_add_test(tc, thread_ids_differ);
    tcase_add_test(tc, reset_frees_what_a_lost_thread_held);
    suite_add_tcase(suite, tc);

    tc = tcase_create("rank");
    tcase_add_test(tc, increasing_ranks_are_fine);
    tcase_add_test(tc, trying_is_fine_in_any_order);
    tcase_add_test(tc, a_tried_lock_counts);
    tcase_add_test(tc, fork_takes_locks_in_any_order);
    tcase_add_test(tc, a_lone_fork_waits_until_the_lock_is_free);
    tcase_add_test(tc, a_fork_outside_lets_those_inside_go_first);
    tcase_add_test(tc, fork_gives_up_a_lock_that_is_never_let_go);
    tcase_add_test(tc, decreasing_ranks_panic);
    suite_add_tcase(suite, tc);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
