// SPDX-License-Identifier: MIT
/* trailer: the 16 bytes at the end of a block, and the canary. */
#include "secure/secure_private.h"

#include "config/config.h"
#include "os/os.h"

#include <string.h>

#define CANARY_BYTES 128 /* at most: a block's unused rest may be thousands */
#define MARK_BYTES   16  /* of a dead block, in the boxes below */
#define FRONT_BYTES  64  /* at most, before a block */

uint64_t hk_trailer_key;

uint64_t hk_trailer_make_key(void)
{
    uint64_t made = hk_os_random(hk_config.seed + 0x5ec) | 1;

    hk_store_relaxed(&hk_trailer_key, made);
    return made;
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

void hk_mark_fill(void *p, size_t usable, struct hk_trailer mark)
{
    memset(rear(p, usable), canary_of(mark.pad), rear_bytes(usable));
}

void hk_trailer_mark(void *p, size_t usable, uint64_t pad)
{
    struct hk_trailer_words *w = hk_trailer_words(p, usable);
    uint64_t raw = hk_load_acquire(&w->word[0]); /* SE3 acquire, pairs with SE2 */
    struct hk_trailer mark = hk_trailer_read(p, usable, pad);

    if (HK_LIKELY(hk_trailer_state(mark) != HK_TRAILER_NONE))
        return;
    mark = hk_trailer_make(HK_TRAILER_DEAD, HK_ORIGIN_NOBODY, 0, pad);
    hk_store_relaxed(&w->word[1], hk_trailer_seal(pad));
    /* SE2 release, pairs with SE3; fails if it met a trailer */
    if (hk_cas_release(&w->word[0], &raw, hk_trailer_pack(mark)))
        hk_mark_fill(p, usable, mark);
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

void hk_canary_write(void *p, size_t usable, struct hk_trailer trailer)
{
    memset((char *)p + hk_trailer_bytes(trailer), canary_of(trailer.pad), canary_bytes(usable, hk_trailer_bytes(trailer)));
}

const char *hk_canary_find_damage(const void *p, size_t usable, struct hk_trailer trailer)
{
    return find_other((const char *)p + hk_trailer_bytes(trailer), canary_bytes(usable, hk_trailer_bytes(trailer)), canary_of(trailer.pad));
}

const char *hk_mark_find_damage(const void *p, size_t usable, struct hk_trailer mark)
{
    return find_other(rear(p, usable), rear_bytes(usable), canary_of(mark.pad));
}

/* A run's first granule is its own from the start, and its block begins up to 4 KiB further in. */
static size_t front_bytes(const void *p)
{
    return hk_min((uintptr_t)p & (HK_GRANULE - 1), FRONT_BYTES);
}

void hk_front_write(void *p, struct hk_trailer trailer)
{
    size_t bytes = front_bytes(p);

    memset((char *)p - bytes, canary_of(trailer.pad), bytes);
}

const char *hk_front_find_damage(const void *p, struct hk_trailer trailer)
{
    size_t bytes = front_bytes(p);

    return find_other((const char *)p - bytes, bytes, canary_of(trailer.pad));
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

/* Blocks and what is looked at of them are multiples of 16 bytes. */
const char *hk_find_nonzero(void *p, size_t bytes)
{
    uint64_t *w = p, *end = w + bytes / sizeof *w;

    for (; w < end; w += 2) {
        for (; end - w >= 8; w += 8)
            if (HK_UNLIKELY(w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]))
                break;
        if (w == end)
            break;
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
