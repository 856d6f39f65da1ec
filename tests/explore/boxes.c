// SPDX-License-Identifier: MIT
#include "boxes.h"

#include "config/config.h"
#include "meta/meta.h"
#include "os/os.h"
#include "pool/pool.h"
#include "tiny/tiny.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ARENA_BYTES ((size_t)64 << 20)

struct hk_heap *box_heap[NR_BOX_HEAPS];
struct hk_config hk_config; /* instead of lib/config */

/* ---- a kernel ------------------------------------------------------------------------------ */

static char *arena, *arena_end;

static intptr_t map(void *hint, size_t bytes)
{
    char *p = arena;

    (void)hint;
    if (bytes > (size_t)(arena_end - p))
        return -ENOMEM;
    arena += bytes;
    return (intptr_t)p;
}

static int unmap(void *base, size_t bytes)
{
    (void)base;
    (void)bytes;
    return 0;
}

static intptr_t remap(void *base, size_t old_bytes, size_t new_bytes, int flags, void *target)
{
    (void)base, (void)old_bytes, (void)new_bytes, (void)flags, (void)target;
    return -ENOMEM;
}

static int advise(void *base, size_t bytes, int advice)
{
    (void)base, (void)bytes, (void)advice;
    return -EINVAL; /* what is dirty stays so */
}

static int protect(void *base, size_t bytes, bool accessible)
{
    (void)base, (void)bytes, (void)accessible;
    return 0;
}

static void start_kernel(void)
{
    arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        abort();
    arena_end = arena + ARENA_BYTES;
    explore_ignore(&arena, sizeof arena);
    explore_ignore(&hk_os_counters, sizeof hk_os_counters);
    hk_os_calls = (struct hk_os_calls){map, unmap, remap, advise, protect};
}

/* ---- policy -------------------------------------------------------------------------------- */

static void start_policy(void)
{
    struct hk_policy *policy = &hk_policy_builtin;

    hk_size_init(UINT64_C(0x123456789abcdef));
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        policy->class[c] = (struct hk_class_policy){.refill = 1, .refill_hot = 1, .cap_initial = 1, .cap_max = 1};
    policy->cache_budget_bytes = 4 * HK_MIB;
    policy->remote_batch_bytes = 1;
    policy->purge_delay_ns = UINT64_C(300000000);
    policy->purge_floor_bytes = 32 * HK_MIB;
    policy->idle_flush_ns = UINT64_C(1000000000);
    policy->big_threshold = 2 * HK_MIB;
    policy->l25_cap = 4;
    policy->wmax_mid = policy->wmax_large = 1000;
    policy->steal = policy->cache_big = policy->batch = true;
}

/* ---- blocks -------------------------------------------------------------------------------- */

void *box_alloc(struct hk_heap *heap)
{
    unsigned class = hk_size_to_class(BOX_SIZE);
    uint64_t *p = heap ? hk_heap_alloc_slow(heap, class) : hk_heap_alloc_from_depot(class);

    if (!p)
        return NULL;
    explore_claim(p);
    if (*hk_mark_of(p))
        explore_fail("a block with its mark");
    p[0] = (uintptr_t)p;
    return p;
}

/* Returns its class. */
static unsigned die(void *p, uintptr_t word)
{
    unsigned class = hk_class_of_word(word);

    explore_assert(*(uint64_t *)p == (uintptr_t)p);
    explore_disclaim(p);
    *(uint64_t *)p = 1; /* the program's last write */
    *hk_mark_of(p) = hk_size_class[class].magic;
    return class;
}

void box_keep(struct hk_heap *heap, void *p)
{
    hk_heap_free_full(heap, die(p, hk_pagemap_word(p)), p);
}

void box_free(struct hk_heap *heap, void *p)
{
    uintptr_t word = hk_pagemap_word(p);
    unsigned class = die(p, word);

    if (heap && hk_heap_of_word(word) == heap)
        hk_heap_free_full(heap, class, p);
    else
        hk_heap_free_remote(heap, p, word);
}

/* ---- start and check ----------------------------------------------------------------------- */

void boxes_ignore_counters(struct hk_heap *heap)
{
    explore_ignore(&heap->stats, sizeof heap->stats);
    explore_ignore(&heap->given_bytes, sizeof heap->given_bytes);
    explore_ignore(heap->events, sizeof heap->events);
    explore_ignore(&heap->sampling, sizeof heap->sampling);
}

void boxes_start(unsigned n)
{
    start_kernel();
    start_policy();
    hk_policy_set_readers(hk_heap_policy_seen);
    hk_config.bigcache_bytes = 64 * HK_MIB;
    for (unsigned i = 0; i < n; i++) {
        box_heap[i] = hk_heap_adopt();
        if (!box_heap[i])
            abort();
        boxes_ignore_counters(box_heap[i]);
    }
}

void boxes_refuse(void)
{
    arena_end = arena;
    while (hk_meta_alloc(sizeof(struct hk_parcel)))
        ;
}

/* Blocks of the heap's slabs that are not out, and those that wait in its magazines. */
static void count_blocks(const struct hk_heap *heap, size_t *in_slabs, size_t *in_magazines)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        const struct hk_class_slabs *cs = &heap->slabs[c];
        *in_slabs += (size_t)cs->nr_slabs * hk_size_class[c].nr_slots - cs->nr_free;
        for (void **p = cs->bottom ? cs->bottom + 1 : NULL; p && p < heap->record[c].cursor; p++)
            *in_magazines += *p != NULL;
    }
}

void boxes_check(unsigned nr_live)
{
    size_t nr_out = 0, nr_in_magazines = 0;

    /* A block that was astray travels on, at most once to each heap. */
    for (unsigned i = 0; i < NR_BOX_HEAPS + 2; i++) {
        for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
            if (h->state == HK_HEAP_ACTIVE)
                hk_heap_tick(h);
        hk_heap_reclaim(NULL);
    }
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever) {
        hk_heap_check(h);
        explore_assert(h->inbox == NULL && h->pending == NULL);
        count_blocks(h, &nr_out, &nr_in_magazines);
    }
    if (nr_out != nr_live + nr_in_magazines)
        explore_fail("%zu blocks are out, %u in the program and %zu in magazines", nr_out, nr_live, nr_in_magazines);
    hk_span_check();
    hk_meta_check();
    hk_policy_check();
}
