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
 * pending inbox are under heap->lock, which the owner takes on its slow paths (nobody else waits for it but
 * who found no memory for a parcel; others only try) and anybody may try to take: to bring home blocks that wait in the inbox
 * of a thread that sleeps, or to take slabs from a heap that nobody owns, or that its owner can spare.
 *
 * Life of a heap: ACTIVE (a thread owns it) -> PARKED at thread exit (no magazines, slabs for the taking)
 * -> ACTIVE again when a new thread adopts it. The depot is a heap that stays parked; it serves threads
 * that have no heap and holds slabs that idle threads gave up. Heaps are never unmapped. The sampled heap is
 * a second one of that kind: its slabs hold the blocks that the profile follows, and nothing else. Their page-map
 * words lead to no record, so that free and realloc of such a block take the slow path by themselves.
 *
 * Remote free: a block goes into the magazine of the thread that frees it, whoever owns its slab, and may be handed out again from
 * there: where threads take and give alike nothing travels. What a flush finds of other heaps the sender collects in a
 * parcel per owner and pushes it on the owner's inbox (one CAS per parcel). A refill takes parcels from the inbox
 * until its magazine is full; when some are left over the magazine grows. When the inbox holds more than
 * HK_INBOX_MAX_BYTES or its heap is parked, the sender empties it. A slab may change owner while a parcel travels;
 * whoever opens it sends such a block on. Where there is no memory for a parcel the block goes into its slab at once, under the lock
 * of the owner, which is waited for with no other heap's held; and one that was to be sent on travels in the parcel that it came in.
 *
 * Who may run with whom:
 *   owner's malloc, free (fast)   anything: they touch the magazines only
 *   refill, flush, drain, steal   each other on other heaps; on one heap: no, heap->lock
 *   send                          anything
 *   adopt, park                   each other: no, hk_heaps_lock
 *
 * Locks: hk_heaps_lock (HK_RANK_HEAPS), heap->lock (HK_RANK_HEAP; a second one is only tried, never waited
 * for). Failure: NULL. A child of fork finds each thread that is gone between two instructions: what it had in its hands is lost to the
 * process, and so are, where fork could not wait for a heap's lock, the magazines of that heap if it is not the caller's.
 */
#ifndef HK_HEAP_H
#define HK_HEAP_H

#include "policy/policy.h"
#include "slab/slab.h"
#include "stats/stats.h"
#include "l25/l25.h"

#define HK_PARCEL_BLOCKS 61
#define HK_NR_OUTBOXES 8
#define HK_NR_LARGE 4 /* kinds of large blocks: below 256 KiB, 1 MiB, 4 MiB, beyond; whoever serves them */
#define HK_NR_EVENTS (HK_NR_CLASSES / 8 + 1 + HK_NR_LARGE)
#define HK_NR_DEFERRED_SLOTS 16
#define HK_INBOX_MAX_BYTES HK_MIB /* more than that: the owner sleeps */
#define HK_HEAP_SHIFT 13
#define HK_HEAP_ALIGN ((size_t)1 << HK_HEAP_SHIFT) /* heap = word & -HK_HEAP_ALIGN */

/* What the fast path touches, one per class. Written by the owner only. */
struct hk_class_record {
    void **cursor;   /* one above the top block; cursor[-1] == NULL: empty */
    void **limit;    /* cursor == limit: full */
    uint64_t magic;  /* copy of hk_size_class[].magic */
    uint32_t mask;   /* copy of slab_mask */
    uint32_t size;   /* copy of size */
#if UINTPTR_MAX <= 0xffffffff
    uint32_t unused[2];
#endif
};
_Static_assert(sizeof(struct hk_class_record) == 1 << HK_CLASS_RECORD_SHIFT,
               "hk_class_offset is scaled to the record");

/* Slow path, one per class. */
struct hk_class_slabs {
    /* Under the lock; written by atomic stores, so that thieves may look without it. */
    struct hk_slab *current; /* refills come from here; may be full; not in the list */
    struct hk_slab *partial; /* list of the other slabs with a free block */
    /* Owner only. */
    void **bottom;           /* the magazine's array: bottom[0] == NULL, blocks in bottom[1..cap] */
    uint16_t cap;            /* of the array; the record's limit may be lower */
    uint16_t nr_refills;     /* since the last flush, saturating */
    uint16_t idle_used;      /* slots in use at the last idle look */
    uint16_t idle_refills;
    uint16_t cap_in_use;     /* what the limit stands for while the class is watched (hk_heap_flush_idle), else 0 */
    uint16_t nr_overflows;   /* blocks of parcels that the last drain gave to slabs for want of room; wraps */
    uint16_t nr_gaps;        /* slots at the bottom, in use, that hold no block (heap.c, "Gaps") */
    uint16_t owed_back;      /* of sampling.owed: of samples that died, for blocks that the magazine still holds */
    /* Under the lock; read relaxed by the counters. Block counts wrap at 2^32. */
    uint32_t nr_slabs;       /* of this heap */
    uint32_t nr_free;        /* blocks that lie in them: sum of their nr_free */
};

/* A sender's parcel for one owner. Type-stable, in one global list for ever. */
struct hk_parcel {
    struct hk_parcel *next;      /* inbox, then the owner's pending list, then `returned` of the sender */
    struct hk_heap *sender;     /* where it returns; constant */
    struct hk_parcel *next_ever; /* global list, constant once linked */
    uint32_t count;             /* blocks [0, count) are dead and in transit; 0 once they are home */
    uint32_t bytes;
    void *blocks[HK_PARCEL_BLOCKS];
    uint8_t class[HK_PARCEL_BLOCKS]; /* of each block, for the counters */
};
_Static_assert(HK_NR_CLASSES <= UINT8_MAX, "a class is a byte");

/* Blocks that signal handlers freed in a slow section, beyond the slots in the heap: one mapping each. */
struct hk_deferred {
    struct hk_deferred *next;
    unsigned count; /* slots claimed; may exceed capacity */
    unsigned capacity;
    void *blocks[];
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
    /* Why an empty magazine's refill ended early, in the order of the look ... */
    size_t nr_popped, nr_drained, nr_larger, nr_single, nr_failed;
    /* ... and where its slab came from; a new one: nr_slabs_acquired, of another heap but the depot:
     * nr_slabs_stolen - nr_from_depot. */
    size_t nr_from_current, nr_from_partial, nr_from_depot;
    size_t nr_grown, nr_shrunk;
    size_t nr_refills_mid; /* of nr_refills: pool classes */
};

/*
 * The profile of call sites (entry/sample.c). What a magazine gets from slabs and parcels is counted down, and when
 * a sample is due that is said here; a look at the clock asks for one now and then. All else is entry's. Owner
 * only.
 */
enum hk_attention { HK_SAMPLE_DUE = 1, HK_SAMPLE_LOOK = 2 };
struct hk_sampling {
    int64_t countdown;   /* bytes until a sample is due; negative: overdue by so many */
    uint64_t random;     /* state of the intervals' generator; 0: not started */
    uint16_t owed[HK_NR_CLASSES]; /* what the next sample of a class stands for, in mean intervals */
    uint16_t nr_owed;    /* classes with any */
    uint16_t due_class;  /* class and blocks of the refill that made it due */
    uint16_t due_blocks;
    uint16_t class;      /* one that is owed: */
    uint8_t skip;        /* so many allocations of it still pass */
    uint8_t skip_any;    /* so many of any class, while searching */
    uint8_t attention;   /* enum hk_attention bits, set by slow paths */
    bool searching;      /* for a call of any class: the thread's fast paths are off (hk_thread_leave) */
    uint8_t patience;    /* calls until the search gives the fast paths back */
    uint8_t nr_refused;  /* calls that found no credit; wraps */
    uint32_t credit;     /* so many samples may be taken, */
    uint64_t credit_ns;  /* as of then */
    uint8_t looks_off;   /* looks that pass without a search, after ones that found nothing: 0, 1, 3, ... 63 */
    uint8_t looks_left;  /* of those */
    uint32_t untold_bytes; /* that entry/guard.c has not counted yet */
};

/* What only a heap that was ever sampled needs. */
struct hk_detour {
    uint16_t *offset;                 /* a copy of hk_class_offset, but for the diverted classes */
    uint16_t nr_spare[HK_NR_CLASSES]; /* samples that died and whose place no other has taken */
};

struct hk_heap {
    /*
     * Fast path. The low bits of a page-map word are the offset of a record. Of an enum hk_pm_kind they lead to one of the
     * first words, which read as a record say: magic 0, that no pointer passes, and limit <= cursor.
     */
    const uint16_t *class_offset; /* hk_class_offset, or while a class is diverted the detour's */
    size_t max_fast;              /* requests up to this many bytes; 0 in the empty heap */
    uint64_t no_magic[HK_PM_KINDS >> HK_PM_KIND_SHIFT]; /* zeros */
    __attribute__((aligned(1 << HK_CLASS_RECORD_SHIFT))) struct hk_class_record record[HK_NR_CLASSES];
    void **no_cursor;             /* to requests of a diverted class a record, whose magazine is always empty */
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
        unsigned max_allocs; /* with so many the next call takes the slow path */
    } site_pending;
    /* Freed by signal handlers during a slow section (thread.h). They interrupt each other and whoever empties
     * this, all on one thread: a slot is claimed by compare-and-swap and taken by exchange. */
    void *deferred[HK_NR_DEFERRED_SLOTS];
    struct hk_deferred *more_deferred; /* when the slots are full */
    bool any_deferred;                 /* set after a block was put in, cleared before they are looked for */
    uint64_t policy_seen;          /* epoch noted by the owner: release E3 / acquire E4 */
    size_t cap_bytes;              /* sum of cap * size */
    uint64_t last_tick_ns, last_idle_ns;
    unsigned ticks;
    unsigned id;                   /* small number, constant */
    unsigned thread_id;            /* kernel's, for diagnostics */
    bool depot;  /* no thread's: the depot, or the sampled heap */
    struct hk_sampling sampling;
    struct hk_detour *detour;      /* owner only; NULL until a class is first diverted */
    uint16_t nr_diverted;          /* classes */
    bool orphan;                   /* its thread is in the parent; written by fork and hk_heap_inherit */
    /* Of those blocks, the one whose end is waited for (entry/large.c). */
    struct {
        const void *block;
        uint64_t serial;           /* of the sample; 0: none, these calls are nobody's */
        uint32_t weight;           /* it stands for so many calls for each of these */
        uint32_t nr_chosen;        /* since tick_ns, or since group grew */
        uint32_t group;            /* calls that one sample stands for; 0: not started */
        uint32_t nr_waiting;       /* counted calls that the next sample stands for, or else the last */
        size_t bytes_waiting;
        uint64_t tick_ns, random;
    } large;
    uint64_t shuffled;             /* state of the order of refills, mode secure; 0: not started */
    uint64_t given_bytes;          /* as stats: taken by refills, and by blocks above 64 KiB */
    uint32_t events[HK_NR_EVENTS]; /* as stats; may wrap: refills by kind, then large blocks */
    struct hk_heap_stats stats;
    struct hk_heap *next_ever;     /* list of all heaps, constant once linked */
    struct hk_heap *next_parked;   /* under hk_heaps_lock */

    /* Shared with senders. */
    __attribute__((aligned(HK_CACHE_LINE))) struct hk_parcel *inbox; /* release H1 / acquire H2 */
    struct hk_parcel *returned;     /* empty batches coming back, release H3 / acquire H4 */
    uint32_t held_granules;        /* of l25, as the owner saw it last; relaxed */
    size_t inbox_bytes;            /* in the inbox, about: added by senders, set to 0 by who empties it */
    uint32_t state;                /* enum hk_heap_state; written under the lock, read relaxed; acquire N5 */
    struct hk_lock lock;           /* HK_RANK_HEAP */
};
_Static_assert(sizeof(struct hk_heap) <= HK_HEAP_ALIGN, "a heap fits its alignment");
_Static_assert(offsetof(struct hk_heap, record) == HK_FIRST_RECORD << HK_CLASS_RECORD_SHIFT &&
               offsetof(struct hk_heap, record) >= HK_PM_KINDS, "hk_class_offset leads to a record, a kind to none");
_Static_assert(offsetof(struct hk_heap, no_magic) <= offsetof(struct hk_class_record, magic) &&
               offsetof(struct hk_heap, record) >= HK_PM_SAMPLED + offsetof(struct hk_class_record, magic) + 8, "see no_magic");

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
/* p is checked and marked, and lies in a slab whose word names another heap: it travels. heap may be NULL. */
void hk_heap_free_remote(struct hk_heap *heap, void *p, uintptr_t word);
/* For threads without a heap. */
void *hk_heap_alloc_from_depot(unsigned class);

/*
 * Owner only: malloc's requests of the class take the slow path, or no longer; frees and other classes stay as they are. No magazine is
 * touched, so a fast path that a signal handler interrupts with this goes on as if nothing had been. Without memory, and for
 * classes of aligned requests alone, nothing happens.
 */
void hk_heap_divert(struct hk_heap *heap, unsigned class);
void hk_heap_restore(struct hk_heap *heap, unsigned class);
bool hk_heap_is_diverted(const struct hk_heap *heap, unsigned class);

/* A block that the profile will follow; NULL: no memory. */
void *hk_heap_alloc_sampled(unsigned class);
/* p is checked and marked; it goes back to its slab at once. */
void hk_heap_free_sampled(void *p);
/* May be NULL. Release D3 / acquire D4. */
extern HK_HIDDEN struct hk_heap *hk_heap_sampled;

/* Is p, a block start, dead in some magazine, parcel or slab? word: its page-map word. Looks through all heaps. */
bool hk_heap_holds(const void *p, uintptr_t word);

/* Takes over what the policy says and the heap keeps a copy of. */
void hk_heap_obey(struct hk_heap *heap);
/* May requests above max_fast be served on the fast path? */
void hk_heap_set_runs(struct hk_heap *heap, bool fast);
/* Owner only: sends batches that are older than a tick, empties the inbox. */
void hk_heap_tick(struct hk_heap *heap);
/* Owner only: flushes magazines unused since the last call, gives up their partial slabs if shared. */
void hk_heap_flush_idle(struct hk_heap *heap);
/* Owner only: empties every magazine, batch and the inbox. */
void hk_heap_flush_all(struct hk_heap *heap);
/* Empties the inboxes of all heaps whose lock is free, and gives back what is empty in the depot.
 * self: the caller's heap or NULL. */
void hk_heap_reclaim(struct hk_heap *self);

/* Of any page-map word: does a sampled slab lie there? */
HK_INLINE bool hk_heap_is_sampled_word(uintptr_t word)
{
    return (word & (HK_HEAP_ALIGN - 1)) == HK_PM_SAMPLED && word >= HK_PM_KINDS;
}

/* Of a slab's word, and so at least HK_PM_KINDS. Relaxed: whoever has a sampled block was handed it. */
HK_INLINE struct hk_heap *hk_heap_of_word(uintptr_t word)
{
    return HK_UNLIKELY(hk_heap_is_sampled_word(word)) ? hk_load_relaxed(&hk_heap_sampled)
                                                      : (struct hk_heap *)(word & ~(HK_HEAP_ALIGN - 1));
}

HK_INLINE unsigned hk_class_of_word(uintptr_t word)
{
    return HK_UNLIKELY(hk_heap_is_sampled_word(word))
               ? (unsigned)(word >> HK_HEAP_SHIFT) - 1
               : (unsigned)((word & (HK_HEAP_ALIGN - 1)) / sizeof(struct hk_class_record)) - HK_FIRST_RECORD;
}

/* The word of the heap's slabs of a class: what the two above take apart. */
uintptr_t hk_heap_word(const struct hk_heap *heap, unsigned class);

/* All parcels ever, linked by next_ever, and the addresses where both lists begin. */
struct hk_parcel *hk_parcel_first(void);
struct hk_parcel *const *hk_parcel_head(void);
struct hk_heap *const *hk_heap_head(void);
/* Written under a lock, read relaxed, each a number of its own. */
struct hk_heaps_counters {
    size_t chunk_bytes; /* mapped for heaps */
    size_t nr_heaps;    /* made */
    size_t nr_active;   /* with a thread */
};
const struct hk_heaps_counters *hk_heaps_counters(void);
/*
 * What a habit of the program is known by: what sizes it asks for, whatever is being tried. 1 KiB in 4 kinds,
 * then one per doubling to 64 KiB, and the classes for aligned requests.
 */
HK_INLINE unsigned hk_heap_event_of(unsigned class)
{
    return class / 8;
}
_Static_assert(HK_FIRST_POOL_CLASS % 8 == 0 && HK_NR_SIZED_CLASSES % 8 == 0, "kinds do not mix");

/* Owner only: blocks above 64 KiB, all of them together. */
void hk_heap_count_large(struct hk_heap *heap, unsigned nr, size_t bytes);
/* For hk_policy_set_readers: the lowest epoch that an active heap has noted. */
uint64_t hk_heap_policy_seen(void);

/* All heaps ever, newest first, linked by next_ever; acquire. */
struct hk_heap *hk_heap_first(void);
/* At most so much is free in slabs, magazines and the threads' runs: beside what is cached and dirty. Relaxed; SIZE_MAX
 * when there are more than max_heaps. */
size_t hk_heap_held_bytes(unsigned max_heaps);

/*
 * Around fork: all heaps' locks, so that no heap is caught half changed. prepare: false if a lock could not
 * be had in time; with `force` it goes on with the next. In the child the heaps of the threads that are gone are
 * parked, their magazines flushed, and heaps whose lock was not had are mended (heap_mend.c): no lock stays behind; `mine`: the calling thread's heap or NULL. `inside`: a slow section of the
 * calling thread is interrupted; then that waits for hk_heap_inherit, called where no lock is held.
 */
bool hk_heap_fork_prepare(bool force);
void hk_heap_fork_parent(void);
void hk_heap_fork_child(struct hk_heap *mine, bool inside);
void hk_heap_inherit(struct hk_heap *mine);

/* At most one thread has a heap; relaxed. */
bool hk_heap_is_alone(void);
/* Owner only (or the process is quiet); takes the lock. */
void hk_heap_check(struct hk_heap *heap);

#endif
