// SPDX-License-Identifier: MIT
//
// Which allocations get a guarded block: as many as the option says, new call sites first, and none where there is no
// room. What misuse of one meets is in tests/death/hardened.c.
#include "harness.h"

#include "hakmem/hakmem.h"
#include "hakmem/stats.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define SIZE 24 // unlike any size class: a block with just so many usable bytes is a guarded one

// The case starts itself again with these; true once it runs with them.
static bool with(const char *options, const char *self)
{
    const char *argv[] = {"guard", self, NULL};

    if (getenv("HAKMEM_OPTIONS") != NULL && strcmp(getenv("HAKMEM_OPTIONS"), options) == 0)
        return true;
    setenv("HAKMEM_OPTIONS", options, 1);
    fflush(stdout);
    execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
    abort();
}

static void resolve(const char *name, void *pointer_to_function)
{
    void *symbol = dlsym(RTLD_DEFAULT, name);

    memcpy(pointer_to_function, &symbol, sizeof symbol);
}

static hak_stats_t stats(void)
{
    int (*get)(hak_stats_t *, size_t);
    hak_stats_t s = {.mapped = 0};

    resolve("hak_stats_get", &get);
    if (get(&s, sizeof s) != 0)
        abort();
    return s;
}

static bool is_guarded(void *p)
{
    return malloc_usable_size(p) == SIZE;
}

// Blocks that live for a while: some ten guarded ones at a time.
static void churn(size_t bytes)
{
    static void *lying[256];
    uint64_t state = 1;

    for (size_t done = 0; done < bytes; done += 512) {
        void **slot = &lying[random_next(&state) % COUNT(lying)];
        free(*slot);
        *slot = hide(malloc(512));
    }
    for (size_t i = 0; i < COUNT(lying); i++)
        free(lying[i]);
    memset(lying, 0, sizeof lying);
}

static int as_dense_as_asked(void)
{
    hak_stats_t before, after;
    uint64_t samples;

    if (!with("guard_rate:12K,seed:1", "as dense as asked"))
        return FAIL;
    before = stats();
    churn(12 * MIB);
    after = stats();
    samples = after.guard_samples - before.guard_samples;
    CHECK_MSG(samples > 700 && samples < 1400, "%ju of about 1024", (uintmax_t)samples); // 10 standard deviations
    CHECK_EQ(after.guard_live, before.guard_live);
    CHECK_EQ(0, after.guard_refused);
    return PASS;
}

// By samples of the profile: what passes a refill counts.
static int where_the_profile_samples(void)
{
    hak_stats_t s;

    if (!with("guard_rate:256K,prof_sample:64K,seed:1", "where the profile samples"))
        return FAIL;
    for (int i = 0; i < 64 * 1024; i++)
        (void)hide(malloc(1000)); // 64 MiB, for good
    s = stats();
    CHECK_MSG(s.guard_samples + s.guard_refused > 120, "%ju", (uintmax_t)(s.guard_samples + s.guard_refused));
    CHECK_MSG(s.guard_samples + s.guard_refused < 400, "%ju", (uintmax_t)(s.guard_samples + s.guard_refused));
    CHECK_MSG(s.guard_live > 50 && s.guard_live <= 64, "%ju", (uintmax_t)s.guard_live);
    return PASS;
}

static int without_a_profile(void)
{
    hak_stats_t s;

    if (!with("guard_rate:256K,prof:off,seed:1", "without a profile"))
        return FAIL;
    for (int i = 0; i < 64 * 1024; i++)
        (void)hide(malloc(1000));
    s = stats();
    CHECK_MSG(s.guard_samples + s.guard_refused > 120, "%ju", (uintmax_t)(s.guard_samples + s.guard_refused));
    CHECK_MSG(s.guard_samples + s.guard_refused < 400, "%ju", (uintmax_t)(s.guard_samples + s.guard_refused));
    return PASS;
}

// 200 sites in turn. Without a preference as many samples would meet 63 % of them.
#define SITES 200
static int new_sites_first(void)
{
    static bool met[SITES];
    void *(*alloc_at)(size_t, const void *);
    unsigned nr_samples = 0, nr_met = 0;

    if (!with("guard_rate:15K,seed:1", "new sites first"))
        return FAIL;
    resolve("hak_alloc_at", &alloc_at);
    for (unsigned i = 0; nr_samples < SITES && i < 10000000; i++) {
        unsigned site = i * 67 % SITES;
        void *p = hide(alloc_at(SIZE, (const void *)(uintptr_t)(0x1000 + site)));
        if (is_guarded(p)) {
            nr_samples++;
            nr_met += !met[site];
            met[site] = true;
        }
        free(p);
    }
    CHECK_EQ(SITES, nr_samples);
    CHECK_MSG(nr_met > SITES * 3 / 4, "%u of %u sites", nr_met, SITES);
    return PASS;
}

static int identity_holds(void)
{
    hak_stats_t s;
    void *p[100];

    if (!with("guard_rate:1", "the counters add up"))
        return FAIL;
    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = hide(malloc(SIZE));
    s = stats();
    CHECK_EQ(s.mapped, s.live + s.cached + s.slab_free + s.dirty + s.purged + s.metadata);
    CHECK_MSG(s.guard_live == 64 && s.guard_refused > 30, "%ju", (uintmax_t)s.guard_live);
    CHECK(is_guarded(p[0]) && !is_guarded(p[99]));
    for (size_t i = 0; i < COUNT(p); i++)
        free(p[i]);
    s = stats();
    CHECK_EQ(s.mapped, s.live + s.cached + s.slab_free + s.dirty + s.purged + s.metadata);
    return PASS;
}

static int no_room(void)
{
    struct rlimit limit = {0, 0};
    hak_stats_t s;

    if (!with("guard_rate:15K,seed:3", "no room for the region"))
        return FAIL;
    limit.rlim_cur = limit.rlim_max = proc_bytes("/proc/self/status", "VmSize:") + 300 * KIB; // the region takes more
    CHECK_EQ(0, setrlimit(RLIMIT_AS, &limit));
    s = stats();
    if (s.guard_samples != 0)
        return skip("the region was mapped before the limit");
    for (int i = 0; i < 10000; i++) {
        void *p = hide(malloc(SIZE));
        CHECK(p != NULL);
        free(p);
    }
    s = stats();
    CHECK_EQ(0, s.guard_samples);
    CHECK_MSG(s.guard_refused > 5, "%ju", (uintmax_t)s.guard_refused);
    CHECK_EQ(s.mapped, s.live + s.cached + s.slab_free + s.dirty + s.purged + s.metadata);
    return PASS;
}

// Every thread's blocks, freed by others; forks meanwhile.
static void *pass_on(void *p)
{
    for (int i = 0; i < 500; i++) {
        memset(p, i, SIZE);
        free(p);
        p = malloc(SIZE);
    }
    return p;
}

static int threads_and_forks(void)
{
    pthread_t thread[4];

    if (!with("guard_rate:1", "threads and forks"))
        return FAIL;
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < COUNT(thread); i++)
            CHECK_EQ(0, pthread_create(&thread[i], NULL, pass_on, hide(malloc(SIZE))));
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            for (int i = 0; i < 2; i++)
                free(pass_on(hide(malloc(SIZE))));
            _exit(stats().guard_live > 64);
        }
        for (size_t i = 0; i < COUNT(thread); i++) {
            void *p;
            CHECK_EQ(0, pthread_join(thread[i], &p));
            free(p);
        }
        int status = -1;
        waitpid(child, &status, 0);
        CHECK_EQ(0, status);
    }
    return PASS;
}

static const struct test_case cases[] = {
    {"as dense as asked", as_dense_as_asked, 60},
    {"where the profile samples", where_the_profile_samples, 60},
    {"without a profile", without_a_profile, 60},
    {"new sites first", new_sites_first, 60},
    {"the counters add up", identity_holds, 60},
    {"no room for the region", no_room, 60},
    {"threads and forks", threads_and_forks, 60},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, COUNT(cases));
}
