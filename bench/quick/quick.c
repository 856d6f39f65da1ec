// SPDX-License-Identifier: MIT
//
// A few lines per workload: the kinds of allocation where allocators differ most, to see at a glance whether
// one of them is bad. Usage: quick WORKLOAD [REPEATS]. Prints "WORKLOAD seconds peak-KiB minor-faults".
// Deterministic. Every page of a block is written, as programs do: an allocator that hands out cold memory pays.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define KIB ((size_t)1024)
#define MIB (KIB * KIB)

static unsigned scale = 1;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void *get(size_t n)
{
    char *p = malloc(n);
    if (p == NULL)
        exit(2);
    for (size_t i = 0; i < n; i += 4096)
        ((volatile char *)p)[i] = 1;
    ((volatile char *)p)[n - 1] = 1;
    return p;
}

// n blocks of one size live at once, freed in order, repeated.
static void waves(size_t size, unsigned live, unsigned rounds)
{
    void **block = calloc(live, sizeof *block);

    for (unsigned r = 0; r < rounds * scale; r++) {
        for (unsigned i = 0; i < live; i++)
            block[i] = get(size);
        for (unsigned i = 0; i < live; i++)
            free(block[i]);
    }
    free(block);
}

static void json(void) { waves(64 * KIB, 1, 1000000); }
static void json_many(void) { waves(64 * KIB, 100, 2000); }
static void mir(void) { waves(256 * KIB, 1, 200000); }
static void vm(void) { waves(2 * MIB, 1, 20000); }
static void vm_ten(void) { waves(2 * MIB, 10, 500); }
static void tiny_fifo(void) { waves(32, 1000, 30000); }
static void one_kib(void) { waves(1024, 100, 200000); }

static void tiny_lifo(void)
{
    void *block[1000];

    for (unsigned r = 0; r < 30000 * scale; r++) {
        for (unsigned i = 0; i < COUNT(block); i++)
            block[i] = get(48);
        for (unsigned i = COUNT(block); i-- > 0;)
            free(block[i]);
    }
}

// Random replacement among `live` blocks of lo..hi bytes.
static void churn(size_t lo, size_t hi, unsigned live, unsigned steps, uint64_t seed)
{
    void **block = calloc(live, sizeof *block);

    for (unsigned i = 0; i < steps; i++) {
        uint64_t r = next_random(&seed);
        unsigned k = (unsigned)(r % live);
        free(block[k]);
        block[k] = get(lo + (r >> 32) % (hi - lo + 1));
    }
    for (unsigned i = 0; i < live; i++)
        free(block[i]);
    free(block);
}

static void random_small(void) { churn(16, 1024, 10000, 10000000 * scale, 1); }
static void million_live(void) { churn(16, 128, 1000000, 6000000 * scale, 2); }
static void mid(void) { churn(8 * KIB, 32 * KIB, 200, 3000000 * scale, 3); }
static void large(void) { churn(64 * KIB, 1024 * KIB, 50, 40000 * scale, 4); }
static void megabytes(void) { churn(1 * MIB, 8 * MIB, 10, 2000 * scale, 5); }
static void mixed(void)
{
    for (unsigned i = 0; i < 10000 * scale; i++) {
        void *a = get(64 * KIB), *b = get(256 * KIB), *c = get(2 * MIB);
        free(b);
        free(a);
        free(c);
    }
}

// Everything is allocated, nine in ten freed at random, then the holes are filled with larger blocks.
static void fragmentation(void)
{
    enum { NR = 400000 };
    void **block = calloc(NR, sizeof *block);
    uint64_t seed = 6;

    for (unsigned round = 0; round < 5 * scale; round++) {
        for (unsigned i = 0; i < NR; i++)
            if (block[i] == NULL)
                block[i] = get(16 + next_random(&seed) % (round % 2 ? 200 : 100));
        for (unsigned i = 0; i < NR; i++)
            if (next_random(&seed) % 10 != 0) {
                free(block[i]);
                block[i] = NULL;
            }
    }
    for (unsigned i = 0; i < NR; i++)
        free(block[i]);
    free(block);
}

static void realloc_doubling(void)
{
    for (unsigned r = 0; r < 200 * scale; r++) {
        char *p = NULL;
        for (size_t n = 16; n <= 16 * MIB; n *= 2) {
            p = realloc(p, n);
            p[n - 1] = 1;
        }
        free(p);
    }
}

static void realloc_by_64(void)
{
    for (unsigned r = 0; r < 200 * scale; r++) {
        char *p = NULL;
        for (size_t n = 64; n <= 256 * KIB; n += 64) {
            p = realloc(p, n);
            p[n - 1] = 1;
        }
        free(p);
    }
}

static void realloc_many(void)
{
    for (unsigned r = 0; r < 20 * scale; r++) {
        char *p[16] = {NULL};
        for (size_t n = 100; n <= MIB; n += n / 8)
            for (unsigned i = 0; i < COUNT(p); i++) {
                p[i] = realloc(p[i], n);
                p[i][n - 1] = 1;
            }
        for (unsigned i = 0; i < COUNT(p); i++)
            free(p[i]);
    }
}

static void calloc_small(void)
{
    for (unsigned i = 0; i < 20000000 * scale; i++) {
        char *p = calloc(1, 64 + i % 128);
        *(volatile char *)p = 1;
        free(p);
    }
}

// ---- threads

static void in_threads(void *(*body)(void *), unsigned nr)
{
    pthread_t thread[16];

    for (unsigned i = 0; i < nr; i++)
        pthread_create(&thread[i], NULL, body, (void *)(uintptr_t)(i + 1));
    for (unsigned i = 0; i < nr; i++)
        pthread_join(thread[i], NULL);
}

static void *mid_body(void *seed)
{
    churn(8 * KIB, 32 * KIB, 100, 1500000 * scale, (uintptr_t)seed);
    return NULL;
}

static void *small_body(void *seed)
{
    churn(16, 1024, 5000, 5000000 * scale, (uintptr_t)seed);
    return NULL;
}

static void mid_two(void) { in_threads(mid_body, 2); }
static void mid_four(void) { in_threads(mid_body, 4); }
static void random_two(void) { in_threads(small_body, 2); }
static void random_eight(void) { in_threads(small_body, 8); }

// Each generation of threads frees what the one before it allocated, and dies.
static void *migrants[8][1000];

static void *migrate_body(void *index)
{
    void **mine = migrants[(uintptr_t)index - 1];
    uint64_t seed = (uintptr_t)index;

    for (unsigned round = 0; round < 20; round++)
        for (unsigned i = 0; i < 1000; i++) {
            free(mine[i]);
            mine[i] = get(8 + next_random(&seed) % 1000);
        }
    return NULL;
}

static void migration(void)
{
    for (unsigned g = 0; g < 300 * scale; g++) {
        in_threads(migrate_body, 8);
        void *first[1000];
        memcpy(first, migrants[0], sizeof first);
        memmove(migrants[0], migrants[1], sizeof migrants - sizeof migrants[0]);
        memcpy(migrants[7], first, sizeof first);
    }
}

static void *short_life(void *seed)
{
    churn(16, 1024, 20, 100, (uintptr_t)seed);
    return NULL;
}

static void thread_churn(void)
{
    for (unsigned i = 0; i < 10000 * scale; i++)
        in_threads(short_life, 1);
}

// Two threads swap batches of 64 blocks: each frees what the other allocated.
static void *slot[64];
static pthread_barrier_t both;

static void *swap_body(void *index)
{
    for (unsigned r = 0; r < 30000 * scale; r++) {
        if ((uintptr_t)index == 1)
            for (unsigned i = 0; i < COUNT(slot); i++)
                slot[i] = get(64);
        pthread_barrier_wait(&both);
        if ((uintptr_t)index == 2)
            for (unsigned i = 0; i < COUNT(slot); i++)
                free(slot[i]);
        pthread_barrier_wait(&both);
    }
    return NULL;
}

static void handoff(void)
{
    pthread_barrier_init(&both, NULL, 2);
    in_threads(swap_body, 2);
}

static void nothing(void) {}

// Of this program alone: ru_maxrss starts at what the parent had when it forked.
static long peak_kib(void)
{
    char line[128];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");

    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (status)
        fclose(status);
    return kib;
}

static const struct {
    const char *name;
    void (*run)(void);
} workloads[] = {
    {"json-64K", json},           {"json-64K-x100", json_many}, {"mir-256K", mir},
    {"vm-2M", vm},                {"vm-2M-x10", vm_ten},        {"mixed", mixed},
    {"tiny-fifo", tiny_fifo},     {"tiny-lifo", tiny_lifo},     {"1K-x100", one_kib},
    {"random-small", random_small}, {"1M-live", million_live},  {"mid-8-32K", mid},
    {"large-64K-1M", large},      {"megabytes", megabytes},     {"fragmentation", fragmentation},
    {"realloc-double", realloc_doubling}, {"realloc-64", realloc_by_64}, {"realloc-many", realloc_many},
    {"calloc-small", calloc_small}, {"mid-2-threads", mid_two}, {"mid-4-threads", mid_four},
    {"random-2-threads", random_two}, {"random-8-threads", random_eight}, {"migration", migration},
    {"thread-churn", thread_churn}, {"handoff-64", handoff},    {"nothing", nothing},
};

int main(int argc, char **argv)
{
    struct timespec begin, end;
    struct rusage usage;

    if (argc < 2) {
        for (size_t i = 0; i < COUNT(workloads); i++)
            puts(workloads[i].name);
        return 0;
    }
    if (argc > 2)
        scale = (unsigned)atoi(argv[2]);
    for (size_t i = 0; i < COUNT(workloads); i++)
        if (strcmp(argv[1], workloads[i].name) == 0) {
            clock_gettime(CLOCK_MONOTONIC, &begin);
            workloads[i].run();
            clock_gettime(CLOCK_MONOTONIC, &end);
            getrusage(RUSAGE_SELF, &usage);
            printf("%s %.6f %ld %ld\n", argv[1],
                   (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9,
                   peak_kib(), usage.ru_minflt);
            return 0;
        }
    return 1;
}
