// SPDX-License-Identifier: MIT
#include "sync/lock.h"

#include "base/panic.h"
#include "sync/atomic.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WAITERS ((uintptr_t)1)
#define SPINS 64 /* holders are brief */

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

static void futex(struct hk_lock *lock, int operation, uint32_t value)
{
    int saved = errno;

    syscall(SYS_futex, futex_of(lock), operation, value, NULL, NULL, 0);
    errno = saved;
}

static bool try_take(struct hk_lock *lock, uintptr_t as)
{
    uintptr_t none = 0;

    return hk_cas_acquire(&lock->word, &none, as); /* L1 acquire, pairs with L2 */
}

/* After waiting, the lock is taken with the bit set: others may wait still. */
static void lock_slow(struct hk_lock *lock)
{
    for (int spin = 0; spin < SPINS; spin++) {
        if (hk_load_relaxed(&lock->word) == 0 && try_take(lock, me()))
            return;
        hk_cpu_relax();
    }
    while (!try_take(lock, me() | WAITERS)) {
        uintptr_t holder = hk_load_relaxed(&lock->word);

        if (holder == 0)
            continue;
        if ((holder & WAITERS) || hk_cas_relaxed(&lock->word, &holder, holder | WAITERS))
            futex(lock, FUTEX_WAIT_PRIVATE, (uint32_t)(holder | WAITERS));
    }
}

static void check_rank(const struct hk_lock *lock, bool nested)
{
    if (held_ranks >> lock->rank >> nested)
        hk_panic_internal("lock taken out of rank order", lock);
    held_ranks |= UINT32_C(1) << lock->rank;
}

static void take(struct hk_lock *lock, bool nested)
{
    if (HK_DEBUG)
        check_rank(lock, nested);
    if (HK_UNLIKELY(!try_take(lock, me())))
        lock_slow(lock);
}

void hk_lock(struct hk_lock *lock)
{
    take(lock, false);
}

void hk_lock_nested(struct hk_lock *lock)
{
    take(lock, true);
}

bool hk_try_lock(struct hk_lock *lock)
{
    if (!try_take(lock, me()))
        return false;
    if (HK_DEBUG)
        held_ranks |= UINT32_C(1) << lock->rank; /* any order: trying cannot deadlock */
    return true;
}

void hk_unlock(struct hk_lock *lock)
{
    if (HK_DEBUG)
        held_ranks &= ~(UINT32_C(1) << lock->rank);
    /* L2 release, pairs with L1: publishes what the lock protects */
    if (HK_UNLIKELY(hk_exchange_release(&lock->word, (uintptr_t)0) & WAITERS))
        futex(lock, FUTEX_WAKE_PRIVATE, 1);
}

bool hk_lock_is_mine(const struct hk_lock *lock)
{
    return (hk_load_relaxed(&lock->word) & ~WAITERS) == me();
}

void hk_lock_reset(struct hk_lock *lock)
{
    if (HK_DEBUG)
        held_ranks &= ~(UINT32_C(1) << lock->rank);
    hk_store_relaxed(&lock->word, (uintptr_t)0); /* nobody else is there */
}
