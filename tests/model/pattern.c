// SPDX-License-Identifier: MIT
//
// Contents. Word i of a block holds id' + i * odd, with id' = mix(id); what remains of the last
// word holds bytes of it. Small blocks carry the pattern everywhere, larger ones at the head, at
// the tail and at a few places drawn from the id, so that an operation costs a bounded time. `full`
// blocks of any size carry it everywhere.
#include "model.h"

#include <string.h>

#define STEP             0x9e3779b97f4a7c15u
#define EVERYWHERE_BYTES 512
#define EDGE_WORDS       8
#define SAMPLES          4

static uint64_t word_at(uint64_t seed, size_t i)
{
    return seed + (uint64_t)i * STEP;
}

static void fill_words(unsigned char *p, uint64_t seed, size_t from, size_t to)
{
    uint64_t value = word_at(seed, from);

    for (size_t i = from; i < to; i++, value += STEP)
        memcpy(p + i * 8, &value, 8);
}

// Returns the index of the first word that differs, or `to`.
static size_t compare_words(const unsigned char *p, uint64_t seed, size_t from, size_t to)
{
    uint64_t value = word_at(seed, from);

    for (size_t i = from; i < to; i++, value += STEP) {
        uint64_t seen;
        memcpy(&seen, p + i * 8, 8);
        if (seen != value)
            return i;
    }
    return to;
}

static bool everywhere(const struct block *b)
{
    return b->usable <= EVERYWHERE_BYTES || b->full;
}

// 0 .. n - 1 (Lemire 2019, without the rejection: a bias of n / 2^32 is no matter here).
static size_t scaled(uint64_t random, size_t n)
{
    return (uint64_t)n >> 32 ? (size_t)(random % n) : (size_t)((random >> 32) * n >> 32);
}

static size_t sample_word(const struct block *b, unsigned k, size_t words)
{
    return scaled(mix(b->id + k + 1), words);
}

void pattern_fill(const struct block *b)
{
    uint64_t seed = mix(b->id);
    size_t words = b->usable / 8;

    if (everywhere(b)) {
        fill_words(b->ptr, seed, 0, words);
    } else {
        fill_words(b->ptr, seed, 0, EDGE_WORDS);
        fill_words(b->ptr, seed, words - EDGE_WORDS, words);
        for (unsigned k = 0; k < SAMPLES; k++) {
            size_t i = sample_word(b, k, words);
            fill_words(b->ptr, seed, i, i + 1);
        }
    }
    uint64_t tail = word_at(seed, words);
    memcpy(b->ptr + words * 8, &tail, b->usable & 7);
}

static bool range_is_good(const struct block *b, size_t from, size_t to, size_t valid, size_t *bad)
{
    if (to > valid / 8)
        to = valid / 8;
    if (from >= to)
        return true;
    *bad = compare_words(b->ptr, mix(b->id), from, to);
    return *bad == to;
}

static bool words_are_good(const struct block *b, size_t valid, size_t *bad)
{
    size_t words = b->usable / 8;

    if (everywhere(b))
        return range_is_good(b, 0, words, valid, bad);
    if (!range_is_good(b, 0, EDGE_WORDS, valid, bad) ||
        !range_is_good(b, words - EDGE_WORDS, words, valid, bad))
        return false;
    for (unsigned k = 0; k < SAMPLES; k++) {
        size_t i = sample_word(b, k, words);
        if (!range_is_good(b, i, i + 1, valid, bad))
            return false;
    }
    return true;
}

// Checks the first `valid` bytes of a block that pattern_fill has written. False: byte `*at`
// differs.
bool pattern_check(const struct block *b, size_t valid, size_t *at, uint64_t *expected,
                   uint64_t *actual)
{
    uint64_t seed = mix(b->id);
    size_t bad = 0;

    *expected = *actual = 0;
    if (!words_are_good(b, valid, &bad)) {
        *at = bad * 8;
        *expected = word_at(seed, bad);
        memcpy(actual, b->ptr + bad * 8, 8);
        return false;
    }
    size_t words = b->usable / 8;
    size_t tail_end = valid < b->usable ? valid : b->usable;
    uint64_t tail = word_at(seed, words);
    for (size_t i = words * 8; i < tail_end; i++) {
        unsigned char want = ((const unsigned char *)&tail)[i & 7];
        if (b->ptr[i] != want) {
            *at = i;
            *expected = want;
            *actual = b->ptr[i];
            return false;
        }
    }
    return true;
}

static bool range_is_zero(const unsigned char *p, size_t from, size_t to, size_t *at)
{
    size_t i = from;
    uint64_t any = 0;

    for (; i + 64 <= to && any == 0; i += 64) {
        uint64_t w[8];
        memcpy(w, p + i, 64);
        any = w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7];
    }
    if (any != 0)
        i -= 64;
    for (; i < to; i++)
        if (p[i] != 0) {
            *at = i;
            return false;
        }
    return true;
}

// Small requests are read whole; larger ones whole now and then, else at both ends and at 16
// places.
bool zero_check(const unsigned char *p, size_t size, uint64_t random, size_t *at)
{
    unsigned one_in = size <= 65536 ? 8 : 64;

    if (size <= 4096 || random % one_in == 0)
        return range_is_zero(p, 0, size, at);
    if (!range_is_zero(p, 0, 256, at) || !range_is_zero(p, size - 256, size, at))
        return false;
    for (unsigned k = 0; k < 16; k++) {
        size_t i = scaled(mix(random + k), size - 64);
        if (!range_is_zero(p, i, i + 64, at))
            return false;
    }
    return true;
}
