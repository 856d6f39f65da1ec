// SPDX-License-Identifier: MIT
/*
 * pool: policy of the classes from 1 KiB to 64 KiB, counted in bytes rather than blocks: a magazine of
 * 64 KiB blocks must not pin what a magazine of 16-byte blocks does. The mechanism is heap's and the same
 * as for tiny. No state, no lock, cannot fail.
 */
#ifndef HK_POOL_H
#define HK_POOL_H

#include "policy/policy.h"

struct hk_pool_options {
    unsigned cap_mid; /* soft bound on blocks in one magazine */
    bool tls_free;    /* false: magazines as small as they can be */
};

/* The rule for one class, HK_FIRST_POOL_CLASS <= c < HK_NR_CLASSES. */
struct hk_class_policy hk_pool_class_policy(unsigned class, const struct hk_pool_options *options);

#endif
