// SPDX-License-Identifier: MIT
#include "sync/lock.h"

#include "base/panic.h"
#include "sync/atomic.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAITERS ((uintptr_t)1)
#ifndef SPINS /* tests/explore makes do with fewer */
#define SPINS 64 /* holders are brief */
#define FORK_WAITS 20 /* of a millisecond */
#endif

static const struct timespec a_while = {0, 1000000};

/* Ranks held by this thread, one bit each; its address is the thread's identity. */
static __thread uint32_t held_ranks __attribute__((tls_model("initial-exec")));
_Static_assert(_Alignof(uint32_t) >= 2, "bit 0 of the identity is free");

const void *hk_thread_id(void)
{
    return &held_ranks;
}

static uintptr_t me(void)
{
    return (uintptr_t)&held_ranks;
}

/* The futex is the half of the word that holds bit 0. */
static uint32_t *futex_of(struct hk_lock *lock)
{
    bool high_first = sizeof(uintptr_t) == 8 && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

    return (uint32_t *)&lock->word + high_first;
}

static void futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
    int saved = errno;

    syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
    errno = saved;
}

static bool try_take(struct hk_lock *lock, uintptr_t as)
{
    uintptr_t none = 0;

    return hk_cas_acquire(&lock->word, &none, as); /* L1 acquire, pairs with L2 */
}

static bool spin(struct hk_lock *lock)
{
    for (int i = 0; i < SPINS; i++) {
        if (hk_load_relaxed(&lock->word) == 0 && try_take(lock, me()))
            return true;
        hk_cpu_relax();
    }
    return false;
}

/* After waiting, the lock is taken with the bit set: others may wait still. False: its holder will wake them. */
static bool take_or_mark(struct hk_lock *lock, uintptr_t *holder)
{
    for (;;) {
        if (try_take(lock, me() | WAITERS))
            return true;
        *holder = hk_load_relaxed(&lock->word);
        if (*holder != 0 &&
            ((*holder & WAITERS) || hk_cas_relaxed(&lock->word, holder, *holder | WAITERS)))
            return false;
    }
}

static bool wait_once(struct hk_lock *lock, const struct timespec *timeout)
{
    uintptr_t holder;

    if (take_or_mark(lock, &holder))
        return true;
    futex(futex_of(lock), FUTEX_WAIT_PRIVATE, (uint32_t)(holder | WAITERS), timeout);
    return false;
}

static HK_NOINLINE void lock_slow(struct hk_lock *lock)
{
    if (spin(lock))
        return;
    while (!wait_once(lock, NULL))
        ;
}

static void check_rank(const struct hk_lock *lock)
{
    if (held_ranks >> lock->rank)
        hk_panic_internal("lock taken out of rank order", lock);
    held_ranks |= UINT32_C(1) << lock->rank;
}

void hk_lock(struct hk_lock *lock)
{
    if (HK_DEBUG)
        check_rank(lock);
    if (HK_UNLIKELY(!try_take(lock, me())))
        lock_slow(lock);
}

bool hk_try_lock(struct hk_lock *lock)
{
    if (!try_take(lock, me()))
        return false;
    if (HK_DEBUG)
        held_ranks |= UINT32_C(1) << lock->rank; /* any order: trying cannot deadlock */
    return true;
}

static void release(struct hk_lock *lock)
{
    /* L2 release, pairs with L1: publishes what the lock protects */
    if (HK_UNLIKELY(hk_exchange_release(&lock->word, (uintptr_t)0) & WAITERS))
        futex(futex_of(lock), FUTEX_WAKE_PRIVATE, 1, NULL);
}

void hk_unlock(struct hk_lock *lock)
{
    if (HK_DEBUG)
        held_ranks &= ~(UINT32_C(1) << lock->rank);
    release(lock);
}

bool hk_lock_is_mine(const struct hk_lock *lock)
{
    return (hk_load_relaxed(&lock->word) & ~WAITERS) == me();
}

static uint32_t nr_forks_inside; /* relaxed adds: who reads an old value looks again a millisecond later */

void hk_lock_fork_nobody_inside(void)
{
    hk_store_relaxed(&nr_forks_inside, UINT32_C(0));
}

void hk_lock_fork_inside(int change)
{
    hk_add_relaxed(&nr_forks_inside, (uint32_t)change);
}

/* Nobody wakes who waits here: the time is all that is wanted. */
void hk_lock_fork_stand_back(void)
{
    for (int i = 0; i < FORK_WAITS; i++) {
        uint32_t nr = hk_load_relaxed(&nr_forks_inside);
        if (nr == 0)
            return;
        futex(&nr_forks_inside, FUTEX_WAIT_PRIVATE, nr, &a_while);
    }
}

/* The ranks held stay as they are: a section that was interrupted goes on with them. */
bool hk_lock_for_fork(struct hk_lock *lock)
{
    uintptr_t holder;

    if (hk_lock_is_mine(lock))
        return true;
    if (try_take(lock, me()) || spin(lock)) {
        lock->for_fork = 1;
        return true;
    }
    /* Who gives up may have been woken in another's place: so not before the holder is marked. */
    for (int i = 0; !wait_once(lock, &a_while); i++)
        if (i >= FORK_WAITS && hk_load_relaxed(&nr_forks_inside) > 0) {
            if (take_or_mark(lock, &holder))
                break;
            return false;
        }
    lock->for_fork = 1;
    return true;
}

void hk_unlock_after_fork(struct hk_lock *lock)
{
    if (!hk_lock_is_mine(lock) || !lock->for_fork)
        return;
    lock->for_fork = 0;
    release(lock);
}

bool hk_lock_reset_after_fork(struct hk_lock *lock)
{
    if (!hk_lock_is_mine(lock))
        return hk_load_relaxed(&lock->word) == 0;
    if (lock->for_fork) {
        lock->for_fork = 0;
        hk_store_relaxed(&lock->word, (uintptr_t)0);
    }
    return true;
}

void hk_lock_reset(struct hk_lock *lock)
{
    lock->for_fork = 0;
    hk_store_relaxed(&lock->word, (uintptr_t)0); /* nobody else is there */
}
