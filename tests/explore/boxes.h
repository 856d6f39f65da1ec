// SPDX-License-Identifier: MIT
/* boxes: the library's memory boxes under a model: a small deterministic kernel, small magazines, and what entry does. */
#ifndef TESTS_EXPLORE_BOXES_H
#define TESTS_EXPLORE_BOXES_H

#include "heap/heap.h"

#include "engine.h"

#define NR_BOX_HEAPS 4
#define BOX_SIZE 16384 /* of most blocks: few in a slab */

extern struct hk_heap *box_heap[NR_BOX_HEAPS]; /* adopted by boxes_start() */

/* In setup: `n` heaps, with magazines of one or three blocks, and a parcel for each remote free. */
void boxes_start(unsigned n);
/* In setup, last: the kernel gives no more, and there is no parcel. */
void boxes_refuse(void);
/* What malloc and free end in when their fast paths do not serve. The block is claimed, written and read. */
void *box_alloc(struct hk_heap *heap);
void box_free(struct hk_heap *heap, void *p);
/* As free does it: a block of another heap stays in this one's magazine. */
void box_keep(struct hk_heap *heap, void *p);
/* Says again that nobody looks at the counters of a heap that setup made. */
void boxes_ignore_counters(struct hk_heap *heap);
/* All heaps are well; every slab's blocks are free, in a magazine, or one of `nr_live`. Empties inboxes first. */
void boxes_check(unsigned nr_live);

#endif
