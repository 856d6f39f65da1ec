// SPDX-License-Identifier: MIT
/* trailer: the 16 bytes at the end of a block, and the canary. */
#include "secure/secure_private.h"

#include "config/config.h"
#include "os/os.h"

#include <string.h>

#define CANARY_BYTES 128 /* at most: a block's unused rest may be thousands */

/*
 *   word[0] = state in 2 bits | origin in 6 | bytes in 56, all under a pad made of the trailer's address, its block's and the key
 *   word[1] = another function of these, but for the state
 *
 * While it is written, word[0] has state 0.
 */
struct words {
    uint64_t word[2];
};
_Static_assert(sizeof(struct words) == HK_TRAILER_BYTES, "two words");

static uint64_t key; /* same value whoever writes it first; never 0 */

/* Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014: the output mixer. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static HK_COLD uint64_t make_key(void)
{
    uint64_t made = hk_os_random(hk_config.seed + 0x5ec) | 1;

    hk_store_relaxed(&key, made);
    return made;
}

static uint64_t get_key(void)
{
    uint64_t k = hk_load_relaxed(&key);

    return HK_LIKELY(k) ? k : make_key();
}

static struct words *words_of(const void *p, size_t usable)
{
    return (struct words *)((uintptr_t)p + usable - HK_TRAILER_BYTES);
}

/* Memory of slabs is used again, and not always cleared: a trailer from another slab's time is none. */
static uint32_t serial_of(const void *p)
{
    return hk_pagemap_word(p) >= HK_PM_KINDS ? hk_slab_of(p)->serial : 0;
}

uint64_t hk_trailer_pad(const void *p, size_t usable)
{
    return mix(mix((uintptr_t)p ^ get_key()) + usable + ((uint64_t)serial_of(p) << 32));
}

static uint64_t pack(const struct hk_trailer *t)
{
    return (uint64_t)t->state << 62 | (uint64_t)t->origin << 56 | t->bytes;
}

static uint64_t seal(uint64_t pad, uint64_t packed)
{
    return mix((packed & ~(UINT64_C(3) << 62)) + (pad << 1 | 1));
}

struct hk_trailer hk_trailer_read(const void *p, size_t usable)
{
    const struct words *w = words_of(p, usable);
    uint64_t pad = hk_trailer_pad(p, usable), packed = hk_load_relaxed(&w->word[0]) ^ pad;
    struct hk_trailer t = {
        .state = (enum hk_trailer_state)(packed >> 62),
        .origin = (enum hk_origin)(packed >> 56 & 63),
        .bytes = (size_t)(packed & ((UINT64_C(1) << 56) - 1)),
        .pad = pad,
    };

    if (hk_load_relaxed(&w->word[1]) != seal(pad, packed))
        t.state = HK_TRAILER_NONE;
    return t;
}

static bool is_being_written(uint64_t packed, size_t usable)
{
    uint64_t origin = packed >> 56, bytes = packed & ((UINT64_C(1) << 56) - 1);

    return (origin < HK_NR_ORIGINS || origin == HK_ORIGIN_NOBODY) && bytes <= usable; /* state 0 */
}

/* A round that fails met a whole rewrite between its two loads, for what is half written says so: not eight times. Memory
 * that was never written is the common case of none. */
bool hk_trailer_is_there(const void *p, size_t usable)
{
    const struct words *w = words_of(p, usable);
    uint64_t pad = hk_trailer_pad(p, usable);

    for (unsigned rounds = 0; rounds < 8; rounds++) {
        uint64_t word = hk_load_acquire(&w->word[0]), packed = word ^ pad; /* SE3 acquire, pairs with SE2 */
        uint64_t sealed = hk_load_acquire(&w->word[1]); /* SE3 acquire, pairs with SE2: after it word[0] is as new */
        if (HK_LIKELY(sealed == seal(pad, packed)) || is_being_written(packed, usable))
            return true;
        if (!(word | sealed))
            break;
    }
    return false;
}

void hk_trailer_write(void *p, size_t usable, const struct hk_trailer *trailer)
{
    struct words *w = words_of(p, usable);
    uint64_t pad = trailer->pad, packed = pack(trailer);

    hk_store_relaxed(&w->word[0], (packed & ~(UINT64_C(3) << 62)) ^ pad);
    hk_store_release(&w->word[1], seal(pad, packed)); /* SE2 release, pairs with SE3 */
    hk_store_release(&w->word[0], packed ^ pad);      /* SE2 release, pairs with SE3 */
}

bool hk_trailer_advance(void *p, size_t usable, const struct hk_trailer *seen, enum hk_trailer_state next)
{
    struct hk_trailer then = *seen;
    uint64_t expected = pack(seen) ^ seen->pad;

    then.state = next;
    /* SE1 acq_rel, pairs with SE1: of two frees one loses, after what the winner did before */
    return hk_cas_acq_rel(&words_of(p, usable)->word[0], &expected, pack(&then) ^ seen->pad);
}

/* ---- canary -------------------------------------------------------------------------------- */

static size_t canary_bytes(size_t usable, size_t bytes)
{
    return hk_min(usable - HK_TRAILER_BYTES - bytes, CANARY_BYTES);
}

/* Never 0, which is what a string's end writes. */
static uint8_t canary_of(const struct hk_trailer *trailer)
{
    return (uint8_t)(trailer->pad >> 8 | 0x80);
}

void hk_canary_write(void *p, size_t usable, const struct hk_trailer *trailer)
{
    memset((char *)p + trailer->bytes, canary_of(trailer), canary_bytes(usable, trailer->bytes));
}

const char *hk_canary_find_damage(const void *p, size_t usable, const struct hk_trailer *trailer)
{
    const char *at = (const char *)p + trailer->bytes, *end = at + canary_bytes(usable, trailer->bytes);
    char canary = (char)canary_of(trailer);

    for (; at < end; at++)
        if (HK_UNLIKELY(*at != canary))
            return at;
    return NULL;
}

/* ---- zero ---------------------------------------------------------------------------------- */

static bool is_mark(uint64_t word)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        if (hk_size_class[c].magic == word)
            return true;
    return false;
}

static const char *first_byte(const uint64_t *word)
{
    const char *at = (const char *)word;

    while (!*at)
        at++;
    return at;
}

static bool are_zero(const uint64_t *w)
{
    return !(w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]);
}

const char *hk_find_nonzero(void *p, size_t bytes)
{
    uint64_t *w = p, *end = w + bytes / sizeof *w;

    for (; w < end; w += 2) {
        while (end - w > 8 && are_zero(w))
            w += 8;
        if (HK_LIKELY((w[0] | w[1]) == 0))
            continue;
        if (w[0])
            return first_byte(w);
        if (!is_mark(w[1]))
            return first_byte(w + 1);
        w[1] = 0;
    }
    return NULL;
}
