// SPDX-License-Identifier: MIT
/*
 * engine: runs the threads of a model one at a time and enumerates what could have happened.
 *
 * The sources of the library call it at each atomic operation (shim/sync/atomic.h) and, compiled with the
 * instrumentation of the thread sanitizer but without its run time, at each plain access (memory.c). So
 *
 *   - before an atomic operation on a word that more than one thread uses, any thread may run next;
 *   - a load may return any store that coherence and happens-before do not forbid, a failed
 *     compare-and-swap too; other read-modify-writes, and plain accesses, meet the newest;
 *   - plain accesses by two threads that happens-before does not order are a race, and a violation;
 *   - whoever waits for a futex is woken by a wake alone, or by its time-out; nobody left to run is a deadlock;
 *   - a schedule ends by putting every byte back as it was, so that the next starts from the same state.
 *
 * Not modelled: a store that takes effect before an older one of another thread to the same word
 * (modification order is execution order), load buffering (a load that sees a store of the future), and
 * the sequentially consistent operations, of which the library has none but the fence.
 */
#ifndef TESTS_EXPLORE_ENGINE_H
#define TESTS_EXPLORE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPLORE_THREADS 4

/* ---- what shim/sync/atomic.h calls --------------------------------------------------------- */

enum explore_order { EXPLORE_RELAXED = 0, EXPLORE_ACQUIRE = 1, EXPLORE_RELEASE = 2, EXPLORE_ACQ_REL = 3 };
enum explore_rmw { EXPLORE_EXCHANGE, EXPLORE_ADD, EXPLORE_SUB, EXPLORE_OR };

/* An operation in the source; the rest is the engine's. */
struct explore_site {
    const char *file, *function, *name;
    int line;
    int known;    /* looked up for control number ... */
    int seeded;   /* enum of memory.c: what the control does here */
    uint64_t forced;
    uint64_t hits;
    struct explore_site *next;
};

uint64_t explore_load(struct explore_site *site, const volatile void *p, size_t size, enum explore_order order);
void explore_store(struct explore_site *site, volatile void *p, size_t size, uint64_t value, enum explore_order order);
uint64_t explore_rmw(struct explore_site *site, volatile void *p, size_t size, enum explore_rmw kind,
                     uint64_t operand, enum explore_order order);
bool explore_cas(struct explore_site *site, volatile void *p, size_t size, void *expected, uint64_t value,
                 enum explore_order order);
void explore_fence(struct explore_site *site);
/* The thread spins: others first. */
void explore_yield(void);
/* Address of a word that is the running thread's alone. */
uint32_t *explore_identity(void);
long explore_syscall(long number, ...);

/* ---- what a model calls -------------------------------------------------------------------- */

/*
 * A seeded bug. `site` names operations by function and name as in the source: "push:cas_release" makes the
 * order relaxed (a fence: none), "send:load_relaxed=0" lets the load return 0, as if the look were not there; so
 * does an exchange, which happens; a compare-and-swap or a store with "=" does not happen.
 */
struct explore_control {
    const char *site;
    const char *why; /* what then goes wrong */
};

struct explore_model {
    const char *name;
    const char *about;
    unsigned preemptions, old_reads; /* bounds of the exhaustive search in `make check` */
    unsigned nr_random;              /* schedules by random priorities there */
    unsigned more_preemptions, more_old_reads; /* bounds in `make explore`, and for the seeded bugs */
    bool real_locks;                 /* lib/sync/lock.c is under test; else hk_lock is the engine's */
    void (*setup)(void);             /* once; no schedule starts before */
    void (*thread[EXPLORE_THREADS])(void);
    void (*check)(void);             /* after every schedule; may change things */
    struct explore_control control[16];
};

extern const struct explore_model *const explore_models[];

_Noreturn __attribute__((format(printf, 1, 2))) void explore_fail(const char *format, ...);
#define explore_assert(condition) ((condition) ? (void)0 : explore_fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition))

unsigned explore_self(void);
/* One of n, all of them tried. */
unsigned explore_choose(unsigned n);
/* The others never run again, and what they wrote is seen: a fork child. */
void explore_only_me(void);
/* Counters that nothing depends on: no choice there, and no race. */
void explore_ignore(const volatile void *p, size_t bytes);
/* Plain accesses here are meant to race (a sequence lock's rows): none is reported; memcpy from what begins there or
 * in an ignored place reads these 8 bytes at a time as relaxed loads do. */
void explore_racy(const volatile void *p, size_t bytes);
/* A resource that one holder has at a time, by its address. */
void explore_claim(const void *p);
void explore_disclaim(const void *p);
unsigned explore_nr_claimed(void);
/* Failed hk_try_lock calls in this schedule. */
unsigned explore_nr_busy(void);

#endif
