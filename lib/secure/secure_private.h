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

/* What a trailer says. */
struct hk_trailer {
    enum hk_trailer_state state; /* NONE: it is no trailer */
    enum hk_origin origin;
    size_t bytes;
    uint64_t pad; /* hk_trailer_pad's; the same for the block's whole life */
};

/* trailer.c: p starts a block with `usable` bytes. */
uint64_t hk_trailer_pad(const void *p, size_t usable);
struct hk_trailer hk_trailer_read(const void *p, size_t usable);
void hk_trailer_write(void *p, size_t usable, const struct hk_trailer *trailer);
/* If it has none: that of a dead block that nobody had. Another's write at the same time stays. */
void hk_trailer_mark(void *p, size_t usable);
/* The last bytes before such a trailer are to stay as they are as well. hk_trailer_mark does it. */
void hk_mark_fill(void *p, size_t usable, const struct hk_trailer *mark);
/* The first of those bytes that is not as written; NULL: none. */
const char *hk_mark_find_damage(const void *p, size_t usable, const struct hk_trailer *mark);
/* False: it says something else by now. */
bool hk_trailer_advance(void *p, size_t usable, const struct hk_trailer *seen, enum hk_trailer_state next);
/* Behind the block's bytes. */
void hk_canary_write(void *p, size_t usable, const struct hk_trailer *trailer);
/* The first byte that is not as written; NULL: none. */
const char *hk_canary_find_damage(const void *p, size_t usable, const struct hk_trailer *trailer);
/* The same before a block, where the room there is its own. */
void hk_front_write(void *p, const struct hk_trailer *trailer);
const char *hk_front_find_damage(const void *p, const struct hk_trailer *trailer);
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
void *hk_quarantine_exchange(void **place, void *p);
/* One block of any shard, NULL: empty. *next: where to go on, 0 at first. */
void *hk_quarantine_take(unsigned *next);
void hk_quarantine_count(size_t bytes, size_t nr); /* may be negative */

#endif
