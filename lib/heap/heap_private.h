// SPDX-License-Identifier: MIT
/* heap_private: shared by heap.c, heap_remote.c and heap_park.c only. */
#ifndef HK_HEAP_PRIVATE_H
#define HK_HEAP_PRIVATE_H

#include "heap/heap.h"
#include "heap/heap_inline.h"

/* heap.c: slabs, under the heap's lock. */
void hk_heap_give_block(struct hk_heap *heap, struct hk_slab *slab, void *p);
struct hk_slab *hk_heap_usable_slab(struct hk_heap *heap, unsigned class);
void hk_heap_link_partial(struct hk_heap *heap, struct hk_slab *slab);
void hk_heap_unlink_partial(struct hk_heap *heap, struct hk_slab *slab);
void hk_heap_retire_empty_class(struct hk_heap *heap, unsigned class);
void hk_heap_retire_empty(struct hk_heap *heap);
/* By anybody: current slabs that are empty, where the lock is free. Their owner may sleep. */
void hk_heap_retire_current(struct hk_heap *heap);
/* In a fork child: a magazine may hold what is not to be taken for a fault of the program. */
void hk_heap_note_fork(void);
void *hk_heap_take_one(struct hk_heap *heap, unsigned class);
/* And by the owner: magazines. */
/* The heap is locked, and between two batches may be unlocked for a while. */
void hk_heap_flush_class(struct hk_heap *heap, unsigned class, unsigned nr_blocks);
void hk_heap_setup(struct hk_heap *heap);
/* heap_divert.c: no class is diverted. */
void hk_heap_restore_all(struct hk_heap *heap);
/* The slab is, or is no longer, one of the heap's: its numbers go with it. */
void hk_heap_count_slab_in(struct hk_heap *heap, const struct hk_slab *slab);
void hk_heap_count_slab_out(struct hk_heap *heap, const struct hk_slab *slab);
void hk_heap_count_down(struct hk_heap *heap, unsigned class, unsigned nr_blocks);
/* For an idle look: the magazine goes back in two steps, the second if the class was not used in between. */
void hk_heap_flush_watched(struct hk_heap *heap, unsigned class);

/* heap_remote.c */
/* Takes blocks home from the inbox, about max_bytes of them (0: all). The lock is held; `self` is the
 * caller's heap, which may be this one, or NULL. */
void hk_heap_drain_locked(struct hk_heap *self, struct hk_heap *heap, size_t max_bytes);
/* By the owner, until its magazine of the class is full. */
void hk_heap_drain_for(struct hk_heap *heap, unsigned class, size_t max_bytes);
/* The same for another heap, if its lock is free. */
void hk_heap_try_drain(struct hk_heap *self, struct hk_heap *heap);
void hk_heap_send_all(struct hk_heap *heap);
/* Owner only: n dead blocks of one class, of slabs of `owner`. Returns how many went: for the others there is no parcel. */
unsigned hk_heap_send(struct hk_heap *heap, struct hk_heap *owner, unsigned class, void *const *blocks, unsigned n);
/* Such a block goes into its slab. The caller holds no heap's lock; self: its heap or NULL. */
void hk_heap_bring_home(struct hk_heap *self, void *p);

/* heap_mend.c */
/* In a fork child, by the only thread: the heap's lock is held by one that is gone. It may have stopped between any two instructions. */
void hk_heap_mend_slabs(struct hk_heap *heap);

/* heap_park.c */
struct hk_slab *hk_heap_steal(struct hk_heap *thief, unsigned class);
/* The depot, made at its first use; NULL: no memory. */
struct hk_heap *hk_heap_depot(void);
/* What is empty in the depot and in the sampled heap goes back, if their locks are free. */
void hk_heap_settle_depot(void);

#endif
