// SPDX-License-Identifier: MIT
/*
 * schedule: where the choices of a schedule come from: a recorded list, the next of an exhaustive search, or
 * chance. engine.c asks, and says how many answers there are and how many of them the bounds leave.
 */
#ifndef TESTS_EXPLORE_SCHEDULE_H
#define TESTS_EXPLORE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum schedule_kind { SCHEDULE_EXHAUSTIVE, SCHEDULE_RANDOM, SCHEDULE_REPLAY };

/* A new search. */
void schedule_exhaustive(void);
void schedule_random(uint64_t seed);
/* The text of schedule_print. False: it is none. */
bool schedule_replay(const char *text);
/* The choices just made, once more. */
void schedule_repeat(void);

void schedule_begin(void);
/* One of n, the first `allowed` of which are within the bounds. `wish`: what chance has decided (random). */
unsigned schedule_pick(unsigned n, unsigned allowed, unsigned wish);
/* More choices are known than before: an exhaustive search begins anew, a random schedule is drawn again. */
void schedule_again(void);
/* False: there is no further schedule. */
bool schedule_next(void);

enum schedule_kind schedule_kind(void);
uint64_t schedule_draw(void); /* a random number, from the seed */
/* "3*17,0*4,1": choice times count. */
void schedule_print(void);

#endif
