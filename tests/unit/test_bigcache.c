// SPDX-License-Identifier: MIT
/* Ranges are opaque to the box, so they are plain numbers here: nothing is mapped. */
#include "bigcache/bigcache.h"

#include "child.h"
#include "config/config.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>

#define MB HK_MIB
#define SITE(n) ((const void *)(uintptr_t)(0x400000 + (n) * 0x1234))

static const struct hk_bigcache_counters *counters;
static uintptr_t next_base = 1 << 20;
static unsigned nr_evicted;
static struct hk_big_range last_evicted;

static void on_evict(const struct hk_big_range *range, void *arg)
{
    ck_assert_msg(!hk_lock_is_mine(hk_bigcache_lock()), "callback under the lock");
    if (arg)
        *(size_t *)arg += range->bytes;
    nr_evicted++;
    last_evicted = *range;
}

static void setup(void)
{
    counters = hk_bigcache_counters();
    hk_bigcache_set_evict(on_evict);
    hk_config.bigcache_bytes = 1024 * MB;
    hk_bigcache_set_budget(1024 * MB);
}

static void teardown(void)
{
    hk_bigcache_check();
}

/* A range at an address of its own, with a gap behind it. */
static struct hk_big_range fresh(const void *site, size_t bytes)
{
    struct hk_big_range range = {.base = (void *)next_base, .bytes = bytes, .site = site};

    next_base += bytes + 4096;
    return range;
}

static struct hk_big_range must_put(const void *site, size_t bytes)
{
    struct hk_big_range range = fresh(site, bytes);

    ck_assert_msg(hk_bigcache_put(&range), "%zu bytes refused", bytes);
    return range;
}

static void must_take(const void *site, size_t bytes, size_t max_bytes, void *base)
{
    struct hk_big_range out;

    ck_assert_msg(hk_bigcache_take(site, bytes, max_bytes, &out), "no range of %zu", bytes);
    ck_assert_ptr_eq(out.base, base);
}

static void must_miss(const void *site, size_t bytes, size_t max_bytes)
{
    struct hk_big_range out;

    ck_assert(!hk_bigcache_take(site, bytes, max_bytes, &out));
}

/*
 * take
 */

START_TEST(empty)
{
    struct hk_big_range out;

    must_miss(SITE(1), MB, SIZE_MAX);
    ck_assert(!hk_bigcache_take_part(0, SIZE_MAX, &out));
    ck_assert_uint_eq(counters->misses, 1);
    ck_assert_uint_eq(hk_bigcache_bytes(), 0);
}
END_TEST

START_TEST(gives_back_what_it_got)
{
    struct hk_big_range in = fresh(SITE(1), 2 * MB), out;

    in.freed_ns = 4711;
    in.zero = 1;
    in.resident = 1;
    ck_assert(hk_bigcache_put(&in));
    ck_assert_uint_eq(hk_bigcache_bytes(), 2 * MB);
    ck_assert(hk_bigcache_take(SITE(1), 2 * MB, 2 * MB, &out));
    ck_assert_ptr_eq(out.base, in.base);
    ck_assert_uint_eq(out.bytes, in.bytes);
    ck_assert_uint_eq(out.freed_ns, in.freed_ns);
    ck_assert_ptr_eq(out.site, in.site);
    ck_assert_uint_eq(out.zero, 1);
    ck_assert_uint_eq(out.resident, 1);
    ck_assert_uint_eq(hk_bigcache_bytes(), 0);
    must_miss(SITE(1), 2 * MB, SIZE_MAX); /* only once */
}
END_TEST

START_TEST(window_is_inclusive)
{
    struct hk_big_range r = must_put(SITE(1), 5 * MB);

    must_miss(SITE(1), 5 * MB + 1, SIZE_MAX);
    must_miss(SITE(1), 4 * MB, 5 * MB - 1);
    must_take(SITE(1), 4 * MB, 5 * MB, r.base);
    r = must_put(SITE(1), 5 * MB);
    must_take(SITE(2), 5 * MB, 5 * MB, r.base);
    r = must_put(SITE(1), 64 * HK_KIB);
    must_take(SITE(2), 4096, SIZE_MAX, r.base); /* below the smallest class */
}
END_TEST

START_TEST(smallest_that_fits)
{
    /* One class, the next, and the one after. */
    struct hk_big_range b = must_put(SITE(1), 5 * MB), a = must_put(SITE(2), 4 * MB + 4096);
    struct hk_big_range d = must_put(SITE(3), 9 * MB), c = must_put(SITE(4), 7 * MB);

    must_take(SITE(9), 4 * MB, SIZE_MAX, a.base);
    must_take(SITE(9), 4 * MB, SIZE_MAX, b.base);
    must_take(SITE(9), 4 * MB, SIZE_MAX, c.base);
    must_take(SITE(9), 4 * MB, SIZE_MAX, d.base);
    ck_assert_uint_eq(counters->hits_shared, 4);
}
END_TEST

START_TEST(newest_of_equals)
{
    struct hk_big_range a = must_put(SITE(1), MB), b = must_put(SITE(1), MB), c = must_put(NULL, MB);

    must_take(SITE(1), MB, MB, b.base); /* own ring first, newest first */
    must_take(SITE(9), MB, MB, c.base);
    must_take(SITE(9), MB, MB, a.base);
}
END_TEST

START_TEST(own_site_first)
{
    struct hk_big_range own = must_put(SITE(1), 2 * MB + 65536);

    must_put(SITE(2), 2 * MB); /* fits better, and is newer */
    must_take(SITE(1), 2 * MB, 3 * MB, own.base);
    own = must_put(SITE(1), 3 * MB + 65536); /* of another class */
    must_take(SITE(1), 2 * MB, 4 * MB, own.base);
    ck_assert_uint_eq(counters->hits_site, 2);
    ck_assert_uint_eq(counters->hits_shared, 0);
}
END_TEST

START_TEST(smallest_of_the_ring)
{
    struct hk_big_range a = must_put(SITE(1), 2 * MB + 65536), b = must_put(SITE(1), 2 * MB);
    struct hk_big_range c = must_put(SITE(1), 3 * MB - 65536);

    must_take(SITE(1), MB, 4 * MB, b.base);
    must_take(SITE(1), MB, 4 * MB, a.base);
    must_take(SITE(1), MB, 4 * MB, c.base);
    ck_assert_uint_eq(counters->hits_site, 3);
}
END_TEST

START_TEST(what_the_ring_forgets_is_still_found)
{
    unsigned nr = HK_BIGCACHE_RING_SLOTS + 3;

    for (unsigned i = 0; i < nr; i++)
        must_put(SITE(1), MB);
    for (unsigned i = 0; i < nr; i++) {
        struct hk_big_range out;
        ck_assert(hk_bigcache_take(SITE(1), MB, MB, &out));
        hk_bigcache_check();
    }
    ck_assert_uint_eq(counters->hits_site, HK_BIGCACHE_RING_SLOTS);
    ck_assert_uint_eq(counters->hits_shared, 3);
    ck_assert_uint_eq(nr_evicted, 0);
}
END_TEST

START_TEST(sites_in_one_row_are_told_apart)
{
    for (unsigned i = 0; i < 200; i++) /* more sites than rows */
        must_put(SITE(i), MB);
    for (unsigned i = 0; i < 200; i++) {
        struct hk_big_range out;
        size_t hits_site = counters->hits_site;
        ck_assert(hk_bigcache_take(SITE(i), MB, MB, &out));
        if (counters->hits_site > hits_site)
            ck_assert_ptr_eq(out.site, SITE(i));
    }
    ck_assert_uint_gt(counters->hits_site, 50);
}
END_TEST

START_TEST(part_is_the_largest_below)
{
    struct hk_big_range a = must_put(SITE(1), 3 * MB), b = must_put(SITE(2), 7 * MB), out;

    must_put(SITE(3), 7 * MB - 4096);
    must_put(SITE(3), 10 * MB);
    ck_assert(hk_bigcache_take_part(2 * MB, 10 * MB, &out));
    ck_assert_ptr_eq(out.base, b.base);
    ck_assert(hk_bigcache_take_part(2 * MB, 10 * MB, &out));
    ck_assert_uint_eq(out.bytes, 7 * MB - 4096);
    ck_assert(!hk_bigcache_take_part(4 * MB, 10 * MB, &out));
    ck_assert(hk_bigcache_take_part(3 * MB, 10 * MB, &out));
    ck_assert_ptr_eq(out.base, a.base);
    ck_assert(!hk_bigcache_take_part(0, 10 * MB, &out)); /* not one that is large enough */
    ck_assert_uint_eq(counters->hits_part, 3);
    ck_assert_uint_eq(counters->misses, 0);
}
END_TEST

/*
 * put and eviction
 */

START_TEST(too_small)
{
    struct hk_big_range small = fresh(SITE(1), HK_BIGCACHE_MIN_BYTES - 1);

    ck_assert(!hk_bigcache_put(&small));
    must_put(SITE(1), HK_BIGCACHE_MIN_BYTES);
    ck_assert_uint_eq(counters->puts, 1);
}
END_TEST

START_TEST(larger_than_the_budget)
{
    struct hk_big_range large = fresh(SITE(1), 11 * MB);

    hk_bigcache_set_budget(10 * MB);
    must_put(SITE(1), 10 * MB);
    ck_assert(!hk_bigcache_put(&large)); /* and throws nothing out for it */
    ck_assert_uint_eq(nr_evicted, 0);
    ck_assert_uint_eq(hk_bigcache_bytes(), 10 * MB);
}
END_TEST

START_TEST(over_budget_the_oldest_goes)
{
    hk_bigcache_set_budget(10 * MB);
    struct hk_big_range a = must_put(SITE(1), 4 * MB), b = must_put(SITE(2), 4 * MB);

    must_put(SITE(3), 3 * MB);
    ck_assert_uint_eq(nr_evicted, 1);
    ck_assert_ptr_eq(last_evicted.base, a.base);
    ck_assert_uint_eq(hk_bigcache_bytes(), 7 * MB);
    must_put(SITE(3), 10 * MB);
    ck_assert_uint_eq(nr_evicted, 3);
    ck_assert_uint_eq(counters->evictions_budget, 3);
    must_miss(SITE(2), 4 * MB, 4 * MB);
    (void)b;
}
END_TEST

/* More of them than one turn of the lock collects. */
START_TEST(one_put_may_evict_many)
{
    hk_bigcache_set_budget(10 * MB);
    for (unsigned i = 0; i < 100; i++)
        must_put(SITE(i), 100 * 1024);
    must_put(SITE(1), 10 * MB);
    ck_assert_uint_eq(nr_evicted, 100);
    ck_assert_uint_eq(hk_bigcache_bytes(), 10 * MB);
}
END_TEST

START_TEST(option_caps_the_budget)
{
    hk_config.bigcache_bytes = 2 * MB;
    must_put(SITE(1), MB);
    must_put(SITE(1), MB);
    must_put(SITE(1), MB);
    ck_assert_uint_eq(hk_bigcache_bytes(), 2 * MB);
}
END_TEST

START_TEST(budget_before_anybody_set_one)
{
    ck_assert_uint_eq(hk_bigcache_budget_for(0), HK_BIGCACHE_FLOOR_BYTES);
    ck_assert_uint_eq(hk_bigcache_budget_for(80 * MB), HK_BIGCACHE_FLOOR_BYTES + 10 * MB);
    for (unsigned i = 0; i < 100; i++)
        must_put(SITE(1), MB);
    ck_assert_uint_eq(hk_bigcache_bytes(), HK_BIGCACHE_FLOOR_BYTES);
}
END_TEST

START_TEST(smaller_budget_counts_at_the_next_put)
{
    for (unsigned i = 0; i < 8; i++)
        must_put(SITE(1), MB);
    hk_bigcache_set_budget(4 * MB);
    ck_assert_uint_eq(hk_bigcache_bytes(), 8 * MB);
    must_put(SITE(1), MB);
    ck_assert_uint_eq(hk_bigcache_bytes(), 4 * MB);
}
END_TEST

START_TEST(without_callback_a_full_cache_refuses)
{
    struct hk_big_range r = fresh(SITE(1), MB);

    hk_bigcache_set_evict(NULL);
    hk_bigcache_set_budget(2 * MB);
    must_put(SITE(1), MB);
    must_put(SITE(1), MB);
    ck_assert(!hk_bigcache_put(&r));
    ck_assert_uint_eq(hk_bigcache_bytes(), 2 * MB);
}
END_TEST

START_TEST(slots_run_out)
{
    struct hk_big_range first = must_put(SITE(0), 64 * HK_KIB);
    unsigned n = 1;

    while (nr_evicted == 0 && n < 10000)
        must_put(SITE(n++), 64 * HK_KIB);
    ck_assert_ptr_eq(last_evicted.base, first.base);
    ck_assert_uint_eq(n, 256);
    ck_assert_uint_eq(hk_bigcache_bytes(), 255 * 64 * HK_KIB);
}
END_TEST

START_TEST(huge_ranges)
{
    size_t huge = (size_t)1 << (sizeof(size_t) == 8 ? 40 : 30);

    hk_config.bigcache_bytes = SIZE_MAX;
    hk_bigcache_set_budget(SIZE_MAX);
    struct hk_big_range a = must_put(SITE(1), huge), b = must_put(SITE(1), huge / 4);

    must_take(SITE(1), huge / 2, SIZE_MAX, a.base);
    must_take(SITE(1), huge / 4, SIZE_MAX, b.base);
    must_miss(SITE(1), SIZE_MAX, SIZE_MAX);
}
END_TEST

static void evict_and_use(const struct hk_big_range *range, void *arg)
{
    struct hk_big_range out;

    on_evict(range, arg);
    hk_bigcache_take(SITE(7), MB, MB, &out);
}

START_TEST(callback_may_use_the_cache)
{
    hk_bigcache_set_evict(evict_and_use);
    hk_bigcache_set_budget(4 * MB);
    for (unsigned i = 0; i < 8; i++)
        must_put(SITE(7), MB);
    ck_assert_uint_gt(nr_evicted, 0);
}
END_TEST

START_TEST(expires_by_age)
{
    size_t evicted_bytes = 0;
    uint64_t second = 1000000000;

    for (unsigned i = 0; i < 40; i++) {
        struct hk_big_range r = fresh(SITE(i), MB);
        r.freed_ns = 10 * second + i;
        ck_assert(hk_bigcache_put(&r));
    }
    hk_config.bigcache_age_ms = 1000;
    hk_bigcache_expire(11 * second, on_evict, &evicted_bytes);
    ck_assert_uint_eq(nr_evicted, 0);
    hk_bigcache_expire(11 * second + 20, on_evict, &evicted_bytes);
    ck_assert_uint_eq(nr_evicted, 20);
    ck_assert_uint_eq(evicted_bytes, 20 * MB);
    hk_bigcache_expire(0, on_evict, NULL); /* a clock that lags */
    ck_assert_uint_eq(nr_evicted, 20);
    hk_bigcache_expire(20 * second, on_evict, NULL);
    ck_assert_uint_eq(counters->evictions_age, 40);
    ck_assert_uint_eq(counters->evictions_budget, 0);
    ck_assert_uint_eq(hk_bigcache_bytes(), 0);
}
END_TEST

START_TEST(trims_the_oldest)
{
    struct hk_big_range newest = {0};
    size_t evicted_bytes = 0;

    for (unsigned i = 0; i < 40; i++)
        newest = must_put(SITE(1), MB);
    ck_assert_uint_eq(hk_bigcache_trim(100 * MB, on_evict, NULL), 0);
    ck_assert_uint_eq(hk_bigcache_trim(MB, on_evict, &evicted_bytes), 39 * MB);
    ck_assert_uint_eq(evicted_bytes, 39 * MB);
    must_take(SITE(1), MB, MB, newest.base);
    must_put(SITE(1), MB);
    ck_assert_uint_eq(hk_bigcache_trim(0, on_evict, NULL), MB);
    ck_assert_uint_eq(counters->evictions_budget, 40);
}
END_TEST

START_TEST(disabled_does_nothing)
{
    static const struct hk_bigcache_counters zero;
    struct hk_big_range r = fresh(SITE(1), MB), out;

    hk_config.disable_bigcache = true;
    ck_assert(!hk_bigcache_put(&r));
    ck_assert(!hk_bigcache_take(SITE(1), MB, SIZE_MAX, &out));
    ck_assert(!hk_bigcache_take_part(0, SIZE_MAX, &out));
    ck_assert_mem_eq(counters, &zero, sizeof zero);
    hk_config.disable_bigcache = false;
    ck_assert(hk_bigcache_put(&r));
    hk_config.disable_bigcache = true;
    ck_assert(!hk_bigcache_take(SITE(1), MB, SIZE_MAX, &out));
    ck_assert(!hk_bigcache_take_part(0, SIZE_MAX, &out));
}
END_TEST

/*
 * Workloads
 */

/* The vm scenario: n blocks of 2 MB allocated, then all freed, again and again. Percent of hits. */
static unsigned vm_scenario(unsigned n)
{
    static struct hk_big_range block[100];
    size_t hits = 0, rounds = 1000;

    for (size_t round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < n; i++) {
            if (hk_bigcache_take(SITE(1), 2 * MB, 2 * MB + 2 * MB / 4, &block[i]))
                hits++;
            else
                block[i] = fresh(SITE(1), 2 * MB);
        }
        for (unsigned i = 0; i < n; i++)
            hk_bigcache_put(&block[i]);
    }
    ck_assert_uint_eq(counters->hits_site + counters->hits_shared, hits);
    ck_assert_uint_eq(counters->misses, rounds * n - hits);
    return (unsigned)(100 * hits / (rounds * n));
}

START_TEST(vm_10)
{
    hk_config.bigcache_bytes = 128 * MB;
    hk_bigcache_set_budget(hk_bigcache_budget_for(0));
    ck_assert_uint_ge(vm_scenario(10), 99);
}
END_TEST

START_TEST(vm_100)
{
    hk_bigcache_set_budget(256 * MB);
    ck_assert_uint_ge(vm_scenario(100), 99);
}
END_TEST

/* 200 MB of blocks and room for 128: no policy does better than 64 %. */
START_TEST(vm_100_within_the_default)
{
    hk_config.bigcache_bytes = 128 * MB;
    hk_bigcache_set_budget(128 * MB);
    unsigned percent = vm_scenario(100);
    ck_assert_uint_ge(percent, 63);
    ck_assert_uint_le(percent, 64);
}
END_TEST

static uint64_t random_state;

static unsigned pick(unsigned n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(random_state >> 33) % n;
}

static const char *seed_text(void)
{
    const char *seed = getenv("HK_TEST_SEED");

    return seed ? seed : "1";
}

/* Buffers of 5 to 25 MB from four sites, ten at a time. Percent of the bytes that fault in afresh. */
static unsigned mixed_scenario(bool adapt)
{
    struct hk_big_range live[10] = {{0}};
    uint64_t wanted = 0, faulted = 0;

    for (int i = 0; i < 20000; i++) {
        struct hk_big_range *r = &live[pick(10)], tail;
        const void *site = SITE(pick(4));
        size_t bytes = (5 + pick(20)) * MB + pick(256) * 4096, most = bytes + bytes / 4;

        if (r->bytes)
            hk_bigcache_put(r);
        wanted += bytes;
        if (hk_bigcache_take(site, bytes, adapt ? SIZE_MAX : most, r)) {
            if (r->bytes > most) { /* split */
                tail = *r;
                tail.base = (char *)r->base + bytes;
                tail.bytes = r->bytes - bytes;
                r->bytes = bytes;
                hk_bigcache_put(&tail);
            }
        } else {
            size_t kept = adapt && hk_bigcache_take_part(bytes / 4, bytes, r) ? r->bytes : 0;
            faulted += bytes - kept;
            *r = fresh(site, bytes); /* mremap moves */
        }
        r->site = site;
    }
    hk_bigcache_check();
    return (unsigned)(100 * faulted / wanted);
}

START_TEST(mixed_sizes)
{
    random_state = strtoull(seed_text(), NULL, 0);
    hk_config.bigcache_bytes = 128 * MB;
    hk_bigcache_set_budget(hk_bigcache_budget_for(10 * 15 * MB));
    unsigned plain = mixed_scenario(false), adapted = mixed_scenario(true);
    ck_assert_msg(adapted <= 20 && adapted * 3 <= plain, "%u %% plain, %u %% with split and grow",
                  plain, adapted);
}
END_TEST

/*
 * Against a model: an array of what is cached. Every range is in one place at a time.
 */

#define MODEL_RANGES 400

static struct {
    struct hk_big_range range;
    bool cached;
} model[MODEL_RANGES];

static unsigned model_index(const struct hk_big_range *range)
{
    for (unsigned i = 0; i < MODEL_RANGES; i++) {
        if (model[i].range.base == range->base)
            return i;
    }
    ck_abort_msg("a range that nobody put: %p", range->base);
}

static void model_leaves(const struct hk_big_range *range, void *arg)
{
    unsigned i = model_index(range);

    (void)arg;
    ck_assert_msg(model[i].cached, "range %u left twice", i);
    ck_assert_uint_eq(range->bytes, model[i].range.bytes);
    ck_assert_ptr_eq(range->site, model[i].range.site);
    model[i].cached = false;
}

/* Bytes of the smallest cached range in the window, of this site or of any (NULL); 0: none. */
static size_t model_smallest(const void *site, size_t bytes, size_t max_bytes)
{
    size_t best = 0;

    for (unsigned i = 0; i < MODEL_RANGES; i++) {
        size_t have = model[i].range.bytes;
        if (model[i].cached && have >= bytes && have <= max_bytes && (!best || have < best) &&
            (!site || model[i].range.site == site))
            best = have;
    }
    return best;
}

static void model_take(void)
{
    const void *site = SITE(pick(8));
    size_t bytes = 64 * HK_KIB + pick(4096) * 4096;
    size_t max_bytes = pick(3) ? bytes + bytes / 4 : SIZE_MAX;
    size_t expected = model_smallest(NULL, bytes, max_bytes), hits_site = counters->hits_site;
    struct hk_big_range out;

    bool taken = hk_bigcache_take(site, bytes, max_bytes, &out);
    ck_assert_msg(taken == (expected != 0), "HK_TEST_SEED=%s", seed_text());
    if (!taken)
        return;
    ck_assert(out.bytes >= bytes && out.bytes <= max_bytes);
    if (counters->hits_site > hits_site)
        ck_assert_ptr_eq(out.site, site);
    else
        ck_assert_uint_eq(out.bytes, expected);
    model_leaves(&out, NULL);
}

static void model_put(uint64_t now_ns)
{
    unsigned i = pick(MODEL_RANGES);

    if (model[i].cached)
        return;
    model[i].range = fresh(SITE(pick(8)), 64 * HK_KIB + pick(4096) * 4096);
    model[i].range.freed_ns = now_ns;
    model[i].cached = true;
    if (!hk_bigcache_put(&model[i].range))
        model[i].cached = false;
}

static size_t model_bytes(void)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < MODEL_RANGES; i++)
        bytes += model[i].cached ? model[i].range.bytes : 0;
    return bytes;
}

static void model_step(uint64_t now_ns)
{
    switch (pick(64)) {
    case 0:
        hk_bigcache_set_budget(pick(512) * MB);
        break;
    case 1:
        hk_bigcache_expire(now_ns, model_leaves, NULL);
        break;
    case 2:
        hk_bigcache_trim(pick(512) * MB, model_leaves, NULL);
        break;
    default:
        if (pick(5) < 3)
            model_put(now_ns);
        else
            model_take();
    }
}

START_TEST(agrees_with_the_model)
{
    random_state = strtoull(seed_text(), NULL, 0);
    hk_bigcache_set_evict(model_leaves);
    for (uint64_t step = 0; step < 20000; step++) {
        model_step(step * 10000000);
        hk_bigcache_check();
        ck_assert_msg(hk_bigcache_bytes() == model_bytes(),
                      "step %u: expected %zu, got %zu; HK_TEST_SEED=%s", (unsigned)step,
                      model_bytes(), hk_bigcache_bytes(), seed_text());
    }
    ck_assert_uint_gt(counters->hits_site, 100);
    ck_assert_uint_gt(counters->hits_shared, 100);
    ck_assert_uint_gt(counters->evictions_age, 100);
    ck_assert_uint_gt(counters->evictions_budget, 100);
}
END_TEST

/*
 * Threads: tokens go round; none is ever held twice.
 */

#define NR_TOKENS 64
#define NR_THREADS 4

static int held[NR_TOKENS]; /* exchanged atomically; 1: somebody has it */

static void hold(const struct hk_big_range *range, int expected)
{
    size_t token = (uintptr_t)range->base / (4 * MB) - 1;

    if (__atomic_exchange_n(&held[token], !expected, __ATOMIC_RELAXED) != expected)
        abort();
}

static struct hk_big_range returned[NR_TOKENS];
static unsigned nr_returned;
static pthread_mutex_t returned_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t all_started;

static void token_evicted(const struct hk_big_range *range, void *arg)
{
    (void)arg;
    hold(range, 0);
    pthread_mutex_lock(&returned_mutex);
    returned[nr_returned++] = *range;
    pthread_mutex_unlock(&returned_mutex);
}

static bool pick_up(struct hk_big_range *out)
{
    bool got = false;

    pthread_mutex_lock(&returned_mutex);
    if (nr_returned > 0) {
        *out = returned[--nr_returned];
        got = true;
    }
    pthread_mutex_unlock(&returned_mutex);
    return got;
}

static void give_away(struct hk_big_range *range, unsigned turn)
{
    range->site = SITE(turn % 5);
    range->freed_ns = turn;
    hold(range, 1);
    if (!hk_bigcache_put(range))
        token_evicted(range, NULL);
}

static void *juggle(void *arg)
{
    unsigned turn = *(unsigned *)arg;

    pthread_barrier_wait(&all_started);
    for (unsigned end = turn + 100000; turn < end; turn++) {
        struct hk_big_range r;
        if (pick_up(&r))
            give_away(&r, turn);
        if (hk_bigcache_take(SITE(turn % 5), MB, 3 * MB, &r)) {
            hold(&r, 0);
            give_away(&r, turn);
        }
        if (turn % 64 == 0)
            hk_bigcache_trim(8 * MB, token_evicted, NULL);
        if (turn % 1024 == 0)
            hk_bigcache_check();
    }
    return NULL;
}

START_TEST(threads_never_share_a_range)
{
    pthread_t thread[NR_THREADS];
    unsigned start[NR_THREADS];

    hk_bigcache_set_evict(token_evicted);
    hk_bigcache_set_budget(40 * MB);
    for (uintptr_t i = 0; i < NR_TOKENS; i++) {
        returned[i] = (struct hk_big_range){.base = (void *)((i + 1) * 4 * MB),
                                            .bytes = MB + i % 3 * MB};
        held[i] = 1;
    }
    nr_returned = NR_TOKENS;
    pthread_barrier_init(&all_started, NULL, NR_THREADS);
    for (unsigned i = 0; i < NR_THREADS; i++) {
        start[i] = i * 1000000;
        ck_assert_int_eq(pthread_create(&thread[i], NULL, juggle, &start[i]), 0);
    }
    for (unsigned i = 0; i < NR_THREADS; i++)
        pthread_join(thread[i], NULL);
    hk_bigcache_trim(0, token_evicted, NULL);
    ck_assert_uint_eq(nr_returned, NR_TOKENS);
}
END_TEST

/*
 * check()
 */

static void put_overlapping(void)
{
    struct hk_big_range a = {.base = (void *)(uintptr_t)(8 * MB), .bytes = 2 * MB};
    struct hk_big_range b = {.base = (void *)(uintptr_t)(9 * MB), .bytes = 2 * MB};

    hk_bigcache_put(&a);
    hk_bigcache_put(&b);
    hk_bigcache_check();
}

START_TEST(check_sees_a_range_put_twice)
{
    struct child child = run_child(put_overlapping);

    ck_assert_ptr_nonnull(strstr(child.text, "hakmem: heap corrupted: bigcache: overlap"));
    ck_assert(child_aborted(&child));
}
END_TEST

static void add_basics(Suite *suite)
{
    TCase *tc = tcase_create("take");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, empty);
    tcase_add_test(tc, gives_back_what_it_got);
    tcase_add_test(tc, window_is_inclusive);
    tcase_add_test(tc, smallest_that_fits);
    tcase_add_test(tc, newest_of_equals);
    tcase_add_test(tc, own_site_first);
    tcase_add_test(tc, smallest_of_the_ring);
    tcase_add_test(tc, what_the_ring_forgets_is_still_found);
    tcase_add_test(tc, sites_in_one_row_are_told_apart);
    tcase_add_test(tc, part_is_the_largest_below);
    suite_add_tcase(suite, tc);

    tc = tcase_create("evict");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, too_small);
    tcase_add_test(tc, larger_than_the_budget);
    tcase_add_test(tc, over_budget_the_oldest_goes);
    tcase_add_test(tc, one_put_may_evict_many);
    tcase_add_test(tc, option_caps_the_budget);
    tcase_add_test(tc, smaller_budget_counts_at_the_next_put);
    tcase_add_test(tc, without_callback_a_full_cache_refuses);
    tcase_add_test(tc, slots_run_out);
    tcase_add_test(tc, huge_ranges);
    tcase_add_test(tc, callback_may_use_the_cache);
    tcase_add_test(tc, expires_by_age);
    tcase_add_test(tc, trims_the_oldest);
    tcase_add_test(tc, disabled_does_nothing);
    tcase_add_test(tc, check_sees_a_range_put_twice);
    suite_add_tcase(suite, tc);
}

static void set_callback_only(void)
{
    counters = hk_bigcache_counters();
    hk_bigcache_set_evict(on_evict);
}

static void add_workloads(Suite *suite)
{
    TCase *tc = tcase_create("start");

    tcase_add_checked_fixture(tc, set_callback_only, teardown);
    tcase_add_test(tc, budget_before_anybody_set_one);
    suite_add_tcase(suite, tc);

    tc = tcase_create("workload");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, vm_10);
    tcase_add_test(tc, vm_100);
    tcase_add_test(tc, vm_100_within_the_default);
    tcase_add_test(tc, mixed_sizes);
    tcase_add_test(tc, agrees_with_the_model);
    tcase_add_test(tc, threads_never_share_a_range);
    suite_add_tcase(suite, tc);
}

int main(void)
{
    Suite *suite = suite_create("bigcache");

    add_basics(suite);
    add_workloads(suite);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
