// SPDX-License-Identifier: MIT
/*
 * A publisher, a reader with a heap and one without: no snapshot is written while somebody may read it, and who reads
 * one reads it whole. And threads that are born and end while a publisher looks for memory to use again.
 * lib/policy, and lib/heap for what the readers have noted; nothing is rewritten.
 */
#include "boxes.h"

#include <stdlib.h>

static void set_tag(struct hk_policy *policy, void *arg)
{
    policy->idle_flush_ns = policy->purge_delay_ns = *(uint64_t *)arg;
}

static void publish(uint64_t tag)
{
    if (hk_policy_update(set_tag, &tag, 0) != 0)
        abort();
}

static void read_snapshot(void)
{
    const struct hk_policy *policy = hk_policy();

    explore_assert(policy->idle_flush_ns == policy->purge_delay_ns);
}

/* ---- policy -------------------------------------------------------------------------------- */

/* A retired snapshot and a current one: the next publication but one may use the first again. */
static void setup(void)
{
    boxes_start(1);
    publish(1);
    publish(2);
    hk_policy_note(&box_heap[0]->policy_seen);
}

static void publisher(void)
{
    publish(3);
    publish(4);
    publish(5);
}

static void reader(void)
{
    read_snapshot();
    hk_policy_note(&box_heap[0]->policy_seen);
    read_snapshot();
    hk_policy_note(&box_heap[0]->policy_seen);
}

static void stranger(void)
{
    hk_policy_stranger_enters();
    read_snapshot();
    hk_policy_stranger_leaves();
    hk_policy_stranger_enters();
    read_snapshot();
    hk_policy_stranger_leaves();
}

static void check(void)
{
    read_snapshot();
    hk_policy_check();
}

const struct explore_model model_policy = {
    .name = "policy",
    .about = "snapshots: a publisher, a reader with a heap, a stranger",
    .preemptions = 2,
    .old_reads = 0,
    .nr_random = 1000,
    .more_preemptions = 3,
    .more_old_reads = 2,
    .setup = setup,
    .thread = {publisher, reader, stranger},
    .check = check,
    .control = {
        {"move_to:store_release", "P1, E1"},
        {"hk_policy:load_acquire", "P2: the fields"},
        {"hk_policy_note:load_acquire", "E2: a new epoch with an old pointer"},
        {"hk_policy_note:store_release", "E3: the reads are not done"},
        {"hk_heap_policy_seen:load_acquire", "E4"},
        {"hk_policy_stranger_enters:fence_full", "N1: not counted yet"},
        {"quiet_epoch:fence_full", "N2"},
        {"hk_policy_stranger_leaves:sub_release", "N3: the reads are not done"},
        {"quiet_epoch:load_acquire", "N4"},
        {"quiet_epoch:load_acquire=0", "strangers not looked for"},
    },
};

/* ---- birth and end ------------------------------------------------------------------------- */

static void birth_setup(void)
{
    boxes_start(2);
    boxes_ignore_counters((struct hk_heap *)((char *)box_heap[1] + HK_HEAP_ALIGN));
    publish(1);
    publish(2);
    hk_policy_note(&box_heap[0]->policy_seen);
    hk_heap_park(box_heap[1]);
}

static void birth_publisher(void)
{
    publish(3);
    publish(4);
}

/* What lib/thread does: start_thread, then some section. */
static void is_born(void)
{
    struct hk_heap *heap;

    hk_policy_stranger_enters();
    heap = hk_heap_adopt();
    explore_assert(heap != NULL);
    hk_policy_stranger_leaves();
    read_snapshot();
    hk_policy_note(&heap->policy_seen);
    read_snapshot();
}

/* thread_ends, without destructors. */
static void ends(void)
{
    read_snapshot();
    hk_policy_stranger_enters();
    hk_heap_park(box_heap[0]);
    read_snapshot();
    hk_policy_stranger_leaves();
}

static void birth_check(void)
{
    check();
    boxes_check(0);
}

const struct explore_model model_birth = {
    .name = "birth",
    .about = "snapshots: a publisher, a thread that is born, one that ends",
    .preemptions = 1,
    .old_reads = 0,
    .nr_random = 200,
    .more_preemptions = 2,
    .more_old_reads = 1,
    .setup = birth_setup,
    .thread = {birth_publisher, is_born, ends},
    .check = birth_check,
    .control = {
        {"hk_heap_policy_seen:load_acquire", "N5: who parked a heap may be reading still"},
        {"hk_policy_stranger_leaves:sub_release", "N3"},
        {"quiet_epoch:load_acquire=0", "strangers not looked for"},
    },
};
