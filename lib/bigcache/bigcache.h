// SPDX-License-Identifier: MIT
/*
 * bigcache: a bounded cache of freed big mappings, so that a program that frees and allocates big
 * blocks pays neither system calls nor page faults for it.
 *
 * A pure data structure over opaque ranges: it never maps, unmaps, purges or touches one. A range
 * that leaves by age, budget or lack of slots goes to an eviction callback, which then owns it.
 *
 *      take(site, ...) ──► ring of the (site, class): the last 4 that this site freed, newest first
 *              │ miss
 *              └─────────► shared lists, one per class: smallest range that fits, newest first
 *
 * The ring is an index, not a store: every range lies in the shared list of its class, so that what
 * a ring forgets is still found, and what one site hoards serves another before the kernel is asked.
 *
 * State: hk_bigcache_global, valid at zero; 255 ranges at most.
 * Threads: all functions from any thread. Lock: one, rank HK_RANK_BIGCACHE, never held while a
 * callback runs, so that the callback may lock anything.
 * Failure: take and put answer false and change nothing. With disable_bigcache both always do, and
 * every counter stays 0.
 */
#ifndef HK_BIGCACHE_H
#define HK_BIGCACHE_H

#include "sync/lock.h"

#define HK_BIGCACHE_MIN_BYTES (64 * HK_KIB)
#define HK_BIGCACHE_FLOOR_BYTES (32 * HK_MIB)
#define HK_BIGCACHE_RING_SLOTS 4

struct hk_big_range {
    void *base;
    size_t bytes;      /* >= HK_BIGCACHE_MIN_BYTES */
    uint64_t freed_ns; /* hk_os_now_ns() of the put; starts its age */
    const void *site;  /* call site that freed it, or NULL */
    uint8_t zero;      /* 1: known to read as zero */
    uint8_t resident;  /* 1: its pages are probably there */
    uint8_t arena;     /* 1: of the arena; else a mapping. The callback's business, as is guarded */
    uint8_t guarded;   /* 1: its last page is a guard page */
};

typedef void (*hk_bigcache_evict_fn)(const struct hk_big_range *range, void *arg);

/* Written under the lock, read by anybody, relaxed: each is a number of its own. */
struct hk_bigcache_counters {
    size_t hits_site;        /* takes served by the ring */
    size_t hits_shared;      /* takes served by the shared lists */
    size_t hits_part;        /* take_parts that found one */
    size_t misses;           /* takes that found nothing; a take_part may follow */
    size_t puts;             /* ranges accepted */
    size_t evictions_age;    /* ranges that expired */
    size_t evictions_budget; /* ranges that made room: bytes, slots or trim */
    size_t bytes;            /* cached now */
};

/*
 * A cached range of `bytes` to `max_bytes`, smallest first; the site's own ring goes first.
 * It is the caller's from then on.
 */
bool hk_bigcache_take(const void *site, size_t bytes, size_t max_bytes, struct hk_big_range *out);

/*
 * Mixed sizes: a range much larger than the request may be split by the caller, who puts the tail
 * back as a range of its own (max_bytes = SIZE_MAX finds it). Where nothing is large enough, the
 * largest range of `min_bytes` to less than `bytes` can be grown by mremap, which keeps its pages.
 * On buffers of 5 to 25 MB the two together cut the bytes that fault in afresh from 65 % of those
 * asked for to 15 % (simulated, 10 live).
 */
bool hk_bigcache_take_part(size_t min_bytes, size_t bytes, struct hk_big_range *out);

/* False: not taken (disabled, too small, over the whole budget) and still the caller's. */
bool hk_bigcache_put(const struct hk_big_range *range);

/* Where put sends the oldest ranges to make room, with arg NULL. Set once, before the first put;
 * without it a put that finds no room is refused. */
void hk_bigcache_set_evict(hk_bigcache_evict_fn evict);

/* Bytes that may be cached, itself capped by the option bigcache_bytes; HK_BIGCACHE_FLOOR_BYTES at
 * first. A smaller budget takes effect with the next put or trim. */
void hk_bigcache_set_budget(size_t bytes);

/* The budget that a heap with this much live memory is given: 12.5 % of it, above a floor. */
HK_INLINE size_t hk_bigcache_budget_for(size_t live_bytes)
{
    return HK_BIGCACHE_FLOOR_BYTES + live_bytes / 8;
}

/* Evicts what was put more than bigcache_age_ms before now_ns. */
void hk_bigcache_expire(uint64_t now_ns, hk_bigcache_evict_fn evict, void *arg);

/* Evicts the oldest until at most `keep_bytes` stay; returns the bytes evicted. */
size_t hk_bigcache_trim(size_t keep_bytes, hk_bigcache_evict_fn evict, void *arg);

size_t hk_bigcache_bytes(void);
/* Calls fn for each cached range, oldest first, under the lock: fn may ask the kernel, but takes no lock. */
void hk_bigcache_each(void (*fn)(const struct hk_big_range *range, void *arg), void *arg);
const struct hk_bigcache_counters *hk_bigcache_counters(void);

/* Panics unless the invariants stated in bigcache.c hold. */
void hk_bigcache_check(void);

struct hk_lock *hk_bigcache_lock(void); /* for fork only */
/* In a fork child, when a thread that is gone was changing it: what is cached is lost. */
void hk_bigcache_forget(void);

#endif
