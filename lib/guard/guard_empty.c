// SPDX-License-Identifier: MIT
/* guard_empty: blocks of no size. A bit each: 1 is live. */
#include "guard/guard_private.h"

#define UNIT 16
#define NR_WORDS 1024
#define MAX_TRIES 16 /* words looked at: a program that keeps tens of thousands of them gets blocks of memory instead */
#define EMPTY_BYTES ((size_t)NR_WORDS * 64 * UNIT)

static HK_LARGE_BSS uint64_t live[NR_WORDS]; /* relaxed: the bit is the block's whole state */
static struct hk_guard_region region = {.word = HK_PM_EMPTY};
static uint32_t next_word; /* relaxed: where to look; one further each time */

/* -1: the word is full. */
static int take_bit(uint64_t *word)
{
    uint64_t seen = hk_load_relaxed(word);

    while (~seen) {
        int bit = __builtin_ctzll(~seen);
        if (hk_cas_relaxed(word, &seen, seen | UINT64_C(1) << bit))
            return bit;
    }
    return -1;
}

void *hk_guard_alloc_empty(void)
{
    if (!hk_guard_have_region(&region, EMPTY_BYTES))
        return NULL;
    for (unsigned first = hk_add_relaxed(&next_word, 1), tries = 0; tries < MAX_TRIES; tries++) {
        size_t w = (first + tries) % NR_WORDS;
        int bit = take_bit(&live[w]);
        if (bit >= 0)
            return region.base + (w * 64 + (size_t)bit) * UNIT;
    }
    return NULL;
}

static uint64_t *word_of(const void *p, uint64_t *bit)
{
    size_t i = (size_t)((const char *)p - region.base) / UNIT;

    *bit = UINT64_C(1) << i % 64;
    return &live[i / 64];
}

bool hk_guard_empty_is_live(const void *p)
{
    uint64_t bit, *word = word_of(p, &bit);

    return hk_load_relaxed(word) & bit;
}

bool hk_guard_free_empty(const void *p)
{
    uint64_t bit, *word = word_of(p, &bit), seen = hk_load_relaxed(word);

    while (seen & bit)
        if (hk_cas_relaxed(word, &seen, seen & ~bit))
            return true;
    return false;
}

void hk_guard_empty_fork_child(void)
{
    hk_guard_region_fork_child(&region);
}
