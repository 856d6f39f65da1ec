// SPDX-License-Identifier: MIT
/* secure_private: for the files of this directory only. */
#ifndef HK_SECURE_PRIVATE_H
#define HK_SECURE_PRIVATE_H

#include "secure/secure.h"

#define HK_TRAILER_BYTES 16
#define HK_CHECKED_MAX (64 * HK_KIB) /* larger blocks are not compared with zero */

/* Origin in the trailer of a block that nobody had yet: a mere mark before its neighbour, the block is not zeroed. */
#define HK_ORIGIN_NOBODY ((enum hk_origin)7)

enum hk_trailer_state { HK_TRAILER_NONE, HK_TRAILER_LIVE, HK_TRAILER_RESTING, HK_TRAILER_DEAD };

/*
 *   word[0] = state in 2 bits | origin in 3 | a checksum of all the others in 11 | bytes in 48, under a pad made of the
 *             block's address, its usable bytes, its slab's serial and the key
 *   word[1] = another function of these four
 *
 * So word[1] stays as it is while the slab does, and all that changes changes by one store: a thread that looks at its
 * neighbour's trailer finds a whole one, whatever the neighbour's owner is just doing.
 */
struct hk_trailer_words {
    uint64_t word[2];
};
_Static_assert(sizeof(struct hk_trailer_words) == HK_TRAILER_BYTES, "two words");

#define HK_TRAILER_STATE_SHIFT 62
#define HK_TRAILER_ORIGIN_SHIFT 59
#define HK_TRAILER_SUM_SHIFT 48
#define HK_TRAILER_ORIGIN_MASK 7
#define HK_TRAILER_SUM_MASK (UINT64_C(0x7ff) << HK_TRAILER_SUM_SHIFT)
#define HK_TRAILER_BYTES_MASK ((UINT64_C(1) << HK_TRAILER_SUM_SHIFT) - 1)
_Static_assert(HK_NR_ORIGINS <= HK_TRAILER_ORIGIN_MASK && HK_ORIGIN_NOBODY == HK_TRAILER_ORIGIN_MASK, "origins in 3 bits");
_Static_assert(HK_TRAILER_NONE == 0, "what says nothing is no trailer");

/* A trailer read, or to be written. */
struct hk_trailer {
    uint64_t said; /* word[0] under no pad and without its checksum; 0: it is no trailer */
    uint64_t pad;  /* hk_trailer_pad's; the same for the block's whole life */
};

HK_INLINE struct hk_trailer hk_trailer_make(enum hk_trailer_state state, enum hk_origin origin, size_t bytes, uint64_t pad)
{
    return (struct hk_trailer){
        (uint64_t)state << HK_TRAILER_STATE_SHIFT | (uint64_t)origin << HK_TRAILER_ORIGIN_SHIFT | bytes, pad};
}

HK_INLINE enum hk_trailer_state hk_trailer_state(struct hk_trailer t)
{
    return (enum hk_trailer_state)(t.said >> HK_TRAILER_STATE_SHIFT);
}

HK_INLINE enum hk_origin hk_trailer_origin(struct hk_trailer t)
{
    return (enum hk_origin)(t.said >> HK_TRAILER_ORIGIN_SHIFT & HK_TRAILER_ORIGIN_MASK);
}

HK_INLINE size_t hk_trailer_bytes(struct hk_trailer t)
{
    return (size_t)(t.said & HK_TRAILER_BYTES_MASK);
}

HK_INLINE struct hk_trailer hk_trailer_in_state(struct hk_trailer t, enum hk_trailer_state state)
{
    return hk_trailer_make(state, hk_trailer_origin(t), hk_trailer_bytes(t), t.pad);
}

/* trailer.c. Same value whoever writes it first; 0: not made yet. */
extern HK_HIDDEN uint64_t hk_trailer_key;
HK_COLD uint64_t hk_trailer_make_key(void);

/* Below, p starts a block with `usable` bytes. Memory of slabs is used again, and not always cleared: the serial makes a
 * trailer from another slab's time none. 0: p lies in no slab. Source: Steele, Lea, Flood, "Fast splittable pseudorandom
 * number generators", 2014, the output mixer. */
HK_INLINE uint64_t hk_trailer_pad(const void *p, size_t usable, uint32_t serial)
{
    uint64_t key = hk_load_relaxed(&hk_trailer_key), x;

    if (HK_UNLIKELY(!key))
        key = hk_trailer_make_key();
    x = ((uintptr_t)p ^ key) + usable + ((uint64_t)serial << 32);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

HK_INLINE struct hk_trailer_words *hk_trailer_words(const void *p, size_t usable)
{
    return (struct hk_trailer_words *)((uintptr_t)p + usable - HK_TRAILER_BYTES);
}

/* As word[0]. The multiplier is odd, so every bit of what is summed reaches the top. */
HK_INLINE uint64_t hk_trailer_pack(struct hk_trailer t)
{
    uint64_t sum = (t.said + t.pad) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - 11);

    return (t.said | sum << HK_TRAILER_SUM_SHIFT) ^ t.pad;
}

HK_INLINE uint64_t hk_trailer_seal(uint64_t pad)
{
    return (pad ^ UINT64_C(0x5ec5ec5ec5ec5ec5)) * UINT64_C(0xd6e8feb86659fd93);
}

HK_INLINE struct hk_trailer hk_trailer_read(const void *p, size_t usable, uint64_t pad)
{
    const struct hk_trailer_words *w = hk_trailer_words(p, usable);
    /* SE3 acquire, pairs with SE2: who sees the first word of a new trailer sees the second */
    uint64_t word = hk_load_acquire(&w->word[0]);
    struct hk_trailer t = {(word ^ pad) & ~HK_TRAILER_SUM_MASK, pad};

    if (HK_UNLIKELY(hk_load_relaxed(&w->word[1]) != hk_trailer_seal(pad) || word != hk_trailer_pack(t) ||
                    hk_trailer_bytes(t) > usable - HK_TRAILER_BYTES))
        t.said = 0;
    return t;
}

HK_INLINE void hk_trailer_write(void *p, size_t usable, struct hk_trailer trailer)
{
    struct hk_trailer_words *w = hk_trailer_words(p, usable);

    hk_store_relaxed(&w->word[1], hk_trailer_seal(trailer.pad));
    hk_store_release(&w->word[0], hk_trailer_pack(trailer)); /* SE2 release, pairs with SE3 */
}

/* The same of one that is there already. */
HK_INLINE void hk_trailer_rewrite(void *p, size_t usable, struct hk_trailer trailer)
{
    hk_store_release(&hk_trailer_words(p, usable)->word[0], hk_trailer_pack(trailer)); /* SE2 release, pairs with SE3 */
}

/* False: it says something else by now. */
HK_INLINE bool hk_trailer_advance(void *p, size_t usable, struct hk_trailer seen, enum hk_trailer_state next)
{
    struct hk_trailer_words *w = hk_trailer_words(p, usable);
    uint64_t expected = hk_trailer_pack(seen), then = hk_trailer_pack(hk_trailer_in_state(seen, next));

    if (hk_is_single_threaded() && hk_load_relaxed(&w->word[0]) == expected) {
        hk_store_relaxed(&w->word[0], then);
        return true;
    }
    /* SE1 acq_rel, pairs with SE1: of two frees one loses, after what the winner did before */
    return hk_cas_acq_rel(&w->word[0], &expected, then);
}

/* trailer.c. If it has none: that of a dead block that nobody had. Another's write at the same time stays. */
void hk_trailer_mark(void *p, size_t usable, uint64_t pad);
/* The last bytes before such a trailer are to stay as they are as well. hk_trailer_mark does it. */
void hk_mark_fill(void *p, size_t usable, struct hk_trailer mark);
/* The first of those bytes that is not as written; NULL: none. */
const char *hk_mark_find_damage(const void *p, size_t usable, struct hk_trailer mark);
/* Behind the block's bytes. */
void hk_canary_write(void *p, size_t usable, struct hk_trailer trailer);
/* The first byte that is not as written; NULL: none. */
const char *hk_canary_find_damage(const void *p, size_t usable, struct hk_trailer trailer);
/* The same before a block of a run, where the room there is its own. */
void hk_front_write(void *p, struct hk_trailer trailer);
const char *hk_front_find_damage(const void *p, struct hk_trailer trailer);
/* First byte in [p, p + bytes) that is not zero, but for marks of the slabs that were here, which are cleared; NULL: none. */
const char *hk_find_nonzero(void *p, size_t bytes);

/* closed.c: big blocks with a forbidden page behind them. Bytes of p before it; `usable` if it has none. */
size_t hk_closed_usable(const void *p, size_t usable);
/* To be asked for beyond what is needed, if n bytes are to be fenced; 0: they are not. */
size_t hk_closed_extra(size_t n);
void hk_closed_put(void *p, size_t usable);
/* False: the kernel refused all ways; the block is kept here, and not to be given back. */
bool hk_closed_take_down(void *p, size_t usable);
void *hk_closed_take_kept(void); /* one of those, to be tried again, or NULL */

/* quarantine.c: where p is to rest; NULL: it is too large. */
void **hk_quarantine_place(unsigned heap, size_t usable);
void **hk_quarantine_place_exposed(unsigned heap); /* for one that nobody had */
/* p, or NULL, comes to that place; returns what leaves it, or NULL. */
HK_INLINE void *hk_quarantine_exchange(void **place, void *p)
{
    if (hk_is_single_threaded()) {
        void *old = hk_load_relaxed(place);
        hk_store_relaxed(place, p);
        return old;
    }
    return hk_exchange_acq_rel(place, p); /* QA1 acq_rel, pairs with QA1: who takes the block sees what was done to it */
}
/* One block of any shard, NULL: empty. *next: where to go on, 0 at first. */
void *hk_quarantine_take(unsigned *next);
void hk_quarantine_count(size_t bytes, size_t nr); /* may be negative */

#endif
