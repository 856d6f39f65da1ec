// SPDX-License-Identifier: MIT
#include "sync/lock.h"

#include "base/panic.h"
#include "sync/atomic.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Ranks held by this thread, one bit each; its address is the thread's identity. Two locks of one
 * rank are never held together, so a bit is enough. */
static __thread uint32_t held_ranks __attribute__((tls_model("initial-exec")));

const void *hk_thread_id(void)
{
    return &held_ranks;
}

static void note_taken(struct hk_lock *lock, bool nested)
{
    /* Relaxed: only this thread compares the value with its own identity. */
    hk_store_relaxed(&lock->owner, hk_thread_id());
    if (HK_DEBUG) {
        if (held_ranks >> lock->rank >> nested)
            hk_panic_internal("lock taken out of rank order", lock);
        held_ranks |= UINT32_C(1) << lock->rank;
    }
}

static void futex_wait(uint32_t *word, uint32_t value)
{
    int saved = errno;

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
    errno = saved;
}

/* Drepper, "Futexes Are Tricky", mutex 2, with a short spin in front: holders are brief. */
static void lock_slow(struct hk_lock *lock)
{
    for (int spin = 0; spin < 64; spin++) {
        uint32_t free_word = 0;
        if (hk_load_relaxed(&lock->word) == 0 && hk_cas_acquire(&lock->word, &free_word, 1u))
            return;
        hk_cpu_relax();
    }
    while (hk_exchange_acquire(&lock->word, 2u) != 0) /* L1 acquire, pairs with L2 */
        futex_wait(&lock->word, 2);
}

static void take(struct hk_lock *lock)
{
    uint32_t free_word = 0;

    if (HK_UNLIKELY(!hk_cas_acquire(&lock->word, &free_word, 1u))) /* L1 acquire, pairs with L2 */
        lock_slow(lock);
}

void hk_lock(struct hk_lock *lock)
{
    take(lock);
    note_taken(lock, false);
}

void hk_lock_nested(struct hk_lock *lock)
{
    take(lock);
    note_taken(lock, true);
}

bool hk_try_lock(struct hk_lock *lock)
{
    uint32_t free_word = 0;

    if (!hk_cas_acquire(&lock->word, &free_word, 1u)) /* L1 acquire, pairs with L2 */
        return false;
    note_taken(lock, false);
    return true;
}

void hk_unlock(struct hk_lock *lock)
{
    if (HK_DEBUG)
        held_ranks &= ~(UINT32_C(1) << lock->rank);
    hk_store_relaxed(&lock->owner, NULL);
    /* L2 release, pairs with L1: publishes what the lock protects */
    if (HK_UNLIKELY(__atomic_exchange_n(&lock->word, 0u, __ATOMIC_RELEASE) == 2)) {
        int saved = errno;
        syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        errno = saved;
    }
}

bool hk_lock_is_mine(const struct hk_lock *lock)
{
    return hk_load_relaxed(&lock->word) != 0 && hk_load_relaxed(&lock->owner) == hk_thread_id();
}

void hk_lock_reset(struct hk_lock *lock)
{
    if (HK_DEBUG)
        held_ranks &= ~(UINT32_C(1) << lock->rank);
    lock->owner = NULL;
    hk_store_release(&lock->word, 0u);
}
