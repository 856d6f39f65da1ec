// SPDX-License-Identifier: MIT
/*
 * l25_inline: the two common cases, a run from the thread's own cache and back into it. Included by ace
 * and entry. A cached run keeps its page-map word and its colour, so that neither changes hands twice.
 */
#ifndef HK_L25_INLINE_H
#define HK_L25_INLINE_H

#include "l25/l25.h"

/* NULL: nothing of the class is cached. What is has room for n: no colour is beyond HK_L25_COLOUR. */
HK_INLINE struct hk_run *hk_l25_pop(struct hk_l25_cache *cache, size_t n)
{
    unsigned c = hk_l25_class(n);
    struct hk_run *run = cache->runs[c];

    if (HK_UNLIKELY(!run))
        return NULL;
    cache->runs[c] = run->next;
    cache->count[c]--;
    cache->granules -= run->nr_granules;
    cache->nr_hits++;
    hk_store_relaxed(&run->state, HK_RUN_LIVE);
    return run;
}

/* False: the cache is full, or the run was resized and fits no class. c: its class. */
HK_INLINE bool hk_l25_has_room_in(const struct hk_l25_cache *cache, const struct hk_run *run, size_t c)
{
    return HK_LIKELY(cache->count[c] < cache->cap && cache->granules + run->nr_granules <= cache->room);
}

HK_INLINE bool hk_l25_has_room(const struct hk_l25_cache *cache, const struct hk_run *run)
{
    return hk_l25_has_room_in(cache, run, run->class);
}

/* After a successful kill, with room. c: the run's class, which the caller has at hand. */
HK_INLINE void hk_l25_push_in(struct hk_l25_cache *cache, struct hk_run *run, size_t c)
{
    run->zero = 0;
    run->next = cache->runs[c];
    /* Q1 release, pairs with Q2: a fork child finds the list whole wherever the thread was */
    hk_store_release(&cache->runs[c], run);
    cache->count[c]++;
    cache->granules += run->nr_granules;
}

HK_INLINE void hk_l25_push(struct hk_l25_cache *cache, struct hk_run *run)
{
    hk_l25_push_in(cache, run, run->class);
}

/* False: the run was dead already (a double free). Two threads that free one block both come here. */
HK_INLINE bool hk_l25_kill(struct hk_run *run)
{
    /* K1 acq_rel, pairs with K1: of two frees one loses, after what the winner did before */
    return hk_exchange_acq_rel(&run->state, (uint32_t)HK_RUN_DEAD) == HK_RUN_LIVE;
}

/* The same where there is no second thread: a bus lock would only wait for what the program has just written. */
HK_INLINE bool hk_l25_kill_alone(struct hk_run *run)
{
    if (HK_UNLIKELY(run->state != HK_RUN_LIVE))
        return false;
    run->state = HK_RUN_DEAD;
    return true;
}

#endif
