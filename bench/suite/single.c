// SPDX-License-Identifier: MIT
/*
 * single: one thread, sizes known in advance. The shapes that a fast path, or a cache of big blocks, is
 * made for; and those that defeat it: fresh processes, sizes that do not come back, aligned big blocks.
 */
#define _GNU_SOURCE
#include "suite.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A step: nr_live blocks of `lo` bytes are made, then freed in the order they were made. */
static uint64_t waves(const struct workload *w)
{
    void **block = suite_area(w->nr_live * sizeof *block);
    uint64_t nr_steps = suite_scaled(w->nr_steps);

    for (uint64_t s = 0; s < nr_steps; s++) {
        for (unsigned i = 0; i < w->nr_live; i++)
            block[i] = suite_get(w->lo);
        for (unsigned i = 0; i < w->nr_live; i++)
            suite_put(block[i]);
    }
    return nr_steps * w->nr_live;
}

/* The same, freed in the opposite order. */
static uint64_t stacks(const struct workload *w)
{
    void **block = suite_area(w->nr_live * sizeof *block);
    uint64_t nr_steps = suite_scaled(w->nr_steps);

    for (uint64_t s = 0; s < nr_steps; s++) {
        for (unsigned i = 0; i < w->nr_live; i++)
            block[i] = suite_get(w->lo);
        for (unsigned i = w->nr_live; i-- > 0;)
            suite_put(block[i]);
    }
    return nr_steps * w->nr_live;
}

/* A step: a block is made and freed at once. */
static uint64_t pairs(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    for (uint64_t s = 0; s < nr_steps; s++)
        suite_put(suite_get(w->lo));
    return nr_steps;
}

/* The same, and only the first byte is written: what the allocator itself costs. */
static uint64_t first_byte(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    for (uint64_t s = 0; s < nr_steps; s++) {
        char *p = suite_take(w->lo);
        *(volatile char *)p = 1;
        suite_put(p);
    }
    return nr_steps;
}

/* As a short-lived program has it: sizes 8 to 64 that differ from call to call, hardly anything live. */
static uint64_t hot(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    struct suite_random r = suite_seeded(0);
    void *block[8] = {NULL};

    for (uint64_t s = 0; s < nr_steps; s++) {
        suite_put(block[s % COUNT(block)]);
        block[s % COUNT(block)] = suite_get(suite_size(&r, w));
    }
    for (unsigned i = 0; i < COUNT(block); i++)
        suite_put(block[i]);
    return nr_steps;
}

/* A step: three blocks live together, as one request of a server that parses, compiles and runs. */
static uint64_t mixed(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    for (uint64_t s = 0; s < nr_steps; s++) {
        void *json = suite_get(64 * KIB), *mir = suite_get(256 * KIB), *vm = suite_get(2 * MIB);
        suite_put(mir);
        suite_put(json);
        suite_put(vm);
    }
    return nr_steps * 3;
}

/* Sizes from 4 KiB to 1 MiB, uniform in their logarithm, that hardly ever come back; each block is written
   whole, and 16 live at a time, first in, first out. */
static uint64_t cold(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    struct suite_random r = suite_seeded(0);
    void *block[16] = {NULL};

    for (uint64_t s = 0; s < nr_steps; s++) {
        size_t n = (size_t)4096 << suite_below(&r, 8);
        n += suite_below(&r, n);
        suite_put(block[s % COUNT(block)]);
        block[s % COUNT(block)] = memset(suite_get(n), (int)s, n);
    }
    for (unsigned i = 0; i < COUNT(block); i++)
        suite_put(block[i]);
    return nr_steps;
}

/* `param` blocks of `lo` bytes, one after the other, in each of nr_steps fresh processes; only the time
   inside of them counts. */
static uint64_t fresh(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    uint64_t *took = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    suite_pause();
    for (uint64_t s = 0; s < nr_steps; s++) {
        int status = 1;
        pid_t child = fork();
        if (child == 0) {
            took[1] = suite_cpu_ns();
            took[0] = suite_now_ns();
            for (uint64_t i = 0; i < w->param; i++)
                suite_put(suite_get(w->lo));
            took[0] = suite_now_ns() - took[0];
            took[1] = suite_cpu_ns() - took[1];
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            suite_fail("a child failed", 2);
        suite_add_time(took[0], took[1]);
    }
    munmap(took, PAGE);
    return nr_steps * w->param;
}

static uint64_t zeroed(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    struct suite_random r = suite_seeded(0);

    for (uint64_t s = 0; s < nr_steps; s++) {
        size_t n = suite_size(&r, w);
        char *p = calloc(1, n);
        if (p == NULL || p[n / 2] != 0)
            suite_fail("calloc failed, or its memory is not zero", 2);
        suite_touch(p, n);
        suite_put(p);
    }
    return nr_steps;
}

/* Big blocks that all begin at one distance from a page boundary share few sets of the cache: the first
   lines of 64 of them are read in turns, as matrices and hash tables of one size are. Two thirds of the
   steps only read; the others also replace a block. */
static uint64_t alias(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps), sum = 0;
    struct suite_random r = suite_seeded(0);
    char **block = suite_area(w->nr_live * sizeof *block);

    for (unsigned i = 0; i < w->nr_live; i++)
        block[i] = suite_get(w->lo);
    for (uint64_t s = 0; s < nr_steps; s++) {
        if (s % 3 == 0) {
            size_t k = suite_below(&r, w->nr_live);
            suite_put(block[k]);
            block[k] = suite_get(w->lo);
        }
        for (unsigned pass = 0; pass < 16; pass++)
            for (unsigned i = 0; i < w->nr_live; i++)
                sum += (uint64_t)((volatile char *)block[i])[pass % 4 * LINE]++;
    }
    for (unsigned i = 0; i < w->nr_live; i++)
        suite_put(block[i]);
    return nr_steps + (sum == 1);
}

const struct workload suite_single[] = {
    {"json-64K", "64 KiB, 1000 pairs at a time, every page written", pairs, 1, 1, 64 * KIB, 0,
     2000 * 1000, 0},
    {"json-64K-first-byte", "64 KiB pairs, only the first byte written", first_byte, 1, 1, 64 * KIB,
     0, 10000000, 0},
    {"json-64K-live100", "64 KiB, 100 live at a time", waves, 1, 100, 64 * KIB, 0, 200, 0},
    {"mir-256K", "256 KiB pairs, every page written", pairs, 1, 1, 256 * KIB, 0, 4000 * 100, 0},
    {"mir-256K-live100", "256 KiB, 100 live at a time", waves, 1, 100, 256 * KIB, 0, 20, 0},
    {"vm-2M", "2 MiB pairs, every page written", pairs, 1, 1, 2 * MIB, 0, 40000, 0},
    {"vm-2M-x10", "2 MiB, 10 pairs in a fresh process, 100 processes", fresh, 1, 1, 2 * MIB, 0, 100,
     10},
    {"vm-2M-x100", "2 MiB, 100 pairs in a fresh process, 60 processes", fresh, 1, 1, 2 * MIB, 0, 60,
     100},
    {"vm-2M-live10", "2 MiB, 10 live at a time", waves, 1, 10, 2 * MIB, 0, 60, 0},
    {"json-64K-x1000", "64 KiB, 1000 pairs in a fresh process, 100 processes", fresh, 1, 1,
     64 * KIB, 0, 100, 1000},
    {"mixed", "64 KiB, 256 KiB and 2 MiB live together", mixed, 1, 3, 0, 0, 30000, 0},
    {"cold-churn", "4 KiB to 1 MiB, sizes that hardly come back, written whole", cold, 1, 16, 0, 0,
     12000, 0},
    {"tiny-hot", "8 to 64 B, eight live", hot, 1, 8, 8, 64, 15000000, 0},
    {"tiny-lifo", "48 B, 1000 live, last in, first out", stacks, 1, 1000, 48, 0, 30000, 0},
    {"tiny-fifo", "32 B, 1000 live, first in, first out", waves, 1, 1000, 32, 0, 30000, 0},
    {"pair-16", "16 B pairs", pairs, 1, 1, 16, 0, 20000000, 0},
    {"pair-1K", "1 KiB pairs", pairs, 1, 1, 1024, 0, 20000000, 0},
    {"pair-1M", "1 MiB pairs, only the first byte written", first_byte, 1, 1, MIB, 0, 1000000, 0},
    {"one-1K-live100", "1 KiB, 100 live, first in, first out", waves, 1, 100, 1024, 0, 200000, 0},
    {"calloc-small", "calloc of 16 to 256 B", zeroed, 1, 1, 16, 256, 15000000, 0},
    {"calloc-big", "calloc of 256 KiB to 1 MiB, every page written", zeroed, 1, 1, 256 * KIB, MIB,
     4000, 0},
    {"churn-800K", "800 KiB, 20 live at a time", waves, 1, 20, 800 * KIB, 0, 60, 0},
    {"alias-256K", "64 blocks of 256 KiB, their first lines in turns: sets of the cache", alias, 1,
     64, 256 * KIB, 0, 20000, 0},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};
