// SPDX-License-Identifier: MIT
/*
 * Sampled blocks: a record which a free and a realloc want at once, and another of the same site, so that its quantiles
 * are wanted too. lib/site and lib/p2.
 */
#include "site/site.h"

#include "engine.h"

#define A_BLOCK ((const void *)(uintptr_t)0x10000)
#define ANOTHER ((const void *)(uintptr_t)0x20000)
#define A_SITE ((const void *)(uintptr_t)0x400123)

static const struct hk_site_sample sample = {
    .site = A_SITE, .bytes = 100, .block_bytes = 112, .weight_bytes = 1000, .thread = 1, .now_ns = 1000};

static void setup(void)
{
    (void)hk_site_sample(&sample, A_BLOCK);
    (void)hk_site_sample(&sample, ANOTHER);
}

/* Ends the sample that was there: nobody told of its block's free. */
static void samples(void)
{
    (void)hk_site_sample(&sample, ANOTHER);
}

static void frees(void)
{
    hk_site_sample_freed(A_BLOCK, 2, 2000);
}

static void resizes(void)
{
    hk_site_sample_resized(A_BLOCK, 110, false, 1, 1500);
}

/* Whatever was lost, nobody holds a record or the quantiles. */
static void check(void)
{
    uint64_t before = hk_site_nr_samples();

    hk_site_sample_freed(A_BLOCK, 2, 3000);
    explore_assert(hk_site_sample(&sample, A_BLOCK));
    explore_assert(hk_site_nr_samples() == before + 1);
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        explore_assert(hk_site_slots[i].busy == 0);
}

const struct explore_model model_site = {
    .name = "site",
    .about = "site: a free and a realloc of one record, a sample of the same site",
    .preemptions = 1,
    .old_reads = 1,
    .nr_random = 200,
    .more_preemptions = 2,
    .more_old_reads = 1,
    .setup = setup,
    .thread = {samples, frees, resizes},
    .check = check,
    .control = {
        {"take:cas_acquire", "Y1"},
        {"publish:store_release", "Y2"},
        {"try_quantiles:cas_acquire", "L1"},
        {"end_quantiles:store_release", "L2"},
        {"end_quantiles:store_release=0", "quantiles that nobody gives back"},
    },
};
