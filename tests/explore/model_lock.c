// SPDX-License-Identifier: MIT
/*
 * lib/sync/lock.c itself, over the engine's futex: mutual exclusion, what is written under the lock is seen under
 * it, nobody sleeps for ever (the engine calls that a deadlock). Then fork's way of taking locks.
 */
#include "sync/atomic.h"
#include "sync/lock.h"

static struct hk_lock lock = HK_LOCK_INIT(HK_RANK_META), other = HK_LOCK_INIT(HK_RANK_SPAN);
static unsigned count; /* under the lock, and no atomic */

static void setup(void)
{
}

static void adds(void)
{
    for (unsigned i = 0; i < 2; i++) {
        hk_lock(&lock);
        count++;
        hk_unlock(&lock);
    }
}

static void tries(void)
{
    for (unsigned i = 0; i < 2; i++)
        if (hk_try_lock(&lock)) {
            count++;
            hk_unlock(&lock);
        } else {
            hk_lock(&lock);
            count++;
            hk_unlock(&lock);
        }
}

static void check(void)
{
    explore_assert(count == 6);
    explore_assert(lock.word == 0);
}

const struct explore_model model_lock = {
    .name = "lock",
    .about = "lock.c: three threads, one counter",
    .preemptions = 2,
    .old_reads = 1,
    .nr_random = 1000,
    .more_preemptions = 3,
    .more_old_reads = 1,
    .real_locks = true,
    .setup = setup,
    .thread = {adds, adds, tries},
    .check = check,
    .control = {
        {"try_take:cas_acquire", "L1"},
        {"release:exchange_release", "L2"},
        {"release:exchange_release=0", "nobody is woken"},
        {"take_or_mark:cas_relaxed=1", "the holder is not marked"},
    },
};

/* ---- fork: one thread takes all locks, another holds one and wants the next ---------------- */

static unsigned data, other_data; /* two halves each under its lock; equal when it is free */
static uint64_t is_child;

static void fork_setup(void)
{
    data = other_data = 0;
}

static void change(struct hk_lock *l, unsigned *value)
{
    hk_lock(l);
    (*value)++; /* half done */
    explore_yield();
    (*value)++;
    hk_unlock(l);
}

static void works(void)
{
    change(&other, &other_data);
    change(&lock, &data);
}

/* What lib/ace does for each of its locks, here for two. */
static void forks(void)
{
    bool complete = hk_lock_for_fork(&other);

    complete &= hk_lock_for_fork(&lock);
    explore_assert(complete); /* nobody forks in an interrupted section */
    if (explore_choose(2) == 0) {
        hk_unlock_after_fork(&lock);
        hk_unlock_after_fork(&other);
        return;
    }
    explore_only_me();
    is_child = 1;
    explore_assert(hk_lock_reset_after_fork(&other));
    explore_assert(hk_lock_reset_after_fork(&lock));
    hk_lock_fork_nobody_inside();
    explore_assert(data % 2 == 0 && other_data % 2 == 0);
    change(&other, &other_data);
    change(&lock, &data);
}

static void fork_check(void)
{
    explore_assert(lock.word == 0 && other.word == 0);
    explore_assert(data % 2 == 0 && other_data % 2 == 0);
    explore_assert(is_child || (data == 4 && other_data == 4));
}

const struct explore_model model_fork = {
    .name = "fork",
    .about = "lock.c: fork takes two locks while two threads work under them; parent and child go on",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 1000,
    .more_preemptions = 3,
    .more_old_reads = 1,
    .real_locks = true,
    .setup = fork_setup,
    .thread = {works, works, forks},
    .check = fork_check,
    .control = {
        {"release:exchange_release=0", "nobody is woken"},
        {"try_take:cas_acquire", "L1"},
        {"hk_lock_reset_after_fork:store_relaxed=1", "a lock that the child never gets"},
    },
};

/* ---- fork inside: two interrupted holders fork, and each wants what the other holds -------- */

/* The thread holds one lock when a signal handler of it forks: lib/ace's prepare, with its rounds, for two locks. */
static void fork_inside(struct hk_lock *held)
{
    hk_lock(held);
    hk_lock_fork_inside(1);
    for (unsigned round = 0; round < 3; round++) {
        if (hk_lock_for_fork(&other) && hk_lock_for_fork(&lock))
            break;
        hk_unlock_after_fork(&lock);
        hk_unlock_after_fork(&other);
        explore_yield();
    }
    hk_lock_fork_inside(-1);
    hk_unlock_after_fork(&lock);
    hk_unlock_after_fork(&other);
    explore_assert(hk_lock_is_mine(held)); /* the section goes on with its lock */
    (*(held == &lock ? &data : &other_data))++;
    hk_unlock(held);
}

static void first_inside(void)
{
    fork_inside(&lock);
}

static void second_inside(void)
{
    fork_inside(&other);
}

static void bystander(void)
{
    hk_lock(&lock);
    data++;
    hk_unlock(&lock);
}

static void inside_check(void)
{
    explore_assert(lock.word == 0 && other.word == 0);
    explore_assert(data == 2 && other_data == 1);
}

const struct explore_model model_fork_inside = {
    .name = "fork-inside",
    .about = "lock.c: two signal handlers fork, each in a section that holds what the other wants",
    .preemptions = 0,
    .old_reads = 0,
    .nr_random = 2000,
    .more_preemptions = 1,
    .more_old_reads = 0,
    .real_locks = true,
    .setup = setup,
    .thread = {first_inside, second_inside, bystander},
    .check = inside_check,
    .control = {
        {"release:exchange_release=0", "nobody is woken"},
        {"hk_lock_for_fork:load_relaxed=0", "it never gives up"},
    },
};
