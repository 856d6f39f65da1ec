// SPDX-License-Identifier: MIT
#include "site/site.h"

#include "support.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

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
    hk_site_note_free(site_at(1), 300); /* of no label */
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_allocs, 3);
    ck_assert_uint_eq(slot.nr_frees, 0);
    ck_assert_uint_eq(slot.total_bytes, 600);
    ck_assert_uint_eq(slot.live_bytes, 0);
    ck_assert_uint_eq(slot.max_bytes, 300);
    ck_assert(find(site_at(2), &slot));
    ck_assert_uint_eq(slot.nr_allocs, 1);
    ck_assert_uint_eq(nr_used(), 2);
}
END_TEST

START_TEST(labels_add_up)
{
    struct hk_site_slot slot;

    hk_site_note_label(site_at(1), 100);
    hk_site_label(site_at(1));
    hk_site_note_allocs(site_at(1), 2, 400000, 300000, 0);
    hk_site_note_free(site_at(1), 300000);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_allocs, 3);
    ck_assert_uint_eq(slot.nr_frees, 1);
    ck_assert_uint_eq(slot.total_bytes, 400100);
    ck_assert_uint_eq(slot.live_bytes, 100100);
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
    ck_assert_uint_eq(slot.live_bytes, 0); /* samples tell */
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

START_TEST(purposes_by_samples)
{
    static const struct {
        const char *purpose;
        uint64_t samples, ended, grown, handed, brief, old;
    } rows[] = {
        {"unknown", 9, 9, 9, 9, 9, 0},          {"small-frequent", 10, 0, 0, 0, 0, 0},
        {"grows-by-realloc", 12, 5, 4, 5, 5, 0}, {"hand-off", 12, 8, 3, 6, 8, 0},
        {"short-lived", 20, 15, 6, 9, 15, 0},    {"small-frequent", 20, 14, 6, 9, 14, 0},
        {"long-lived", 20, 15, 0, 0, 0, 15},     {"small-frequent", 20, 20, 0, 0, 0, 14},
    };
    struct hk_site_slot slot;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        slot = (struct hk_site_slot){
            .site = site_at(1), .est_allocs = UINT64_C(1000) << HK_SITE_COUNT_BITS, .est_bytes = 100000};
        slot.nr_samples = rows[i].samples;
        slot.nr_ended = rows[i].ended;
        slot.nr_grown = rows[i].grown;
        slot.nr_handed = rows[i].handed;
        slot.nr_brief = rows[i].brief;
        slot.nr_long = rows[i].old;
        slot.born_ms = 5000 * (rows[i].samples - rows[i].ended);
        ck_assert_str_eq(hk_site_purpose_name(hk_site_infer(&slot, UINT64_C(5500000000))), rows[i].purpose);
    }
    /* Those alive are a second old on average now. */
    slot = (struct hk_site_slot){.site = site_at(1), .nr_samples = 10, .born_ms = 10 * 5000};
    ck_assert_uint_eq(hk_site_infer(&slot, UINT64_C(5990000000)), HK_PURPOSE_SMALL_FREQUENT);
    ck_assert_uint_eq(hk_site_infer(&slot, UINT64_C(6000000000)), HK_PURPOSE_LONG_LIVED);
    ck_assert_str_eq(hk_site_purpose_name(HK_NR_PURPOSES), "unknown");
}
END_TEST

/* ---- samples ------------------------------------------------------------------------------- */

#define START_NS UINT64_C(1000000000000)
#define MS UINT64_C(1000000)

static char heap_bytes[64 * 1024]; /* addresses for blocks */

static struct hk_site_sample sample_of(const void *site, uint32_t bytes, uint32_t block, uint64_t weight)
{
    return (struct hk_site_sample){.site = site,
                                   .now_ns = START_NS,
                                   .weight_bytes = weight,
                                   .bytes = bytes,
                                   .block_bytes = block,
                                   .thread = 1,
                                   .height = 100};
}

START_TEST(a_sample_stands_for_many)
{
    struct hk_site_sample s = sample_of(site_at(1), 100, 112, 112000);
    struct hk_site_slot slot;

    ck_assert(hk_site_sample(&s, heap_bytes));
    s.weight_bytes = 0; /* for itself */
    ck_assert(hk_site_sample(&s, heap_bytes + 112));
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_allocs, UINT64_C(1001) << HK_SITE_COUNT_BITS);
    ck_assert_uint_eq(slot.est_bytes, 100100);
    ck_assert_uint_eq(slot.est_live_bytes, 100100);
    ck_assert_uint_eq(slot.max_bytes, 100);
    ck_assert_uint_eq(slot.nr_allocs, 0);
    ck_assert_uint_eq(slot.nr_samples, 2);
    ck_assert_uint_eq(hk_p2_get(&slot.size_p50), 100);
    ck_assert_uint_eq(hk_site_paths(&slot), 1);

    hk_site_sample_freed(heap_bytes, 1, START_NS + 20 * MS);
    hk_site_sample_freed(heap_bytes, 1, START_NS + 20 * MS); /* no record any more */
    hk_site_sample_freed(heap_bytes + 500, 1, START_NS);     /* never one */
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_frees, UINT64_C(1000) << HK_SITE_COUNT_BITS);
    ck_assert_uint_eq(slot.est_live_bytes, 100);
    ck_assert_uint_eq(slot.nr_ended, 1);
    ck_assert_uint_eq(slot.nr_brief + slot.nr_long + slot.nr_handed, 0);
    ck_assert_uint_eq(hk_p2_get(&slot.lifetime_p50), 20 * MS);
    hk_site_sample_freed(heap_bytes + 112, 2, START_NS + 1000 * MS);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_long, 1);
    ck_assert_uint_eq(slot.nr_handed, 1);
    ck_assert_uint_eq(slot.born_ms, 0);
}
END_TEST

START_TEST(a_label_takes_no_estimate)
{
    struct hk_site_sample s = sample_of(site_at(1), 100, 112, 112000);
    struct hk_site_slot slot;

    hk_site_note_label(site_at(1), 100);
    ck_assert(hk_site_sample(&s, heap_bytes));
    hk_site_sample_resized(heap_bytes, 110, false, 1, START_NS);
    hk_site_sample_freed(heap_bytes, 1, START_NS);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_allocs, 1);
    ck_assert_uint_eq(slot.live_bytes, 100);
    ck_assert_uint_eq(slot.est_allocs + slot.est_bytes + slot.est_live_bytes + slot.est_frees, 0);
    ck_assert_uint_eq(slot.nr_samples, 1);
    ck_assert_uint_eq(slot.nr_brief, 1);
}
END_TEST

START_TEST(realloc_of_a_sample)
{
    struct hk_site_sample s = sample_of(site_at(1), 100, 128, 128 * 1000);
    struct hk_site_slot slot;

    hk_site_sample(&s, heap_bytes);
    hk_site_sample_resized(heap_bytes, 60, false, 1, START_NS);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_live_bytes, 60000);
    ck_assert_uint_eq(slot.nr_grown, 0);
    hk_site_sample_resized(heap_bytes, 128, false, 1, START_NS);
    hk_site_sample_resized(heap_bytes, 200, true, 1, START_NS + MS); /* grew twice: counted once */
    hk_site_sample_resized(heap_bytes, 300, true, 1, START_NS + MS);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_live_bytes, 0);
    ck_assert_uint_eq(slot.nr_grown, 1);
    ck_assert_uint_eq(slot.nr_ended, 1);
}
END_TEST

/* Of calls that are counted exactly: it tells what became of them. */
START_TEST(a_sample_of_counted_calls)
{
    struct hk_site_sample s = sample_of(site_at(1), 100000, 100000, 100000);
    struct hk_site_slot slot;
    uint64_t first, second;

    s.nr_calls = 1;
    hk_site_note_allocs(site_at(1), 11, 1100000, 100000, 0);
    first = hk_site_sample(&s, heap_bytes);
    second = hk_site_sample(&s, heap_bytes + 16);
    ck_assert_uint_ne(first, second);
    ck_assert_uint_eq(hk_site_nr_large(), 2);
    hk_site_sample_weigh(site_at(1), heap_bytes, first, 9, 900000);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_allocs + slot.est_bytes + slot.est_frees, 0);
    ck_assert_uint_eq(slot.est_live_bytes, 1100000);
    hk_site_sample_freed(heap_bytes, 1, START_NS);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_live_bytes, 100000);
    ck_assert_uint_eq(slot.est_frees, UINT64_C(10) << HK_SITE_COUNT_BITS);
    /* Calls of a sample that has ended have ended; so have those of one whose address another has by now. */
    hk_site_sample_weigh(site_at(1), heap_bytes, first, 2, 200000);
    hk_site_sample_weigh(site_at(1), heap_bytes + 16, first, 1, 100000);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_live_bytes, 100000);
    ck_assert_uint_eq(slot.est_frees, UINT64_C(13) << HK_SITE_COUNT_BITS);
    ck_assert_uint_eq(hk_site_nr_large(), 1);
    hk_site_sample_freed(heap_bytes + 16, 1, START_NS);
    ck_assert_uint_eq(hk_site_nr_large(), 0);
}
END_TEST

START_TEST(a_sample_moves)
{
    struct hk_site_sample s = sample_of(site_at(1), 100000, 100000, 100000);
    struct hk_site_slot slot;
    struct hk_site_life life;

    s.nr_calls = 1;
    hk_site_sample(&s, heap_bytes);
    ck_assert(!hk_site_sample_lift(heap_bytes + 16, &life));
    ck_assert(hk_site_sample_lift(heap_bytes, &life));
    ck_assert_uint_eq(hk_site_nr_large(), 0);
    hk_site_sample_freed(heap_bytes, 1, START_NS); /* the address is another block's by now */
    hk_site_sample_lay(heap_bytes + 16, &life, 300000, START_NS + MS);
    ck_assert_uint_eq(hk_site_nr_large(), 1);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_samples, 1);
    ck_assert_uint_eq(slot.nr_ended, 0);
    ck_assert_uint_eq(slot.nr_grown, 1);
    ck_assert_uint_eq(slot.est_live_bytes, 300000);
    ck_assert(hk_site_sample_lift(heap_bytes + 16, &life));
    hk_site_sample_end(&life, 2, START_NS + 1000 * MS);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_ended, 1);
    ck_assert_uint_eq(slot.nr_long, 1);
    ck_assert_uint_eq(slot.nr_handed, 1);
    ck_assert_uint_eq(slot.est_live_bytes, 0);
}
END_TEST

/* Products of sizes pass 2^64, where a size has 64 bits. */
enum { LARGE_SHIFT = sizeof(size_t) > 4 ? 44 : 30 };
START_TEST(a_sample_of_terabytes)
{
    struct hk_site_sample s = sample_of(site_at(1), 1, 1, 1);
    struct hk_site_slot slot;

    s.bytes = s.block_bytes = (size_t)1 << LARGE_SHIFT;
    s.weight_bytes = UINT64_C(16) << LARGE_SHIFT;
    s.nr_calls = 16;
    hk_site_sample(&s, heap_bytes);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_live_bytes, UINT64_C(16) << LARGE_SHIFT);
    hk_site_sample_freed(heap_bytes, 1, START_NS);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_live_bytes, 0);
}
END_TEST

/* The free of the first was never told (a signal handler's). */
START_TEST(an_address_is_used_again)
{
    struct hk_site_sample s = sample_of(site_at(1), 100, 100, 1000);
    struct hk_site_slot slot;

    hk_site_sample(&s, heap_bytes);
    s.site = site_at(2);
    hk_site_sample(&s, heap_bytes);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_ended, 1);
    ck_assert_uint_eq(slot.est_live_bytes, 0);
    hk_site_sample_freed(heap_bytes, 1, START_NS);
    ck_assert(find(site_at(2), &slot));
    ck_assert_uint_eq(slot.nr_ended, 1);
}
END_TEST

/* 16,384 records; what finds none is dropped and counted, and the others are all found again. */
START_TEST(records_are_bounded)
{
    struct hk_site_sample s = sample_of(site_at(1), 1, 1, 1);
    struct hk_site_slot slot;
    uint64_t kept = 0;

    for (size_t i = 0; i < sizeof heap_bytes; i++)
        kept += hk_site_sample(&s, heap_bytes + i) != 0;
    ck_assert_uint_le(kept, 16384);
    ck_assert_uint_ge(kept, 16384 * 9 / 10);
    ck_assert_uint_eq(hk_site_dropped_samples(), sizeof heap_bytes - kept);
    ck_assert_uint_eq(hk_site_nr_samples(), kept);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.est_live_bytes, kept);
    for (size_t i = 0; i < sizeof heap_bytes; i++)
        hk_site_sample_freed(heap_bytes + i, 1, START_NS);
    ck_assert(find(site_at(1), &slot));
    ck_assert_uint_eq(slot.nr_ended, kept);
    ck_assert_uint_eq(slot.est_live_bytes, 0);
    ck_assert(hk_site_sample(&s, heap_bytes));
}
END_TEST

/* About as many as there were, from one bit each. */
START_TEST(paths_are_estimated)
{
    static const unsigned numbers[] = {1, 2, 5, 20, 60};

    for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
        struct hk_site_slot slot;
        for (uint32_t i = 0; i < numbers[k] * 10; i++) {
            struct hk_site_sample s = sample_of(site_at(k), 100, 100, 0);
            s.height = 48 + i % numbers[k] * 16;
            hk_site_sample(&s, heap_bytes);
        }
        ck_assert(find(site_at(k), &slot));
        fprintf(stderr, "%u paths, estimated %u\n", numbers[k], hk_site_paths(&slot));
        ck_assert_uint_ge(hk_site_paths(&slot) * 3, numbers[k] * 2);
        ck_assert_uint_le(hk_site_paths(&slot) * 2, numbers[k] * 3);
    }
}
END_TEST

/* ---- idle slots, modules ------------------------------------------------------------------- */

START_TEST(idle_slots_make_room)
{
    struct hk_site_slot slot;
    uint64_t dropped, later = START_NS + HK_SITE_IDLE_NS;

    for (size_t i = 0; i < 5000; i++)
        hk_site_note_allocs(site_at(i), 1, 100, 100, START_NS);
    dropped = hk_site_dropped();
    hk_site_note_allocs(site_at(100000), 1, 100, 100, later - 1);
    ck_assert_uint_eq(hk_site_dropped(), dropped + 1);
    for (size_t i = 0; i < 20; i++) {
        hk_site_note_allocs(site_at(100000 + i), 2, 300, 200, later);
        ck_assert(find(site_at(100000 + i), &slot));
        ck_assert_uint_eq(slot.nr_allocs, 2); /* nothing of who was there before */
        ck_assert_uint_eq(slot.total_bytes, 300);
        ck_assert_uint_eq(slot.max_bytes, 200);
    }
    ck_assert_uint_eq(hk_site_dropped(), dropped + 1);
}
END_TEST

START_TEST(labels_stay)
{
    struct hk_site_slot slot;

    for (size_t i = 0; i < 5000; i++)
        hk_site_note_label(site_at(i), 100);
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        hk_site_slots[i].last_ns = START_NS;
    hk_site_note_allocs(site_at(100000), 1, 100, 100, START_NS + 2 * HK_SITE_IDLE_NS);
    ck_assert(!find(site_at(100000), &slot));
}
END_TEST

/* The records of a site whose slot went to another one count for nobody. */
START_TEST(samples_outlive_their_slot)
{
    struct hk_site_sample s = sample_of(site_at(1), 100, 100, 1000);
    uint64_t later = START_NS + HK_SITE_IDLE_NS;
    struct hk_site_slot slot;

    hk_site_sample(&s, heap_bytes);
    for (size_t i = 2; i < 5000; i++)
        hk_site_note_allocs(site_at(i), 1, 100, 100, START_NS + 1);
    for (size_t i = 5000; find(site_at(1), &slot); i++)
        hk_site_note_allocs(site_at(i), 1, 100, 100, later + 1);
    hk_site_sample_freed(heap_bytes, 1, later);
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        ck_assert(!hk_site_read(i, &slot) || slot.nr_ended == 0);
}
END_TEST

/* As after dlclose and dlopen: the slot says another build than what lies at the address now. */
START_TEST(another_module_starts_anew)
{
    const void *code = (const void *)(uintptr_t)sample_of;
    struct hk_site_sample s = sample_of(code, 100, 100, 1000);
    struct hk_site_slot slot;

    hk_site_sample(&s, heap_bytes);
    hk_site_sample(&s, heap_bytes + 100);
    ck_assert(find(code, &slot));
    ck_assert_uint_eq(slot.nr_samples, 2);
    if (slot.base == 0)
        return; /* a libc that names no module without a lock, or a program that is not relocated */
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        if (hk_site_slots[i].site == code)
            hk_site_slots[i].build_id[7] ^= 1;
    hk_site_sample(&s, heap_bytes + 200);
    ck_assert(find(code, &slot));
    ck_assert_uint_eq(slot.nr_samples, 1);
    ck_assert_uint_eq(slot.est_live_bytes, 1000);
    hk_site_sample_freed(heap_bytes, 1, START_NS + 20 * MS);
    ck_assert(find(code, &slot));
    ck_assert_uint_le(slot.nr_ended, 1);
}
END_TEST

/* ---- intervals ----------------------------------------------------------------------------- */

/* Exponential: mean m, standard deviation m, P(x > m) = 1/e. */
START_TEST(intervals_are_exponential)
{
    static const uint64_t means[] = {256, 262144, UINT64_C(1) << 30};
    enum { NR = 200000 };

    for (size_t k = 0; k < 3; k++) {
        uint64_t state = 1 + k;
        double sum = 0, squares = 0, mean = (double)means[k];
        unsigned beyond = 0;
        for (unsigned i = 0; i < NR; i++) {
            uint64_t x = hk_site_interval(&state, means[k]);
            ck_assert_uint_ge(x, 1);
            sum += (double)x;
            squares += (double)x * (double)x;
            beyond += x > means[k];
        }
        sum /= NR;
        squares = squares / NR - sum * sum;
        fprintf(stderr, "mean %.0f: %.1f, variance %.4f, tail %.4f\n", mean, sum, squares / mean / mean,
                beyond / (double)NR);
        ck_assert_double_le(sum, mean * 1.01 + 0.5); /* sigma 0.22 % */
        ck_assert_double_ge(sum, mean * 0.99 - 0.5);
        ck_assert_double_le(squares, mean * mean * 1.05);
        ck_assert_double_ge(squares, mean * mean * 0.95);
        ck_assert_double_le(beyond / (double)NR, 0.3679 + 0.006);
        ck_assert_double_ge(beyond / (double)NR, 0.3679 - 0.006);
    }
}
END_TEST

/* ---- threads ------------------------------------------------------------------------------- */

#define NR_THREADS 4
#define NR_ROUNDS 20000

static void *note(void *arg)
{
    size_t which = (size_t)(uintptr_t)arg;

    for (size_t i = 0; i < NR_ROUNDS; i++) {
        hk_site_note_label(site_at(i % 32), 10 + which);
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

static void *sample_often(void *arg)
{
    struct hk_site_sample s = sample_of(NULL, 16, 16, 16);
    char *base = heap_bytes + (uintptr_t)arg * 16384;

    s.thread = (uint32_t)(uintptr_t)arg;
    for (unsigned i = 0; i < NR_ROUNDS; i++) {
        s.site = site_at(i % 8);
        hk_site_sample(&s, base + i % 1024);
        hk_site_sample_freed(base + i % 1024, s.thread, START_NS + MS);
    }
    return NULL;
}

START_TEST(threads_share_the_samples)
{
    pthread_t thread[NR_THREADS];
    struct hk_site_slot slot;
    uint64_t nr = 0;

    for (size_t i = 0; i < NR_THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, sample_often, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < NR_THREADS; i++)
        pthread_join(thread[i], NULL);
    for (size_t i = 0; i < 8; i++) {
        ck_assert(find(site_at(i), &slot));
        ck_assert_uint_eq(slot.nr_samples, slot.nr_ended);
        ck_assert_uint_eq(slot.nr_brief, slot.nr_ended);
        ck_assert_uint_eq(slot.nr_handed, 0);
        ck_assert_uint_eq(slot.est_live_bytes, 0);
        ck_assert_uint_eq(slot.busy, 0);
        hk_p2_check(&slot.size_p50);
        hk_p2_check(&slot.lifetime_p99);
        nr += slot.nr_samples;
    }
    ck_assert_uint_eq(nr + hk_site_dropped_samples(), NR_THREADS * NR_ROUNDS);
}
END_TEST

/* Children of a process whose threads are in the middle of it have a table that works. */
START_TEST(fork_child_finds_nothing_held)
{
    struct hk_site_sample s = sample_of(site_at(3), 16, 16, 16);
    pthread_t thread[NR_THREADS];
    struct hk_site_slot slot;

    if (UNDER_TSAN)
        return;
    for (size_t i = 0; i < NR_THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, sample_often, (void *)(uintptr_t)i), 0);
    for (int k = 0; k < 50; k++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            unsigned nr_bad = 0;
            uint64_t dropped = hk_site_dropped_samples();
            hk_site_fork_child();
            for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
                nr_bad += hk_load_relaxed(&hk_site_slots[i].busy) != 0;
            for (unsigned i = 0; i < 4096; i++) { /* every address that a thread had */
                hk_site_sample(&s, heap_bytes + i % 4 * 16384 + i / 4);
                hk_site_sample_freed(heap_bytes + i % 4 * 16384 + i / 4, 1, START_NS);
            }
            _exit(nr_bad + (hk_site_dropped_samples() != dropped));
        }
        ck_assert(waitpid(child, &status, 0) == child);
        ck_assert_int_eq(status, 0);
    }
    for (size_t i = 0; i < NR_THREADS; i++)
        pthread_join(thread[i], NULL);
    ck_assert(find(site_at(3), &slot));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("site");
    TCase *tc = new_case(suite, "table", setup, teardown);

    tcase_add_test(tc, empty_table);
    tcase_add_test(tc, events_add_up);
    tcase_add_test(tc, labels_add_up);
    tcase_add_test(tc, several_events_at_once);
    tcase_add_test(tc, no_site_is_dropped);
    tcase_add_test(tc, full_table_drops_and_counts);
    tcase_add_test(tc, slots_are_kept);
    tcase_add_test(tc, a_site_has_one_slot);
    tcase_add_test(tc, purposes);
    tcase_add_test(tc, purposes_by_samples);
    tcase_add_test(tc, a_sample_stands_for_many);
    tcase_add_test(tc, a_label_takes_no_estimate);
    tcase_add_test(tc, realloc_of_a_sample);
    tcase_add_test(tc, a_sample_of_counted_calls);
    tcase_add_test(tc, a_sample_moves);
    tcase_add_test(tc, a_sample_of_terabytes);
    tcase_add_test(tc, an_address_is_used_again);
    tcase_add_test(tc, records_are_bounded);
    tcase_add_test(tc, paths_are_estimated);
    tcase_add_test(tc, idle_slots_make_room);
    tcase_add_test(tc, labels_stay);
    tcase_add_test(tc, samples_outlive_their_slot);
    tcase_add_test(tc, another_module_starts_anew);
    tcase_add_test(tc, fork_child_finds_nothing_held);
    tcase_add_test(tc, intervals_are_exponential);
    tcase_add_test(tc, threads_lose_nothing);
    tcase_add_test(tc, threads_share_the_samples);
    return run_suite(suite);
}
