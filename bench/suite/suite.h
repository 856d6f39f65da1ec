// SPDX-License-Identifier: MIT
/*
 * suite: workloads that an allocator is measured with, one per process.
 *
 *   suite NAME [OPTION...]     runs a workload and prints what it measured, one "key value" a line
 *
 * A workload does the same operations whatever the allocator: sizes, order and lifetimes come from the
 * seed alone. Every page of a block is written, as programs do: an allocator that hands out cold memory
 * pays. The work area of a workload itself (tables of pointers) comes from mmap, not from malloc.
 *
 * The same sources are compiled twice. In `suite-latency` SUITE_LATENCY is 1 and each malloc, free and
 * realloc is timed by itself; in `suite` it is 0 and nothing stands between the workload and the allocator.
 *
 * State: the settings are written by main before the workload starts and only read afterwards; the clock
 * belongs to the main thread; histograms belong to their thread until it has ended.
 * Failure: an allocation that fails ends the process with status 2, a usage error with 1.
 */
#ifndef SUITE_H
#define SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#ifndef SUITE_LATENCY
#    define SUITE_LATENCY 0
#endif

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define KIB          ((size_t)1024)
#define MIB          (KIB * KIB)
#define NS_PER_S     1000000000ull
#define NS_PER_MS    1000000ull
#define PAGE         4096u
#define LINE         64u
#define MAX_THREADS  64

struct workload {
    const char *name;
    const char *what; /* one line for people */
    uint64_t (*body)(
        const struct workload *); /* returns the operations it did, each with its free */
    unsigned nr_threads;
    unsigned nr_live;  /* blocks that live at once, of a thread */
    size_t lo, hi;     /* bytes; sizes are uniform between them */
    uint64_t nr_steps; /* at --scale 1000; what a step is, the body says */
    uint64_t param;    /* whatever the body makes of it; --param overrides */
};

/* Each family's list ends with a row without a name. */
extern const struct workload suite_single[];
extern const struct workload suite_churn[];
extern const struct workload suite_memory[];
extern const struct workload suite_grow[];
extern const struct workload suite_threads[];
extern const struct workload suite_larson[];
extern const struct workload suite_start[];
extern const struct workload suite_scale[];

struct suite_settings {
    uint64_t seed;
    uint64_t scale; /* thousandths of the steps in the tables */
};
extern struct suite_settings suite_settings;

uint64_t suite_scaled(uint64_t nr_steps); /* at least 1 */

/* The clock runs while a body does; what is not to be measured stands between pause and resume. */
void suite_pause(void);
void suite_resume(void);
/* Measured elsewhere (a child process) while the clock was paused. */
void suite_add_time(uint64_t wall_ns, uint64_t cpu_ns);
/* One more line of output; names are static strings; at most 16 lines. */
void suite_report(const char *name, uint64_t value);

uint64_t suite_now_ns(void);
uint64_t suite_cpu_ns(void);
void suite_sleep_ms(unsigned ms);
uint64_t suite_resident_kib(void);
/* A number behind "KEY:" in a file of /proc, without stdio: it allocates. 0 when it is not there. */
uint64_t suite_proc_number(const char *path, const char *key);
void suite_fail(const char *what, int status) __attribute__((noreturn));

/* Zeroed, not from the allocator under test. */
void *suite_area(size_t bytes);
void suite_drop_area(void *area, size_t bytes);

/* ---- random numbers: xorshift64*, one state per thread */

struct suite_random {
    uint64_t state;
};

struct suite_random suite_seeded(uint64_t stream);

static inline uint64_t suite_next(struct suite_random *r)
{
    r->state ^= r->state << 13;
    r->state ^= r->state >> 7;
    r->state ^= r->state << 17;
    return r->state * 0x2545f4914f6cdd1dull;
}

/* 0 <= result < n < 2^32 */
static inline size_t suite_below(struct suite_random *r, size_t n)
{
    return (size_t)(((suite_next(r) >> 32) * n) >> 32);
}

static inline size_t suite_size(struct suite_random *r, const struct workload *w)
{
    return w->lo + suite_below(r, w->hi - w->lo + 1);
}

/* ---- operations */

void *suite_timed_malloc(size_t n);
void suite_timed_free(void *p);
void *suite_timed_realloc(void *p, size_t n);
void suite_latency_report(void);
/* The thread is about to end, or the main thread reports: its histogram joins the common one. */
void suite_latency_merge(void);

static inline void *suite_take(size_t n)
{
    void *p = SUITE_LATENCY ? suite_timed_malloc(n) : malloc(n);
    if (p == NULL)
        suite_fail("out of memory", 2);
    return p;
}

static inline void suite_put(void *p)
{
    if (SUITE_LATENCY)
        suite_timed_free(p);
    else
        free(p);
}

static inline void suite_touch(void *p, size_t n)
{
    volatile char *byte = p;
    for (size_t i = 0; i < n; i += PAGE)
        byte[i] = 1;
    byte[n - 1] = 1;
}

static inline void *suite_get(size_t n)
{
    void *p = suite_take(n);
    suite_touch(p, n);
    return p;
}

static inline void *suite_grow_to(void *p, size_t n)
{
    p = SUITE_LATENCY ? suite_timed_realloc(p, n) : realloc(p, n);
    if (p == NULL)
        suite_fail("out of memory", 2);
    ((volatile char *)p)[n - 1] = 1;
    return p;
}

/* ---- threads */

struct suite_thread {
    const struct workload *w;
    unsigned index; /* 0 .. nr_threads - 1 */
    struct suite_random random;
    uint64_t nr_ops; /* written by the thread, read after join */
    void *data;      /* the workload's own */
};

typedef void suite_thread_body(struct suite_thread *);

/* Starts nr threads, at most MAX_THREADS, that begin together; returns the sum of their nr_ops. */
uint64_t suite_in_threads(const struct workload *w, unsigned nr, suite_thread_body *body,
                          void *data);

/* ---- other jobs of the program */

int suite_launch(int argc, char **argv);      /* `suite launch`: measures another program */
int suite_larson_main(int argc, char **argv); /* `suite larson`: with larson's classic options */
int suite_http(int argc, char **argv);        /* `suite http`: asks a web server for pages */

#endif
