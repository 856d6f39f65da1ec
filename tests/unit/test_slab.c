// SPDX-License-Identifier: MIT
#include "slab/slab.h"

#include "meta/meta.h"

#include "fake_os.h"
#include "support.h"

#include <errno.h>

static int owner, other_owner; /* their addresses are all that counts */
static void *blocks[64 * HK_SLAB_WORDS];

/* Any word that is no hk_pm_kind. */
static uintptr_t word_of(unsigned class)
{
    return (uintptr_t)&owner + 1000 + class;
}

static void setup(void)
{
    fake_os_install();
    fake_os_place(HK_REGION_BYTES, 0);
    hk_size_init(SIZE_KEY);
}

static void teardown(void)
{
    hk_span_check();
    hk_meta_check();
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static struct hk_slab *must_acquire(unsigned class)
{
    struct hk_slab *slab = hk_slab_acquire(class, word_of(class), &owner);

    ck_assert_ptr_nonnull(slab);
    return slab;
}

static char *block(const struct hk_slab *slab, unsigned slot)
{
    return (char *)slab->base + (size_t)slot * hk_size_class[slab->class].size;
}

/* Granules that blocks 0 .. nr_out - 1 reach, or the start of block nr_out, and no others. */
static void must_carry(const struct hk_slab *slab, uintptr_t word, unsigned nr_out)
{
    size_t end = nr_out ? (size_t)nr_out * hk_size_class[slab->class].size + 1 : 0;
    size_t slab_bytes = (size_t)hk_size_class[slab->class].slab_mask + 1;

    for (size_t at = 0; at < slab_bytes; at += HK_GRANULE) {
        const char *granule = (char *)slab->base + at;
        if (hk_pagemap_word(granule) != (at < end ? word : HK_PM_SPAN))
            ck_abort_msg("class %u, %u out: word at %zu", slab->class, nr_out, at);
        if (at < end)
            ck_assert_ptr_eq(hk_slab_of(granule), slab);
    }
}

/* What take answers: of blocks above 2 KiB one at most that never left. */
static unsigned nr_expected(const struct hk_slab *slab, unsigned n, unsigned nr_used_before)
{
    n = n < slab->nr_free ? n : slab->nr_free;
    if (hk_size_class[slab->class].size > 2048 && n > nr_used_before + 1)
        n = nr_used_before + 1;
    return n;
}

static void take_all(struct hk_slab *slab)
{
    while (slab->nr_free)
        ck_assert_uint_gt(hk_slab_take(slab, blocks, slab->nr_free), 0);
}

static void retire_empty(struct hk_slab *slab)
{
    hk_slab_check(slab);
    hk_slab_retire(slab);
}

/* ---- acquire, retire, owner ---------------------------------------------------------------- */

START_TEST(acquire_gives_free_blocks)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        const struct hk_size_class *sc = &hk_size_class[c];
        struct hk_slab *slab = must_acquire(c);
        ck_assert_uint_eq(slab->base & sc->slab_mask, 0);
        ck_assert_uint_eq(slab->class, c);
        ck_assert_uint_eq(slab->nr_slots, sc->nr_slots);
        ck_assert_uint_eq(slab->nr_free, sc->nr_slots);
        ck_assert_ptr_eq(slab->owner, &owner);
        ck_assert(!slab->listed && !slab->next && !slab->prev);
        must_carry(slab, word_of(c), 0);
        for (unsigned slot = 0; slot < slab->nr_slots; slot++)
            if (!hk_slab_block_is_free(slab, block(slab, slot)))
                ck_abort_msg("class %u: slot %u is not free", c, slot);
        hk_slab_check(slab);
        ck_assert_uint_eq(hk_span_used_bytes(), (size_t)sc->slab_mask + 1);
        retire_empty(slab);
        ck_assert_uint_eq(hk_span_used_bytes(), 0);
    }
}
END_TEST

START_TEST(retire_gives_all_back)
{
    struct hk_slab *slab = must_acquire(40);
    char *base = (char *)slab->base;

    retire_empty(slab);
    ck_assert_uint_eq(hk_pagemap_word(base), HK_PM_SPAN);
    ck_assert_uint_eq(hk_span_dirty_bytes(), hk_size_class[40].slab_mask + 1);
    size_t meta_bytes = hk_meta_mapped_bytes();
    for (int i = 0; i < 5000; i++)
        retire_empty(must_acquire((unsigned)i % HK_NR_CLASSES));
    ck_assert_uint_le(hk_meta_mapped_bytes(), meta_bytes + 256 * HK_KIB);
}
END_TEST

/* From when on are all pages of the first granule written to? */
START_TEST(filled_granules)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_slab *slab = must_acquire(c);
        size_t size = hk_size_class[c].size;
        const char *granule = (const char *)slab->base;

        ck_assert(!hk_slab_fills(slab, granule));
        while (slab->nr_free > 0) {
            bool filled = size <= 2048 && (slab->carved == slab->nr_slots || slab->carved * size >= HK_GRANULE);
            ck_assert_msg(hk_slab_fills(slab, granule) == filled, "class %u, %u carved", c, slab->carved);
            hk_slab_take(slab, blocks, 1);
        }
        if (size <= 2048)
            for (size_t at = 0; at <= hk_size_class[c].slab_mask; at += HK_GRANULE)
                ck_assert(hk_slab_fills(slab, granule + at));
    }
}
END_TEST

START_TEST(another_owner)
{
    struct hk_slab *slab = must_acquire(79);

    for (int i = 0; i < 3; i++)
        hk_slab_take(slab, blocks, 1);
    must_carry(slab, word_of(79), 3);
    hk_slab_set_owner(slab, word_of(79) + 1, &other_owner);
    ck_assert_ptr_eq(slab->owner, &other_owner);
    must_carry(slab, word_of(79) + 1, 3);
    ck_assert_uint_eq(hk_slab_take(slab, blocks, 1), 1);
    must_carry(slab, word_of(79) + 1, 4);
    hk_slab_give(slab, blocks[0]);
    ck_assert_uint_eq(slab->nr_free, slab->nr_slots - 3);
    hk_slab_check(slab);
}
END_TEST

/* ---- take and give ------------------------------------------------------------------------- */

START_TEST(take_in_address_order)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_slab *slab = must_acquire(c);
        unsigned taken = 0;

        for (unsigned n = 1; taken < slab->nr_slots; n++) {
            unsigned expected = nr_expected(slab, n, 0), got = hk_slab_take(slab, blocks, n);
            ck_assert_uint_eq(got, expected);
            for (unsigned i = 0; i < got; i++) {
                if (blocks[i] != block(slab, taken + i) || hk_slab_block_is_free(slab, blocks[i]))
                    ck_abort_msg("class %u: slot %u", c, taken + i);
            }
            taken += got;
            ck_assert_uint_eq(slab->nr_free, slab->nr_slots - taken);
            hk_slab_check(slab);
        }
        ck_assert_uint_eq(hk_slab_take(slab, blocks, 1), 0);
        ck_assert_uint_eq(hk_slab_take(slab, blocks, 0), 0);
    }
}
END_TEST

/* Words without a free block are not looked at again. */
START_TEST(take_starts_where_free_blocks_are)
{
    struct hk_slab *slab = must_acquire(hk_size_to_class(64));

    ck_assert_uint_eq(slab->first_word, 0);
    hk_slab_take(slab, blocks, 100);
    ck_assert_uint_eq(slab->first_word, 1);
    ck_assert(hk_slab_give(slab, blocks[70]));
    ck_assert_uint_eq(slab->first_word, 1);
    ck_assert(hk_slab_give(slab, blocks[3]));
    ck_assert_uint_eq(slab->first_word, 0);
    hk_slab_take(slab, blocks, 2);
    ck_assert_ptr_eq(blocks[0], block(slab, 3));
    ck_assert_ptr_eq(blocks[1], block(slab, 70));
    ck_assert_uint_eq(slab->first_word, 1);
    hk_slab_check(slab);
}
END_TEST

START_TEST(give_twice_is_refused)
{
    struct hk_slab *slab = must_acquire(0);

    ck_assert(!hk_slab_give(slab, block(slab, 5))); /* never taken */
    hk_slab_take(slab, blocks, 10);
    ck_assert(hk_slab_give(slab, block(slab, 5)));
    ck_assert(!hk_slab_give(slab, block(slab, 5)));
    ck_assert_uint_eq(slab->nr_free, slab->nr_slots - 9);
    hk_slab_check(slab);
    ck_assert_uint_eq(hk_slab_take(slab, blocks, 1), 1);
    ck_assert_ptr_eq(blocks[0], block(slab, 5)); /* the lowest again */
}
END_TEST

START_TEST(give_of_no_block_is_refused)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_slab *slab = must_acquire(c);
        size_t size = hk_size_class[c].size, slab_bytes = hk_size_class[c].slab_mask + 1;

        take_all(slab);
        ck_assert(!hk_slab_give(slab, block(slab, 1) + 1));
        ck_assert(!hk_slab_give(slab, block(slab, 2) + 8));
        ck_assert(!hk_slab_give(slab, block(slab, 2) - 1));
        if (slab->nr_slots * size < slab_bytes) { /* the tail */
            ck_assert(!hk_slab_give(slab, block(slab, slab->nr_slots)));
            ck_assert(!hk_slab_block_is_free(slab, block(slab, slab->nr_slots)));
        }
        ck_assert_uint_eq(slab->nr_free, 0);
        hk_slab_check(slab);
    }
}
END_TEST

/* The slot behind the last block that left carries the mark, where it has the room; up to 2 KiB also what
 * leaves for the first time and the other slots of a page that is in use. */
START_TEST(marks_of_what_was_never_handed_out)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        const struct hk_size_class *sc = &hk_size_class[c];
        struct hk_slab *slab = must_acquire(c);

        for (unsigned nr_out = 1; nr_out <= slab->nr_slots; nr_out++) {
            size_t behind = (size_t)nr_out * sc->size, last = behind;
            hk_slab_take(slab, blocks, 1);
            if (slab->carved != nr_out || ((sc->size <= 2048 || nr_out > 1) &&
                                           *hk_mark_of(blocks[0]) != sc->magic))
                ck_abort_msg("class %u, %u blocks out", c, nr_out);
            *hk_mark_of(blocks[0]) = 0; /* handed out: must not be marked again */
            if (sc->size <= 2048)
                last |= 4095;
            for (; behind <= last && behind + 16 <= sc->slab_mask + (size_t)1; behind += sc->size)
                if (*hk_mark_of((char *)slab->base + behind) != sc->magic)
                    ck_abort_msg("class %u, %u blocks out: behind", c, nr_out);
            ck_assert_uint_eq(*hk_mark_of(block(slab, nr_out - 1)), 0);
            must_carry(slab, word_of(c), nr_out);
        }
        ck_assert(hk_slab_give(slab, block(slab, 0)));
        hk_slab_take(slab, blocks, 1);
        ck_assert_uint_eq(*hk_mark_of(blocks[0]), 0); /* its heap's business now */
        ck_assert_uint_eq(slab->carved, slab->nr_slots);
    }
}
END_TEST

/* A block above 2 KiB that never left its slab comes alone and last: nothing unmarked waits in a magazine. */
START_TEST(large_blocks_leave_one_by_one)
{
    struct hk_slab *slab = must_acquire(48);

    ck_assert_uint_eq(hk_slab_take(slab, blocks, 8), 1);
    ck_assert_uint_eq(hk_slab_take(slab, blocks + 1, 8), 1);
    hk_slab_give(slab, blocks[0]);
    hk_slab_give(slab, blocks[1]);
    ck_assert_uint_eq(hk_slab_take(slab, blocks, 8), 3);
    ck_assert_ptr_eq(blocks[2], block(slab, 2));
    ck_assert_uint_eq(*hk_mark_of(blocks[2]), hk_size_class[48].magic);
    hk_slab_check(slab);
}
END_TEST

/* What a slab must answer, from a plain array of its blocks. */
static void random_stream(unsigned class)
{
    bool out[64 * HK_SLAB_WORDS] = {false};
    struct hk_slab *slab = must_acquire(class);
    unsigned nr_out = 0, nr_ever = 0;

    for (int step = 0; step < 1000; step++) {
        unsigned slot = (unsigned)below(slab->nr_slots), got, next = 0;

        if (one_in(2)) {
            ck_assert_int_eq(hk_slab_give(slab, block(slab, slot)), out[slot]);
            nr_out -= out[slot];
            out[slot] = false;
        } else {
            unsigned n = (unsigned)below(8), expected = nr_expected(slab, n, nr_ever - nr_out);
            got = hk_slab_take(slab, blocks, n);
            ck_assert_uint_eq(got, expected);
            for (unsigned i = 0; i < got; i++) {
                while (out[next])
                    next++;
                if (blocks[i] != block(slab, next))
                    ck_abort_msg("class %u: slot %u is not the lowest", class, next);
                out[next] = true;
                nr_ever = (unsigned)hk_max(nr_ever, next + 1);
            }
            nr_out += got;
        }
        if (slab->nr_free != slab->nr_slots - nr_out ||
            hk_slab_block_is_free(slab, block(slab, slot)) == out[slot])
            ck_abort_msg("class %u: %u free, %u out", class, slab->nr_free, nr_out);
        if (step % 100 == 0)
            hk_slab_check(slab);
    }
    for (unsigned slot = 0; slot < slab->nr_slots; slot++)
        if (hk_slab_give(slab, block(slab, slot)) != out[slot])
            ck_abort_msg("class %u: slot %u", class, slot);
    retire_empty(slab);
}

START_TEST(random_takes_and_gives)
{
    start_random(0);
    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        random_stream(c);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------ */

START_TEST(nth_map_refused)
{
    fake_os_fail(FAKE_MAP, (unsigned)_i, ENOMEM);
    struct hk_slab *slab = hk_slab_acquire(10, word_of(10), &owner);
    ck_assert_uint_eq(hk_span_used_bytes(), slab ? HK_GRANULE : 0);
    hk_span_check();
    if (slab)
        retire_empty(slab);
    retire_empty(must_acquire(10));
}
END_TEST

START_TEST(no_memory_loses_nothing)
{
    struct hk_slab *first = must_acquire(0), *slab;
    unsigned nr = 0;

    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while ((slab = hk_slab_acquire(79, word_of(79), &owner)) != NULL)
        ck_assert_uint_lt(nr++, 2); /* the first region's rest */
    size_t used = hk_span_used_bytes();
    for (int i = 0; i < 10000; i++)
        ck_assert_ptr_null(hk_slab_acquire(79, word_of(79), &owner));
    ck_assert_uint_eq(hk_span_used_bytes(), used);
    ck_assert_ptr_nonnull(hk_meta_alloc(64)); /* nor has it eaten up the descriptors */
    hk_slab_check(first);
    fake_os_fail_all(FAKE_MAP, 0);
    must_acquire(79);
}
END_TEST

/* ---- negative controls --------------------------------------------------------------------- */

static struct hk_slab *damaged;

static void miscount(void)
{
    damaged->nr_free--;
    hk_slab_check(damaged);
}

static void free_the_tail(void)
{
    damaged->free_bits[damaged->nr_slots / 64] |= UINT64_C(1) << (damaged->nr_slots % 64);
    damaged->nr_free++;
    hk_slab_check(damaged);
}

static void hide_a_block(void)
{
    damaged->free_bits[0] &= ~(UINT64_C(1) << 20); /* never left */
    damaged->nr_free--;
    hk_slab_check(damaged);
}

static void lose_a_granule(void)
{
    hk_pagemap_set((char *)damaged->base + HK_GRANULE, 1, HK_PM_SPAN, NULL);
    hk_slab_check(damaged);
}

static void retire_in_use(void)
{
    void *p;

    hk_slab_take(damaged, &p, 1);
    hk_slab_retire(damaged);
}

START_TEST(check_finds_damage)
{
    damaged = must_acquire(47);
    must_panic(miscount, "slab: free count");
    must_panic(free_the_tail, "slab: free bit beyond the last block");
    while (damaged->carved < 10)
        hk_slab_take(damaged, blocks, 1);
    must_panic(lose_a_granule, "slab: page map");
    must_panic(hide_a_block, "slab: a block that never left is not free");
    if (HK_DEBUG)
        must_panic(retire_in_use, "slab->nr_free == slab->nr_slots");
    hk_slab_check(damaged);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slab");
    TCase *tc = new_case(suite, "life", setup, teardown);

    tcase_add_test(tc, acquire_gives_free_blocks);
    tcase_add_test(tc, retire_gives_all_back);
    tcase_add_test(tc, another_owner);
    tcase_add_test(tc, filled_granules);

    tc = new_case(suite, "blocks", setup, teardown);
    tcase_add_test(tc, take_in_address_order);
    tcase_add_test(tc, take_starts_where_free_blocks_are);
    tcase_add_test(tc, give_twice_is_refused);
    tcase_add_test(tc, give_of_no_block_is_refused);
    tcase_add_test(tc, marks_of_what_was_never_handed_out);
    tcase_add_test(tc, large_blocks_leave_one_by_one);
    tcase_add_test(tc, random_takes_and_gives);

    tc = new_case(suite, "refusals", setup, teardown);
    tcase_add_loop_test(tc, nth_map_refused, 1, 8);
    tcase_add_test(tc, no_memory_loses_nothing);
    tcase_add_test(tc, check_finds_damage);
    return run_suite(suite);
}
