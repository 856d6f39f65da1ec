// SPDX-License-Identifier: MIT
/*
 * tiny: policy of the classes up to 1 KiB. How many blocks a refill fetches and how many a magazine may
 * hold. The mechanism (magazines, slabs, remote frees) is heap's and the same for pool.
 * No state, no lock, cannot fail.
 */
#ifndef HK_TINY_H
#define HK_TINY_H

#include "policy/policy.h"

struct hk_tiny_options {
    unsigned refill_count;     /* blocks */
    unsigned refill_count_hot; /* blocks, upper bound of what the heap doubles to */
    unsigned mag_cap;          /* soft bound on blocks in one magazine */
};

/* The rule for one class, c < HK_FIRST_POOL_CLASS. */
struct hk_class_policy hk_tiny_class_policy(unsigned class, const struct hk_tiny_options *options);

#endif
