// SPDX-License-Identifier: MIT
/* ace_fork: every lock of the data plane, in rank order: heaps first. */
#include "ace/ace_private.h"

#include "batch/batch.h"
#include "bigcache/bigcache.h"
#include "meta/meta.h"

#define NR_LOCKS (7 + HK_L25_NR_SHARDS)

/* Bit i: lock i was taken by prepare. Written by the forking thread while it holds them all. */
static uint32_t taken_mask;

static struct hk_lock *lock_number(unsigned i)
{
    struct hk_lock *const late[] = {hk_bigcache_lock(), &hk_big_lock,     &hk_batch_lock,
                                    &hk_span_lock,     &hk_pagemap_lock, &hk_policy_lock, &hk_meta_lock};

    return i < HK_L25_NR_SHARDS ? hk_l25_lock(i) : late[i - HK_L25_NR_SHARDS];
}

void hk_ace_fork_prepare(struct hk_heap *mine)
{
    uint32_t taken = 0;

    hk_heap_fork_prepare(mine);
    for (unsigned i = 0; i < NR_LOCKS; i++) {
        if (hk_lock_is_mine(lock_number(i)))
            continue;
        hk_lock_nested(lock_number(i));
        taken |= UINT32_C(1) << i;
    }
    taken_mask = taken;
}

void hk_ace_fork_parent(void)
{
    uint32_t taken = taken_mask;

    for (unsigned i = NR_LOCKS; i-- > 0;)
        if (taken >> i & 1)
            hk_unlock(lock_number(i));
    hk_heap_fork_parent();
}

void hk_ace_fork_child(struct hk_heap *mine)
{
    for (unsigned i = NR_LOCKS; i-- > 0;)
        if (taken_mask >> i & 1)
            hk_lock_reset(lock_number(i));
    hk_heap_fork_child(mine);
}
