// SPDX-License-Identifier: MIT
/*
 * ace: the router. Size -> box on the way in, pointer -> box on the way out; everything the fast paths
 * do not settle.
 *
 *   <= 64 KiB            heap (tiny, pool)
 *   below big_threshold  l25
 *   from there           arena, through bigcache where a site repeats a size
 *   above HK_ARENA_MAX   a mapping of its own, through bigcache
 *
 * It alone knows all boxes below and so also decides when memory goes back (hk_ace_tick, and at once when
 * what is cached and dirty exceeds max(purge floor, 10 % of live)).
 *
 * Owner: big blocks (ace_big.c); everything else belongs to the boxes. `heap` is the calling thread's or
 * NULL for a thread that has none. Failure: NULL after everything cached was given up and the request
 * tried again; errno is the caller's business. Misuse: hk_panic.
 */
#ifndef HK_ACE_H
#define HK_ACE_H

#include "heap/heap.h"

/* What a pointer turned out to be. */
enum hk_verdict {
    HK_BLOCK_LIVE,
    HK_BLOCK_UNKNOWN,    /* never ours */
    HK_BLOCK_INTERIOR,   /* inside a block, not its start */
    HK_BLOCK_MISALIGNED, /* not a multiple of 16 */
    HK_BLOCK_DEAD        /* free already */
};

struct hk_block {
    uintptr_t word;     /* page-map word of p */
    void *start;        /* of the block p lies in; NULL if unknown */
    size_t usable;      /* bytes */
    void *desc;         /* struct hk_slab, hk_run, hk_big or hk_guard_slot; NULL if none */
    unsigned owner;     /* kernel thread id; 0 if unknown */
};

/* Once, before the first block. */
void hk_ace_init(void);
/* n bytes aligned to align (power of two), zeroed if asked. n <= PTRDIFF_MAX. */
void *hk_ace_alloc(struct hk_heap *heap, size_t n, size_t align, bool zero, const void *site);
void hk_ace_free(struct hk_heap *heap, void *p, const void *site);
/* word: p's, naming a heap other than `heap`. False: not a live block at first sight, nothing done. */
bool hk_ace_free_remote(struct hk_heap *heap, void *p, uintptr_t word);
/* Is it in the guard page behind a live big block? Any thread, and handlers of faults: no lock, walks a list. Sets
 * start, usable and site. */
bool hk_ace_guards(const void *p, struct hk_block *b, const void **site);
/* The block grows or shrinks without moving, or nothing happens and the answer is false. */
bool hk_ace_resize(struct hk_heap *heap, void *p, size_t n, const void *site);
/* A block above 64 KiB stays as it is when n bytes are wanted of it: fits, and not half empty. Outside slow
 * sections too: it takes no lock and changes nothing. */
bool hk_ace_keeps(const void *p, size_t n);
/* The same of a small one, of which half may be empty, and more up to 64 bytes, where moving gains nothing. False for 0. */
HK_INLINE bool hk_ace_keeps_small(size_t usable, size_t n)
{
    return n - 1 < usable && (usable <= 64 || n > usable / 2);
}
/* A realloc of p != NULL to n moved it; which has to come by here from HK_ACE_GROW_MIN on. p: where it is now. */
#define HK_ACE_GROW_MIN (8 * HK_KIB)
void hk_ace_note_moved(const void *p, size_t n);
/*
 * realloc of a block that was one of the last to move: to a run of up to 64 KiB, where it can go on in place. NULL: p is no
 * such block, or need not grow, or there is no such place.
 */
void *hk_ace_regrow(struct hk_heap *heap, void *p, size_t n, const void *site);
/* realloc for p != NULL, n > 0. NULL: the old block is untouched. */
void *hk_ace_realloc(struct hk_heap *heap, void *p, size_t n, const void *site);
size_t hk_ace_usable(const void *p, const void *site);
/* A live block above the classes: its free will take the slow path, until which hk_ace_follows is true. False: another
 * block. A realloc that moves it ends that. */
bool hk_ace_follow(void *p);
/* Of any pointer. */
bool hk_ace_follows(const void *p);
/* Above the classes? Of a live block. */
bool hk_ace_is_large(const void *p);
size_t hk_ace_good_size(size_t n);
/* The size class that serves such a request; HK_NR_CLASSES: none, it is larger. */
unsigned hk_ace_class(size_t n, size_t align);

/*
 * For a signal handler that interrupted a slow section of its own thread: a mapping per block, made with
 * system calls alone, and no lock.
 */
void *hk_ace_loose_alloc(size_t n, size_t align);
/* True: p was a loose block and is free now. */
bool hk_ace_loose_free(void *p);

/* Looks, never touches or panics. */
enum hk_verdict hk_ace_identify(const void *p, struct hk_block *block);

/* Called on slow paths; cheap unless a period has passed. Owner's heap or NULL. */
void hk_ace_tick(struct hk_heap *heap);
/* The policy or an option has changed: what it forbids is given up at once. */
void hk_ace_obey(struct hk_heap *heap);
/* Gives back everything that is not live or in another thread's magazines; returns bytes that went. */
size_t hk_ace_purge(struct hk_heap *heap);
/* Once a second from the background thread: what other threads' ticks would do if they had any. */
void hk_ace_background(struct hk_heap *heap);
/* A thread ended: of what is dirty little is kept if its like do not come back. */
void hk_ace_thread_ended(void);
/* Relaxed adds; blocks that have no box below. */
struct hk_ace_counters {
    size_t live_bytes;      /* ranges of big blocks: of the arena, and mappings of their own */
    size_t arena_bytes;     /* of the arena: live ranges, and those in bigcache */
    size_t nr_live;         /* big blocks */
    size_t loose_bytes;     /* given to signal handlers */
    size_t emergency_bytes; /* given by entry to threads that are about to abort; never freed */
    size_t nr_guarded;      /* guard pages ever put behind big blocks */
    size_t size_mismatches; /* sized frees, seen by entry, whose size did not fit the block */
};
extern struct hk_ace_counters hk_ace_counters;
/* Bytes of all we have mapped that are in memory. System calls, and locks of ours. */
size_t hk_ace_resident_bytes(void);
size_t hk_ace_live_bytes(void);
size_t hk_ace_cached_bytes(void);
/* Bytes of big blocks, ever, that had no page behind them when they were mapped. */
size_t hk_ace_fresh_big_bytes(void);

/* Called by ticks, at most every 20 ms, when set; by export. */
extern void (*hk_ace_watch)(void);
/* Blocks in libc's own heap (a plugin under RTLD_DEEPBIND calls libc's malloc) are libc's to free, resize and
 * measure. Set once by entry; NULL or false: there is no other allocator, such a pointer is an error. */
struct hk_foreign {
    bool (*free)(void *p);
    bool (*resize)(void *p, size_t n, void **moved); /* *moved NULL: no memory */
    bool (*usable)(const void *p, size_t *bytes);
};
extern const struct hk_foreign *hk_ace_foreign;

/* The control plane's turn: at a tick of some thread, inside its slow section, no lock held, no snapshot in hand.
 * NULL: nothing learns. Set by entry, relaxed: a tick may miss it. */
extern void (*hk_ace_on_tick)(struct hk_heap *heap, uint64_t now_ns);

/* A lock that comes before all of ours and may be let go of when somebody has to wait. */
struct hk_fork_outer {
    void (*lock)(void);
    void (*unlock)(void);
};

/* Around fork: takes every lock of the data plane in rank order, after `outer` if any, which the caller gives back.
 * `inside`: the fork comes from a signal handler that interrupted a slow section. A lock that the section holds
 * is left to it, in parent and child. */
void hk_ace_fork_prepare(bool inside, const struct hk_fork_outer *outer);
void hk_ace_fork_parent(void);
void hk_ace_fork_child(struct hk_heap *mine, bool inside);

void hk_ace_check(struct hk_heap *heap);

#endif
