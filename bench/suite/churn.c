// SPDX-License-Identifier: MIT
/* churn: sizes and lifetimes at random, on one thread or on several that share nothing. */
#define _GNU_SOURCE
#include "suite.h"

/* A step: a random one of nr_live blocks is replaced by one of another size. */
static void churn(struct suite_thread *self)
{
    const struct workload *w = self->w;
    uint64_t nr_steps = suite_scaled(w->nr_steps) / w->nr_threads;
    void **block = suite_area(w->nr_live * sizeof *block);

    for (uint64_t s = 0; s < nr_steps; s++) {
        size_t k = suite_below(&self->random, w->nr_live);
        suite_put(block[k]);
        block[k] = suite_get(suite_size(&self->random, w));
    }
    for (unsigned i = 0; i < w->nr_live; i++)
        suite_put(block[i]);
    suite_drop_area(block, w->nr_live * sizeof *block);
    self->nr_ops = nr_steps;
}

/* One thread: the main one, since a program's first thread may be served differently. */
static uint64_t random_mixed(const struct workload *w)
{
    if (w->nr_threads > 1)
        return suite_in_threads(w, w->nr_threads, churn, NULL);
    struct suite_thread self = {w, 0, suite_seeded(1), 0, NULL};
    churn(&self);
    return self.nr_ops;
}

/* Everything is allocated, nine in ten freed at random, then the holes are filled with larger blocks. */
static uint64_t fragmentation(const struct workload *w)
{
    struct suite_random r = suite_seeded(0);
    unsigned nr = (unsigned)suite_scaled(w->nr_live);
    void **block = suite_area(nr * sizeof *block);
    uint64_t nr_ops = 0;

    for (unsigned round = 0; round < w->nr_steps; round++) {
        for (unsigned i = 0; i < nr; i++)
            if (block[i] == NULL) {
                block[i] = suite_get(16 + suite_below(&r, round % 2 ? 200 : 100));
                nr_ops++;
            }
        for (unsigned i = 0; i < nr; i++)
            if (suite_below(&r, 10) != 0) {
                suite_put(block[i]);
                block[i] = NULL;
            }
    }
    suite_report("fragmented_kib", suite_resident_kib());
    for (unsigned i = 0; i < nr; i++)
        suite_put(block[i]);
    suite_report("freed_kib", suite_resident_kib());
    return nr_ops;
}

/* n = lo / u for a uniform u: many small blocks, few large ones (Pareto, alpha 1), cut off at hi. */
static size_t pareto_size(struct suite_random *r, const struct workload *w)
{
    size_t n = w->lo * 65536 / (1 + suite_below(r, 65536));
    return n > w->hi ? w->hi : n;
}

/* A step: a block is made that lives for a time at random, geometric in the number of steps: a slot at
   random among the first 2^k, k at random. */
static uint64_t pareto(const struct workload *w)
{
    struct suite_random r = suite_seeded(0);
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    void **block = suite_area(w->nr_live * sizeof *block);

    for (uint64_t s = 0; s < nr_steps; s++) {
        size_t k = suite_below(&r, w->nr_live >> suite_below(&r, 12));
        suite_put(block[k]);
        block[k] = suite_get(pareto_size(&r, w));
    }
    for (unsigned i = 0; i < w->nr_live; i++)
        suite_put(block[i]);
    return nr_steps;
}

const struct workload suite_churn[] = {
    {"random-1", "16 to 1024 B, 10,000 live, replaced at random", random_mixed, 1, 10000, 16, 1024,
     7000000, 0},
    {"random-2", "the same on each of 2 threads", random_mixed, 2, 10000, 16, 1024, 14000000, 0},
    {"random-8", "the same on each of 8 threads", random_mixed, 8, 5000, 16, 1024, 12000000, 0},
    {"mid-1", "8 to 32 KiB, 200 live, replaced at random", random_mixed, 1, 200, 8 * KIB, 32 * KIB,
     3000000, 0},
    {"mid-2", "the same on each of 2 threads, 100 live", random_mixed, 2, 100, 8 * KIB, 32 * KIB,
     5000000, 0},
    {"mid-4", "the same on each of 4 threads, 100 live", random_mixed, 4, 100, 8 * KIB, 32 * KIB,
     5000000, 0},
    {"large-64K-1M", "64 KiB to 1 MiB, 50 live, replaced at random", random_mixed, 1, 50, 64 * KIB,
     MIB, 30000, 0},
    {"megabytes", "5 to 25 MiB, 10 live, replaced at random", random_mixed, 1, 10, 5 * MIB,
     25 * MIB, 150, 0},
    {"live-1M", "a million objects of 16 to 128 B, replaced at random", random_mixed, 1, 1000000,
     16, 128, 3000000, 0},
    {"pareto", "16 B to 16 KiB, many small and few large, lifetimes at random", pareto, 1, 65536,
     16, 16 * KIB, 6000000, 0},
    {"fragmentation", "400,000 blocks, nine in ten freed, holes refilled with larger ones",
     fragmentation, 1, 400000, 16, 216, 4, 0},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};
