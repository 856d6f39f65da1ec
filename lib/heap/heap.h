// SPDX-License-Identifier: MIT
/*
 * heap: the magazines of one thread, the slabs behind them, and the way home for blocks that other
 * threads free. One path for 1 byte to 64 KiB.
 *
 *   TLS: hk_heap_self --> struct hk_heap
 *        class record:  cursor --.      limit     reciprocal M     slab mask
 *                                v
 *        magazine:      | NULL | p | p | p |   |   |      array of pointers, last in, first out
 *
 * malloc pops, free pushes; neither reads a slab's descriptor. A block in a magazine is dead: its second
 * word holds M of its class (the mark), cleared when it is handed out again. The mark is only a hint: a
 * hit is verified out of band (hk_heap_holds) before anybody is accused.
 *
 * Two halves. The magazines belong to the owning thread alone and need no lock. The slabs, lists and the
 * pending inbox are under heap->lock, which the owner takes on its slow paths (uncontended: nobody else
 * waits for it, others only try) and anybody may try to take: to bring home blocks that wait in the inbox
 * of a thread that sleeps, or to take slabs from a heap that nobody owns.
 *
 * Life of a heap: ACTIVE (a thread owns it) -> PARKED at thread exit (no magazines, slabs for the taking)
 * -> ACTIVE again when a new thread adopts it. The depot is a heap that stays parked; it serves threads
 * that have no heap and holds slabs that idle threads gave up. Heaps are never unmapped.
 *
 * Remote free: the sender collects pointers in a parcel per owner and pushes it on the owner's inbox (one
 * CAS per parcel). The owner empties the inbox at a refill; when the inbox holds more than
 * HK_INBOX_MAX_BYTES or its heap is parked, the sender does. A slab may change owner while a parcel
 * travels; whoever opens it sends such a block on.
 *
 * Who may run with whom:
 *   owner's malloc, free (fast)   anything: they touch the magazines only
 *   refill, flush, drain, steal   each other on other heaps; on one heap: no, heap->lock
 *   send                          anything
 *   adopt, park                   each other: no, hk_heaps_lock
 *
 * Locks: hk_heaps_lock (HK_RANK_HEAPS), heap->lock (HK_RANK_HEAP; a second one is only tried, never waited
 * for). Failure: NULL; when no parcel can be allocated the block is lost to the process and counted
 * (stats.nr_lost).
 */
#ifndef HK_HEAP_H
#define HK_HEAP_H

#include "policy/policy.h"
#include "slab/slab.h"
#include "l25/l25.h"

#define HK_PARCEL_BLOCKS 61
#define HK_NR_OUTBOXES 8
#define HK_NR_LARGE 4 /* kinds of large blocks that are told apart, by size alone: not by who serves them */
#define HK_MAX_DEFERRED 30
#define HK_INBOX_MAX_BYTES HK_MIB /* more than that: the owner sleeps */
#define HK_HEAP_ALIGN ((size_t)8192) /* heap = word & -HK_HEAP_ALIGN */

/* What the fast path touches, one per class. Written by the owner only. */
struct hk_class_record {
    void **cursor;   /* one above the top block; cursor[-1] == NULL: empty */
    void **limit;    /* cursor == limit: full */
    uint64_t magic;  /* copy of hk_size_class[].magic */
    uint32_t mask;   /* copy of slab_mask */
    uint32_t size;   /* copy of size */
};
_Static_assert(sizeof(struct hk_class_record) == 1 << HK_CLASS_RECORD_SHIFT || sizeof(void *) == 4,
               "hk_class_offset is scaled to the record");

/* Slow path, one per class. */
struct hk_class_slabs {
    /* Under the lock. */
    struct hk_slab *current; /* refills come from here; may be full; not in the list */
    struct hk_slab *partial; /* list of the other slabs with a free block */
    /* Owner only. */
    void **bottom;           /* the magazine's array: bottom[0] == NULL, blocks in bottom[1..cap] */
    void **idle_cursor;      /* cursor at the last idle look */
    uint16_t cap;            /* of the array; the record's limit may be lower */
    uint16_t nr_refills;     /* since the last flush, saturating */
    uint16_t idle_refills;
};

/* A sender's parcel for one owner. Type-stable, in one global list for ever. */
struct hk_parcel {
    struct hk_parcel *next;      /* inbox, then the owner's pending list, then `returned` of the sender */
    struct hk_heap *sender;     /* where it returns; constant */
    struct hk_parcel *next_ever; /* global list, constant once linked */
    uint32_t count;             /* blocks [0, count) are dead and in transit; 0 once they are home */
    uint32_t bytes;
    void *blocks[HK_PARCEL_BLOCKS];
};

struct hk_outbox {
    struct hk_heap *owner; /* whom the batch is for */
    struct hk_parcel *parcel;
};

enum hk_heap_state { HK_HEAP_ACTIVE, HK_HEAP_PARKED };

/* Written under the heap's lock or by its owner, by plain adds; read relaxed by anybody. */
struct hk_heap_stats {
    size_t nr_refills, nr_flushes, nr_slabs_acquired, nr_slabs_retired, nr_slabs_stolen;
    size_t nr_remote_frees, nr_parcels_sent, nr_parcels_drained, nr_forwarded;
    size_t nr_published, nr_idle_flushes, nr_lost;
};

struct hk_heap {
    /* Fast path. First, so that record - heap < sizeof records means "mine". */
    struct hk_class_record record[HK_NR_CLASSES];
    size_t max_fast;              /* requests up to this many bytes; 0 in the empty heap */
    const uint16_t *class_offset; /* hk_class_offset */
    size_t max_run;               /* requests up to this above max_fast may be cached runs; 0 as max_fast */

    /* Under the lock, but for the magazine's part of hk_class_slabs and the outboxes: owner only. */
    struct hk_class_slabs slabs[HK_NR_CLASSES];
    struct hk_outbox outbox[HK_NR_OUTBOXES];
    struct hk_parcel *free_parcels; /* ready for use */
    struct hk_parcel *pending;      /* taken from the inbox, not yet home */
    struct hk_l25_cache l25;
    /* Blocks above 64 KiB not yet told to the site table: a run of calls from one site. */
    struct {
        const void *site;
        size_t bytes, max_bytes;
        unsigned nr_allocs;
    } site_pending;
    void *deferred[HK_MAX_DEFERRED]; /* freed by signal handlers during a slow section (thread.h) */
    unsigned nr_deferred;
    uint64_t policy_seen;          /* epoch noted by the owner: release E3 / acquire E4 */
    size_t cap_bytes;              /* sum of cap * size */
    uint64_t last_tick_ns, last_idle_ns;
    unsigned ticks;
    unsigned id;                   /* small number, constant */
    unsigned thread_id;            /* kernel's, for diagnostics */
    bool depot;
    uint32_t class_refills[HK_NR_CLASSES]; /* as stats; may wrap */
    uint32_t large_allocs[HK_NR_LARGE]; /* as stats: above 64 KiB, below 256 KiB, 1 MiB, 4 MiB, beyond */
    uint64_t given_bytes;          /* as stats: taken by refills, and by blocks above 64 KiB */
    struct hk_heap_stats stats;
    struct hk_heap *next_ever;     /* list of all heaps, constant once linked */
    struct hk_heap *next_parked;   /* under hk_heaps_lock */

    /* Shared with senders. */
    __attribute__((aligned(HK_CACHE_LINE))) struct hk_parcel *inbox; /* release H1 / acquire H2 */
    struct hk_parcel *returned;     /* empty batches coming back, release H3 / acquire H4 */
    size_t inbox_bytes;            /* in the inbox, about: added by senders, set to 0 by who empties it */
    uint32_t state;                /* enum hk_heap_state; written under the lock, read relaxed */
    struct hk_lock lock;           /* HK_RANK_HEAP */
};
_Static_assert(sizeof(struct hk_heap) <= HK_HEAP_ALIGN, "a heap fits its alignment");
_Static_assert(offsetof(struct hk_heap, record) == 0, "see record");

/* The zero heap: owns nothing, serves nothing (max_fast 0). Never written. */
extern HK_HIDDEN const struct hk_heap hk_heap_empty;
extern HK_HIDDEN __thread struct hk_heap *hk_heap_self __attribute__((tls_model("initial-exec")));

/* A parked heap, else a new one; active and owned by the caller. NULL: no memory. */
struct hk_heap *hk_heap_adopt(void);
/* Ends ownership: flushes everything, releases what is empty, leaves the rest for others. */
void hk_heap_park(struct hk_heap *heap);

/* Owner only. Slow half of malloc: the magazine of the class is empty. */
void *hk_heap_alloc_slow(struct hk_heap *heap, unsigned class);
/* Owner only. The magazine of p's class may be full; p is checked and marked. */
void hk_heap_free_full(struct hk_heap *heap, unsigned class, void *p);
/* p is checked and marked, and lies in a slab whose word names another heap. heap may be NULL. True: a
 * parcel left, which is the time to look at the clock. */
bool hk_heap_free_remote(struct hk_heap *heap, void *p, uintptr_t word);
/* For threads without a heap. */
void *hk_heap_alloc_from_depot(unsigned class);

/* Is p, a block start, dead in some magazine, batch or slab? word: its page-map word. */
bool hk_heap_holds(const void *p, uintptr_t word);

/* Owner only: sends batches that are older than a tick, empties the inbox. */
void hk_heap_tick(struct hk_heap *heap);
/* Owner only: flushes magazines unused since the last call, gives up their partial slabs if shared. */
void hk_heap_flush_idle(struct hk_heap *heap);
/* Owner only: empties every magazine, batch and the inbox. */
void hk_heap_flush_all(struct hk_heap *heap);
/* Empties the inboxes of all heaps whose lock is free, and gives back what is empty in the depot.
 * self: the caller's heap or NULL. */
void hk_heap_reclaim(struct hk_heap *self);

HK_INLINE struct hk_heap *hk_heap_of_word(uintptr_t word)
{
    return (struct hk_heap *)(word & ~(HK_HEAP_ALIGN - 1));
}

HK_INLINE unsigned hk_class_of_word(uintptr_t word)
{
    return (unsigned)((word & (HK_HEAP_ALIGN - 1)) / sizeof(struct hk_class_record));
}

/* For hk_policy_set_readers: the lowest epoch that an active heap has noted. */
uint64_t hk_heap_policy_seen(void);

/* All heaps ever, newest first, linked by next_ever; acquire. */
struct hk_heap *hk_heap_first(void);

/* Around fork: all heaps' locks, so that no heap is caught half changed. In the child the heaps of the
 * threads that are gone are parked, their magazines flushed. `mine`: the calling thread's heap or NULL. */
void hk_heap_fork_prepare(struct hk_heap *mine);
void hk_heap_fork_parent(void);
void hk_heap_fork_child(struct hk_heap *mine);

/* At most one thread has a heap; relaxed. */
bool hk_heap_is_alone(void);
/* Owner only (or the process is quiet). */
void hk_heap_check(struct hk_heap *heap);

#endif
