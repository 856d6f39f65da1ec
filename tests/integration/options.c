// SPDX-License-Identifier: MIT
//
// hak_ctl_get, hak_ctl_set, hak_limit_set: answers, and that what is set acts.
#include "harness.h"

#include <dlfcn.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static int (*ctl_get)(const char *, char *, size_t *);
static int (*ctl_source)(const char *, char *, size_t *);
static const char *(*ctl_name)(unsigned);
static int (*ctl_set)(const char *, const char *);
static int (*limit_set)(size_t);

static void resolve(const char *name, void *pointer_to_function)
{
    void *symbol = dlsym(RTLD_DEFAULT, name);

    memcpy(pointer_to_function, &symbol, sizeof symbol);
}

static size_t cached(void)
{
    return mallinfo2().keepcost;
}

static void *touched(size_t bytes)
{
    return hide(memset(hide(malloc(bytes)), 1, bytes));
}

// Leaves `count` blocks of `bytes` in the caches.
static void fill_caches(size_t count, size_t bytes)
{
    void *p[64];

    for (size_t i = 0; i < count; i++)
        p[i] = touched(bytes);
    for (size_t i = 0; i < count; i++)
        free(p[i]);
}

// Enough slow paths for a look at the clock, and time enough for it to matter.
static void let_time_pass(unsigned ms)
{
    usleep(ms * 1000);
    for (int round = 0; round < 4; round++) {
        usleep(25000);
        for (int i = 0; i < 500; i++) // never from the fast path
            free(hide(valloc(100)));
    }
}

static int answers(void)
{
    char text[64] = "", two[2] = "zz";
    size_t bytes = sizeof text;

    errno = EBADMSG;
    CHECK_EQ(ENOENT, ctl_get("no_such", text, &bytes));
    CHECK_EQ(ENOENT, ctl_source("no_such", text, &bytes));
    CHECK_EQ(ENOENT, ctl_set("no_such", "1"));
    CHECK_EQ(EPERM, ctl_set("mode", "fast"));
    CHECK_EQ(EPERM, ctl_set("background", "on"));
    CHECK_EQ(EINVAL, ctl_set("thp", "maybe"));
    CHECK_EQ(EINVAL, ctl_set("limit", "1"));
    CHECK_EQ(EINVAL, limit_set(MIB - 1));
    CHECK_EQ(0, ctl_get("THP", text, &bytes));
    CHECK_MSG(strcmp(text, "auto") == 0 && bytes == 5, "%s %zu", text, bytes);
    bytes = sizeof two;
    CHECK_EQ(ERANGE, ctl_get("thp", two, &bytes));
    CHECK_MSG(strcmp(two, "a") == 0 && bytes == 5, "%zu", bytes);
    bytes = 0;
    CHECK_EQ(ERANGE, ctl_get("thp", NULL, &bytes));
    CHECK_EQ(5, bytes);
    bytes = sizeof text;
    CHECK_EQ(0, ctl_source("thp", text, &bytes));
    CHECK_MSG(strcmp(text, "default") == 0, "%s", text);
    CHECK_EQ(0, ctl_set("thp", "off"));
    bytes = sizeof text;
    CHECK_EQ(0, ctl_source("thp", text, &bytes));
    CHECK_MSG(strcmp(text, "hak_ctl_set") == 0, "%s", text);
    CHECK_EQ(1, mallopt(M_TRIM_THRESHOLD, 4096));
    bytes = sizeof text;
    CHECK_EQ(0, ctl_get("purge_cap_bytes", text, &bytes));
    CHECK_MSG(strcmp(text, "4K") == 0, "%s", text);
    bytes = sizeof text;
    CHECK_EQ(0, ctl_source("purge_cap_bytes", text, &bytes));
    CHECK_MSG(strcmp(text, "mallopt") == 0, "%s", text);
    CHECK_EQ(EBADMSG, errno);
    return PASS;
}

static int every_option_reads_back(void)
{
    unsigned n = 0;

    for (const char *name; (name = ctl_name(n)); n++) {
        char text[512];
        size_t bytes = sizeof text;
        CHECK_EQ(0, ctl_get(name, text, &bytes));
        CHECK_MSG(bytes == strlen(text) + 1, "%s", name);
        int error = ctl_set(name, text);
        CHECK_MSG(error == 0 || error == EPERM, "%s = %s: %d", name, text, error);
    }
    CHECK_MSG(n > 20, "%u", n);
    CHECK(!ctl_name(~0u));
    return PASS;
}

static int realloc0(void)
{
    CHECK(!hide(realloc(hide(malloc(9)), 0)));
    CHECK_EQ(0, ctl_set("realloc0", "alloc"));
    void *p = hide(realloc(hide(malloc(9)), 0));
    CHECK(p);
    free(p);
    CHECK_EQ(0, ctl_set("realloc0", "free"));
    CHECK(!hide(realloc(hide(malloc(9)), 0)));
    return PASS;
}

// What a child that sets stats_dump to `value` leaves on stderr.
static ssize_t dumped(const char *value, char *text, size_t bytes)
{
    int ends[2];

    if (pipe(ends) != 0)
        return -1;
    if (fork() == 0) {
        dup2(ends[1], STDERR_FILENO);
        if (ctl_set("stats_dump", value) != 0)
            _exit(1);
        exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], text, bytes);
    close(ends[0]);
    wait(NULL);
    return n;
}

static int stats_dump(void)
{
    char text[4096];

    CHECK_EQ(0, dumped("off", text, sizeof text));
    CHECK(dumped("on", text, sizeof text) > 0);
    CHECK(memmem(text, sizeof text, "hakmem", 6));
    return PASS;
}

static int mmap_threshold(void)
{
    size_t before = mallinfo2().hblkhd;

    fill_caches(4, MIB); // cached runs, which must not serve afterwards either
    void *p = touched(MIB);
    CHECK_EQ(before, mallinfo2().hblkhd);
    CHECK_EQ(0, ctl_set("mmap_threshold", "512K"));
    void *q = touched(MIB);
    CHECK(mallinfo2().hblkhd >= before + MIB);
    CHECK_EQ(0, ctl_set("mmap_threshold", "16M"));
    void *r = touched(MIB);
    CHECK(mallinfo2().hblkhd < before + 2 * MIB);
    free(p), free(q), free(r);
    return PASS;
}

// One site, so that nothing but the size decides.
__attribute__((noinline)) static void *allocate(size_t bytes)
{
    return hide(malloc(bytes));
}

// A block of the threshold's size is no run, though there is a cached one that would do.
static int mmap_threshold_itself(void)
{
    CHECK_EQ(0, ctl_set("mmap_threshold", "100000"));
    let_time_pass(1);
    for (int i = 0; i < 100; i++) {
        void *run = allocate(99999);
        free(run);
        void *again = allocate(99999);
        CHECK(again == run);
        free(again);
        void *other = allocate(100000);
        CHECK(other != run);
        free(other);
    }
    return PASS;
}

static size_t cached_big(void)
{
    int (*get)(hak_stats_t *, size_t) = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "hak_stats_get");
    hak_stats_t s = {.cached_big = SIZE_MAX};

    memcpy(&get, &symbol, sizeof get);
    if (get)
        get(&s, sizeof s);
    return s.cached_big;
}

// A site's first block of a size does not go there.
static int bigcache(void)
{
    fill_caches(3, 8 * MIB);
    CHECK(cached_big() >= 16 * MIB);
    CHECK_EQ(0, ctl_set("bigcache_bytes", "9M"));
    CHECK_MSG(cached_big() >= 8 * MIB && cached_big() < 9 * MIB, "%zu", cached_big());
    fill_caches(4, 4 * MIB);
    CHECK_MSG(cached_big() >= 8 * MIB && cached_big() < 9 * MIB, "%zu", cached_big());
    CHECK_EQ(0, ctl_set("disable_bigcache", "on"));
    CHECK_EQ(0, cached_big());
    CHECK_EQ(0, ctl_set("disable_batch", "on")); // what waits for its unmap counts as cached
    size_t before = cached();
    fill_caches(3, 8 * MIB);
    CHECK_EQ(0, cached_big());
    CHECK_MSG(cached() <= before, "%zu, %zu before", cached(), before);
    CHECK_EQ(0, ctl_set("disable_bigcache", "off"));
    CHECK_EQ(0, ctl_set("bigcache_bytes", "64M"));
    fill_caches(3, 8 * MIB);
    CHECK_MSG(cached_big() >= 16 * MIB, "%zu", cached_big());
    return PASS;
}

static int bigcache_age(void)
{
    CHECK_EQ(0, ctl_set("bigcache_age_ms", "3600000"));
    fill_caches(3, 8 * MIB);
    let_time_pass(1100);
    CHECK_MSG(cached_big() >= 16 * MIB, "%zu", cached_big());
    CHECK_EQ(0, ctl_set("bigcache_age_ms", "10"));
    let_time_pass(20);
    CHECK_MSG(cached_big() < 8 * MIB, "%zu", cached_big());
    return PASS;
}

static int purge_cap(void)
{
    fill_caches(60, 256 * KIB);
    CHECK_MSG(cached() > 8 * MIB, "%zu", cached());
    CHECK_EQ(0, ctl_set("purge_cap_bytes", "1M"));
    CHECK_MSG(cached() <= 3 * MIB / 2, "%zu", cached());
    fill_caches(60, 256 * KIB);
    CHECK_MSG(cached() <= 3 * MIB / 2, "%zu", cached());
    return PASS;
}

// Small blocks become dirty memory, which waits for its time.
static int purge_delay(void)
{
    static void *p[4000];

    CHECK_EQ(0, ctl_set("purge_delay_ms", "3600000"));
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(p); i++)
            p[i] = touched(5000);
        for (size_t i = 0; i < COUNT(p); i++)
            free(p[i]);
        let_time_pass(1000); // idle magazines are flushed after a second
        if (round == 0)
            CHECK_MSG(cached() > 8 * MIB, "%zu", cached());
        CHECK_EQ(0, ctl_set("purge_delay_ms", "1"));
    }
    let_time_pass(20);
    CHECK_MSG(cached() < 4 * MIB, "%zu", cached());
    return PASS;
}

// The letters of the mapping that holds p: "hg" MADV_HUGEPAGE, "nh" MADV_NOHUGEPAGE.
static bool has_flag(const void *p, const char *flag)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[4096];
    bool inside = false, found = false;
    unsigned long start, end;

    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = (uintptr_t)p >= start && (uintptr_t)p < end;
        if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, flag) != NULL;
    }
    if (maps)
        fclose(maps);
    return found;
}

static void get_stats(hak_stats_t *stats)
{
    int (*get)(hak_stats_t *, size_t) = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "hak_stats_get");

    memset(stats, 0, sizeof *stats);
    if (symbol == NULL)
        return;
    memcpy(&get, &symbol, sizeof get);
    get(stats, sizeof *stats);
}

// Until so much may be made of huge pages.
static size_t wait_for_huge(size_t bytes)
{
    hak_stats_t stats;

    for (int tries = 0; tries < 100; tries++) {
        let_time_pass(25);
        get_stats(&stats);
        if (stats.huge_bytes >= bytes)
            break;
    }
    return (size_t)stats.huge_bytes;
}

// Makes huge pages now of what may be; khugepaged would in its own time, older kernels (before 6.1) cannot.
static size_t collapse(char **block, size_t nr)
{
    const size_t huge = 2 * MIB;
    uintptr_t last = 0;

    for (size_t i = 0; i < nr; i++) {
        uintptr_t at = (uintptr_t)block[i] & ~(huge - 1);
        if (at != last && has_flag(block[i], " hg"))
            (void)madvise(block[i] - ((uintptr_t)block[i] - at), huge, 25 /* MADV_COLLAPSE */);
        last = at;
    }
    return proc_bytes("/proc/self/smaps_rollup", "AnonHugePages:");
}

// thp:auto. What the program holds is dense: nearly all of it may be huge pages, and is no larger for it.
static int thp_auto(void)
{
    static char *block[100000];
    hak_stats_t stats;

    CHECK_EQ(0, ctl_set("thp", "auto"));
    for (size_t i = 0; i < COUNT(block); i++)
        block[i] = touched(400);
    get_stats(&stats);
    CHECK_EQ(0, stats.huge_promoted);
    size_t live = (size_t)stats.live, huge = wait_for_huge(live / 2), resident = proc_bytes("/proc/self/smaps_rollup", "Rss:");
    if (huge == 0 && access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0)
        return skip("a kernel without transparent huge pages");
    CHECK_MSG(huge >= live / 2, "%zu of %zu", huge, live);
    size_t made = collapse(block, COUNT(block)), more = proc_bytes("/proc/self/smaps_rollup", "Rss:");
    printf("# %zu KiB live, %zu KiB promoted, %zu KiB made; resident %zu KiB, then %zu KiB\n", live / KIB, huge / KIB, made / KIB,
           resident / KIB, more / KIB);
    CHECK_MSG(more <= resident + huge / 16 + 512 * KIB, "%zu %zu", resident, more);

    for (size_t i = 0; i < COUNT(block); i += i % 100 < 50 ? 1 : 51)
        free(block[i]);
    CHECK_EQ(0, ctl_set("thp", "off"));
    get_stats(&stats);
    CHECK_EQ(0, stats.huge_bytes);
    CHECK(stats.huge_promoted > 0);
    CHECK_EQ(stats.huge_promoted, stats.huge_demoted);
    for (size_t i = 99; i < COUNT(block); i += 10000)
        CHECK(!has_flag(block[i], " hg"));
    return PASS;
}

static int thp(void)
{
    void *first = touched(64 * KIB), *p = NULL;

    CHECK_EQ(0, ctl_set("thp", "on"));
    for (int i = 0; i < 200; i++) { // until a region is mapped for it
        p = touched(64 * KIB);
        if (has_flag(p, " hg"))
            break;
    }
    if (!has_flag(p, " hg") && access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0)
        return skip("a kernel without transparent huge pages");
    CHECK(!has_flag(first, " hg"));
    CHECK(has_flag(p, " hg"));
    CHECK_EQ(0, ctl_set("thp", "off"));
    for (int i = 0; i < 200; i++)
        p = touched(64 * KIB);
    CHECK(!has_flag(p, " hg"));
    return PASS;
}

static size_t total(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.keepcost;
}

static int limit(void)
{
    void *live[8];

    fill_caches(20, MIB);
    CHECK_MSG(cached() > 14 * MIB, "%zu", cached());
    live[0] = touched(8 * MIB);
    CHECK_EQ(0, limit_set(12 * MIB));
    CHECK_MSG(total() <= 12 * MIB, "%zu", total());
    fill_caches(20, MIB); // 28 MiB for a moment: requests are not refused
    CHECK_MSG(total() <= 12 * MIB, "%zu", total());
    CHECK_EQ(0, limit_set(0));
    fill_caches(20, MIB);
    CHECK_MSG(total() > 20 * MIB, "%zu", total());
    // Live memory that grows without a free drives out what is cached.
    CHECK_EQ(0, limit_set(32 * MIB));
    for (size_t i = 1; i < 7; i++)
        live[i] = touched(3 * MIB + i);
    CHECK_MSG(total() <= 33 * MIB, "%zu", total());
    for (size_t i = 0; i < 7; i++)
        free(live[i]);
    return PASS;
}

// Beyond the limit work goes on, and not every free ends in the kernel.
static int limit_exceeded(void)
{
    void *live = touched(40 * MIB);

    CHECK_EQ(0, limit_set(16 * MIB));
    for (int i = 0; i < 100000; i++)
        free(hide(malloc(100 + (size_t)i % 1000)));
    fill_caches(20, MIB);
    CHECK_MSG(cached() <= MIB, "%zu", cached());
    free(live);
    return PASS;
}

static int limit_of_the_environment(void)
{
    if (!getenv("HAKMEM_LIMIT")) {
        setenv("HAKMEM_LIMIT", "16M", 1);
        execl("/proc/self/exe", "options", "HAKMEM_LIMIT", (char *)NULL);
        return FAIL;
    }
    for (int i = 0; i < 3; i++)
        fill_caches(40, MIB);
    CHECK_MSG(total() <= 16 * MIB, "%zu", total());
    return PASS;
}

// Any thread may set while others allocate and the process forks.
static void *set_all(void *arg)
{
    static const char *const settings[][2] = {
        {"tiny_mag_cap", "8"},     {"tiny_mag_cap", "2048"},     {"mmap_threshold", "64K"},
        {"mmap_threshold", "16M"}, {"disable_bigcache", "on"},   {"disable_bigcache", "off"},
        {"pool_tls_free", "off"},  {"pool_tls_free", "on"},      {"limit", "1M"},
        {"limit", "none"},         {"remote_batch_bytes", "1K"}, {"cap_large", "0"},
        {"cap_large", "255"},      {"wmax_large", "4"},          {"purge_delay_ms", "0"},
        {"cap_mid", "0"},          {"cap_mid", "64"},            {"tiny_refill_count_hot", "1024"},
        {"tiny_refill_count", "1024"}, {"wmax_mid", "4"},        {"disable_batch", "on"},
        {"disable_batch", "off"},  {"purge_cap_bytes", "0"},     {"thp", "on"},
    };
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    void *block[256] = {NULL};
    intptr_t failures = 0;

    for (int i = 0; i < 20000; i++) {
        size_t n = random_next(&seed) % COUNT(settings), slot = random_next(&seed) % COUNT(block);
        size_t bytes = (size_t)1 << random_next(&seed) % 19;
        if (i % 10 == 0)
            failures += ctl_set(settings[n][0], settings[n][1]) != 0;
        free(block[slot]);
        block[slot] = hide(memset(hide(malloc(bytes + 16)), 7, bytes));
    }
    for (size_t i = 0; i < COUNT(block); i++)
        free(block[i]);
    return (void *)failures;
}

static int threads_and_forks(void)
{
    pthread_t thread[3];
    void *failures;

    for (size_t i = 0; i < COUNT(thread); i++)
        CHECK_EQ(0, pthread_create(&thread[i], NULL, set_all, (void *)(i + 1)));
    for (int i = 0; i < 50; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            alarm(10);
            _exit(ctl_set("tiny_mag_cap", "100") != 0 || !hide(malloc(100000)));
        }
        waitpid(child, &status, 0);
        CHECK_EQ(0, status);
    }
    for (size_t i = 0; i < COUNT(thread); i++) {
        pthread_join(thread[i], &failures);
        CHECK_EQ(0, (intptr_t)failures);
    }
    return PASS;
}

// Blocks that the magazine holds come back at once, last in, first out: how many do.
static size_t kept_in_magazine(size_t bytes)
{
    static void *p[2000];
    size_t kept = 0;

    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = hide(malloc(bytes));
    for (size_t i = 0; i < COUNT(p); i++)
        free(p[i]);
    while (kept < COUNT(p) && hide(malloc(bytes)) == p[COUNT(p) - 1 - kept])
        kept++;
    return kept;
}

// A lowered cap holds for magazines that were larger: what is freed in a burst leaves them. A sample, or a tick, in
// the moment of the count makes it small: the largest of several counts.
static int magazines_shrink(void)
{
    size_t kept[2] = {0, 0};

    for (int low = 0; low < 2; low++) {
        if (low)
            CHECK_EQ(0, ctl_set("tiny_mag_cap", "8"));
        for (int round = 0; round < 20; round++)
            (void)kept_in_magazine(64);
        for (int count = 0; count < 5; count++) {
            size_t now = kept_in_magazine(64);
            kept[low] = now > kept[low] ? now : kept[low];
        }
    }
    CHECK_MSG(kept[0] > 60, "%zu", kept[0]);
    CHECK_MSG(kept[1] <= 8, "%zu", kept[1]);
    return PASS;
}

// A magazine that would take more than the budget does not grow.
static int magazine_budget(void)
{
    static const char *const budget[] = {"8K", "none"};
    size_t kept[2] = {0, 0};

    for (int i = 0; i < 2; i++) {
        CHECK_EQ(0, ctl_set("budget_mid", budget[i]));
        for (int round = 0; round < 20; round++) {
            size_t now = kept_in_magazine(100);
            kept[i] = now > kept[i] ? now : kept[i];
        }
    }
    CHECK_MSG(kept[0] > 0 && kept[1] > 2 * kept[0], "%zu, %zu", kept[0], kept[1]);
    return PASS;
}

// Frees a block twice and writes all of it in between.
static int free_twice(size_t bytes)
{
    void *before = hide(malloc(bytes)), *volatile p = malloc(bytes); // volatile: the compiler knows nothing

    free(p);
    for (size_t i = 0; i < bytes; i++)
        ((volatile char *)p)[i] = 1;
    free(p);
    return before == NULL;
}

// How a program ends that does.
static int end_of_second_free(size_t bytes)
{
    char text[24];
    pid_t child = fork();
    int status = -1;

    if (child == 0) {
        snprintf(text, sizeof text, "%zu", bytes);
        close(STDERR_FILENO);
        execl("/proc/self/exe", "options", "twice", text, (char *)NULL);
        _exit(2);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static int safe_free(void)
{
    static const size_t bytes[] = {16, 100, 1024, 5000, 60000};

    if (!getenv("HAKMEM_SAFE_FREE")) {
        bool missed = false;
        for (size_t i = 0; i < COUNT(bytes); i++)
            missed |= end_of_second_free(bytes[i]) == 0;
        CHECK(missed); // else the option would be for nothing
        setenv("HAKMEM_SAFE_FREE", "on", 1);
        execl("/proc/self/exe", "options", "safe_free", (char *)NULL);
        return FAIL;
    }
    for (size_t i = 0; i < COUNT(bytes); i++)
        CHECK_EQ(SIGABRT, end_of_second_free(bytes[i]));
    for (int i = 0; i < 1000; i++) // what is right stays right
        free(hide(malloc((size_t)i * 70)));
    return PASS;
}

// Runs of 64 KiB to 2 MiB that the thread keeps come back at once, last in, first out.
static size_t kept_runs(size_t bytes)
{
    int (*get)(hak_stats_t *, size_t) = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "hak_stats_get"), *p[32];
    hak_stats_t before, after;

    if (symbol == NULL)
        return SIZE_MAX;
    memcpy(&get, &symbol, sizeof get);
    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = hide(malloc(bytes));
    for (size_t i = 0; i < COUNT(p); i++)
        free(p[i]);
    get(&before, sizeof before);
    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = hide(malloc(bytes));
    get(&after, sizeof after);
    for (size_t i = 0; i < COUNT(p); i++)
        free(p[i]);
    return (size_t)(after.run_hits_cache - before.run_hits_cache);
}

static int cap_large(void)
{
    size_t some = kept_runs(100000);

    CHECK_EQ(0, ctl_set("cap_large", "0"));
    size_t none = kept_runs(100000);
    CHECK_MSG(some >= 3 && none == 0, "%zu, %zu", some, none);
    CHECK_EQ(0, ctl_set("cap_large", "12"));
    size_t more = kept_runs(100000);
    CHECK_MSG(more > some, "%zu, %zu", some, more);
    return PASS;
}

// A cached run may be larger than the request by wmax_large.
static int wmax_large(void)
{
    CHECK_EQ(0, ctl_set("wmax_large", "1"));
    void *large = hide(malloc(640 * KIB));
    free(large);
    void *exact = hide(malloc(400 * KIB)); // which gave the cache away
    free(hide(malloc(640 * KIB)));
    CHECK_EQ(0, ctl_set("wmax_large", "4"));
    void *generous = hide(malloc(400 * KIB));
    CHECK_MSG(malloc_usable_size(exact) < 500 * KIB && malloc_usable_size(generous) >= 600 * KIB, "%zu %zu",
              malloc_usable_size(exact), malloc_usable_size(generous));
    free(exact), free(generous);
    return PASS;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"answers", answers, 0},
        {"every option reads back", every_option_reads_back, 0},
        {"realloc0", realloc0, 0},
        {"stats_dump", stats_dump, 0},
        {"mmap_threshold", mmap_threshold, 0},
        {"a block of mmap_threshold bytes", mmap_threshold_itself, 0},
        {"bigcache_bytes, disable_bigcache", bigcache, 0},
        {"bigcache_age_ms", bigcache_age, 20},
        {"purge_cap_bytes", purge_cap, 0},
        {"purge_delay_ms", purge_delay, 20},
        {"thp", thp, 0},
        {"thp:auto", thp_auto, 60},
        {"cap_large", cap_large, 0},
        {"wmax_large", wmax_large, 0},
        {"limit", limit, 0},
        {"beyond the limit", limit_exceeded, 30},
        {"HAKMEM_LIMIT", limit_of_the_environment, 0},
        {"tiny_mag_cap", magazines_shrink, 0},
        {"budget_mid", magazine_budget, 0},
        {"safe_free", safe_free, 0},
        {"threads and forks", threads_and_forks, 60},
    };

    harness_preload(argv);
    resolve("hak_ctl_get", &ctl_get);
    resolve("hak_ctl_source", &ctl_source);
    resolve("hak_ctl_name", &ctl_name);
    resolve("hak_ctl_set", &ctl_set);
    resolve("hak_limit_set", &limit_set);
    if (!ctl_get || !ctl_source || !ctl_name || !ctl_set || !limit_set) {
        printf("1..0 # SKIP not under the library\n");
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "twice") == 0)
        return free_twice(strtoul(argv[2], NULL, 10));
    return harness_main(argc, argv, cases, COUNT(cases));
}
