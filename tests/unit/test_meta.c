// SPDX-License-Identifier: MIT
/* meta is included, so that the negative control can reach its state. */
#include "meta/meta.c"

#include "fake_os.h"
#include "support.h"

#include <errno.h>

static void setup(void)
{
    fake_os_install();
}

static void teardown(void)
{
    hk_meta_check();
    ck_assert_uint_eq(fake_os_violations(), 0);
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), 0); /* never given back */
    ck_assert_uint_eq(hk_meta_mapped_bytes(), fake_os_mapped_bytes());
    fake_os_remove();
}

/* What a request is rounded to: multiples of 64 up to 1 KiB, then powers of two. */
static size_t rounded(size_t bytes)
{
    size_t size = 2048;

    if (bytes <= 1024)
        return (bytes + 63) / 64 * 64;
    while (size < bytes)
        size *= 2;
    return size;
}

static void *must_alloc(size_t bytes)
{
    char *p = hk_meta_alloc(bytes);

    ck_assert_msg(p != NULL, "no %zu bytes", bytes);
    ck_assert_uint_eq((uintptr_t)p % 64, 0);
    ck_assert(fake_os_all_mapped((void *)((uintptr_t)p & ~(hk_os_page_bytes() - 1)),
                                 hk_os_page_bytes()));
    for (size_t i = 0; i < bytes; i++)
        if (p[i])
            ck_abort_msg("byte %zu of %zu is not zero", i, bytes);
    return p;
}

START_TEST(every_size_is_aligned_zeroed_and_apart)
{
    for (size_t bytes = 1; bytes <= HK_META_MAX; bytes += bytes < 1100 ? 1 : 777) {
        char *a = must_alloc(bytes), *b = must_alloc(bytes);
        memset(a, 0xaa, bytes);
        memset(b, 0xbb, bytes);
        ck_assert(a + bytes <= b || b + bytes <= a);
        ck_assert(a[0] == (char)0xaa && a[bytes - 1] == (char)0xaa);
        hk_meta_free(a, bytes);
        ck_assert_ptr_eq(must_alloc(bytes), a); /* zeroed again */
        hk_meta_free(a, bytes);
        hk_meta_free(b, bytes);
    }
    must_alloc(HK_META_MAX);
}
END_TEST

/* A racing reader of a freed descriptor may see another of its kind, never one of another size. */
START_TEST(memory_keeps_its_size)
{
    static size_t size_at[1 << 14]; /* by its offset from the first object, in steps of 64 */
    char *first = must_alloc(64);
    void *object[300];
    size_t bytes[300] = {0};

    hk_meta_free(first, 64);
    start_random(0);
    for (int step = 0; step < 20000; step++) {
        unsigned i = (unsigned)below(300);
        if (bytes[i]) {
            memset(object[i], 0x5a, bytes[i]);
            hk_meta_free(object[i], bytes[i]);
            bytes[i] = 0;
            continue;
        }
        bytes[i] = one_in(10) ? 1 + below(2048) : 1 + below(500);
        object[i] = must_alloc(bytes[i]);
        size_t at = (size_t)((char *)object[i] - first) / 64;
        ck_assert_uint_lt(at, sizeof size_at / sizeof *size_at);
        if (size_at[at])
            ck_assert_uint_eq(size_at[at], rounded(bytes[i]));
        size_at[at] = rounded(bytes[i]);
    }
}
END_TEST

START_TEST(freed_objects_are_used_again)
{
    for (int i = 0; i < 1000; i++)
        hk_meta_free(must_alloc(200), 200);
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), 1);
}
END_TEST

START_TEST(chunks)
{
    must_alloc(64);
    ck_assert_uint_eq(hk_meta_mapped_bytes(), 64 * HK_KIB); /* a small program's */
    for (int i = 0; i < 1024; i++)
        must_alloc(64);
    ck_assert_uint_eq(hk_meta_mapped_bytes(), 64 * HK_KIB + 256 * HK_KIB);
}
END_TEST

START_TEST(map_refused)
{
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (size_t bytes = 1; bytes <= HK_META_MAX; bytes *= 2)
        ck_assert_ptr_null(hk_meta_alloc(bytes));
    ck_assert_uint_eq(hk_meta_mapped_bytes(), 0);
    fake_os_fail_all(FAKE_MAP, 0);
    must_alloc(100);
}
END_TEST

START_TEST(nearly_out_of_address_space_a_chunk_is_one_object)
{
    for (int i = 0; i < 1024; i++)
        must_alloc(64); /* the first chunk is used up */
    fake_os_fail(FAKE_MAP, 1, ENOMEM);
    must_alloc(100);
    ck_assert_uint_eq(hk_meta_mapped_bytes(), 64 * HK_KIB + hk_os_page_bytes());
    must_alloc(100); /* from the same page */
    ck_assert_uint_eq(hk_meta_mapped_bytes(), 64 * HK_KIB + hk_os_page_bytes());
    fake_os_fail(FAKE_MAP, 1, ENOMEM);
    must_alloc(40000);
}
END_TEST

START_TEST(refusal_changes_nothing)
{
    void *kept = must_alloc(100);
    unsigned nr = 0;

    memset(kept, 0x5a, 100);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while (hk_meta_alloc(64))
        ck_assert_uint_lt(nr++, 1024); /* the chunk's rest is served */
    for (int i = 0; i < 1000; i++)
        ck_assert_ptr_null(hk_meta_alloc(64));
    hk_meta_free(kept, 100);
    ck_assert_ptr_eq(must_alloc(100), kept);
    fake_os_fail_all(FAKE_MAP, 0);
    must_alloc(64);
}
END_TEST

static void run_past_the_end(void)
{
    meta.bump = meta.end + 1;
    hk_meta_check();
}

START_TEST(check_finds_damage)
{
    must_alloc(64);
    must_panic(run_past_the_end, "meta: bump beyond its chunk");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("meta");
    TCase *tc = new_case(suite, "objects", setup, teardown);

    tcase_add_test(tc, every_size_is_aligned_zeroed_and_apart);
    tcase_add_test(tc, memory_keeps_its_size);
    tcase_add_test(tc, freed_objects_are_used_again);
    tcase_add_test(tc, chunks);

    tc = new_case(suite, "refusals", setup, teardown);
    tcase_add_test(tc, map_refused);
    tcase_add_test(tc, nearly_out_of_address_space_a_chunk_is_one_object);
    tcase_add_test(tc, refusal_changes_nothing);
    tcase_add_test(tc, check_finds_damage);
    return run_suite(suite);
}
