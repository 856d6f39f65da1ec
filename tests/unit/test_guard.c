// SPDX-License-Identifier: MIT
#include "guard/guard.h"

#include "fake_os.h"
#include "os/os.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>

#define SITE ((const void *)0x401234)
#define FREE_SITE ((const void *)0x405678)

static size_t page;

static void setup(void)
{
    fake_os_install();
    page = hk_os_page_bytes();
}

static void teardown(void)
{
    hk_guard_check();
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static char *get(size_t n)
{
    char *p = hk_guard_alloc(n, 16, SITE, 7);

    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(hk_pagemap_word(p), HK_PM_GUARD);
    return p;
}

static bool put(const char *p)
{
    const char *damage;

    return hk_guard_free(hk_guard_slot_at(p), FREE_SITE, 8, &damage);
}

static const struct hk_guard_slot *slot_of(const char *p)
{
    return hk_guard_slot_at(p);
}

static void read_byte(const volatile char *p)
{
    (void)*p;
}

static const char *forbidden;

static void touch(void)
{
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    read_byte(forbidden);
}

static bool faults(const char *p)
{
    struct child child;

    forbidden = p;
    child = run_child(touch);
    return WIFSIGNALED(child.status) && (WTERMSIG(child.status) == SIGSEGV || WTERMSIG(child.status) == SIGBUS);
}

START_TEST(nothing_before_the_first)
{
    static int here;

    ck_assert(!hk_guard_contains(&here));
    ck_assert(!hk_guard_contains(NULL));
    hk_guard_fork_child(false);
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), 0);
    ck_assert_uint_eq(hk_guard_counters()->mapped_bytes, 0);
}
END_TEST

START_TEST(one_block)
{
    const struct hk_guard_slot *slot;
    char *p = get(100);
    unsigned advised;

    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(p[i], 0);
    memset(p, 0x5a, 100);
    slot = slot_of(p);
    ck_assert_ptr_eq(slot->start, p);
    ck_assert_uint_eq(slot->bytes, 100);
    ck_assert_uint_eq(slot->state, HK_GUARD_LIVE);
    ck_assert_ptr_eq(slot->alloc_site, SITE);
    ck_assert_uint_eq(slot->alloc_thread, 7);
    ck_assert_ptr_null(slot->free_site);
    ck_assert_uint_eq(fake_os_guarded_bytes(), hk_guard_counters()->mapped_bytes - page);
    ck_assert_uint_eq(hk_guard_counters()->live_bytes, page);
    advised = fake_os_calls(FAKE_ADVISE);
    ck_assert(put(p));
    ck_assert_uint_eq(slot->state, HK_GUARD_DEAD);
    ck_assert_ptr_eq(slot->free_site, FREE_SITE);
    ck_assert_uint_eq(slot->free_thread, 8);
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), advised + 1); /* its page is nobody's memory meanwhile */
    ck_assert_uint_eq(fake_os_guarded_bytes(), hk_guard_counters()->mapped_bytes);
    ck_assert_uint_eq(hk_guard_counters()->live_bytes, 0);
    ck_assert_uint_eq(hk_guard_counters()->nr_samples, 1);
    ck_assert(!put(p)); /* dead already */
}
END_TEST

/* The end of the block is the end of the page but for its alignment; of every fourth the start is the start. */
START_TEST(where_the_block_lies)
{
    for (size_t n = 1; n <= page; n += 1 + n / 3)
        for (int i = 0; i < 4; i++) {
            char *p = get(n);
            size_t offset = (uintptr_t)p % page;
            ck_assert_uint_eq((uintptr_t)p % 16, 0);
            if (i < 3)
                ck_assert_uint_eq(offset, (page - n) & ~(size_t)15);
            else
                ck_assert_uint_eq(offset, 0);
            ck_assert(put(p));
        }
}
END_TEST

START_TEST(every_alignment)
{
    for (size_t align = 1; align <= page; align *= 2)
        for (size_t n = 1; n <= page; n = 5 * n + 3) {
            char *p = hk_guard_alloc(n, align, SITE, 0);
            ck_assert_ptr_nonnull(p);
            ck_assert_uint_eq((uintptr_t)p % hk_max(align, 16), 0);
            ck_assert_uint_eq(slot_of(p)->bytes, align > 16 ? hk_align_up(n, align) : n);
            ck_assert(put(p));
        }
    ck_assert(!hk_guard_fits(page + 1, 16));
    ck_assert(!hk_guard_fits(1, 2 * page));
    ck_assert(hk_guard_fits(page, page));
    ck_assert_ptr_null(hk_guard_alloc(page + 1, 16, SITE, 0));
    ck_assert_ptr_null(hk_guard_alloc(1, 2 * page, SITE, 0));
}
END_TEST

START_TEST(both_sides_are_closed)
{
    char *p = get(100), *base = (char *)((uintptr_t)p & ~(page - 1));

    ck_assert(!faults(p) && !faults(p + 99) && !faults(base));
    ck_assert(faults(base - 1));
    ck_assert(faults(base + page));
    ck_assert(put(p));
    ck_assert(faults(p));
}
END_TEST

START_TEST(first_in_first_out)
{
    char *p[HK_GUARD_SLOTS];

    for (int i = 0; i < HK_GUARD_SLOTS; i++)
        p[i] = get(page);
    ck_assert_ptr_null(hk_guard_alloc(1, 16, SITE, 0));
    ck_assert_uint_eq(hk_guard_counters()->nr_refused, 1);
    ck_assert_uint_eq(hk_guard_counters()->nr_live, HK_GUARD_SLOTS);
    start_random(1);
    for (int i = HK_GUARD_SLOTS - 1; i > 0; i--) {
        size_t j = below((size_t)i + 1);
        char *q = p[i];
        p[i] = p[j];
        p[j] = q;
    }
    for (int i = 0; i < HK_GUARD_SLOTS; i++)
        ck_assert(put(p[i]));
    for (int i = 0; i < HK_GUARD_SLOTS; i++)
        ck_assert_ptr_eq(get(page), p[i]);
}
END_TEST

/* A slot that was freed is not taken while one that never was is left, nor before any freed earlier. */
START_TEST(a_freed_slot_rests)
{
    char *p = get(page);

    hk_guard_set_origin(p, 3);
    ck_assert(put(p));
    for (int i = 1; i < HK_GUARD_SLOTS; i++)
        ck_assert_ptr_ne(get(page), p);
    ck_assert_ptr_eq(slot_of(p)->free_site, FREE_SITE);
    ck_assert_ptr_eq(get(page), p);
    ck_assert_ptr_null(slot_of(p)->free_site); /* of this life */
    ck_assert_uint_eq(slot_of(p)->free_thread, 0);
    ck_assert_uint_eq(slot_of(p)->origin, 0);
}
END_TEST

START_TEST(writes_beside_the_block)
{
    static const int n = 100;
    char *p = get(n), *base = (char *)((uintptr_t)p & ~(page - 1));

    for (char *at = base; at < base + page; at++) {
        const char *damage;
        char before = *at;
        if (at >= p && at < p + n)
            continue;
        *at = (char)~before;
        ck_assert(!hk_guard_free(slot_of(p), FREE_SITE, 8, &damage));
        ck_assert_ptr_eq(damage, at);
        ck_assert_uint_eq(slot_of(p)->state, HK_GUARD_LIVE);
        ck_assert_ptr_null(slot_of(p)->free_site);
        *at = before;
    }
    ck_assert(put(p));
}
END_TEST

/* Of a forbidden page: the block that is nearer, of whichever side. */
START_TEST(nearest_block)
{
    char *p = get(page - 16), *q = get(page - 160), *end = p + page - 16;

    ck_assert_uint_eq((size_t)(q - end), page + 160); /* side by side */
    ck_assert(hk_guard_contains(end));
    ck_assert_ptr_null(hk_guard_slot_at(end));
    ck_assert_ptr_eq(hk_guard_nearest(end), slot_of(p));
    ck_assert_ptr_eq(hk_guard_nearest(end + page - 1), slot_of(q));
    ck_assert_ptr_eq(hk_guard_nearest(q), slot_of(q));
    ck_assert_ptr_eq(hk_guard_nearest(q + page), slot_of(q)); /* its right neighbour was never used */
    ck_assert_ptr_eq(hk_guard_nearest((char *)((uintptr_t)p & ~(page - 1)) - 1), slot_of(p));
    ck_assert_ptr_null(hk_guard_nearest(q + 9 * page));
}
END_TEST

START_TEST(no_region_to_be_had)
{
    static const enum fake_call calls[] = {FAKE_MAP, FAKE_PROTECT};

    for (int i = 0; i < 2; i++)
        for (unsigned nth = 1; nth <= 2; nth++) {
            fake_os_fail_all(calls[i], ENOMEM);
            ck_assert_ptr_null(hk_guard_alloc(100, 16, SITE, 0));
            fake_os_fail_all(calls[i], 0);
            ck_assert_uint_eq(hk_guard_counters()->mapped_bytes, 0);
        }
    ck_assert_uint_eq(hk_guard_counters()->nr_refused, 4);
    ck_assert(put(get(100)));
}
END_TEST

START_TEST(a_page_that_will_not_open)
{
    char *p = get(100);

    fake_os_fail(FAKE_PROTECT, 1, ENOMEM);
    ck_assert_ptr_null(hk_guard_alloc(100, 16, SITE, 0));
    ck_assert_uint_eq(hk_guard_counters()->nr_live, 1);
    ck_assert(put(get(100)));
    ck_assert(put(p));
}
END_TEST

/* It is dead all the same, and clean when it comes again. */
START_TEST(a_page_that_will_not_close)
{
    char *p = get(100), *again;

    memset(p, 0x5a, 100);
    fake_os_fail(FAKE_PROTECT, 1, ENOMEM);
    fake_os_fail(FAKE_ADVISE, 1, EINVAL);
    ck_assert(put(p));
    ck_assert(!put(p));
    ck_assert(!faults(p));
    for (int i = 1; i < HK_GUARD_SLOTS; i++)
        (void)get(page);
    again = get(64);
    ck_assert_ptr_eq(slot_of(again), slot_of(p));
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(again[i], 0);
    ck_assert(put(again));
}
END_TEST

/* A child finds a slot that another thread was about to free. */
START_TEST(a_child_takes_up)
{
    char *p = get(100), *q = get(100);
    struct hk_guard_slot *slot = &hk_guard_slots[slot_of(p) - hk_guard_slots];

    slot->state = HK_GUARD_BUSY;
    hk_guard_fork_child(true); /* by a handler: it may be the survivor's, which goes on */
    ck_assert_uint_eq(slot->state, HK_GUARD_BUSY);
    ck_assert(!faults(p));
    hk_guard_fork_child(false);
    ck_assert_uint_eq(slot->state, HK_GUARD_DEAD);
    ck_assert_uint_eq(hk_guard_counters()->nr_live, 1);
    ck_assert_uint_eq(slot_of(q)->state, HK_GUARD_LIVE);
    ck_assert(faults(p));
    ck_assert(put(q));
    for (int i = 0; i < 2 * HK_GUARD_SLOTS; i++)
        ck_assert(put(get(100)));
}
END_TEST

#define THREADS 4
#define ROUNDS 20000

/* Each finds its own bytes whatever the others do. */
static void *work(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;

    for (int i = 0; i < ROUNDS; i++) {
        size_t n = 1 + (size_t)i % 300;
        char *p = hk_guard_alloc(n, 16, SITE, me);
        if (!p)
            continue;
        memset(p, (int)me, n);
        for (size_t at = 0; at < n; at++)
            if (p[at] != (char)me)
                abort();
        if (slot_of(p)->alloc_thread != me || !put(p))
            abort();
    }
    return NULL;
}

START_TEST(threads)
{
    pthread_t thread[THREADS];

    fake_os_remove(); /* it is for one thread */
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(i + 1)), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    ck_assert_uint_eq(hk_guard_counters()->nr_live, 0);
    hk_guard_check();
    ck_assert_uint_eq(hk_guard_counters()->nr_samples + hk_guard_counters()->nr_refused, THREADS * ROUNDS);
    fake_os_install();
}
END_TEST

/* ---- negative controls --------------------------------------------------------------------- */

static void damage_start(void)
{
    (void)get(100);
    hk_guard_slots[0].start -= page;
    hk_guard_check();
}

static void damage_bytes(void)
{
    get(100)[101]++;
    hk_guard_check();
}

static void damage_word(void)
{
    hk_pagemap_set(get(100), 1, HK_PM_SPAN, NULL);
    hk_guard_check();
}

static void damage_order(void)
{
    char *p = get(100);

    put(p);
    hk_guard_slots[slot_of(p) - hk_guard_slots].freed_at++;
    hk_guard_check();
}

static void damage_count(void)
{
    (void)get(100);
    hk_guard_slots[0].state = HK_GUARD_DEAD;
    hk_guard_check();
}

START_TEST(check_sees_damage)
{
    must_panic(damage_start, "guard: a block outside its page");
    must_panic(damage_bytes, "guard: written beside a block");
    must_panic(damage_word, "guard: page map");
    must_panic(damage_order, "guard: order of the frees");
    must_panic(damage_count, "guard: live blocks do not add up");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guard");
    TCase *tc = new_case(suite, "blocks", setup, teardown);

    tcase_add_test(tc, nothing_before_the_first);
    tcase_add_test(tc, one_block);
    tcase_add_test(tc, where_the_block_lies);
    tcase_add_test(tc, every_alignment);
    tcase_add_test(tc, first_in_first_out);
    tcase_add_test(tc, a_freed_slot_rests);
    tcase_add_test(tc, writes_beside_the_block);
    tcase_add_test(tc, nearest_block);
    tcase_add_test(tc, no_region_to_be_had);
    tcase_add_test(tc, a_page_that_will_not_open);
    if (!UNDER_TSAN) {
        tcase_add_test(tc, both_sides_are_closed);
        tcase_add_test(tc, a_page_that_will_not_close);
        tcase_add_test(tc, a_child_takes_up);
        tcase_add_test(tc, check_sees_damage);
    }
    tcase_add_test(tc, threads);
    return run_suite(suite);
}
