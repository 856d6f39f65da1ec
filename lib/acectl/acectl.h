// SPDX-License-Identifier: MIT
/*
 * acectl: what to learn. Two knobs of the policy, each with a few settings (arms), turned one at a time while
 * the program runs; what a setting costs is told by counters that slow paths keep.
 *
 *   knob          arms                       what it moves
 *   purge delay   50 300 1000 4000 ms        refaults against memory that lies dirty
 *   cache floor   16 32 64 128 MiB           faults of big blocks against cached memory (BigCache's budget)
 *
 * Those of which no arm is best everywhere, with a spread beyond 10 %: DESIGN.md has the others, measured and left alone.
 *
 * Cost of a window, in ns per MiB that slow paths handed out: pages that will fault in (2 us each), calls that
 * gave memory back (5 us each), and the memory that was cached meanwhile (one core costs as much as 3.2 GiB: 312 ns
 * per MiB and ms). Counted, not clocked: a count is the same on a busy machine, and the same events give the same
 * decisions. Per MiB, because a program whose faults take all of its time has them at the same rate whatever the
 * arm. What makes less than 0.5 % of a core's time is a tie. A window in which too
 * little happened to decide on lasts on (a loaded machine, a program that waits).
 *
 * Two loops. Fast: each epoch (100 ms) a trial that costs HK_ACECTL_HARM times what the incumbents do is
 * broken off. Slow: each window (option learn_window_ms) is one trial: an arm's cost is told to the knob's bandit
 * (ucb1) and the next arm chosen; or, option learner, two strategies (whole settings of all knobs) have had a
 * duel (elo). A quarter of a window passes after a change before anything is counted. Everything learnt belongs
 * to the context (evo.h) it was learnt in.
 *
 * In FROZEN nothing is tried, the events alone are watched. In CANARY only `canary_permille` of the windows
 * are trials, a change waits `cooldown_ns` after the last one, and a trial that does harm ends it.
 *
 * Owner, threads: whoever holds the struct; one at a time. No lock, no clock, no memory. Failure: none. Reads
 * what it is told and writes a policy that it is given, nothing else.
 */
#ifndef HK_ACECTL_H
#define HK_ACECTL_H

#include "elo/elo.h"
#include "evo/evo.h"
#include "policy/policy.h"
#include "ucb1/ucb1.h"

#define HK_ACECTL_EPOCH_NS UINT64_C(100000000)
#define HK_ACECTL_HARM 4
#define HK_ACECTL_ARMS 4
#define HK_ACECTL_MAX_SNAPSHOTS 64 /* see hk_policy_update */

enum hk_knob { HK_KNOB_PURGE_DELAY, HK_KNOB_CACHE_FLOOR, HK_NR_KNOBS };

/* An arm per knob. */
struct hk_arms {
    uint8_t of[HK_NR_KNOBS];
};

/* Running totals since the start, but for cached_bytes. */
struct hk_acectl_counters {
    uint64_t fresh_bytes;  /* handed out with no page behind it */
    uint64_t nr_returns;   /* system calls that gave memory back */
    uint64_t cached_bytes; /* now */
    uint64_t given_bytes;  /* handed out by slow paths: what the program gets done */
    uint32_t events[HK_EVO_BUCKETS]; /* may wrap */
};

struct hk_acectl_options {
    struct hk_evo_options evo;
    uint64_t window_ns;
    uint64_t cooldown_ns;
    uint64_t seed;
    uint32_t canary_permille;
    bool use_elo;
    bool at_random;           /* other arms each epoch, nothing learnt: for tests */
    bool turns[HK_NR_KNOBS];  /* false: the user has set it */
    uint8_t nr_arms[HK_NR_KNOBS]; /* of HK_ACECTL_ARMS: fewer where more would break a promise */
    struct hk_arms prior;
};

/* What is learnt in one context. */
struct hk_acectl_lesson {
    struct hk_ucb1 bandit[HK_NR_KNOBS];
    struct hk_elo elo;
    struct hk_arms best;   /* what the program runs on */
    uint64_t mean_cost;    /* of windows on `best`, follows by 1/4 */
    uint8_t nr_warm;       /* windows passed before the first trial */
    uint8_t knob;          /* whose turn it is */
    uint8_t nr_calm;       /* knobs in a row that had nothing left to try */
    uint8_t strategy;      /* of this window, and of the one before */
    uint8_t last_strategy;
    uint32_t nr_duels;
    uint64_t last_cost;
};

struct hk_acectl {
    struct hk_acectl_options options;
    struct hk_evo evo;
    struct hk_acectl_lesson lesson[HK_EVO_CONTEXTS];
    struct hk_arms now;    /* in force */
    /* The window so far. */
    struct hk_acectl_counters start;
    uint32_t start_events[HK_EVO_BUCKETS];
    uint64_t start_ns, epoch_ns, events_ns, counted_from_ns;
    uint64_t cached_ms_kib;  /* integral of cached_bytes */
    struct hk_acectl_counters last;
    bool is_trial;
    uint64_t random;
    uint64_t changed_ns;     /* last adoption */
    size_t nr_windows, nr_trials, nr_adopted, nr_broken_off;
    uint64_t last_window_cost;
};

/* For people and tools (export): what is in force, and what it rests on. */
struct hk_acectl_view {
    uint64_t state;           /* enum hk_evo_state, of the current context */
    uint64_t context, nr_contexts;
    uint64_t windows, trials, adopted, broken_off, shifts, recalled;
    uint64_t cost, usual_cost; /* ns per MiB handed out: of the last window; on the settings adopted */
    struct {
        uint64_t value;       /* in force: ns, bytes */
        uint64_t learns;      /* 0: the user has set it, or it is switched off */
        uint64_t arm;
        uint64_t pulls[HK_ACECTL_ARMS]; /* trials of each arm that are remembered in this context */
    } knob[HK_NR_KNOBS];
};
extern struct hk_acectl_view hk_acectl_view; /* of the process; stores and loads of words, relaxed */

/* *ctl is all zero; what contexts have not been met yet stays untouched memory. */
void hk_acectl_init(struct hk_acectl *ctl, const struct hk_acectl_options *options);
/* At any time; does something once an epoch. True: `now` has changed, publish it. */
bool hk_acectl_tick(struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *counters);
/* The knobs it turns, and no other number. */
void hk_acectl_apply(const struct hk_acectl *ctl, struct hk_policy *policy);
/* Starts from these arms, in this context and those to come. False: no such arms. */
bool hk_acectl_set_prior(struct hk_acectl *ctl, const struct hk_arms *arms);
/* What the current context has learnt so far. */
struct hk_arms hk_acectl_best(const struct hk_acectl *ctl);
/* The user has set it: the knob is let alone from now on. */
void hk_acectl_release(struct hk_acectl *ctl, enum hk_knob knob);
/* In the option's unit: ms, bytes. */
size_t hk_acectl_value(enum hk_knob knob, unsigned arm);
/* HK_ACECTL_ARMS: the value is no arm. */
unsigned hk_acectl_arm_of(enum hk_knob knob, size_t value);
const char *hk_acectl_knob_name(enum hk_knob knob); /* the option's */
/* Writes *view, which others may be reading. */
void hk_acectl_look(const struct hk_acectl *ctl, const struct hk_policy *policy, struct hk_acectl_view *view);
/* What hk_acectl_look would show after hk_acectl_init with these options. */
void hk_acectl_look_before(const struct hk_acectl_options *options, const struct hk_policy *policy,
                           struct hk_acectl_view *view);
void hk_acectl_check(const struct hk_acectl *ctl);

#endif
