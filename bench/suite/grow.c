// SPDX-License-Identifier: MIT
/* grow: buffers that grow by realloc. An operation is one call of it. */
#define _GNU_SOURCE
#include "suite.h"

#include <string.h>

static uint64_t doubling(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps), nr_ops = 0;

    for (uint64_t s = 0; s < nr_steps; s++) {
        char *p = NULL;
        for (size_t n = w->lo; n <= w->hi; n *= 2, nr_ops++)
            p = suite_grow_to(p, n);
        suite_put(p);
    }
    return nr_ops;
}

static uint64_t by_param(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps), nr_ops = 0;

    for (uint64_t s = 0; s < nr_steps; s++) {
        char *p = NULL;
        for (size_t n = w->lo; n <= w->hi; n += w->param, nr_ops++)
            p = suite_grow_to(p, n);
        suite_put(p);
    }
    return nr_ops;
}

/* nr_live buffers grow by an eighth in turns, so that none has its neighbour to itself. */
static uint64_t side_by_side(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps), nr_ops = 0;
    char *p[64];

    for (uint64_t s = 0; s < nr_steps; s++) {
        memset(p, 0, sizeof p);
        for (size_t n = w->lo; n <= w->hi; n += n / 8)
            for (unsigned i = 0; i < w->nr_live; i++, nr_ops++)
                p[i] = suite_grow_to(p[i], n);
        for (unsigned i = 0; i < w->nr_live; i++)
            suite_put(p[i]);
    }
    return nr_ops;
}

const struct workload suite_grow[] = {
    {"realloc-double", "one buffer from 16 B to 16 MiB, doubled, its last byte written", doubling,
     1, 1, 16, 16 * MIB, 100, 0},
    {"realloc-64", "one buffer from 64 B to 256 KiB, by 64 B", by_param, 1, 1, 64, 256 * KIB, 200,
     64},
    {"realloc-many", "16 buffers from 100 B to 1 MiB in turns, by an eighth", side_by_side, 1, 16,
     100, MIB, 15, 0},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};
