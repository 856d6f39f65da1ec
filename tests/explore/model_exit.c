// SPDX-License-Identifier: MIT
/*
 * Threads end and begin while others free blocks of theirs; slabs change hands. lib/heap and below, locks
 * are the engine's.
 */
#include "boxes.h"

static void *block[4];

static struct hk_heap *next_heap(unsigned after)
{
    return (struct hk_heap *)((char *)box_heap[after] + HK_HEAP_ALIGN);
}

/* ---- exit: one thread parks its heap, one sends to it, one is born ------------------------- */

static void setup(void)
{
    boxes_start(2);
    boxes_ignore_counters(next_heap(1));
    for (unsigned i = 0; i < 3; i++)
        block[i] = box_alloc(box_heap[0]);
}

static void ends(void)
{
    explore_claim(block[0]);
    box_free(box_heap[0], block[0]);
    hk_heap_park(box_heap[0]);
}

static void sends(void)
{
    explore_claim(block[1]);
    explore_claim(block[2]);
    box_free(box_heap[1], block[1]);
    box_free(box_heap[1], block[2]);
}

static void is_born(void)
{
    struct hk_heap *heap = hk_heap_adopt();

    explore_assert(heap != NULL);
    explore_assert(box_alloc(heap) != NULL);
}

/* After a push either the sender sees that the owner is gone or the owner, leaving, sees the parcel. Only who
 * found the lock taken may leave it to others. */
static void nothing_forgotten(void)
{
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        if (h->state == HK_HEAP_PARKED && h->inbox && explore_nr_busy() == 0)
            explore_fail("a parcel lies in the inbox of a parked heap");
}

static void check(void)
{
    nothing_forgotten();
    boxes_check(explore_nr_claimed());
}

const struct explore_model model_exit = {
    .name = "exit",
    .about = "a heap is parked, another sends to it, a third is born",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 2,
    .more_old_reads = 1,
    .setup = setup,
    .thread = {ends, sends, is_born},
    .check = check,
    .control = {
        {"send:fence_full", "F1: an old look at the state"},
        {"hk_heap_park:fence_full", "F2: an old look at the inbox"},
        {"send:load_relaxed=0", "no look at the state"},
        {"push:cas_release", "H1"},
    },
};

/* ---- kept: blocks of a heap that is parked lie in another thread's magazine ------------------ */

static void kept_setup(void)
{
    boxes_start(2);
    boxes_ignore_counters(next_heap(1));
    for (unsigned i = 0; i < 2; i++)
        block[i] = box_alloc(box_heap[0]);
}

static void owner_ends(void)
{
    hk_heap_park(box_heap[0]);
}

/* The second does not fit beside the first, which is sent; the end sends the other. */
static void keeps(void)
{
    explore_claim(block[0]);
    explore_claim(block[1]);
    box_keep(box_heap[1], block[0]);
    box_keep(box_heap[1], block[1]);
    hk_heap_park(box_heap[1]);
}

const struct explore_model model_kept = {
    .name = "kept",
    .about = "a thread keeps blocks of a heap that is parked, and ends; a third is born and takes slabs",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 2,
    .more_old_reads = 1,
    .setup = kept_setup,
    .thread = {owner_ends, keeps, is_born},
    .check = check,
    .control = {
        {"send:fence_full", "F1: an old look at the state"},
        {"push:cas_release", "H1"},
    },
};

/* ---- steal: slabs of a parked heap, and of the depot --------------------------------------- */

static void steal_setup(void)
{
    boxes_start(3);
    for (unsigned i = 0; i < 2; i++)
        block[i] = box_alloc(box_heap[2]);
    box_free(box_heap[2], box_alloc(box_heap[2]));
    hk_heap_park(box_heap[2]);
}

static void thief(struct hk_heap *heap)
{
    explore_assert(box_alloc(heap) != NULL);
    explore_assert(box_alloc(heap) != NULL);
}

static void one_thief(void)
{
    thief(box_heap[0]);
}

static void other_thief(void)
{
    thief(box_heap[1]);
}

/* Free blocks whose slab may be changing hands; the depot's parcels carry them. */
static void homeless(void)
{
    explore_claim(block[0]);
    explore_claim(block[1]);
    box_free(NULL, block[0]);
    box_free(NULL, block[1]);
}

static void steal_check(void)
{
    boxes_check(explore_nr_claimed());
}

const struct explore_model model_steal = {
    .name = "steal",
    .about = "two threads take a parked heap's slabs while a thread without a heap frees their blocks",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 2,
    .more_old_reads = 1,
    .setup = steal_setup,
    .thread = {one_thief, other_thief, homeless},
    .check = steal_check,
    .control = {
        {"push:cas_release", "H1"},
        {"next_pending:exchange_acquire", "H2"},
    },
};

/* ---- spared: a slab of a heap whose owner goes on using it ------------------------------------- */

static void *spare[64];
static unsigned nr_spare;

/* Two slabs with half their blocks free behind the one in use. */
static void spared_setup(void)
{
    struct hk_class_slabs *cs;
    unsigned class, per_slab;

    boxes_start(2);
    class = hk_size_to_class(BOX_SIZE);
    per_slab = hk_size_class[class].nr_slots;
    cs = &box_heap[0]->slabs[class];
    for (nr_spare = 0; nr_spare < 2 * per_slab + 1; nr_spare++)
        spare[nr_spare] = box_alloc(box_heap[0]);
    for (unsigned i = 0; i < 2 * per_slab; i += 2)
        box_free(box_heap[0], spare[i]);
    if (!cs->partial || !cs->partial->next)
        explore_fail("two slabs should have room");
}

static void goes_on(void)
{
    for (unsigned i = 1; i < nr_spare; i += 2)
        if (i != 3)
            explore_claim(spare[i]);
    explore_claim(spare[nr_spare - 1]);
    box_free(box_heap[0], spare[1]);
    explore_assert(box_alloc(box_heap[0]) != NULL);
}

static void frees_a_spare(void)
{
    explore_claim(spare[3]);
    box_free(NULL, spare[3]);
}

const struct explore_model model_spared = {
    .name = "spared",
    .about = "a thread takes a slab that another, which goes on, can spare; a third without a heap frees a block of it",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 3,
    .more_old_reads = 1,
    .setup = spared_setup,
    .thread = {goes_on, other_thief, frees_a_spare},
    .check = steal_check,
    .control = {
        {"push:cas_release", "H1"},
        {"hk_unlock:store_release", "the lock's order"},
    },
};

/* ---- depot: idle slabs are published where others take them -------------------------------- */

static void depot_setup(void)
{
    boxes_start(2);
    boxes_ignore_counters(next_heap(1));
    for (unsigned i = 0; i < 2; i++)
        block[i] = box_alloc(box_heap[0]);
    box_free(box_heap[0], block[1]);
}

/* Three looks: the class is watched, flushed, published. */
static void idles(void)
{
    for (unsigned i = 0; i < 3; i++)
        hk_heap_flush_idle(box_heap[0]);
}

static void frees_and_steals(void)
{
    explore_claim(block[0]);
    box_free(box_heap[1], block[0]);
    explore_assert(box_alloc(box_heap[1]) != NULL);
}

static void without_heap(void)
{
    void *p = box_alloc(NULL);

    explore_assert(p != NULL);
    box_free(NULL, p);
    explore_assert(box_alloc(NULL) != NULL);
}

static void depot_check(void)
{
    boxes_check(explore_nr_claimed());
}

const struct explore_model model_depot = {
    .name = "depot",
    .about = "the depot is made: one publishes slabs there, one steals from it, one without a heap takes from it",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 500,
    .more_preemptions = 2,
    .more_old_reads = 1,
    .setup = depot_setup,
    .thread = {idles, frees_and_steals, without_heap},
    .check = depot_check,
    .control = {
        {"make_shared:store_release", "D1: a depot that is not whole"},
        {"hk_heap_depot:load_acquire", "D2"},
        {"hk_unlock:store_release", "the lock's order"},
    },
};
