// SPDX-License-Identifier: MIT
/* trailer: the 16 bytes at the end of a block, and the canary. */
#include "secure/secure_private.h"

#include "config/config.h"
#include "os/os.h"

#include <string.h>

#define CANARY_BYTES 128 /* at most: a block's unused rest may be thousands */
#define MARK_BYTES   16  /* of a dead block, in the boxes below */
#define FRONT_BYTES  64  /* at most, before a block */

/*
 *   word[0] = state in 2 bits | origin in 3 | a checksum of all the others in 11 | bytes in 48, under a pad made of the
 *             block's address, its usable bytes, its slab's serial and the key
 *   word[1] = another function of these four
 *
 * So word[1] stays as it is while the slab does, and all that changes changes by one store: a thread that looks at its
 * neighbour's trailer finds a whole one, whatever the neighbour's owner is just doing.
 */
#define STATE_SHIFT 62
#define ORIGIN_SHIFT 59
#define SUM_SHIFT 48
#define SUM_MASK (UINT64_C(0x7ff) << SUM_SHIFT)
#define ORIGIN_MASK 7
#define BYTES_MASK ((UINT64_C(1) << SUM_SHIFT) - 1)
_Static_assert(HK_NR_ORIGINS <= ORIGIN_MASK && HK_ORIGIN_NOBODY == ORIGIN_MASK, "origins in 3 bits");

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

/* With its checksum, and under no pad. */
static uint64_t pack(const struct hk_trailer *t)
{
    uint64_t said = (uint64_t)t->state << STATE_SHIFT | (uint64_t)t->origin << ORIGIN_SHIFT | t->bytes;

    return said | (mix(said + t->pad) & SUM_MASK);
}

static uint64_t seal(uint64_t pad)
{
    return mix(pad << 1 | 1);
}

static struct hk_trailer unpack(uint64_t packed, uint64_t pad)
{
    return (struct hk_trailer){
        .state = (enum hk_trailer_state)(packed >> STATE_SHIFT),
        .origin = (enum hk_origin)(packed >> ORIGIN_SHIFT & ORIGIN_MASK),
        .bytes = (size_t)(packed & BYTES_MASK),
        .pad = pad,
    };
}

struct hk_trailer hk_trailer_read(const void *p, size_t usable)
{
    const struct words *w = words_of(p, usable);
    /* SE3 acquire, pairs with SE2: who sees the first word of a new trailer sees the second */
    uint64_t pad = hk_trailer_pad(p, usable), packed = hk_load_acquire(&w->word[0]) ^ pad;
    struct hk_trailer t = unpack(packed, pad);

    if (hk_load_relaxed(&w->word[1]) != seal(pad) || packed != pack(&t) || t.bytes > usable - HK_TRAILER_BYTES)
        t.state = HK_TRAILER_NONE;
    return t;
}

void hk_trailer_write(void *p, size_t usable, const struct hk_trailer *trailer)
{
    struct words *w = words_of(p, usable);

    hk_store_relaxed(&w->word[1], seal(trailer->pad));
    hk_store_release(&w->word[0], pack(trailer) ^ trailer->pad); /* SE2 release, pairs with SE3 */
}

bool hk_trailer_advance(void *p, size_t usable, const struct hk_trailer *seen, enum hk_trailer_state next)
{
    struct hk_trailer then = *seen;
    uint64_t expected = pack(seen) ^ seen->pad;

    then.state = next;
    /* SE1 acq_rel, pairs with SE1: of two frees one loses, after what the winner did before */
    return hk_cas_acq_rel(&words_of(p, usable)->word[0], &expected, pack(&then) ^ seen->pad);
}

static uint8_t canary_of(uint64_t pad);

/* Of what is before the trailer and is not the mark of a dead block. */
static size_t rear_bytes(size_t usable)
{
    return hk_min(usable - HK_TRAILER_BYTES - MARK_BYTES, FRONT_BYTES);
}

static char *rear(const void *p, size_t usable)
{
    return (char *)p + usable - HK_TRAILER_BYTES - rear_bytes(usable);
}

void hk_mark_fill(void *p, size_t usable, const struct hk_trailer *mark)
{
    memset(rear(p, usable), canary_of(mark->pad), rear_bytes(usable));
}

void hk_trailer_mark(void *p, size_t usable)
{
    struct words *w = words_of(p, usable);
    uint64_t raw = hk_load_acquire(&w->word[0]); /* SE3 acquire, pairs with SE2 */
    struct hk_trailer mark = hk_trailer_read(p, usable);

    if (mark.state != HK_TRAILER_NONE)
        return;
    mark = (struct hk_trailer){.state = HK_TRAILER_DEAD, .origin = HK_ORIGIN_NOBODY, .pad = mark.pad};
    hk_store_relaxed(&w->word[1], seal(mark.pad));
    /* SE2 release, pairs with SE3; fails if it met a trailer */
    if (hk_cas_release(&w->word[0], &raw, pack(&mark) ^ mark.pad))
        hk_mark_fill(p, usable, &mark);
}

/* ---- canary -------------------------------------------------------------------------------- */

static size_t canary_bytes(size_t usable, size_t bytes)
{
    return hk_min(usable - HK_TRAILER_BYTES - bytes, CANARY_BYTES);
}

/* Never 0, which is what a string's end writes. */
static uint8_t canary_of(uint64_t pad)
{
    return (uint8_t)(pad >> 8 | 0x80);
}

static const char *find_other(const char *at, size_t bytes, uint8_t canary)
{
    const char *end = at + bytes;
    uint64_t word, all = canary * UINT64_C(0x0101010101010101);

    for (; end - at >= (ptrdiff_t)sizeof word; at += sizeof word) {
        memcpy(&word, at, sizeof word);
        if (HK_UNLIKELY(word != all))
            break;
    }
    for (; at < end; at++)
        if (HK_UNLIKELY((uint8_t)*at != canary))
            return at;
    return NULL;
}

void hk_canary_write(void *p, size_t usable, const struct hk_trailer *trailer)
{
    memset((char *)p + trailer->bytes, canary_of(trailer->pad), canary_bytes(usable, trailer->bytes));
}

const char *hk_canary_find_damage(const void *p, size_t usable, const struct hk_trailer *trailer)
{
    return find_other((const char *)p + trailer->bytes, canary_bytes(usable, trailer->bytes), canary_of(trailer->pad));
}

const char *hk_mark_find_damage(const void *p, size_t usable, const struct hk_trailer *mark)
{
    return find_other(rear(p, usable), rear_bytes(usable), canary_of(mark->pad));
}

/* A run's first granule is its own from the start, and its block begins up to 4 KiB further in. */
static size_t front_bytes(const void *p)
{
    return hk_pagemap_word(p) == HK_PM_RUN ? hk_min((uintptr_t)p & (HK_GRANULE - 1), FRONT_BYTES) : 0;
}

void hk_front_write(void *p, const struct hk_trailer *trailer)
{
    size_t bytes = front_bytes(p);

    memset((char *)p - bytes, canary_of(trailer->pad), bytes);
}

const char *hk_front_find_damage(const void *p, const struct hk_trailer *trailer)
{
    size_t bytes = front_bytes(p);

    return find_other((const char *)p - bytes, bytes, canary_of(trailer->pad));
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
