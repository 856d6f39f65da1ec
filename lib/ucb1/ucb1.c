// SPDX-License-Identifier: MIT
#include "ucb1/ucb1.h"

#include "base/fixed.h"
#include "base/panic.h"

#include <string.h>

void hk_ucb1_init(struct hk_ucb1 *u, unsigned nr_arms, unsigned incumbent)
{
    memset(u, 0, sizeof *u);
    u->nr_arms = (uint8_t)nr_arms;
    u->incumbent = u->rival = (uint8_t)incumbent;
}

void hk_ucb1_restart(struct hk_ucb1 *u, unsigned incumbent)
{
    hk_ucb1_init(u, u->nr_arms, incumbent);
}

uint32_t hk_ucb1_mean(const struct hk_ucb1 *u, unsigned arm)
{
    return u->n[arm] ? (uint32_t)(u->sum[arm] / u->n[arm]) : 0;
}

uint32_t hk_ucb1_bonus(unsigned nr_trials, unsigned n)
{
    return hk_fixed_sqrt(2 * hk_fixed_ln(nr_trials > 1 ? nr_trials : 1) / n);
}

static unsigned first_near(const struct hk_ucb1 *u)
{
    return u->incumbent ? u->incumbent - 1u : 0;
}

static unsigned last_near(const struct hk_ucb1 *u)
{
    return u->incumbent + 1u < u->nr_arms ? u->incumbent + 1u : u->incumbent;
}

static uint32_t dearest(const struct hk_ucb1 *u)
{
    uint32_t most = 1;

    for (unsigned a = first_near(u); a <= last_near(u); a++)
        if (hk_ucb1_mean(u, a) > most)
            most = hk_ucb1_mean(u, a);
    return most;
}

/* Twice as dear as the incumbent: a third trial will not make it the better one. */
static bool is_out(const struct hk_ucb1 *u, unsigned arm)
{
    return u->n[arm] >= 2 && u->n[u->incumbent] &&
           hk_ucb1_mean(u, arm) > 2 * (uint64_t)hk_ucb1_mean(u, u->incumbent) + u->least;
}

unsigned hk_ucb1_choose(const struct hk_ucb1 *u)
{
    uint32_t most = dearest(u), best_index = 0;
    unsigned best = u->incumbent;

    if (u->n[best] == 0)
        return best;
    for (unsigned a = first_near(u); a <= last_near(u); a++) {
        uint32_t gain, index;
        if (u->n[a] == 0)
            return a;
        if (is_out(u, a))
            continue;
        gain = (uint32_t)((uint64_t)(most - hk_ucb1_mean(u, a)) * HK_FIXED_ONE / most);
        index = gain + hk_ucb1_bonus(u->nr_trials, u->n[a]);
        if (index > best_index) {
            best_index = index;
            best = a;
        }
    }
    return best;
}

static void forget_oldest(struct hk_ucb1 *u)
{
    unsigned arm = u->arm_of[u->next];

    u->n[arm]--;
    u->sum[arm] -= u->cost_of[u->next];
    u->nr_trials--;
}

static void remember(struct hk_ucb1 *u, unsigned arm, uint32_t cost)
{
    if (u->nr_trials == HK_UCB1_WINDOW)
        forget_oldest(u);
    u->arm_of[u->next] = (uint8_t)arm;
    u->cost_of[u->next] = cost;
    u->next = (uint8_t)((u->next + 1) % HK_UCB1_WINDOW);
    u->nr_trials++;
    u->n[arm]++;
    u->sum[arm] += cost;
}

/* Is this trial of another arm a win over what the incumbent costs on the average? */
static bool beats_incumbent(const struct hk_ucb1 *u, uint32_t cost, uint32_t least)
{
    uint64_t mean = hk_ucb1_mean(u, u->incumbent);

    return u->n[u->incumbent] && (uint64_t)cost * 100 <= mean * (100 - HK_UCB1_HYSTERESIS_PERCENT) &&
           cost + (uint64_t)least <= mean;
}

bool hk_ucb1_note(struct hk_ucb1 *u, unsigned arm, uint32_t cost, uint32_t least)
{
    remember(u, arm, cost);
    u->least = least;
    if (arm == u->incumbent)
        return false;
    if (!beats_incumbent(u, cost, least)) {
        if (arm == u->rival)
            u->wins = 0;
        return false;
    }
    u->wins = arm == u->rival ? (uint8_t)(u->wins + 1) : 1;
    u->rival = (uint8_t)arm;
    if (u->wins < HK_UCB1_WINS)
        return false;
    u->incumbent = (uint8_t)arm;
    u->wins = 0;
    return true;
}

bool hk_ucb1_is_settled(const struct hk_ucb1 *u, unsigned times)
{
    for (unsigned a = first_near(u); a <= last_near(u); a++)
        if (u->n[a] < times && !is_out(u, a))
            return false;
    return u->wins == 0;
}

void hk_ucb1_check(const struct hk_ucb1 *u)
{
    uint64_t sum[HK_UCB1_ARMS] = {0};
    unsigned n[HK_UCB1_ARMS] = {0}, first = (u->next + HK_UCB1_WINDOW - u->nr_trials) % HK_UCB1_WINDOW;

    for (unsigned i = 0; i < u->nr_trials; i++) {
        unsigned at = (first + i) % HK_UCB1_WINDOW;
        n[u->arm_of[at]]++;
        sum[u->arm_of[at]] += u->cost_of[at];
    }
    for (unsigned a = 0; a < HK_UCB1_ARMS; a++)
        if (n[a] != u->n[a] || sum[a] != u->sum[a])
            hk_panic_internal("ucb1: window", u);
    if (u->incumbent >= u->nr_arms || u->wins >= HK_UCB1_WINS)
        hk_panic_internal("ucb1: incumbent", u);
}
