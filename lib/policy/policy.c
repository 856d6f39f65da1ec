// SPDX-License-Identifier: MIT
#include "policy/policy.h"

#include "base/panic.h"
#include "meta/meta.h"

#include <errno.h>
#include <string.h>

struct hk_policy hk_policy_builtin;
const struct hk_policy *hk_policy_current = &hk_policy_builtin;
struct hk_lock hk_policy_lock = HK_LOCK_INIT(HK_RANK_POLICY);

/* First the snapshot, so that the current pointer is also its slot's. */
struct slot {
    struct hk_policy policy;
    uint64_t retired;   /* epoch that replaced it; 0: current */
    struct slot *next;
};

/* Written under the lock, but for what is said otherwise. */
static struct {
    struct slot *slots;
    uint64_t epoch;      /* release E1 / acquire E2 */
    uint32_t nr_strangers; /* N1, N2: by anybody */
    uint64_t (*oldest_seen)(void);
    struct hk_policy_stats stats; /* read relaxed */
} policies;
static HK_LARGE_BSS struct hk_policy draft; /* under the lock */

/* ---- readers ------------------------------------------------------------------------------- */

void hk_policy_note(uint64_t *seen)
{
    /* E2 acquire, pairs with E1: who sees the epoch sees the pointer that came with it */
    uint64_t epoch = hk_load_acquire(&policies.epoch);

    hk_store_release(seen, epoch); /* E3 release, pairs with E4: what was read of older snapshots is done */
}

void hk_policy_stranger_enters(void)
{
    hk_add_relaxed(&policies.nr_strangers, 1);
    hk_fence_full(); /* N1 fence, pairs with N2 and N5: counted before the pointer is read */
}

void hk_policy_stranger_leaves(void)
{
    hk_sub_release(&policies.nr_strangers, 1); /* N3 release, pairs with N4: the reads are done */
}

void hk_policy_set_readers(uint64_t (*oldest_seen)(void))
{
    policies.oldest_seen = oldest_seen;
}

/* ---- publishers ---------------------------------------------------------------------------- */

/* Snapshots retired at this epoch or before have no reader. */
static uint64_t quiet_epoch(void)
{
    if (!policies.oldest_seen)
        return 0;
    hk_fence_full(); /* N2 fence, pairs with N1: the pointer moved before we count */
    if (hk_load_acquire(&policies.nr_strangers)) /* N4 acquire, pairs with N3 */
        return 0;
    return policies.oldest_seen();
}

static struct hk_policy *find_equal(const struct hk_policy *policy)
{
    if (memcmp(policy, &hk_policy_builtin, sizeof *policy) == 0)
        return &hk_policy_builtin;
    for (struct slot *s = policies.slots; s; s = s->next)
        if (memcmp(policy, &s->policy, sizeof *policy) == 0)
            return &s->policy;
    return NULL;
}

static struct slot *find_quiet(void)
{
    uint64_t quiet = policies.slots ? quiet_epoch() : 0;

    for (struct slot *s = policies.slots; s; s = s->next)
        if (s->retired && s->retired <= quiet)
            return s;
    return NULL;
}

static struct slot *make_slot(void)
{
    struct slot *s = hk_meta_alloc(sizeof *s);

    if (!s)
        return NULL;
    s->next = policies.slots;
    policies.slots = s;
    hk_count_add(&policies.stats.nr_snapshots, 1);
    return s;
}

/* Memory for the draft: that of an equal snapshot as it is, of one without readers, or new. */
static int place_draft(unsigned max_snapshots, struct hk_policy **placed)
{
    struct slot *s;

    *placed = find_equal(&draft);
    if (*placed)
        return 0;
    s = find_quiet();
    if (s)
        hk_count_add(&policies.stats.nr_reused, 1);
    else if (max_snapshots && policies.stats.nr_snapshots >= max_snapshots)
        return EAGAIN;
    else
        s = make_slot();
    if (!s)
        return ENOMEM;
    memcpy(&s->policy, &draft, sizeof s->policy); /* gaps too: snapshots are compared */
    *placed = &s->policy;
    return 0;
}

static void set_retired(const struct hk_policy *policy, uint64_t epoch)
{
    if (policy != &hk_policy_builtin)
        ((struct slot *)policy)->retired = epoch;
}

static void move_to(struct hk_policy *policy)
{
    const struct hk_policy *before = hk_load_relaxed(&hk_policy_current); /* under the lock: ours */
    uint64_t epoch = policies.epoch + 1;

    if (policy == before)
        return;
    set_retired(policy, 0);
    hk_store_release(&hk_policy_current, policy); /* P1 release, pairs with P2: publishes the fields */
    hk_store_release(&policies.epoch, epoch); /* E1 release, pairs with E2: the pointer has moved */
    set_retired(before, epoch);
    hk_count_add(&policies.stats.nr_published, 1);
}

int hk_policy_update(hk_policy_change_fn change, void *arg, unsigned max_snapshots)
{
    struct hk_policy *placed;
    int error;

    hk_lock(&hk_policy_lock);
    memcpy(&draft, hk_policy(), sizeof draft);
    change(&draft, arg);
    error = place_draft(max_snapshots, &placed);
    if (error == 0)
        move_to(placed);
    if (error == EAGAIN)
        hk_count_add(&policies.stats.nr_refused, 1);
    hk_unlock(&hk_policy_lock);
    return error;
}

static void copy(struct hk_policy *policy, void *arg)
{
    memcpy(policy, arg, sizeof *policy);
}

int hk_policy_publish(const struct hk_policy *policy)
{
    return hk_policy_update(copy, (void *)policy, 0);
}

void hk_policy_fork_child(bool stranger)
{
    hk_store_relaxed(&policies.nr_strangers, stranger); /* alone */
}

/* The pointer tells: whatever else is current was about to be, or is no more. */
void hk_policy_forget(void)
{
    const struct hk_policy *current = hk_load_relaxed(&hk_policy_current); /* alone */
    size_t nr = 0;

    for (struct slot *s = policies.slots; s; s = s->next, nr++)
        if (&s->policy == current)
            s->retired = 0;
        else if (s->retired == 0)
            s->retired = policies.epoch;
    hk_store_relaxed(&policies.stats.nr_snapshots, nr);
}

/* ---- looks --------------------------------------------------------------------------------- */

void hk_policy_stats(struct hk_policy_stats *out)
{
    out->nr_published = hk_load_relaxed(&policies.stats.nr_published);
    out->nr_reused = hk_load_relaxed(&policies.stats.nr_reused);
    out->nr_refused = hk_load_relaxed(&policies.stats.nr_refused);
    out->nr_snapshots = hk_load_relaxed(&policies.stats.nr_snapshots);
}

void hk_policy_check(void)
{
    size_t nr = 0, nr_current = hk_policy_current == &hk_policy_builtin;

    hk_lock(&hk_policy_lock);
    for (struct slot *s = policies.slots; s; s = s->next, nr++) {
        nr_current += &s->policy == hk_policy_current;
        if ((s->retired == 0) != (&s->policy == hk_policy_current) || s->retired > policies.epoch)
            hk_panic_internal("policy: retired snapshot", s);
    }
    if (nr != policies.stats.nr_snapshots || nr_current != 1)
        hk_panic_internal("policy: snapshots", &policies);
    hk_unlock(&hk_policy_lock);
}
