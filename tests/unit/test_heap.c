// SPDX-License-Identifier: MIT
/*
 * Several heaps in one thread: become() makes one the caller's own, as if its thread ran now. The
 * fast paths are those that malloc and free inline.
 *
 * Over 900 lines because one fixture of several heaps serves refill, remote frees, parking and fork.
 */
#include "config/config.h"
#include "heap/heap_inline.h"

#include "meta/meta.h"
#include "share/share.h"

#include "fake_os.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#define MAX_HEAPS 12

static struct hk_heap *heap[MAX_HEAPS]; /* adopted by make_heaps() */

static void setup(void)
{
    fake_os_install();
    fake_os_place(HK_REGION_BYTES, 0);
    set_policy();
    ck_assert_ptr_eq(hk_heap_self, &hk_heap_empty);
}

static void become(struct hk_heap *h)
{
    hk_heap_self = h;
}

static void check_all(void)
{
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        hk_heap_check(h);
    hk_span_check();
    hk_meta_check();
}

static void teardown(void)
{
    check_all();
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static void make_heaps(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        heap[i] = hk_heap_adopt();
        ck_assert_ptr_nonnull(heap[i]);
        heap[i]->thread_id = 100 + i;
    }
    become(heap[0]);
}

/* ---- what entry and ace do with the heap --------------------------------------------------- */

/* Of any address: volatile, so that the compiler does not see which. */
static bool free_fast(void *volatile p)
{
    return hk_heap_free_fast(p);
}

static void *try_get(size_t n)
{
    void *p = hk_heap_alloc_fast(n);

    return p ? p : hk_heap_alloc_slow(hk_heap_self, hk_size_to_class(n));
}

/* Every assertion of check is a write to a file: too dear for what runs this often. */
static void *get(size_t n)
{
    void *p = try_get(n);

    if (!p || *hk_mark_of(p))
        ck_abort_msg("no block of %zu bytes, or a marked one", n);
    return p;
}

static void put_slow(struct hk_heap *self, void *p)
{
    uintptr_t word = hk_pagemap_word(p);
    unsigned class = hk_class_of_word(word);

    if (word < HK_PM_KINDS)
        ck_abort_msg("%p lies in no slab", p);
    *hk_mark_of(p) = hk_size_class[class].magic;
    if (hk_heap_of_word(word) == self)
        hk_heap_free_full(self, class, p);
    else
        hk_heap_free_remote(self, p, word);
}

/* A block of another heap travels home, which it does otherwise when a magazine overflows. */
static void put(void *p)
{
    if (hk_heap_of_word(hk_pagemap_word(p)) != hk_heap_self || !free_fast(p))
        put_slow(hk_heap_self, p);
}

/* As free does it: a block of another heap stays. */
static void put_and_keep(void *p)
{
    if (!free_fast(p)) {
        *hk_mark_of(p) = hk_size_class[hk_class_of_word(hk_pagemap_word(p))].magic;
        hk_heap_free_full(hk_heap_self, hk_class_of_word(hk_pagemap_word(p)), p);
    }
}

static bool holds(const void *p)
{
    return hk_heap_holds(p, hk_pagemap_word(p));
}

/* Dead, wherever it waits: its slab may be gone already. */
static bool is_dead(const void *p)
{
    return hk_pagemap_word(p) < HK_PM_KINDS || holds(p);
}

static bool is_in_slab(const void *p)
{
    return hk_pagemap_word(p) < HK_PM_KINDS || hk_slab_block_is_free(hk_slab_of(p), p);
}

/* As if another thread held it. */
static void take_away(struct hk_lock *lock)
{
    lock->word = (uintptr_t)&heap;
}

static void give_back(struct hk_lock *lock)
{
    lock->word = 0;
}

/* ---- counting ------------------------------------------------------------------------------ */

static unsigned in_magazine(const struct hk_heap *h, unsigned class)
{
    const struct hk_class_slabs *cs = &h->slabs[class];

    unsigned n = 0;

    if (cs->bottom)
        for (void **top = h->record[class].cursor; top > cs->bottom + 1; top--)
            n += top[-1] != NULL; /* gaps do not count */
    return n;
}

static unsigned room_in(const struct hk_heap *h, unsigned class)
{
    return (unsigned)(h->record[class].limit - h->record[class].cursor);
}

static unsigned soft_cap(const struct hk_heap *h, unsigned class)
{
    return (unsigned)(h->record[class].limit - h->slabs[class].bottom) - 1;
}

static unsigned chain_length(const struct hk_parcel *b)
{
    unsigned n = 0;

    for (; b; b = b->next)
        n++;
    return n;
}

static size_t slab_bytes(const struct hk_slab *slab)
{
    return (size_t)hk_size_class[slab->class].slab_mask + 1;
}

struct census {
    size_t bytes;   /* of slabs with a free block */
    size_t nr_out;  /* blocks of them that are not free in the slab */
    size_t nr_lost; /* as the heaps say */
};

static void count_slab(struct census *census, const struct hk_slab *slab)
{
    census->bytes += slab_bytes(slab);
    census->nr_out += (size_t)slab->nr_slots - slab->nr_free;
}

static struct census take_census(void)
{
    struct census census = {0, 0, 0};

    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever) {
        census.nr_lost += h->stats.nr_lost;
        for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
            if (h->slabs[c].current)
                count_slab(&census, h->slabs[c].current);
            for (const struct hk_slab *s = h->slabs[c].partial; s; s = s->next)
                count_slab(&census, s);
        }
    }
    return census;
}

/* Every thread flushes, three times: what one sends on arrives in the next round. */
static void flush_everything(unsigned nr_heaps)
{
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < nr_heaps; i++) {
            become(heap[i]);
            hk_heap_flush_all(heap[i]);
            hk_heap_reclaim(heap[i]);
        }
    }
    become(heap[0]);
}

/* All blocks were freed and all heaps flushed: each block is back in its slab. */
static void nothing_is_lost(void)
{
    struct census census = take_census();

    check_all();
    ck_assert_uint_eq(census.nr_lost, 0);
    ck_assert_uint_eq(census.nr_out, 0);
    ck_assert_uint_eq(hk_span_used_bytes(), census.bytes);
}

/* ---- birth --------------------------------------------------------------------------------- */

START_TEST(the_empty_heap_serves_nothing)
{
    int foreign;
    void *odd[] = {NULL, &foreign, (char *)&foreign + 1, (void *)8, (void *)UINTPTR_MAX,
                   (void *)(UINTPTR_MAX / 2), (void *)hk_heap_self};

    ck_assert_ptr_null(hk_heap_alloc_fast(0));
    ck_assert_ptr_null(hk_heap_alloc_fast(1));
    ck_assert_ptr_null(hk_heap_alloc_fast(HK_FAST_MAX));
    ck_assert_ptr_null(hk_heap_alloc_fast(HK_FAST_MAX + 1));
    ck_assert_ptr_null(hk_heap_alloc_fast(SIZE_MAX));
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        ck_assert(!free_fast(odd[i]));
}
END_TEST

START_TEST(adopt_makes_heaps_of_their_own)
{
    ck_assert(hk_heap_is_alone());
    make_heaps(MAX_HEAPS);
    ck_assert(!hk_heap_is_alone());
    for (unsigned i = 0; i < MAX_HEAPS; i++) {
        ck_assert_uint_eq((uintptr_t)heap[i] % HK_HEAP_ALIGN, 0);
        ck_assert_uint_eq(heap[i]->state, HK_HEAP_ACTIVE);
        ck_assert_uint_eq(heap[i]->max_fast, HK_FAST_MAX);
        for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
            uintptr_t word = (uintptr_t)&heap[i]->record[c];
            ck_assert_ptr_eq(hk_heap_of_word(word), heap[i]);
            ck_assert_uint_eq(hk_class_of_word(word), c);
        }
        for (unsigned j = 0; j < i; j++) {
            ck_assert_ptr_ne(heap[i], heap[j]);
            ck_assert_uint_ne(heap[i]->id, heap[j]->id);
        }
    }
    unsigned nr = 0;
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        nr++;
    ck_assert_uint_eq(nr, MAX_HEAPS);
}
END_TEST

START_TEST(a_fresh_heap_frees_nothing)
{
    int foreign;

    make_heaps(1);
    ck_assert(!free_fast(NULL));
    ck_assert(!free_fast(&foreign));
    ck_assert(!free_fast((void *)UINTPTR_MAX));
    ck_assert_ptr_null(hk_heap_alloc_fast(0));
    ck_assert_ptr_null(hk_heap_alloc_fast(100)); /* no magazine yet */
}
END_TEST

/* ---- malloc and free of one thread --------------------------------------------------------- */

START_TEST(every_size)
{
    make_heaps(1);
    for (size_t n = 1; n <= HK_FAST_MAX; n += 1 + n / 16) {
        char *p = get(n), *q = get(n);
        size_t usable = hk_size_class[hk_size_to_class(n)].size;
        ck_assert_uint_ge(usable, n);
        ck_assert_uint_eq((uintptr_t)p % 16, 0);
        ck_assert(p + usable <= q || q + usable <= p);
        memset(p, 0x5a, usable);
        memset(q, 0xa5, usable);
        ck_assert(!holds(p) && !holds(q));
        put(p);
        ck_assert_uint_eq(*hk_mark_of(p), hk_size_class[hk_size_to_class(n)].magic);
        ck_assert(holds(p) && !holds(q));
        put(q);
    }
    flush_everything(1);
    nothing_is_lost();
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

START_TEST(last_in_first_out)
{
    make_heaps(1);
    void *a = get(100), *b = get(100);
    put(a);
    put(b);
    ck_assert_ptr_eq(get(100), b);
    ck_assert_ptr_eq(get(100), a);
}
END_TEST

/* No check may store before all have passed. */
START_TEST(free_fast_refuses_what_is_not_live)
{
    make_heaps(1);
    char *p = get(200), *other = get(200);
    struct hk_class_record before = heap[0]->record[hk_size_to_class(200)];

    for (size_t i = 1; i < 208; i++)
        ck_assert(!free_fast(p + i));
    ck_assert_mem_eq(&before, &heap[0]->record[hk_size_to_class(200)], sizeof before);
    ck_assert_uint_eq(*hk_mark_of(p), 0);
    put(p);
    before = heap[0]->record[hk_size_to_class(200)];
    ck_assert(!free_fast(p));
    ck_assert_mem_eq(&before, &heap[0]->record[hk_size_to_class(200)], sizeof before);
    put(other);
}
END_TEST

START_TEST(sized_free_refuses_an_impossible_size)
{
    make_heaps(1);
    void *p = get(1000); /* class of 1024 */
    ck_assert(!hk_heap_free_sized_fast(p, 1025));
    ck_assert(!hk_heap_free_sized_fast(p, 200));
    ck_assert(!holds(p));
    ck_assert(hk_heap_free_sized_fast(p, 1000));
    ck_assert(holds(p));
    p = get(50);
    ck_assert(hk_heap_free_sized_fast(p, 0));
}
END_TEST

/* The mark is a hint only: user data may look like it. */
START_TEST(a_block_that_looks_dead_is_not_held)
{
    make_heaps(1);
    void *p = get(64);
    *hk_mark_of(p) = hk_size_class[hk_size_to_class(64)].magic;
    ck_assert(!free_fast(p));
    ck_assert(!holds(p));
    put_slow(heap[0], p);
    ck_assert(holds(p));
}
END_TEST

START_TEST(alloc_slow_serves_from_the_magazine)
{
    make_heaps(1);
    void *p = get(32);
    put(p);
    ck_assert_ptr_eq(hk_heap_alloc_slow(heap[0], hk_size_to_class(32)), p);
    ck_assert_uint_eq(*hk_mark_of(p), 0);
}
END_TEST

/* ---- magazines: refill, growth, flush, shrinking ------------------------------------------- */

START_TEST(refill_takes_what_the_policy_says_in_address_order)
{
    const struct hk_class_policy *policy = &hk_policy_builtin.class[2];
    unsigned nr = 0, most = 0;

    make_heaps(1);
    char *last = get(48);
    ck_assert_uint_eq(in_magazine(heap[0], 2), policy->refill / 4 - 1u); /* the first is small */
    while (in_magazine(heap[0], 2))
        last = get(48);
    last = get(48);
    ck_assert_uint_eq(in_magazine(heap[0], 2), policy->refill - 1u);
    while (nr < 60) {
        bool miss = in_magazine(heap[0], 2) == 0;
        char *p = get(48);
        if (hk_slab_of(p) == hk_slab_of(last))
            ck_assert_ptr_eq(p, last + 48);
        last = p;
        nr += miss;
        most = (unsigned)hk_max(most, in_magazine(heap[0], 2) + 1);
    }
    ck_assert_uint_eq(heap[0]->stats.nr_refills, 62);
    ck_assert_uint_gt(most, policy->refill); /* a class that keeps missing */
    ck_assert_uint_le(most, policy->refill_hot);
    ck_assert_uint_le(most, heap[0]->slabs[2].cap);
}
END_TEST

/* A free that was interrupted after it had read the cursor: a handler's mallocs and frees, then its last two
 * steps. `held` blocks were in the magazine, the handler has held + 1 at a time. */
static void interrupt_free(size_t n, unsigned held)
{
    struct hk_class_record *r = &heap[0]->record[hk_size_to_class(n)];
    void *p = get(n), *mine[8];

    while (in_magazine(heap[0], hk_size_to_class(n)))
        get(n);
    for (unsigned i = 0; i < held; i++)
        mine[i] = get(n);
    while (in_magazine(heap[0], hk_size_to_class(n)))
        get(n);
    for (unsigned i = 0; i < held; i++)
        put(mine[i]);
    *hk_mark_of(p) = r->magic;
    void **slot = r->cursor;
    for (unsigned i = 0; i <= held; i++)
        mine[i] = get(n);
    for (unsigned i = held + 1; i-- > 0;)
        put(mine[i]);
    *slot = p;
    r->cursor++;
}

START_TEST(interrupted_free_loses_and_doubles_nothing)
{
    static const size_t sizes[] = {16, 1024, 4000, 20000};
    static void *got[400];

    make_heaps(1);
    for (unsigned s = 0; s < 4; s++)
        for (unsigned held = 0; held < (s == 0 ? 4 : 1); held++) {
            unsigned c = hk_size_to_class(sizes[s]);
            interrupt_free(sizes[s], held);
            for (unsigned i = 0; i < 400; i++)
                memset(got[i] = get(sizes[s]), (int)i, 16);
            for (unsigned i = 0; i < 400; i++)
                ck_assert_int_eq(*(unsigned char *)got[i], i & 0xff);
            for (unsigned i = 0; i < 400; i++)
                put(got[i]);
            hk_heap_flush_all(heap[0]);
            ck_assert_uint_eq(in_magazine(heap[0], c), 0);
            hk_heap_check(heap[0]);
        }
}
END_TEST

static void *block[40000];

static void get_many(size_t n, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        block[i] = get(n);
}

static void put_many(unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        put(block[i]);
}

/* Lets go of every fourth block and takes as many again: both ends of the magazine are hit, and no
 * slab gets empty. */
static void churn(size_t n, unsigned nr)
{
    for (unsigned i = 0; i < nr; i += 4)
        put(block[i]);
    for (unsigned i = 0; i < nr; i += 4)
        block[i] = get(n);
}

START_TEST(magazine_grows_when_both_ends_are_hit)
{
    unsigned c = hk_size_to_class(16), max = hk_policy_builtin.class[c].cap_max, last = 0;

    make_heaps(1);
    get_many(16, 12000);
    for (int i = 0; i < 30; i++) {
        churn(16, 12000);
        ck_assert_uint_ge(heap[0]->slabs[c].cap, last);
        last = heap[0]->slabs[c].cap;
        ck_assert(hk_is_pow2(last + 1));
        ck_assert_uint_le(in_magazine(heap[0], c), soft_cap(heap[0], c));
        hk_heap_check(heap[0]);
    }
    ck_assert_uint_eq(last, max);
    ck_assert_uint_eq(soft_cap(heap[0], c), max);
    ck_assert_uint_eq(heap[0]->cap_bytes, max * 16);
}
END_TEST

START_TEST(magazines_stay_in_the_budget)
{
    size_t initial = 0;

    hk_policy_builtin.cache_budget_bytes = 64 * HK_KIB;
    make_heaps(1);
    for (size_t n = 64; n <= 1024; n *= 2) {
        get_many(n, 2000);
        for (int i = 0; i < 10; i++)
            churn(n, 2000);
        put_many(2000);
    }
    for (size_t n = 64; n <= 1024; n *= 2)
        initial += n * hk_policy_builtin.class[hk_size_to_class(n)].cap_initial;
    ck_assert_uint_gt(heap[0]->cap_bytes, 32 * HK_KIB); /* the first of each is free of charge */
    ck_assert_uint_le(heap[0]->cap_bytes, 64 * HK_KIB + initial);
}
END_TEST

START_TEST(a_full_magazine_flushes_its_older_half)
{
    unsigned c = hk_size_to_class(1024), cap = hk_policy_builtin.class[c].cap_initial;

    make_heaps(1);
    hk_policy_builtin.class[c].cap_max = (uint16_t)cap; /* no growth */
    get_many(1024, 20 * cap);
    while (in_magazine(heap[0], c))
        get(1024);
    unsigned room = room_in(heap[0], c), gap = cap - room;
    /* One of each slab, so that none is kept by the magazine alone. */
    for (unsigned i = 0; i < room; i++)
        put(block[4 * i]);
    ck_assert_uint_eq(in_magazine(heap[0], c), room);
    put(block[4 * room]);
    ck_assert_uint_eq(heap[0]->stats.nr_flushes, 1);
    ck_assert_uint_eq(in_magazine(heap[0], c), cap - (cap + 1) / 2 + 1);
    for (unsigned i = 0; i <= room; i++)
        ck_assert_int_eq(hk_slab_block_is_free(hk_slab_of(block[4 * i]), block[4 * i]),
                         i < (cap + 1) / 2 - gap);
}
END_TEST

/* Scattered, so that in the end each slab is empty but for what the magazine holds. */
static void put_scattered(unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        put(block[(size_t)i * 7919 % nr]);
}

START_TEST(magazine_that_pins_slabs_shrinks)
{
    unsigned c = hk_size_to_class(512), initial = hk_policy_builtin.class[c].cap_initial;

    make_heaps(1);
    get_many(512, 8000);
    for (int i = 0; i < 20; i++)
        churn(512, 8000);
    ck_assert_uint_gt(soft_cap(heap[0], c), 2 * initial + 1);
    size_t peak = hk_span_used_bytes();
    put_scattered(8000); /* all of it, and nothing asked for in between */
    ck_assert_uint_le(soft_cap(heap[0], c), 2 * initial + 1);
    ck_assert_uint_le(hk_span_used_bytes(), peak / 2);
    hk_heap_check(heap[0]);
    get_many(512, 8000);
    for (int i = 0; i < 20; i++) { /* and may grow again */
        churn(512, 8000);
        hk_heap_check(heap[0]);
    }
    ck_assert_uint_gt(soft_cap(heap[0], c), 2 * initial + 1);
    put_many(8000);
    flush_everything(1);
    nothing_is_lost();
}
END_TEST

START_TEST(one_block_at_a_time_makes_no_slab_each_time)
{
    make_heaps(1);
    for (size_t n = 16; n <= HK_FAST_MAX; n *= 4) {
        put(get(n));
        size_t acquired = heap[0]->stats.nr_slabs_acquired;
        for (int i = 0; i < 1000; i++) {
            void *p = get(n);
            put(p);
            if (i % 3 == 0)
                hk_heap_tick(heap[0]);
        }
        ck_assert_uint_eq(heap[0]->stats.nr_slabs_acquired, acquired);
    }
}
END_TEST

START_TEST(empty_slabs_are_retired)
{
    make_heaps(1);
    get_many(4000, 2000);
    size_t peak = hk_span_used_bytes();
    put_many(2000);
    /* What is left: the magazine's blocks, the last slab with room. */
    ck_assert_uint_lt(hk_span_used_bytes(), peak / 4);
    hk_heap_flush_all(heap[0]);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
    ck_assert_uint_eq(heap[0]->stats.nr_slabs_acquired, heap[0]->stats.nr_slabs_retired);
}
END_TEST

/* What threads keep together has one bound: when it is used up a magazine has the least that works, and does not grow. */
START_TEST(magazines_share_a_budget)
{
    static const size_t size[] = {64, 512, 528, 5000, HK_FAST_MAX};
    size_t before = hk_share_taken(), least = 0, room = HK_SHARE_BYTES - before;

    make_heaps(2);
    hk_share_force(room);
    for (unsigned i = 0; i < sizeof size / sizeof *size; i++) {
        unsigned c = hk_size_to_class(size[i]), cap = size[i] <= 512 ? 7 : 1;
        for (unsigned round = 0; round < 3; round++) {
            get_many(size[i], 200);
            put_many(200);
            ck_assert_uint_eq(heap[0]->slabs[c].cap, cap);
        }
        least += cap * hk_size_class[c].size;
        ck_assert_uint_eq(hk_share_taken(), HK_SHARE_BYTES + least);
        ck_assert_uint_eq(heap[0]->cap_bytes, least);
    }
    hk_share_give(room);
    get_many(64, 200);
    put_many(200);
    ck_assert_uint_gt(heap[0]->slabs[hk_size_to_class(64)].cap, 7); /* there is room again */
    become(heap[1]);
    put(get(5000));
    ck_assert_uint_eq(heap[1]->slabs[hk_size_to_class(5000)].cap, hk_policy()->class[hk_size_to_class(5000)].cap_initial);
    ck_assert_uint_eq(hk_share_taken(), before + heap[0]->cap_bytes + heap[1]->cap_bytes);
    hk_heap_park(heap[1]);
    become(heap[0]);
    ck_assert_uint_eq(hk_share_taken(), before + heap[0]->cap_bytes);
    hk_heap_park(heap[0]);
    ck_assert_uint_eq(hk_share_taken(), before);
}
END_TEST

/* A thread that sleeps cannot retire the slab that it took from last. */
START_TEST(reclaim_retires_empty_slabs_of_others)
{
    unsigned c = hk_size_to_class(5000);

    hk_policy_builtin.class[c].cap_initial = hk_policy_builtin.class[c].cap_max = 1;
    hk_policy_builtin.class[c].refill = hk_policy_builtin.class[c].refill_hot = 1;
    make_heaps(2);
    put_slow(NULL, get(5000));
    hk_heap_reclaim(heap[1]);
    ck_assert_uint_eq(heap[0]->stats.nr_parcels_drained, 1);
    ck_assert_uint_gt(hk_span_used_bytes(), 0);
    take_away(&heap[0]->lock);
    hk_heap_reclaim(heap[1]);
    give_back(&heap[0]->lock);
    ck_assert_uint_gt(hk_span_used_bytes(), 0);
    hk_heap_reclaim(heap[1]);
    ck_assert_ptr_null(heap[0]->slabs[c].current);
    put(get(5000));
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

START_TEST(pool_without_magazines)
{
    unsigned c = hk_size_to_class(5000);

    hk_policy_builtin.class[c].cap_initial = hk_policy_builtin.class[c].cap_max = 1;
    hk_policy_builtin.class[c].refill = hk_policy_builtin.class[c].refill_hot = 1;
    make_heaps(1);
    for (int i = 0; i < 5; i++) {
        get_many(5000, 200);
        put_many(200);
        ck_assert_uint_le(in_magazine(heap[0], c), 1);
    }
    flush_everything(1);
    nothing_is_lost();
}
END_TEST

/* ---- idle ---------------------------------------------------------------------------------- */

START_TEST(idle_class_is_flushed_busy_one_is_not)
{
    unsigned idle = hk_size_to_class(64), busy = hk_size_to_class(256);

    make_heaps(1);
    put(get(64));
    put(get(256));
    hk_heap_flush_idle(heap[0]); /* first look */
    ck_assert_uint_gt(in_magazine(heap[0], idle), 0);
    get(256);
    hk_heap_flush_idle(heap[0]);
    ck_assert_uint_eq(in_magazine(heap[0], idle), 1);
    ck_assert_uint_gt(in_magazine(heap[0], busy), 1);
    get(256);
    hk_heap_flush_idle(heap[0]);
    ck_assert_uint_eq(in_magazine(heap[0], idle), 0);
    ck_assert_uint_gt(in_magazine(heap[0], busy), 1);
    ck_assert_uint_eq(heap[0]->stats.nr_idle_flushes, 2);
    ck_assert_uint_eq(heap[0]->stats.nr_published, 0); /* there is nobody to share with */
}
END_TEST

/* Blocks of several slabs, every second one freed: partial slabs. */
static void leave_partial_slabs(size_t n, unsigned nr)
{
    get_many(n, nr);
    for (unsigned i = 0; i < nr; i += 2)
        put(block[i]);
}

static void go_idle(struct hk_heap *h)
{
    become(h);
    hk_heap_flush_idle(h);
    hk_heap_flush_idle(h);
}

/* The looks come from a signal handler that interrupts the fast path at its worst place. */
START_TEST(idle_look_inside_the_fast_path)
{
    unsigned c = hk_size_to_class(64);
    struct hk_class_record *r;

    make_heaps(1);
    r = &heap[0]->record[c];
    void *keep = get(64);
    put(get(64));
    hk_heap_flush_idle(heap[0]);
    for (int i = 0; i < 10; i++) { /* a loop of malloc and free: the same cursor at each look */
        void *p = r->cursor[-1]; /* malloc has read its block */
        ck_assert_ptr_nonnull(p);
        hk_heap_flush_idle(heap[0]);
        r->cursor--;
        *hk_mark_of(p) = 0;
        ck_assert(!is_in_slab(p));
        void **slot = r->cursor; /* free has read its cursor */
        if (slot < r->limit) {
            hk_heap_flush_idle(heap[0]);
            *hk_mark_of(p) = r->magic;
            *slot = p;
            r->cursor++;
        } else {
            put_slow(heap[0], p);
        }
        ck_assert_ptr_eq(get(64), p);
        put(p);
        hk_heap_check(heap[0]);
    }
    put(keep);
    flush_everything(1);
    nothing_is_lost();
}
END_TEST

START_TEST(partial_slabs_of_an_idle_class_serve_others)
{
    make_heaps(2);
    leave_partial_slabs(100, 2000);
    go_idle(heap[0]);
    ck_assert_uint_gt(heap[0]->stats.nr_published, 0);
    become(heap[1]);
    void *p = get(100);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 1);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_acquired, 0);
    for (unsigned i = 1; i < 2000; i += 2) {
        ck_assert_ptr_ne(block[i], p);
        ck_assert(!holds(block[i]));
    }
    for (unsigned i = 1; i < 2000; i += 2) /* to three owners */
        put(block[i]);
    put(p);
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

START_TEST(nothing_is_published_without_steal)
{
    hk_policy_builtin.steal = false;
    make_heaps(2);
    leave_partial_slabs(100, 2000);
    go_idle(heap[0]);
    ck_assert_uint_eq(heap[0]->stats.nr_published, 0);
}
END_TEST

/* An empty slab in the depot would belong to nobody who gives it back. */
START_TEST(empty_slabs_are_not_published)
{
    make_heaps(2);
    for (int round = 0; round < 10; round++) {
        become(heap[0]);
        get_many(60000, 40);
        put_many(40);
        go_idle(heap[0]);
        get_many(60000, 40);
        put_many(40);
        go_idle(heap[0]);
    }
    hk_heap_flush_all(heap[0]);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

/* ---- remote frees -------------------------------------------------------------------------- */

START_TEST(remote_block_travels_in_a_parcel)
{
    make_heaps(2);
    void *p = get(100);
    uintptr_t word = hk_pagemap_word(p);
    become(heap[1]);
    ck_assert(!free_fast(p));
    put(p);
    ck_assert_uint_eq(heap[1]->stats.nr_remote_frees, 1);
    ck_assert_uint_eq(heap[1]->stats.nr_parcels_sent, 0);
    ck_assert(hk_heap_holds(p, word)); /* in the outbox */
    hk_heap_tick(heap[1]);
    ck_assert_uint_eq(heap[1]->stats.nr_parcels_sent, 1);
    ck_assert_uint_eq(chain_length(heap[0]->inbox), 1);
    ck_assert(hk_heap_holds(p, word)); /* in the inbox */
    become(heap[0]);
    hk_heap_tick(heap[0]);
    ck_assert_uint_eq(heap[0]->stats.nr_parcels_drained, 1);
    ck_assert(hk_heap_holds(p, word)); /* in the magazine */
    ck_assert_ptr_eq(get(100), p);
    ck_assert(!hk_heap_holds(p, word));
    put(p);
    hk_heap_flush_all(heap[0]);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

START_TEST(block_of_another_heap_is_kept)
{
    make_heaps(3);
    for (unsigned c = 0; c < HK_NR_SIZED_CLASSES; c++) {
        size_t n = hk_min(hk_size_class[c].size, HK_FAST_MAX);
        void *p = get(n);
        become(heap[1]);
        put_and_keep(p);
        ck_assert(holds(p) && !free_fast(p)); /* dead to whoever looks */
        ck_assert_uint_eq(hk_heap_small_size(p), 0);
        ck_assert_ptr_eq(get(n), p);
        ck_assert(!holds(p));
        ck_assert_uint_eq(hk_heap_small_size(p), hk_size_class[c].size);
        ck_assert(free_fast(p)); /* now that there is a magazine */
        become(heap[2]);
        ck_assert(holds(p) && !free_fast(p));
        become(heap[0]);
        ck_assert(holds(p) && !free_fast(p));
    }
    ck_assert_uint_eq(heap[1]->stats.nr_remote_frees, 0);
    check_all();
    flush_everything(3);
    ck_assert_uint_eq(heap[1]->stats.nr_remote_frees, HK_NR_SIZED_CLASSES);
    nothing_is_lost();
}
END_TEST

/* A thread that only frees keeps little: what overflows is all that it has, and its magazine is halved. */
START_TEST(kept_blocks_go_home_when_the_magazine_is_full)
{
    unsigned c = hk_size_to_class(100), cap = hk_policy()->class[c].cap_initial;

    make_heaps(2);
    get_many(100, 10 * cap);
    become(heap[1]);
    for (unsigned i = 0; i < cap; i++)
        put_and_keep(block[i]);
    ck_assert_uint_eq(in_magazine(heap[1], c), cap);
    ck_assert_uint_eq(heap[1]->stats.nr_remote_frees, 0);
    put_and_keep(block[cap]);
    ck_assert_uint_eq(heap[1]->stats.nr_remote_frees, cap);
    ck_assert_uint_eq(in_magazine(heap[1], c), 1);
    ck_assert_uint_eq(soft_cap(heap[1], c), cap / 2);
    for (unsigned i = cap + 1; i < 10 * cap; i++) {
        put_and_keep(block[i]);
        ck_assert_uint_le(in_magazine(heap[1], c), cap / 2);
    }
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

/* One whose magazine has room for one block: half of that is none, and malloc would find no place for any. */
START_TEST(smallest_magazine_keeps_its_room)
{
    unsigned c = hk_size_to_class(100);

    hk_policy_builtin.class[c].cap_initial = hk_policy_builtin.class[c].cap_max = 1;
    make_heaps(2);
    get_many(100, 8);
    become(heap[1]);
    for (unsigned i = 0; i < 8; i++)
        put_and_keep(block[i]);
    ck_assert_uint_eq(soft_cap(heap[1], c), 1);
    block[0] = get(100);
    put_and_keep(block[0]);
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

START_TEST(parked_heap_keeps_nothing)
{
    make_heaps(2);
    get_many(100, 50);
    become(heap[1]);
    for (unsigned i = 0; i < 50; i++)
        put_and_keep(block[i]);
    hk_heap_park(heap[1]);
    become(heap[0]);
    hk_heap_flush_all(heap[0]);
    nothing_is_lost();
}
END_TEST

/* No offset is below a reciprocal of 0, and there is no room. */
static void must_take_nothing(uintptr_t word)
{
    const struct hk_class_record *r = hk_heap_record_for(word);

    ck_assert_uint_eq(r->magic, 0);
    ck_assert(r->cursor >= r->limit);
}

START_TEST(kinds_lead_to_no_record)
{
    make_heaps(1);
    for (unsigned kind = 0; kind < HK_PM_KINDS; kind += 1 << HK_PM_KIND_SHIFT) {
        become(heap[0]);
        must_take_nothing(kind);
        become((struct hk_heap *)&hk_heap_empty);
        must_take_nothing(kind);
    }
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        must_take_nothing(hk_heap_word(heap[0], c));
    become(heap[0]);
    must_take_nothing(hk_pagemap_word(hk_heap_alloc_sampled(3)));
}
END_TEST

START_TEST(parcel_leaves_when_it_is_full)
{
    make_heaps(2);
    get_many(16, 2 * HK_PARCEL_BLOCKS);
    become(heap[1]);
    put_many(HK_PARCEL_BLOCKS - 1);
    ck_assert_uint_eq(heap[1]->stats.nr_parcels_sent, 0);
    put(block[HK_PARCEL_BLOCKS - 1]);
    ck_assert_uint_eq(heap[1]->stats.nr_parcels_sent, 1);
    ck_assert_uint_eq(heap[0]->inbox->count, HK_PARCEL_BLOCKS);
    ck_assert_uint_eq(heap[0]->inbox_bytes, HK_PARCEL_BLOCKS * 16);
}
END_TEST

START_TEST(parcel_leaves_when_it_is_heavy)
{
    make_heaps(2);
    get_many(20000, 8);
    become(heap[1]);
    put_many(3);
    ck_assert_uint_eq(heap[1]->stats.nr_parcels_sent, 0);
    put(block[3]); /* 64 KiB and more */
    ck_assert_uint_eq(heap[1]->stats.nr_parcels_sent, 1);
}
END_TEST

START_TEST(refill_takes_parcels_home_first)
{
    size_t peak = 0;

    make_heaps(2);
    for (int round = 0; round < 20; round++) {
        become(heap[0]);
        get_many(48, 1000);
        become(heap[1]);
        put_many(1000);
        hk_heap_tick(heap[1]);
        if (round == 2)
            peak = hk_span_used_bytes();
    }
    ck_assert_uint_le(hk_span_used_bytes(), peak + HK_GRANULE);
}
END_TEST

START_TEST(parcels_are_used_again)
{
    make_heaps(2);
    size_t meta_bytes = 0;
    for (int round = 0; round < 100; round++) {
        become(heap[0]);
        get_many(48, 500);
        become(heap[1]);
        put_many(500);
        hk_heap_tick(heap[1]);
        become(heap[0]);
        hk_heap_tick(heap[0]);
        if (round == 10)
            meta_bytes = hk_meta_mapped_bytes();
    }
    ck_assert_uint_eq(hk_meta_mapped_bytes(), meta_bytes);
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

START_TEST(one_outbox_serves_several_owners)
{
    void *p[MAX_HEAPS];

    make_heaps(MAX_HEAPS); /* more than outboxes */
    for (unsigned i = 0; i + 1 < MAX_HEAPS; i++) {
        become(heap[i]);
        p[i] = get(100);
    }
    become(heap[MAX_HEAPS - 1]);
    for (unsigned i = 0; i + 1 < MAX_HEAPS; i++)
        put(p[i]);
    ck_assert_uint_ge(heap[MAX_HEAPS - 1]->stats.nr_parcels_sent,
                      MAX_HEAPS - 1 - HK_NR_OUTBOXES);
    for (unsigned i = 0; i + 1 < MAX_HEAPS; i++)
        ck_assert(holds(p[i]));
    flush_everything(MAX_HEAPS);
    nothing_is_lost();
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

START_TEST(sender_empties_the_inbox_of_a_sleeper)
{
    make_heaps(2);
    get_many(2000, 1000); /* 2 MiB: twice the bound */
    become(heap[1]);
    put_many(1000);
    ck_assert_uint_gt(heap[0]->stats.nr_parcels_drained, 0);
    ck_assert_uint_le(heap[0]->inbox_bytes, HK_INBOX_MAX_BYTES);
    ck_assert_uint_le(chain_length(heap[0]->inbox) * 64 * HK_KIB, HK_INBOX_MAX_BYTES);
    check_all();
}
END_TEST

START_TEST(sender_waits_for_nobody)
{
    make_heaps(2);
    get_many(2000, 1000);
    take_away(&heap[0]->lock); /* the owner is busy */
    become(heap[1]);
    put_many(1000);
    ck_assert_uint_eq(heap[0]->stats.nr_parcels_drained, 0);
    give_back(&heap[0]->lock);
    hk_heap_tick(heap[1]);
    hk_heap_reclaim(heap[1]);
    ck_assert_ptr_null(heap[0]->inbox);
    ck_assert_ptr_null(heap[0]->pending);
    check_all();
}
END_TEST

START_TEST(one_malloc_brings_home_no_flood)
{
    make_heaps(2);
    get_many(16000, 60); /* 15 parcels of 64 KiB: under the bound of the inbox */
    while (in_magazine(heap[0], hk_size_to_class(16000)))
        block[60] = get(16000);
    become(heap[1]);
    put_many(60);
    hk_heap_tick(heap[1]);
    unsigned waiting = chain_length(heap[0]->inbox);
    ck_assert_uint_ge(waiting, 10);
    become(heap[0]);
    ck_assert_ptr_nonnull(try_get(100)); /* another class drains too */
    ck_assert_uint_ge(heap[0]->stats.nr_parcels_drained, 4);
    ck_assert_uint_le(heap[0]->stats.nr_parcels_drained, 5); /* 256 KiB and a bit */
    ck_assert_uint_eq(chain_length(heap[0]->pending) + heap[0]->stats.nr_parcels_drained, waiting);
    hk_heap_tick(heap[0]); /* 1 MiB: the rest */
    ck_assert_ptr_null(heap[0]->pending);
}
END_TEST

START_TEST(reclaim_empties_the_inboxes_of_others)
{
    make_heaps(3);
    get_many(100, 300);
    become(heap[1]);
    put_many(300);
    hk_heap_tick(heap[1]);
    ck_assert_ptr_nonnull(heap[0]->inbox);
    hk_heap_reclaim(heap[2]);
    ck_assert_ptr_null(heap[0]->inbox);
    for (unsigned i = 0; i < 300; i++)
        ck_assert(is_dead(block[i]));
    become(heap[0]);
    get_many(100, 300);
    become(heap[1]);
    put_many(300);
    hk_heap_tick(heap[1]);
    hk_heap_reclaim(NULL); /* a thread without a heap may do it too */
    ck_assert_ptr_null(heap[0]->inbox);
    check_all();
}
END_TEST

START_TEST(drain_into_a_full_magazine_goes_to_the_slabs)
{
    unsigned c = hk_size_to_class(1024);

    make_heaps(2);
    get_many(1024, 400);
    for (unsigned i = 200; room_in(heap[0], c); i++)
        put(block[i]);
    unsigned full = in_magazine(heap[0], c);
    become(heap[1]);
    put_many(150);
    hk_heap_tick(heap[1]);
    become(heap[0]);
    hk_heap_tick(heap[0]);
    ck_assert_uint_eq(in_magazine(heap[0], c), full);
    for (unsigned i = 0; i < 150; i++)
        ck_assert(is_in_slab(block[i]));
    hk_heap_check(heap[0]);
}
END_TEST

/* A consumer's frees: the producer's magazine grows until whole parcels fit, and its slabs are left alone. */
START_TEST(magazine_grows_for_parcels)
{
    unsigned c = hk_size_to_class(64);
    size_t nr_refills = 0;

    make_heaps(2);
    for (int round = 0; round < 40; round++) {
        become(heap[0]);
        get_many(64, 10 * HK_PARCEL_BLOCKS);
        if (round == 19)
            nr_refills = heap[0]->stats.nr_refills;
        become(heap[1]);
        put_many(10 * HK_PARCEL_BLOCKS);
    }
    ck_assert_uint_ge(heap[0]->slabs[c].cap, HK_PARCEL_BLOCKS);
    ck_assert_uint_le(heap[0]->slabs[c].cap, hk_policy()->class[c].cap_max);
    ck_assert_uint_le(heap[0]->stats.nr_refills, nr_refills + 40); /* for what waits in the outbox */
    become(heap[0]);
    check_all();
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

/* ---- park, adopt, steal -------------------------------------------------------------------- */

START_TEST(parked_heap_keeps_slabs_only)
{
    make_heaps(2);
    get_many(100, 500);
    size_t used = hk_span_used_bytes();
    for (size_t n = 200; n < 60000; n *= 2)
        put(get(n));
    hk_heap_park(heap[0]);
    ck_assert_uint_eq(heap[0]->state, HK_HEAP_PARKED);
    ck_assert_uint_eq(heap[0]->cap_bytes, 0);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        ck_assert_ptr_null(heap[0]->slabs[c].bottom);
    ck_assert_uint_le(hk_span_used_bytes(), used); /* what was empty went */
    for (unsigned i = 0; i < 500; i++)
        ck_assert(!holds(block[i]));
    ck_assert(hk_heap_is_alone());
    hk_heap_check(heap[0]);
}
END_TEST

START_TEST(parked_heap_is_adopted_again)
{
    make_heaps(2);
    void *p = get(100);
    hk_heap_park(heap[0]);
    size_t meta_bytes = hk_meta_mapped_bytes();
    ck_assert_ptr_eq(hk_heap_adopt(), heap[0]);
    ck_assert_uint_eq(heap[0]->state, HK_HEAP_ACTIVE);
    put(p); /* its own block again */
    ck_assert(holds(p));
    for (int i = 0; i < 2000; i++) {
        get_many(16 + (size_t)i % 5000, 3);
        put_many(3);
        hk_heap_park(heap[0]);
        ck_assert_ptr_eq(hk_heap_adopt(), heap[0]);
    }
    ck_assert_uint_le(hk_meta_mapped_bytes(), meta_bytes + 256 * HK_KIB);
    flush_everything(1);
    nothing_is_lost();
}
END_TEST

START_TEST(slab_of_a_parked_heap_is_stolen)
{
    make_heaps(2);
    get_many(100, 100);
    hk_heap_park(heap[0]);
    become(heap[1]);
    void *p = get(100);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 1);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_acquired, 0);
    ck_assert_ptr_eq(hk_heap_of_word(hk_pagemap_word(p)), heap[1]);
    put_many(100); /* of the stolen slab, or sent to the parked heap */
    put(p);
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

START_TEST(nothing_is_stolen_without_steal)
{
    hk_policy_builtin.steal = false;
    make_heaps(2);
    get_many(100, 100);
    hk_heap_park(heap[0]);
    become(heap[1]);
    get(100);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 0);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_acquired, 1);
}
END_TEST

START_TEST(nothing_is_stolen_from_the_busy)
{
    make_heaps(2);
    leave_partial_slabs(100, 500);
    hk_heap_park(heap[0]);
    take_away(&heap[0]->lock);
    become(heap[1]);
    get(100);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 0);
    give_back(&heap[0]->lock);
}
END_TEST

static unsigned count_partial(const struct hk_heap *h, unsigned class)
{
    unsigned nr = 0;

    for (const struct hk_slab *slab = h->slabs[class].partial; slab; slab = slab->next)
        nr++;
    return nr;
}

START_TEST(the_living_spare_a_slab)
{
    unsigned class = hk_size_to_class(100);
    const struct hk_slab *first;
    void *p;

    make_heaps(2);
    leave_partial_slabs(100, 2000);
    hk_heap_flush_all(heap[0]);
    ck_assert_uint_ge(count_partial(heap[0], class), 3);
    first = heap[0]->slabs[class].partial;
    become(heap[1]);
    p = get(100);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 1);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_acquired, 0);
    ck_assert_ptr_eq(hk_heap_of_word(hk_pagemap_word(p)), heap[1]);
    ck_assert_ptr_eq(heap[0]->slabs[class].partial, first);
    for (unsigned i = 1; i < 2000; i += 2)
        ck_assert_ptr_ne(block[i], p);
    hk_heap_check(heap[0]);
    hk_heap_check(heap[1]);
    put(p);
    become(heap[0]); /* its blocks there are another's now */
    for (unsigned i = 1; i < 2000; i += 2)
        put(block[i]);
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

/* The only one with room, one that is nearly full, and in mode secure any. */
START_TEST(the_living_keep_what_they_need)
{
    unsigned class = hk_size_to_class(100);
    void *keep;

    make_heaps(2);
    get_many(100, 2000);
    become(heap[1]);
    keep = get(100); /* full ones are nobody's */
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 0);
    become(heap[0]);
    for (unsigned i = 0; i < 2000; i += 50) { /* three or so of each slab */
        put(block[i]);
        block[i] = NULL;
    }
    hk_heap_flush_all(heap[0]);
    ck_assert_uint_ge(count_partial(heap[0], class), 3);
    become(heap[1]);
    get_many(100, 500);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 0);
    put(keep);

    become(heap[0]);
    leave_partial_slabs(3000, 500);
    hk_heap_flush_all(heap[0]);
    hk_config.secure = true;
    become(heap[1]);
    get(3000);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 0);
    hk_config.secure = false;
    heap[0]->orphan = true;
    put(get(2900));
    get_many(3000, 20);
    ck_assert_uint_eq(heap[1]->stats.nr_slabs_stolen, 0);
    heap[0]->orphan = false;
    get_many(3000, 100);
    ck_assert_uint_gt(heap[1]->stats.nr_slabs_stolen, 0);
}
END_TEST

START_TEST(sender_drains_for_a_parked_heap)
{
    make_heaps(2);
    get_many(100, 500);
    hk_heap_park(heap[0]);
    become(heap[1]);
    put_many(500);
    hk_heap_tick(heap[1]);
    ck_assert_ptr_null(heap[0]->inbox);
    ck_assert_ptr_null(heap[0]->pending);
    for (unsigned i = 0; i < 500; i++)
        ck_assert(is_in_slab(block[i]));
    nothing_is_lost();
}
END_TEST

/* A byte too many in the inbox, and the sender does the owner's work. */
START_TEST(sender_drains_a_full_inbox)
{
    size_t size = hk_size_class[hk_size_to_class(100)].size;

    make_heaps(2);
    get_many(100, 2);
    for (unsigned i = 0; i < 2; i++) {
        heap[0]->inbox_bytes = HK_INBOX_MAX_BYTES - size + i;
        become(heap[1]);
        put(block[i]);
        hk_heap_tick(heap[1]);
        if (i == 0)
            ck_assert_ptr_nonnull(heap[0]->inbox);
        else
            ck_assert_ptr_null(heap[0]->inbox);
    }
    heap[0]->inbox_bytes = 0;
    ck_assert(is_dead(block[0]) && is_dead(block[1]));
}
END_TEST

/* Nobody is there to use them, and nobody counts them as cached. */
START_TEST(parked_heap_keeps_no_empty_slab)
{
    make_heaps(2);
    for (unsigned i = 0; i < 40; i++)
        block[i] = get(100 * (i + 1));
    hk_heap_park(heap[0]);
    become(heap[1]);
    put_many(40);
    hk_heap_tick(heap[1]);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

START_TEST(parcel_that_waits_while_its_owner_parks)
{
    make_heaps(3);
    get_many(100, 50);
    become(heap[1]);
    put_many(50);
    hk_heap_tick(heap[1]); /* in the inbox */
    become(heap[0]);
    hk_heap_park(heap[0]);
    ck_assert_ptr_null(heap[0]->inbox);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

/* ---- blocks whose slab moved while they travelled ------------------------------------------ */

START_TEST(astray_block_is_sent_on)
{
    make_heaps(3);
    get_many(100, 100);
    become(heap[1]);
    put_many(50); /* in the outbox, for heap 0 */
    become(heap[0]);
    hk_heap_park(heap[0]);
    become(heap[2]);
    void *p = get(100); /* steals the slab */
    ck_assert_uint_eq(heap[2]->stats.nr_slabs_stolen, 1);
    for (unsigned i = 0; i < 50; i++)
        ck_assert(holds(block[i])); /* in transit */
    become(heap[1]);
    hk_heap_tick(heap[1]); /* to heap 0, found astray there, on to heap 2 */
    ck_assert_uint_gt(heap[1]->stats.nr_forwarded, 0);
    hk_heap_tick(heap[1]);
    become(heap[2]);
    hk_heap_tick(heap[2]);
    for (unsigned i = 0; i < 50; i++)
        ck_assert(holds(block[i]));
    put(p);
    for (unsigned i = 50; i < 100; i++)
        put(block[i]);
    flush_everything(3);
    nothing_is_lost();
}
END_TEST

START_TEST(astray_from_a_thread_without_heap)
{
    make_heaps(3);
    get_many(100, 100);
    become(heap[1]);
    put_many(50);
    become(heap[0]);
    hk_heap_park(heap[0]);
    become(heap[2]);
    get(100);
    take_away(&heap[0]->lock); /* the sender cannot drain ... */
    become(heap[1]);
    hk_heap_tick(heap[1]);
    give_back(&heap[0]->lock);
    hk_heap_reclaim(NULL); /* ... and somebody without a heap does */
    for (unsigned i = 0; i < 50; i++)
        ck_assert(is_dead(block[i]));
    ck_assert_ptr_nonnull(heap[2]->inbox);
    check_all();
}
END_TEST

/* ---- depot --------------------------------------------------------------------------------- */

START_TEST(threads_without_a_heap_use_the_depot)
{
    void *p[200];

    for (unsigned i = 0; i < 200; i++) {
        unsigned c = i % HK_NR_CLASSES;
        p[i] = hk_heap_alloc_from_depot(c);
        ck_assert_ptr_nonnull(p[i]);
        ck_assert_uint_eq(hk_class_of_word(hk_pagemap_word(p[i])), c);
        ck_assert(hk_heap_of_word(hk_pagemap_word(p[i]))->depot);
        ck_assert(!holds(p[i]));
    }
    for (unsigned i = 0; i < 200; i++) {
        ck_assert(!free_fast(p[i]));
        put_slow(NULL, p[i]);
    }
    nothing_is_lost();
}
END_TEST

START_TEST(depot_gives_back_what_is_empty)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        put_slow(NULL, hk_heap_alloc_from_depot(c));
    ck_assert_uint_gt(hk_span_used_bytes(), 0);
    hk_heap_reclaim(NULL);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

START_TEST(depot_blocks_go_home_from_a_heap)
{
    make_heaps(1);
    for (unsigned i = 0; i < 100; i++)
        block[i] = hk_heap_alloc_from_depot(5);
    put_many(100);
    hk_heap_tick(heap[0]);
    nothing_is_lost();
    void *p = get(96); /* and the depot's slab is there for everybody */
    ck_assert_uint_eq(heap[0]->stats.nr_slabs_stolen, 1);
    put(p);
}
END_TEST

START_TEST(heap_blocks_freed_without_a_heap)
{
    make_heaps(1);
    get_many(100, 100);
    for (unsigned i = 0; i < 100; i++)
        put_slow(NULL, block[i]);
    for (unsigned i = 0; i < 100; i++)
        ck_assert(holds(block[i]));
    hk_heap_tick(heap[0]);
    flush_everything(1);
    nothing_is_lost();
}
END_TEST

/* ---- sampled heap -------------------------------------------------------------------------- */

/* As ace does. */
static void put_sampled(void *p)
{
    *hk_mark_of(p) = hk_size_class[hk_class_of_word(hk_pagemap_word(p))].magic;
    hk_heap_free_sampled(p);
}

START_TEST(sampled_blocks_are_of_no_thread)
{
    void *p[2 * HK_NR_CLASSES];

    make_heaps(2);
    for (unsigned i = 0; i < 2 * HK_NR_CLASSES; i++) {
        unsigned c = i % HK_NR_CLASSES;
        p[i] = hk_heap_alloc_sampled(c);
        ck_assert_ptr_nonnull(p[i]);
        ck_assert_uint_eq(hk_class_of_word(hk_pagemap_word(p[i])), c);
        ck_assert(hk_heap_is_sampled_word(hk_pagemap_word(p[i])));
        ck_assert(!free_fast(p[i]) && hk_heap_small_size(p[i]) == 0 && !holds(p[i]));
    }
    ck_assert(!hk_heap_is_sampled_word(hk_pagemap_word(get(100))));
    ck_assert(!hk_heap_is_sampled_word(HK_PM_RUN) && !hk_heap_is_sampled_word(HK_PM_UNKNOWN));
    for (unsigned i = 0; i < 2 * HK_NR_CLASSES; i++) {
        become(heap[i % 2]);
        put_sampled(p[i]);
        ck_assert(is_dead(p[i]));
    }
    become(heap[0]);
    check_all();
}
END_TEST

/* What realloc and the size classes can have made of a request. */
START_TEST(sizes_that_are_plausible)
{
    ck_assert(hk_size_is_plausible(1024, 1024));
    ck_assert(!hk_size_is_plausible(1024, 1025));
    ck_assert(hk_size_is_plausible(1024, 256));
    ck_assert(!hk_size_is_plausible(1024, 255));
    ck_assert(hk_size_is_plausible(64, 1));
    ck_assert(!hk_size_is_plausible(80, 19));
}
END_TEST

/* Where the page map ends, and above. */
START_TEST(addresses_beyond_the_page_map)
{
    uint64_t end = (uint64_t)HK_ROOT_ENTRIES << HK_ROOT_SHIFT;
    void *volatile beyond = (void *)(uintptr_t)end;

    make_heaps(1);
    if (end > UINTPTR_MAX)
        return;
    ck_assert_uint_eq(hk_heap_small_size(beyond), 0);
    ck_assert(!HK_CHECKS || !free_fast(beyond));
    beyond = (void *)(UINTPTR_MAX - 15);
    ck_assert_uint_eq(hk_heap_small_size(beyond), 0);
    ck_assert(!HK_CHECKS || !free_fast(beyond));
}
END_TEST

START_TEST(sampled_slabs_are_not_stolen)
{
    void *p;

    make_heaps(1);
    p = hk_heap_alloc_sampled(hk_size_to_class(96));
    get_many(500, 96);
    ck_assert_uint_eq(heap[0]->stats.nr_slabs_stolen, 0);
    ck_assert(hk_heap_is_sampled_word(hk_pagemap_word(p)));
    put_sampled(p);
}
END_TEST

START_TEST(empty_sampled_slabs_go_back)
{
    make_heaps(1);
    for (unsigned c = HK_FIRST_POOL_CLASS; c < HK_NR_CLASSES; c++)
        put_sampled(hk_heap_alloc_sampled(c));
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
    for (unsigned c = 0; c < HK_FIRST_POOL_CLASS; c++)
        put_sampled(hk_heap_alloc_sampled(c));
    ck_assert_uint_gt(hk_span_used_bytes(), 0); /* the last slab of a small class stays */
    hk_heap_reclaim(NULL);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

/* What enters a magazine from slabs and parcels is counted down; recycled blocks and samples are not. */
START_TEST(bytes_are_counted_down)
{
    struct hk_sampling *s;
    unsigned class = hk_size_to_class(100);
    int64_t before, size = hk_size_class[class].size;

    make_heaps(2);
    s = &heap[0]->sampling;
    s->countdown = before = 1000000;
    block[0] = get(100);
    ck_assert_int_eq(before - s->countdown, 4 * size); /* a first refill */
    ck_assert_uint_eq(s->attention, 0);
    for (unsigned i = 1; i < 16; i++)
        block[i] = get(100);
    put(get(100)); /* the last refill for long */
    before = s->countdown;
    for (int round = 0; round < 100; round++)
        put(get(100));
    ck_assert_int_eq(s->countdown, before);
    put_sampled(hk_heap_alloc_sampled(class));
    ck_assert_int_eq(s->countdown, before);

    become(heap[1]);
    for (unsigned i = 0; i < 10; i++)
        put_slow(heap[1], block[i]);
    hk_heap_tick(heap[1]);
    become(heap[0]);
    hk_heap_tick(heap[0]); /* takes the parcel home */
    ck_assert_int_eq(before - s->countdown, 10 * size);
}
END_TEST

START_TEST(refill_says_when_a_sample_is_due)
{
    struct hk_sampling *s;

    make_heaps(1);
    s = &heap[0]->sampling;
    s->countdown = 4 * 112 + 1;
    (void)get(100);
    ck_assert_int_eq(s->countdown, 1);
    ck_assert_uint_eq(s->attention, 0);
    (void)get(3000);
    ck_assert_uint_eq(s->attention, HK_SAMPLE_DUE);
    ck_assert_uint_eq(s->due_class, hk_size_to_class(3000));
    ck_assert_uint_gt(s->due_blocks, 0);
    ck_assert_int_eq(1 - s->countdown, s->due_blocks * (int64_t)hk_size_class[s->due_class].size);
}
END_TEST

START_TEST(no_memory_for_a_sample)
{
    make_heaps(1);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    ck_assert_ptr_null(hk_heap_alloc_sampled(3));
    fake_os_fail_all(FAKE_MAP, 0);
    ck_assert_ptr_nonnull(hk_heap_alloc_sampled(3));
}
END_TEST

/* ---- classes led to the slow path ---------------------------------------------------------- */

START_TEST(a_diverted_class_is_allocated_slowly)
{
    void *p;

    make_heaps(1);
    for (unsigned c = 0; c < HK_NR_SIZED_CLASSES; c++) {
        size_t least = c ? hk_size_class[c - 1].size + 1u : 1, most = hk_min(hk_size_class[c].size, HK_FAST_MAX);
        put(get(least));
        p = hk_heap_alloc_fast(most);
        ck_assert(p && free_fast(p));
        hk_heap_divert(heap[0], c);
        hk_heap_divert(heap[0], c); /* twice is once */
        ck_assert(hk_heap_is_diverted(heap[0], c) && heap[0]->nr_diverted == 1);
        ck_assert(!hk_heap_alloc_fast(least) && !hk_heap_alloc_fast(most));
        ck_assert(c == 0 || heap[0]->detour->offset[(least - 2) / 16] == hk_class_offset[(least - 2) / 16]); /* its neighbour's */
        p = get(most); /* as ever, from the same magazine */
        ck_assert(p && free_fast(p));
        hk_heap_restore(heap[0], c);
        hk_heap_restore(heap[0], c);
        ck_assert(!hk_heap_is_diverted(heap[0], c) && heap[0]->class_offset == hk_class_offset);
        ck_assert_ptr_eq(hk_heap_alloc_fast(most), p);
    }
    hk_heap_divert(heap[0], HK_FIRST_ALIGNED_CLASS); /* malloc asks for none of these */
    ck_assert_uint_eq(heap[0]->nr_diverted, 0);
    ck_assert_mem_eq(heap[0]->detour->offset, hk_class_offset, sizeof hk_class_offset);
    check_all();
}
END_TEST

START_TEST(a_parked_heap_diverts_nothing)
{
    make_heaps(1);
    hk_heap_divert(heap[0], 3);
    hk_heap_divert(heap[0], 9);
    hk_heap_park(heap[0]);
    ck_assert_ptr_eq(hk_heap_adopt(), heap[0]);
    ck_assert(heap[0]->nr_diverted == 0 && heap[0]->class_offset == hk_class_offset);
    put(get(hk_size_class[3].size));
    ck_assert_ptr_nonnull(hk_heap_alloc_fast(hk_size_class[3].size));
}
END_TEST

/* Lets go of blocks until the magazine's older half has gone. */
static void overflow(size_t n)
{
    size_t before = heap[0]->stats.nr_flushes;
    unsigned class = hk_size_to_class(n), i = 0;

    heap[0]->slabs[class].nr_refills = 0; /* or it grows */
    while (heap[0]->stats.nr_flushes == before)
        put(block[i++]);
}

/* What is owed leaves with the blocks, in proportion; the last of it takes the diversion along. */
START_TEST(samples_owed_leave_with_the_blocks)
{
    unsigned class = hk_size_to_class(100), sum = 0;
    struct hk_sampling *s;

    make_heaps(1);
    s = &heap[0]->sampling;
    get_many(100, 200);
    s->owed[class] = heap[0]->slabs[class].owed_back = 1000;
    s->nr_owed = 1;
    hk_heap_divert(heap[0], class);
    overflow(100);
    ck_assert_uint_eq(s->owed[class], heap[0]->slabs[class].owed_back);
    ck_assert_uint_ge(s->owed[class], 400); /* half of it, and the block that did not fit */
    ck_assert_uint_le(s->owed[class], 600);
    ck_assert(s->nr_owed == 1 && hk_heap_is_diverted(heap[0], class));
    hk_heap_flush_all(heap[0]);
    ck_assert(s->owed[class] == 0 && s->nr_owed == 0 && !hk_heap_is_diverted(heap[0], class));

    for (unsigned round = 0; round < 200; round++) { /* of one it is a matter of chance */
        get_many(100, 200);
        s->owed[class] = heap[0]->slabs[class].owed_back = 1;
        s->nr_owed = 1;
        overflow(100);
        sum += s->owed[class];
        s->owed[class] = s->nr_owed = heap[0]->slabs[class].owed_back = 0;
        hk_heap_flush_all(heap[0]);
    }
    ck_assert_uint_ge(sum, 50);
    ck_assert_uint_le(sum, 150);
}
END_TEST

/* What a refill made due was handed out, and so has been what came back before a refill. */
START_TEST(samples_owed_for_blocks_in_use_stay)
{
    unsigned class = hk_size_to_class(100);
    struct hk_sampling *s;

    make_heaps(1);
    s = &heap[0]->sampling;
    get_many(100, 200);
    s->owed[class] = 1000;
    heap[0]->slabs[class].owed_back = 10;
    s->nr_owed = 1;
    overflow(100);
    ck_assert_uint_ge(s->owed[class], 990);
    ck_assert_uint_lt(heap[0]->slabs[class].owed_back, 10);
    heap[0]->slabs[class].owed_back = 300;
    get_many(100, 2000); /* refills on the way */
    ck_assert_uint_eq(heap[0]->slabs[class].owed_back, 0);
    hk_heap_flush_all(heap[0]);
    ck_assert_uint_ge(s->owed[class], 990);
}
END_TEST

/* ---- no memory ----------------------------------------------------------------------------- */

/* Descriptors of every size are gone, and no more can be mapped. */
static void use_up_metadata(void)
{
    static const size_t sizes[] = {64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768,
                                   832, 896, 960, 1024, 2048, 4096, 8192, 16384, 32768, 65536};

    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (size_t i = sizeof sizes / sizeof *sizes; i-- > 0;)
        while (hk_meta_alloc(sizes[i]))
            ;
}

START_TEST(adopt_without_memory)
{
    struct hk_heap *h;
    unsigned nr = 0;

    make_heaps(1);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while ((h = hk_heap_adopt()) != NULL)
        ck_assert_uint_lt(nr++, 8); /* the chunk's rest */
    ck_assert_ptr_null(hk_heap_alloc_from_depot(3));
    fake_os_fail_all(FAKE_MAP, 0);
    ck_assert_ptr_nonnull(hk_heap_adopt());
    ck_assert_ptr_nonnull(hk_heap_alloc_from_depot(3));
}
END_TEST

START_TEST(alloc_without_memory)
{
    unsigned nr = 0;

    make_heaps(1);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    ck_assert_ptr_null(try_get(100));
    fake_os_fail_all(FAKE_MAP, 0);
    void *p = get(100);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while ((block[nr] = try_get(30000)) != NULL)
        ck_assert_uint_lt(nr++, 40);
    for (size_t n = 1; n <= HK_FAST_MAX; n *= 2)
        (void)try_get(n); /* whatever comes */
    put(p);
    put_many(nr);
    if (nr)
        ck_assert_ptr_nonnull(try_get(30000));
    hk_heap_check(heap[0]);
}
END_TEST

/* Without a magazine a block comes straight from its slab and goes straight back. */
START_TEST(no_magazine_to_be_had)
{
    make_heaps(1);
    put(get(64)); /* the region and one slab's descriptor */
    struct hk_slab *slab = hk_slab_of(get(128));
    hk_heap_park(heap[0]);
    ck_assert_ptr_eq(hk_heap_adopt(), heap[0]);
    use_up_metadata();
    unsigned free_before = slab->nr_free;
    for (unsigned i = 0; i < 20; i++)
        block[i] = get(128);
    ck_assert_ptr_null(heap[0]->slabs[hk_size_to_class(128)].bottom);
    ck_assert_uint_eq(slab->nr_free, free_before - 20);
    put_many(20);
    ck_assert_uint_eq(slab->nr_free, free_before);
    ck_assert_uint_eq(heap[0]->stats.nr_lost, 0);
    hk_heap_check(heap[0]);
    fake_os_fail_all(FAKE_MAP, 0);
    put(get(128));
    ck_assert_ptr_nonnull(heap[0]->slabs[hk_size_to_class(128)].bottom);
}
END_TEST

START_TEST(refused_magazine_takes_no_share)
{
    make_heaps(2);
    void *p = get(5000);
    size_t taken = hk_share_taken();
    use_up_metadata();
    become(heap[1]);
    put_and_keep(p);
    ck_assert_ptr_null(heap[1]->slabs[hk_size_to_class(5000)].bottom);
    ck_assert_uint_eq(hk_share_taken(), taken);
}
END_TEST

START_TEST(block_without_a_parcel_goes_home_at_once)
{
    make_heaps(2);
    get_many(100, 5);
    use_up_metadata();
    become(heap[1]);
    put_many(5);
    for (unsigned i = 0; i < 5; i++)
        ck_assert(is_in_slab(block[i]));
    ck_assert_uint_eq(heap[1]->stats.nr_remote_frees, 5);
    ck_assert_uint_eq(heap[1]->stats.nr_parcels_sent, 0);
    fake_os_fail_all(FAKE_MAP, 0);
    void *p = get(100);
    become(heap[0]);
    put(p); /* the heaps work on */
    flush_everything(2);
    nothing_is_lost();
}
END_TEST

/* _i: with a depot, which has no parcel to lend, or none. */
START_TEST(without_heap_and_parcel_a_block_goes_home_at_once)
{
    make_heaps(1);
    void *p = _i ? hk_heap_alloc_from_depot(3) : NULL;
    get_many(100, 3);
    use_up_metadata();
    while (!_i && hk_heap_adopt())
        ; /* there is room for some */
    for (unsigned i = 0; i < 3; i++)
        put_slow(NULL, block[i]);
    for (unsigned i = 0; i < 3; i++)
        ck_assert(is_in_slab(block[i]));
    if (p)
        put_slow(NULL, p);
    flush_everything(1);
    nothing_is_lost();
}
END_TEST

/* A magazine of others' blocks overflows, and then its thread ends. _i: blocks of so many heaps, in turn. */
START_TEST(magazine_without_parcels_is_emptied_all_the_same)
{
    unsigned nr = (unsigned)_i, n = 0;

    make_heaps(nr + 1);
    for (unsigned i = 0; i < 2000; i++) {
        become(heap[1 + i % nr]);
        block[i] = get(100);
    }
    become(heap[0]);
    void *own = get(100); /* its magazine, which cannot grow later */
    put(own);
    use_up_metadata();
    for (unsigned i = 0; i < 2000; i++)
        put_and_keep(block[i]);
    for (unsigned i = 0; i < 2000; i++)
        n += is_in_slab(block[i]);
    ck_assert_uint_gt(n, 1000);
    ck_assert_uint_eq(n + in_magazine(heap[0], hk_size_to_class(100)), 2000 + !is_in_slab(own));
    ck_assert_uint_eq(heap[0]->stats.nr_parcels_sent, 0);
    hk_heap_park(heap[0]);
    for (unsigned i = 0; i < 2000; i++)
        ck_assert(is_in_slab(block[i]));
    fake_os_fail_all(FAKE_MAP, 0);
    for (unsigned i = 1; i <= nr; i++)
        hk_heap_flush_all(heap[i]);
    nothing_is_lost();
}
END_TEST

/* Its slab changed hands, and now there is no parcel: it travels on in the one that it came in. _i: found by a heap's thread, or by one without. */
START_TEST(astray_block_without_a_parcel_keeps_its_own)
{
    make_heaps(3);
    get_many(100, 100);
    become(heap[1]);
    put_many(50);
    become(heap[0]);
    hk_heap_park(heap[0]);
    become(heap[2]);
    void *p = get(100); /* steals the slab */
    use_up_metadata();
    become(heap[1]);
    take_away(&heap[0]->lock);
    take_away(&heap[2]->lock);
    hk_heap_tick(heap[1]);
    give_back(&heap[0]->lock);
    hk_heap_reclaim(_i ? heap[1] : NULL);
    give_back(&heap[2]->lock);
    ck_assert_uint_eq(heap[2]->inbox->count, 50);
    ck_assert_uint_eq(heap[2]->inbox->bytes, 50 * hk_size_class[hk_size_to_class(100)].size);
    for (unsigned i = 0; i < 50; i++)
        ck_assert(holds(block[i]) && !is_in_slab(block[i]));
    become(heap[2]);
    hk_heap_flush_all(heap[2]);
    ck_assert_ptr_nonnull(heap[1]->returned); /* home again, as the blocks are */
    for (unsigned i = 0; i < 50; i++)
        ck_assert(is_in_slab(block[i]));
    put(p);
    for (unsigned i = 50; i < 100; i++)
        put(block[i]);
    flush_everything(3);
    nothing_is_lost();
}
END_TEST

START_TEST(magazine_that_cannot_grow_flushes)
{
    make_heaps(1);
    get_many(16, 3000);
    use_up_metadata();
    put_many(3000);
    ck_assert_uint_gt(heap[0]->stats.nr_flushes, 0);
    ck_assert_uint_eq(heap[0]->stats.nr_lost, 0);
    hk_heap_flush_all(heap[0]);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

START_TEST(nth_map_refused)
{
    fake_os_fail(FAKE_MAP, (unsigned)_i, ENOMEM);
    heap[0] = hk_heap_adopt();
    if (!heap[0])
        heap[0] = hk_heap_adopt();
    ck_assert_ptr_nonnull(heap[0]);
    become(heap[0]);
    unsigned nr_failed = 0;
    for (unsigned i = 0; i < 500; i++) {
        block[i] = try_get(1 + i * 100);
        nr_failed += !block[i];
    }
    ck_assert_uint_le(nr_failed, 1);
    for (unsigned i = 0; i < 500; i++)
        if (block[i])
            put(block[i]);
    flush_everything(1);
    nothing_is_lost();
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

/* ---- a random life ------------------------------------------------------------------------- */

#define NR_ACTORS 4
#define NR_LIVE 600

static struct {
    uint64_t *p;
    size_t words;
    uint64_t id;
} live[NR_LIVE];

static void write_block(unsigned i)
{
    live[i].id = next_random();
    for (size_t w = 0; w < live[i].words; w += 1 + live[i].words / 8)
        live[i].p[w] = live[i].id;
    live[i].p[live[i].words - 1] = live[i].id;
}

static void verify_block(unsigned i)
{
    for (size_t w = 0; w < live[i].words; w += 1 + live[i].words / 8)
        if (live[i].p[w] != live[i].id)
            ck_abort_msg("block of %zu words overwritten at %zu", live[i].words, w);
    if (live[i].p[live[i].words - 1] != live[i].id)
        ck_abort_msg("last word of a block of %zu words overwritten", live[i].words);
    if (one_in(50))
        ck_assert(!holds(live[i].p));
}

static size_t random_size(void)
{
    return one_in(10) ? 1 + below(HK_FAST_MAX) : 1 + below((size_t)16 << below(8));
}

static void step_block(void)
{
    unsigned i = (unsigned)below(NR_LIVE);
    size_t n = random_size();

    if (live[i].p) {
        verify_block(i);
        put(live[i].p);
        live[i].p = NULL;
        return;
    }
    live[i].p = one_in(200) ? hk_heap_alloc_from_depot(hk_size_to_class(n)) : try_get(n);
    live[i].words = hk_size_class[hk_size_to_class(n)].size / 8;
    if (live[i].p)
        write_block(i);
}

static void step_rare(unsigned self)
{
    switch (below(7)) {
    case 0:
        hk_heap_tick(heap[self]);
        break;
    case 1:
        hk_heap_flush_idle(heap[self]);
        break;
    case 2:
        hk_heap_flush_all(heap[self]);
        break;
    case 3:
        hk_heap_reclaim(one_in(4) ? NULL : heap[self]);
        break;
    case 4:
        hk_heap_park(heap[self]);
        heap[self] = hk_heap_adopt();
        ck_assert_ptr_nonnull(heap[self]);
        become(heap[self]);
        break;
    case 5: { /* the thread is gone for good; another comes later */
        struct hk_heap *gone = heap[self];
        unsigned other = (self + 1) % NR_ACTORS;
        hk_heap_park(gone);
        become(heap[other]);
        for (int i = 0; i < 50; i++)
            step_block();
        heap[self] = hk_heap_adopt();
        ck_assert_ptr_nonnull(heap[self]);
        become(heap[self]);
        break;
    }
    default:
        hk_span_purge_to(0);
        break;
    }
}

static void random_life(int nr_steps, bool refusals)
{
    static const enum fake_call calls[] = {FAKE_MAP, FAKE_UNMAP, FAKE_ADVISE};
    static const int errors[] = {ENOMEM, EINVAL, EPERM};

    for (int step = 0; step < nr_steps; step++) {
        if (step % 64 == 0)
            become(heap[below(NR_ACTORS)]);
        if (refusals && one_in(100))
            fake_os_fail(calls[below(3)], 1 + (unsigned)below(2), errors[below(3)]);
        if (one_in(300)) {
            unsigned self = 0;
            while (heap[self] != hk_heap_self)
                self++;
            step_rare(self);
        } else {
            step_block();
        }
        if (step % 5000 == 0)
            check_all();
    }
    for (unsigned i = 0; i < NR_LIVE; i++)
        if (live[i].p) {
            verify_block(i);
            become(heap[below(NR_ACTORS)]);
            put(live[i].p);
        }
}

START_TEST(random_blocks)
{
    start_random((unsigned)_i);
    make_heaps(NR_ACTORS);
    random_life(25000, false);
    flush_everything(NR_ACTORS);
    nothing_is_lost();
}
END_TEST

START_TEST(random_blocks_under_refusals)
{
    start_random(100 + (unsigned)_i);
    make_heaps(NR_ACTORS);
    random_life(25000, true);
    flush_everything(NR_ACTORS);
    nothing_is_lost();
}
END_TEST

/* ---- fork ---------------------------------------------------------------------------------- */

static void expect(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "child: %s\n", what);
    _exit(1);
}

static void fork_child_inherits(void)
{
    hk_heap_fork_child(heap[0], false); /* as after fork() in thread 0 */
    expect(heap[0]->state == HK_HEAP_ACTIVE, "own heap is active");
    for (int i = 1; i < 3; i++) {
        expect(heap[i]->state == HK_HEAP_PARKED, "others are parked");
        expect(heap[i]->cap_bytes == 0, "without magazines");
        expect(hk_try_lock(&heap[i]->lock), "locks are free");
        hk_unlock(&heap[i]->lock);
    }
    expect(hk_heap_is_alone(), "alone");
    check_all();
    put_many(100); /* blocks of a thread that is gone */
    for (unsigned i = 100; i < 200; i++)
        block[i] = get(100);
    expect(heap[0]->stats.nr_slabs_stolen > 0, "its slabs serve on");
    for (unsigned i = 100; i < 200; i++)
        put(block[i]);
    expect(hk_heap_adopt() != NULL, "a thread of the child adopts");
    for (int i = 0; i < 3; i++) {
        hk_heap_flush_all(heap[0]);
        hk_heap_reclaim(heap[0]);
    }
    check_all();
    struct census census = take_census();
    expect(census.nr_out == 0 && census.nr_lost == 0, "nothing is lost");
}

START_TEST(fork_child_inherits_the_heaps_of_others)
{
    make_heaps(3);
    become(heap[1]);
    get_many(100, 200);
    for (unsigned i = 100; i < 150; i++)
        put(block[i]); /* magazine */
    become(heap[2]);
    for (unsigned i = 150; i < 175; i++)
        put(block[i]); /* outbox */
    for (unsigned i = 175; i < 200; i++)
        put_and_keep(block[i]);
    put(get(5000));
    become(heap[0]);
    ck_assert(hk_heap_fork_prepare(false));
    for (int i = 0; i < 3; i++)
        ck_assert(hk_lock_is_mine(&heap[i]->lock));
    struct child child = run_child(fork_child_inherits);
    hk_heap_fork_parent();
    ck_assert_msg(child_exited_0(&child), "%s", child.text);
    for (int i = 0; i < 3; i++) {
        ck_assert(!hk_lock_is_mine(&heap[i]->lock));
        ck_assert_uint_eq(heap[i]->state, HK_HEAP_ACTIVE);
    }
    put_many(100);
    flush_everything(3);
    nothing_is_lost();
}
END_TEST

static void child_of_interrupted_section(void)
{
    hk_heap_fork_child(heap[0], true);
    expect(hk_lock_is_mine(&heap[0]->lock), "the lock stays with the interrupted section");
    expect(heap[1]->state == HK_HEAP_ACTIVE, "others are left alone");
    expect(hk_try_lock(&heap[1]->lock), "but their locks are free");
    hk_unlock(&heap[1]->lock);
    hk_unlock(&heap[0]->lock);
    hk_heap_inherit(heap[0]);
    expect(heap[1]->state == HK_HEAP_PARKED, "until the section has ended");
    check_all();
}

/* fork from a signal handler that interrupted a slow path of its own thread. */
START_TEST(fork_inside_a_slow_section)
{
    make_heaps(2);
    get_many(100, 50);
    hk_lock(&heap[0]->lock);
    ck_assert(hk_heap_fork_prepare(false));
    struct child child = run_child(child_of_interrupted_section);
    hk_heap_fork_parent();
    ck_assert_msg(child_exited_0(&child), "%s", child.text);
    ck_assert(hk_lock_is_mine(&heap[0]->lock));
    ck_assert(!hk_lock_is_mine(&heap[1]->lock));
    hk_unlock(&heap[0]->lock);
    put_many(50);
}
END_TEST

/* What a heap that was found half changed has is the child's: blocks out are whole, and none is given out twice. */
static void use_what_was_half_changed(void)
{
    hk_heap_inherit(heap[0]);
    expect(heap[1]->state == HK_HEAP_PARKED, "it is inherited as others are");
    check_all();
    become(heap[0]);
    for (unsigned i = 0; i < 50; i++)
        memset(block[i], 0x5a, 100);
    for (unsigned i = 50; i < 2000; i++)
        memset(block[i] = get(100), (int)i, 100);
    for (unsigned i = 0; i < 50; i++)
        expect(*(unsigned char *)block[i] == 0x5a, "live blocks stay");
    for (unsigned i = 50; i < 2000; i++)
        expect(*(unsigned char *)block[i] == (i & 0xff), "none comes twice");
    put_many(2000);
    expect(hk_heap_adopt() != NULL, "a thread of the child finds a heap");
    for (int i = 0; i < 3; i++) {
        hk_heap_flush_all(heap[0]);
        hk_heap_reclaim(heap[0]);
    }
    check_all();
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        expect(h->lock.word == 0, "no lock stays behind");
    expect(hk_heap_fork_prepare(false), "and it may fork");
    hk_heap_fork_parent();
}

static void child_of_two_interrupted_sections(void)
{
    hk_heap_fork_child(heap[0], true);
    hk_unlock(&heap[0]->lock);
    use_what_was_half_changed();
}

/* And thread 1 does the same and waits for us. */
START_TEST(fork_while_another_thread_never_lets_go)
{
    make_heaps(3);
    become(heap[1]);
    get_many(100, 50);
    become(heap[0]);
    hk_lock(&heap[0]->lock);
    take_away(&heap[1]->lock);
    hk_lock_fork_inside(1);
    ck_assert(!hk_heap_fork_prepare(false));
    hk_heap_fork_parent();
    ck_assert(!hk_heap_fork_prepare(true));
    hk_lock_fork_inside(-1);
    ck_assert(hk_lock_is_mine(&heap[2]->lock));
    struct child child = run_child(child_of_two_interrupted_sections);
    hk_heap_fork_parent();
    ck_assert_msg(child_exited_0(&child), "%s", child.text);
    ck_assert(!hk_lock_is_mine(&heap[2]->lock));
    hk_unlock(&heap[0]->lock);
    give_back(&heap[1]->lock);
}
END_TEST

/* Thread 1 drains our inbox, or takes a slab of ours, when a handler interrupts it; one of ours forks. */
static void child_whose_own_heap_was_held(void)
{
    void *kept = get(100);

    hk_heap_fork_child(heap[0], true);
    expect(holds(kept) == false, "magazines of its own are as they were");
    put(kept);
    hk_heap_tick(heap[0]); /* waited for ever */
    use_what_was_half_changed();
}

START_TEST(fork_while_another_thread_holds_the_own_heap)
{
    make_heaps(2);
    get_many(100, 50);
    take_away(&heap[0]->lock);
    hk_lock_fork_inside(1);
    ck_assert(!hk_heap_fork_prepare(true));
    hk_lock_fork_inside(-1);
    struct child child = run_child(child_whose_own_heap_was_held);
    hk_heap_fork_parent();
    ck_assert_msg(child_exited_0(&child), "%s", child.text);
    give_back(&heap[0]->lock);
}
END_TEST

/* Where thread 1 stopped, in a slow path of its own heap. */
static struct hk_class_slabs *class_of_100(void)
{
    return &heap[1]->slabs[hk_size_to_class(100)];
}

static void stop_before_counts(void)
{
    struct hk_slab *slab = class_of_100()->current;

    slab->free_bits[0] &= slab->free_bits[0] - 1; /* one has left, */
    slab->free_bits[0] |= UINT64_C(1) << hk_size_slot(&hk_size_class[slab->class], (uintptr_t)block[60] - slab->base); /* another is back */
    slab->first_word = 1;
}

static void stop_before_links(void)
{
    struct hk_slab *slab = class_of_100()->current;

    slab->listed = true;
    slab->next = (struct hk_slab *)&heap;
    class_of_100()->partial = slab;
}

static void stop_with_two_copies(void)
{
    struct hk_class_record *r = &heap[1]->record[hk_size_to_class(100)];

    hk_slab_give(hk_slab_of(r->cursor[-1]), r->cursor[-1]); /* on its way out of an array that is being moved down */
    r->cursor[-2] = r->cursor[-1];
}

static void stop_with_half_a_magazine(void)
{
    heap[1]->record[hk_size_to_class(100)].limit = (void **)&heap;
    class_of_100()->cap = 1;
}

static void stop_in_the_middle_of_a_theft(void)
{
    take_away(&heap[2]->lock);
    class_of_100()->current->owner = heap[2]; /* and the page map does not say so yet */
    class_of_100()->current = NULL;
}

static void stop_in_the_middle_of_a_retirement(void)
{
    struct hk_slab *slab;
    void *p;

    become(heap[1]);
    p = get(3000);
    slab = hk_slab_of(p);
    put(p);
    become(heap[0]);
    hk_store_relaxed(&hk_pagemap_leaf(slab->base)->desc[hk_pagemap_index(slab->base)], (void *)slab->home);
}

static void stop_before_carved(void)
{
    struct hk_slab *slab = class_of_100()->current;
    unsigned slot = slab->carved;

    expect(slot < slab->nr_slots, "a block that never left");
    slab->free_bits[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    slab->nr_free--;
}

static void (*const stops[])(void) = {
    stop_before_counts,            stop_before_links,  stop_with_two_copies, stop_with_half_a_magazine,
    stop_in_the_middle_of_a_theft, stop_in_the_middle_of_a_retirement, stop_before_carved,
};

static int stop;

/* All of it in a process of its own: nobody mends the parent's heaps. */
static void child_of_stopped_thread(void)
{
    stops[stop]();
    take_away(&heap[1]->lock);
    hk_lock_fork_inside(1);
    expect(!hk_heap_fork_prepare(true), "without a heap's lock");
    hk_heap_fork_child(heap[0], false);
    hk_lock_fork_nobody_inside();
    use_what_was_half_changed();
}

START_TEST(fork_while_a_thread_stands_in_a_slow_path)
{
    stop = _i;
    make_heaps(3);
    become(heap[1]);
    get_many(100, 70);
    for (unsigned i = 50; i < 70; i++)
        put(block[i]);
    become(heap[0]);
    struct child child = run_child(child_of_stopped_thread);
    ck_assert_msg(child_exited_0(&child), "%s, status %x", child.text, (unsigned)child.status);
}
END_TEST

static void *adopt_for_ever(void *unused)
{
    (void)unused;
    return hk_heap_adopt();
}

static void child_of_adoption(void)
{
    struct hk_heap *fresh[12];

    hk_heap_fork_child(heap[0], true);
    for (unsigned i = 0; i < 12; i++) {
        fresh[i] = hk_heap_adopt();
        expect(fresh[i] && fresh[i] != heap[0] && fresh[i] != heap[1], "heaps of its own");
        for (unsigned k = 0; k < i; k++)
            expect(fresh[i] != fresh[k], "each once");
        hk_heap_check(fresh[i]);
    }
    put_many(50);
    check_all();
}

/* A thread of the parent is about to take a parked heap, for which it waits with the lists' lock held. */
START_TEST(fork_while_a_thread_adopts)
{
    pthread_t thread;

    make_heaps(3);
    get_many(100, 50);
    hk_heap_park(heap[2]);
    take_away(&heap[2]->lock);
    pthread_create(&thread, NULL, adopt_for_ever, NULL);
    while (hk_load_relaxed(&heap[2]->lock.word) % 2 == 0)
        sched_yield(); /* until it waits */
    hk_lock_fork_inside(1);
    ck_assert(!hk_heap_fork_prepare(true));
    hk_lock_fork_inside(-1);
    struct child child = run_child(child_of_adoption);
    hk_heap_fork_parent();
    ck_assert_msg(child_exited_0(&child), "%s", child.text);
    hk_unlock(&heap[2]->lock); /* and wakes it */
    pthread_join(thread, NULL);
    ck_assert_uint_eq(heap[2]->state, HK_HEAP_ACTIVE);
}
END_TEST

/* A handler forks while the child of another fork takes over what it inherited. */
static void grandchild_goes_on(void)
{
    hk_heap_fork_child(heap[0], true);
    expect(!heap[1]->orphan, "once is enough");
}

static void child_half_way(void)
{
    hk_heap_fork_child(heap[0], true);
    expect(heap[1]->orphan, "to be inherited");
    hk_heap_inherit(heap[0]);
    grandchild_goes_on();
    hk_heap_inherit(heap[0]);
    expect(hk_heap_adopt() == heap[1] && hk_heap_adopt() != heap[1], "parked once");
}

START_TEST(fork_of_a_child_that_inherits)
{
    make_heaps(2);
    ck_assert(hk_heap_fork_prepare(false));
    struct child child = run_child(child_half_way);
    hk_heap_fork_parent();
    ck_assert_msg(child_exited_0(&child), "%s", child.text);
}
END_TEST

/* ---- negative controls --------------------------------------------------------------------- */

static void move_the_cursor_out(void)
{
    heap[0]->record[3].cursor = heap[0]->record[3].limit + 1;
    hk_heap_check(heap[0]);
}

static void lose_the_bottom(void)
{
    heap[0]->slabs[3].bottom[0] = block[0];
    hk_heap_check(heap[0]);
}

static void free_in_slab_too(void)
{
    void *p = heap[0]->record[3].cursor[-1];

    hk_slab_give(hk_slab_of(p), p);
    hk_heap_check(heap[0]);
}

static void mix_classes(void)
{
    heap[0]->record[3].cursor[-1] = block[1];
    hk_heap_check(heap[0]);
}

static void steal_without_a_word(void)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        if (heap[0]->slabs[c].partial)
            heap[0]->slabs[c].partial->owner = heap;
    hk_heap_check(heap[0]);
}

static void list_the_current(void)
{
    struct hk_slab *current = heap[0]->slabs[3].current;

    current->next = heap[0]->slabs[3].partial;
    current->listed = true;
    heap[0]->slabs[3].partial = current;
    hk_heap_check(heap[0]);
}

START_TEST(check_finds_damage)
{
    make_heaps(1);
    leave_partial_slabs(64, 2000);
    hk_heap_flush_all(heap[0]);
    put(get(64));
    block[1] = get(1000);
    ck_assert_ptr_nonnull(heap[0]->slabs[3].partial);
    hk_heap_check(heap[0]);
    must_panic(move_the_cursor_out, "heap: magazine bounds");
    must_panic(lose_the_bottom, "heap: magazine bounds");
    must_panic(free_in_slab_too, "heap: block in a magazine and in its slab");
    must_panic(mix_classes, "heap: block in a magazine and in its slab");
    must_panic(steal_without_a_word, "heap: partial list");
    must_panic(list_the_current, "heap: partial list");
}
END_TEST

/* The second free of a block whose mark was overwritten is found when it reaches its slab. */
static void free_twice_past_the_mark(void)
{
    put_slow(heap[0], block[0]);
    put_slow(heap[0], block[0]);
    hk_heap_flush_all(heap[0]);
}

START_TEST(double_free_past_the_mark_is_found_at_the_slab)
{
    make_heaps(1);
    get_many(100, 3);
    must_panic(free_twice_past_the_mark, "double free: pointer 0x");
    must_panic(free_twice_past_the_mark, "size 112, owner thread 100");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap");
    TCase *tc = new_case(suite, "one thread", setup, teardown);

    tcase_add_test(tc, the_empty_heap_serves_nothing);
    tcase_add_test(tc, adopt_makes_heaps_of_their_own);
    tcase_add_test(tc, a_fresh_heap_frees_nothing);
    tcase_add_test(tc, every_size);
    tcase_add_test(tc, last_in_first_out);
    tcase_add_test(tc, free_fast_refuses_what_is_not_live);
    tcase_add_test(tc, sized_free_refuses_an_impossible_size);
    tcase_add_test(tc, a_block_that_looks_dead_is_not_held);
    tcase_add_test(tc, alloc_slow_serves_from_the_magazine);

    tc = new_case(suite, "magazines", setup, teardown);
    tcase_add_test(tc, refill_takes_what_the_policy_says_in_address_order);
    tcase_add_test(tc, magazine_grows_when_both_ends_are_hit);
    tcase_add_test(tc, magazines_stay_in_the_budget);
    tcase_add_test(tc, a_full_magazine_flushes_its_older_half);
    tcase_add_test(tc, magazine_that_pins_slabs_shrinks);
    tcase_add_test(tc, interrupted_free_loses_and_doubles_nothing);
    tcase_add_test(tc, one_block_at_a_time_makes_no_slab_each_time);
    tcase_add_test(tc, empty_slabs_are_retired);
    tcase_add_test(tc, pool_without_magazines);
    tcase_add_test(tc, magazines_share_a_budget);
    tcase_add_test(tc, refused_magazine_takes_no_share);
    tcase_add_test(tc, reclaim_retires_empty_slabs_of_others);
    tcase_add_test(tc, idle_class_is_flushed_busy_one_is_not);
    tcase_add_test(tc, idle_look_inside_the_fast_path);
    tcase_add_test(tc, partial_slabs_of_an_idle_class_serve_others);
    tcase_add_test(tc, nothing_is_published_without_steal);
    tcase_add_test(tc, empty_slabs_are_not_published);

    tc = new_case(suite, "remote", setup, teardown);
    tcase_add_test(tc, remote_block_travels_in_a_parcel);
    tcase_add_test(tc, block_of_another_heap_is_kept);
    tcase_add_test(tc, kept_blocks_go_home_when_the_magazine_is_full);
    tcase_add_test(tc, smallest_magazine_keeps_its_room);
    tcase_add_test(tc, parked_heap_keeps_nothing);
    tcase_add_test(tc, kinds_lead_to_no_record);
    tcase_add_test(tc, parcel_leaves_when_it_is_full);
    tcase_add_test(tc, parcel_leaves_when_it_is_heavy);
    tcase_add_test(tc, refill_takes_parcels_home_first);
    tcase_add_test(tc, parcels_are_used_again);
    tcase_add_test(tc, one_outbox_serves_several_owners);
    tcase_add_test(tc, sender_empties_the_inbox_of_a_sleeper);
    tcase_add_test(tc, sender_waits_for_nobody);
    tcase_add_test(tc, one_malloc_brings_home_no_flood);
    tcase_add_test(tc, reclaim_empties_the_inboxes_of_others);
    tcase_add_test(tc, drain_into_a_full_magazine_goes_to_the_slabs);
    tcase_add_test(tc, magazine_grows_for_parcels);

    tc = new_case(suite, "park", setup, teardown);
    tcase_add_test(tc, parked_heap_keeps_slabs_only);
    tcase_add_test(tc, parked_heap_is_adopted_again);
    tcase_add_test(tc, slab_of_a_parked_heap_is_stolen);
    tcase_add_test(tc, nothing_is_stolen_without_steal);
    tcase_add_test(tc, nothing_is_stolen_from_the_busy);
    tcase_add_test(tc, the_living_spare_a_slab);
    tcase_add_test(tc, the_living_keep_what_they_need);
    tcase_add_test(tc, sender_drains_for_a_parked_heap);
    tcase_add_test(tc, sender_drains_a_full_inbox);
    tcase_add_test(tc, parked_heap_keeps_no_empty_slab);
    tcase_add_test(tc, parcel_that_waits_while_its_owner_parks);
    tcase_add_test(tc, astray_block_is_sent_on);
    tcase_add_test(tc, astray_from_a_thread_without_heap);
    tcase_add_test(tc, threads_without_a_heap_use_the_depot);
    tcase_add_test(tc, depot_gives_back_what_is_empty);
    tcase_add_test(tc, depot_blocks_go_home_from_a_heap);
    tcase_add_test(tc, sampled_blocks_are_of_no_thread);
    tcase_add_test(tc, sizes_that_are_plausible);
    tcase_add_test(tc, addresses_beyond_the_page_map);
    tcase_add_test(tc, sampled_slabs_are_not_stolen);
    tcase_add_test(tc, empty_sampled_slabs_go_back);
    tcase_add_test(tc, bytes_are_counted_down);
    tcase_add_test(tc, refill_says_when_a_sample_is_due);
    tcase_add_test(tc, no_memory_for_a_sample);
    tcase_add_test(tc, a_diverted_class_is_allocated_slowly);
    tcase_add_test(tc, a_parked_heap_diverts_nothing);
    tcase_add_test(tc, samples_owed_leave_with_the_blocks);
    tcase_add_test(tc, samples_owed_for_blocks_in_use_stay);
    tcase_add_test(tc, heap_blocks_freed_without_a_heap);

    tc = new_case(suite, "refusals", setup, teardown);
    tcase_add_test(tc, adopt_without_memory);
    tcase_add_test(tc, alloc_without_memory);
    tcase_add_test(tc, no_magazine_to_be_had);
    tcase_add_test(tc, block_without_a_parcel_goes_home_at_once);
    tcase_add_loop_test(tc, without_heap_and_parcel_a_block_goes_home_at_once, 0, 2);
    tcase_add_loop_test(tc, magazine_without_parcels_is_emptied_all_the_same, 1, 4);
    tcase_add_loop_test(tc, astray_block_without_a_parcel_keeps_its_own, 0, 2);
    tcase_add_test(tc, magazine_that_cannot_grow_flushes);
    tcase_add_loop_test(tc, nth_map_refused, 1, 12);

    tc = new_case(suite, "random", setup, teardown);
    tcase_add_loop_test(tc, random_blocks, 0, 3);
    tcase_add_loop_test(tc, random_blocks_under_refusals, 0, 3);

    tc = new_case(suite, "fork", setup, teardown);
    tcase_add_test(tc, fork_child_inherits_the_heaps_of_others);
    tcase_add_test(tc, fork_inside_a_slow_section);
    tcase_add_test(tc, fork_while_another_thread_never_lets_go);
    tcase_add_test(tc, fork_while_another_thread_holds_the_own_heap);
    tcase_add_loop_test(tc, fork_while_a_thread_stands_in_a_slow_path, 0, sizeof stops / sizeof *stops);
    tcase_add_test(tc, fork_while_a_thread_adopts);
    tcase_add_test(tc, fork_of_a_child_that_inherits);

    tc = new_case(suite, "negative controls", setup, teardown);
    tcase_add_test(tc, check_finds_damage);
    tcase_add_test(tc, double_free_past_the_mark_is_found_at_the_slab);
    return run_suite(suite);
}
