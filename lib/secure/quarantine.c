// SPDX-License-Identifier: MIT
/*
 * quarantine: where freed blocks rest. A ring of slots per shard and kind of size; a block that comes in takes the
 * next slot and sends on who was there, so the last 512 small, 16 medium and 4 large ones of a shard rest; and 16 that
 * nobody had, because they lie at the start of their slab. No lock: a
 * slot changes hands by exchange, and whoever was handed a block alone has it.
 */
#include "secure/secure_private.h"

#define NR_SHARDS 8 /* by heap */
#define NR_SMALL 512
#define NR_MEDIUM 16
#define NR_LARGE 4
#define SMALL_MAX HK_KIB
#define MEDIUM_MAX (64 * HK_KIB)
#define LARGE_MAX (HK_MIB + HK_GRANULE) /* usable bytes of what holds 1 MiB and its colour */
#define NR_EXPOSED 16
#define SHARD_SLOTS (NR_SMALL + NR_MEDIUM + NR_LARGE + NR_EXPOSED)

struct shard {
    uint32_t next[4]; /* relaxed; of each ring. Two threads may come to the same slot: then a block rests a little less */
    void *slot[SHARD_SLOTS]; /* by exchange alone */
} __attribute__((aligned(HK_CACHE_LINE)));

static HK_LARGE_BSS struct shard shards[NR_SHARDS];
static struct hk_secure_counters counters;

const struct hk_secure_counters *hk_secure_counters(void)
{
    return &counters;
}

void hk_quarantine_count(size_t bytes, size_t nr)
{
    hk_add_relaxed(&counters.resting_bytes, bytes);
    hk_add_relaxed(&counters.nr_resting, nr);
}

static uint32_t next_of(uint32_t *next)
{
    uint32_t at = hk_load_relaxed(next);

    hk_store_relaxed(next, at + 1);
    return at;
}

void **hk_quarantine_place(unsigned heap, size_t usable)
{
    struct shard *shard = &shards[heap % NR_SHARDS];

    if (usable > LARGE_MAX)
        return NULL;
    if (usable <= SMALL_MAX)
        return &shard->slot[next_of(&shard->next[0]) % NR_SMALL];
    if (usable <= MEDIUM_MAX)
        return &shard->slot[NR_SMALL + next_of(&shard->next[1]) % NR_MEDIUM];
    return &shard->slot[NR_SMALL + NR_MEDIUM + next_of(&shard->next[2]) % NR_LARGE];
}

void **hk_quarantine_place_exposed(unsigned heap)
{
    struct shard *shard = &shards[heap % NR_SHARDS];

    return &shard->slot[NR_SMALL + NR_MEDIUM + NR_LARGE + next_of(&shard->next[3]) % NR_EXPOSED];
}

void *hk_quarantine_take(unsigned *next)
{
    for (; *next < NR_SHARDS * SHARD_SLOTS; ++*next) {
        void **slot = &shards[*next / SHARD_SLOTS].slot[*next % SHARD_SLOTS];
        void *p = hk_load_relaxed(slot) ? hk_exchange_acq_rel(slot, NULL) : NULL; /* QA1 acq_rel, pairs with QA1 */
        if (p)
            return p;
    }
    return NULL;
}
