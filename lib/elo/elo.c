// SPDX-License-Identifier: MIT
#include "elo/elo.h"

#include "base/fixed.h"

#define LOG2_10_BY_400 544 /* log2(10) / 400 * 65536, rounded */
#define LOG2_E 94548       /* log2(e) * 65536 */
#define FURTHEST (800 * 65536) /* beyond that the stronger one always wins */

/* Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t next_random(struct hk_elo *elo)
{
    uint64_t x = elo->random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void hk_elo_init(struct hk_elo *elo, uint64_t seed, unsigned temperature)
{
    *elo = (struct hk_elo){.temperature = temperature ? temperature : 1, .random = seed};
    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        elo->rating[s] = HK_ELO_START * 65536;
}

void hk_elo_be_greedy(struct hk_elo *elo, uint32_t epsilon)
{
    elo->greedy = true;
    elo->epsilon = epsilon;
}

unsigned hk_elo_best(const struct hk_elo *elo)
{
    unsigned best = 0;

    for (unsigned s = 1; s < HK_ELO_STRATEGIES; s++)
        if (elo->rating[s] > elo->rating[best])
            best = s;
    return best;
}

/* e^((rating - best) / temperature), at most 1. */
static uint32_t weight(const struct hk_elo *elo, unsigned strategy)
{
    int64_t behind = (int64_t)elo->rating[strategy] - elo->rating[hk_elo_best(elo)];
    int64_t x = behind / (int64_t)elo->temperature * LOG2_E / 65536;

    return x < -17 * 65536 ? 0 : hk_fixed_exp2((int32_t)x);
}

static uint64_t sum_of_weights(const struct hk_elo *elo)
{
    uint64_t sum = 0;

    for (unsigned s = 0; s < HK_ELO_STRATEGIES; s++)
        sum += weight(elo, s);
    return sum;
}

uint32_t hk_elo_share(const struct hk_elo *elo, unsigned strategy)
{
    return (uint32_t)((uint64_t)weight(elo, strategy) * HK_FIXED_ONE / sum_of_weights(elo));
}

unsigned hk_elo_choose(struct hk_elo *elo)
{
    uint64_t random = next_random(elo);
    uint64_t at = (random >> 32) * sum_of_weights(elo) >> 32;
    unsigned s = 0;

    if (elo->greedy)
        return (random & 0xffff) < elo->epsilon ? (unsigned)((random >> 32) % HK_ELO_STRATEGIES)
                                                : hk_elo_best(elo);
    while (s + 1 < HK_ELO_STRATEGIES && at >= weight(elo, s)) {
        at -= weight(elo, s);
        s++;
    }
    return s;
}

/* Share of 65536. */
static uint32_t expected_score(int64_t mine, int64_t theirs)
{
    int64_t ahead = theirs - mine;
    uint32_t odds;

    ahead = ahead > FURTHEST ? FURTHEST : ahead < -FURTHEST ? -FURTHEST : ahead;
    odds = hk_fixed_exp2((int32_t)(ahead * LOG2_10_BY_400 / 65536));
    return (uint32_t)(((uint64_t)HK_FIXED_ONE << HK_FIXED_SHIFT) / (HK_FIXED_ONE + (uint64_t)odds));
}

void hk_elo_note(struct hk_elo *elo, unsigned a, unsigned b, enum hk_elo_result result)
{
    int32_t score = (int32_t)result * 32768;
    int32_t change = HK_ELO_K * (score - (int32_t)expected_score(elo->rating[a], elo->rating[b]));

    if (a == b)
        return;
    elo->rating[a] += change;
    elo->rating[b] -= change;
}

int hk_elo_rating(const struct hk_elo *elo, unsigned strategy)
{
    return elo->rating[strategy] >> 16;
}
