// SPDX-License-Identifier: MIT
/*
 * policy: one immutable snapshot of every number the data plane may be told by the control plane.
 *
 * Slow paths load hk_policy once per call and use that snapshot throughout. The fast path meets a
 * policy only as data it reads anyway (a magazine's limit, a class table). A snapshot is never written
 * while anybody may be reading it. Owner: this box; whoever has new numbers calls hk_policy_update.
 *
 * When may the memory of a snapshot be used again? Quiescence, as in RCU:
 *
 *   epoch      grows with each publication, after the pointer has moved (E1)
 *   note       a thread that holds no snapshot copies the epoch to its heap (E3); heaps do at each tick
 *   reuse      a snapshot retired at epoch e is free once every active heap has noted >= e (E4)
 *   strangers  a thread without an active heap (being born, ended) counts itself while it may read (N1);
 *              while there is one, nothing is reused
 *
 * A thread that sleeps without a tick keeps snapshots from being reused, for ever if need be. So equal
 * snapshots are published once only, and a learner, whose arms are few, is refused beyond the number of
 * snapshots it names. Memory of a snapshot is always a snapshot: type-stable.
 *
 * Lock: hk_policy_lock (HK_RANK_POLICY), publishers only. Failure: ENOMEM or EAGAIN; nothing changed.
 */
#ifndef HK_POLICY_H
#define HK_POLICY_H

#include "size/size.h"
#include "sync/atomic.h"
#include "sync/lock.h"

struct hk_class_policy {
    uint16_t refill;      /* blocks fetched from a slab at a miss */
    uint16_t refill_hot;  /* what that may grow to when the class keeps missing */
    uint16_t cap_initial; /* blocks in a fresh magazine; 2^k - 1 */
    uint16_t cap_max;     /* blocks a magazine may grow to; 2^k - 1 */
};

struct hk_policy {
    struct hk_class_policy class[HK_NR_CLASSES];
    size_t cache_budget_bytes;  /* sum of cap * size over the classes of one heap */
    size_t remote_batch_bytes;  /* sender-side batch leaves at this size */
    uint64_t purge_delay_ns;    /* dirty memory older than this goes back */
    size_t purge_floor_bytes;   /* cached + dirty beyond max(this, 10 % of live) goes back at once */
    uint64_t idle_flush_ns;     /* a class unused for this long is flushed */
    size_t big_threshold;       /* requests above go to their own mapping */
    size_t l25_cap;             /* cached runs per class and heap */
    unsigned wmax_mid;          /* thousandths: a cached block up to wmax x size may serve */
    unsigned wmax_large;
    size_t limit_bytes;         /* live + cached should stay below; 0: none */
    bool huge_pages;            /* our mappings may have them; else they are told not to */
    bool promote;               /* but for dense regions */
    bool steal;                 /* look at other heaps before asking the system */
    bool cache_big;             /* bigcache on */
    bool batch;                 /* deferred unmap on */
};

extern struct hk_policy hk_policy_builtin;          /* filled once, before the first block */
extern const struct hk_policy *hk_policy_current;   /* release P1 / acquire P2 */
extern struct hk_lock hk_policy_lock;               /* for fork only */

HK_INLINE const struct hk_policy *hk_policy(void)
{
    return hk_load_acquire(&hk_policy_current); /* P2 acquire, pairs with P1 */
}

/* Writes the numbers that change into a copy of the current snapshot. Under hk_policy_lock. */
typedef void (*hk_policy_change_fn)(struct hk_policy *policy, void *arg);

/*
 * The current snapshot with a change. 0; ENOMEM; EAGAIN: that would take more than max_snapshots (0: any
 * number), because a sleeping thread may be reading the others. A change that changes nothing is no event.
 */
int hk_policy_update(hk_policy_change_fn change, void *arg, unsigned max_snapshots);
/* The numbers are copied. */
int hk_policy_publish(const struct hk_policy *policy);

/* The caller holds no snapshot. */
void hk_policy_note(uint64_t *seen);
/* Around whatever a thread without an active heap reads. Nests. */
void hk_policy_stranger_enters(void);
void hk_policy_stranger_leaves(void);
/* The lowest epoch noted by an active heap, UINT64_MAX if there is none; acquire. Set once, before the
 * second thread; without it nothing is reused. */
void hk_policy_set_readers(uint64_t (*oldest_seen)(void));
/* In the child, where the calling thread is alone. */
void hk_policy_fork_child(bool stranger);
void hk_policy_forget(void); /* if a publisher that is gone held the lock */

struct hk_policy_stats {
    size_t nr_published; /* the pointer moved */
    size_t nr_reused;    /* into the memory of an earlier snapshot */
    size_t nr_refused;   /* EAGAIN */
    size_t nr_snapshots; /* that have memory, the first one not counted */
};
void hk_policy_stats(struct hk_policy_stats *out); /* relaxed */
void hk_policy_check(void);

#endif
