// SPDX-License-Identifier: MIT
/* acectl over a fake clock and a fake program: what an arm costs is written in a table. */
#include "acectl/acectl.h"

#include "support.h"

#include <string.h>

#define MS UINT64_C(1000000)
#define PAGE UINT64_C(4096)

/* Pages that fault in per second, by arm of each knob; the sum counts. */
struct program {
    uint32_t faults[HK_NR_KNOBS][HK_ACECTL_ARMS];
    uint32_t cached_mib[HK_ACECTL_ARMS]; /* by arm of the cache floor */
    unsigned kind;                       /* bucket of its events */
};

static struct hk_acectl ctl;
static struct hk_acectl_options options;
static struct hk_acectl_counters counters;
static uint64_t now;
static unsigned noise; /* faults per second, at most */

static void setup(void)
{
    memset(&ctl, 0, sizeof ctl);
    memset(&counters, 0, sizeof counters);
    noise = 0;
    now = 1000 * MS;
    options = (struct hk_acectl_options){
        .evo = {HK_EVO_LEARN, true, 180000 * MS, 256},
        .window_ns = 1000 * MS,
        .cooldown_ns = 180000 * MS,
        .seed = 1,
        .canary_permille = 50,
        .turns = {true, true},
        .nr_arms = {4, 4},
        .prior = {{1, 1}},
    };
}

static void teardown(void)
{
    hk_acectl_check(&ctl);
}

/* 50 ms of the program. */
static bool step(const struct program *p)
{
    uint64_t faults = noise ? below(noise) : 0;

    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        faults += p->faults[k][ctl.now.of[k]];
    now += 50 * MS;
    counters.fresh_bytes += faults / 20 * PAGE;
    counters.cached_bytes = (uint64_t)p->cached_mib[ctl.now.of[HK_KNOB_CACHE_FLOOR]] << 20;
    counters.events[p->kind] += 1000;
    counters.given_bytes += 5 * HK_MIB; /* 1 % of a core is 100 us per MiB */
    return hk_acectl_tick(&ctl, now, &counters);
}

static void run_seconds(const struct program *p, unsigned seconds)
{
    for (unsigned i = 0; i < seconds * 20; i++)
        step(p);
}

/* A long delay saves much, the cache floor nothing. */
static const struct program bursty = {
    .faults = {{80000, 40000, 16000, 4000}, {0, 0, 0, 0}},
    .cached_mib = {10, 90, 120, 150},
};
static const struct program flat = {
    .faults = {{3000, 3000, 3000, 3000}},
    .cached_mib = {10, 10, 10, 10},
    .kind = 5,
};
/* Big buffers: the larger the cache the better. */
static const struct program roomy = {
    .faults = {{0}, {90000, 60000, 30000, 9000}},
    .cached_mib = {16, 32, 64, 128},
    .kind = 13,
};

START_TEST(finds_what_costs_least_and_freezes)
{
    start_random(1);
    noise = 1000;
    hk_acectl_init(&ctl, &options);
    run_seconds(&bursty, 179);
    ck_assert_uint_eq(ctl.now.of[HK_KNOB_PURGE_DELAY], 3);
    ck_assert_uint_eq(ctl.now.of[HK_KNOB_CACHE_FLOOR], 0); /* memory for nothing */
    ck_assert_int_eq(hk_evo_state(&ctl.evo), HK_EVO_FROZEN);
    size_t trials = ctl.nr_trials;
    run_seconds(&bursty, 100);
    ck_assert_uint_eq(ctl.nr_trials, trials); /* frozen is frozen */
}
END_TEST

START_TEST(where_all_arms_tie_nothing_changes)
{
    start_random(2);
    noise = 300;
    hk_acectl_init(&ctl, &options);
    run_seconds(&flat, 170);
    ck_assert_uint_eq(ctl.nr_adopted, 0);
    ck_assert_mem_eq(&ctl.now, &options.prior, sizeof ctl.now);
    ck_assert_int_eq(hk_evo_state(&ctl.evo), HK_EVO_FROZEN);
}
END_TEST

START_TEST(what_the_user_set_is_let_alone)
{
    struct hk_policy policy;

    options.turns[HK_KNOB_PURGE_DELAY] = false;
    hk_acectl_init(&ctl, &options);
    memset(&policy, 0x55, sizeof policy);
    struct hk_policy before = policy;
    for (unsigned i = 0; i < 170 * 20; i++) {
        step(&bursty);
        ck_assert_uint_eq(ctl.now.of[HK_KNOB_PURGE_DELAY], options.prior.of[HK_KNOB_PURGE_DELAY]);
        hk_acectl_apply(&ctl, &policy);
        ck_assert_uint_eq(policy.purge_delay_ns, before.purge_delay_ns);
    }
    ck_assert_uint_eq(policy.purge_floor_bytes, 16 * HK_MIB);
    policy.purge_floor_bytes = before.purge_floor_bytes;
    ck_assert_mem_eq(&policy, &before, sizeof policy); /* nothing but the knobs */
    hk_acectl_release(&ctl, HK_KNOB_CACHE_FLOOR);
    hk_acectl_apply(&ctl, &policy);
    ck_assert_uint_eq(policy.purge_floor_bytes, before.purge_floor_bytes);
}
END_TEST

START_TEST(a_trial_that_does_harm_is_broken_off)
{
    static const struct program steep = {
        .faults = {{500000, 1000, 1000, 1000}}, .cached_mib = {1, 1, 1, 1}};
    unsigned longest = 0, running = 0;

    hk_acectl_init(&ctl, &options);
    for (unsigned i = 0; i < 120 * 20; i++) {
        step(&steep);
        running = ctl.now.of[HK_KNOB_PURGE_DELAY] == 0 ? running + 1 : 0;
        longest = running > longest ? running : longest;
    }
    ck_assert_uint_ge(ctl.nr_broken_off, 1);
    ck_assert_uint_le(longest * 50, 1000); /* ms; whole trials take 1250 */
    ck_assert_uint_ne(ctl.now.of[HK_KNOB_PURGE_DELAY], 0);
}
END_TEST

START_TEST(a_phase_that_returns_finds_its_lesson)
{
    hk_acectl_init(&ctl, &options);
    run_seconds(&bursty, 150);
    ck_assert_uint_eq(ctl.now.of[HK_KNOB_CACHE_FLOOR], 0);
    run_seconds(&roomy, 170);
    ck_assert_uint_eq(ctl.now.of[HK_KNOB_CACHE_FLOOR], 3);
    for (unsigned i = 0; i < 5; i++) {
        size_t trials = ctl.nr_trials;
        run_seconds(&bursty, 2);
        ck_assert_uint_eq(ctl.now.of[HK_KNOB_CACHE_FLOOR], 0);
        ck_assert_uint_eq(ctl.now.of[HK_KNOB_PURGE_DELAY], 3);
        run_seconds(&roomy, 2);
        ck_assert_uint_eq(ctl.now.of[HK_KNOB_CACHE_FLOOR], 3);
        ck_assert_uint_eq(ctl.nr_trials, trials); /* nothing is learnt anew */
    }
    ck_assert_uint_eq(ctl.evo.nr_contexts, 2);
}
END_TEST

START_TEST(frozen_tries_nothing)
{
    options.evo.start = HK_EVO_FROZEN;
    options.evo.learns = false;
    hk_acectl_init(&ctl, &options);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert(!step(&bursty));
    ck_assert_uint_eq(ctl.nr_trials, 0);
    ck_assert_mem_eq(&ctl.now, &options.prior, sizeof ctl.now);
}
END_TEST

static void wake_canary(const struct program *p)
{
    options.evo.start = HK_EVO_FROZEN;
    options.evo.learns = false;
    hk_acectl_init(&ctl, &options);
    run_seconds(&flat, 10);
    run_seconds(p, 2);
    ck_assert_int_eq(hk_evo_state(&ctl.evo), HK_EVO_CANARY);
}

/* The way down harms a little, the way up helps. */
static const struct program gentle = {
    .faults = {{0}, {66000, 60000, 30000, 9000}},
    .cached_mib = {16, 32, 64, 128},
    .kind = 13,
};

START_TEST(canary_tries_a_few_and_waits_before_it_changes)
{
    options.evo.freeze_ns = 100000000 * MS;
    options.canary_permille = 200;
    wake_canary(&gentle);
    size_t windows = ctl.nr_windows, trials = ctl.nr_trials;
    run_seconds(&gentle, 160);
    ck_assert_uint_eq(ctl.nr_adopted, 0); /* cooling */
    windows = ctl.nr_windows - windows;
    trials = ctl.nr_trials - trials;
    ck_assert_uint_ge(trials, windows / 20);
    ck_assert_uint_le(trials, windows * 3 / 10);
    run_seconds(&gentle, 800);
    ck_assert_uint_ge(ctl.nr_adopted, 1);
    ck_assert_uint_ge(hk_acectl_best(&ctl).of[HK_KNOB_CACHE_FLOOR], 2);
}
END_TEST

START_TEST(canary_reverts_on_harm)
{
    static const struct program good_as_it_is = {
        .faults = {{30000, 3000, 30000, 30000}, {30000, 3000, 30000, 30000}},
        .cached_mib = {1, 1, 1, 1},
        .kind = 9,
    };

    options.canary_permille = 1000;
    wake_canary(&good_as_it_is);
    run_seconds(&good_as_it_is, 30);
    ck_assert_int_eq(hk_evo_state(&ctl.evo), HK_EVO_FROZEN);
    ck_assert_uint_eq(ctl.evo.nr_reverted, 1);
    ck_assert_mem_eq(&ctl.now, &options.prior, sizeof ctl.now);
}
END_TEST

START_TEST(fewer_arms_where_more_would_break_a_promise)
{
    options.nr_arms[HK_KNOB_CACHE_FLOOR] = 2;
    options.use_elo = _i;
    hk_acectl_init(&ctl, &options);
    for (unsigned i = 0; i < 170 * 20; i++) {
        step(&roomy);
        ck_assert_uint_le(ctl.now.of[HK_KNOB_CACHE_FLOOR], 1);
    }
}
END_TEST

START_TEST(elo_prefers_the_better_strategies)
{
    options.use_elo = true;
    hk_acectl_init(&ctl, &options);
    run_seconds(&roomy, 175);
    ck_assert_int_eq(hk_evo_state(&ctl.evo), HK_EVO_FROZEN);
    ck_assert_uint_ge(ctl.now.of[HK_KNOB_CACHE_FLOOR], 2);
}
END_TEST

/* Every decision, as a number. */
static uint64_t history(uint64_t seed, bool elo)
{
    uint64_t hash = 1;

    setup();
    start_random(3);
    noise = 5000;
    options.seed = seed;
    options.use_elo = elo;
    hk_acectl_init(&ctl, &options);
    for (unsigned i = 0; i < 100 * 20; i++) {
        step(i / 600 % 2 ? &roomy : &bursty);
        for (unsigned k = 0; k < HK_NR_KNOBS; k++)
            hash = hash * 31 + ctl.now.of[k];
    }
    return hash;
}

START_TEST(the_same_seed_and_events_give_the_same_decisions)
{
    ck_assert_uint_eq(history(7, _i), history(7, _i));
    if (_i)
        ck_assert_uint_ne(history(7, true), history(8, true));
}
END_TEST

/* What a process that never learns shows is what it would show had it begun. */
START_TEST(shown_before_it_begins)
{
    struct hk_acectl_view before = {0}, after = {0};
    struct hk_policy policy = hk_policy_builtin;

    policy.purge_delay_ns = 1;
    policy.purge_floor_bytes = 2;
    options.evo.start = HK_EVO_FROZEN;
    options.evo.learns = false;
    options.turns[HK_KNOB_CACHE_FLOOR] = false;
    options.prior.of[HK_KNOB_PURGE_DELAY] = 2;
    hk_acectl_look_before(&options, &policy, &before);
    hk_acectl_init(&ctl, &options);
    hk_acectl_look(&ctl, &policy, &after);
    ck_assert_mem_eq(&before, &after, sizeof before);
    ck_assert_uint_eq(before.state, HK_EVO_FROZEN);
    ck_assert_uint_eq(before.knob[HK_KNOB_CACHE_FLOOR].value, 2);
}
END_TEST

START_TEST(arms_and_values)
{
    struct hk_arms bad = {{0, HK_ACECTL_ARMS}};

    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        for (unsigned a = 0; a < HK_ACECTL_ARMS; a++)
            ck_assert_uint_eq(hk_acectl_arm_of(k, hk_acectl_value(k, a)), a);
    ck_assert_uint_eq(hk_acectl_arm_of(HK_KNOB_CACHE_FLOOR, 12345), HK_ACECTL_ARMS);
    hk_acectl_init(&ctl, &options);
    ck_assert(!hk_acectl_set_prior(&ctl, &bad));
    bad.of[1] = 3;
    ck_assert(hk_acectl_set_prior(&ctl, &bad));
    ck_assert_mem_eq(&ctl.now, &bad, sizeof bad);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("acectl");
    TCase *tc = new_case(suite, "learn", setup, teardown);

    tcase_add_test(tc, finds_what_costs_least_and_freezes);
    tcase_add_test(tc, where_all_arms_tie_nothing_changes);
    tcase_add_test(tc, what_the_user_set_is_let_alone);
    tcase_add_test(tc, a_trial_that_does_harm_is_broken_off);
    tcase_add_test(tc, a_phase_that_returns_finds_its_lesson);
    tcase_add_loop_test(tc, the_same_seed_and_events_give_the_same_decisions, 0, 2);
    tcase_add_loop_test(tc, fewer_arms_where_more_would_break_a_promise, 0, 2);
    tcase_add_test(tc, elo_prefers_the_better_strategies);
    tcase_add_test(tc, arms_and_values);
    tcase_add_test(tc, shown_before_it_begins);
    tc = new_case(suite, "frozen and canary", setup, teardown);
    tcase_add_test(tc, frozen_tries_nothing);
    tcase_add_test(tc, canary_tries_a_few_and_waits_before_it_changes);
    tcase_add_test(tc, canary_reverts_on_harm);
    return run_suite(suite);
}
