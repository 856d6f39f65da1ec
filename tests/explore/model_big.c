// SPDX-License-Identifier: MIT
/*
 * Big blocks: descriptors and ranges that go from thread to thread, and two frees of one block. lib/ace's part of
 * it with arena, cache and batch below.
 */
#include "ace/ace_private.h"
#include "boxes.h"
#include "meta/meta.h"

#define BYTES (4 * HK_MIB)

static struct hk_big *handed; /* made in setup, freed by a thread */
static uint64_t *take(void)
{
    bool zero;
    uint64_t *p = hk_big_alloc(BYTES, 16, NULL, false, &zero);

    explore_assert(p != NULL);
    explore_claim(p);
    p[0] = p[BYTES / 8 - 1] = (uintptr_t)p;
    return p;
}

static void give(uint64_t *p)
{
    struct hk_big *big = hk_pagemap_desc(p);

    explore_assert(p[0] == (uintptr_t)p && p[BYTES / 8 - 1] == (uintptr_t)p);
    explore_disclaim(p);
    explore_assert(hk_big_kill(big));
    hk_big_release(big);
}

static void setup(void)
{
    boxes_start(1);
    hk_big_init();
    handed = hk_pagemap_desc(take());
    give(take());
    explore_ignore(&hk_ace_counters, sizeof hk_ace_counters);
}

static void takes_and_gives(void)
{
    give(take());
    (void)take();
}

static void gives(void)
{
    uint64_t *p = hk_big_start(handed);

    explore_claim(p);
    give(p);
    (void)take();
}

static void check(void)
{
    explore_assert(explore_nr_claimed() == 3);
    hk_arena_check();
    hk_span_check();
    hk_meta_check();
}

const struct explore_model model_big = {
    .name = "big",
    .about = "big blocks: two take and give, one gives what another took",
    .preemptions = 0,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 1,
    .more_old_reads = 1,
    .setup = setup,
    .thread = {takes_and_gives, takes_and_gives, gives},
    .check = check,
    .control = {
        {"hk_unlock:store_release", "the locks' order"},
        {"hk_big_kill:cas_acq_rel=0", "a live block that cannot be freed"},
    },
};

/* ---- two frees ----------------------------------------------------------------------------- */

static void kills(void)
{
    if (!hk_big_kill(handed))
        return;
    explore_claim(handed); /* the winner; there is one */
    hk_big_release(handed);
}

static void kill_check(void)
{
    explore_assert(explore_nr_claimed() == 1);
    hk_arena_check();
}

const struct explore_model model_kill = {
    .name = "kill",
    .about = "big blocks: three threads free the same one",
    .preemptions = 2,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 4,
    .more_old_reads = 2,
    .setup = setup,
    .thread = {kills, kills, kills},
    .check = kill_check,
    .control = {
        {"hk_big_kill:cas_acq_rel=1", "two winners"},
    },
};
