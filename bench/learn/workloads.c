// SPDX-License-Identifier: MIT
/*
 * workloads: programs of which each shows one knob of the learner. learn.py runs them under fixed arms and
 * under the learner.
 *
 *     workloads SECONDS NAME...         each NAME for that long, one after the other
 *     workloads SECONDS/SLICE NAME...   all of them in turn, SLICE seconds each, until SECONDS are over
 *
 * A workload does rounds of fixed work. Prints one line per NAME: rounds, cpu seconds, minor faults, and the
 * mean resident size in KiB (read every ~10 ms, at the end of a round).
 */
#define _GNU_SOURCE
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static size_t between(size_t low, size_t high)
{
    return low + (size_t)(next() % (high - low + 1));
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pause_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static void touch(char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 4096)
        p[i] = 1;
}

/* ---- one thread ---------------------------------------------------------------------------- */

#define NR_SLOTS 20000
static void *slots[NR_SLOTS];

/* Allocates `bytes` in blocks of [low, high], writes them, frees them in order. */
static void wave(size_t bytes, size_t low, size_t high)
{
    size_t have = 0, n = 0;

    for (; have < bytes && n < NR_SLOTS; n++) {
        size_t size = between(low, high);
        slots[n] = malloc(size);
        touch(slots[n], size);
        have += size;
    }
    while (n > 0)
        free(slots[--n]);
}

/* Random replacement over `live` slots. */
static void churn(unsigned live, unsigned count, size_t low, size_t high)
{
    static void *held[4096];
    static unsigned nr_held;

    for (; nr_held > live; nr_held--) {
        free(held[nr_held - 1]);
        held[nr_held - 1] = NULL;
    }
    nr_held = live;
    for (unsigned i = 0; i < count; i++) {
        unsigned at = (unsigned)(next() % live);
        size_t size = between(low, high);
        free(held[at]);
        held[at] = malloc(size);
        touch(held[at], size);
    }
}

/* Waves with pauses: a long purge delay keeps the memory, a short one faults it in again each time. */
static void burst(void)
{
    wave(20u << 20, 500, 4000);
    pause_ms(100);
    churn(64, 2000, 16, 256);
}

/* A wave, then a little work ten times a second. To keep a page for 1.6 s costs as much as its fault (learn.py), so
 * what stays dirty is well kept for 0.6 s, and wasted for 3. */
static void spaced(unsigned nr_steps)
{
    wave(20u << 20, 500, 4000);
    for (unsigned i = 0; i < nr_steps; i++) {
        pause_ms(100);
        churn(64, 2000, 16, 256);
    }
}

static void gaps(void)
{
    spaced(6);
}

static void lull(void)
{
    spaced(30);
}

/* One wave in a second: a tie. */
static void steady(void)
{
    spaced(10);
}

/* Buffers of 5 to 25 MB. */
static void buffers(void)
{
    churn(4, 8, 5000000, 25000000);
}

/* Many odd sizes in the run tier. */
static void runs(void)
{
    churn(48, 200, 65537, 1048576);
}

static void mid(void)
{
    churn(400, 2000, 1025, 65536);
}

/* Bursts of one small size, more than a small magazine holds. */
static void tiny(void)
{
    for (unsigned round = 0; round < 20; round++)
        wave(1200 * 100, 80, 120);
}

/* Everything is cold: a large live set of small blocks, replaced at random. */
static void cold(void)
{
    churn(4096, 20000, 16, 8192);
}

/* The threshold to mappings: buffers around 1 to 4 MiB that come and go. */
static void huge(void)
{
    churn(6, 40, 1000000, 4000000);
}

/* ---- two threads --------------------------------------------------------------------------- */

#define RING 512
static void *ring[RING];
static unsigned head, tail;
static int stop_consumer;

static void *consume(void *arg)
{
    while (!__atomic_load_n(&stop_consumer, __ATOMIC_ACQUIRE)) {
        unsigned t = tail;
        if (t == __atomic_load_n(&head, __ATOMIC_ACQUIRE)) {
            sched_yield();
            continue;
        }
        free(ring[t % RING]);
        __atomic_store_n(&tail, t + 1, __ATOMIC_RELEASE);
    }
    return arg;
}

/* Every block is freed by another thread. */
static void handoff(void)
{
    pthread_t thread;

    __atomic_store_n(&stop_consumer, 0, __ATOMIC_RELEASE);
    pthread_create(&thread, NULL, consume, NULL);
    for (unsigned i = 0; i < 20000;) {
        if (head - __atomic_load_n(&tail, __ATOMIC_ACQUIRE) == RING) {
            sched_yield();
            continue;
        }
        ring[head % RING] = malloc(between(100, 4000));
        __atomic_store_n(&head, head + 1, __ATOMIC_RELEASE);
        i++;
    }
    while (head != __atomic_load_n(&tail, __ATOMIC_ACQUIRE))
        sched_yield();
    __atomic_store_n(&stop_consumer, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
}

/* larson: threads that end and leave their blocks to others. */
static void *larson_slots[2][1000];

static void *larson_thread(void *arg)
{
    void **mine = arg;

    for (unsigned i = 0; i < 20000; i++) {
        unsigned at = (i * 7919u) % 1000;
        free(mine[at]);
        mine[at] = malloc(16 + (i * 31) % 1000);
    }
    return NULL;
}

static void larson(void)
{
    pthread_t thread[2];

    for (unsigned i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, larson_thread, larson_slots[i]);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
}

/* ---- main ---------------------------------------------------------------------------------- */

static const struct workload {
    const char *name;
    void (*round)(void);
} workloads[] = {
    {"burst", burst}, {"gaps", gaps}, {"steady", steady}, {"lull", lull}, {"buffers", buffers}, {"runs", runs}, {"mid", mid},
    {"tiny", tiny}, {"cold", cold}, {"huge", huge}, {"handoff", handoff}, {"larson", larson},
};

struct score {
    unsigned rounds, nr_rss;
    double cpu, rss_kib;
    long faults;
};

static long resident_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long size, resident = 0;

    if (f && fscanf(f, "%ld %ld", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * 4;
}

static double cpu_of(const struct rusage *u)
{
    return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
           (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) * 1e-6;
}

/* WORKLOADS_SLICES=n in the environment: the cost of each n-th of the time, at the end. */
#define MAX_SLICES 64
#define MEMORY 312e-6 /* seconds per second and MiB, as in learn.py */
static unsigned nr_slices;
static double slice_cost[MAX_SLICES];

static void note_slice(unsigned i, double cpu, double kib, double span, unsigned rounds)
{
    slice_cost[i] = (cpu + kib / 1024 * span * MEMORY) / rounds;
}

static void run_for(const struct workload *w, double span, struct score *s)
{
    double end = seconds() + span, look = 0;
    struct rusage before, after;

    getrusage(RUSAGE_SELF, &before);
    do {
        w->round();
        s->rounds++;
        if (seconds() >= look) {
            s->rss_kib += (double)resident_kib();
            s->nr_rss++;
            look = seconds() + 0.01;
        }
    } while (seconds() < end);
    getrusage(RUSAGE_SELF, &after);
    s->cpu += cpu_of(&after) - cpu_of(&before);
    s->faults += after.ru_minflt - before.ru_minflt;
}

static void run_slices(const struct workload *w, double span, struct score *s)
{
    for (unsigned i = 0; i < nr_slices; i++) {
        struct score part = {0};
        run_for(w, span / nr_slices, &part);
        note_slice(i, part.cpu, part.rss_kib / part.nr_rss, span / nr_slices, part.rounds);
        s->rounds += part.rounds;
        s->cpu += part.cpu;
        s->faults += part.faults;
        s->rss_kib += part.rss_kib;
        s->nr_rss += part.nr_rss;
    }
}

static void print_slices(void)
{
    printf("# slices");
    for (unsigned i = 0; i < nr_slices; i++)
        printf(" %.8f", slice_cost[i]);
    printf("\n");
}

static const struct workload *find(const char *name)
{
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    fprintf(stderr, "workloads: no %s\n", name);
    exit(2);
}

/* There when the allocator is. */
#pragma weak hak_policy_get
#pragma weak hak_evo_state

static void print_policy(void)
{
    hak_policy_t p;

    if (!hak_policy_get || hak_policy_get(&p, sizeof p) != 0)
        return;
    printf("# %s: delay %zu ms, floor %zu M, threshold %zu K, wmax %zu; %llu trials, %llu changes, %llu shifts, "
           "%llu broken off, last cost %llu\n",
           hak_evo_state(), p.purge_delay_ms, p.purge_cap_bytes >> 20, p.mmap_threshold_bytes >> 10,
           p.wmax_large_thousandths, (unsigned long long)p.trials, (unsigned long long)p.changes,
           (unsigned long long)p.shifts, (unsigned long long)p.broken_off, (unsigned long long)p.last_cost);
}

int main(int argc, char **argv)
{
    double span, slice, start = seconds();
    struct score scores[16] = {{0}};
    char *end;

    if (argc < 3 || argc > 18) {
        fputs("usage: workloads SECONDS[/SLICE] NAME...\n", stderr);
        return 2;
    }
    if (getenv("WORKLOADS_SLICES"))
        nr_slices = (unsigned)strtoul(getenv("WORKLOADS_SLICES"), NULL, 10) % (MAX_SLICES + 1);
    span = slice = strtod(argv[1], &end);
    if (*end == '/')
        slice = strtod(end + 1, NULL);
    for (;;) {
        for (int i = 2; i < argc; i++)
            (nr_slices ? run_slices : run_for)(find(argv[i]), slice, &scores[i - 2]);
        if (slice >= span || seconds() - start >= span)
            break;
    }
    for (int i = 2; i < argc; i++) {
        struct score *s = &scores[i - 2];
        printf("%s %u %.4f %ld %.0f\n", argv[i], s->rounds, s->cpu, s->faults, s->rss_kib / s->nr_rss);
    }
    print_policy();
    if (nr_slices)
        print_slices();
    return 0;
}
