// SPDX-License-Identifier: MIT
/* memory: what stays resident, and for how long. Idle time is not part of the measured time. */
#define _GNU_SOURCE
#include "suite.h"

static void fill(void **block, unsigned nr, struct suite_random *r, const struct workload *w)
{
    for (unsigned i = 0; i < nr; i++)
        block[i] = suite_get(suite_size(r, w));
}

static void empty(void **block, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        suite_put(block[i]);
}

/* Two bursts with a second of idleness between them: what is resident after the first, and whether the
   second pays for what was returned. */
static uint64_t burst(const struct workload *w)
{
    struct suite_random r = suite_seeded(0);
    unsigned nr = (unsigned)suite_scaled(w->nr_live);
    void **block = suite_area(nr * sizeof *block);

    fill(block, nr, &r, w);
    suite_report("full_kib", suite_resident_kib());
    empty(block, nr);
    suite_pause();
    suite_report("freed_kib", suite_resident_kib());
    suite_sleep_ms(300);
    suite_report("idle_300ms_kib", suite_resident_kib());
    suite_sleep_ms(700);
    suite_report("idle_1s_kib", suite_resident_kib());
    suite_resume();
    fill(block, nr, &r, w);
    empty(block, nr);
    return 2 * (uint64_t)nr;
}

/* A heap that breathes, with pauses short enough to be kept through and long enough to be returned in:
   a server between its peaks. Its resident size over time is what the runner plots. */
static uint64_t breathing(const struct workload *w)
{
    static const unsigned level[] = {100, 25, 100, 10, 60, 5};
    struct suite_random r = suite_seeded(0);
    unsigned nr = (unsigned)suite_scaled(w->nr_live), nr_now = 0;
    void **block = suite_area(nr * sizeof *block);
    uint64_t nr_ops = 0;

    for (unsigned phase = 0; phase < COUNT(level); phase++) {
        unsigned goal = (unsigned)((uint64_t)nr * level[phase] / 100);
        for (; nr_now < goal; nr_now++, nr_ops++)
            block[nr_now] = suite_get(suite_size(&r, w));
        while (nr_now > goal) {
            size_t k = suite_below(&r, nr_now);
            suite_put(block[k]);
            block[k] = block[--nr_now];
        }
        for (unsigned s = 0; s < goal; s++, nr_ops++) {
            size_t k = suite_below(&r, goal);
            suite_put(block[k]);
            block[k] = suite_get(suite_size(&r, w));
        }
        suite_pause();
        suite_sleep_ms((unsigned)w->param);
        suite_resume();
    }
    empty(block, nr_now);
    suite_pause();
    suite_sleep_ms((unsigned)w->param);
    suite_report("end_kib", suite_resident_kib());
    return nr_ops;
}

static uint64_t nothing(const struct workload *w)
{
    suite_put(suite_get(w->lo));
    return 1;
}

const struct workload suite_memory[] = {
    {"burst", "160 MiB of 16 B to 4 KiB, all freed, a second idle, and again", burst, 1, 80000, 16,
     4096, 0, 0},
    {"breathing", "a heap that grows, shrinks and idles: RSS over time", breathing, 1, 100000, 16,
     2048, 0, 100},
    {"hello", "one block: what the allocator is resident with", nothing, 1, 1, 100, 0, 0, 0},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};
