// SPDX-License-Identifier: MIT
/*
 * The ring of events of lib/stats, included whole: two writers, one of them over an event that a reader looks at. What is
 * read is one event, or nothing.
 */
#include "stats/stats.c"

#include "engine.h"

#define FIRST 1 /* in the ring before; the writers' numbers follow one turn later */

static void write_event(unsigned who)
{
    hk_trace_slow(HK_TRACE_SEND, who, 10 * who);
}

static void setup(void)
{
    hk_trace_on = true;
    write_event(9);
    nr_events = HK_TRACE_EVENTS; /* so that the next takes the place of the first */
}

static void writer(void)
{
    write_event(explore_self());
}

static void look(uint64_t number)
{
    struct hk_trace_event e;

    if (!read_event(number, &e))
        return;
    explore_assert(e.what == HK_TRACE_SEND);
    explore_assert(e.value == 10 * e.class);
    explore_assert((number == FIRST) == (e.class == 9));
}

static void reader(void)
{
    look(FIRST);
    look(HK_TRACE_EVENTS + FIRST);
    look(HK_TRACE_EVENTS + FIRST);
}

static void check(void)
{
    explore_assert(nr_events == HK_TRACE_EVENTS + 2);
}

const struct explore_model model_trace = {
    .name = "trace",
    .about = "stats.c: the ring of events, two writers and a reader",
    .preemptions = 2,
    .old_reads = 2,
    .nr_random = 1000,
    .more_preemptions = 3,
    .more_old_reads = 3,
    .setup = setup,
    .thread = {writer, writer, reader},
    .check = check,
    .control = {
        {"hk_trace_slow:fence_full", "TR3: a new field, and the old number"},
        {"hk_trace_slow:store_release", "TR1: a number before its fields"},
        {"read_event:load_acquire", "TR2"},
        {"read_event:fence_full", "TR4: the second look before the fields"},
    },
};
