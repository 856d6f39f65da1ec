// SPDX-License-Identifier: MIT
/* scale: how the cost of an operation changes with one quantity, --param; the runner makes curves of it. */
#define _GNU_SOURCE
#include "suite.h"

#define NR_SITES 1024u

static void replace(struct suite_thread *self)
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

/* The same number of operations, shared among `param` threads. */
static uint64_t by_threads(const struct workload *given)
{
    struct workload w = *given;
    w.nr_threads = (unsigned)w.param;
    return suite_in_threads(&w, w.nr_threads, replace, NULL);
}

/* Blocks are replaced in a heap of `param` MiB; filling it is not measured. */
static uint64_t by_heap(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    size_t nr = w->param * MIB / ((w->lo + w->hi) / 2);
    struct suite_random r = suite_seeded(0);
    void **block = suite_area(nr * sizeof *block);

    suite_pause();
    for (size_t i = 0; i < nr; i++)
        block[i] = suite_get(suite_size(&r, w));
    suite_resume();
    for (uint64_t s = 0; s < nr_steps; s++) {
        size_t k = suite_below(&r, nr);
        suite_put(block[k]);
        block[k] = suite_get(suite_size(&r, w));
    }
    suite_pause();
    suite_report("live_kib", w->param * KIB);
    return nr_steps; /* the heap goes with the process */
}

static void one_life(struct suite_thread *self)
{
    void *block[16];
    for (unsigned i = 0; i < COUNT(block); i++)
        block[i] = suite_get(suite_size(&self->random, self->w));
    for (unsigned i = 0; i < COUNT(block); i++)
        suite_put(block[i]);
}

/* After `param` threads have come and gone; making them is not measured, what they leave behind is. */
static uint64_t by_threads_made(const struct workload *w)
{
    suite_pause();
    for (uint64_t i = 0; i < w->param; i++)
        suite_in_threads(w, 1, one_life, NULL);
    suite_report("left_kib", suite_resident_kib());
    suite_resume();
    struct suite_thread self = {w, 0, suite_seeded(0), 0, NULL};
    replace(&self);
    return self.nr_ops;
}

/* `param` different sizes, 16 B apart: 16, 32, ... */
static uint64_t by_sizes(const struct workload *given)
{
    struct suite_random r = suite_seeded(0);
    uint64_t nr_steps = suite_scaled(given->nr_steps);
    void **block = suite_area(given->nr_live * sizeof *block);

    for (uint64_t s = 0; s < nr_steps; s++) {
        size_t k = suite_below(&r, given->nr_live);
        suite_put(block[k]);
        block[k] = suite_get(16 + 16 * suite_below(&r, given->param));
    }
    for (unsigned i = 0; i < given->nr_live; i++)
        suite_put(block[i]);
    return nr_steps;
}

/* One call instruction a case: the empty statement differs in each, so they cannot be merged. */
/* clang-format off */
#define SITE(n)      case (n): p = suite_take(size); __asm__ volatile("" : "+r"(p) : "i"(n)); break;
#define SITES_4(n)   SITE(n) SITE((n) + 1) SITE((n) + 2) SITE((n) + 3)
#define SITES_16(n)  SITES_4(n) SITES_4((n) + 4) SITES_4((n) + 8) SITES_4((n) + 12)
#define SITES_64(n)  SITES_16(n) SITES_16((n) + 16) SITES_16((n) + 32) SITES_16((n) + 48)
#define SITES_256(n) SITES_64(n) SITES_64((n) + 64) SITES_64((n) + 128) SITES_64((n) + 192)
/* clang-format on */

static void *from_site(size_t site, size_t size)
{
    void *p = NULL;
    switch (site) {
        SITES_256(0)
        SITES_256(256) SITES_256(512) SITES_256(768) default : suite_fail("no such site", 1);
    }
    return p;
}

/* Calls from `param` different places: what call sites cost that are sampled (small blocks) and counted
   (blocks above 64 KiB, one in 16). */
static uint64_t by_sites(const struct workload *w)
{
    struct suite_random r = suite_seeded(0);
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    void **block = suite_area(w->nr_live * sizeof *block);

    if (w->param < 1 || w->param > NR_SITES)
        suite_fail("between 1 and 1024 sites", 1);
    for (uint64_t s = 0; s < nr_steps; s++) {
        size_t k = suite_below(&r, w->nr_live), site = suite_below(&r, w->param);
        suite_put(block[k]);
        block[k] = from_site(site, s % 16 ? 16 + s % 1000 : 80 * KIB);
        *(volatile char *)block[k] = 1;
    }
    for (unsigned i = 0; i < w->nr_live; i++)
        suite_put(block[i]);
    return nr_steps;
}

const struct workload suite_scale[] = {
    {"scale-threads", "--param threads share the same work", by_threads, 1, 1000, 16, 1024, 6000000,
     1},
    {"scale-heap", "--param MiB live, blocks of 16 to 1024 B replaced", by_heap, 1, 0, 16, 1024,
     1000000, 1},
    {"scale-made", "after --param threads have come and gone", by_threads_made, 1, 1000, 16, 1024,
     2000000, 1},
    {"scale-sizes", "--param different sizes, 16 B apart", by_sizes, 1, 4000, 0, 0, 3000000, 1},
    {"scale-sites", "--param different call sites", by_sites, 1, 200, 0, 0, 3000000, 1},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};
