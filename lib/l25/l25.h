// SPDX-License-Identifier: MIT
/*
 * l25: blocks above 64 KiB and below the mapping threshold (2 MiB): runs of granules.
 *
 * A class is a number of granules, four classes per doubling and one granule. A freed run goes to the freeing thread's
 * cache (a few runs per class), from there to one of four shared shards, from there to the arena. A request
 * looks at its own cache, its shard and the two neighbour shards, each for the exact class and then for
 * larger ones up to W_MAX x size, and only then takes a new run: out of dirty memory if there is a piece that fits, else
 * the thread's cache goes to the arena first, so that what lies in other classes may join.
 *
 * Blocks start at a multiple of 64 bytes below 4 KiB, chosen by their address, so that equal buffers do not all
 * start in one cache set. Every class is chosen with room for that (aligned requests excepted, which start at
 * the run's beginning): 256 KiB is a run of 17 granules.
 *
 *   run:  | colour | block ................ |      page-map word of the first granule: HK_PM_RUN
 *         base     base + colour
 *
 * Owner: a live run belongs to its block; a cached one to the list it is in. run->state is the only
 * field two threads may contend for: LIVE -> DEAD by one exchange, so of two frees one loses and is
 * reported. Descriptors are type-stable.
 * Locks: HK_RANK_L25, one per shard. Failure: NULL.
 * Invariant (hk_l25_check): sum of granules in a shard == its cached_granules; every run there is DEAD.
 */
#ifndef HK_L25_H
#define HK_L25_H

#include "arena/arena.h"
#include "policy/policy.h"

#define HK_L25_NR_CLASSES 24
#define HK_L25_NO_CLASS HK_L25_NR_CLASSES
#define HK_L25_CACHE_GRANULES 128u /* 2 MiB per heap */
#define HK_L25_MAX_GRANULES 128u          /* largest run that is asked for, 2 MiB; realloc may grow it */
#define HK_L25_COLOUR ((size_t)4096 - 64) /* room that every request has for the colour */
#define HK_L25_MAX ((size_t)2 * HK_MIB - HK_L25_COLOUR) /* largest request */

enum hk_run_state { HK_RUN_DEAD, HK_RUN_LIVE };

struct hk_run {
    char *base;             /* constant while the run exists */
    char *start;            /* of the block: base + colour */
    size_t usable;          /* bytes from there: nr_granules * HK_GRANULE - colour */
    struct hk_run *next;    /* in the list that caches it */
    const void *site;       /* call site of the block, for reports */
    uint32_t nr_granules;
    uint32_t state;         /* enum hk_run_state */
    uint8_t class;          /* HK_L25_NO_CLASS once it was resized: it never enters a cache; and while it is followed */
    uint8_t made_as;        /* its class at first, which counts it */
    uint8_t followed;       /* 1: the profile wants to hear of the block's end */
    uint8_t zero;           /* never touched since the kernel zeroed it */
};

/* One per heap; its owner only. */
struct hk_l25_cache {
    struct hk_run *runs[HK_L25_NR_CLASSES];
    uint8_t count[HK_L25_NR_CLASSES + 1]; /* of HK_L25_NO_CLASS: always full */
    uint32_t granules; /* of all runs here, at most `room` */
    uint32_t room;     /* granules taken from the share of all threads, at most HK_L25_CACHE_GRANULES */
    uint8_t cap;           /* runs per class, as the policy had it at the last slow call; 0 at first */
    uint32_t nr_hits;      /* runs taken from here; wraps, as the next */
    uint32_t nr_misses;    /* requests that found none */
    uint32_t uses_at_look; /* sum of the two at the last idle look: a period without use flushes */
};

/* Relaxed adds where a run is made or given up, and under a shard's lock; read by anybody. */
struct hk_l25_class_counters {
    size_t nr_runs;     /* that exist: live and cached */
    size_t nr_granules; /* of those; more or less than nr_runs * class after a resize */
};
struct hk_l25_counters {
    size_t hits_shard, hits_larger, misses, bundled, released;
};

HK_INLINE uint32_t hk_l25_uses(const struct hk_l25_cache *cache)
{
    return cache->nr_hits + cache->nr_misses;
}

/* Granules -> class. */
extern const uint8_t hk_l25_class_of[HK_L25_MAX_GRANULES + 1];

/* Of a block with any colour. */
HK_INLINE unsigned hk_l25_class(size_t n)
{
    return hk_l25_class_of[(n + HK_L25_COLOUR + HK_GRANULE - 1) >> HK_GRANULE_SHIFT];
}

/* 1 <= n <= HK_L25_MAX, align a power of two <= 1 MiB. cache may be NULL. */
struct hk_run *hk_l25_alloc(struct hk_l25_cache *cache, unsigned shard, size_t n, size_t align);
/* Placed where it can grow: for blocks that realloc moves. NULL: no such place at little cost. */
struct hk_run *hk_l25_alloc_roomy(size_t n);
/* After a successful kill (l25_inline.h). */
void hk_l25_cache_run(struct hk_l25_cache *cache, unsigned shard, struct hk_run *run);
/*
 * A live run's free will take the slow path, because it seems to fit no cache; which costs the fast one nothing. Until
 * unfollow, after a successful kill.
 */
void hk_l25_follow(struct hk_run *run);
void hk_l25_unfollow(struct hk_run *run);
/* Grows (to any size) or shrinks a live run in place so that n bytes fit; false: it cannot. */
bool hk_l25_resize(struct hk_run *run, size_t n);
/*
 * The pages of a live run are about to move elsewhere: it is dead and its addresses leave the arena. False: it was
 * dead already. Then either it is forgotten, or it is as before.
 */
bool hk_l25_lend(struct hk_run *run);
void hk_l25_forget_run(struct hk_run *run);
void hk_l25_take_back(struct hk_run *run);

/* The cap per class, as the policy has it now. */
void hk_l25_obey(struct hk_l25_cache *cache);
/* The cache's runs go to the arena, and its room to other threads. */
void hk_l25_flush(struct hk_l25_cache *cache);
/* Shared shards: runs idle for two calls in a row go to the arena; `all`: every run. */
void hk_l25_expire(bool all);
size_t hk_l25_shared_bytes(void); /* relaxed */

const struct hk_l25_counters *hk_l25_counters(void);
const struct hk_l25_class_counters *hk_l25_class_counters(void); /* HK_L25_NR_CLASSES of them */
extern const uint8_t hk_l25_class_granules[HK_L25_NR_CLASSES];
/* What a shard caches. Written under its lock, read relaxed by anybody. */
struct hk_l25_shard_counters {
    uint32_t granules;
    uint8_t count[HK_L25_NR_CLASSES]; /* runs */
};
const struct hk_l25_shard_counters *hk_l25_shard_counters(unsigned shard);
/* Runs of the class and granules of all classes in one thread's cache, as anybody may read them. */
HK_INLINE unsigned hk_l25_cached_runs(const struct hk_l25_cache *cache, unsigned class)
{
    return hk_load_relaxed(&cache->count[class]);
}

HK_INLINE void *hk_run_start(const struct hk_run *run)
{
    return run->start;
}

HK_INLINE size_t hk_run_usable(const struct hk_run *run)
{
    return run->usable;
}

#define HK_L25_NR_SHARDS 4
struct hk_lock *hk_l25_lock(unsigned shard); /* for fork only */
/* In a fork child, when a thread that is gone was changing it: what the shard cached is lost. */
void hk_l25_forget(unsigned shard);
void hk_l25_check(void);

#endif
