// SPDX-License-Identifier: MIT
// Over 900 lines because every kind of pointer of every tier is told apart over one fixture.
#include "ace/ace.h"

#include "arena/arena.h"
#include "batch/batch.h"
#include "bigcache/bigcache.h"
#include "config/config.h"
#include "heap/heap_inline.h"
#include "meta/meta.h"
#include "os/os.h"

#include "fake_clock.h"
#include "fake_os.h"
#include "support.h"

#include <errno.h>

#define MS UINT64_C(1000000)
#define SITE ((const void *)0x401234)
#define BIG (3 * HK_MIB - 8192)   /* from the arena */
#define HUGE (66 * HK_MIB - 8192) /* a mapping of its own */

static struct hk_heap *self, *other;

static void setup(void)
{
    fake_os_install();
    fake_os_place(HK_REGION_BYTES, 0);
    set_policy();
    hk_ace_init();
    self = hk_heap_adopt();
    other = hk_heap_adopt();
    self->thread_id = 100;
    other->thread_id = 101;
}

/* Whose guard pages are all those of big blocks. */
static void setup_without_fences(void)
{
    setup();
    fake_os_fail_all(FAKE_PROTECT, ENOMEM);
}

static void teardown(void)
{
    hk_ace_check(self);
    hk_ace_check(other);
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

/* Every assertion of check is a write to a file: too dear for what runs this often. */
static void *must_alloc(size_t n, size_t align)
{
    char *p = hk_ace_alloc(self, n, align, false, SITE);

    if (!p || (uintptr_t)p % hk_max(align, 16) || hk_ace_usable(p, SITE) < n)
        ck_abort_msg("%zu bytes at %zu: got %p", n, align, (void *)p);
    return p;
}

static void *get(size_t n)
{
    return must_alloc(n, 16);
}

static void put(void *p)
{
    hk_ace_free(self, p, SITE);
}

/* One size of each way through: tiny, pool, l25, arena, a mapping. */
static const size_t tiers[] = {1, 100, 1024, 5000, 65536, 65537, 300000, 1900000, BIG, 10 * HK_MIB, HUGE};
#define NR_TIERS ((int)(sizeof tiers / sizeof *tiers))

static uint64_t pattern(size_t i, uint64_t id)
{
    return (id + i) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* Every byte of small blocks, one word in 64 of large ones. */
static size_t stride(size_t n)
{
    return n > 100000 ? 512 : 8;
}

static void fill(char *p, size_t n, uint64_t id)
{
    for (size_t i = 0; i + 8 <= n; i += stride(n))
        *(uint64_t *)(p + i) = pattern(i, id);
}

/* The first n bytes of what fill(p, filled, id) wrote. */
static void must_hold(const char *p, size_t n, size_t filled, uint64_t id)
{
    for (size_t i = 0; i + 8 <= n; i += stride(filled))
        if (*(const uint64_t *)(p + i) != pattern(i, id))
            ck_abort_msg("block of %zu bytes: content lost at %zu", filled, i);
}

static enum hk_verdict verdict_on(const void *p)
{
    struct hk_block b;

    return hk_ace_identify(p, &b);
}

static void must_be(const void *p, enum hk_verdict verdict)
{
    enum hk_verdict found = verdict_on(p);

    if (found != verdict)
        ck_abort_msg("verdict %d, expected %d", (int)found, (int)verdict);
}

/* ---- routing ------------------------------------------------------------------------------- */

static void must_go_to(size_t n, uintptr_t kind)
{
    void *p = get(n);
    uintptr_t word = hk_pagemap_word(p);

    if (kind == HK_PM_KINDS)
        ck_assert_msg(word >= HK_PM_KINDS, "%zu bytes: word %zu", n, (size_t)word);
    else
        ck_assert_msg(word == kind, "%zu bytes: word %zu", n, (size_t)word);
    put(p);
}

START_TEST(sizes_find_their_box)
{
    must_go_to(0, HK_PM_EMPTY);
    hk_config.empty_guard = 0;
    must_go_to(0, HK_PM_KINDS);
    must_go_to(1, HK_PM_KINDS);
    must_go_to(HK_FAST_MAX, HK_PM_KINDS);
    must_go_to(HK_FAST_MAX + 1, HK_PM_RUN);
    must_go_to(HK_L25_MAX, HK_PM_RUN);
    must_go_to(HK_L25_MAX + 1, HK_PM_BIG);
    must_go_to(2 * HK_MIB, HK_PM_BIG);
    hk_policy_builtin.big_threshold = 64 * HK_KIB;
    must_go_to(HK_FAST_MAX, HK_PM_KINDS);
    must_go_to(HK_FAST_MAX + 1, HK_PM_BIG);
    hk_policy_builtin.big_threshold = 16 * HK_MIB;
    must_go_to(HK_L25_MAX, HK_PM_RUN);
    must_go_to(HK_L25_MAX + 1, HK_PM_BIG);
    hk_policy_builtin.big_threshold = 300000;
    must_go_to(299999, HK_PM_RUN);
    must_go_to(300000, HK_PM_BIG);
}
END_TEST

/* Nor does what grows. */
START_TEST(growth_finds_the_same_box)
{
    hk_policy_builtin.big_threshold = 300000;
    for (size_t n = 299999; n <= 300000; n++) {
        char *p = hk_ace_realloc(self, get(1000), n, SITE);
        ck_assert_uint_eq(hk_pagemap_word(p), n < 300000 ? HK_PM_RUN : HK_PM_BIG);
        put(p);
    }
}
END_TEST

START_TEST(the_arena_has_blocks_of_up_to_its_largest)
{
    size_t most = HK_ARENA_MAX - hk_os_page_bytes(); /* the guard page; such an alignment has no colour */

    for (size_t more = 0; more <= 1; more++) {
        size_t before = hk_ace_counters.arena_bytes;
        char *p = must_alloc(most + more, HK_GRANULE);
        ck_assert_uint_eq(hk_ace_counters.arena_bytes - before, more ? 0 : HK_ARENA_MAX);
        put(p);
    }
}
END_TEST

/* One of a slab, one of the slabs that need a region of another alignment, a run; whichever is made first. */
START_TEST(before_the_first_block_is_a_fence)
{
    static const size_t sizes[] = {16, 4096, 300000};
    char *p = get(sizes[_i]), *base = p - (uintptr_t)p % HK_GRANULE;

    if (sizes[_i] < HK_FAST_MAX)
        ck_assert_ptr_eq(p, base);
    ck_assert(fake_os_is_guarded(base - hk_os_page_bytes()));
    ck_assert(!fake_os_is_guarded(base));
    put(p);
}
END_TEST

START_TEST(two_blocks_of_nothing_differ)
{
    void *a = hk_ace_alloc(self, 0, 16, false, SITE), *b = hk_ace_alloc(self, 0, 16, true, SITE);

    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
    ck_assert_ptr_ne(a, b);
    put(a);
    put(b);
}
END_TEST

START_TEST(every_alignment)
{
    for (size_t align = 16; align <= 8 * HK_MIB; align *= 2)
        for (size_t n = 1; n <= 4 * HK_MIB; n = 5 * n + 3) {
            char *p = must_alloc(n, align), *q = must_alloc(n, align);
            ck_assert(p + n <= q || q + n <= p);
            fill(p, n, 1);
            fill(q, n, 2);
            must_hold(p, n, n, 1);
            put(p);
            put(q);
        }
}
END_TEST

#define FAR_TOO_MUCH ((size_t)1 << (sizeof(size_t) == 8 ? 46 : 31))

START_TEST(impossible_sizes)
{
    ck_assert_ptr_null(hk_ace_alloc(self, PTRDIFF_MAX, 16, false, SITE));
    ck_assert_ptr_null(hk_ace_alloc(self, PTRDIFF_MAX - 4096, 16, false, SITE));
    ck_assert_ptr_null(hk_ace_alloc(self, FAR_TOO_MUCH, 16, false, SITE));
    ck_assert_ptr_null(hk_ace_alloc(self, 1, FAR_TOO_MUCH, false, SITE));
    ck_assert_ptr_null(hk_ace_loose_alloc(PTRDIFF_MAX, 16));
    put(get(100));
}
END_TEST

START_TEST(zeroed_is_zero_whatever_was_there)
{
    for (int i = 0; i < NR_TIERS; i++)
        for (int round = 0; round < 4; round++) {
            size_t n = tiers[i];
            char *p = hk_ace_alloc(self, n, 16, true, SITE);
            ck_assert_ptr_nonnull(p);
            for (size_t at = 0; at < n; at++)
                if (p[at])
                    ck_abort_msg("%zu bytes, round %d: byte %zu is not zero", n, round, at);
            memset(p, 0x5a, n);
            put(p);
        }
}
END_TEST

START_TEST(good_size_is_had)
{
    for (size_t n = 1; n < 6 * HK_MIB; n += 1 + n / 7) {
        size_t good = hk_ace_good_size(n);
        void *p = get(n);
        ck_assert_uint_ge(good, n);
        ck_assert_msg(hk_ace_usable(p, SITE) >= good, "%zu: good size %zu, usable %zu", n, good,
                      hk_ace_usable(p, SITE));
        put(p);
    }
    ck_assert_uint_eq(hk_ace_good_size(SIZE_MAX), SIZE_MAX);
}
END_TEST

/* ---- what is p? ---------------------------------------------------------------------------- */

/* What the diagnostics would say of a pointer into the live block at `start`. */
static void must_be_in(const void *p, const void *start, size_t usable)
{
    struct hk_block b;

    hk_ace_identify(p, &b);
    ck_assert_ptr_eq(b.start, start);
    ck_assert_uint_eq(b.usable, usable);
    ck_assert_uint_eq(b.word, hk_pagemap_word(p));
    ck_assert_uint_eq(b.owner, b.word >= HK_PM_KINDS ? 100 : 0);
}

START_TEST(live_blocks_of_every_tier)
{
    for (int i = 0; i < NR_TIERS; i++) {
        char *p = get(tiers[i]);
        size_t usable = hk_ace_usable(p, SITE);
        fill(p, usable, 3);
        must_be(p, HK_BLOCK_LIVE);
        must_be_in(p, p, usable);
        must_be(p + 1, HK_BLOCK_MISALIGNED);
        must_be(p + 8, HK_BLOCK_MISALIGNED);
        must_be(p + usable - 1, HK_BLOCK_MISALIGNED);
        for (size_t at = 16; at < usable; at = 2 * at + 16) {
            must_be(p + at, HK_BLOCK_INTERIOR);
            must_be_in(p + at, p, usable);
        }
        must_hold(p, usable, usable, 3); /* looking touches nothing */
        put(p);
    }
}
END_TEST

START_TEST(dead_blocks_of_every_tier)
{
    for (int i = 0; i < NR_TIERS; i++) {
        char *p = get(tiers[i]);
        put(p);
        must_be(p, HK_BLOCK_DEAD); /* cached */
        must_be(p + 1, HK_BLOCK_MISALIGNED);
        hk_ace_purge(self);
        must_be(p, HK_BLOCK_DEAD); /* back in its slab, in a region, or unmapped */
        must_be(p + 8, HK_BLOCK_MISALIGNED);
    }
}
END_TEST

START_TEST(foreign_pointers)
{
    static char data[64] __attribute__((aligned(16)));
    char local[64] __attribute__((aligned(16)));
    char *libc = malloc(64);

    must_be(NULL, HK_BLOCK_UNKNOWN);
    must_be(data, HK_BLOCK_UNKNOWN);
    must_be(local, HK_BLOCK_UNKNOWN);
    must_be(libc, HK_BLOCK_UNKNOWN);
    must_be(local + 3, HK_BLOCK_MISALIGNED);
    must_be((void *)(UINTPTR_MAX - 15), HK_BLOCK_UNKNOWN);
    must_be((void *)((uintptr_t)1 << (sizeof(uintptr_t) == 8 ? 47 : 31)), HK_BLOCK_UNKNOWN);
    must_be(self, HK_BLOCK_UNKNOWN); /* our own descriptors are no blocks */
    free(libc);
    start_random(0);
    for (int i = 0; i < 10000; i++) {
        enum hk_verdict verdict = verdict_on((void *)(uintptr_t)next_random());
        ck_assert(verdict == HK_BLOCK_UNKNOWN || verdict == HK_BLOCK_MISALIGNED);
    }
}
END_TEST

START_TEST(a_slab_has_a_tail_that_is_no_block)
{
    char *p = get(5000);
    struct hk_slab *slab = hk_slab_of(p);
    size_t size = hk_size_class[slab->class].size;
    char *tail = (char *)slab->base + slab->nr_slots * size;
    struct hk_block b;

    ck_assert_uint_lt(slab->nr_slots * size, hk_size_class[slab->class].slab_mask);
    must_be(tail, HK_BLOCK_UNKNOWN);
    ck_assert_int_eq(hk_ace_identify(p + size, &b), HK_BLOCK_UNKNOWN); /* never used */
    ck_assert_ptr_null(b.start);
    must_be((char *)slab->base + (slab->nr_slots - 1u) * size, HK_BLOCK_UNKNOWN);
    put(p);
}
END_TEST

/* The favourite of off-by-one: the slot behind a live block, which was never handed out. */
START_TEST(the_slot_behind_a_live_block)
{
    hk_heap_self = self;
    for (unsigned c = 0; c < HK_NR_SIZED_CLASSES; c++) {
        size_t size = hk_size_class[c].size;
        char *p = get(hk_min(size, HK_FAST_MAX));
        while (hk_slab_of(p)->carved > hk_size_slot(&hk_size_class[c], (uintptr_t)p -
                                                    hk_slab_of(p)->base) + 1)
            p = get(hk_min(size, HK_FAST_MAX));
        must_be(p, HK_BLOCK_LIVE);
        if (hk_slab_of(p)->carved < hk_slab_of(p)->nr_slots) {
            must_be(p + size, HK_BLOCK_UNKNOWN);
            if (hk_heap_free_fast(p + size))
                ck_abort_msg("%zu bytes: the slot behind was freed", size);
        }
    }
}
END_TEST

START_TEST(colour_is_no_block)
{
    char *p = NULL;
    struct hk_block b;

    for (int i = 0; i < 8 && (!p || (uintptr_t)p % HK_GRANULE == 0); i++)
        p = get(300000);
    ck_assert_uint_ne((uintptr_t)p % HK_GRANULE, 0);
    char *base = (char *)((uintptr_t)p & ~(HK_GRANULE - 1));
    ck_assert_int_eq(hk_ace_identify(base, &b), HK_BLOCK_INTERIOR);
    ck_assert_ptr_eq(b.start, p);
}
END_TEST

START_TEST(blocks_on_their_way_are_dead)
{
    char *p = get(100), *q = get(100);

    hk_ace_free(other, p, SITE); /* in other's outbox */
    must_be(p, HK_BLOCK_DEAD);
    hk_ace_free(NULL, q, SITE); /* in self's inbox */
    must_be(q, HK_BLOCK_DEAD);
    hk_heap_tick(other);
    hk_heap_tick(self);
    must_be(p, HK_BLOCK_DEAD);
    must_be(q, HK_BLOCK_DEAD);
}
END_TEST

START_TEST(content_that_looks_like_the_mark)
{
    void *p = get(100);

    *hk_mark_of(p) = hk_size_class[hk_size_to_class(100)].magic;
    must_be(p, HK_BLOCK_LIVE);
    put(p);
    must_be(p, HK_BLOCK_DEAD);
}
END_TEST

START_TEST(neighbours_of_a_run)
{
    char *p = must_alloc(70000, 32 * HK_KIB); /* 5 granules */
    char *behind = p + 5 * HK_GRANULE;

    ck_assert_uint_eq(hk_pagemap_word(behind), HK_PM_FREE);
    must_be(behind, HK_BLOCK_DEAD);
    must_be(behind - 16, HK_BLOCK_INTERIOR);
    put(p);
    hk_ace_purge(self);
    must_be(behind - 16, HK_BLOCK_DEAD);
}
END_TEST

/* ---- free ---------------------------------------------------------------------------------- */

static char *victim;

static void free_null(void)
{
    hk_ace_free(self, NULL, SITE);
    hk_ace_free(NULL, NULL, SITE);
}

static void free_victim(void)
{
    hk_ace_free(self, victim, SITE);
}

static void free_victim_elsewhere(void)
{
    hk_ace_free(other, victim, SITE);
}

static void realloc_victim(void)
{
    hk_ace_realloc(self, victim, 50, SITE);
}

static void measure_victim(void)
{
    hk_ace_usable(victim, SITE);
}

static void everything_complains(const char *how)
{
    static void (*const calls[])(void) = {free_victim, free_victim_elsewhere, realloc_victim,
                                          measure_victim};
    static const char *const names[] = {"free", "free", "realloc", "malloc_usable_size"};
    char sentence[200];

    for (int i = 0; i < 4; i++) {
        snprintf(sentence, sizeof sentence, "invalid %s: %s pointer: pointer 0x%zx", names[i], how,
                 (size_t)victim);
        must_panic(calls[i], sentence);
    }
}

START_TEST(misuse_is_named)
{
    static char data[64] __attribute__((aligned(16)));

    free_null();
    char *p = get(tiers[_i]);
    victim = p + 32;
    if (hk_ace_usable(p, SITE) > 32)
        everything_complains("interior");
    victim = p + 8;
    everything_complains("misaligned");
    victim = data;
    everything_complains("unknown");
    put(p);
    victim = p;
    must_panic(free_victim, "hakmem: double free: pointer 0x");
    must_panic(free_victim_elsewhere, "hakmem: double free: pointer 0x");
    must_panic(realloc_victim, "invalid realloc: freed pointer");
    must_panic(measure_victim, "invalid malloc_usable_size: freed pointer");
    must_panic(free_victim, "called from 0x401234");
    hk_ace_purge(self);
    must_panic(free_victim, "hakmem: double free: pointer 0x");
}
END_TEST

static void free_run_twice_past_identify(void)
{
    hk_ace_free(self, victim, SITE);
    hk_ace_free(NULL, victim, SITE);
}

START_TEST(second_free_from_another_thread)
{
    victim = get(tiers[_i]);
    must_panic(free_run_twice_past_identify, "double free");
}
END_TEST

static void *passed_on;
static unsigned nr_passed_on;

static bool next_free(void *p)
{
    passed_on = p;
    nr_passed_on++;
    return true;
}

static bool next_resize(void *p, size_t n, void **moved)
{
    *moved = (char *)p + n;
    return true;
}

static bool next_usable(const void *p, size_t *bytes)
{
    *bytes = 42;
    return p != NULL;
}

static bool next_refuses(void *p)
{
    return p == NULL;
}

START_TEST(blocks_of_libc_go_to_libc)
{
    char *p = sbrk(4096), *aligned = (char *)hk_align_up((uintptr_t)p, 16);

    victim = aligned;
    must_panic(free_victim, "invalid free: unknown pointer"); /* entry has not said where to */
    struct hk_foreign next = {next_free, next_resize, next_usable};
    hk_ace_foreign = &next;
    hk_ace_free(self, aligned, SITE);
    ck_assert_uint_eq(nr_passed_on, 1);
    ck_assert_ptr_eq(passed_on, aligned);
    ck_assert_ptr_eq(hk_ace_realloc(self, aligned, 100, SITE), aligned + 100);
    ck_assert_uint_eq(hk_ace_usable(aligned, SITE), 42);
    ck_assert(!hk_ace_resize(self, aligned, 1, SITE));
    victim = aligned + 1;
    must_panic(free_victim, "invalid free: misaligned pointer");
    victim = (char *)&passed_on;
    must_panic(free_victim, "invalid free:");
    next.free = next_refuses;
    victim = aligned;
    must_panic(free_victim, "invalid free: unknown pointer");
    hk_ace_foreign = NULL;
}
END_TEST

START_TEST(anybody_may_free_anything)
{
    struct hk_heap *const who[] = {self, other, NULL};

    for (int i = 0; i < NR_TIERS; i++)
        for (int a = 0; a < 3; a++)
            for (int f = 0; f < 3; f++) {
                char *p = hk_ace_alloc(who[a], tiers[i], 16, false, SITE);
                ck_assert_ptr_nonnull(p);
                fill(p, tiers[i], 5);
                must_be(p, HK_BLOCK_LIVE);
                must_hold(p, tiers[i], tiers[i], 5);
                hk_ace_free(who[f], p, SITE);
                must_be(p, HK_BLOCK_DEAD);
            }
}
END_TEST

/* ---- realloc ------------------------------------------------------------------------------- */

START_TEST(realloc_keeps_content_between_all_tiers)
{
    for (int from = 0; from < NR_TIERS; from++)
        for (int to = 0; to < NR_TIERS; to++) {
            char *p = get(tiers[from]), *q;
            fill(p, tiers[from], 9);
            q = hk_ace_realloc(self, p, tiers[to], SITE);
            ck_assert_ptr_nonnull(q);
            ck_assert_uint_ge(hk_ace_usable(q, SITE), tiers[to]);
            must_hold(q, hk_min(tiers[from], tiers[to]), tiers[from], 9);
            if (q != p)
                must_be(p, HK_BLOCK_DEAD);
            put(q);
        }
}
END_TEST

START_TEST(small_blocks_stay_while_half_is_used)
{
    char *p = get(1000); /* of 1024 */

    ck_assert_ptr_eq(hk_ace_realloc(self, p, 1024, SITE), p);
    ck_assert_ptr_eq(hk_ace_realloc(self, p, 513, SITE), p);
    ck_assert(hk_ace_resize(self, p, 600, SITE));
    ck_assert(!hk_ace_resize(self, p, 512, SITE));
    ck_assert(!hk_ace_resize(self, p, 1025, SITE));
    ck_assert_ptr_ne(hk_ace_realloc(self, p, 512, SITE), p);
    p = get(60); /* below 64 nothing is gained */
    ck_assert_ptr_eq(hk_ace_realloc(self, p, 1, SITE), p);
}
END_TEST

START_TEST(runs_grow_and_shrink_in_place)
{
    hk_policy_builtin.l25_cap = 1; /* no bundle in the way */
    char *p = must_alloc(200000, 32 * HK_KIB);
    size_t used = hk_arena_used_bytes();

    fill(p, 200000, 4);
    ck_assert(hk_ace_resize(self, p, 400000, SITE));
    ck_assert_uint_gt(hk_arena_used_bytes(), used);
    ck_assert_ptr_eq(hk_ace_realloc(self, p, 100000, SITE), p);
    ck_assert_uint_lt(hk_arena_used_bytes(), used);
    must_hold(p, 100000, 200000, 4);
    ck_assert(!hk_ace_resize(self, p, 20000, SITE)); /* out of its tier */
    ck_assert_ptr_ne(hk_ace_realloc(self, p, 20000, SITE), p);
    ck_assert(!hk_ace_resize(self, get(200000), PTRDIFF_MAX, SITE));
}
END_TEST

/* A free after each would hide it: what shrinks lets go of memory as well. */
START_TEST(what_shrinks_lets_go)
{
    static const size_t size[] = {HK_MIB, 2 * BIG}; /* runs, and big blocks */
    unsigned nr = (unsigned)(128 * HK_MIB / size[_i]);
    char *p[128];

    for (unsigned i = 0; i < nr; i++)
        fill(p[i] = get(size[_i]), size[_i], i);
    for (unsigned i = 0; i < nr; i++)
        if (i % 2)
            ck_assert(hk_ace_resize(self, p[i], 100000, SITE));
        else
            ck_assert_ptr_eq(hk_ace_realloc(self, p[i], 100000, SITE), p[i]);
    ck_assert_uint_le(hk_ace_cached_bytes(), hk_policy()->purge_floor_bytes);
    for (unsigned i = 0; i < nr; i++)
        must_hold(p[i], 100000, size[_i], i);
}
END_TEST

/* What has moved once has room from then on, up into the next tier; several side by side, too. */
START_TEST(growth_moves_seldom)
{
    char *p[4] = {NULL};
    unsigned nr_moves = 0;

    for (size_t n = 60000; n < 8 * HK_MIB; n += n / 8)
        for (unsigned i = 0; i < 4; i++) {
            char *q = p[i] ? hk_ace_realloc(self, p[i], n, SITE) : get(n);
            if (p[i]) {
                must_hold(q, n / 9 * 8, n / 9 * 8, i + 1);
                nr_moves += q != p[i];
            }
            p[i] = q;
            fill(q, (n + n / 8) / 9 * 8, i + 1);
        }
    ck_assert_uint_le(nr_moves, 24); /* of 168 */
    for (unsigned i = 0; i < 4; i++)
        put(p[i]);
}
END_TEST

/* Of up to 64 KiB: the second move is to a run, whose tail is not touched; one that grows once stays in its class. */
START_TEST(small_blocks_that_grow_again)
{
    char *p = get(10000), *q = hk_ace_realloc(self, p, 20000, SITE), *r;
    unsigned nr_moves = 0;

    ck_assert(!hk_ace_is_large(q));
    ck_assert_ptr_null(hk_ace_regrow(self, q, 15000, SITE));
    ck_assert_ptr_null(hk_ace_regrow(self, q, 65 * HK_KIB, SITE));
    fill(q, 20000, 1);
    r = hk_ace_regrow(self, q, 30000, SITE);
    ck_assert_ptr_nonnull(r);
    ck_assert(hk_ace_is_large(r));
    must_hold(r, 20000, 20000, 1);
    ck_assert_uint_lt(hk_ace_usable(r, SITE), 64 * HK_KIB);
    for (size_t n = 31000; n < 500000; n += 1000, r = q) {
        q = hk_ace_regrow(self, r, n, SITE);
        if (!q)
            q = hk_ace_realloc(self, r, n, SITE);
        nr_moves += q != r;
    }
    ck_assert_uint_le(nr_moves, 4); /* by classes it is 8 up to 64 KiB alone */
    must_hold(r, 20000, 20000, 1);
    put(r);

    r = hk_ace_regrow(self, hk_ace_realloc(self, get(10000), 20000, SITE), 30000, SITE);
    ck_assert_ptr_nonnull(r);
    put(r); /* no request looks for so small a run: it takes no room in the cache */
    for (unsigned c = 0; c < HK_L25_NR_CLASSES; c++)
        ck_assert(self->l25.count[c] == 0 || hk_l25_class_granules[c] * HK_GRANULE > HK_FAST_MAX);
    p = hk_ace_realloc(self, get(17000), 25000, SITE);
    put(get(300)); /* other blocks between do no harm */
    ck_assert_ptr_null(hk_ace_regrow(self, get(25000), 40000, SITE)); /* was never moved */
    r = hk_ace_regrow(self, p, 40000, SITE);
    ck_assert_ptr_nonnull(r);
    ck_assert_ptr_null(hk_ace_regrow(self, r, 60000, SITE));
    ck_assert(hk_ace_keeps(r, 35000) && !hk_ace_keeps(r, 9000));
    p = hk_ace_realloc(self, r, 9000, SITE); /* and back into the classes */
    ck_assert(!hk_ace_is_large(p));
}
END_TEST

START_TEST(blocks_that_fit_are_kept_at_a_glance)
{
    static const size_t sizes[] = {300000, BIG, HUGE};

    for (unsigned i = 0; i < 3; i++) {
        char *p = get(sizes[i]);
        size_t usable = hk_ace_usable(p, SITE);
        ck_assert(hk_ace_keeps(p, sizes[i]));
        ck_assert(hk_ace_keeps(p, usable));
        ck_assert(!hk_ace_keeps(p, usable + 1));
        ck_assert(!hk_ace_keeps(p, usable / 3));
        ck_assert(!hk_ace_keeps(p, 0));
        ck_assert(!hk_ace_keeps(p + 16, sizes[i] - 16));
        put(p);
        ck_assert(!hk_ace_keeps(p, sizes[i]));
    }
    ck_assert(!hk_ace_keeps(NULL, 0));
    ck_assert(!hk_ace_keeps(get(100), 100)); /* the fast path's business */
    ck_assert(!hk_ace_keeps(&sizes, 100));
}
END_TEST

START_TEST(big_blocks_grow_in_place_without_a_copy)
{
    put(get(4 * BIG)); /* the arena has room, all of it dirty */
    char *p = get(BIG);
    unsigned maps = fake_os_calls(FAKE_MAP);

    fill(p, BIG, 4);
    ck_assert(hk_ace_resize(self, p, 2 * BIG, SITE));
    ck_assert_uint_ge(hk_ace_usable(p, SITE), 2 * BIG);
    ck_assert_ptr_eq(hk_ace_realloc(self, p, 4 * BIG - HK_MIB, SITE), p);
    must_hold(p, BIG, BIG, 4);
    size_t live = hk_ace_live_bytes(), dirty = hk_arena_dirty_bytes();
    ck_assert_ptr_eq(hk_ace_realloc(self, p, BIG, SITE), p);
    ck_assert_uint_ge(live - hk_ace_live_bytes(), 3 * BIG - 2 * HK_MIB);
    ck_assert_uint_eq(live - hk_ace_live_bytes(), hk_arena_dirty_bytes() - dirty);
    must_hold(p, BIG, BIG, 4);
    ck_assert_uint_eq(fake_os_calls(FAKE_REMAP), 0);
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), maps);
}
END_TEST

/* The fake has room behind its newest mapping. */
START_TEST(mappings_grow_in_place_without_a_copy)
{
    put(get(HUGE)); /* the page map is there */
    hk_ace_purge(self);
    char *p = get(HUGE);
    unsigned maps = fake_os_calls(FAKE_MAP);

    fill(p, HUGE, 4);
    ck_assert(hk_ace_resize(self, p, 2 * HUGE, SITE));
    ck_assert_ptr_eq(hk_ace_realloc(self, p, 3 * HUGE, SITE), p);
    ck_assert_uint_eq(fake_os_calls(FAKE_REMAP), 2);
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), maps);
    must_hold(p, HUGE, HUGE, 4);
    size_t mapped = fake_os_mapped_bytes(), live = hk_ace_live_bytes();
    ck_assert_ptr_eq(hk_ace_realloc(self, p, HUGE, SITE), p);
    ck_assert_uint_eq(mapped - fake_os_mapped_bytes(), live - hk_ace_live_bytes());
    ck_assert_uint_ge(mapped - fake_os_mapped_bytes(), 2 * HUGE - HK_MIB);
    must_hold(p, HUGE, HUGE, 4);
}
END_TEST

#define LARGE_RUN (HK_MIB + HK_MIB / 2)
static const size_t moved_by_pages[] = {BIG, HUGE, LARGE_RUN};

/* BIG and a run leave the arena, HUGE its mapping. */
START_TEST(big_blocks_move_by_their_pages)
{
    size_t n = moved_by_pages[_i];
    char *p = get(n), *wall = get(n), *q;
    unsigned advised = fake_os_calls(FAKE_ADVISE);

    fill(p, n, 4);
    q = hk_ace_realloc(self, p, 40 * BIG, SITE);
    ck_assert_ptr_nonnull(q);
    ck_assert_ptr_ne(q, p);
    must_hold(q, n, n, 4);
    must_be(p, HK_BLOCK_DEAD);
    must_be(q, HK_BLOCK_LIVE);
    must_be(q + 40 * BIG - 16, HK_BLOCK_INTERIOR);
    ck_assert(fake_os_none_mapped((void *)((uintptr_t)p & ~(HK_GRANULE - 1)), n));
    ck_assert_uint_eq(hk_ace_cached_bytes(), 0); /* moved, not copied and cached */
    ck_assert_uint_eq(fake_os_calls(FAKE_ADVISE), advised);
    hk_ace_check(self);
    put(wall);
    put(q);
}
END_TEST

/* Runs have 64 colours. Whatever a run's was, the big block it becomes has room for what is asked of it. */
START_TEST(a_run_of_any_colour_grows)
{
    unsigned nr_last = 0;

    for (unsigned i = 0; i < 600; i++) {
        size_t n = HK_MIB + i % 8 * HK_GRANULE - 4096;
        char *p = get(n), *wall = get(n);
        nr_last += ((uintptr_t)p & (HK_GRANULE - 1)) == 4032;
        p = hk_ace_realloc(self, p, 2 * HK_MIB + 100, SITE);
        for (unsigned k = 1; k <= 64; k++) {
            n = hk_ace_usable(p, SITE) + (k + i) % 64 + 1;
            p = hk_ace_realloc(self, p, n, SITE);
            ck_assert_uint_ge(hk_ace_usable(p, SITE), n);
        }
        put(p);
        put(wall);
    }
    ck_assert_uint_gt(nr_last, 0);
}
END_TEST

/* A kernel that takes the target away before it refuses: it is neither used nor unmapped. */
START_TEST(a_move_that_costs_its_target)
{
    size_t n = moved_by_pages[_i];
    char *p = get(n), *wall = get(n), *q;
    size_t lost = hk_os_counters.lost_bytes;

    fill(p, n, 4);
    fake_os_fail(FAKE_REMAP, _i == 1 ? 2 : 1, EFAULT);
    q = hk_ace_realloc(self, p, 40 * BIG, SITE);
    ck_assert_ptr_nonnull(q);
    must_hold(q, n, n, 4);
    lost = hk_os_counters.lost_bytes - lost;
    ck_assert_uint_gt(lost, 40 * BIG);
    ck_assert_uint_lt(lost, 41 * BIG); /* not unmapped as well: what the kernel refuses counts once more */
    hk_ace_check(self);
    put(wall);
    put(q);
}
END_TEST

/* No room for old and new together, but for the difference: the kernel finds a place, whose first granule
 * is not wholly ours. */
START_TEST(big_blocks_move_where_the_kernel_likes)
{
    size_t n = moved_by_pages[_i];
    char *p = get(n), *wall = get(n), *q;
    unsigned remaps = fake_os_calls(FAKE_REMAP);

    fill(p, n, 4);
    get(n); /* not at the end of what is mapped */
    fake_os_fail(FAKE_MAP, 1, ENOMEM); /* the place to move to */
    q = hk_ace_realloc(self, p, 40 * BIG, SITE);
    ck_assert_ptr_nonnull(q);
    ck_assert_uint_gt(fake_os_calls(FAKE_REMAP), remaps);
    must_hold(q, n, n, 4);
    ck_assert_uint_ge(hk_ace_usable(q, SITE), 40 * BIG);
    must_be(q, HK_BLOCK_LIVE);
    must_be(q + 16, HK_BLOCK_INTERIOR);
    must_be(p, HK_BLOCK_DEAD);
    ck_assert_ptr_eq(hk_ace_realloc(self, q, n, SITE), q); /* shrinks where it is */
    must_hold(q, n, n, 4);
    put(q);
    must_be(q, HK_BLOCK_DEAD);
    hk_ace_check(self);
    put(wall);
    hk_ace_purge(self);
    ck_assert_uint_eq(hk_ace_cached_bytes(), 0);
}
END_TEST

START_TEST(a_mapping_that_shrank_joins_the_arena)
{
    char *p = get(HUGE);
    size_t mapped = fake_os_mapped_bytes();

    ck_assert_ptr_eq(hk_ace_realloc(self, p, HUGE / 3, SITE), p);
    put(p);
    ck_assert_uint_ge(hk_arena_dirty_bytes(), HUGE / 3);
    ck_assert_uint_lt(fake_os_mapped_bytes(), mapped);
    mapped = fake_os_mapped_bytes();
    char *q = get(HUGE / 3 - HK_MIB);
    ck_assert_uint_eq((uintptr_t)q & ~(HK_GRANULE - 1), (uintptr_t)p & ~(HK_GRANULE - 1));
    ck_assert_uint_eq(fake_os_mapped_bytes(), mapped);
    put(q);
}
END_TEST

START_TEST(remap_refused)
{
    char *p = get(BIG), *wall = get(BIG), *q;

    fill(p, BIG, 4);
    fake_os_fail_all(FAKE_REMAP, _i ? ENOMEM : EINVAL);
    ck_assert(!hk_ace_resize(self, p, 2 * BIG, SITE));
    ck_assert_ptr_eq(hk_ace_realloc(self, p, BIG / 4 * 3, SITE), p); /* a shrink never fails */
    must_hold(p, BIG / 4 * 3, BIG, 4);
    q = hk_ace_realloc(self, p, 2 * BIG, SITE); /* by a copy */
    ck_assert_ptr_nonnull(q);
    must_hold(q, BIG / 4 * 3, BIG, 4);
    fake_os_fail_all(FAKE_REMAP, 0);
    put(q);
    put(wall);
}
END_TEST

/* A run whose pages the kernel does not move is copied, or if that fails too stays what it was. */
START_TEST(a_run_that_cannot_move)
{
    char *p = get(LARGE_RUN), *q;
    size_t usable = hk_ace_usable(p, SITE), live = hk_ace_live_bytes();

    get(LARGE_RUN); /* no room behind it */
    fill(p, usable, 4);
    fake_os_fail_all(FAKE_REMAP, ENOMEM);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    ck_assert_ptr_null(hk_ace_realloc(self, p, HUGE, SITE));
    fake_os_fail_all(FAKE_MAP, 0);
    must_be(p, HK_BLOCK_LIVE);
    must_be(p + 16, HK_BLOCK_INTERIOR);
    ck_assert_uint_eq(hk_ace_usable(p, SITE), usable);
    must_hold(p, usable, usable, 4);
    hk_ace_check(self);
    q = hk_ace_realloc(self, p, HUGE, SITE);
    must_hold(q, usable, usable, 4);
    must_be(p, HK_BLOCK_DEAD);
    put(q);
    ck_assert_uint_le(hk_ace_live_bytes(), live + LARGE_RUN + HK_MIB);
}
END_TEST

START_TEST(realloc_without_memory)
{
    for (int i = 0; i < NR_TIERS; i++) {
        char *p = get(tiers[i]);
        size_t usable = hk_ace_usable(p, SITE);
        fill(p, usable, 6);
        fake_os_fail_all(FAKE_MAP, ENOMEM);
        fake_os_fail_all(FAKE_REMAP, ENOMEM);
        ck_assert_ptr_null(hk_ace_realloc(self, p, 200 * HK_MIB, SITE));
        must_be(p, HK_BLOCK_LIVE);
        must_hold(p, usable, usable, 6);
        char *q = hk_ace_realloc(self, p, 1, SITE);
        ck_assert_ptr_nonnull(q);
        if (q == p && usable > 16)
            must_hold(p, 8, usable, 6);
        fake_os_fail_all(FAKE_MAP, 0);
        fake_os_fail_all(FAKE_REMAP, 0);
        put(q);
    }
}
END_TEST

/* ---- big blocks ---------------------------------------------------------------------------- */

/* One size again and again is kept whole, and comes back from the site's ring. */
START_TEST(cached_big_blocks_cost_no_calls)
{
    size_t n = _i ? HUGE : BIG;

    hk_policy_builtin.purge_floor_bytes = 160 * HK_MIB;
    hk_bigcache_set_budget(160 * HK_MIB);
    hk_config.bigcache_bytes = 160 * HK_MIB;
    put(get(n));
    put(get(n));
    unsigned maps = fake_os_calls(FAKE_MAP), unmaps = fake_os_calls(FAKE_UNMAP);
    size_t hits = hk_bigcache_counters()->hits_site, live = hk_ace_live_bytes();
    for (int i = 0; i < 100; i++) {
        char *p = get(n);
        fill(p, n, 1);
        put(p);
        ck_assert_uint_ge(hk_bigcache_bytes(), n);
        ck_assert_uint_eq(hk_ace_live_bytes(), live); /* what is cached is not live */
    }
    ck_assert_uint_eq(hk_bigcache_counters()->hits_site, hits + 100);
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), maps);
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), unmaps);
    hk_ace_purge(self);
    ck_assert_uint_eq(hk_bigcache_bytes(), 0);
    ck_assert_uint_eq(hk_ace_live_bytes(), 0);
}
END_TEST

/* Sizes that change go to the arena, where they join. */
START_TEST(descriptors_are_used_again)
{
    size_t touched;

    put(get(BIG));
    touched = hk_meta_touched_bytes();
    for (int i = 0; i < 1000; i++)
        put(get(BIG));
    ck_assert_uint_eq(hk_meta_touched_bytes(), touched);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (int i = 0; i < 1000; i++)
        ck_assert_ptr_null(hk_ace_alloc(self, HUGE, 16, false, SITE));
    fake_os_fail_all(FAKE_MAP, 0);
    ck_assert_uint_eq(hk_meta_touched_bytes(), touched);
}
END_TEST

START_TEST(changing_sizes_join)
{
    char *p[8];

    for (unsigned i = 0; i < 8; i++)
        p[i] = get(BIG + i * HK_MIB / 4);
    for (unsigned i = 0; i < 8; i++)
        put(p[i]);
    ck_assert_uint_eq(hk_bigcache_bytes(), 0);
    size_t dirty = hk_arena_dirty_bytes();
    unsigned maps = fake_os_calls(FAKE_MAP);
    char *q = get(7 * BIG); /* larger than any of them */
    ck_assert_uint_le(dirty - hk_arena_dirty_bytes(), 8 * BIG);
    ck_assert_uint_ge(dirty - hk_arena_dirty_bytes(), 3 * BIG); /* the fake does not place new mappings before old */
    ck_assert_uint_le(fake_os_calls(FAKE_MAP), maps + 1);
    put(q);
}
END_TEST

START_TEST(without_the_cache_each_is_mapped_and_unmapped)
{
    hk_policy_builtin.cache_big = false;
    hk_policy_builtin.batch = false;
    put(get(BIG));
    unsigned maps = fake_os_calls(FAKE_MAP), unmaps = fake_os_calls(FAKE_UNMAP);
    size_t mapped = fake_os_mapped_bytes();
    for (int i = 0; i < 20; i++) {
        char *p = get(BIG); /* none of them the arena's */
        put(p);
        ck_assert_uint_eq(fake_os_mapped_bytes(), mapped);
        must_be(p, HK_BLOCK_DEAD);
    }
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), maps + 20);
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), unmaps + 20);
    ck_assert_uint_eq(hk_bigcache_bytes(), 0);
}
END_TEST

START_TEST(batched_unmaps_come_together)
{
    void *p[5];

    hk_policy_builtin.cache_big = false;
    get(BIG); /* the page map is there */
    for (int i = 0; i < 5; i++)
        p[i] = get(BIG);
    for (int i = 0; i < 5; i++)
        put(p[i]);
    ck_assert_uint_eq(hk_batch_counters()->nr_queued, 5);
    ck_assert_uint_ge(hk_batch_pending_bytes(), 5 * BIG);
    unsigned unmaps = fake_os_calls(FAKE_UNMAP);
    hk_batch_flush();
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), unmaps + 1); /* neighbours */
    hk_batch_check();
}
END_TEST

START_TEST(big_live_bytes_are_counted)
{
    size_t before = hk_ace_live_bytes(), mapped = fake_os_mapped_bytes();
    void *p = get(10 * HK_MIB);

    ck_assert_uint_ge(hk_ace_live_bytes() - before, 10 * HK_MIB);
    ck_assert_uint_le(hk_ace_live_bytes() - before, fake_os_mapped_bytes() - mapped);
    put(p);
    ck_assert_uint_eq(hk_ace_live_bytes(), before);
    ck_assert_uint_ge(hk_ace_cached_bytes(), 10 * HK_MIB);
}
END_TEST

/* ---- guard pages --------------------------------------------------------------------------- */

static const size_t guarded_sizes[] = {2 * HK_MIB, BIG, 20 * HK_MIB, HUGE};

/* One, right behind what may be used, and none elsewhere but `others`. */
static void must_end_in_a_guard(char *p, unsigned others)
{
    size_t usable = hk_ace_usable(p, SITE);

    ck_assert(!fake_os_is_guarded(p + usable - hk_os_page_bytes()));
    ck_assert(fake_os_is_guarded(p + usable));
    ck_assert_uint_eq(fake_os_guarded_bytes(), (1 + others) * hk_os_page_bytes());
}

START_TEST(a_big_block_ends_in_a_guard_page)
{
    size_t n = guarded_sizes[_i];
    char *p = get(n), *small = get(HK_MIB);

    must_end_in_a_guard(p, 0);
    put(p);
    put(small);
    hk_ace_purge(self);
    ck_assert_uint_eq(fake_os_guarded_bytes(), 0);
    ck_assert_uint_eq(fake_os_violations(), 0);
    hk_ace_check(self);
}
END_TEST

/* The memory of one serves blocks of other sizes. */
/* What a report of an access there says. */
START_TEST(whose_guard_page_it_is)
{
    char *p = get(BIG);
    size_t usable = hk_ace_usable(p, SITE);
    const void *site = NULL;
    struct hk_block b = {.start = NULL};

    ck_assert(!hk_ace_guards(p + usable - 1, &b, &site));
    ck_assert(!hk_ace_guards(&b, &b, &site));
    ck_assert(hk_ace_guards(p + usable, &b, &site));
    ck_assert_ptr_eq(b.start, p);
    ck_assert_uint_eq(b.usable, usable);
    ck_assert_ptr_eq(site, SITE);
    ck_assert(hk_ace_guards(p + usable + hk_os_page_bytes() - 1, &b, &site));
    put(p);
    ck_assert(!hk_ace_guards(p + usable, &b, &site));
}
END_TEST

START_TEST(guard_pages_are_in_nobodys_way)
{
    char *p[20];

    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 20; i++) {
            size_t n = HK_MIB / 4 * (1 + (i * 7 + round * 3) % 40);
            p[i] = get(n);
            fill(p[i], n, i);
        }
        for (unsigned i = 0; i < 20; i++)
            put(p[(i * 13 + round) % 20]);
    }
    hk_ace_purge(self);
    ck_assert_uint_eq(fake_os_guarded_bytes(), 0);
    hk_ace_check(self);
}
END_TEST

START_TEST(a_cached_range_keeps_its_guard)
{
    unsigned calls = 0;

    for (unsigned i = 0; i < 10; i++) {
        char *p = get(BIG);
        must_end_in_a_guard(p, 0);
        put(p);
        if (i == 2) /* that the site asks for the same again is known by then */
            calls = fake_os_calls(FAKE_GUARD);
    }
    ck_assert_uint_eq(fake_os_calls(FAKE_GUARD), calls);
}
END_TEST

START_TEST(the_guard_follows_the_end)
{
    static const unsigned percent[] = {130, 90, 100, 300, 95, 96};
    size_t n = guarded_sizes[_i], kept = n;
    char *p = get(n);

    fill(p, n, 9);
    for (unsigned i = 0; i < 6; i++) {
        size_t size = n / 100 * percent[i] + HK_MIB;
        p = hk_ace_realloc(self, p, size, SITE);
        kept = hk_min(kept, size);
        must_hold(p, kept, n, 9);
        must_end_in_a_guard(p, 0);
    }
    put(p);
    hk_ace_check(self);
    ck_assert_uint_eq(fake_os_violations(), 0);
}
END_TEST

START_TEST(without_guard_pages)
{
    int way = _i;
    char *p;

    if (way == 0)
        fake_os_fail_all(FAKE_GUARD, EINVAL); /* an older kernel */
    else
        hk_config.big_guard = 0;
    for (unsigned i = 0; i < 10; i++) {
        p = get(guarded_sizes[i % 4] + i * 100000);
        fill(p, hk_ace_usable(p, SITE), i);
        p = hk_ace_realloc(self, p, 30 * HK_MIB, SITE);
        fill(p, hk_ace_usable(p, SITE), i);
        put(p);
    }
    ck_assert_uint_eq(fake_os_calls(FAKE_GUARD), way == 0 ? 4 : 0); /* soon left alone */
    ck_assert_uint_eq(fake_os_guarded_bytes(), 0);
    hk_ace_check(self);
}
END_TEST

/* A sandbox that comes later refuses to take them away: what they lie in is lost, and no more than that. */
START_TEST(a_guard_page_that_stays)
{
    size_t n = guarded_sizes[_i], lost = hk_os_counters.lost_bytes;
    char *p = get(n), *q = get(n), *guard = p + hk_ace_usable(p, SITE);

    fill(p, n, 3);
    fake_os_fail_all(FAKE_GUARD, EPERM);
    put(q);
    p = hk_ace_realloc(self, p, 2 * n, SITE);
    must_hold(p, n, n, 3);
    hk_ace_check(self);
    for (unsigned i = 0; i < 40; i++) {
        q = get(HK_MIB / 2 * (1 + i % 8));
        fill(q, hk_ace_usable(q, SITE), i);
        put(q);
    }
    put(p);
    hk_ace_purge(self);
    hk_ace_check(self);
    if (n < HK_ARENA_MAX) {
        ck_assert(fake_os_is_guarded(guard));
        ck_assert_uint_eq(hk_os_counters.lost_bytes - lost, 2 * HK_GRANULE);
    } else {
        ck_assert(fake_os_none_mapped(guard, hk_os_page_bytes()));
        ck_assert_uint_eq(hk_os_counters.lost_bytes, lost);
    }
    ck_assert_uint_eq(fake_os_violations(), 0);
}
END_TEST

/* Nobody may write where it lies, so the mapping is cut again; where even that is refused, what came is lost. */
START_TEST(a_mapping_whose_guard_stays_does_not_grow)
{
    size_t lost = hk_os_counters.lost_bytes, usable, mapped;
    char *p;

    put(get(HUGE)); /* the page map is there */
    hk_ace_purge(self);
    p = get(HUGE);
    usable = hk_ace_usable(p, SITE);
    mapped = fake_os_mapped_bytes();
    must_end_in_a_guard(p, 0);
    fake_os_fail_all(FAKE_GUARD, EPERM);
    if (_i)
        fake_os_fail(FAKE_REMAP, 2, ENOMEM);
    ck_assert(!hk_ace_resize(self, p, 2 * HUGE, SITE));
    ck_assert_uint_eq(fake_os_calls(FAKE_REMAP), 2);
    ck_assert_uint_eq(hk_ace_usable(p, SITE), usable);
    ck_assert_uint_eq(hk_os_counters.lost_bytes - lost, _i ? hk_align_up(HUGE, HK_MIB) : 0);
    ck_assert_uint_eq(fake_os_mapped_bytes() - mapped, hk_os_counters.lost_bytes - lost);
    fake_os_fail_all(FAKE_GUARD, 0);
    put(p);
    hk_ace_purge(self);
}
END_TEST

/* ---- loans --------------------------------------------------------------------------------- */

static void *wall[16];

/* Live blocks with a dirty hole behind each, none of which holds 12 MiB, all of them together do. */
static void scatter(void)
{
    char *hole[8];

    for (unsigned i = 0; i < 8; i++) {
        wall[i] = get(BIG);
        hole[i] = get(BIG + 65536); /* no size twice in a row: to the arena, not to the ring */
        fill(hole[i], BIG, i);
    }
    wall[8] = get(BIG);
    for (unsigned i = 0; i < 8; i++)
        put(hole[i]);
    for (unsigned i = 0; i < 9; i++)
        fill(wall[i], BIG, 100 + i);
}

static void walls_must_hold(void)
{
    for (unsigned i = 0; i < 9; i++)
        must_hold(wall[i], BIG, BIG, 100 + i);
}

START_TEST(scattered_pages_make_a_block)
{
    size_t dirty, mapped, n = 12 * HK_MIB;
    struct hk_arena_stats stats;

    scatter();
    dirty = hk_arena_dirty_bytes();
    mapped = fake_os_mapped_bytes();
    char *p = get(n);
    hk_arena_stats(&stats);
    ck_assert_uint_ge(stats.nr_borrowed, 4);
    ck_assert_uint_ge(stats.busy_bytes, n);
    ck_assert_uint_le(hk_arena_dirty_bytes(), dirty - n);
    fill(p, n, 50);
    must_be(p, HK_BLOCK_LIVE);
    must_be(p + n / 2, HK_BLOCK_INTERIOR);
    walls_must_hold();
    ck_assert(!hk_ace_resize(self, p, 2 * n, SITE)); /* several mappings to the kernel */
    ck_assert_ptr_eq(hk_ace_realloc(self, p, n / 4 * 3, SITE), p);
    must_hold(p, n / 4 * 3, n, 50);
    hk_ace_check(self);
    put(p);
    must_be(p, HK_BLOCK_DEAD);
    hk_arena_stats(&stats);
    ck_assert_uint_eq(stats.busy_bytes, 0);
    ck_assert_uint_eq(hk_arena_dirty_bytes(), dirty); /* its pages are home */
    ck_assert_uint_eq(fake_os_mapped_bytes(), mapped);
    walls_must_hold();
}
END_TEST

START_TEST(a_loan_is_had_again_when_it_is_repaid)
{
    struct hk_arena_stats stats;
    size_t before;

    scatter();
    for (int round = 0; round < 5; round++) {
        hk_arena_stats(&stats);
        before = stats.nr_borrowed;
        char *p = get(12 * HK_MIB);
        hk_arena_stats(&stats);
        ck_assert_uint_gt(stats.nr_borrowed, before);
        put(p);
        hk_batch_flush();
    }
    walls_must_hold();
}
END_TEST

START_TEST(a_borrowed_block_grows_by_a_copy)
{
    scatter();
    char *p = get(12 * HK_MIB), *q;
    fill(p, 12 * HK_MIB, 50);
    q = hk_ace_realloc(self, p, 40 * HK_MIB, SITE);
    must_hold(q, 12 * HK_MIB, 12 * HK_MIB, 50);
    must_be(p, HK_BLOCK_DEAD);
    put(q);
    walls_must_hold();
}
END_TEST

/* By a copy, too: a hundredth of it would keep all of its pages. */
START_TEST(a_borrowed_block_shrinks)
{
    struct hk_arena_stats stats;

    scatter();
    char *p = get(12 * HK_MIB), *q;
    hk_arena_stats(&stats);
    size_t busy = stats.busy_bytes;
    ck_assert_uint_ge(busy, 12 * HK_MIB);
    fill(p, 12 * HK_MIB, 50);
    ck_assert(!hk_ace_resize(self, p, 100000, SITE));
    q = hk_ace_realloc(self, p, 100000, SITE);
    must_hold(q, 100000, 12 * HK_MIB, 50);
    must_be(p, HK_BLOCK_DEAD);
    hk_arena_stats(&stats);
    ck_assert_uint_eq(stats.busy_bytes, 0);
    put(q);
    walls_must_hold();
}
END_TEST

/* The kernel refuses one move on the way in, or all; or on the way home. From 6 on it takes the target away first. */
START_TEST(loans_refused)
{
    struct hk_arena_stats stats;

    scatter();
    size_t dirty = hk_arena_dirty_bytes(), n = 12 * HK_MIB;
    if (_i < 3)
        fake_os_fail(FAKE_REMAP, 1 + (unsigned)_i, EINVAL);
    else if (_i == 3)
        fake_os_fail_all(FAKE_REMAP, EINVAL);
    else if (_i >= 8)
        fake_os_fail(FAKE_REMAP, (unsigned)_i - 7, EFAULT);
    char *p = get(n);
    fill(p, n, 50);
    hk_ace_check(self);
    walls_must_hold();
    if (_i == 4)
        fake_os_fail(FAKE_REMAP, 2, ENOMEM);
    if (_i == 5)
        fake_os_fail_all(FAKE_REMAP, ENOMEM);
    if (_i == 6)
        fake_os_fail(FAKE_REMAP, 2, EFAULT);
    if (_i == 7)
        fake_os_fail_all(FAKE_REMAP, EFAULT);
    must_hold(p, n, n, 50);
    put(p);
    hk_arena_stats(&stats);
    ck_assert_uint_eq(stats.busy_bytes, 0);
    ck_assert_uint_le(hk_arena_dirty_bytes(), dirty + (_i == 3 || _i >= 8 ? n + HK_MIB : 0));
    if (_i >= 4 && _i < 8)
        ck_assert_uint_lt(hk_arena_dirty_bytes(), dirty); /* what stayed behind is unmapped */
    ck_assert_int_eq(stats.lost_bytes != 0, _i >= 4 && _i < 8); /* ENOMEM does not say either */
    fake_os_fail_all(FAKE_REMAP, 0);
    walls_must_hold();
    p = hk_ace_alloc(self, 20 * HK_MIB, 16, true, SITE); /* what says it is zero is */
    for (size_t at = 0; at < 20 * HK_MIB; at += 64)
        if (p[at])
            ck_abort_msg("byte %zu is not zero", at);
    put(p);
}
END_TEST

START_TEST(a_kernel_without_the_call_is_soon_left_alone)
{
    scatter();
    fake_os_fail_all(FAKE_REMAP, EINVAL);
    unsigned nr = 0;
    for (int i = 0; i < 100; i++) {
        unsigned before = fake_os_calls(FAKE_REMAP);
        char *p = get(12 * HK_MIB + (size_t)(i % 7) * HK_MIB / 2);
        nr += fake_os_calls(FAKE_REMAP) != before;
        put(p);
        hk_arena_purge_to(0);
        for (unsigned w = 0; w < 8; w += 1 + (unsigned)i % 2) { /* scattered again */
            put(wall[w]);
            wall[w] = get(BIG);
        }
    }
    ck_assert_uint_le(nr, 8);
}
END_TEST

/* ---- memory goes back ---------------------------------------------------------------------- */

static void *block[6000];

static void get_many(size_t n, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        block[i] = get(n);
        memset(block[i], 0x5a, hk_min(n, 4096));
    }
}

static void put_many(unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        put(block[i]);
}

/* What the library promises of free itself: max(floor, 10 % of live). */
static size_t bound(void)
{
    return hk_max(hk_policy_builtin.purge_floor_bytes, hk_ace_live_bytes() / 10);
}

START_TEST(free_trims_above_the_bound)
{
    size_t n = tiers[_i];
    unsigned nr = (unsigned)hk_min(6000, 60 * HK_MIB / n);

    hk_policy_builtin.purge_floor_bytes = 4 * HK_MIB;
    get_many(n, nr);
    for (unsigned i = 0; i < nr; i++) {
        put(block[i]);
        if (hk_ace_cached_bytes() > bound())
            ck_abort_msg("%zu cached, bound %zu", hk_ace_cached_bytes(), bound());
    }
    hk_ace_check(self);
}
END_TEST

/* Of a thread that is gone, by another. */
START_TEST(remote_free_trims_above_the_bound)
{
    hk_policy_builtin.purge_floor_bytes = 4 * HK_MIB;
    get_many(3000, 6000);
    hk_heap_park(self);
    for (unsigned i = 0; i < 6000; i++) {
        if (_i)
            ck_assert(hk_ace_free_remote(other, block[i], hk_pagemap_word(block[i])));
        else
            hk_ace_free(NULL, block[i], SITE);
        if (hk_ace_cached_bytes() > bound())
            ck_abort_msg("%u: %zu cached, bound %zu", i, hk_ace_cached_bytes(), bound());
    }
    self = hk_heap_adopt();
    hk_ace_check(self);
}
END_TEST

START_TEST(below_the_bound_free_makes_no_system_call)
{
    for (int round = 0; round < 10; round++) {
        unsigned before = fake_os_calls(FAKE_UNMAP) + fake_os_calls(FAKE_ADVISE);
        get_many(100000, 50);
        if (round == 0)
            before = fake_os_calls(FAKE_UNMAP) + fake_os_calls(FAKE_ADVISE);
        put_many(50);
        ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP) + fake_os_calls(FAKE_ADVISE), before);
    }
}
END_TEST

/* The clock is looked at every few calls. */
static void tick(struct hk_heap *heap, uint64_t ns)
{
    fake_clock_advance(ns);
    for (int i = 0; i < 16; i++)
        hk_ace_tick(heap);
}

/* The eighth of the bound that is left for magazines and slabs, when they are known to be nearly empty. */
START_TEST(what_heaps_do_not_hold_may_stay_cached)
{
    enum { SMALL = 4000 };
    size_t most = 32 * HK_MIB;
    static void *small[SMALL];

    hk_policy_builtin.purge_floor_bytes = most;
    get_many(BIG, 20);
    put_many(10);
    ck_assert_uint_le(hk_ace_cached_bytes(), most / 8 * 7); /* nobody has looked */
    tick(self, 30 * MS);
    get_many(BIG, 10);
    put_many(10);
    for (unsigned i = 10; i < 20; i++)
        put(block[i]);
    ck_assert_uint_le(hk_ace_cached_bytes(), most);
    ck_assert_uint_ge(hk_ace_cached_bytes(), most / 16 * 15);

    for (unsigned i = 0; i < SMALL; i++)
        small[i] = get(3000);
    for (unsigned i = 0; i < SMALL; i += 2)
        put(small[i]);
    hk_heap_flush_all(self);
    ck_assert_uint_gt(hk_heap_held_bytes(2), most / 8);
    ck_assert_uint_eq(hk_heap_held_bytes(1), SIZE_MAX);
    tick(self, 30 * MS);
    get_many(BIG, 20);
    put_many(20);
    ck_assert_uint_le(hk_ace_cached_bytes(), most / 8 * 7);
}
END_TEST

START_TEST(dirty_memory_goes_after_the_delay)
{
    tick(self, 1);
    get_many(3000, 500);
    void *kept = get(3000); /* so that the region is not wholly free */
    put_many(500);
    hk_heap_flush_all(self);
    size_t dirty = hk_span_dirty_bytes();
    ck_assert_uint_gt(dirty, HK_MIB);
    tick(self, 200 * MS);
    ck_assert_uint_ge(hk_span_dirty_bytes(), dirty);
    tick(self, 150 * MS);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
    put(kept);
}
END_TEST

START_TEST(idle_magazines_and_runs_go_after_a_second)
{
    tick(self, 1);
    get_many(3000, 100);
    put_many(100);
    put(get(100000));
    for (int i = 0; i < 4; i++)
        tick(self, 1100 * MS);
    ck_assert_uint_eq(hk_span_used_bytes(), 0);
    ck_assert_uint_eq(hk_span_dirty_bytes(), 0);
    ck_assert_uint_eq(hk_ace_cached_bytes(), 0);
}
END_TEST

START_TEST(cached_mappings_go_with_age)
{
    tick(self, 1);
    put(get(BIG));
    put(get(BIG));
    ck_assert_uint_ge(hk_bigcache_bytes(), BIG);
    tick(self, (hk_config.bigcache_age_ms + 100) * MS);
    ck_assert_uint_eq(hk_bigcache_bytes(), 0);
    ck_assert_uint_eq(hk_batch_pending_bytes(), 0);
}
END_TEST

START_TEST(a_tick_without_heap_is_nothing)
{
    hk_ace_tick(NULL);
    ck_assert_uint_eq(self->ticks, 0);
}
END_TEST

START_TEST(parcels_leave_with_a_tick)
{
    void *p = get(HK_CACHE_LINE - 16);

    tick(other, 1);
    hk_ace_free(other, p, SITE);
    ck_assert_ptr_null(self->inbox);
    tick(other, 30 * MS);
    ck_assert_ptr_nonnull(self->inbox);
}
END_TEST

/* What shares no cache line with its neighbours stays with the thread that frees it; mode secure wants all at home. */
START_TEST(block_of_another_heap_is_kept)
{
    static const size_t size[] = {HK_CACHE_LINE - 16, HK_CACHE_LINE, 100, 5000, HK_FAST_MAX};

    for (unsigned i = 0; i < sizeof size / sizeof *size; i++)
        for (unsigned secure = 0; secure < 2; secure++) {
            void *p = get(size[i]);
            hk_config.secure = secure;
            hk_ace_free(other, p, SITE);
            hk_config.secure = false;
            must_be(p, HK_BLOCK_DEAD);
            ck_assert_int_eq(hk_ace_alloc(other, size[i], 16, false, SITE) == p, size[i] >= HK_CACHE_LINE && !secure);
        }
}
END_TEST

/* Of a thread that does nothing but free what others made. */
START_TEST(parcels_tick)
{
    unsigned ticks;

    get_many(100, 1000);
    tick(other, 1);
    ticks = (unsigned)other->ticks;
    for (unsigned i = 0; i < 1000; i++) {
        uintptr_t word = hk_pagemap_word(block[i]);
        ck_assert(hk_ace_free_remote(other, block[i], word));
        ck_assert(!hk_ace_free_remote(other, block[i], word)); /* a second free is for others to tell */
    }
    ck_assert_uint_gt(other->ticks, ticks);
}
END_TEST

START_TEST(purge_gives_everything_back)
{
    size_t live_before = hk_ace_live_bytes();

    for (int i = 0; i < NR_TIERS; i++) {
        get_many(tiers[i], 4);
        put_many(4);
    }
    ck_assert_uint_gt(hk_ace_cached_bytes(), 20 * HK_MIB);
    size_t mapped = fake_os_mapped_bytes(), returned = hk_ace_purge(self);
    ck_assert_uint_ge(returned, 20 * HK_MIB);
    ck_assert_uint_eq(hk_ace_cached_bytes(), 0);
    ck_assert_uint_eq(hk_ace_live_bytes(), live_before);
    ck_assert_uint_lt(fake_os_mapped_bytes(), mapped - 20 * HK_MIB);
    ck_assert_uint_eq(hk_ace_purge(self), 0);
    ck_assert_uint_eq(hk_ace_purge(NULL), 0);
}
END_TEST

START_TEST(an_ended_thread_leaves_little_dirty)
{
    get_many(3000, 3000);
    put_many(3000);
    hk_l25_flush(&self->l25);
    hk_heap_park(self);
    ck_assert_uint_gt(hk_span_dirty_bytes(), 4 * HK_MIB);
    hk_ace_thread_ended(); /* one other is left */
    ck_assert_uint_le(hk_span_dirty_bytes(), 64 * HK_KIB);
    self = hk_heap_adopt();
}
END_TEST

/* Half of the threads are left: half of the bound; one and another: the least. */
START_TEST(threads_that_go_take_their_share_along)
{
    struct hk_heap *more[6];

    for (int i = 0; i < 6; i++)
        more[i] = hk_heap_adopt();
    get_many(60000, 400);
    put_many(400);
    hk_heap_flush_all(self);
    hk_l25_flush(&self->l25);
    ck_assert_uint_gt(hk_ace_cached_bytes(), 20 * HK_MIB);
    hk_heap_park(more[0]);
    hk_ace_thread_ended(); /* 7 of 8 */
    ck_assert_uint_gt(hk_ace_cached_bytes(), 20 * HK_MIB);
    for (int i = 1; i < 4; i++)
        hk_heap_park(more[i]);
    hk_ace_thread_ended(); /* 4 of 8 */
    ck_assert_uint_le(hk_ace_cached_bytes(), 16 * HK_MIB);
    ck_assert_uint_gt(hk_ace_cached_bytes(), 8 * HK_MIB);
    hk_heap_park(more[4]);
    hk_heap_park(more[5]);
    hk_ace_thread_ended(); /* 2 of 8: between the least and the next */
    ck_assert_uint_le(hk_ace_cached_bytes(), 8 * HK_MIB);
    ck_assert_uint_gt(hk_ace_cached_bytes(), 3 * HK_MIB);
}
END_TEST

/* ---- no memory ----------------------------------------------------------------------------- */

START_TEST(alloc_gives_up_its_caches_first)
{
    put(get(10 * HK_MIB));
    ck_assert_uint_gt(hk_ace_cached_bytes(), 0);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    ck_assert_ptr_null(hk_ace_alloc(self, 20 * HK_MIB, 16, false, SITE));
    fake_os_fail_all(FAKE_MAP, 0);
    put(get(10 * HK_MIB));
    fake_os_fail(FAKE_MAP, 1, ENOMEM);
    void *p = get(20 * HK_MIB); /* the second try is granted */
    ck_assert_uint_eq(hk_ace_cached_bytes(), 0);
    put(p);
}
END_TEST

START_TEST(no_memory_is_a_result)
{
    unsigned nr = 0;

    get_many(3000, 100);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (int i = NR_TIERS; i-- > 0;)
        while (nr < 5000 && (block[100 + nr] = hk_ace_alloc(self, tiers[i], 16, true, SITE)))
            nr++;
    ck_assert_uint_lt(nr, 5000);
    ck_assert_ptr_null(hk_ace_alloc(other, BIG, 16, false, SITE));
    ck_assert_ptr_null(hk_ace_alloc(NULL, BIG, 16, false, SITE));
    hk_ace_check(self);
    put_many(100);
    ck_assert_ptr_nonnull(hk_ace_alloc(self, 3000, 16, false, SITE)); /* usable on */
    for (unsigned i = 0; i < nr; i++)
        put(block[100 + i]);
    fake_os_fail_all(FAKE_MAP, 0);
    put(get(BIG));
}
END_TEST

START_TEST(nth_map_refused)
{
    unsigned nr_failed = 0;

    fake_os_fail(FAKE_MAP, (unsigned)_i, ENOMEM);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < NR_TIERS; i++) {
            void *p = hk_ace_alloc(self, tiers[i], 16, false, SITE);
            nr_failed += !p;
            if (p)
                put(p);
        }
    ck_assert_uint_eq(nr_failed, 0); /* the second try had it */
    hk_ace_purge(self);
    ck_assert_uint_eq(hk_ace_live_bytes(), 0);
}
END_TEST

/* The first block is one of the largest: its descriptor, the mapping, its part of the page map. */
START_TEST(nth_map_refused_to_a_mapping)
{
    char *p;

    fake_os_fail(FAKE_MAP, (unsigned)_i, ENOMEM);
    p = get(HUGE); /* the second try had it */
    ck_assert_uint_ge(fake_os_calls(FAKE_MAP), (unsigned)_i);
    must_be(p, HK_BLOCK_LIVE);
    ck_assert_uint_lt(fake_os_mapped_bytes(), 2 * HUGE); /* not the first one too */
    put(p);
}
END_TEST

START_TEST(unmap_and_advise_refused)
{
    static const int errors[] = {ENOMEM, EINVAL, EPERM};

    fake_os_fail_all(FAKE_UNMAP, errors[_i]);
    fake_os_fail_all(FAKE_ADVISE, errors[_i]);
    hk_policy_builtin.purge_floor_bytes = HK_MIB;
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < NR_TIERS - 1; i++) { /* the fake has no room for all of HUGE */
            get_many(tiers[i], 10);
            put_many(10);
            tick(self, 1100 * MS);
        }
    hk_ace_purge(self);
    hk_ace_check(self);
    fake_os_fail_all(FAKE_UNMAP, 0);
    fake_os_fail_all(FAKE_ADVISE, 0);
    get_many(100000, 20); /* queues what is dirty anew */
    put_many(20);
    hk_ace_purge(self);
    ck_assert_uint_eq(hk_ace_live_bytes(), 0);
    ck_assert_uint_eq(hk_batch_pending_bytes(), 0);
    ck_assert_uint_eq(hk_batch_counters()->nr_lost_bytes, 0);
}
END_TEST

/* ---- loose blocks -------------------------------------------------------------------------- */

START_TEST(loose_blocks)
{
    unsigned maps = fake_os_calls(FAKE_MAP);
    char *p = hk_ace_loose_alloc(100, 16), *q = hk_ace_loose_alloc(40000, 65536);

    ck_assert_ptr_nonnull(p);
    ck_assert_ptr_nonnull(q);
    ck_assert_uint_ge(fake_os_calls(FAKE_MAP), maps + 2);
    ck_assert_uint_eq((uintptr_t)q % 65536, 0);
    ck_assert_uint_ge(hk_ace_usable(p, SITE), 100);
    ck_assert_uint_ge(hk_ace_usable(q, SITE), 40000);
    must_be(p, HK_BLOCK_LIVE);
    must_be(p + 16, HK_BLOCK_INTERIOR);
    must_be(p + 3, HK_BLOCK_MISALIGNED);
    fill(q, 40000, 8);
    ck_assert(hk_ace_resize(self, q, 100, SITE));
    ck_assert(!hk_ace_resize(self, q, 100000, SITE));
    char *moved = hk_ace_realloc(self, q, 100000, SITE);
    ck_assert_ptr_ne(moved, q);
    must_hold(moved, 40000, 40000, 8);
    must_be(q, HK_BLOCK_DEAD);
    ck_assert(hk_ace_loose_free(p));
    must_be(p, HK_BLOCK_DEAD);
    ck_assert(!hk_ace_loose_free(p));
    ck_assert(!hk_ace_loose_free(moved));
    ck_assert(!hk_ace_loose_free(moved + 16));
    put(moved);
    p = hk_ace_loose_alloc(0, 16);
    hk_ace_free(NULL, p, SITE);
    must_be(p, HK_BLOCK_DEAD);
}
END_TEST

/* The nth call of the kernel is refused: the block's own, then its part of the page map. Nothing stays behind. */
START_TEST(loose_blocks_that_cannot_be_had)
{
    size_t mapped = fake_os_mapped_bytes();
    unsigned nr_refused = 0;

    for (;; nr_refused++) {
        fake_os_fail(FAKE_MAP, nr_refused + 1, ENOMEM);
        if (hk_ace_loose_alloc(100, 16))
            break;
        ck_assert_uint_eq(fake_os_mapped_bytes(), mapped);
        ck_assert_uint_eq(hk_ace_counters.loose_bytes, 0);
    }
    ck_assert_uint_ge(nr_refused, 2);
    ck_assert_uint_gt(hk_ace_counters.loose_bytes, 0);
}
END_TEST

/* ---- fork ---------------------------------------------------------------------------------- */

static void child_works(void)
{
    hk_ace_fork_child(self, false);
    hk_ace_check(self);
    for (int i = 0; i < NR_TIERS; i++)
        put(get(tiers[i]));
    hk_ace_free(self, victim, SITE); /* of the thread that is gone */
    hk_ace_purge(self);
    if (hk_ace_live_bytes() || other->state != HK_HEAP_PARKED)
        _exit(1);
}

START_TEST(fork_takes_every_lock_and_gives_it_back)
{
    struct hk_lock *const locks[] = {hk_l25_lock(0), hk_l25_lock(3), hk_bigcache_lock(),
                                     &hk_batch_lock, &hk_arena_lock, &hk_span_lock, &hk_meta_lock,
                                     &self->lock, &other->lock};

    victim = hk_ace_alloc(other, 100, 16, false, SITE);
    hk_ace_fork_prepare(false, NULL);
    for (size_t i = 0; i < sizeof locks / sizeof *locks; i++)
        ck_assert(hk_lock_is_mine(locks[i]));
    struct child child = run_child(child_works);
    hk_ace_fork_parent();
    for (size_t i = 0; i < sizeof locks / sizeof *locks; i++)
        ck_assert(!hk_lock_is_mine(locks[i]));
    ck_assert_msg(child_exited_0(&child), "status %x, said '%s'", (unsigned)child.status,
                  child.text);
    put(victim);
}
END_TEST

static void child_of_interrupted_purge(void)
{
    hk_ace_fork_child(self, true);
    if (!hk_lock_is_mine(&hk_span_lock) || hk_lock_is_mine(&hk_meta_lock))
        _exit(1);
    hk_unlock(&hk_span_lock);
    put(get(100));
}

START_TEST(fork_leaves_a_lock_to_its_holder)
{
    hk_lock(&hk_span_lock);
    hk_ace_fork_prepare(true, NULL);
    struct child child = run_child(child_of_interrupted_purge);
    hk_ace_fork_parent();
    ck_assert_msg(child_exited_0(&child), "status %x, said '%s'", (unsigned)child.status,
                  child.text);
    ck_assert(hk_lock_is_mine(&hk_span_lock));
    hk_unlock(&hk_span_lock);
}
END_TEST

/* Every lock is held by a thread that never lets go, another one that forks from a handler. */
static struct hk_lock *const global_locks[] = {&hk_batch_lock, &hk_arena_lock, &hk_span_lock, &hk_meta_lock};
#define NR_GLOBAL_LOCKS (sizeof global_locks / sizeof *global_locks)

static void child_forgets(void)
{
    static char *p[200];

    hk_ace_fork_child(self, true);
    for (unsigned i = 0; i < 200; i++) {
        p[i] = get(i % 8 ? 1000 : 1000 + tiers[i / 8 % NR_TIERS]);
        memset(p[i], (int)i, 1000);
    }
    put(victim); /* of before */
    for (unsigned i = 0; i < 200; i++)
        if (p[i][0] != (char)i || p[i][999] != (char)i)
            _exit(2);
    for (unsigned i = 0; i < 200; i++)
        put(p[i]);
    hk_ace_purge(self);
    hk_ace_check(self);
    for (int i = 0; i < NR_TIERS; i++)
        put(get(tiers[i]));
}

static unsigned nr_outer_locked, nr_outer_unlocked;

static void lock_outer(void)
{
    nr_outer_locked++;
}

static void unlock_outer(void)
{
    nr_outer_unlocked++;
}

START_TEST(fork_forgets_what_is_never_let_go)
{
    static const struct hk_fork_outer outer = {lock_outer, unlock_outer};

    victim = get(300000);
    for (int i = 0; i < NR_TIERS; i++)
        put(get(tiers[i]));
    for (size_t i = 0; i < NR_GLOBAL_LOCKS; i++)
        global_locks[i]->word = (uintptr_t)&self;
    hk_bigcache_lock()->word = hk_l25_lock(1)->word = (uintptr_t)&self;
    nr_outer_locked = nr_outer_unlocked = 0;
    hk_ace_fork_prepare(true, &outer);
    ck_assert_uint_gt(nr_outer_unlocked, 0); /* whoever holds ours may be waiting for it */
    ck_assert_uint_eq(nr_outer_locked, nr_outer_unlocked + 1);
    struct child child = run_child(child_forgets);
    hk_ace_fork_parent();
    for (size_t i = 0; i < NR_GLOBAL_LOCKS; i++) {
        ck_assert_uint_eq(global_locks[i]->word & ~(uintptr_t)1, (uintptr_t)&self);
        global_locks[i]->word = 0;
    }
    hk_bigcache_lock()->word = hk_l25_lock(1)->word = 0;
    ck_assert_msg(child_exited_0(&child), "status %x, said '%s'", (unsigned)child.status,
                  child.text);
    put(victim);
}
END_TEST

/* ---- a random life ------------------------------------------------------------------------- */

#define NR_LIVE 150

static struct {
    char *p;
    size_t n; /* filled */
    uint64_t id;
} live[NR_LIVE];

static size_t random_size(void)
{
    switch (below(8)) {
    case 0:
        return 1 + below(4 * HK_MIB);
    case 1:
    case 2:
        return 1 + below(300000);
    default:
        return 1 + below((size_t)16 << below(12));
    }
}

static struct hk_heap *anybody(void)
{
    struct hk_heap *const who[] = {self, self, other, NULL};

    return who[below(4)];
}

static void must_be_intact(unsigned i)
{
    must_hold(live[i].p, live[i].n, live[i].n, live[i].id);
    if (one_in(16))
        must_be(live[i].p, HK_BLOCK_LIVE);
}

static void refill(unsigned i, size_t n)
{
    live[i].n = n;
    live[i].id = next_random();
    fill(live[i].p, n, live[i].id);
}

static void step_alloc(unsigned i)
{
    size_t n = random_size(), align = one_in(4) ? (size_t)16 << below(12) : 16;
    bool zero = one_in(3);

    live[i].p = hk_ace_alloc(anybody(), n, align, zero, SITE);
    if (!live[i].p)
        return;
    ck_assert_uint_eq((uintptr_t)live[i].p & (align - 1), 0);
    for (size_t at = 0; zero && at < n; at += 1 + n / 200)
        if (live[i].p[at])
            ck_abort_msg("%zu bytes: byte %zu is not zero", n, at);
    refill(i, n);
}

static void step_realloc(unsigned i)
{
    size_t n = random_size();
    char *q = hk_ace_realloc(anybody(), live[i].p, n, SITE);

    if (!q)
        return;
    must_hold(q, hk_min(n, live[i].n), live[i].n, live[i].id);
    live[i].p = q;
    refill(i, n);
}

static void step_other(void)
{
    switch (below(5)) {
    case 0:
        tick(one_in(2) ? self : other, below(2000) * MS);
        break;
    case 1:
        hk_ace_purge(anybody());
        break;
    case 2:
        hk_ace_background(self);
        break;
    case 3: /* a thread ends, another begins */
        hk_l25_flush(&other->l25);
        hk_heap_park(other);
        hk_ace_thread_ended();
        other = hk_heap_adopt();
        ck_assert_ptr_nonnull(other);
        break;
    default:
        hk_heap_reclaim(anybody());
        break;
    }
}

START_TEST(random_blocks)
{
    bool refusals = _i % 2;

    start_random((unsigned)_i);
    hk_policy_builtin.purge_floor_bytes = 8 * HK_MIB;
    hk_policy_builtin.cache_big = _i < 2;
    for (int step = 0; step < 6000; step++) {
        unsigned i = (unsigned)below(NR_LIVE);
        if (refusals && one_in(30))
            fake_os_fail((enum fake_call)below(FAKE_NR_CALLS), 1 + (unsigned)below(2), ENOMEM);
        if (one_in(100)) {
            step_other();
        } else if (!live[i].p) {
            step_alloc(i);
        } else if (one_in(3)) {
            must_be_intact(i);
            step_realloc(i);
        } else {
            must_be_intact(i);
            hk_ace_free(anybody(), live[i].p, SITE);
            live[i].p = NULL;
        }
        if (step % 500 == 0) {
            hk_ace_check(self);
            hk_ace_check(other);
        }
    }
    for (unsigned i = 0; i < NR_LIVE; i++)
        if (live[i].p) {
            must_be_intact(i);
            hk_ace_free(anybody(), live[i].p, SITE);
        }
    for (int i = 0; i < 3; i++) {
        hk_ace_purge(self);
        hk_ace_purge(other);
    }
    ck_assert_uint_eq(self->stats.nr_lost + other->stats.nr_lost, 0);
    ck_assert_uint_eq(hk_ace_live_bytes(), 0);
}
END_TEST

/* ---- negative control ---------------------------------------------------------------------- */

static void break_the_batch(void)
{
    ((struct hk_batch_counters *)(uintptr_t)hk_batch_counters())->pending_bytes++;
    hk_ace_check(self);
}

static void break_the_heap(void)
{
    self->record[3].cursor = self->record[3].limit + 1;
    hk_ace_check(self);
}

START_TEST(check_looks_into_every_box)
{
    put(get(64));
    must_panic(break_the_batch, "batch: pending bytes");
    must_panic(break_the_heap, "heap: magazine bounds");
}
END_TEST

/* Its descriptor may be another block's by the next moment. */
START_TEST(a_dead_big_block_is_no_longer_in_the_page_map)
{
    static const size_t sizes[] = {BIG, HUGE};

    hk_policy_builtin.cache_big = _i / 2 != 0;
    for (int round = 0; round < 3; round++) { /* the second time the site repeats, and the range is cached */
        char *p = get(sizes[_i % 2]);
        ck_assert_uint_eq(hk_pagemap_word(p), HK_PM_BIG);
        put(p);
        ck_assert_uint_ne(hk_pagemap_word(p), HK_PM_BIG);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ace");
    TCase *tc = new_case(suite, "alloc", setup, teardown);

    tcase_add_loop_test(tc, a_dead_big_block_is_no_longer_in_the_page_map, 0, 4);
    tcase_add_test(tc, sizes_find_their_box);
    tcase_add_test(tc, growth_finds_the_same_box);
    tcase_add_test(tc, the_arena_has_blocks_of_up_to_its_largest);
    tcase_add_test(tc, two_blocks_of_nothing_differ);
    tcase_add_loop_test(tc, before_the_first_block_is_a_fence, 0, 3);
    tcase_add_test(tc, every_alignment);
    tcase_add_test(tc, impossible_sizes);
    tcase_add_test(tc, zeroed_is_zero_whatever_was_there);
    tcase_add_test(tc, good_size_is_had);

    tc = new_case(suite, "identify", setup, teardown);
    tcase_add_test(tc, live_blocks_of_every_tier);
    tcase_add_test(tc, dead_blocks_of_every_tier);
    tcase_add_test(tc, foreign_pointers);
    tcase_add_test(tc, a_slab_has_a_tail_that_is_no_block);
    tcase_add_test(tc, the_slot_behind_a_live_block);
    tcase_add_test(tc, colour_is_no_block);
    tcase_add_test(tc, blocks_on_their_way_are_dead);
    tcase_add_test(tc, content_that_looks_like_the_mark);
    tcase_add_test(tc, neighbours_of_a_run);

    tc = new_case(suite, "free", setup, teardown);
    tcase_add_loop_test(tc, misuse_is_named, 0, NR_TIERS);
    tcase_add_loop_test(tc, second_free_from_another_thread, 0, NR_TIERS);
    tcase_add_test(tc, blocks_of_libc_go_to_libc);
    tcase_add_test(tc, anybody_may_free_anything);

    tc = new_case(suite, "realloc", setup, teardown);
    tcase_add_test(tc, realloc_keeps_content_between_all_tiers);
    tcase_add_test(tc, small_blocks_stay_while_half_is_used);
    tcase_add_test(tc, runs_grow_and_shrink_in_place);
    tcase_add_loop_test(tc, what_shrinks_lets_go, 0, 2);
    tcase_add_test(tc, growth_moves_seldom);
    tcase_add_test(tc, small_blocks_that_grow_again);
    tcase_add_test(tc, blocks_that_fit_are_kept_at_a_glance);
    tcase_add_test(tc, big_blocks_grow_in_place_without_a_copy);
    tcase_add_test(tc, mappings_grow_in_place_without_a_copy);
    tcase_add_loop_test(tc, big_blocks_move_by_their_pages, 0, 3);
    tcase_add_loop_test(tc, big_blocks_move_where_the_kernel_likes, 0, 3);
    tcase_add_test(tc, a_run_of_any_colour_grows);
    tcase_add_loop_test(tc, a_move_that_costs_its_target, 0, 3);
    tcase_add_test(tc, a_run_that_cannot_move);
    tcase_add_test(tc, a_mapping_that_shrank_joins_the_arena);
    tcase_add_loop_test(tc, remap_refused, 0, 2);
    tcase_add_test(tc, realloc_without_memory);

    tc = new_case(suite, "big", setup, teardown);
    tcase_add_loop_test(tc, cached_big_blocks_cost_no_calls, 0, 2);
    tcase_add_test(tc, descriptors_are_used_again);
    tcase_add_test(tc, changing_sizes_join);
    tcase_add_test(tc, without_the_cache_each_is_mapped_and_unmapped);
    tcase_add_test(tc, batched_unmaps_come_together);
    tcase_add_test(tc, big_live_bytes_are_counted);

    tc = new_case(suite, "guard pages", setup_without_fences, teardown);
    tcase_add_loop_test(tc, a_big_block_ends_in_a_guard_page, 0, 4);
    tcase_add_test(tc, whose_guard_page_it_is);
    tcase_add_test(tc, guard_pages_are_in_nobodys_way);
    tcase_add_test(tc, a_cached_range_keeps_its_guard);
    tcase_add_loop_test(tc, the_guard_follows_the_end, 0, 4);
    tcase_add_loop_test(tc, without_guard_pages, 0, 2);
    tcase_add_loop_test(tc, a_guard_page_that_stays, 0, 4);
    tcase_add_loop_test(tc, a_mapping_whose_guard_stays_does_not_grow, 0, 2);

    tc = new_case(suite, "loans", setup, teardown);
    tcase_add_test(tc, scattered_pages_make_a_block);
    tcase_add_test(tc, a_loan_is_had_again_when_it_is_repaid);
    tcase_add_test(tc, a_borrowed_block_grows_by_a_copy);
    tcase_add_test(tc, a_borrowed_block_shrinks);
    tcase_add_loop_test(tc, loans_refused, 0, 10);
    tcase_add_test(tc, a_kernel_without_the_call_is_soon_left_alone);

    tc = new_case(suite, "memory goes back", setup, teardown);
    tcase_add_loop_test(tc, free_trims_above_the_bound, 2, NR_TIERS);
    tcase_add_loop_test(tc, remote_free_trims_above_the_bound, 0, 2);
    tcase_add_test(tc, below_the_bound_free_makes_no_system_call);
    tcase_add_test(tc, what_heaps_do_not_hold_may_stay_cached);
    tcase_add_test(tc, dirty_memory_goes_after_the_delay);
    tcase_add_test(tc, idle_magazines_and_runs_go_after_a_second);
    tcase_add_test(tc, cached_mappings_go_with_age);
    tcase_add_test(tc, a_tick_without_heap_is_nothing);
    tcase_add_test(tc, parcels_leave_with_a_tick);
    tcase_add_test(tc, block_of_another_heap_is_kept);
    tcase_add_test(tc, parcels_tick);
    tcase_add_test(tc, purge_gives_everything_back);
    tcase_add_test(tc, an_ended_thread_leaves_little_dirty);
    tcase_add_test(tc, threads_that_go_take_their_share_along);

    tc = new_case(suite, "refusals", setup, teardown);
    tcase_add_test(tc, alloc_gives_up_its_caches_first);
    tcase_add_test(tc, no_memory_is_a_result);
    tcase_add_loop_test(tc, nth_map_refused, 1, 16);
    tcase_add_loop_test(tc, nth_map_refused_to_a_mapping, 1, 5);
    tcase_add_loop_test(tc, unmap_and_advise_refused, 0, 3);
    tcase_add_test(tc, loose_blocks);
    tcase_add_test(tc, loose_blocks_that_cannot_be_had);

    tc = new_case(suite, "fork", setup, teardown);
    tcase_add_test(tc, fork_takes_every_lock_and_gives_it_back);
    tcase_add_test(tc, fork_leaves_a_lock_to_its_holder);
    tcase_add_test(tc, fork_forgets_what_is_never_let_go);

    tc = new_case(suite, "random", setup, teardown);
    tcase_add_loop_test(tc, random_blocks, 0, 4);
    tcase_add_test(tc, check_looks_into_every_box);
    return run_suite(suite);
}
