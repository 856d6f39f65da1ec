// SPDX-License-Identifier: MIT
/*
 * What a malloc + free pair executes, for tests/lint/instructions.py to count under callgrind.
 *
 *     pairs WORKLOAD N
 *
 * runs the workload N times to warm up, then N times and 3 N times, first with functions that do
 * nothing and then with malloc and free; before and after each run it calls mark(), where callgrind
 * starts a new account. The difference of the two slopes is what malloc and free cost; the loop is the same machine
 * code for both, because the functions are called through pointers.
 */
#include <stdint.h>
#include <stdio.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 1000
#define LIVE 10000

typedef void *alloc_fn(size_t bytes);
typedef void free_fn(void *block);

struct workload {
    const char *name;
    size_t bytes;
    void (*run)(alloc_fn *alloc, free_fn *release, size_t bytes, long n);
    alloc_fn *alloc;
};

/* Two instructions in all on any machine: what the caller subtracts for them is exact. */
extern alloc_fn nothing_alloc;
extern free_fn nothing_free;
__asm__(".text\n"
        ".globl nothing_alloc, nothing_free\n"
        ".hidden nothing_alloc, nothing_free\n"
        ".type nothing_alloc, %function\n"
        ".type nothing_free, %function\n"
        "nothing_alloc: ret\n"
        "nothing_free: ret\n");

__attribute__((noinline)) void mark(void);
void mark(void)
{
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static void run_pairs(alloc_fn *alloc, free_fn *release, size_t bytes,
                                                long n)
{
    for (long i = 0; i < n; i++)
        release(alloc(bytes));
}

/* n blocks in batches: first all are allocated, then all freed. */
__attribute__((noinline)) static void run_batches(alloc_fn *alloc, free_fn *release, size_t bytes,
                                                  long n)
{
    static void *block[BATCH];

    for (long done = 0; done < n; done += BATCH) {
        for (int i = 0; i < BATCH; i++)
            block[i] = alloc(bytes);
        for (int i = 0; i < BATCH; i++)
            release(block[i]);
    }
}

/* Random sizes up to 1024 in random slots of a table of live blocks. The tables stay: each of the two
 * kinds of functions has its own, and the same numbers. */
__attribute__((noinline)) static void run_random(alloc_fn *alloc, free_fn *release, size_t bytes,
                                                 long n)
{
    static void *tables[2][LIVE];
    static uint64_t seeds[2] = {88172645463325252u, 88172645463325252u};
    int real = alloc == malloc;
    void **live = tables[real];
    uint64_t seed = seeds[real];

    (void)bytes;
    for (long i = 0; i < n; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        void **slot = &live[(seed >> 32) % LIVE];
        release(*slot);
        *slot = alloc(16 + (seed & 1023) % 1009);
    }
    seeds[real] = seed;
}

/* These cost a few instructions of their own, which count. */
static void *by_realloc(size_t bytes)
{
    return realloc(NULL, bytes);
}

static void *by_growth(size_t bytes)
{
    return realloc(malloc(bytes), 2 * bytes);
}

static void *aligned(size_t bytes)
{
    return aligned_alloc(64, bytes);
}

static void *asked(size_t bytes)
{
    void *p = malloc(bytes);

    return malloc_usable_size(p) >= bytes ? p : NULL;
}

static void *zeroed(size_t bytes)
{
    return calloc(1, bytes);
}

static const struct workload workloads[] = {
    {"16", 16, run_pairs, malloc},
    {"64", 64, run_pairs, malloc},
    {"256", 256, run_pairs, malloc},
    {"1K", 1024, run_pairs, malloc},
    {"8K", 8192, run_pairs, malloc},
    {"64K", 65536, run_pairs, malloc},
    {"1M", 1048576, run_pairs, malloc},
    {"batch", 64, run_batches, malloc},
    {"random", 0, run_random, malloc},
    {"realloc", 64, run_pairs, by_realloc},
    {"grow", 64, run_pairs, by_growth},
    {"aligned", 192, run_pairs, aligned},
    {"usable", 64, run_pairs, asked},
    {"calloc", 64, run_pairs, zeroed},
};

static void measure(const struct workload *w, alloc_fn *alloc, free_fn *release, long n)
{
    w->run(alloc, release, w->bytes, n);
    mark();
    w->run(alloc, release, w->bytes, n);
    mark();
    w->run(alloc, release, w->bytes, 3 * n);
    mark();
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++) {
            if (strcmp(workloads[i].name, argv[1]) == 0) {
                measure(&workloads[i], nothing_alloc, nothing_free, atol(argv[2]));
                measure(&workloads[i], workloads[i].alloc, free, atol(argv[2]));
                return 0;
            }
        }
    }
    fprintf(stderr, "usage: pairs WORKLOAD N\n");
    return 2;
}
