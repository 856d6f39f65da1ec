// SPDX-License-Identifier: MIT
//
// Trailers, the quarantine and the order of refills, over a fake kernel. What misuse meets is in tests/death/hardened.c.
#include "secure/secure.h"

#include "ace/ace.h"
#include "config/config.h"
#include "fake_os.h"
#include "guard/guard.h"
#include "os/os.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>

#define SITE ((const void *)0x401234)

static struct hk_heap *self;

static void setup(void)
{
    fake_os_install();
    set_policy();
    hk_config.secure = true;
    hk_ace_init();
    self = hk_heap_adopt();
    ck_assert_ptr_nonnull(self);
}

static void teardown(void)
{
    hk_secure_flush(self);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 0);
    ck_assert_uint_eq(hk_secure_counters()->resting_bytes, 0);
    hk_ace_check(self);
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static char *get(size_t n)
{
    char *p = hk_secure_alloc(self, n, 16, false, SITE);

    ck_assert_ptr_nonnull(p);
    return p;
}

static void put(void *p)
{
    hk_secure_free(self, p, HK_ORIGIN_MALLOC, HK_SIZE_UNSAID, SITE);
}

static bool is_zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

static const size_t sizes[] = {1,     8,     15,    16,     17,     24,     100,     112,         1000,    4096,
                               10000, 60000, 65520, 65536, 100000, 700000, 2097152, 3 * HK_MIB, 40000000};
#define NR_SIZES (sizeof sizes / sizeof *sizes)

START_TEST(every_byte_is_the_programs)
{
    for (size_t i = 0; i < NR_SIZES; i++)
        for (int round = 0; round < 5; round++) {
            size_t n = sizes[i];
            char *p = get(n);
            ck_assert_uint_eq(hk_secure_usable(p, SITE), n);
            memset(p, 0x5a, n);
            ck_assert_uint_eq(hk_secure_usable(p, SITE), n);
            put(p);
        }
}
END_TEST

START_TEST(alignment_and_zero)
{
    for (size_t align = 16; align <= 4 * HK_MIB; align *= 4)
        for (size_t n = 1; n < 5 * HK_MIB; n = 7 * n + 5) {
            char *p = hk_secure_alloc(self, n, align, true, SITE);
            ck_assert_ptr_nonnull(p);
            ck_assert_uint_eq((uintptr_t)p % align, 0);
            ck_assert(is_zero(p, n));
            memset(p, 0x5a, n);
            put(p);
        }
}
END_TEST

START_TEST(what_rests_is_zero)
{
    for (size_t i = 0; sizes[i] <= HK_MIB / 2; i++) {
        char *p = get(sizes[i]);
        memset(p, 0x5a, sizes[i]);
        put(p);
        ck_assert(is_zero(p, sizes[i]));
    }
}
END_TEST

/* Nobody gets it while 511 others come and go. */
START_TEST(a_small_block_rests_long)
{
    char *p = get(100);

    put(p);
    for (int i = 0; i < 511; i++) {
        char *q = get(100);
        ck_assert_ptr_ne(q, p);
        put(q);
    }
    ck_assert_uint_ge(hk_secure_counters()->nr_resting, 512); /* and the first of each slab, which nobody gets */
    ck_assert_uint_le(hk_secure_counters()->nr_resting, 512 + 16);
}
END_TEST

/* The largest of the small ones is one, and the largest of the next, of which 16 rest. */
START_TEST(the_largest_of_a_kind_rests_as_long)
{
    size_t usable = _i ? 64 * HK_KIB : HK_KIB, n = usable - 16; /* the trailer */
    char *p = hk_secure_alloc(self, n, _i ? 4096 : 16, false, SITE); /* a page's alignment: a run, without colour */
    struct hk_block b;

    ck_assert_int_eq(hk_ace_identify(p, &b), HK_BLOCK_LIVE);
    ck_assert_uint_eq(b.usable, usable);
    put(p);
    for (int i = 0; i < (_i ? 15 : 511); i++) {
        char *q = hk_secure_alloc(self, n, _i ? 4096 : 16, false, SITE);
        ck_assert_ptr_ne(q, p);
        put(q);
    }
}
END_TEST

/* What has exactly the size from which blocks do not rest any more rests. */
START_TEST(a_block_of_1_MiB_rests)
{
    size_t before = hk_secure_counters()->nr_resting, page = 4096, most = HK_MIB + HK_GRANULE;
    char *p = hk_secure_alloc(self, most - 16, page, false, SITE); /* the trailer; no colour at such an alignment */
    struct hk_block b;

    ck_assert_int_eq(hk_ace_identify(p, &b), HK_BLOCK_LIVE);
    ck_assert_uint_eq(b.usable, most);
    put(p);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, before + 1);
    ck_assert_uint_ge(hk_secure_counters()->resting_bytes, most);
    p = hk_secure_alloc(self, most, page, false, SITE);
    put(p);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, before + 1);
}
END_TEST

START_TEST(realloc_keeps_what_there_is)
{
    start_random(2);
    static char pattern[300001];
    for (int round = 0; round < 1000; round++) {
        size_t n = 1 + below(round % 50 ? 3000 : 300000), m = 1 + below(round % 50 ? 3000 : 300000);
        char *p = get(n), *q;
        memset(pattern, round, n);
        memcpy(p, pattern, n);
        q = hk_secure_realloc(self, p, m, SITE);
        ck_assert_ptr_nonnull(q);
        ck_assert_uint_eq(hk_secure_usable(q, SITE), m);
        ck_assert_mem_eq(q, pattern, hk_min(n, m));
        memset(q, 1, m);
        put(q);
    }
}
END_TEST

START_TEST(resize_stays_or_says_no)
{
    char *p = get(1000);

    ck_assert(!hk_secure_resize(p, 100000, SITE));
    ck_assert_uint_eq(hk_secure_usable(p, SITE), 1000);
    ck_assert(hk_secure_resize(p, 900, SITE));
    ck_assert_uint_eq(hk_secure_usable(p, SITE), 900);
    memset(p, 1, 900);
    put(p);
}
END_TEST

START_TEST(a_block_stays_while_half_is_used)
{
    char *p = get(1008); /* of 1024, with the trailer */

    ck_assert(hk_secure_resize(p, 505, SITE));
    ck_assert(!hk_secure_resize(p, 504, SITE));
    ck_assert_uint_eq(hk_secure_usable(p, SITE), 505);
    ck_assert(hk_secure_resize(p, 1008, SITE));
    ck_assert(!hk_secure_resize(p, 1009, SITE));
    put(p);
    p = get(64); /* of 80: below that nothing is gained */
    ck_assert(hk_secure_resize(p, 1, SITE));
    put(p);
}
END_TEST

START_TEST(blocks_of_nothing)
{
    static char *p[70000];
    size_t nr_empty = 0;

    for (size_t i = 0; i < 70000; i++) {
        p[i] = get(0);
        ck_assert_uint_eq((uintptr_t)p[i] % 16, 0);
        nr_empty += hk_pagemap_word(p[i]) == HK_PM_EMPTY;
        ck_assert_uint_eq(hk_secure_usable(p[i], SITE), 0);
    }
    ck_assert_uint_eq(nr_empty, 65536); /* and others without */
    p[0] = hk_secure_realloc(self, p[0], 10, SITE);
    ck_assert_uint_eq(hk_secure_usable(p[0], SITE), 10);
    for (size_t i = 0; i < 70000; i++)
        put(p[i]);
}
END_TEST

/* 300 of them: more than there are fences. */
START_TEST(big_blocks_and_their_fences)
{
    char *p[300];
    size_t before;

    put(get(300000)); /* the arena's own fence is there */
    before = fake_os_guarded_bytes();
    hk_config.big_guard = 0; /* theirs are not counted here */
    for (int i = 0; i < 300; i++) {
        p[i] = get(2 * HK_MIB + (size_t)i);
        memset(p[i], 0x5a, 100);
        p[i][2 * HK_MIB + (size_t)i - 1] = 1;
    }
    ck_assert_uint_eq(fake_os_guarded_bytes() - before, 256 * 4096);
    for (int i = 0; i < 300; i++)
        put(p[i]);
    ck_assert_uint_eq(fake_os_guarded_bytes(), before);
    p[0] = get(2 * HK_MIB - 1); /* they begin at 2 MiB */
    ck_assert_uint_eq(fake_os_guarded_bytes(), before);
    p[1] = get(2 * HK_MIB);
    ck_assert_uint_eq(fake_os_guarded_bytes() - before, 4096);
    put(p[0]);
    put(p[1]);
    fake_os_fail_all(FAKE_PROTECT, ENOMEM);
    p[0] = get(2 * HK_MIB);
    fake_os_fail_all(FAKE_PROTECT, 0);
    memset(p[0], 1, 2 * HK_MIB);
    put(p[0]);
}
END_TEST

static void refuse_to_open(int error)
{
    fake_os_fail_all(FAKE_PROTECT, error);
    fake_os_fail_all(FAKE_REMAP, error);
}

/* A filter that came after the fence. _i: of the arena, or a mapping of its own. */
START_TEST(fence_that_cannot_be_opened_is_replaced)
{
    char *p = get(_i ? 100 * HK_MIB : 3 * HK_MIB);
    size_t before = hk_ace_live_bytes(), guarded = fake_os_guarded_bytes(), lost = hk_os_counters.lost_bytes;

    fake_os_fail_all(FAKE_PROTECT, EPERM);
    put(p);
    fake_os_fail_all(FAKE_PROTECT, 0);
    ck_assert_uint_lt(hk_ace_live_bytes() + 3 * HK_MIB, before + 1);
    ck_assert_uint_lt(fake_os_guarded_bytes(), guarded);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 0);
    ck_assert_uint_eq(hk_os_counters.lost_bytes, lost);
    p = get(_i ? 100 * HK_MIB : 3 * HK_MIB); /* and it serves again */
    memset(p, 0x5a, 3 * HK_MIB);
    put(p);
}
END_TEST

/* _i: what tries again is a flush, the next big block, or its neighbour's end. */
START_TEST(fence_that_stays_keeps_its_block_for_later)
{
    char *p = get(3 * HK_MIB), *q = get(4 * HK_MIB);
    size_t before = hk_ace_live_bytes(), lost = hk_os_counters.lost_bytes;

    refuse_to_open(EPERM);
    put(p);
    ck_assert_uint_eq(hk_ace_live_bytes(), before);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 1);
    ck_assert_uint_ge(hk_secure_counters()->resting_bytes, 3 * HK_MIB);
    hk_secure_flush(self);
    put(get(2 * HK_MIB)); /* its fence is refused as well */
    ck_assert_uint_eq(hk_ace_live_bytes(), before);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 1);
    put(q);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 2);
    refuse_to_open(0);
    if (_i)
        put(get(2 * HK_MIB));
    else
        hk_secure_flush(self);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 0);
    ck_assert_uint_eq(hk_secure_counters()->resting_bytes, 0);
    ck_assert_uint_lt(hk_ace_live_bytes() + 7 * HK_MIB, before + 1);
    ck_assert_uint_eq(hk_os_counters.lost_bytes, lost);
}
END_TEST

/* The kernel took the page away and did not give another: whose it is by now nobody knows. */
START_TEST(page_that_may_be_anybodys_is_left_alone)
{
    char *p = get(3 * HK_MIB);
    size_t lost = hk_os_counters.lost_bytes;
    unsigned nr;

    fake_os_fail_all(FAKE_PROTECT, EPERM);
    fake_os_fail_all(FAKE_REMAP, EFAULT);
    put(p);
    fake_os_fail_all(FAKE_PROTECT, 0);
    fake_os_fail_all(FAKE_REMAP, 0);
    ck_assert_uint_eq(hk_os_counters.lost_bytes, lost); /* it counts with its block */
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 1);
    nr = fake_os_calls(FAKE_PROTECT);
    hk_secure_flush(self);
    ck_assert_uint_eq(fake_os_calls(FAKE_PROTECT), nr);
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 1);
}
END_TEST

/* What rests gives way. */
START_TEST(out_of_memory_but_for_what_rests)
{
    size_t n = 700000;
    char *p;

    put(get(n));
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (p = get(n); p; p = hk_secure_alloc(self, n, 16, false, SITE))
        memset(p, 0x5a, n); /* all that is left, and then the one that rested */
    ck_assert_uint_eq(hk_secure_counters()->nr_resting, 0);
    fake_os_fail_all(FAKE_MAP, 0);
}
END_TEST

START_TEST(out_of_memory)
{
    char *p;

    ck_assert_ptr_null(hk_secure_alloc(self, PTRDIFF_MAX, 16, false, SITE));
    ck_assert_ptr_null(hk_secure_alloc(self, PTRDIFF_MAX - 100, 16, false, SITE));
    p = get(100000);
    memset(p, 1, 100000);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    ck_assert_ptr_null(hk_secure_realloc(self, p, (size_t)1 << 30, SITE));
    fake_os_fail_all(FAKE_MAP, 0);
    ck_assert_uint_eq(hk_secure_usable(p, SITE), 100000);
    put(p);
}
END_TEST

START_TEST(a_guarded_block_is_resized_in_its_page)
{
    char *p = hk_guard_alloc(100, 16, SITE, 1);
    size_t usable;

    ck_assert_ptr_nonnull(p);
    usable = hk_secure_usable(p, SITE);
    ck_assert(!hk_secure_resize(p, 100000, SITE));
    ck_assert_uint_eq(hk_secure_usable(p, SITE), usable);
    ck_assert(hk_secure_resize(p, usable - 8, SITE));
    ck_assert_uint_eq(hk_guard_slot_at(p)->asked, usable - 8);
    ck_assert(!hk_secure_resize(p, 1, SITE)); /* more than half of it would lie idle */
    ck_assert_uint_eq(hk_guard_slot_at(p)->asked, usable - 8);
    put(p);
}
END_TEST

START_TEST(a_guarded_block_stays_for_its_own_size_alone)
{
    char *p = hk_guard_alloc(100, 16, SITE, 1), *q;
    size_t usable = hk_secure_usable(p, SITE);

    ck_assert_ptr_eq(hk_secure_realloc(self, p, usable, SITE), p);
    q = hk_secure_realloc(self, p, usable - 16, SITE); /* what is beyond that is forbidden, too */
    ck_assert_ptr_ne(q, p);
    ck_assert_uint_eq(hk_secure_usable(q, SITE), usable - 16);
    put(q);
}
END_TEST

/* A signal handler's block, and no memory for another: it is as large as asked for. */
START_TEST(a_loose_block_stays_for_its_own_size)
{
    char *p = hk_ace_loose_alloc(100, 16);
    size_t usable = hk_secure_usable(p, SITE);

    memset(p, 0x5a, usable);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while (hk_secure_alloc(self, usable, 16, false, SITE))
        ; /* all that is left */
    ck_assert_ptr_null(hk_secure_realloc(self, p, usable + 1, SITE));
    ck_assert_ptr_eq(hk_secure_realloc(self, p, usable, SITE), p);
    ck_assert_int_eq(p[usable - 1], 0x5a);
    fake_os_fail_all(FAKE_MAP, 0);
    ck_assert(hk_ace_loose_free(p));
}
END_TEST

/* Whatever there is no memory for: the block stays where it is, with the size asked for. */
START_TEST(a_shrink_never_fails)
{
    static const size_t to[] = {1, 100, 5000, 70000};
    char *p = get(3 * HK_MIB), *q;

    memset(p, 0x5a, 3 * HK_MIB);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while (hk_secure_alloc(self, to[_i], 16, false, SITE))
        ; /* all that is left */
    ck_assert_ptr_null(hk_secure_realloc(self, p, 4 * HK_MIB, SITE));
    ck_assert_uint_eq(hk_secure_usable(p, SITE), 3 * HK_MIB);
    q = hk_secure_realloc(self, p, to[_i], SITE);
    ck_assert_ptr_eq(q, p);
    ck_assert_uint_eq(hk_secure_usable(p, SITE), to[_i]);
    for (size_t i = 0; i < to[_i]; i++)
        ck_assert(p[i] == 0x5a);
    fake_os_fail_all(FAKE_MAP, 0);
    q = hk_secure_realloc(self, p, to[_i], SITE); /* there is memory again */
    ck_assert_ptr_nonnull(q);
    ck_assert_int_eq(q[to[_i] - 1], 0x5a);
    put(q);
}
END_TEST

/* No two neighbours come one after the other all the time. */
START_TEST(refills_are_shuffled)
{
    char *last = get(32);
    int in_order = 0;

    for (int i = 0; i < 1000; i++) {
        char *p = get(32);
        in_order += p == last + 48;
        last = p;
    }
    ck_assert_int_lt(in_order, 300);
}
END_TEST

/* Slabs of all classes come and go in the same memory: what others left there is nobody's write. */
START_TEST(geometries_change)
{
    static char *p[3000];

    start_random(3);
    for (int round = 0; round < 60; round++) {
        size_t n = 1 + below(one_in(4) ? 60000 : 2000), count = 10 + below(2000);
        for (size_t i = 0; i < count; i++)
            memset(p[i] = get(n), 0x5a, n);
        for (size_t i = 0; i < count; i++)
            put(p[i]);
        if (one_in(3))
            hk_secure_flush(self);
        if (one_in(5))
            hk_heap_flush_all(self);
    }
}
END_TEST

/* Blocks change hands; heaps of their own, one ends. */
static void *volatile handed[64];

static void *trade(void *arg)
{
    struct hk_heap *heap = hk_heap_adopt();
    unsigned x = (unsigned)(uintptr_t)arg * 7919;

    for (int i = 0; i < 20000; i++) {
        size_t n = 1 + (x = x * 1103515245 + 12345) / 65536 % (i % 100 ? 500 : 50000);
        char *p = hk_secure_alloc(heap, n, 16, i % 2, SITE);
        if (!p)
            abort();
        memset(p, (int)x, n);
        p = __atomic_exchange_n(&handed[x / 1024 % 64], p, __ATOMIC_ACQ_REL);
        if (p)
            hk_secure_free(heap, p, HK_ORIGIN_MALLOC, HK_SIZE_UNSAID, SITE);
    }
    hk_heap_park(heap);
    return NULL;
}

START_TEST(threads)
{
    pthread_t thread[4];

    fake_os_remove(); /* it is for one thread */
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, trade, (void *)(uintptr_t)(i + 1)), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < 64; i++)
        if (handed[i])
            put((void *)handed[i]);
    hk_secure_flush(self);
    fake_os_install();
}
END_TEST

/* All that changes in a trailer lies in its other word: who looks from another thread finds old or new, never half. */
START_TEST(one_word_of_a_trailer_changes)
{
    char *p = get(1000);
    const volatile uint64_t *last = (uint64_t *)(void *)(p + hk_ace_usable(p, SITE)) - 1;
    uint64_t word = *last;

    hk_secure_mark_origin(p, HK_ORIGIN_NEW);
    ck_assert_uint_eq(*last, word);
    ck_assert(hk_secure_resize(p, 900, SITE));
    ck_assert_uint_eq(*last, word);
    hk_secure_free(self, p, HK_ORIGIN_NEW, 900, SITE);
    ck_assert_uint_eq(*last, word);
    hk_secure_flush(self);
    ck_assert_uint_eq(*last, word);
}
END_TEST

/* Another thread resizes its block in place; its neighbours come and go here, and look at its trailer. */
static char *volatile theirs;
static bool all_freed;

static void *resizes(void *arg)
{
    size_t n = 0;

    (void)arg;
    while (!hk_load_acquire(&all_freed))
        if (!hk_secure_resize(theirs, 900 + (n++ & 63), SITE))
            abort();
    return NULL;
}

START_TEST(a_neighbour_is_resized)
{
    char *block[64];
    pthread_t thread;

    for (int i = 0; i < 64; i++)
        block[i] = get(1000);
    for (int i = 0; i < 64; i += 16) {
        theirs = block[i];
        hk_store_release(&all_freed, false);
        ck_assert_int_eq(pthread_create(&thread, NULL, resizes, NULL), 0);
        for (int round = 0; round < 200; round++)
            for (int j = 0; j < 64; j++) {
                if (j == i)
                    continue;
                put(block[j]);
                block[j] = get(1000);
            }
        hk_store_release(&all_freed, true);
        pthread_join(thread, NULL);
    }
    for (int i = 0; i < 64; i++)
        put(block[i]);
}
END_TEST

/* As a signal handler's free of a fenced block goes: not through this box. */
START_TEST(freed_past_this_box)
{
    for (int i = 0; i < 4; i++) {
        char *p = get(3 * HK_MIB);
        ck_assert(hk_secure_let_past(p));
        hk_ace_free(self, p, SITE);
        p = hk_ace_alloc(self, 3 * HK_MIB, 16, false, SITE);
        memset(p, 1, hk_ace_usable(p, SITE));
        hk_ace_free(self, p, SITE);
    }
}
END_TEST

/* ---- what is wrong is said ----------------------------------------------------------------- */

static void write_into_resting(void)
{
    char *p = get(100);

    put(p);
    p[50] = 1;
    hk_secure_flush(self);
}

/* It has left the quarantine, and comes back to the program. */
static void write_into_dead(void)
{
    char *p = get(100);

    put(p);
    hk_secure_flush(self);
    p[50] = 1;
    for (int i = 0; i < 10000; i++)
        (void)get(100);
}

static void write_before_exit(void)
{
    char *p = get(100);

    put(p);
    p[99] = 1;
    hk_secure_look();
}

static void write_behind(void)
{
    char *p = get(100);

    p[100] = 0;
    put(p);
}

static void write_into_trailer(void)
{
    char *p = get(112);

    memset(p + 112, 0x41, 16);
    put(p);
}

static void free_twice(void)
{
    char *p = get(100);

    put(p);
    put(p);
}

static bool ours;

static bool are_ours(void)
{
    return ours;
}

static void free_what_new_made(void)
{
    char *p = get(100);

    hk_secure_mark_origin(p, HK_ORIGIN_NEW);
    put(p);
}

/* Where the calls that follow have their variables. */
static __attribute__((noinline)) void leave_letters_on_the_stack(void)
{
    volatile char letters[8192];

    for (size_t i = 0; i < sizeof letters; i++)
        letters[i] = 'x';
}

static void realloc_what_new_made(void)
{
    char *p = get(100);

    hk_secure_mark_origin(p, HK_ORIGIN_NEW);
    hk_secure_realloc(self, p, 101, SITE);
}

static void delete_with_another_size(void)
{
    char *p = get(100);

    hk_secure_mark_origin(p, HK_ORIGIN_NEW);
    leave_letters_on_the_stack();
    hk_secure_free(self, p, HK_ORIGIN_NEW, 99, SITE);
}

/* Where some operators are the program's own, a block may come from one kind and go to the other. */
START_TEST(who_frees_counts_when_the_operators_are_ours)
{
    free_what_new_made(); /* nobody has said whose they are */
    hk_secure_operators_are_ours = are_ours;
    free_what_new_made();
    realloc_what_new_made();
    delete_with_another_size();
    ours = true;
    must_panic(realloc_what_new_made, "mismatched free: block of new given to free: pointer");
    must_panic(free_what_new_made, "mismatched free: block of new given to free: pointer");
    must_panic(delete_with_another_size, "mismatched free: size 99 said: pointer");
}
END_TEST

static void free_a_kept_one_twice(void)
{
    char *p = get(3 * HK_MIB);

    refuse_to_open(EPERM);
    put(p);
    put(p);
}

START_TEST(misuse_is_said)
{
    must_panic(write_into_resting, "write after free: pointer");
    must_panic(write_into_dead, "write after free: pointer");
    must_panic(write_before_exit, "write after free: pointer");
    must_panic(write_behind, "heap overflow: pointer");
    must_panic(write_into_trailer, "heap overflow: pointer");
    must_panic(free_twice, "double free: pointer");
    must_panic(free_a_kept_one_twice, "double free: pointer");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("secure");
    TCase *tc = new_case(suite, "blocks", setup, teardown);

    tcase_add_test(tc, every_byte_is_the_programs);
    tcase_add_test(tc, alignment_and_zero);
    tcase_add_test(tc, what_rests_is_zero);
    tcase_add_test(tc, a_small_block_rests_long);
    tcase_add_loop_test(tc, the_largest_of_a_kind_rests_as_long, 0, 2);
    tcase_add_test(tc, a_block_of_1_MiB_rests);
    tcase_add_test(tc, realloc_keeps_what_there_is);
    tcase_add_test(tc, resize_stays_or_says_no);
    tcase_add_test(tc, a_block_stays_while_half_is_used);
    tcase_add_test(tc, blocks_of_nothing);
    tcase_add_test(tc, big_blocks_and_their_fences);
    tcase_add_loop_test(tc, fence_that_cannot_be_opened_is_replaced, 0, 2);
    tcase_add_loop_test(tc, fence_that_stays_keeps_its_block_for_later, 0, 2);
    tcase_add_test(tc, out_of_memory_but_for_what_rests);
    tcase_add_test(tc, out_of_memory);
    tcase_add_test(tc, a_guarded_block_is_resized_in_its_page);
    tcase_add_test(tc, a_guarded_block_stays_for_its_own_size_alone);
    tcase_add_test(tc, a_loose_block_stays_for_its_own_size);
    tcase_add_loop_test(tc, a_shrink_never_fails, 0, 4);
    tcase_add_test(tc, refills_are_shuffled);
    tcase_add_test(tc, geometries_change);
    tcase_add_test(tc, threads);
    tcase_add_test(tc, one_word_of_a_trailer_changes);
    tcase_add_test(tc, a_neighbour_is_resized);
    tcase_add_test(tc, freed_past_this_box);
    if (!UNDER_TSAN) {
        tcase_add_test(tc, who_frees_counts_when_the_operators_are_ours);
        tcase_add_test(tc, misuse_is_said);
    }

    tc = new_case(suite, "a block that stays", setup, NULL);
    tcase_add_test(tc, page_that_may_be_anybodys_is_left_alone);
    return run_suite(suite);
}
