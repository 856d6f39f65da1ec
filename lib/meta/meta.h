// SPDX-License-Identifier: MIT
/*
 * meta: memory for our own descriptors, away from every user block.
 *
 * A bump allocator over its own mappings with a free list per size. Objects are zeroed, aligned to 64
 * bytes and type-stable: memory once used for a descriptor of some size is never unmapped and only
 * ever holds descriptors of that size, so that a racing reader reads stale data, never a hole.
 * Owner: one global, one lock (HK_RANK_META). Failure: NULL.
 */
#ifndef HK_META_H
#define HK_META_H

#include "sync/lock.h"

#define HK_META_MAX ((size_t)65536)

void *hk_meta_alloc(size_t bytes); /* 1 <= bytes <= HK_META_MAX; rounded up to 64 x 2^k or a multiple of 64 to 1 KiB */
void hk_meta_free(void *object, size_t bytes);
size_t hk_meta_mapped_bytes(void);
const size_t *hk_meta_mapped_field(void); /* the same, where it lies */
size_t hk_meta_touched_bytes(void);       /* of these: ever used */
extern struct hk_lock hk_meta_lock; /* for fork only */
/* In a fork child, when a thread that is gone was changing it: free descriptors are lost. */
void hk_meta_forget(void);
void hk_meta_check(void);

#endif
