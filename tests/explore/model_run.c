// SPDX-License-Identifier: MIT
/* Runs above 64 KiB that go through the shared shard from thread to thread, and two frees of one. lib/l25, lib/arena. */
#include "boxes.h"
#include "l25/l25_inline.h"
#include "meta/meta.h"

#include "arena/arena.h"

#define BYTES (100 * HK_KIB)

static struct hk_run *handed; /* made in setup, freed by a thread */

static struct hk_run *take(void)
{
    struct hk_run *run = hk_l25_alloc(NULL, 0, BYTES, 16);

    explore_assert(run != NULL);
    explore_claim(run->base);
    *(uint64_t *)run->base = (uintptr_t)run;
    return run;
}

static void give(struct hk_run *run)
{
    explore_assert(*(uint64_t *)run->base == (uintptr_t)run);
    explore_disclaim(run->base);
    explore_assert(hk_l25_kill(run));
    hk_l25_cache_run(NULL, 0, run);
}

static void setup(void)
{
    boxes_start(1);
    handed = take();
    give(take());
}

static void takes_and_gives(void)
{
    give(take());
    (void)take();
}

static void gives(void)
{
    explore_claim(handed->base);
    give(handed);
    (void)take();
}

static void check(void)
{
    explore_assert(explore_nr_claimed() == 3);
    hk_l25_check();
    hk_arena_check();
    hk_meta_check();
}

const struct explore_model model_run = {
    .name = "run",
    .about = "runs: two take and give by one shard, one gives what another took",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 2,
    .more_old_reads = 1,
    .setup = setup,
    .thread = {takes_and_gives, takes_and_gives, gives},
    .check = check,
    .control = {
        {"hk_unlock:store_release", "the locks' order"},
        {"hk_l25_kill:exchange_acq_rel=0", "a live run that cannot be freed"},
    },
};

/* ---- two frees ----------------------------------------------------------------------------- */

static void kills(void)
{
    if (!hk_l25_kill(handed))
        return;
    explore_claim(handed); /* the winner; there is one */
    hk_l25_cache_run(NULL, 0, handed);
}

static void kill_check(void)
{
    explore_assert(explore_nr_claimed() == 1);
    hk_l25_check();
}

const struct explore_model model_run_kill = {
    .name = "run-kill",
    .about = "runs: three threads free the same one",
    .preemptions = 2,
    .old_reads = 0,
    .nr_random = 200,
    .more_preemptions = 4,
    .more_old_reads = 2,
    .setup = setup,
    .thread = {kills, kills, kills},
    .check = kill_check,
    .control = {
        {"hk_l25_kill:exchange_acq_rel=1", "two winners"},
    },
};
