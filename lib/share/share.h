// SPDX-License-Identifier: MIT
/*
 * share: one budget for what all threads keep for themselves, in magazines (heap) and in caches of runs (l25). Only its owner can
 * empty such a cache, and a thread may sleep for ever: so room in it is taken from the budget before it is used, and
 * given back with it.
 *
 * The budget is max(HK_SHARE_BYTES, what was set: 10 % of live). A thread that comes when it is used up gets the least
 * that its fast paths work with (hk_share_force), and more when others have given back.
 *
 * Locks: none; relaxed adds. Two that take at one moment may exceed the budget by what one of them takes. Failure:
 * false, nothing is taken.
 */
#ifndef HK_SHARE_H
#define HK_SHARE_H

#include "base/base.h"

#define HK_SHARE_BYTES (32 * HK_MIB)

bool hk_share_take(size_t bytes);
void hk_share_force(size_t bytes);
void hk_share_give(size_t bytes);
size_t hk_share_taken(void);
/* Beyond HK_SHARE_BYTES; a hint that somebody renews now and then. */
void hk_share_set_budget(size_t bytes);

#endif
