// SPDX-License-Identifier: MIT
#include "evo/evo.h"

#include <string.h>

#define FOLLOW_SHIFT 3 /* a context's signature moves by 1/8 of the way to each window's */

static struct hk_evo_context *here(struct hk_evo *evo)
{
    return &evo->context[evo->current];
}

enum hk_evo_state hk_evo_state(const struct hk_evo *evo)
{
    return (enum hk_evo_state)evo->context[evo->current].state;
}

static void enter(struct hk_evo_context *c, enum hk_evo_state state, uint64_t now_ns)
{
    c->state = (uint8_t)state;
    c->since_ns = now_ns;
    c->spent_ns = 0;
    c->last_p99 = 0;
    hk_p2_init(&c->p99, 9900);
}

void hk_evo_init(struct hk_evo *evo, const struct hk_evo_options *options)
{
    memset(evo, 0, sizeof *evo);
    evo->options = *options;
    evo->nr_contexts = 1;
    enter(here(evo), options->start, 0);
}

/* ---- signatures ---------------------------------------------------------------------------- */

uint32_t hk_evo_distance(const uint32_t a[HK_EVO_BUCKETS], const uint32_t b[HK_EVO_BUCKETS])
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < HK_EVO_BUCKETS; i++)
        sum += a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
    return sum / 2;
}

/* False: too few events. */
static bool distribution(const struct hk_evo *evo, const uint32_t events[], uint32_t out[])
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < HK_EVO_BUCKETS; i++)
        sum += events[i];
    if (sum == 0 || sum < evo->options.min_samples)
        return false;
    for (unsigned i = 0; i < HK_EVO_BUCKETS; i++)
        out[i] = (uint32_t)(((uint64_t)events[i] << 16) / sum);
    return true;
}

static bool has_signature(const struct hk_evo_context *c)
{
    uint32_t any = 0;

    for (unsigned i = 0; i < HK_EVO_BUCKETS; i++)
        any |= c->signature[i];
    return any != 0;
}

static void follow(struct hk_evo_context *c, const uint32_t seen[])
{
    for (unsigned i = 0; i < HK_EVO_BUCKETS; i++)
        c->signature[i] += (uint32_t)((int32_t)(seen[i] - c->signature[i]) / (1 << FOLLOW_SHIFT));
}

/* ---- contexts ------------------------------------------------------------------------------ */

/* The nearest context within reach, or HK_EVO_CONTEXTS. */
static unsigned find(const struct hk_evo *evo, const uint32_t seen[])
{
    uint32_t nearest = HK_EVO_SHIFT;
    unsigned found = HK_EVO_CONTEXTS;

    for (unsigned i = 0; i < evo->nr_contexts; i++) {
        uint32_t far = hk_evo_distance(evo->context[i].signature, seen);
        if (has_signature(&evo->context[i]) && far < nearest) {
            nearest = far;
            found = i;
        }
    }
    return found;
}

static unsigned longest_unused(const struct hk_evo *evo)
{
    unsigned oldest = 0;

    for (unsigned i = 1; i < evo->nr_contexts; i++)
        if (evo->context[i].used_ns < evo->context[oldest].used_ns)
            oldest = i;
    return oldest;
}

static void leave(struct hk_evo *evo)
{
    struct hk_evo_context *c = here(evo);

    if (c->since_ns)
        c->spent_ns += c->used_ns - c->since_ns;
    c->since_ns = 0;
}

static enum hk_evo_event shift(struct hk_evo *evo, uint64_t now_ns, const uint32_t seen[])
{
    unsigned known = find(evo, seen);

    leave(evo);
    evo->nr_strange = 0;
    evo->nr_shifts++;
    if (known < HK_EVO_CONTEXTS) {
        evo->current = known;
        here(evo)->since_ns = here(evo)->used_ns = now_ns;
        evo->nr_recalled++;
        return HK_EVO_RECALLED;
    }
    evo->current = evo->nr_contexts < HK_EVO_CONTEXTS ? evo->nr_contexts++ : longest_unused(evo);
    memset(here(evo), 0, sizeof *here(evo));
    enter(here(evo), evo->options.learns ? HK_EVO_LEARN : HK_EVO_CANARY, now_ns);
    memcpy(here(evo)->signature, seen, sizeof here(evo)->signature);
    here(evo)->used_ns = now_ns;
    return HK_EVO_NEW_CONTEXT;
}

enum hk_evo_event hk_evo_look(struct hk_evo *evo, uint64_t now_ns, const uint32_t events[HK_EVO_BUCKETS])
{
    struct hk_evo_context *c = here(evo);
    uint32_t seen[HK_EVO_BUCKETS], far;

    if (c->since_ns == 0)
        c->since_ns = now_ns;
    if (!distribution(evo, events, seen))
        return HK_EVO_NOTHING;
    if (!has_signature(c))
        memcpy(c->signature, seen, sizeof c->signature);
    far = hk_evo_distance(c->signature, seen);
    if (far >= HK_EVO_SHIFT && (++evo->nr_strange >= 2 || far >= 2 * HK_EVO_SHIFT))
        return shift(evo, now_ns, seen);
    if (far >= HK_EVO_SHIFT)
        return HK_EVO_NOTHING;
    evo->nr_strange = 0;
    c->used_ns = now_ns;
    follow(c, seen);
    return HK_EVO_NOTHING;
}

/* ---- states -------------------------------------------------------------------------------- */

static bool is_calm(struct hk_evo_context *c)
{
    uint64_t p99 = hk_p2_get(&c->p99), last = c->last_p99;
    uint64_t moved = p99 > last ? p99 - last : last - p99;

    c->last_p99 = p99;
    return last && moved <= p99 / 8;
}

static bool is_overdue(const struct hk_evo *evo, const struct hk_evo_context *c, uint64_t now_ns)
{
    return c->since_ns && now_ns - c->since_ns + c->spent_ns >= evo->options.freeze_ns;
}

enum hk_evo_event hk_evo_judge(struct hk_evo *evo, uint64_t now_ns, uint64_t cost, bool settled)
{
    struct hk_evo_context *c = here(evo);
    bool calm;

    if (c->state == HK_EVO_FROZEN || c->state == HK_EVO_OFF)
        return HK_EVO_NOTHING;
    hk_p2_add(&c->p99, cost + 1);
    calm = settled && is_calm(c);
    if (!calm && !is_overdue(evo, c, now_ns))
        return HK_EVO_NOTHING;
    enter(c, HK_EVO_FROZEN, now_ns);
    evo->nr_frozen++;
    return HK_EVO_SETTLED;
}

void hk_evo_revert(struct hk_evo *evo, uint64_t now_ns)
{
    if (here(evo)->state != HK_EVO_CANARY)
        return;
    enter(here(evo), HK_EVO_FROZEN, now_ns);
    evo->nr_reverted++;
}

static void set_all(struct hk_evo *evo, enum hk_evo_state state)
{
    for (unsigned i = 0; i < evo->nr_contexts; i++)
        enter(&evo->context[i], state, 0);
}

void hk_evo_freeze(struct hk_evo *evo)
{
    set_all(evo, HK_EVO_FROZEN);
    evo->options.learns = false;
    evo->options.freeze_ns = 0; /* an unknown context's CANARY ends with its first window */
}

void hk_evo_learn(struct hk_evo *evo)
{
    set_all(evo, HK_EVO_LEARN);
    evo->options.learns = true;
}
