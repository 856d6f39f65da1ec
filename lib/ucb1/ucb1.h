// SPDX-License-Identifier: MIT
/*
 * ucb1: which of a few ordered settings costs least, tried while the program runs (Auer, Cesa-Bianchi,
 * Fischer, "Finite-time analysis of the multiarmed bandit problem", Machine Learning 47, 2002), over a
 * sliding window (Garivier, Moulines 2011), because programs change phase.
 *
 *   index of an arm = gain + bonus,  gain = (dearest - mean cost) / dearest,  bonus = sqrt(2 ln N / n)
 *
 * N trials in the window, n of them of the arm, means over the window; all with 16 bits behind the point. The
 * incumbent, which the program runs on, changes only by hysteresis: another arm must have been 8 % (and `least`)
 * cheaper three times in a row. Arms are explored one step from the incumbent at a time: settings far from
 * what works are never tried; and one that in two trials cost more than twice what the incumbent does is not tried
 * again as long as the window remembers it.
 *
 * Owner, threads: whoever holds the struct; one at a time. No lock. Failure: none.
 * Invariant (hk_ucb1_check): counts and sums are those of the window.
 */
#ifndef HK_UCB1_H
#define HK_UCB1_H

#include "base/base.h"

#define HK_UCB1_ARMS 8
#define HK_UCB1_WINDOW 64
#define HK_UCB1_HYSTERESIS_PERCENT 8
#define HK_UCB1_WINS 3

struct hk_ucb1 {
    uint32_t cost_of[HK_UCB1_WINDOW]; /* of the trials in the window */
    uint8_t arm_of[HK_UCB1_WINDOW];
    uint8_t next;                     /* slot of the next trial */
    uint8_t nr_trials;                /* in the window */
    uint8_t nr_arms;
    uint8_t incumbent;
    uint8_t rival;                    /* that has won `wins` times in a row */
    uint8_t wins;
    uint8_t n[HK_UCB1_ARMS];
    uint32_t least;                   /* of the last trial */
    uint64_t sum[HK_UCB1_ARMS];
};

void hk_ucb1_init(struct hk_ucb1 *u, unsigned nr_arms, unsigned incumbent);
/* The arm to try next: the incumbent or a neighbour of it, the one with the highest index; untried ones first. */
unsigned hk_ucb1_choose(const struct hk_ucb1 *u);
/* What the trial of an arm cost. True: the incumbent has changed. Differences below `least` do not count. */
bool hk_ucb1_note(struct hk_ucb1 *u, unsigned arm, uint32_t cost, uint32_t least);
/* Incumbent and its neighbours have been tried at least `times` each, and no rival is about to win. */
bool hk_ucb1_is_settled(const struct hk_ucb1 *u, unsigned times);
/* Forgets the trials and starts from this incumbent. */
void hk_ucb1_restart(struct hk_ucb1 *u, unsigned incumbent);
uint32_t hk_ucb1_mean(const struct hk_ucb1 *u, unsigned arm); /* 0 when untried */
uint32_t hk_ucb1_bonus(unsigned nr_trials, unsigned n);       /* n >= 1 */
void hk_ucb1_check(const struct hk_ucb1 *u);

#endif
