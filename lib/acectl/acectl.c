// SPDX-License-Identifier: MIT
#include "acectl/acectl.h"

#include "base/panic.h"

#include <string.h>

#define PAGE_BYTES 4096
#define FAULT_NS 2000
#define RETURN_NS 5000
#define MEMORY_PPM_PER_MIB 312
#define LEAST_SHARE 200  /* of a window: differences below 0.5 % of a core are ties */
#define MIN_GIVEN_BYTES (256 * HK_KIB) /* in a window that says something */
#define WARM_UP 3 /* windows of a new context in which the program still grows: nothing is tried or noted */
#define TRIALS_TO_SETTLE 3
#define DUELS_TO_SETTLE 60
#define TEMPERATURE 60     /* rating points */

static const struct {
    const char *name;
    uint32_t value[HK_ACECTL_ARMS]; /* KiB for sizes */
    unsigned shift;
} knobs[HK_NR_KNOBS] = {
    [HK_KNOB_PURGE_DELAY] = {"purge_delay_ms", {50, 300, 1000, 4000}, 0},
    [HK_KNOB_CACHE_FLOOR] = {"purge_cap_bytes", {16 << 10, 32 << 10, 64 << 10, 128 << 10}, 10},
};

/* Whole settings, from thrifty to roomy. */
static const struct hk_arms strategies[HK_ELO_STRATEGIES] = {
    {{0, 0}}, {{0, 3}}, {{1, 1}}, {{3, 1}}, {{2, 2}}, {{3, 3}},
};

size_t hk_acectl_value(enum hk_knob knob, unsigned arm)
{
    return (size_t)knobs[knob].value[arm] << knobs[knob].shift;
}

unsigned hk_acectl_arm_of(enum hk_knob knob, size_t value)
{
    unsigned arm = 0;

    while (arm < HK_ACECTL_ARMS && hk_acectl_value(knob, arm) != value)
        arm++;
    return arm;
}

const char *hk_acectl_knob_name(enum hk_knob knob)
{
    return knobs[knob].name;
}

static struct hk_acectl_lesson *lesson_here(struct hk_acectl *ctl)
{
    return &ctl->lesson[ctl->evo.current];
}

struct hk_arms hk_acectl_best(const struct hk_acectl *ctl)
{
    return ctl->lesson[ctl->evo.current].best;
}

void hk_acectl_apply(const struct hk_acectl *ctl, struct hk_policy *policy)
{
    const struct hk_arms *now = &ctl->now;

    if (ctl->options.turns[HK_KNOB_PURGE_DELAY])
        policy->purge_delay_ns =
            UINT64_C(1000000) * hk_acectl_value(HK_KNOB_PURGE_DELAY, now->of[HK_KNOB_PURGE_DELAY]);
    if (ctl->options.turns[HK_KNOB_CACHE_FLOOR])
        policy->purge_floor_bytes =
            hk_acectl_value(HK_KNOB_CACHE_FLOOR, now->of[HK_KNOB_CACHE_FLOOR]);
}

/* ---- lessons ------------------------------------------------------------------------------- */

static void begin_lesson(struct hk_acectl *ctl, struct hk_acectl_lesson *lesson)
{
    memset(lesson, 0, sizeof *lesson);
    lesson->best = ctl->options.prior;
    lesson->knob = HK_KNOB_CACHE_FLOOR; /* it has the largest effects */
    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        hk_ucb1_init(&lesson->bandit[k], ctl->options.nr_arms[k], ctl->options.prior.of[k]);
    hk_elo_init(&lesson->elo, ctl->options.seed + ctl->evo.nr_shifts, TEMPERATURE);
}

void hk_acectl_init(struct hk_acectl *ctl, const struct hk_acectl_options *options)
{
    ctl->options = *options;
    ctl->random = options->seed;
    ctl->now = options->prior;
    hk_evo_init(&ctl->evo, &options->evo);
    begin_lesson(ctl, lesson_here(ctl));
}

bool hk_acectl_set_prior(struct hk_acectl *ctl, const struct hk_arms *arms)
{
    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        if (arms->of[k] >= HK_ACECTL_ARMS)
            return false;
    ctl->options.prior = ctl->now = *arms;
    for (unsigned k = 0; k < HK_NR_KNOBS; k++) {
        uint8_t least = (uint8_t)(arms->of[k] + 1);
        ctl->options.nr_arms[k] = ctl->options.nr_arms[k] > least ? ctl->options.nr_arms[k] : least;
    }
    for (unsigned i = 0; i < ctl->evo.nr_contexts; i++)
        begin_lesson(ctl, &ctl->lesson[i]);
    ctl->is_trial = false;
    return true;
}

void hk_acectl_release(struct hk_acectl *ctl, enum hk_knob knob)
{
    ctl->options.turns[knob] = false;
}

static unsigned nr_turned(const struct hk_acectl *ctl)
{
    unsigned n = 0;

    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        n += ctl->options.turns[k];
    return n;
}

static void next_knob(struct hk_acectl *ctl, struct hk_acectl_lesson *lesson)
{
    unsigned tries = 0;

    do {
        lesson->knob = (uint8_t)((lesson->knob + 1) % HK_NR_KNOBS);
    } while (!ctl->options.turns[lesson->knob] && ++tries < HK_NR_KNOBS);
}

static bool is_settled(const struct hk_acectl *ctl, const struct hk_acectl_lesson *lesson)
{
    if (ctl->options.use_elo)
        return lesson->nr_duels >= DUELS_TO_SETTLE;
    return lesson->nr_calm >= nr_turned(ctl);
}

/* ---- what a window cost -------------------------------------------------------------------- */

struct verdict {
    uint64_t cost;  /* ns per MiB */
    uint32_t least; /* a smaller difference is none */
};

static uint32_t saturate(uint64_t n)
{
    return n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
}

static struct verdict judge(const struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *c)
{
    uint64_t given_kib = (c->given_bytes - ctl->start.given_bytes) / HK_KIB;
    uint64_t ns = (c->fresh_bytes - ctl->start.fresh_bytes) / PAGE_BYTES * FAULT_NS +
                  (c->nr_returns - ctl->start.nr_returns) * RETURN_NS +
                  ctl->cached_ms_kib * MEMORY_PPM_PER_MIB / 1024;

    given_kib += given_kib == 0;
    return (struct verdict){.cost = ns * 1024 / given_kib,
                            .least = saturate((now_ns - ctl->start_ns) / LEAST_SHARE * 1024 / given_kib)};
}

static bool says_something(const struct hk_acectl *ctl, const struct hk_acectl_counters *c)
{
    return c->given_bytes - ctl->start.given_bytes >= MIN_GIVEN_BYTES;
}

/* Enough happened for a decision: eight times what tells habits apart. */
static bool is_decisive(const struct hk_acectl *ctl, const struct hk_acectl_counters *c)
{
    uint64_t events = 0;

    for (unsigned i = 0; i < HK_EVO_BUCKETS; i++)
        events += c->events[i] - ctl->start.events[i];
    return says_something(ctl, c) && events >= UINT64_C(8) * ctl->options.evo.min_samples;
}

static void begin_count(struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *c)
{
    ctl->start = *c;
    ctl->start_ns = now_ns;
    ctl->cached_ms_kib = 0;
}

/* ---- trials -------------------------------------------------------------------------------- */

/* Steele, Lea, Flood, 2014. */
static uint32_t random_permille(struct hk_acectl *ctl)
{
    uint64_t x = ctl->random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((x ^ (x >> 31)) % 1000);
}

static void choose_arm(struct hk_acectl *ctl, struct hk_acectl_lesson *lesson)
{
    unsigned knob;

    if (!ctl->options.turns[lesson->knob])
        next_knob(ctl, lesson);
    knob = lesson->knob;
    if (!ctl->options.turns[knob])
        return;
    ctl->now.of[knob] = (uint8_t)hk_ucb1_choose(&lesson->bandit[knob]);
    ctl->is_trial = true;
}

/* A strategy's arms, as far as there are so many. */
static struct hk_arms arms_of(const struct hk_acectl *ctl, unsigned strategy)
{
    struct hk_arms arms = strategies[strategy];

    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        if (arms.of[k] >= ctl->options.nr_arms[k])
            arms.of[k] = (uint8_t)(ctl->options.nr_arms[k] - 1);
    return arms;
}

static void choose_strategy(struct hk_acectl *ctl, struct hk_acectl_lesson *lesson)
{
    lesson->strategy = (uint8_t)hk_elo_choose(&lesson->elo);
    ctl->now = arms_of(ctl, lesson->strategy);
    ctl->is_trial = true;
}

static void begin_window(struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *c)
{
    struct hk_acectl_lesson *lesson = lesson_here(ctl);
    struct hk_arms before = ctl->now;
    enum hk_evo_state state = hk_evo_state(&ctl->evo);
    bool tries = state == HK_EVO_LEARN ||
                 (state == HK_EVO_CANARY && random_permille(ctl) < ctl->options.canary_permille);

    tries = tries && lesson->nr_warm >= WARM_UP;
    ctl->now = lesson->best;
    ctl->is_trial = false;
    if (tries && ctl->options.use_elo)
        choose_strategy(ctl, lesson);
    else if (tries)
        choose_arm(ctl, lesson);
    begin_count(ctl, now_ns, c);
    ctl->counted_from_ns = now_ns;
    if (memcmp(&before, &ctl->now, sizeof before) != 0)
        ctl->counted_from_ns += ctl->options.window_ns / 4;
    ctl->nr_trials += ctl->is_trial;
}

static void follow_mean(struct hk_acectl_lesson *lesson, uint64_t cost)
{
    lesson->mean_cost = lesson->mean_cost ? (lesson->mean_cost * 3 + cost) / 4 : cost;
}

static bool is_cooling(const struct hk_acectl *ctl, uint64_t now_ns)
{
    return hk_evo_state(&ctl->evo) == HK_EVO_CANARY && now_ns - ctl->changed_ns < ctl->options.cooldown_ns;
}

static void adopt(struct hk_acectl *ctl, struct hk_acectl_lesson *lesson, uint64_t now_ns)
{
    lesson->best = ctl->now;
    lesson->nr_calm = 0;
    ctl->changed_ns = now_ns;
    ctl->nr_adopted++;
}

static void note_arm(struct hk_acectl *ctl, struct hk_acectl_lesson *lesson, uint64_t now_ns,
                     struct verdict verdict)
{
    struct hk_ucb1 *bandit = &lesson->bandit[lesson->knob];
    unsigned was = bandit->incumbent;

    if (hk_ucb1_note(bandit, ctl->now.of[lesson->knob], saturate(verdict.cost), verdict.least)) {
        if (!is_cooling(ctl, now_ns)) {
            adopt(ctl, lesson, now_ns);
            return;
        }
        hk_ucb1_restart(bandit, was); /* something to gain, later */
        lesson->nr_calm = 0;
        return;
    }
    if (hk_ucb1_is_settled(bandit, TRIALS_TO_SETTLE)) {
        lesson->nr_calm++; /* what was tried stays known: the next turn is short */
        next_knob(ctl, lesson);
    }
}

static enum hk_elo_result compare(struct verdict verdict, uint64_t theirs)
{
    uint64_t margin = theirs * HK_UCB1_HYSTERESIS_PERCENT / 100 + verdict.least, mine = verdict.cost;

    if (mine + margin < theirs)
        return HK_ELO_WIN;
    return mine > theirs + margin ? HK_ELO_LOSS : HK_ELO_DRAW;
}

/* A duel is this window against the one before. */
static void note_strategy(struct hk_acectl *ctl, struct hk_acectl_lesson *lesson, uint64_t now_ns,
                          struct verdict verdict)
{
    unsigned best;

    if (lesson->nr_duels && lesson->strategy != lesson->last_strategy)
        hk_elo_note(&lesson->elo, lesson->strategy, lesson->last_strategy,
                    compare(verdict, lesson->last_cost));
    lesson->nr_duels++;
    lesson->last_strategy = lesson->strategy;
    lesson->last_cost = verdict.cost;
    best = hk_elo_best(&lesson->elo);
    if (is_settled(ctl, lesson) && !is_cooling(ctl, now_ns) &&
        hk_elo_rating(&lesson->elo, best) > HK_ELO_START + HK_ELO_K) {
        lesson->best = arms_of(ctl, best);
        ctl->changed_ns = now_ns;
        ctl->nr_adopted++;
    }
}

static void end_window(struct hk_acectl *ctl, uint64_t now_ns, struct verdict verdict)
{
    struct hk_acectl_lesson *lesson = lesson_here(ctl);
    uint64_t cost = verdict.cost;
    bool harm = ctl->is_trial && lesson->mean_cost && cost > lesson->mean_cost * 5 / 4 + verdict.least;

    if (lesson->nr_warm < WARM_UP)
        lesson->nr_warm++;
    else if (!ctl->is_trial || memcmp(&ctl->now, &lesson->best, sizeof ctl->now) == 0)
        follow_mean(lesson, cost);
    if (ctl->is_trial && ctl->options.use_elo)
        note_strategy(ctl, lesson, now_ns, verdict);
    else if (ctl->is_trial)
        note_arm(ctl, lesson, now_ns, verdict);
    if (harm)
        hk_evo_revert(&ctl->evo, now_ns); /* a CANARY ends; LEARN has its hysteresis */
    ctl->nr_windows++;
    ctl->last_window_cost = cost;
    if (hk_evo_judge(&ctl->evo, now_ns, cost, is_settled(ctl, lesson)) == HK_EVO_SETTLED)
        lesson->nr_calm = 0;
}

/* ---- ticks --------------------------------------------------------------------------------- */

/* What happened in the events' window; true when it is over and the context has changed. */
static bool look_around(struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *c)
{
    uint32_t events[HK_EVO_BUCKETS];
    enum hk_evo_event event;

    if (now_ns - ctl->events_ns < ctl->options.window_ns / 2)
        return false;
    for (unsigned i = 0; i < HK_EVO_BUCKETS; i++)
        events[i] = c->events[i] - ctl->start_events[i];
    memcpy(ctl->start_events, c->events, sizeof ctl->start_events);
    ctl->events_ns = now_ns;
    event = hk_evo_look(&ctl->evo, now_ns, events);
    if (event == HK_EVO_NEW_CONTEXT)
        begin_lesson(ctl, lesson_here(ctl));
    return event != HK_EVO_NOTHING;
}

static void begin(struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *c)
{
    memcpy(ctl->start_events, c->events, sizeof ctl->start_events);
    ctl->epoch_ns = ctl->events_ns = ctl->changed_ns = now_ns;
    begin_window(ctl, now_ns, c);
}

static bool is_harmful(const struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *c)
{
    uint64_t mean = ctl->lesson[ctl->evo.current].mean_cost;
    struct verdict so_far = judge(ctl, now_ns, c);

    return ctl->is_trial && mean && now_ns - ctl->start_ns >= ctl->options.window_ns / 4 &&
           says_something(ctl, c) && so_far.cost > mean * HK_ACECTL_HARM + UINT64_C(4) * so_far.least;
}

static void take_random_arms(struct hk_acectl *ctl)
{
    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        ctl->now.of[k] = (uint8_t)(random_permille(ctl) % ctl->options.nr_arms[k]);
    ctl->nr_trials++;
}

static void run_epoch(struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *c)
{
    bool harmful;

    if (look_around(ctl, now_ns, c)) {
        begin_window(ctl, now_ns, c); /* the trial belonged to another context */
        return;
    }
    if (now_ns < ctl->counted_from_ns) {
        begin_count(ctl, now_ns, c);
        return;
    }
    harmful = is_harmful(ctl, now_ns, c);
    ctl->nr_broken_off += harmful;
    if (!harmful && (now_ns - ctl->start_ns < ctl->options.window_ns || !is_decisive(ctl, c)))
        return;
    end_window(ctl, now_ns, judge(ctl, now_ns, c));
    begin_window(ctl, now_ns, c);
}

bool hk_acectl_tick(struct hk_acectl *ctl, uint64_t now_ns, const struct hk_acectl_counters *c)
{
    struct hk_arms before = ctl->now;

    if (ctl->epoch_ns == 0) {
        begin(ctl, now_ns, c);
    } else {
        if (now_ns < ctl->epoch_ns + HK_ACECTL_EPOCH_NS)
            return false;
        ctl->cached_ms_kib += (c->cached_bytes >> 10) * ((now_ns - ctl->epoch_ns) / 1000000);
        ctl->epoch_ns = now_ns;
        if (ctl->options.at_random)
            take_random_arms(ctl);
        else
            run_epoch(ctl, now_ns, c);
    }
    return memcmp(&before, &ctl->now, sizeof before) != 0;
}

/* ---- looks --------------------------------------------------------------------------------- */

struct hk_acectl_view hk_acectl_view;

static void view_values(const struct hk_policy *policy, struct hk_acectl_view *view)
{
    view->knob[HK_KNOB_PURGE_DELAY].value = policy->purge_delay_ns;
    view->knob[HK_KNOB_CACHE_FLOOR].value = policy->purge_floor_bytes;
}

static void view_knobs(const struct hk_acectl *ctl, struct hk_acectl_view *view)
{
    const struct hk_acectl_lesson *lesson = &ctl->lesson[ctl->evo.current];

    for (unsigned k = 0; k < HK_NR_KNOBS; k++) {
        view->knob[k].learns = ctl->options.turns[k];
        view->knob[k].arm = ctl->now.of[k];
        for (unsigned arm = 0; arm < HK_ACECTL_ARMS; arm++)
            view->knob[k].pulls[arm] = lesson->bandit[k].n[arm];
    }
}

static void show(const struct hk_acectl_view *view, struct hk_acectl_view *out)
{
    for (size_t i = 0; i < sizeof *view / sizeof(uint64_t); i++)
        hk_store_relaxed((uint64_t *)out + i, ((const uint64_t *)view)[i]);
}

void hk_acectl_look(const struct hk_acectl *ctl, const struct hk_policy *policy, struct hk_acectl_view *out)
{
    struct hk_acectl_view view = {
        .state = hk_evo_state(&ctl->evo),
        .context = ctl->evo.current,
        .nr_contexts = ctl->evo.nr_contexts,
        .windows = ctl->nr_windows,
        .trials = ctl->nr_trials,
        .adopted = ctl->nr_adopted,
        .broken_off = ctl->nr_broken_off,
        .shifts = ctl->evo.nr_shifts,
        .recalled = ctl->evo.nr_recalled,
        .cost = ctl->last_window_cost,
        .usual_cost = ctl->lesson[ctl->evo.current].mean_cost,
    };

    view_values(policy, &view);
    view_knobs(ctl, &view);
    show(&view, out);
}

void hk_acectl_look_before(const struct hk_acectl_options *options, const struct hk_policy *policy,
                           struct hk_acectl_view *out)
{
    struct hk_acectl_view view = {.state = options->evo.start, .nr_contexts = 1};

    view_values(policy, &view);
    for (unsigned k = 0; k < HK_NR_KNOBS; k++) {
        view.knob[k].learns = options->turns[k];
        view.knob[k].arm = options->prior.of[k];
    }
    show(&view, out);
}

void hk_acectl_check(const struct hk_acectl *ctl)
{
    for (unsigned i = 0; i < ctl->evo.nr_contexts; i++)
        for (unsigned k = 0; k < HK_NR_KNOBS; k++) {
            hk_ucb1_check(&ctl->lesson[i].bandit[k]);
            if (ctl->lesson[i].best.of[k] >= HK_ACECTL_ARMS)
                hk_panic_internal("acectl: arm", ctl);
        }
}
