// SPDX-License-Identifier: MIT
#include "size/size.h"

#include "support.h"

#include <limits.h>

static const uint64_t keys[] = {0, 1, UINT64_MAX, SIZE_KEY};
#define NR_KEYS ((int)(sizeof keys / sizeof *keys))

static void setup(void)
{
    hk_size_init(SIZE_KEY);
}

static void teardown(void)
{
}

/* The rule in words: 16 apart to 256, 32 to 512, 64 to 1 KiB, then eight per doubling; from 4 KiB up
 * 64 bytes of colour on top. */
static size_t next_round_size(size_t round)
{
    if (round < 256)
        return round + 16;
    if (round < 512)
        return round + 32;
    if (round < 1024)
        return round + 64;
    return round + ((size_t)1 << hk_log2_floor(round)) / 8;
}

static size_t coloured(size_t round)
{
    return round >= 4096 ? round + 64 : round;
}

/* ---- classes ------------------------------------------------------------------------------- */

START_TEST(sizes_follow_the_rule)
{
    size_t round = 0;

    for (unsigned c = 0; c < HK_NR_SIZED_CLASSES; c++) {
        round = next_round_size(round);
        ck_assert_uint_eq(hk_size_class[c].size, coloured(round));
    }
    ck_assert_uint_eq(round, HK_FAST_MAX);
    for (unsigned c = HK_FIRST_ALIGNED_CLASS; c < HK_NR_CLASSES; c++)
        ck_assert_uint_eq(hk_size_class[c].size, 4096u << (c - HK_FIRST_ALIGNED_CLASS));
}
END_TEST

START_TEST(every_request_gets_the_smallest_class)
{
    size_t round = 16, n = 1;

    for (unsigned c = 0; n <= HK_FAST_MAX; c++, round = next_round_size(round))
        for (; n <= hk_min(coloured(round), HK_FAST_MAX); n++)
            if (hk_size_to_class(n) != c)
                ck_abort_msg("%zu bytes: class %u, expected %u", n, hk_size_to_class(n), c);
    ck_assert_uint_eq(hk_size_to_class(HK_FAST_MAX), HK_NR_SIZED_CLASSES - 1);
    ck_assert_uint_eq(hk_size_to_class(HK_TINY_MAX), HK_FIRST_POOL_CLASS - 1);
    ck_assert_uint_eq(hk_size_to_class(HK_TINY_MAX + 1), HK_FIRST_POOL_CLASS);
}
END_TEST

START_TEST(offsets_are_scaled_classes)
{
    for (size_t i = 0; i < HK_FAST_MAX / 16; i++)
        ck_assert_uint_eq(hk_class_offset[i],
                          (HK_FIRST_RECORD + hk_size_to_class(16 * i + 1)) << HK_CLASS_RECORD_SHIFT);
}
END_TEST

START_TEST(slabs)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        const struct hk_size_class *sc = &hk_size_class[c];
        size_t bytes = (size_t)sc->slab_mask + 1;
        ck_assert(hk_is_pow2(bytes));
        ck_assert_uint_eq(bytes, (size_t)1 << sc->slab_shift);
        ck_assert_uint_ge(bytes, 16384);
        ck_assert_uint_le(bytes, 512 * HK_KIB);
        ck_assert_uint_eq(sc->nr_slots, bytes / sc->size);
        ck_assert_uint_ge(sc->nr_slots, 7);
        ck_assert_uint_le(sc->nr_slots, 1024);
        ck_assert_uint_eq(sc->size % 16, 0);
    }
}
END_TEST

/* ---- reciprocal ---------------------------------------------------------------------------- */

static void must_be_exact(const struct hk_size_class *sc, size_t offset)
{
    if (hk_size_starts_block(sc->magic, offset) != (offset % sc->size == 0))
        ck_abort_msg("class of %u, magic %llx: starts_block(%zu)", sc->size,
                     (unsigned long long)sc->magic, offset);
    if (hk_size_slot(sc, offset) != offset / sc->size)
        ck_abort_msg("class of %u, magic %llx: slot(%zu) = %u", sc->size,
                     (unsigned long long)sc->magic, offset, hk_size_slot(sc, offset));
}

START_TEST(reciprocal_is_exact_at_every_offset)
{
    hk_size_init(keys[_i]);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        for (size_t offset = 0; offset <= hk_size_class[c].slab_mask; offset++)
            must_be_exact(&hk_size_class[c], offset);
}
END_TEST

/* Off by one is where a wrong reciprocal shows first. */
START_TEST(reciprocal_is_exact_for_random_keys)
{
    start_random(0);
    for (int i = 0; i < 200; i++) {
        hk_size_init(next_random());
        for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
            const struct hk_size_class *sc = &hk_size_class[c];
            size_t offset = sc->size * below(sc->nr_slots + 1u);
            must_be_exact(sc, hk_min(offset, sc->slab_mask));
            must_be_exact(sc, hk_min(offset + 1, sc->slab_mask));
            must_be_exact(sc, offset ? offset - 1 : 0);
            must_be_exact(sc, sc->slab_mask);
            must_be_exact(sc, below(sc->slab_mask + 1u));
        }
    }
}
END_TEST

/* The mark of a dead block must not be guessable from the size. */
START_TEST(reciprocals_depend_on_the_key)
{
    uint64_t first[HK_NR_CLASSES];
    unsigned nr_same = 0;

    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        first[c] = hk_size_class[c].magic;
    hk_size_init(SIZE_KEY + 1);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        nr_same += first[c] == hk_size_class[c].magic;
        ck_assert_uint_ne(hk_size_class[c].magic, 0); /* the mark of a live block */
    }
    ck_assert_uint_le(nr_same, 1);
    hk_size_init(SIZE_KEY);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        ck_assert_uint_eq(first[c], hk_size_class[c].magic);
}
END_TEST

START_TEST(reciprocals_differ_between_classes)
{
    for (unsigned a = 0; a < HK_NR_CLASSES; a++)
        for (unsigned b = 0; b < a; b++)
            ck_assert_uint_ne(hk_size_class[a].magic, hk_size_class[b].magic);
}
END_TEST

/* ---- aligned requests ---------------------------------------------------------------------- */

/* Slabs are aligned to their size, so a block is aligned where its class is a multiple. Up to 64
 * bytes of alignment the coloured classes serve, above that the powers of two as well. */
static unsigned expected_class(size_t n, size_t align)
{
    unsigned nr = align <= 64 ? HK_NR_SIZED_CLASSES : HK_NR_CLASSES;
    unsigned best = HK_NR_CLASSES;

    for (unsigned c = 0; c < nr; c++)
        if (hk_size_class[c].size >= n && hk_size_class[c].size % align == 0 &&
            (best == HK_NR_CLASSES || hk_size_class[c].size < hk_size_class[best].size))
            best = c;
    return best;
}

static void must_be_best(size_t n, size_t align)
{
    unsigned c = hk_size_to_aligned_class(n, align);

    if (c != expected_class(n, align))
        ck_abort_msg("%zu bytes at %zu: class %u, expected %u", n, align, c,
                     expected_class(n, align));
}

START_TEST(aligned_requests_get_the_smallest_class)
{
    for (size_t align = 16; align <= HK_FAST_MAX; align *= 2) {
        must_be_best(0, align);
        for (size_t n = 16; n <= HK_FAST_MAX; n += 16) {
            must_be_best(n - 15, align);
            must_be_best(n, align);
        }
    }
}
END_TEST

START_TEST(no_class_for_more)
{
    ck_assert_uint_eq(hk_size_to_aligned_class(1, 2 * HK_FAST_MAX), HK_NR_CLASSES);
    ck_assert_uint_eq(hk_size_to_aligned_class(HK_FAST_MAX + 1, 16), HK_NR_CLASSES);
    ck_assert_uint_eq(hk_size_to_aligned_class(40000, 65536), HK_NR_CLASSES - 1);
    ck_assert_uint_eq(hk_size_to_aligned_class(33000, 32768), HK_NR_CLASSES - 1);
}
END_TEST

/* base's arithmetic, which bounds of sizes rest on. */
START_TEST(scaled_sizes_saturate)
{
    ck_assert_uint_eq(hk_scale(1000, 1250), 1250);
    ck_assert_uint_eq(hk_scale(999, 1250), 1248); /* rounded down */
    ck_assert_uint_eq(hk_scale(0, 4000), 0);
    ck_assert_uint_eq(hk_scale(SIZE_MAX, 1000), SIZE_MAX);
    ck_assert_uint_eq(hk_scale(SIZE_MAX, 1001), SIZE_MAX);
    ck_assert_uint_eq(hk_scale(SIZE_MAX, 2000), SIZE_MAX);
    ck_assert_uint_eq(hk_scale(SIZE_MAX / UINT_MAX * 1000 + 999, UINT_MAX), SIZE_MAX); /* by the rest alone */
    ck_assert_uint_eq(hk_scale(SIZE_MAX / 1000 * 1000 / 2, 2000), SIZE_MAX / 1000 * 1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("size");
    TCase *tc = new_case(suite, "classes", setup, teardown);

    tcase_add_test(tc, sizes_follow_the_rule);
    tcase_add_test(tc, every_request_gets_the_smallest_class);
    tcase_add_test(tc, offsets_are_scaled_classes);
    tcase_add_test(tc, slabs);
    tcase_add_test(tc, scaled_sizes_saturate);

    tc = new_case(suite, "reciprocal", setup, teardown);
    tcase_add_loop_test(tc, reciprocal_is_exact_at_every_offset, 0, NR_KEYS);
    tcase_add_test(tc, reciprocal_is_exact_for_random_keys);
    tcase_add_test(tc, reciprocals_depend_on_the_key);
    tcase_add_test(tc, reciprocals_differ_between_classes);

    tc = new_case(suite, "aligned", setup, teardown);
    tcase_add_test(tc, aligned_requests_get_the_smallest_class);
    tcase_add_test(tc, no_class_for_more);
    return run_suite(suite);
}
