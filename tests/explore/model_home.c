// SPDX-License-Identifier: MIT
/*
 * No memory for parcels: blocks that other threads free go into their slabs under the owner's lock. lib/heap and below, locks are
 * the engine's.
 */
#include "boxes.h"

static void *block[64];

/* ---- home: two flush each other's blocks, which each waits for the other's lock to give -------- */

static void setup(void)
{
    boxes_start(2);
    for (unsigned i = 0; i < 5; i++)
        block[i] = box_alloc(box_heap[i % 2]);
    boxes_refuse();
}

/* The magazine has room for one of them. */
static void keep(unsigned heap, const unsigned *mine, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        explore_claim(block[mine[i]]);
    for (unsigned i = 0; i < n; i++)
        box_keep(box_heap[heap], block[mine[i]]);
}

static void first(void)
{
    static const unsigned mine[] = {1, 3};

    keep(0, mine, 2);
}

static void second(void)
{
    static const unsigned mine[] = {0, 2};

    keep(1, mine, 2);
}

static void without_heap(void)
{
    explore_claim(block[4]);
    box_free(NULL, block[4]);
}

static void check(void)
{
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        explore_assert(h->stats.nr_lost == 0 && h->stats.nr_parcels_sent == 0);
    boxes_check(explore_nr_claimed());
}

const struct explore_model model_home = {
    .name = "home",
    .about = "no parcels: two threads flush each other's blocks, a third without a heap frees one",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 3,
    .more_old_reads = 1,
    .setup = setup,
    .thread = {first, second, without_heap},
    .check = check,
    .control = {
        {"hk_unlock:store_release", "the lock's order"},
        {"hk_lock:cas_acquire", "the same"},
    },
};

/* ---- moved: the slab changes hands meanwhile --------------------------------------------------- */

static unsigned nr_blocks;

/* The depot has a slab of block[0], block[1] and others, one of them free. */
static void moved_setup(void)
{
    struct hk_slab *slab;

    boxes_start(2);
    boxes_ignore_counters((struct hk_heap *)((char *)box_heap[1] + HK_HEAP_ALIGN));
    boxes_ignore_counters((struct hk_heap *)((char *)box_heap[1] + 2 * HK_HEAP_ALIGN));
    slab = hk_slab_of(block[0] = box_alloc(box_heap[0]));
    for (nr_blocks = 1; nr_blocks == 1 || hk_slab_of(block[nr_blocks - 1]) == slab; nr_blocks++)
        block[nr_blocks] = box_alloc(box_heap[0]);
    box_free(box_heap[0], block[2]);
    for (unsigned i = 0; i < 3; i++)
        hk_heap_flush_idle(box_heap[0]);
    if (slab->owner == box_heap[0])
        explore_fail("the slab was not published");
    boxes_refuse();
}

/* A thread just born, whose heap nobody has seen. The other blocks are its. */
static void takes_the_slab(void)
{
    struct hk_heap *heap = hk_heap_adopt();

    for (unsigned i = 3; i < nr_blocks; i++)
        explore_claim(block[i]);
    explore_assert(heap != NULL);
    (void)box_alloc(heap); /* none, where the depot's lock is taken just then */
    hk_heap_tick(heap);
}

static void frees_one(void)
{
    explore_claim(block[0]);
    box_free(box_heap[1], block[0]);
}

static void frees_another(void)
{
    explore_claim(block[1]);
    box_free(NULL, block[1]);
}

const struct explore_model model_moved = {
    .name = "moved",
    .about = "no parcels: a new thread takes a slab of the depot while two others bring blocks of it home",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 3,
    .more_old_reads = 1,
    .setup = moved_setup,
    .thread = {takes_the_slab, frees_one, frees_another},
    .check = check,
    .control = {
        {"hk_unlock:store_release", "the lock's order"},
    },
};
