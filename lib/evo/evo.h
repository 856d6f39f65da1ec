// SPDX-License-Identifier: MIT
/*
 * evo: when to learn. A program is in one of a few contexts, told apart by what sizes it asks for; in each
 * context learning goes LEARN -> FROZEN, and a change of context wakes it.
 *
 *          settled, or freeze_ns over                      a context never seen
 *   LEARN ---------------------------> FROZEN    any state ------------------------> LEARN (option learn)
 *     ^                                  | ^                                         CANARY (else)
 *     '---- hk_evo_learn                 v | harm, or settled
 *                                       CANARY            a context seen before: the state it was left in
 *
 * The signature of a window is its distribution over HK_EVO_BUCKETS kinds of slow-path events; two windows
 * are as far apart as the L1 distance of their distributions, halved: 0 the same, 65536 nothing in common.
 * A context's signature follows its windows slowly. Further than HK_EVO_SHIFT from it in two windows
 * running, or than twice that in one, is a shift. Windows of less than min_samples events say nothing.
 *
 * Convergence: whoever learns says that it is settled; and the p99 of the windows' costs (P-square) has
 * moved by less than an eighth since the last time it said so.
 *
 * Knows neither knobs nor clocks: windows and their costs are told to it. Owner, threads: whoever holds
 * the struct; one at a time. No lock. Failure: none.
 */
#ifndef HK_EVO_H
#define HK_EVO_H

#include "p2/p2.h"

#define HK_EVO_BUCKETS 16
#define HK_EVO_CONTEXTS 8
#define HK_EVO_SHIFT (65536u * 3 / 10)

enum hk_evo_state { HK_EVO_OFF, HK_EVO_LEARN, HK_EVO_FROZEN, HK_EVO_CANARY };

struct hk_evo_options {
    enum hk_evo_state start; /* of the first context */
    bool learns;             /* an unknown context: LEARN, else CANARY */
    uint64_t freeze_ns;      /* LEARN lasts no longer; also a CANARY's */
    uint32_t min_samples;
};

struct hk_evo_context {
    uint32_t signature[HK_EVO_BUCKETS]; /* sums to about 65536; all 0: none yet */
    uint64_t since_ns;                  /* in this state; 0: from the next window on */
    uint64_t spent_ns;                  /* in this state in earlier visits */
    uint64_t used_ns;                   /* last window */
    struct hk_p2 p99;                   /* of the windows' costs, LEARN */
    uint64_t last_p99;
    uint8_t state;                      /* enum hk_evo_state */
};

struct hk_evo {
    struct hk_evo_options options;
    struct hk_evo_context context[HK_EVO_CONTEXTS];
    unsigned nr_contexts;
    unsigned current;
    unsigned nr_strange;     /* windows in a row unlike the current context */
    size_t nr_shifts, nr_recalled, nr_frozen, nr_reverted;
};

enum hk_evo_event {
    HK_EVO_NOTHING,
    HK_EVO_NEW_CONTEXT,      /* `current` is one that starts afresh */
    HK_EVO_RECALLED,         /* `current` is one seen before */
    HK_EVO_SETTLED           /* `current` went FROZEN */
};

void hk_evo_init(struct hk_evo *evo, const struct hk_evo_options *options);
/* Once per window: events per kind, before what it cost is judged. */
enum hk_evo_event hk_evo_look(struct hk_evo *evo, uint64_t now_ns, const uint32_t events[HK_EVO_BUCKETS]);
/* And after: its cost, and whether the learner has nothing left to try. */
enum hk_evo_event hk_evo_judge(struct hk_evo *evo, uint64_t now_ns, uint64_t cost, bool settled);
/* CANARY: the challenger did harm. */
void hk_evo_revert(struct hk_evo *evo, uint64_t now_ns);
/* The program's or the user's word, for this context and those to come. */
void hk_evo_freeze(struct hk_evo *evo);
void hk_evo_learn(struct hk_evo *evo);
enum hk_evo_state hk_evo_state(const struct hk_evo *evo);
/* 0 .. 65536 */
uint32_t hk_evo_distance(const uint32_t a[HK_EVO_BUCKETS], const uint32_t b[HK_EVO_BUCKETS]);

#endif
