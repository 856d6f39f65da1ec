// SPDX-License-Identifier: MIT
#include "pool/pool.h"

#define REFILL_BYTES (64 * HK_KIB)
#define INITIAL_BYTES (64 * HK_KIB)
#define MAGAZINE_MAX_BYTES (2 * HK_MIB)

/* Largest 2^k - 1 that is at most n, at least `least`. */
static unsigned cap_at_most(size_t n, unsigned least)
{
    unsigned cap = least;

    while (cap * 2 + 1 <= n)
        cap = cap * 2 + 1;
    return cap;
}

struct hk_class_policy hk_pool_class_policy(unsigned class, const struct hk_pool_options *options)
{
    size_t size = hk_size_class[class].size;
    unsigned cap_max = cap_at_most(hk_min(MAGAZINE_MAX_BYTES / size, options->cap_mid), 7);
    unsigned cap_initial = cap_at_most(INITIAL_BYTES / size, 3);
    unsigned refill = (unsigned)hk_max(2, hk_min(16, REFILL_BYTES / size));

    if (!options->tls_free)
        cap_max = cap_initial = 1;
    cap_initial = (unsigned)hk_min(cap_initial, cap_max);
    return (struct hk_class_policy){
        .refill = (uint16_t)hk_min(refill, cap_initial),
        .refill_hot = (uint16_t)hk_min(4 * refill, cap_max),
        .cap_initial = (uint16_t)cap_initial,
        .cap_max = (uint16_t)cap_max,
    };
}
