// SPDX-License-Identifier: MIT
/*
 * larson: a server's threads (Larson and Krishnan, 1998). Each thread replaces random blocks of its table,
 * then starts a successor that inherits the table, and ends. `burst` replaces a table of 10,000 once in a
 * thread's life, `loop` one of 100 a hundred times.
 *
 * As a row of the suite it does a fixed number of operations; `suite larson` has the classic options, and with
 * -d runs for a time instead.
 */
#define _GNU_SOURCE
#include "suite.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct line { /* one of nr_threads successions */
    const struct workload *w;
    void **block;
    uint64_t nr_lives; /* that are left */
    uint64_t until_ns; /* 0: no limit but nr_lives */
    uint64_t nr_ops;   /* writer: the thread alive */
    struct suite_random random;
};

static struct {
    pthread_mutex_t lock; /* guards nr_running */
    pthread_cond_t ended;
    unsigned nr_running;
} lines = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static bool goes_on(struct line *line)
{
    if (line->until_ns)
        return suite_now_ns() < line->until_ns;
    return --line->nr_lives != 0;
}

static void start_life(struct line *line);

static void line_ended(void)
{
    pthread_mutex_lock(&lines.lock);
    lines.nr_running--;
    pthread_cond_signal(&lines.ended);
    pthread_mutex_unlock(&lines.lock);
}

static void *live(void *argument)
{
    struct line *line = argument;
    const struct workload *w = line->w;

    for (uint64_t s = 0; s < w->nr_live * w->param; s++) {
        size_t k = suite_below(&line->random, w->nr_live);
        suite_put(line->block[k]);
        line->block[k] = suite_get(suite_size(&line->random, w));
    }
    line->nr_ops += w->nr_live * w->param;
    suite_latency_merge();
    if (goes_on(line))
        start_life(line);
    else
        line_ended();
    return NULL;
}

static void start_life(struct line *line)
{
    pthread_t thread;
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, live, line) != 0)
        suite_fail("cannot start a thread", 2);
    pthread_attr_destroy(&attributes);
}

static void wait_for_all(void)
{
    pthread_mutex_lock(&lines.lock);
    while (lines.nr_running)
        pthread_cond_wait(&lines.ended, &lines.lock);
    pthread_mutex_unlock(&lines.lock);
}

/* The first blocks come from the main thread, as they do in the original. */
static uint64_t larson_until(const struct workload *w, uint64_t nr_lives, uint64_t until_ns)
{
    static struct line line[MAX_THREADS];
    uint64_t nr_ops = 0;

    lines.nr_running = w->nr_threads;
    for (unsigned t = 0; t < w->nr_threads; t++) {
        line[t] = (struct line){
            w, suite_area(w->nr_live * sizeof(void *)), nr_lives, until_ns, 0, suite_seeded(t)};
        for (unsigned i = 0; i < w->nr_live; i++)
            line[t].block[i] = suite_get(suite_size(&line[t].random, w));
    }
    for (unsigned t = 0; t < w->nr_threads; t++)
        start_life(&line[t]);
    wait_for_all();
    for (unsigned t = 0; t < w->nr_threads; t++)
        nr_ops += line[t].nr_ops;
    return nr_ops;
}

/* A step is a life: nr_live x param operations. */
static uint64_t larson(const struct workload *w)
{
    return larson_until(w, (suite_scaled(w->nr_steps) + w->nr_threads - 1) / w->nr_threads, 0);
}

const struct workload suite_larson[] = {
    {"larson-burst-1", "8 to 1000 B, a table of 10,000 replaced once a life, 1 thread", larson, 1,
     10000, 8, 1000, 500, 1},
    {"larson-burst-2", "the same, 2 threads", larson, 2, 10000, 8, 1000, 800, 1},
    {"larson-burst-8", "the same, 8 threads", larson, 8, 10000, 8, 1000, 600, 1},
    {"larson-loop-1", "8 to 1000 B, a table of 100 replaced 100 times a life, 1 thread", larson, 1,
     100, 8, 1000, 800, 100},
    {"larson-loop-2", "the same, 2 threads", larson, 2, 100, 8, 1000, 1500, 100},
    {"larson-loop-8", "the same, 8 threads", larson, 8, 100, 8, 1000, 1500, 100},
    {"larson-burst-4K-1", "64 to 4096 B, a table of 10,000 replaced once a life, 1 thread", larson,
     1, 10000, 64, 4096, 120, 1},
    {"larson-burst-4K-2", "the same, 2 threads", larson, 2, 10000, 64, 4096, 160, 1},
    {"larson-burst-4K-8", "the same, 8 threads", larson, 8, 10000, 64, 4096, 160, 1},
    {"larson-loop-4K-1", "64 to 4096 B, a table of 100 replaced 100 times a life, 1 thread", larson,
     1, 100, 64, 4096, 400, 100},
    {"larson-loop-4K-2", "the same, 2 threads", larson, 2, 100, 64, 4096, 800, 100},
    {"larson-loop-4K-8", "the same, 8 threads", larson, 8, 100, 64, 4096, 1000, 100},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};

/* ---- the program with the classic options */

static const struct profile {
    const char *name, *what;
    unsigned seconds, nr_threads, nr_live, rounds, lo, hi, seed;
} profiles[] = {
    {"tput", "throughput", 5, 4, 10000, 1, 8, 1000, 12345},
    {"pf", "page faults: a table larger than any cache, larger blocks", 5, 4, 50000, 1, 64, 4096,
     12345},
    {"repro", "the same operations each time: one thread, 100 lives, no clock", 0, 1, 100, 100, 8,
     1000, 42},
    {"guard", "a second, to notice a change for the worse", 1, 2, 1000, 10, 8, 1000, 12345},
};

static struct profile profile_named(const char *name)
{
    for (size_t i = 0; i < COUNT(profiles); i++)
        if (strcmp(profiles[i].name, name) == 0)
            return profiles[i];
    suite_fail("larson: profiles are tput, pf, repro and guard", 1);
}

static unsigned whole(const char *text, unsigned least, unsigned most)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end || n < least || n > most)
        suite_fail("larson: a number is out of its range", 1);
    return (unsigned)n;
}

static struct profile larson_options(int argc, char **argv)
{
    struct profile p = profiles[0];
    int c;

    while ((c = getopt(argc, argv, "p:d:t:c:r:m:M:s:")) != -1) {
        switch (c) {
        case 'p':
            p = profile_named(optarg);
            break;
        case 'd':
            p.seconds = whole(optarg, 0, 86400);
            break;
        case 't':
            p.nr_threads = whole(optarg, 1, MAX_THREADS);
            break;
        case 'c':
            p.nr_live = whole(optarg, 1, 100000000);
            break;
        case 'r':
            p.rounds = whole(optarg, 1, 1000000);
            break;
        case 'm':
            p.lo = whole(optarg, 1, 1u << 30);
            break;
        case 'M':
            p.hi = whole(optarg, 1, 1u << 30);
            break;
        case 's':
            p.seed = whole(optarg, 0, UINT32_MAX);
            break;
        default:
            suite_fail("usage: suite larson [-p tput|pf|repro|guard] [-d SECONDS] [-t THREADS] "
                       "[-c BLOCKS] [-r ROUNDS] [-m MIN] [-M MAX] [-s SEED]",
                       1);
        }
    }
    if (p.lo > p.hi)
        suite_fail("larson: -m is above -M", 1);
    return p;
}

int suite_larson_main(int argc, char **argv)
{
    struct profile p = larson_options(argc, argv);
    struct workload w = {p.name, p.what, larson, p.nr_threads, p.nr_live, p.lo, p.hi, 0, p.rounds};

    suite_settings.seed = p.seed;
    uint64_t start = suite_now_ns();
    uint64_t nr_ops = larson_until(&w, 100, p.seconds ? start + p.seconds * NS_PER_S : 0);
    uint64_t ns = suite_now_ns() - start;
    uint64_t kib = suite_proc_number("/proc/self/status", "VmHWM:");
    printf("profile %s\nthreads %u\nops %" PRIu64 "\nwall_ns %" PRIu64
           "\nops_per_s %.0f\npeak_kib %" PRIu64 "\n",
           p.name, p.nr_threads, nr_ops, ns, (double)nr_ops * 1e9 / (double)ns, kib);
    return 0;
}
