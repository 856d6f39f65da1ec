// SPDX-License-Identifier: MIT
/*
 * threads: blocks that cross from one thread to another, threads that end, lines that threads share.
 *
 * Who waits, yields: with more threads than processors a spinning one would only keep the other from
 * running. The rings and tables through which blocks cross come from mmap.
 */
#define _GNU_SOURCE
#include "suite.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

/* ---- hand-off: thread 0 makes batches of `param` blocks, thread 1 frees them */

#define RING 16u

struct ring {
    _Alignas(LINE) atomic_ulong nr_made; /* writer: the maker; release, publishes the batch */
    _Alignas(LINE)
        atomic_ulong nr_freed; /* writer: the one who frees; release, gives the slot back */
    void **slot;               /* RING batches of `param` pointers */
};

static void make_batches(const struct workload *w, struct ring *ring, uint64_t nr)
{
    struct suite_random r = suite_seeded(0);

    for (uint64_t b = 0; b < nr; b++) {
        while (b - atomic_load_explicit(&ring->nr_freed, memory_order_acquire) >= RING)
            sched_yield();
        void **batch = ring->slot + b % RING * w->param;
        for (uint64_t i = 0; i < w->param; i++)
            batch[i] = suite_get(suite_size(&r, w));
        atomic_store_explicit(&ring->nr_made, b + 1, memory_order_release);
    }
}

static void free_batches(const struct workload *w, struct ring *ring, uint64_t nr)
{
    for (uint64_t b = 0; b < nr; b++) {
        while (atomic_load_explicit(&ring->nr_made, memory_order_acquire) <= b)
            sched_yield();
        void **batch = ring->slot + b % RING * w->param;
        for (uint64_t i = 0; i < w->param; i++)
            suite_put(batch[i]);
        atomic_store_explicit(&ring->nr_freed, b + 1, memory_order_release);
    }
}

static void hand_off_body(struct suite_thread *self)
{
    const struct workload *w = self->w;
    uint64_t nr = suite_scaled(w->nr_steps) / w->param;

    if (self->index == 0)
        make_batches(w, self->data, nr);
    else
        free_batches(w, self->data, nr);
    self->nr_ops = self->index ? 0 : nr * w->param;
}

static uint64_t hand_off(const struct workload *w)
{
    static struct ring ring;
    ring.slot = suite_area(RING * w->param * sizeof(void *));
    return suite_in_threads(w, 2, hand_off_body, &ring);
}

/* ---- asymmetric: half of the threads only allocate, the others only free, through one queue */

#define BATCH 120u
#define QUEUE 64u

struct queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    void **batch[QUEUE];
    unsigned nr;
};

static void push(struct queue *q, void **batch)
{
    pthread_mutex_lock(&q->lock);
    while (q->nr == QUEUE)
        pthread_cond_wait(&q->changed, &q->lock);
    q->batch[q->nr++] = batch;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

static void **pop(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (q->nr == 0)
        pthread_cond_wait(&q->changed, &q->lock);
    void **batch = q->batch[--q->nr];
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    return batch;
}

/* A batch is a block of the allocator as well. */
static void produce(struct suite_thread *self, uint64_t nr)
{
    for (uint64_t b = 0; b < nr; b++) {
        void **batch = suite_get(BATCH * sizeof *batch);
        for (unsigned i = 0; i < BATCH; i++)
            batch[i] = suite_get(suite_size(&self->random, self->w));
        push(self->data, batch);
    }
}

static void consume(struct suite_thread *self, uint64_t nr)
{
    for (uint64_t b = 0; b < nr; b++) {
        void **batch = pop(self->data);
        for (unsigned i = 0; i < BATCH; i++)
            suite_put(batch[i]);
        suite_put(batch);
    }
}

static void asymmetric_body(struct suite_thread *self)
{
    uint64_t nr = suite_scaled(self->w->nr_steps) / BATCH / (self->w->nr_threads / 2);

    if (self->index % 2 == 0)
        produce(self, nr);
    else
        consume(self, nr);
    self->nr_ops = self->index % 2 ? 0 : nr * (BATCH + 1);
}

static uint64_t asymmetric(const struct workload *w)
{
    static struct queue queue = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                 .changed = PTHREAD_COND_INITIALIZER};
    return suite_in_threads(w, w->nr_threads, asymmetric_body, &queue);
}

/* ---- cross-thread: one in four blocks passes through a common table to whoever finds it there */

#define COMMON 1024u

static void crossing_body(struct suite_thread *self)
{
    const struct workload *w = self->w;
    _Atomic(void *) *common = self->data;
    uint64_t nr_steps = suite_scaled(w->nr_steps) / w->nr_threads;
    void **block = suite_area(w->nr_live * sizeof *block);

    for (uint64_t s = 0; s < nr_steps; s++) {
        size_t k = suite_below(&self->random, w->nr_live);
        suite_put(block[k]);
        block[k] = suite_get(suite_size(&self->random, w));
        if (s % 4 == 0) /* acquire and release: the block's content crosses with it */
            block[k] = atomic_exchange_explicit(&common[suite_below(&self->random, COMMON)],
                                                block[k], memory_order_acq_rel);
    }
    for (unsigned i = 0; i < w->nr_live; i++)
        suite_put(block[i]);
    suite_drop_area(block, w->nr_live * sizeof *block);
    self->nr_ops = nr_steps;
}

static uint64_t crossing(const struct workload *w)
{
    _Atomic(void *) *common = suite_area(COMMON * sizeof *common);
    uint64_t nr_ops = suite_in_threads(w, w->nr_threads, crossing_body, common);

    for (unsigned i = 0; i < COMMON; i++)
        suite_put(atomic_load_explicit(&common[i], memory_order_relaxed));
    return nr_ops;
}

/* ---- migration: each generation of threads frees what the one before it allocated, and dies */

#define LUGGAGE 1000u

static void migrate_body(struct suite_thread *self)
{
    void **mine = (void **)self->data + self->index * LUGGAGE;

    for (unsigned round = 0; round < 20; round++)
        for (unsigned i = 0; i < LUGGAGE; i++) {
            suite_put(mine[i]);
            mine[i] = suite_get(suite_size(&self->random, self->w));
        }
    self->nr_ops = 20 * LUGGAGE;
}

static uint64_t migration(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps), nr_ops = 0;
    unsigned nr = w->nr_threads;
    void **all = suite_area((nr + 1) * LUGGAGE * sizeof *all);

    for (uint64_t g = 0; g < nr_steps; g++) {
        nr_ops += suite_in_threads(w, nr, migrate_body, all);
        /* Everything moves on by one thread; the area after the last one is the way round. */
        memmove(all + LUGGAGE, all, nr * LUGGAGE * sizeof *all);
        memcpy(all, all + nr * LUGGAGE, LUGGAGE * sizeof *all);
    }
    for (unsigned i = 0; i < nr * LUGGAGE; i++)
        suite_put(all[i]);
    return nr_ops;
}

/* ---- churn: threads that live for a hundred blocks */

static void short_life(struct suite_thread *self)
{
    void *block[20] = {NULL};

    for (unsigned s = 0; s < 100; s++) {
        suite_put(block[s % COUNT(block)]);
        block[s % COUNT(block)] = suite_get(suite_size(&self->random, self->w));
    }
    for (unsigned i = 0; i < COUNT(block); i++)
        suite_put(block[i]);
    self->nr_ops = 1;
}

/* `param` threads, one after the other; an operation is a thread. */
static uint64_t thread_churn(const struct workload *w)
{
    uint64_t nr = suite_scaled(w->param), nr_ops = 0;

    for (uint64_t i = 0; i < nr; i++)
        nr_ops += suite_in_threads(w, 1, short_life, NULL);
    return nr_ops;
}

/* ---- false sharing: does the allocator put blocks of two threads into one line? */

static void write_much(char *p)
{
    for (unsigned i = 0; i < 200; i++)
        ((volatile char *)p)[0]++;
}

static void sharing_body(struct suite_thread *self)
{
    uint64_t nr_steps = suite_scaled(self->w->nr_steps) / self->w->nr_threads;
    void **given = self->data;

    if (given) /* passive: the first block of each comes from the main thread's lines */
        suite_put(given[self->index]);
    for (uint64_t s = 0; s < nr_steps; s++) {
        char *p = suite_get(self->w->lo);
        write_much(p);
        suite_put(p);
    }
    self->nr_ops = nr_steps;
}

static uint64_t sharing_active(const struct workload *w)
{
    return suite_in_threads(w, w->nr_threads, sharing_body, NULL);
}

static uint64_t sharing_passive(const struct workload *w)
{
    void *given[MAX_THREADS];
    for (unsigned i = 0; i < w->nr_threads; i++)
        given[i] = suite_get(w->lo);
    return suite_in_threads(w, w->nr_threads, sharing_body, given);
}

const struct workload suite_threads[] = {
    {"handoff-1", "one thread makes blocks of 64 B, another frees them, one by one", hand_off, 2, 0,
     64, 64, 1500000, 1},
    {"handoff-64", "the same in batches of 64", hand_off, 2, 0, 64, 64, 8000000, 64},
    {"handoff-1024", "the same in batches of 1024", hand_off, 2, 0, 64, 64, 8000000, 1024},
    {"producer-1", "1 thread only allocates (16 to 512 B), 1 only frees", asymmetric, 2, 0, 16, 512,
     5000000, 0},
    {"producer-2", "the same, 2 and 2", asymmetric, 4, 0, 16, 512, 5000000, 0},
    {"producer-8", "the same, 8 and 8", asymmetric, 16, 0, 16, 512, 5000000, 0},
    {"migration-2", "2 threads, each generation frees the blocks of the one before it", migration,
     2, 0, 8, 1000, 150, 0},
    {"migration-8", "the same with 8 threads", migration, 8, 0, 8, 1000, 50, 0},
    {"crossing-1", "16 B to 16 KiB, one in four through a common table, 1 thread", crossing, 1,
     1000, 16, 16 * KIB, 3000000, 0},
    {"crossing-2", "the same, 2 threads", crossing, 2, 1000, 16, 16 * KIB, 4000000, 0},
    {"crossing-8", "the same, 8 threads", crossing, 8, 1000, 16, 16 * KIB, 4000000, 0},
    {"thread-churn", "5000 threads one after the other, 100 blocks each", thread_churn, 1, 20, 16,
     1024, 0, 5000},
    {"false-active", "2 threads make, write and free blocks of 8 B: do they share lines?",
     sharing_active, 2, 1, 8, 8, 500000, 0},
    {"false-passive", "the same after freeing a block that the main thread made", sharing_passive,
     2, 1, 8, 8, 500000, 0},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};
