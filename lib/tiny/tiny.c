// SPDX-License-Identifier: MIT
#include "tiny/tiny.h"

#define MAGAZINE_MAX_BYTES (128 * HK_KIB) /* of blocks, per class */
#define CAP_INITIAL 31

/* Largest 2^k - 1 that is at most n, at least 7. */
static unsigned cap_at_most(size_t n)
{
    unsigned cap = 7;

    while (cap * 2 + 1 <= n)
        cap = cap * 2 + 1;
    return cap;
}

struct hk_class_policy hk_tiny_class_policy(unsigned class, const struct hk_tiny_options *options)
{
    size_t size = hk_size_class[class].size;
    unsigned cap_max = cap_at_most(hk_min(MAGAZINE_MAX_BYTES / size, hk_min(options->mag_cap, 1023)));

    return (struct hk_class_policy){
        .refill = (uint16_t)hk_min(options->refill_count, cap_max),
        .refill_hot = (uint16_t)hk_min(hk_max(options->refill_count_hot, options->refill_count), cap_max),
        .cap_initial = (uint16_t)hk_min(CAP_INITIAL, cap_max),
        .cap_max = (uint16_t)cap_max,
    };
}
