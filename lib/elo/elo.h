// SPDX-License-Identifier: MIT
/*
 * elo: six strategies, rated by the duels they win (Elo, "The Rating of Chessplayers", 1978), and a choice
 * among them that favours the strong: softmax with a temperature, or epsilon-greedy.
 *
 *   expected score   1 / (1 + 10^((theirs - mine) / 400))
 *   after a duel     mine += K (score - expected)
 *
 * Ratings are integers with 16 bits behind the point; their sum is kept. No bound on regret is known for this
 * choice; it stands beside ucb1 and is measured by the same yardstick.
 *
 * Owner, threads: whoever holds the struct; one at a time. No lock. Failure: none.
 * The same seed and results give the same choices.
 */
#ifndef HK_ELO_H
#define HK_ELO_H

#include "base/base.h"

#define HK_ELO_STRATEGIES 6
#define HK_ELO_START 1500
#define HK_ELO_K 32

enum hk_elo_result { HK_ELO_LOSS, HK_ELO_DRAW, HK_ELO_WIN };

struct hk_elo {
    int32_t rating[HK_ELO_STRATEGIES]; /* << 16 */
    uint32_t temperature;    /* rating points: so much less divides the odds by e; >= 1 */
    uint32_t epsilon;        /* of 65536: share of blind choices; 0 with softmax */
    bool greedy;             /* epsilon-greedy instead of softmax */
    uint64_t random;         /* state of the stream */
};

void hk_elo_init(struct hk_elo *elo, uint64_t seed, unsigned temperature);
/* From now on the best, but one choice in 65536 / epsilon at random. */
void hk_elo_be_greedy(struct hk_elo *elo, uint32_t epsilon);
unsigned hk_elo_choose(struct hk_elo *elo);
/* a against b, as a sees it. */
void hk_elo_note(struct hk_elo *elo, unsigned a, unsigned b, enum hk_elo_result result);
unsigned hk_elo_best(const struct hk_elo *elo);
/* Rating without its fraction. */
int hk_elo_rating(const struct hk_elo *elo, unsigned strategy);
/* Share of 65536 with which softmax would choose it. */
uint32_t hk_elo_share(const struct hk_elo *elo, unsigned strategy);

#endif
