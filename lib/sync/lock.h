// SPDX-License-Identifier: MIT
/*
 * sync: ranked locks. A small futex lock that knows its owner.
 *
 * Rules: a thread takes locks in increasing rank only (verified when HK_DEBUG); fork takes them all, in
 * rank order where it may wait for ever (hk_lock_for_fork). Slow paths only: no lock is ever taken by a malloc or free that hits its magazine.
 * Not recursive. The owner is recorded so that fork() called from a signal handler that interrupted a
 * holder can tell "mine" from "somebody else's".
 * Failure: none; a lock cannot fail. System calls: futex, only under contention.
 */
#ifndef HK_LOCK_H
#define HK_LOCK_H

#include "base/base.h"

/* Lowest first: a holder of one rank may take only higher ones. */
enum hk_lock_rank {
    HK_RANK_FORK,     /* ace: one fork at a time */
    HK_RANK_CONFIG,   /* config: changes of options, and of the policy that follows; the learner, which tries it */
    HK_RANK_HEAPS,    /* heap: stack of parked heaps, making of heaps */
    HK_RANK_HEAP,     /* heap: slabs of one heap */
    HK_RANK_L25,      /* l25: one shard of cached runs */
    HK_RANK_BIGCACHE, /* bigcache: rings */
    HK_RANK_BIG,      /* ace: descriptors of big blocks */
    HK_RANK_BATCH,    /* batch: queue of deferred unmaps */
    HK_RANK_ARENA,    /* arena: extents */
    HK_RANK_SPAN,     /* span: regions and granule bitmaps */
    HK_RANK_POLICY,   /* policy: publishers */
    HK_RANK_META,     /* meta: descriptor chunks */
    HK_NR_RANKS
};

struct hk_lock {
    /* 0: free; else hk_thread_id() of the holder, bit 0 set when somebody may wait. One word, so that a
     * signal handler never finds a lock that is held by nobody. Acquire on take, release on drop. */
    uintptr_t word;
    uint32_t rank;     /* enum hk_lock_rank, constant */
    uint32_t for_fork; /* taken by hk_lock_for_fork; written by the holder */
};

#define HK_LOCK_INIT(r) {.word = 0, .rank = (r)}

/* An address unique to the calling thread, valid in the zero state and in signal handlers. */
const void *hk_thread_id(void);

void hk_lock(struct hk_lock *lock);
void hk_unlock(struct hk_lock *lock);
bool hk_try_lock(struct hk_lock *lock);
bool hk_lock_is_mine(const struct hk_lock *lock);

/*
 * Around fork, in any order and whatever the calling thread holds: a lock that it holds already is left to it.
 * Waits for others; but while some fork is under way in an interrupted section (+1 .. -1), its own or
 * another's, false after some 20 ms: the holder may be waiting for us.
 */
bool hk_lock_for_fork(struct hk_lock *lock);
void hk_lock_fork_inside(int change);
/* A fork that interrupted nothing lets those go first, for some 20 ms: it wants what they hold, and holding what they want does not help. */
void hk_lock_fork_stand_back(void);
void hk_lock_fork_nobody_inside(void); /* in the child: whoever was is gone */
void hk_unlock_after_fork(struct hk_lock *lock); /* in the parent, or given up; no effect on others */
/* In the child, where the calling thread is alone. False: a thread that is gone holds it for ever. */
bool hk_lock_reset_after_fork(struct hk_lock *lock);
/* In the child: back to free, whoever held it. */
void hk_lock_reset(struct hk_lock *lock);

#endif
