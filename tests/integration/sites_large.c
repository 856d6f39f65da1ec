// SPDX-License-Identifier: MIT
//
// The profile of call sites for blocks above 64 KiB: the calls are counted, and what becomes of the blocks is followed.
#include "sites.h"

// Few enough to be followed one by one: what the table says is exact.
static int large_blocks_are_followed(void)
{
    static void *small_run[20], *big[8];
    uint64_t total = 0, live = 0;

    for (size_t i = 0; i < COUNT(small_run); i++)
        small_run[i] = site_a(100000 + i);
    for (size_t i = 0; i < COUNT(big); i++) {
        big[i] = site_b(3 * MIB + i * MIB);
        total += 3 * MIB + i * MIB;
    }
    hak_site_t site = look_at(site_b);
    CHECK_EQ(COUNT(big), site.samples);
    CHECK_EQ(total, site.total_bytes);
    CHECK_EQ(total, site.live_bytes);
    CHECK_EQ(0, site.frees);
    wait_ms(60);
    for (size_t i = 0; i < COUNT(small_run); i++)
        if (i % 4 != 0)
            free(small_run[i]);
        else
            live += 100000 + i;
    for (size_t i = 1; i < COUNT(big); i++)
        free(big[i]);
    site = look_at(site_a);
    CHECK_EQ(COUNT(small_run), site.allocs);
    CHECK_EQ(COUNT(small_run) * 3 / 4, site.frees);
    CHECK_EQ(live, site.live_bytes);
    CHECK(site.lifetime_p50_ns >= 50000000 && site.lifetime_p50_ns < 10000000000);
    CHECK(site.size_p50 >= 100000 && site.size_p50 <= 100020);
    site = look_at(site_b);
    CHECK_EQ(3 * MIB, site.live_bytes);
    CHECK_EQ(COUNT(big) - 1, site.frees);
    // What was followed enters the thread's cache all the same: the next ones come from there.
    void *again = site_a(100000);
    CHECK(again == small_run[19] || again == small_run[18] || again == small_run[17]);
    return PASS;
}

// Pairs that the fast path serves: one in some hundreds is followed, and stands for the others. A slow machine
// sees more of them.
static int large_pairs_are_few_samples(void)
{
    for (int i = 0; i < 200000; i++)
        free(site_a(100000));
    hak_site_t site = look_at(site_a);
    printf("# %llu samples of 200000 pairs\n", (unsigned long long)site.samples);
    CHECK_EQ(200000, site.allocs);
    CHECK(site.samples >= 20 && site.samples <= 200000 / 8);
    CHECK_EQ(site.samples, site.samples_ended);
    CHECK_EQ(0, site.live_bytes);
    CHECK(site.frees > 100000);
    return PASS;
}

// A keeps, B borrows, thousands at a time: one in sixteen is followed (on a machine that is fast enough), and the
// sums hold.
static int many_large_blocks(void)
{
    static void *kept[12000];
    uint64_t right, seed = (uint64_t)(uintptr_t)&seed;

    for (size_t i = 0; i < COUNT(kept); i++) {
        void *borrowed = site_b(70000 + random_next(&seed) % 20000);
        kept[i] = site_a(70000);
        free(borrowed);
    }
    for (size_t i = 0; i < COUNT(kept); i++)
        if (i % 3 == 0)
            free(kept[i]);
    right = COUNT(kept) * 2 / 3 * 70000;
    hak_site_t a = look_at(site_a), b = look_at(site_b);
    printf("# %llu samples, %.1f MB live of %.1f; %llu samples, %llu live\n", (unsigned long long)a.samples,
           (double)a.live_bytes / 1e6, (double)right / 1e6, (unsigned long long)b.samples,
           (unsigned long long)b.live_bytes);
    CHECK_EQ(COUNT(kept), a.allocs);
    CHECK_EQ(COUNT(kept), b.allocs);
    CHECK(a.samples > 100 && b.samples > 100);
    double off = (double)a.live_bytes / (double)right - 1, bound = 6 / root((double)(a.samples - a.samples_ended));
    CHECK(off < bound && off > -bound);
    CHECK_EQ(0, b.live_bytes);
    return PASS;
}

// A ring of buffers, replaced faster than each one is followed: what it holds is seen, not what went through.
static int ring_of_large_blocks(void)
{
    static void *ring[100];
    double right = (double)COUNT(ring) * 100000, sum = 0;

    for (size_t round = 0; round < 50; round++) {
        for (size_t i = 0; i < 2000; i++) {
            free(ring[i % COUNT(ring)]);
            ring[i % COUNT(ring)] = site_a(100000);
        }
        sum += (double)look_at(site_a).live_bytes;
        wait_ms(30);
    }
    printf("# %.1f MB live of %.1f, on average\n", sum / 50 / 1e6, right / 1e6);
    CHECK(sum / 50 > right * 0.7 && sum / 50 < right * 1.3);
    return PASS;
}

static void *growing;
SITE(outgrow, realloc(growing, size))

static int large_growth(void)
{
    char *p = site_a(100000);

    for (size_t size = 100000; size < 20000000; size += size / 2)
        p = realloc(p, size);
    hak_site_t site = look_at(site_a);
    CHECK_EQ(1, site.samples);
    CHECK_EQ(1, site.samples_grown);
    CHECK_EQ(0, site.samples_ended);
    CHECK(site.live_bytes > 13000000 && site.live_bytes < 20000000);
    p = realloc(p, 200000); // a shrink to a run's size, then to a small block's
    CHECK_EQ(200000, look_at(site_a).live_bytes);
    p = realloc(p, 1000);
    CHECK_EQ(1, look_at(site_a).samples_ended);
    CHECK_EQ(0, look_at(site_a).live_bytes);
    free(p);
    // What begins small and outgrows 64 KiB is counted where it does.
    growing = site_b(1000);
    growing = outgrow(300000);
    CHECK_EQ(1, look_at(outgrow).allocs);
    CHECK_EQ(300000, look_at(outgrow).live_bytes);
    free(growing);
    CHECK_EQ(0, look_at(outgrow).live_bytes);
    return PASS;
}

static void *large_handed[10];

static void *free_large(void *arg)
{
    for (size_t i = 0; i < COUNT(large_handed); i++)
        free(large_handed[i]);
    return arg;
}

static int large_hand_off(void)
{
    for (size_t i = 0; i < COUNT(large_handed); i++)
        large_handed[i] = site_a(100000 + i * MIB);
    CHECK_EQ(PASS, in_thread(free_large));
    CHECK_EQ(COUNT(large_handed), look_at(site_a).samples_handed);
    CHECK_EQ(0, look_at(site_a).live_bytes);
    return PASS;
}

static int large_without_a_profile(void)
{
    with("HAKMEM_PROF", "off", "nothing is followed without a profile");
    void *p = site_a(3 * MIB);
    free(site_a(100000));
    hak_site_t site = look_at(site_a);
    CHECK_EQ(2, site.allocs);
    CHECK_EQ(0, site.samples);
    CHECK_EQ(0, site.live_bytes);
    free(p);
    return PASS;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"large blocks are followed", large_blocks_are_followed, 0},
        {"large pairs are few samples", large_pairs_are_few_samples, 0},
        {"many large blocks are estimated", many_large_blocks, 30},
        {"a ring of large blocks is estimated", ring_of_large_blocks, 60},
        {"large blocks that grow", large_growth, 0},
        {"large blocks that change hands", large_hand_off, 0},
        {"nothing is followed without a profile", large_without_a_profile, 0},
    };

    return harness_main(argc, argv, cases, COUNT(cases));
}
