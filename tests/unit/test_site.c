// SPDX-License-Identifier: MIT
#include "site/site.h"

#include "support.h"

#include <pthread.h>

static void setup(void)
{
}

static void teardown(void)
{
}

static const void *site_at(size_t i)
{
    return (const void *)(uintptr_t)(0x400000 + i * 0x10);
}

/* false: the site has no slot. */
static bool find(const void *site, struct hk_site_slot *out)
{
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        if (hk_site_read(i, out) && out->site == site)
            return true;
    return false;
}

static unsigned nr_used(void)
{
    struct hk_site_slot slot;
    unsigned n = 0;

    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        n += hk_site_read(i, &slot);
    return n;
}

/* ---- numbers ------------------------------------------------------------------------------- */

START_TEST(empty_table)
{
    struct hk_site_slot slot;

    for (unsigned i = 0; i < HK_SITE_SLOTS; i++) {
        ck_assert(!hk_site_read(i, &slot));
        ck_assert_ptr_null(slot.site);
    }
    hk_site_note_free(site_at(1), 100); /* of nobody we know */
    ck_assert_uint_eq(nr_used(), 0);
    ck_assert_uint_eq(hk_site_dropped(), 0);
}
END_TEST

START_TEST(events_add_up)
{
    struct hk_site_slot slot;

    hk_site_note_allocs(site_at(1), 1, 100, 100, 0);
    hk_site_note_allocs(site_at(2), 1, 7, 7, 0);
    hk_site_note_allocs(site_at(1), 1, 300, 300, 0);
    hk_site_note_allocs(site_at(1), 1, 200, 200, 0);
    hk_site_note_free(site_at(1), 300);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_allocs, 3);
    ck_assert_uint_eq(slot.nr_frees, 1);
    ck_assert_uint_eq(slot.total_bytes, 600);
    ck_assert_uint_eq(slot.live_bytes, 300);
    ck_assert_uint_eq(slot.max_bytes, 300);
    ck_assert(find(site_at(2), &slot));
    ck_assert_uint_eq(slot.nr_allocs, 1);
    ck_assert_uint_eq(nr_used(), 2);
}
END_TEST

START_TEST(several_events_at_once)
{
    struct hk_site_slot slot;

    hk_site_note_allocs(site_at(3), 10, 5000, 900, 0);
    hk_site_note_allocs(site_at(3), 2, 100, 60, 0);
    ck_assert(find(site_at(3), &slot));
    ck_assert_uint_eq(slot.nr_allocs, 12);
    ck_assert_uint_eq(slot.total_bytes, 5100);
    ck_assert_uint_eq(slot.live_bytes, 5100);
    ck_assert_uint_eq(slot.max_bytes, 900);
}
END_TEST

START_TEST(no_site_is_dropped)
{
    hk_site_note_label(NULL, 100);
    hk_site_note_allocs(NULL, 4, 100, 50, 0);
    hk_site_note_free(NULL, 100);
    ck_assert_uint_eq(hk_site_dropped(), 5);
    ck_assert_uint_eq(nr_used(), 0);
}
END_TEST

/* ---- a full table -------------------------------------------------------------------------- */

START_TEST(full_table_drops_and_counts)
{
    struct hk_site_slot slot;
    uint64_t counted = 0;

    for (size_t i = 0; i < 5000; i++)
        hk_site_note_allocs(site_at(i * 37), 1, 100 + i, 100 + i, 0);
    ck_assert_uint_le(nr_used(), HK_SITE_SLOTS);
    ck_assert_uint_ge(nr_used(), HK_SITE_SLOTS * 9 / 10); /* probes find the holes */
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        if (hk_site_read(i, &slot))
            counted += slot.nr_allocs;
    ck_assert_uint_eq(counted + hk_site_dropped(), 5000);
}
END_TEST

START_TEST(slots_are_kept)
{
    struct hk_site_slot slot;
    uint64_t dropped;

    for (size_t i = 0; i < 20; i++)
        hk_site_note_allocs(site_at(i), 1, 100, 100, 0);
    for (size_t i = 100; i < 5000; i++)
        hk_site_note_allocs(site_at(i), 1, 100, 100, 0);
    dropped = hk_site_dropped();
    for (size_t i = 0; i < 20; i++) {
        hk_site_note_allocs(site_at(i), 1, 100, 100, 0);
        ck_assert(find(site_at(i), &slot));
        ck_assert_uint_eq(slot.nr_allocs, 2);
    }
    ck_assert_uint_eq(hk_site_dropped(), dropped);
}
END_TEST

/* Also when slots before its own are taken later. */
START_TEST(a_site_has_one_slot)
{
    struct hk_site_slot a, b;

    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < 2000; i++)
            hk_site_note_allocs(site_at(i * 101), 1, 1, 1, 0);
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        for (unsigned j = 0; j < i; j++)
            if (hk_site_read(i, &a) && hk_site_read(j, &b))
                ck_assert_ptr_ne(a.site, b.site);
}
END_TEST

/* ---- purposes ------------------------------------------------------------------------------ */

static const char *purpose_of(uint64_t nr, size_t bytes)
{
    struct hk_site_slot slot = {.site = site_at(1), .nr_allocs = nr, .total_bytes = nr * bytes};

    return hk_site_purpose_name(hk_site_infer(&slot, 0));
}

START_TEST(purposes)
{
    ck_assert_str_eq(purpose_of(0, 0), "unknown");
    ck_assert_str_eq(purpose_of(9, 100), "unknown");
    ck_assert_str_eq(purpose_of(10, 100), "small-frequent");
    ck_assert_str_eq(purpose_of(10, 32 * HK_KIB), "small-frequent");
    ck_assert_str_eq(purpose_of(10, 32 * HK_KIB + 1), "medium");
    ck_assert_str_eq(purpose_of(10, HK_MIB - 1), "medium");
    ck_assert_str_eq(purpose_of(10, HK_MIB), "large-infrequent");
    ck_assert_str_eq(purpose_of(1000000, 64 * HK_MIB), "large-infrequent");
}
END_TEST

/* ---- threads ------------------------------------------------------------------------------- */

#define NR_THREADS 4
#define NR_ROUNDS 20000

static void *note(void *arg)
{
    size_t which = (size_t)(uintptr_t)arg;

    for (size_t i = 0; i < NR_ROUNDS; i++) {
        hk_site_note_allocs(site_at(i % 32), 1, 10 + which, 10 + which, 0);
        hk_site_note_free(site_at(i % 32), 10 + which);
    }
    return NULL;
}

START_TEST(threads_lose_nothing)
{
    pthread_t thread[NR_THREADS];
    uint64_t nr_allocs = 0, nr_frees = 0;
    struct hk_site_slot slot;

    for (size_t i = 0; i < NR_THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, note, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < NR_THREADS; i++)
        pthread_join(thread[i], NULL);
    for (size_t i = 0; i < 32; i++) {
        ck_assert(find(site_at(i), &slot));
        ck_assert_uint_eq(slot.live_bytes, 0);
        ck_assert_uint_eq(slot.max_bytes, 10 + NR_THREADS - 1);
        nr_allocs += slot.nr_allocs;
        nr_frees += slot.nr_frees;
    }
    ck_assert_uint_eq(nr_used(), 32);
    ck_assert_uint_eq(nr_allocs, NR_THREADS * NR_ROUNDS);
    ck_assert_uint_eq(nr_frees, NR_THREADS * NR_ROUNDS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("site");
    TCase *tc = new_case(suite, "table", setup, teardown);

    tcase_add_test(tc, empty_table);
    tcase_add_test(tc, events_add_up);
    tcase_add_test(tc, several_events_at_once);
    tcase_add_test(tc, no_site_is_dropped);
    tcase_add_test(tc, full_table_drops_and_counts);
    tcase_add_test(tc, slots_are_kept);
    tcase_add_test(tc, a_site_has_one_slot);
    tcase_add_test(tc, purposes);
    tcase_add_test(tc, threads_lose_nothing);
    return run_suite(suite);
}
