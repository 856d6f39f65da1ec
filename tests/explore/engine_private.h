// SPDX-License-Identifier: MIT
/* engine_private: shared by engine.c, memory.c and schedule.c only. */
#ifndef TESTS_EXPLORE_ENGINE_PRIVATE_H
#define TESTS_EXPLORE_ENGINE_PRIVATE_H

#include "engine.h"

#define STACK_BYTES ((size_t)256 << 10)

enum phase {
    SETUP,   /* nothing is observed */
    RUNNING, /* a schedule */
    AFTER,   /* the model's check: writes are noted, to be undone */
};

extern enum phase explore_phase;
extern unsigned explore_current;        /* thread that runs, while RUNNING */
extern const struct explore_model *explore_model;
extern bool explore_tracing;

/* ---- engine.c ---- */

/* Before an operation of the running thread that others can see: who is next? */
void explore_switch_point(void);
/* Which of n stores does a load see? 0: the newest. Older ones while the budget lasts. */
unsigned explore_choose_store(unsigned n);
/* Something was learnt that makes more choices: the search starts anew. */
void explore_grew(void);
__attribute__((format(printf, 1, 2))) void explore_trace(const char *format, ...);
/* The base of the running thread's stack. */
uintptr_t explore_stack(void);
void explore_block_on_value(const volatile uint64_t *word, uint64_t value); /* until it is that */
/* Until woken or, if that is possible, a time-out. False: timed out. */
bool explore_block_on_futex(const volatile uint32_t *word, bool may_time_out);
void explore_wake_futex(const volatile uint32_t *word, unsigned n);

/* ---- memory.c ---- */

void memory_start(void);           /* of the process */
void memory_begin(void);           /* of a schedule */
void memory_undo(void);            /* its end: every byte as it was */
void memory_note_write(volatile void *p, size_t bytes); /* by the engine itself, for a thread or a check */
void memory_join_all(unsigned thread);                  /* it has seen everything */
void memory_wakes(unsigned waker, unsigned woken);        /* out of a futex */
void memory_use_control(const struct explore_control *control);
unsigned memory_nr_seeded_hits(void);
void memory_list_sites(void);

#endif
