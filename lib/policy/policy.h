// SPDX-License-Identifier: MIT
/*
 * policy: one immutable snapshot of every number the data plane may be told by the control plane.
 *
 * Slow paths load hk_policy once per call and use that snapshot throughout. The fast path meets a
 * policy only as data it reads anyway (a magazine's limit, a class table). A snapshot is never written
 * after it is published. Owner: whoever publishes; today the constructor, from the configuration.
 */
#ifndef HK_POLICY_H
#define HK_POLICY_H

#include "size/size.h"
#include "sync/atomic.h"

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
    bool steal;                 /* look at parked heaps before asking the system */
    bool cache_big;             /* bigcache on */
    bool batch;                 /* deferred unmap on */
};

extern struct hk_policy hk_policy_builtin;          /* filled once, before the first block */
extern const struct hk_policy *hk_policy_current;   /* release P1 / acquire P2 */

HK_INLINE const struct hk_policy *hk_policy(void)
{
    return hk_load_acquire(&hk_policy_current); /* P2 acquire, pairs with P1 */
}

/* `policy` stays valid for ever. */
void hk_policy_publish(const struct hk_policy *policy);

#endif
