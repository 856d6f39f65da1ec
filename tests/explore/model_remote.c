// SPDX-License-Identifier: MIT
/*
 * Two threads free blocks of a third, which takes blocks meanwhile. lib/heap, lib/slab and what lies below,
 * all of it; locks are the engine's.
 */
#include "boxes.h"

static void *block[4];

static void setup(void)
{
    boxes_start(3);
    for (unsigned i = 0; i < 4; i++)
        block[i] = box_alloc(box_heap[0]);
}

static void claim(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        explore_claim(block[i]);
}

/* Takes what comes home, or something fresh, and writes into it. */
static void owner(void)
{
    claim(0, 1);
    box_free(box_heap[0], block[0]);
    for (unsigned i = 0; i < 3; i++)
        explore_assert(box_alloc(box_heap[0]) != NULL);
}

static void first_sender(void)
{
    claim(1, 3);
    box_free(box_heap[1], block[1]);
    box_free(box_heap[1], block[2]); /* by the same parcel, if it has come back */
}

static void second_sender(void)
{
    claim(3, 4);
    box_free(box_heap[2], block[3]);
}

static void check(void)
{
    boxes_check(explore_nr_claimed());
}

const struct explore_model model_remote = {
    .name = "remote",
    .about = "remote free: two senders, one owner that allocates",
    .preemptions = 2,
    .old_reads = 0,
    .nr_random = 1000,
    .more_preemptions = 3,
    .more_old_reads = 1,
    .setup = setup,
    .thread = {owner, first_sender, second_sender},
    .check = check,
    .control = {
        {"push:cas_release", "H1, H3: the parcel's fields and the block itself"},
        {"next_pending:exchange_acquire", "H2"},
        {"get_parcel:exchange_acquire", "H4: a parcel that comes back"},
    },
};
