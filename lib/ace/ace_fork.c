// SPDX-License-Identifier: MIT
/* ace_fork: every lock of the data plane, in rank order: the options' first, then heaps. */
#include "ace/ace_private.h"

#include "arena/arena.h"
#include "batch/batch.h"
#include "bigcache/bigcache.h"
#include "config/config.h"
#include "meta/meta.h"

#include <sched.h>

#define NR_LATE 7
#define NR_LOCKS (HK_L25_NR_SHARDS + NR_LATE)
#define ROUNDS 4 /* of all locks, each with patience, before a signal handler goes on without some */

static struct hk_lock gate = HK_LOCK_INIT(HK_RANK_FORK);

static struct hk_lock *lock_number(unsigned i)
{
    struct hk_lock *const late[NR_LATE] = {hk_bigcache_lock(), &hk_big_lock,    &hk_batch_lock, &hk_arena_lock,
                                           &hk_span_lock,      &hk_policy_lock, &hk_meta_lock};

    return i < HK_L25_NR_SHARDS ? hk_l25_lock(i) : late[i - HK_L25_NR_SHARDS];
}

/* What lock i protects was left half changed by a thread that is gone: it starts anew, the rest is lost. */
static void forget(unsigned i)
{
    static void (*const late[NR_LATE])(void) = {hk_bigcache_forget, hk_big_forget,    hk_batch_forget, hk_arena_forget,
                                                hk_span_forget,     hk_policy_forget, hk_meta_forget};

    if (i < HK_L25_NR_SHARDS)
        hk_l25_forget(i);
    else
        late[i - HK_L25_NR_SHARDS]();
    hk_lock_reset(lock_number(i));
}

static bool take_all(bool force)
{
    bool complete = hk_lock_for_fork(&hk_config_lock);

    if (complete || force)
        complete &= hk_heap_fork_prepare(force);
    for (unsigned i = 0; i < NR_LOCKS && (complete || force); i++)
        complete &= hk_lock_for_fork(lock_number(i));
    return complete;
}

static void give_back(void)
{
    for (unsigned i = NR_LOCKS; i-- > 0;)
        hk_unlock_after_fork(lock_number(i));
    hk_heap_fork_parent();
    hk_unlock_after_fork(&hk_config_lock);
    hk_unlock_after_fork(&gate);
}

void hk_ace_fork_parent(void)
{
    give_back();
}

/*
 * A holder that never lets go is one that waits at the gate itself, in a signal handler: so let go of
 * everything now and then. Two such holders wait for each other; then one goes on without what the other
 * holds, and its child forgets that.
 */
void hk_ace_fork_prepare(bool inside, const struct hk_fork_outer *outer)
{
    if (inside)
        hk_lock_fork_inside(1); /* before any wait: others let go only of what somebody inside may want */
    for (unsigned round = 0;; round++) {
        bool force = inside && round >= ROUNDS;

        if (!inside)
            hk_lock_fork_stand_back();
        if (outer)
            outer->lock();
        while (!hk_lock_for_fork(&gate))
            ;
        if (take_all(force) || force)
            break;
        give_back();
        if (outer)
            outer->unlock();
        sched_yield();
    }
    if (inside)
        hk_lock_fork_inside(-1);
}

void hk_ace_fork_child(struct hk_heap *mine, bool inside)
{
    for (unsigned i = 0; i < NR_LOCKS; i++)
        if (!hk_lock_reset_after_fork(lock_number(i)))
            forget(i);
    /* Half a change is harmless: each store of it is whole. Half a lesson is a wrong number in a bounded table. */
    if (!hk_lock_reset_after_fork(&hk_config_lock))
        hk_lock_reset(&hk_config_lock);
    hk_lock_reset(&gate);
    hk_lock_fork_nobody_inside();
    if (!inside) {
        hk_arena_inherit();
        hk_span_inherit();
    }
    hk_heap_fork_child(mine, inside);
}
