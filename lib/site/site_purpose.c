// SPDX-License-Identifier: MIT
/* site_purpose: what the blocks of a site seem to be for, by rule. */
#include "site/site_private.h"

#define MIN_OBSERVATIONS 10
#define MIN_SAMPLES 10 /* before lifetimes count */
#define SMALL_MAX (32 * HK_KIB)

/* Samples that live, all taken for as old as they are on average. */
static uint64_t nr_old(const struct hk_site_slot *slot, uint64_t now_ns)
{
    uint64_t nr_live = hk_load_relaxed(&slot->nr_samples) - hk_load_relaxed(&slot->nr_ended), now_ms = now_ns / 1000000;

    if (hk_load_relaxed(&slot->nr_samples) <= hk_load_relaxed(&slot->nr_ended) || now_ms * nr_live < hk_load_relaxed(&slot->born_ms))
        return 0;
    return (now_ms * nr_live - hk_load_relaxed(&slot->born_ms)) / nr_live >= HK_SITE_LONG_NS / 1000000 ? nr_live : 0;
}

static enum hk_site_purpose by_size(const struct hk_site_slot *slot)
{
    uint64_t nr = hk_load_relaxed(&slot->nr_allocs) + (hk_load_relaxed(&slot->est_allocs) >> HK_SITE_COUNT_BITS);
    uint64_t average = (hk_load_relaxed(&slot->total_bytes) + hk_load_relaxed(&slot->est_bytes)) / (nr ? nr : 1);

    if (average <= SMALL_MAX)
        return HK_PURPOSE_SMALL_FREQUENT;
    return average < HK_MIB ? HK_PURPOSE_MEDIUM : HK_PURPOSE_LARGE_INFREQUENT;
}

/*
 * What a block becomes tells more than how long it lives, and that more than its size. The first rule that holds:
 * a third of the samples grew (of a buffer that doubles, half of the bytes are in the last size, which does not);
 * half went to another thread; three quarters were brief, or long, or are old by now; else the size.
 */
enum hk_site_purpose hk_site_infer(const struct hk_site_slot *slot, uint64_t now_ns)
{
    uint64_t nr = hk_load_relaxed(&slot->nr_samples);

    if (hk_max(hk_load_relaxed(&slot->nr_allocs), nr) < MIN_OBSERVATIONS) /* samples of counted calls are among them */
        return HK_PURPOSE_UNKNOWN;
    if (nr < MIN_SAMPLES)
        return by_size(slot);
    if (hk_load_relaxed(&slot->nr_grown) * 3 >= nr)
        return HK_PURPOSE_GROWS;
    if (hk_load_relaxed(&slot->nr_handed) * 2 >= nr)
        return HK_PURPOSE_HAND_OFF;
    if (hk_load_relaxed(&slot->nr_brief) * 4 >= nr * 3)
        return HK_PURPOSE_SHORT_LIVED;
    if ((hk_load_relaxed(&slot->nr_long) + nr_old(slot, now_ns)) * 4 >= nr * 3)
        return HK_PURPOSE_LONG_LIVED;
    return by_size(slot);
}

const char *hk_site_purpose_name(enum hk_site_purpose purpose)
{
    static const char *const names[HK_NR_PURPOSES] = {
        [HK_PURPOSE_UNKNOWN] = "unknown",
        [HK_PURPOSE_SMALL_FREQUENT] = "small-frequent",
        [HK_PURPOSE_MEDIUM] = "medium",
        [HK_PURPOSE_LARGE_INFREQUENT] = "large-infrequent",
        [HK_PURPOSE_SHORT_LIVED] = "short-lived",
        [HK_PURPOSE_LONG_LIVED] = "long-lived",
        [HK_PURPOSE_HAND_OFF] = "hand-off",
        [HK_PURPOSE_GROWS] = "grows-by-realloc",
    };

    return names[purpose < HK_NR_PURPOSES ? purpose : HK_PURPOSE_UNKNOWN];
}

/* Of 64 bits m are still 0 after n values: n is about -64 ln(m / 64) (linear counting; Whang et al. 1990). */
unsigned hk_site_paths(const struct hk_site_slot *slot)
{
    static const uint8_t estimate[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  9,  10, 11, 12, 13, 15, 16, 17, 18, 20, 21, 23, 24, 25,
        27, 29, 30, 32, 33, 35, 37, 39, 40, 42, 44, 46, 49, 51, 53, 55, 58, 60, 63, 65, 68, 71,
        74, 78, 81, 85, 89, 93, 97, 102, 107, 113, 119, 126, 133, 141, 151, 163, 177, 196, 222, 255,
    };
    unsigned nr = (unsigned)__builtin_popcountll(hk_load_relaxed(&slot->paths));

    return nr < 64 ? estimate[nr] : 255;
}
