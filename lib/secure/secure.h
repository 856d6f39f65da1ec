// SPDX-License-Identifier: MIT
/*
 * secure: what option secure puts around every block: a trailer, canaries, a quarantine, zeroes. It stands between entry and
 * ace; the boxes below know nothing of it, and no fast path is taken (hk_config_is_exact).
 *
 *   block:    | n bytes, the program's | canary, up to 128 bytes | unused | trailer, 16 bytes |
 *             |<------------------------ usable bytes of the box below ---------------------->|
 *
 * The trailer says, under a key of the process and of its address, how large the block is, by which function it was
 * made, and what state it is in. free, realloc and delete verify it and the canary. A block freed is zeroed
 * and rests in the quarantine; when it leaves, and when it is given out again, it must still be zero.
 *
 *   LIVE --free--> RESTING --others are freed--> DEAD, in ace's hands --alloc--> LIVE
 *
 * A block without a valid trailer comes from ace fresh, or was freed past this box (by a signal handler that interrupted a
 * slow section); it is not checked but for the heap's own checks. Guarded blocks (guard.h) have no trailer,
 * and a big block has a closed page behind it (closed.c) while there are not too many; above 64 KiB nothing is compared with zero: pages go back to the kernel instead.
 * Runs of 64 KiB and less, which strict alignment asks for, are compared when they leave the quarantine, but not when given out again.
 *
 * State: the quarantine, and the key. Threads: any, inside slow sections; a block changes its state by compare-and-swap, so of two
 * frees one finds it freed. Locks: none of its own. Failure: NULL, after the quarantine has been emptied; misuse: hk_panic.
 */
#ifndef HK_SECURE_H
#define HK_SECURE_H

#include "heap/heap.h"

/* By which function a block was made. */
enum hk_origin {
    HK_ORIGIN_MALLOC,
    HK_ORIGIN_NEW,
    HK_ORIGIN_NEW_ARRAY,
    HK_ORIGIN_ALIGNED_NEW,
    HK_ORIGIN_ALIGNED_NEW_ARRAY,
    HK_NR_ORIGINS
};

#define HK_SIZE_UNSAID SIZE_MAX

/*
 * Set by entry. Does every operator new and delete of the process come from this library? A program may replace some of them by
 * malloc and free, and use ours for the rest; then nothing is said of a mismatch with them. NULL, before the constructor: as if not.
 * Asked only when a complaint is due.
 */
extern bool (*hk_secure_operators_are_ours)(void);

/* As hk_ace_alloc and its kin. free: by a function that takes `origin`, and says the block had `size` bytes. */
void *hk_secure_alloc(struct hk_heap *heap, size_t n, size_t align, bool zero, const void *site);
void hk_secure_free(struct hk_heap *heap, void *p, enum hk_origin origin, size_t size, const void *site);
void *hk_secure_realloc(struct hk_heap *heap, void *p, size_t n, const void *site);
bool hk_secure_resize(void *p, size_t n, const void *site);
size_t hk_secure_usable(const void *p, const void *site);

/* Once more at what the heap gave out, or freed, last; alloc does it. For a block that does not come from here. */
void hk_secure_look_at_last(struct hk_heap *heap, const void *site);

/* p was just allocated and is nobody else's yet. */
void hk_secure_mark_origin(void *p, enum hk_origin origin);

/* p is about to be freed past this box, by a signal handler or a thread without a heap. False: it must not; this box does so later. */
bool hk_secure_let_past(void *p);

/* All that rests goes on to ace, and so does what the kernel would not let go. */
void hk_secure_flush(struct hk_heap *heap);

/* At the end of the process: what still rests is looked at, and lost. */
void hk_secure_look(void);

/* Relaxed adds. */
struct hk_secure_counters {
    size_t resting_bytes; /* in the quarantine, or big and not to be opened (closed.c); live to the boxes below */
    size_t nr_resting;
};
const struct hk_secure_counters *hk_secure_counters(void);

#endif
