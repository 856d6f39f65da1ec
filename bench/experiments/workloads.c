/* SPDX-License-Identifier: MIT */
/*
 * workloads.c - the workloads of the design experiments, one per run.
 *
 *   workloads NAME SEED OPS [THREADS]
 *
 * Prints one line: name ops wall_seconds cpu_seconds hwm_kib minor_faults.
 * The seed fixes every size, order and lifetime; the checksum that the
 * workloads keep makes the loads real. HWM is the peak RSS of this image alone
 * (ru_maxrss would carry over the driver's own across exec).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static volatile uint64_t sink;
static unsigned nr_threads = 1;

struct rng {
    uint64_t s;
};

static inline uint64_t next(struct rng *r)
{
    r->s ^= r->s << 13;
    r->s ^= r->s >> 7;
    r->s ^= r->s << 17;
    return r->s * 0x2545f4914f6cdd1dull;
}

static struct rng seeded(uint64_t seed)
{
    struct rng r = { seed * 0x9e3779b97f4a7c15ull + 0x1234567 };
    for (int i = 0; i < 8; i++)
        next(&r);
    return r;
}

static inline uint32_t below(struct rng *r, uint32_t n)
{
    return (uint32_t)(((next(r) >> 32) * n) >> 32);
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- one thread -------------------------------------------------------- */

/* Pareto sizes 16 B .. 16 KiB, random lifetimes in 64 Ki slots. */
static void pareto(uint64_t seed, uint64_t ops)
{
    enum { SLOTS = 1 << 16 };
    struct rng r = seeded(seed);
    uint64_t **slot = must(calloc(SLOTS, sizeof *slot)), sum = 0;
    static uint16_t size[4096]; /* inverse of the distribution, alpha about 1 */
    for (unsigned i = 0; i < 4096; i++) {
        unsigned s = 16u * 4096 / (i + 1);
        size[i] = (uint16_t)(s > 16384 ? 16384 : s < 16 ? 16 : s);
    }
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t v = next(&r);
        uint64_t **at = &slot[v % SLOTS];
        if (*at) {
            sum += **at;
            free(*at);
            *at = NULL;
            continue;
        }
        unsigned s = size[(v >> 20) & 4095];
        *at = must(malloc(s));
        **at = v;
        (*at)[s / 8 - 1] = v;
    }
    for (unsigned i = 0; i < SLOTS; i++)
        free(slot[i]);
    free(slot);
    sink += sum;
}

/* Short-lived numbers of one to six limbs, each computed from the last one. */
struct num {
    uint32_t nr, limb[];
};

static struct num *num_new(uint32_t nr)
{
    struct num *n = must(malloc(sizeof *n + nr * 4));
    n->nr = nr;
    return n;
}

static struct num *num_mul(const struct num *a, uint32_t k)
{
    struct num *n = num_new(a->nr + 1);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < a->nr; i++) {
        carry += (uint64_t)a->limb[i] * k;
        n->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    n->limb[a->nr] = (uint32_t)carry;
    return n;
}

static struct num *num_add(const struct num *a, const struct num *b)
{
    uint32_t nr = a->nr > b->nr ? a->nr : b->nr;
    struct num *n = num_new(nr);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < nr; i++) {
        carry += (uint64_t)(i < a->nr ? a->limb[i] : 0) + (i < b->nr ? b->limb[i] : 0);
        n->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return n;
}

static struct num *num_fold(const struct num *a, uint32_t nr)
{
    struct num *n = num_new(nr);
    memset(n->limb, 0, nr * 4);
    for (uint32_t i = 0; i < a->nr; i++)
        n->limb[i % nr] ^= a->limb[i];
    return n;
}

static void cfrac(uint64_t seed, uint64_t ops)
{
    struct rng r = seeded(seed);
    struct num *x = num_new(3), *y = num_new(2);
    for (uint32_t i = 0; i < 3; i++)
        x->limb[i] = (uint32_t)next(&r);
    y->limb[0] = 12345;
    y->limb[1] = (uint32_t)seed;
    for (uint64_t i = 0; i < ops; i += 4) {
        struct num *p = num_mul(x, y->limb[0] | 1);
        struct num *q = num_add(p, y);
        free(p);
        free(y);
        y = num_fold(q, 1 + (q->limb[0] & 1));
        free(x);
        x = num_fold(q, 2 + (q->limb[1] & 3));
        free(q);
    }
    sink += x->limb[0];
    free(x);
    free(y);
}

/* A million live blocks of 16..112 B, freed cold in random order, repeatedly. */
static void bulk(uint64_t seed, uint64_t ops)
{
    enum { LIVE = 1000000 };
    struct rng r = seeded(seed);
    uint64_t **block = must(malloc(LIVE * sizeof *block)), sum = 0;
    for (uint64_t done = 0; done < ops; done += 2 * LIVE) {
        for (unsigned i = 0; i < LIVE; i++) {
            block[i] = must(malloc(16 + 16 * below(&r, 7)));
            *block[i] = i;
        }
        for (unsigned i = LIVE - 1; i; i--) {
            unsigned j = below(&r, i + 1);
            uint64_t *t = block[i];
            block[i] = block[j];
            block[j] = t;
        }
        for (unsigned i = 0; i < LIVE; i++)
            free(block[i]);
    }
    free(block);
    sink += sum;
}

/*
 * Fragmentation: each phase fills 8 MiB with one size of 16..256 B and frees all
 * but one block in 512 at random. What a survivor pins is what slab size decides.
 */
static void phases(uint64_t seed, uint64_t ops)
{
    enum { PHASES = 16, FILL = 8 << 20, KEEP = 512 };
    struct rng r = seeded(seed);
    uint64_t **block = must(malloc(FILL / 16 * sizeof *block)), **kept = NULL;
    for (uint64_t done = 0, phase = 0; done < ops; phase++) {
        unsigned size = 16 + 16 * (unsigned)(phase * 7 % PHASES), nr = FILL / size;
        for (unsigned i = 0; i < nr; i++) {
            block[i] = must(malloc(size));
            *block[i] = i;
        }
        for (unsigned i = 0; i < nr; i++) {
            if (below(&r, KEEP)) {
                free(block[i]);
                continue;
            }
            *block[i] = (uintptr_t)kept;
            kept = (uint64_t **)block[i];
        }
        done += 2ul * nr;
        if (phase % PHASES == PHASES - 1)
            for (; kept; ) {
                uint64_t **next_kept = (uint64_t **)*kept;
                free(kept);
                kept = next_kept;
            }
    }
    free(block);
}

static void hot(uint64_t seed, uint64_t ops)
{
    for (uint64_t i = 0; i < ops; i += 2) {
        uint64_t *p = must(malloc(64));
        *(volatile uint64_t *)p = seed + i;
        free(p);
    }
}

/* 8..32 KB in 256 slots, replaced at random; the block's ends are touched. */
static void mid(uint64_t seed, uint64_t ops)
{
    enum { SLOTS = 256 };
    struct rng r = seeded(seed);
    char *slot[SLOTS] = { 0 };
    for (uint64_t i = 0; i < ops; i += 2) {
        uint32_t k = below(&r, SLOTS), size = 8192 + below(&r, 24577);
        free(slot[k]);
        slot[k] = must(malloc(size));
        slot[k][0] = slot[k][size - 1] = (char)i;
    }
    for (unsigned k = 0; k < SLOTS; k++)
        free(slot[k]);
}

/* The first line of each of 384 blocks of 4 KiB, followed in random order. */
static void stride(uint64_t seed, uint64_t ops)
{
    enum { BLOCKS = 384 };
    struct rng r = seeded(seed);
    void **block[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++)
        block[i] = must(malloc(4096));
    for (unsigned i = BLOCKS - 1; i; i--) {
        unsigned j = below(&r, i + 1);
        void **t = block[i];
        block[i] = block[j];
        block[j] = t;
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        block[i][0] = block[(i + 1) % BLOCKS];
        block[i][1] = 0;
    }
    void **p = block[0];
    for (uint64_t i = 0; i < ops; i++) {
        p[1] = (char *)p[1] + 1;
        p = *p;
    }
    sink += (uintptr_t)p & 1;
    for (unsigned i = 0; i < BLOCKS; i++)
        free(block[i]);
}

/* ---- several threads --------------------------------------------------- */

/*
 * Each thread replaces blocks of 8..1000 B at random, then dies; a successor
 * gets the array of the thread before it in the ring, so blocks migrate.
 */
enum { LARSON_SLOTS = 2000, LARSON_ROUNDS = 8, MAX_THREADS = 16 };

struct larson {
    uint64_t seed, ops;
    char **slot;
};

static void *larson_round(void *arg)
{
    struct larson *l = arg;
    struct rng r = seeded(l->seed);
    for (uint64_t i = 0; i < l->ops; i += 2) {
        uint32_t k = below(&r, LARSON_SLOTS), size = 8 + below(&r, 993);
        free(l->slot[k]);
        l->slot[k] = must(malloc(size));
        l->slot[k][0] = l->slot[k][size - 1] = (char)i;
    }
    return NULL;
}

static void larson(uint64_t seed, uint64_t ops)
{
    struct larson l[MAX_THREADS];
    pthread_t id[MAX_THREADS];
    for (unsigned t = 0; t < nr_threads; t++)
        l[t].slot = must(calloc(LARSON_SLOTS, sizeof(char *)));
    for (unsigned round = 0; round < LARSON_ROUNDS; round++) {
        for (unsigned t = 0; t < nr_threads; t++) {
            l[t].seed = seed * 1000 + round * 100 + t;
            l[t].ops = ops / nr_threads / LARSON_ROUNDS;
            if (pthread_create(&id[t], NULL, larson_round, &l[t]))
                abort();
        }
        for (unsigned t = 0; t < nr_threads; t++)
            pthread_join(id[t], NULL);
        char **first = l[0].slot;
        for (unsigned t = 0; t + 1 < nr_threads; t++)
            l[t].slot = l[t + 1].slot;
        l[nr_threads - 1].slot = first;
    }
    for (unsigned t = 0; t < nr_threads; t++) {
        for (unsigned k = 0; k < LARSON_SLOTS; k++)
            free(l[t].slot[k]);
        free(l[t].slot);
    }
}

/* One thread allocates, the other frees; batches of 64 through a ring of 64. */
enum { BATCH = 64, RING = 64 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t head, tail;
    bool done;
    uint64_t *batch[RING][BATCH];
} ring = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void *handoff_consumer(void *arg)
{
    uint64_t sum = 0;
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&ring.lock);
        while (ring.tail == ring.head && !ring.done)
            pthread_cond_wait(&ring.changed, &ring.lock);
        uint64_t tail = ring.tail, head = ring.head;
        pthread_mutex_unlock(&ring.lock);
        if (tail == head)
            break;
        for (; tail != head; tail++)
            for (unsigned i = 0; i < BATCH; i++) {
                uint64_t *p = ring.batch[tail % RING][i];
                sum += *p;
                free(p);
            }
        pthread_mutex_lock(&ring.lock);
        ring.tail = tail;
        pthread_cond_signal(&ring.changed);
        pthread_mutex_unlock(&ring.lock);
    }
    sink += sum;
    return NULL;
}

static void handoff(uint64_t seed, uint64_t ops)
{
    struct rng r = seeded(seed);
    pthread_t id;
    if (pthread_create(&id, NULL, handoff_consumer, NULL))
        abort();
    for (uint64_t i = 0; i < ops; i += 2 * BATCH) {
        pthread_mutex_lock(&ring.lock);
        while (ring.head - ring.tail == RING)
            pthread_cond_wait(&ring.changed, &ring.lock);
        uint64_t head = ring.head;
        pthread_mutex_unlock(&ring.lock);
        for (unsigned j = 0; j < BATCH; j++) {
            uint64_t *p = must(malloc(32 + 16 * below(&r, 8)));
            *p = i;
            ring.batch[head % RING][j] = p;
        }
        pthread_mutex_lock(&ring.lock);
        ring.head = head + 1;
        pthread_cond_signal(&ring.changed);
        pthread_mutex_unlock(&ring.lock);
    }
    pthread_mutex_lock(&ring.lock);
    ring.done = true;
    pthread_cond_signal(&ring.changed);
    pthread_mutex_unlock(&ring.lock);
    pthread_join(id, NULL);
}

/* ---- instruction counts and misuse ------------------------------------- */

static __attribute__((noinline)) void *no_malloc(size_t n)
{
    return (void *)(uintptr_t)(n | 1); /* 3 instructions: mov, or, ret */
}

static __attribute__((noinline)) void no_free(void *p)
{
    __asm__ volatile("" : : "r"(p)); /* 1 instruction: ret */
}

/* Through pointers, so that the loop is the same for both pairs of functions. */
static void pairs(size_t size, uint64_t ops, void *(*volatile m)(size_t), void (*volatile f)(void *))
{
    void *(*alloc)(size_t) = m;
    void (*dealloc)(void *) = f;
    for (uint64_t i = 0; i < ops; i += 2)
        dealloc(alloc(size));
}

static void batches(size_t size, uint64_t ops, void *(*volatile m)(size_t), void (*volatile f)(void *))
{
    static void *block[1000];
    void *(*alloc)(size_t) = m;
    void (*dealloc)(void *) = f;
    for (uint64_t done = 0; done < ops; done += 2000) {
        for (unsigned i = 0; i < 1000; i++)
            block[i] = alloc(size);
        for (unsigned i = 0; i < 1000; i++)
            dealloc(block[i]);
    }
}

static void pair(uint64_t size, uint64_t ops) { pairs(size, ops, malloc, free); }
static void pair0(uint64_t size, uint64_t ops) { pairs(size, ops, no_malloc, no_free); }
static void batch(uint64_t size, uint64_t ops) { batches(size, ops, malloc, free); }
static void batch0(uint64_t size, uint64_t ops) { batches(size, ops, no_malloc, no_free); }

/* Each must die inside the second free of an allocator that checks. */
static void double_free(uint64_t size, uint64_t ops)
{
    void *volatile p = malloc(size), *volatile q = malloc(size);
    (void)ops;
    free(p);
    free(q);
    free(p);
}

static void interior(uint64_t size, uint64_t ops)
{
    char *volatile p = malloc(size);
    free(p + ops);
}

static void warm(uint64_t mib, uint64_t ops)
{
    char *p = must(malloc(mib << 20));
    memset(p, (int)ops, mib << 20);
    free(p);
}

static const struct workload {
    const char *name;
    void (*run)(uint64_t seed, uint64_t ops);
} table[] = {
    { "pareto", pareto }, { "cfrac", cfrac }, { "larson", larson }, { "bulk", bulk },
    { "phases", phases }, { "hot", hot }, { "handoff", handoff }, { "mid", mid }, { "stride", stride },
    { "pair", pair }, { "pair0", pair0 }, { "batch", batch }, { "batch0", batch0 },
    { "double", double_free }, { "interior", interior }, { "warm", warm },
};

static long hwm_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: workloads NAME SEED OPS [THREADS]\n");
        return 2;
    }
    uint64_t seed = strtoull(argv[2], NULL, 10), ops = strtoull(argv[3], NULL, 10);
    if (argc > 4)
        nr_threads = (unsigned)strtoul(argv[4], NULL, 10);
    if (nr_threads < 1 || nr_threads > MAX_THREADS)
        return 2;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].name, argv[1]))
            continue;
        double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        table[i].run(seed, ops);
        wall = now(CLOCK_MONOTONIC) - wall;
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        long kib = hwm_kib();
        struct rusage u;
        getrusage(RUSAGE_SELF, &u);
        printf("%s %llu %.6f %.6f %ld %ld\n", argv[1], (unsigned long long)ops, wall, cpu, kib,
               u.ru_minflt);
        return 0;
    }
    fprintf(stderr, "no workload %s\n", argv[1]);
    return 2;
}
