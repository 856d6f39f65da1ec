// SPDX-License-Identifier: MIT
/*
 * learn: where the control plane meets the data plane. Gathers the counters that slow paths keep, gives the
 * controller its turn at a tick of some thread of the program, and publishes what it decides.
 *
 * No thread of its own and no system call. One thread at a time, with hk_config_lock, so that what the user sets
 * and what is learnt come one after the other; a tick only tries the lock, the others go on. It comes from inside a
 * slow section, where a signal handler's malloc does without us. Fork holds that lock too: in the child the lesson
 * goes on when the child allocates. Without a learner hk_ace_on_tick is NULL.
 */
#include "entry/entry_private.h"

#include "ace/ace.h"
#include "acectl/acectl.h"
#include "base/panic.h"
#include "batch/batch.h"
#include "config/config.h"
#include "os/os.h"
#include "thread/thread.h"

#include <errno.h>
#include <hakmem/hakmem.h>
#include <string.h>

#define LARGE_WEIGHT 32 /* a refill serves many small blocks; so many of them are worth one large block */

static HK_LARGE_BSS struct {
    struct hk_acectl ctl;
    bool ready;
    bool unpublished; /* EAGAIN: again at the next tick */
    bool loaded;      /* from a policy file */
} learn;

/* ---- counters ------------------------------------------------------------------------------ */

_Static_assert(HK_NR_EVENTS == HK_EVO_BUCKETS - 1, "and the frees of other threads");

/* Without the last few hundred large blocks of each heap. */
static void count_heap(const struct hk_heap *heap, struct hk_acectl_counters *out)
{
    out->given_bytes += hk_load_relaxed(&heap->given_bytes);
    for (unsigned i = 0; i < HK_NR_EVENTS; i++) {
        uint32_t weight = i < HK_NR_EVENTS - HK_NR_LARGE ? 1 : LARGE_WEIGHT;
        out->events[i] += hk_load_relaxed(&heap->events[i]) * weight;
    }
    out->events[HK_NR_EVENTS] += (uint32_t)hk_load_relaxed(&heap->stats.nr_remote_frees) / HK_PARCEL_BLOCKS;
}

static void gather(struct hk_acectl_counters *out)
{
    const struct hk_batch_counters *batch = hk_batch_counters();
    struct hk_span_stats span;

    hk_span_stats(&span);
    *out = (struct hk_acectl_counters){
        .fresh_bytes = span.fresh_bytes + hk_ace_fresh_big_bytes(),
        .nr_returns = span.nr_purges + span.nr_unmaps + hk_load_relaxed(&batch->nr_unmaps),
        .cached_bytes = hk_ace_cached_bytes(),
    };
    for (const struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        count_heap(h, out);
}

/* ---- turns --------------------------------------------------------------------------------- */

static bool is_preset(enum hk_option option)
{
    const char *source = hk_config_source(option);

    return strcmp(source, "default") == 0 || strcmp(source, "mode") == 0;
}

static const enum hk_option option_of[HK_NR_KNOBS] = {
    [HK_KNOB_PURGE_DELAY] = HK_OPTION_purge_delay_ms,
    [HK_KNOB_CACHE_FLOOR] = HK_OPTION_purge_cap_bytes,
};

/* What the user has set by now is his; and delays that he has switched off stay off. */
static void release_knobs(void)
{
    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        if (!is_preset(option_of[k]))
            hk_acectl_release(&learn.ctl, (enum hk_knob)k);
    if (hk_config.disable_batch)
        hk_acectl_release(&learn.ctl, HK_KNOB_PURGE_DELAY);
}

static void apply(struct hk_policy *policy, void *arg)
{
    (void)arg;
    hk_acectl_apply(&learn.ctl, policy);
}

static int publish_locked(void)
{
    int error;

    release_knobs();
    error = hk_policy_update(apply, NULL, HK_ACECTL_MAX_SNAPSHOTS);
    learn.unpublished = error != 0;
    return error;
}

static void show_locked(void)
{
    hk_acectl_look(&learn.ctl, hk_policy(), &hk_acectl_view);
}

static void on_tick(struct hk_heap *heap, uint64_t now_ns)
{
    struct hk_acectl_counters counters;

    if (now_ns < hk_load_relaxed(&learn.ctl.epoch_ns) + HK_ACECTL_EPOCH_NS || !hk_try_lock(&hk_config_lock))
        return; /* relaxed: looked at again under the lock */
    hk_entry_tell_sites(heap); /* this thread's large blocks are counted up to now */
    gather(&counters);
    if (hk_acectl_tick(&learn.ctl, now_ns, &counters) || learn.unpublished)
        (void)publish_locked();
    show_locked();
    hk_unlock(&hk_config_lock);
}

static void watch(bool on)
{
    hk_store_relaxed(&hk_ace_on_tick, on ? on_tick : NULL);
}

/* ---- start --------------------------------------------------------------------------------- */

static unsigned learn_mode(void)
{
    return hk_config.disable_elo ? HK_LEARN_OFF : hk_config.learn;
}

static size_t preset_of(enum hk_knob knob)
{
    return knob == HK_KNOB_PURGE_DELAY ? hk_config.purge_delay_ms : hk_config.purge_cap_bytes;
}

/* Watched without having asked for it: nothing that takes more memory than the promise (ace.h). */
static unsigned nr_arms_of(enum hk_knob knob, unsigned prior)
{
    bool all = knob != HK_KNOB_CACHE_FLOOR || learn_mode() == HK_LEARN_LEARN;

    return all ? HK_ACECTL_ARMS : prior + 1;
}

static void fill_knobs(struct hk_acectl_options *options)
{
    for (unsigned k = 0; k < HK_NR_KNOBS; k++) {
        unsigned prior = hk_acectl_arm_of((enum hk_knob)k, preset_of((enum hk_knob)k));
        options->turns[k] = prior < HK_ACECTL_ARMS && is_preset(option_of[k]);
        options->prior.of[k] = (uint8_t)(prior < HK_ACECTL_ARMS ? prior : 0);
        options->nr_arms[k] = (uint8_t)nr_arms_of((enum hk_knob)k, options->prior.of[k]);
    }
    /* delays and caches that are switched off stay off */
    options->turns[HK_KNOB_PURGE_DELAY] &= !hk_config.disable_batch;
}

static struct hk_acectl_options options_now(void)
{
    static HK_START_CONST const uint8_t start_of[] = {HK_EVO_OFF, HK_EVO_FROZEN, HK_EVO_FROZEN, HK_EVO_LEARN};
    struct hk_acectl_options options = {
        .evo = {.start = (enum hk_evo_state)start_of[learn_mode()],
                .learns = learn_mode() == HK_LEARN_LEARN,
                .freeze_ns = hk_config.freeze_sec * UINT64_C(1000000000),
                .min_samples = hk_config.learn_min_samples},
        .window_ns = hk_config.learn_window_ms * UINT64_C(1000000),
        .cooldown_ns = hk_config.freeze_sec * UINT64_C(1000000000),
        .seed = hk_os_random(hk_config.seed),
        .canary_permille = hk_config.canary_frac_thousandths,
        .use_elo = hk_config.learner == HK_LEARNER_ELO,
        .at_random = hk_config.learner == HK_LEARNER_RANDOM && learn_mode() == HK_LEARN_LEARN,
    };

    fill_knobs(&options);
    return options;
}

static void init_locked(void)
{
    struct hk_acectl_options options;

    if (learn.ready)
        return;
    options = options_now();
    hk_acectl_init(&learn.ctl, &options);
    learn.ready = true;
}

/* False: a signal handler that interrupted the allocator. */
static bool begin(void)
{
    if (!hk_thread_enter())
        return false;
    (void)hk_thread_heap(); /* the configured values first */
    hk_lock(&hk_config_lock);
    init_locked();
    return true;
}

static void end(void)
{
    show_locked();
    hk_unlock(&hk_config_lock);
    hk_thread_leave();
}

/* Where nothing is learnt, watched or read, the learner is made when somebody asks for it: most processes
 * never touch its memory. What is in force is shown all the same. */
void hk_entry_start_learning(void)
{
    const char *file = learn_mode() == HK_LEARN_OFF ? NULL : hk_entry_policy_file();

    if (!file && learn_mode() < HK_LEARN_CANARY) {
        struct hk_acectl_options options = options_now();
        hk_acectl_look_before(&options, hk_policy(), &hk_acectl_view);
        return;
    }
    if (!begin())
        return;
    end();
    if (file)
        learn.loaded = hk_entry_load_policy(file) == 0;
    watch(learn_mode() >= HK_LEARN_CANARY);
}

static __attribute__((destructor)) void save_at_exit(void)
{
    const char *file = learn_mode() == HK_LEARN_LEARN ? hk_entry_policy_file() : NULL;

    if (file && !learn.loaded)
        (void)hak_policy_save(file);
}

int hk_entry_get_arms(struct hk_arms *arms)
{
    if (!begin())
        return EAGAIN;
    *arms = hk_acectl_best(&learn.ctl);
    end();
    return 0;
}

int hk_entry_set_arms(const struct hk_arms *arms)
{
    int error = EAGAIN;

    if (!begin())
        return error;
    error = hk_acectl_set_prior(&learn.ctl, arms) ? publish_locked() : EINVAL;
    if (error == 0)
        hk_evo_freeze(&learn.ctl.evo);
    end();
    return error;
}

/* ---- hakmem.h ------------------------------------------------------------------------------ */

HK_EXPORT const char *hak_evo_state(void)
{
    static const char *const names[] = {"off", "learn", "frozen", "canary"};
    enum hk_evo_state state = HK_EVO_OFF;

    if (begin()) {
        state = hk_evo_state(&learn.ctl.evo);
        end();
    }
    return names[state];
}

HK_EXPORT int hak_evo_freeze(void)
{
    int error = EAGAIN;

    if (begin()) {
        hk_evo_freeze(&learn.ctl.evo);
        learn.ctl.now = hk_acectl_best(&learn.ctl);
        error = publish_locked();
        watch(false);
        end();
    }
    return error;
}

HK_EXPORT int hak_evo_learn(void)
{
    if (!begin())
        return EAGAIN;
    hk_evo_learn(&learn.ctl.evo);
    watch(true);
    end();
    return 0;
}

HK_EXPORT int hak_policy_get(hak_policy_t *policy, size_t bytes)
{
    hak_policy_t all = {0};
    const struct hk_policy *now;
    int saved = errno;

    if (!begin())
        return EAGAIN;
    now = hk_policy();
    all.purge_delay_ms = (size_t)(now->purge_delay_ns / 1000000);
    all.purge_cap_bytes = now->purge_floor_bytes;
    all.mmap_threshold_bytes = now->big_threshold;
    all.wmax_large_thousandths = now->wmax_large;
    all.trials = learn.ctl.nr_trials;
    all.changes = learn.ctl.nr_adopted;
    all.shifts = learn.ctl.evo.nr_shifts;
    all.broken_off = learn.ctl.nr_broken_off;
    all.last_cost = learn.ctl.last_window_cost;
    end();
    memcpy(policy, &all, hk_min(bytes, sizeof all));
    errno = saved;
    return 0;
}
