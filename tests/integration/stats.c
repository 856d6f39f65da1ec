// SPDX-License-Identifier: MIT
//
// The counters as a program reads them of itself: what adds up, to the byte, whatever it has done
// before it rests; what each class says; and what is in memory, beside /proc/self/smaps.
#include "harness.h"

#include <dlfcn.h>
#include <hakmem/hakmem.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

// The program is not linked with the library: it comes in by LD_PRELOAD.
static void *function(const char *name)
{
    void *p = dlsym(RTLD_DEFAULT, name);

    if (!p) {
        printf("# no %s: not under the library\n", name);
        abort();
    }
    return p;
}

static int get(hak_stats_t *stats, size_t size)
{
    int (*call)(hak_stats_t *, size_t);

    *(void **)&call = function("hak_stats_get");
    return call(stats, size);
}

static hak_stats_t now(void)
{
    hak_stats_t s;

    if (get(&s, sizeof s) != 0)
        abort();
    return s;
}

static int adds_up(const char *when)
{
    hak_stats_t s = now();
    uint64_t sum = s.live + s.cached + s.slab_free + s.dirty + s.purged + s.metadata;

    if (sum != s.mapped)
        printf("# %s: live %ju + cached %ju + slab_free %ju + dirty %ju + purged %ju + metadata %ju\n", when,
               (uintmax_t)s.live, (uintmax_t)s.cached, (uintmax_t)s.slab_free, (uintmax_t)s.dirty,
               (uintmax_t)s.purged, (uintmax_t)s.metadata);
    CHECK_EQ(s.mapped, sum);
    CHECK_EQ(s.live, s.live_small + s.live_runs + s.live_big);
    CHECK_EQ(s.cached, s.cached_magazines + s.cached_parcels + s.cached_runs + s.cached_big);
    CHECK(s.slab_tails <= s.slab_free);
    CHECK(s.pending <= s.dirty);
    return PASS;
}

// The class that serves n bytes; size 0: it has no slab.
struct wanted {
    size_t size;
    hak_stats_class_t row;
};

static int keep_class(const hak_stats_class_t *row, void *arg)
{
    struct wanted *wanted = arg;

    if (row->size != wanted->size)
        return 0;
    wanted->row = *row;
    return 7; // ends the walk
}

static hak_stats_class_t class_of(size_t n)
{
    int (*each)(int (*)(const hak_stats_class_t *, void *), void *);
    struct wanted wanted = {.size = n};

    *(void **)&each = function("hak_stats_class_foreach");
    if (each(keep_class, &wanted) != 7)
        memset(&wanted.row, 0, sizeof wanted.row);
    return wanted.row;
}

// --- sums ---

static void *slot[4096];

static size_t any_size(uint64_t r)
{
    static const size_t most[] = {64, 1000, 8 * KIB, 70 * KIB, 700 * KIB, 5 * MIB};

    return (size_t)(r >> 8) % most[r % COUNT(most)];
}

// Frees, allocates, grows and shrinks at random.
static void churn(uint64_t *state, size_t first, size_t nr_slots, size_t nr_steps)
{
    for (size_t step = 0; step < nr_steps; step++) {
        uint64_t r = random_next(state);
        void **p = &slot[first + r % nr_slots];
        size_t size = any_size(random_next(state));

        if (*p && r >> 60 < 4) {
            void *q = realloc(*p, size + 1);
            *p = q ? q : *p;
            continue;
        }
        free(*p);
        *p = r >> 60 == 15 ? aligned_alloc((size_t)64 << (r >> 20 & 7), size + 1) : malloc(size);
        if (*p)
            memset(*p, 1, size < 64 ? size : 64);
    }
}

static void clear(size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) {
        free(slot[i]);
        slot[i] = NULL;
    }
}

static int one_thread(void)
{
    uint64_t state = 3;

    for (unsigned round = 0; round < 300; round++) {
        churn(&state, 0, 200, 50);
        if (round % 50 == 49)
            clear(0, 200);
        if (round % 70 == 69)
            malloc_trim(0);
        CHECK_EQ(PASS, adds_up("one thread"));
    }
    return PASS;
}

#define NR_THREADS 4
static pthread_barrier_t rest, go;

// Each thread frees what the one before it allocated.
static void *work(void *index_)
{
    size_t index = (size_t)index_;
    uint64_t state = index + 100;

    for (unsigned round = 0; round < 20; round++) {
        churn(&state, (index + round) % NR_THREADS * 256, 256, 2000);
        pthread_barrier_wait(&rest); // everybody rests
        pthread_barrier_wait(&go);   // until it has been looked at
    }
    return NULL;
}

static int threads_at_rest(void)
{
    pthread_t thread[NR_THREADS];
    int result = PASS;

    pthread_barrier_init(&rest, NULL, NR_THREADS + 1);
    pthread_barrier_init(&go, NULL, NR_THREADS + 1);
    for (size_t i = 0; i < NR_THREADS; i++)
        pthread_create(&thread[i], NULL, work, (void *)i);
    for (unsigned round = 0; round < 20; round++) {
        pthread_barrier_wait(&rest);
        if (adds_up("threads at rest") != PASS)
            result = FAIL;
        pthread_barrier_wait(&go);
    }
    for (size_t i = 0; i < NR_THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(PASS, adds_up("threads gone"));
    hak_stats_t s = now();
    CHECK(s.remote_frees > 0 && s.parcels_sent > 0 && s.parcels_drained > 0);
    CHECK(s.heaps_active == 1 && s.heaps >= NR_THREADS + 1);
    clear(0, COUNT(slot));
    CHECK_EQ(PASS, adds_up("all free"));
    return result;
}

static int child_of_fork(void)
{
    uint64_t state = 77;
    int status;

    churn(&state, 0, 500, 5000);
    uint64_t pid = now().pid;
    CHECK_EQ(getpid(), pid);
    pid_t child = fork();
    if (child == 0) {
        churn(&state, 0, 500, 5000);
        _exit(adds_up("in the child") == PASS && now().pid == (uint64_t)getpid() ? 0 : 1);
    }
    waitpid(child, &status, 0);
    CHECK_EQ(0, status);
    return adds_up("in the parent");
}

// --- exact numbers ---

static int blocks_of_a_class(void)
{
    static void *block[5000];
    size_t size = malloc_usable_size(block[0] = malloc(100));

    free(block[0]);
    hak_stats_class_t before = class_of(size);
    hak_stats_t s = now();
    for (size_t i = 0; i < COUNT(block); i++)
        block[i] = malloc(100);
    hak_stats_class_t with = class_of(size);
    CHECK_EQ(before.live + COUNT(block), with.live);
    CHECK_EQ(s.live + COUNT(block) * size, now().live);
    CHECK_EQ(s.live_blocks + COUNT(block), now().live_blocks);
    CHECK_EQ(with.slabs * with.slots, with.live + with.cached + with.parcels + with.free);
    for (size_t i = 0; i < COUNT(block); i += 2)
        free(block[i]);
    CHECK_EQ(before.live + COUNT(block) / 2, class_of(size).live);
    for (size_t i = 1; i < COUNT(block); i += 2)
        free(block[i]);
    CHECK_EQ(before.live, class_of(size).live);
    CHECK_EQ(s.live, now().live);
    return PASS;
}

static void *free_some(void *n)
{
    for (size_t i = 0; i < (size_t)n; i++)
        free(slot[i]);
    pthread_barrier_wait(&rest);
    pthread_barrier_wait(&go); // keeps them meanwhile
    return NULL;
}

// 30 blocks wait in the magazine of the thread that freed them, and are not live; when it ends they travel. One or two may be
// samples of the profile or guarded, which go home at once.
static int blocks_on_their_way(void)
{
    pthread_t thread;

    pthread_barrier_init(&rest, NULL, 2);
    pthread_barrier_init(&go, NULL, 2);
    for (size_t i = 0; i < 30; i++)
        slot[i] = malloc(200);
    size_t size = malloc_usable_size(slot[0]);
    hak_stats_class_t before = class_of(size);
    pthread_create(&thread, NULL, free_some, (void *)30);
    pthread_barrier_wait(&rest);
    hak_stats_class_t after = class_of(size);
    CHECK_EQ(before.live - 30, after.live);
    CHECK(after.cached >= before.cached + 27 && after.cached <= before.cached + 30);
    CHECK_EQ(0, after.parcels);
    CHECK_EQ(PASS, adds_up("kept"));
    pthread_barrier_wait(&go);
    pthread_join(thread, NULL);
    CHECK_EQ(after.cached - before.cached, class_of(size).parcels); // sent when the thread ended, and not opened yet
    CHECK_EQ((after.cached - before.cached) * size, now().cached_parcels);
    CHECK_EQ(PASS, adds_up("on their way"));
    for (size_t i = 0; i < COUNT(slot); i++)
        slot[i] = hide(malloc(200)); // refills
    CHECK_EQ(0, class_of(size).parcels);
    CHECK_EQ(before.live - 30 + COUNT(slot), class_of(size).live);
    clear(0, COUNT(slot));
    return adds_up("home");
}

// One call site, which asks for one size again and again: only then a big block is cached.
static __attribute__((noinline)) void *nine_mib(void)
{
    return hide(malloc(9 * MIB));
}

static int runs_and_big_blocks(void)
{
    free(nine_mib());
    hak_stats_t before = now();
    void *run = hide(malloc(200 * KIB)), *big = nine_mib(), *own = hide(malloc(100 * MIB));
    hak_stats_t with = now();

    CHECK_EQ(before.live_blocks + 3, with.live_blocks);
    CHECK(with.live_runs >= before.live_runs + 200 * KIB);
    CHECK(with.live_big >= before.live_big + 109 * MIB);
    CHECK(with.run_misses > before.run_misses);
    CHECK_EQ(PASS, adds_up("runs and big blocks in use"));
    free(run);
    free(big);
    free(own);
    hak_stats_t after = now();
    CHECK_EQ(before.live_runs, after.live_runs);
    CHECK_EQ(before.live_big, after.live_big);
    CHECK(after.cached_runs > 0);
    CHECK(after.cached_big >= 9 * MIB);
    run = hide(malloc(200 * KIB));
    own = hide(malloc(100 * MIB));
    big = nine_mib();
    hak_stats_t again = now();
    CHECK(again.run_hits_cache > after.run_hits_cache);
    CHECK(again.big_misses > after.big_misses); // the 100 MiB
    CHECK_EQ(after.big_hits_site + after.big_hits_shared + 1, again.big_hits_site + again.big_hits_shared);
    CHECK_EQ(0, again.cached_big);
    free(run);
    free(big);
    free(own);
    malloc_trim(0);
    CHECK_EQ(0, now().cached_big + now().cached_runs + now().dirty);
    return adds_up("runs and big blocks");
}

static int mallinfo_agrees(void)
{
    void *p[3] = {hide(malloc(5000)), hide(malloc(300 * KIB)), hide(malloc(20 * MIB))};
    hak_stats_t s = now();
    struct mallinfo2 m = mallinfo2();

    CHECK_EQ(s.live, m.uordblks);
    CHECK_EQ(s.mapped - s.metadata, m.arena + m.hblkhd);
    CHECK_EQ(m.arena + m.hblkhd, m.uordblks + m.fordblks);
    CHECK(m.hblkhd >= 20 * MIB);
    for (size_t i = 0; i < COUNT(p); i++)
        free(p[i]);
    CHECK(mallinfo2().uordblks + 20 * MIB <= m.uordblks);
    return PASS;
}

// --- in memory ---

// Rss of private mappings without a name: the library's, in a program that maps nothing itself and
// has no second thread.
static size_t unnamed_resident(void)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    bool unnamed = false;
    size_t kib, total = 0;

    while (file && fgets(line, sizeof line, file)) {
        unsigned long from, to, offset, inode;
        char flags[8], device[16], name[256] = "";
        if (sscanf(line, "%lx-%lx %7s %lx %15s %lu %255s", &from, &to, flags, &offset, device, &inode, name) >= 6)
            unnamed = inode == 0 && name[0] == 0;
        else if (unnamed && sscanf(line, "Rss: %zu", &kib) == 1)
            total += kib * KIB;
    }
    if (file)
        fclose(file);
    return total;
}

static int close_to(uint64_t expected, uint64_t actual)
{
    uint64_t off = expected > actual ? expected - actual : actual - expected;

    printf("# in unnamed mappings %ju KiB, counted %ju KiB\n", (uintmax_t)expected / KIB,
           (uintmax_t)actual / KIB);
    CHECK(off * 20 <= expected);
    return PASS;
}

static int resident(void)
{
    uint64_t state = 5;

    for (size_t i = 0; i < COUNT(slot); i++) {
        size_t size = any_size(random_next(&state)) / 8;
        slot[i] = memset(hide(malloc(size)), 1, size);
    }
    CHECK_EQ(PASS, close_to(unnamed_resident(), now().resident));
    for (size_t i = 0; i < COUNT(slot); i += 2) {
        free(slot[i]);
        slot[i] = NULL;
    }
    CHECK_EQ(PASS, close_to(unnamed_resident(), now().resident));
    clear(0, COUNT(slot));
    malloc_trim(0);
    hak_stats_t s = now();
    CHECK(s.resident <= s.mapped);
    return PASS;
}

// --- versions, callbacks, KPIs ---

static int versions_by_size(void)
{
    struct {
        hak_stats_t stats;
        uint64_t more[4];
    } later;
    uint64_t two[3] = {1, 1, 12345};

    memset(&later, 0xff, sizeof later);
    CHECK_EQ(0, get(&later.stats, sizeof later));
    CHECK(later.stats.mapped > 0);
    for (size_t i = 0; i < COUNT(later.more); i++)
        CHECK_EQ(0, later.more[i]);
    CHECK_EQ(0, get((hak_stats_t *)two, 2 * sizeof *two));
    CHECK(two[0] > 1 && two[1] != 1);
    CHECK_EQ(12345, two[2]);
    CHECK_EQ(EINVAL, get(NULL, sizeof later));
    return PASS;
}

static int kpis(void)
{
    int (*kpi_get)(hak_kpi_t *, size_t);
    hak_kpi_t before, after;

    *(void **)&kpi_get = function("hak_kpi_get");
    CHECK_EQ(EINVAL, kpi_get(NULL, sizeof before));
    CHECK_EQ(0, kpi_get(&before, sizeof before));
    char *p = memset(hide(malloc(64 * MIB)), 1, 64 * MIB);
    for (unsigned i = 0; i < 100000; i++)
        slot[i % COUNT(slot)] = malloc(1000);
    CHECK_EQ(0, kpi_get(&after, sizeof after));
    CHECK(after.slow_alloc_samples > before.slow_alloc_samples);
    CHECK(after.slow_alloc_p50_ns > 0 && after.slow_alloc_p50_ns <= after.slow_alloc_p95_ns &&
          after.slow_alloc_p95_ns <= after.slow_alloc_p99_ns);
    CHECK(after.soft_faults > before.soft_faults);
    CHECK(after.resident_delta >= before.resident_delta + (int64_t)(60 * MIB));
    free(p);
    memset(slot, 0, sizeof slot);
    return PASS;
}

struct text {
    size_t used;
    char at[65536];
};

static void collect(void *arg, const char *piece, size_t bytes)
{
    struct text *text = arg;

    if (text->used + bytes < sizeof text->at)
        memcpy(text->at + text->used, piece, bytes);
    text->used += bytes;
    text->at[text->used] = 0;
}

static int printed(void)
{
    void (*print)(void (*)(void *, const char *, size_t), void *);
    static struct text text;
    uintmax_t mapped;

    *(void **)&print = function("hak_stats_print");
    errno = 4321;
    print(collect, &text);
    CHECK_EQ(4321, errno);
    CHECK_MSG(strncmp(text.at, "hakmem: version ", 16) == 0, "%.80s", text.at);
    const char *bytes = strstr(text.at, "hakmem: bytes: mapped ");
    CHECK(bytes != NULL && sscanf(bytes, "hakmem: bytes: mapped %ju", &mapped) == 1);
    CHECK_EQ(now().mapped, mapped);
    return PASS;
}

// Every refill says why it ended where it did.
static int reasons_of_refills(void)
{
    hak_stats_t before = now();

    for (unsigned i = 0; i < 200000; i++)
        slot[i % COUNT(slot)] = malloc(48);
    hak_stats_t after = now();
    uint64_t refills = after.refills - before.refills;
    uint64_t sources = (after.refill_current - before.refill_current) +
                       (after.refill_partial - before.refill_partial) +
                       (after.refill_depot - before.refill_depot) +
                       (after.refill_parked - before.refill_parked) + (after.refill_new - before.refill_new);
    CHECK(refills > 1000);
    CHECK_EQ(refills + after.refill_single - before.refill_single, sources);
    CHECK_EQ(0, after.refill_failed - before.refill_failed);
    CHECK(after.refill_new > before.refill_new && after.refill_current > before.refill_current);
    memset(slot, 0, sizeof slot);
    return PASS;
}

// --- the library's own calls, at the edges of what they promise ---

static int expand_in_place_or_not(void)
{
    static const size_t sizes[] = {1, 40, 1000, 40000, 70000, 300000, 3 * MIB, 70 * MIB};
    int (*expand)(void *, size_t);

    *(void **)&expand = function("hak_expand");
    CHECK_EQ(0, expand(NULL, 10));
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (unsigned times = 0; times < 4; times++) {
            const size_t wanted[] = {sizes[i] * 2, sizes[i] / 3, 0, PTRDIFF_MAX};
            unsigned char *p = malloc(sizes[i]);
            size_t before = malloc_usable_size(p);
            p[0] = 7;
            int done = expand(p, wanted[times]);
            CHECK(done == 0 || done == 1);
            CHECK_EQ(7, p[0]);
            CHECK(done ? malloc_usable_size(p) >= wanted[times] : malloc_usable_size(p) == before);
            CHECK(wanted[times] != PTRDIFF_MAX || !done);
            free(p);
        }
    return adds_up("after expanding");
}

static int zeroed_and_good(void)
{
    void *(*zalloc)(size_t), *volatile p;
    size_t (*good)(size_t), (*usable)(const void *);

    *(void **)&zalloc = function("hak_zalloc");
    *(void **)&good = function("hak_good_size");
    *(void **)&usable = function("hak_usable_size");
    for (size_t n = 0; n < 200000; n = n * 2 + 1) {
        memset(p = malloc(n), 0xee, n);
        free(p);
        unsigned char *q = zalloc(n);
        for (size_t i = 0; i < n; i++)
            CHECK_EQ(0, q[i]);
        CHECK(good(n) >= n && usable(q) >= n && usable(q) < good(n) + 4096); // a colour's room; less if guarded
        CHECK_EQ(good(n), good(good(n)));
        free(q);
    }
    errno = 0;
    CHECK(zalloc(SIZE_MAX) == NULL);
    CHECK_EQ(ENOMEM, errno);
    CHECK_EQ(0, usable(NULL));
    return PASS;
}

static int trim_keeps_what_it_is_told(void)
{
    size_t (*trim)(size_t), (*purge)(void);

    *(void **)&trim = function("hak_trim");
    *(void **)&purge = function("hak_purge");
    for (size_t i = 0; i < 400; i++)
        slot[i] = memset(malloc(100 * KIB), 1, 100 * KIB);
    clear(0, 400);
    uint64_t cached = now().cached + now().dirty;
    CHECK_EQ(0, trim(SIZE_MAX));
    CHECK_EQ(cached, now().cached + now().dirty);
    CHECK(purge() > 0);
    CHECK(now().cached + now().dirty < cached / 4);
    return adds_up("after purging");
}

static int count_and_stop(const hak_site_t *site, void *left)
{
    (void)site;
    return --*(int *)left == 0 ? 5 : 0;
}

static int sites_end_when_told(void)
{
    int (*each)(int (*)(const hak_site_t *, void *), void *);
    void *(*alloc_at)(size_t, const void *);
    void (*free_at)(void *, size_t, const void *);
    const char *(*purpose)(const void *);
    static char here[3];

    *(void **)&each = function("hak_site_foreach");
    *(void **)&alloc_at = function("hak_alloc_at");
    *(void **)&free_at = function("hak_free_at");
    *(void **)&purpose = function("hak_site_purpose");
    for (size_t i = 0; i < sizeof here; i++)
        for (size_t n = 0; n < 20; n++)
            free_at(alloc_at(100 * (n + 1), &here[i]), 100 * (n + 1), &here[i]);
    free_at(NULL, 0, &here[0]);
    int left = 2;
    CHECK_EQ(5, each(count_and_stop, &left));
    CHECK_EQ(0, left);
    left = 1 << 30;
    CHECK_EQ(0, each(count_and_stop, &left));
    CHECK((1 << 30) - left >= 3);
    CHECK_EQ(0, strcmp("unknown", purpose(&left))); // nobody's site
    CHECK(purpose(&here[0]) != NULL);
    return PASS;
}

struct wanted_site {
    const void *site;
    hak_site_t found;
};

static int keep_site(const hak_site_t *site, void *wanted_)
{
    struct wanted_site *wanted = wanted_;

    if (site->site != wanted->site)
        return 0;
    wanted->found = *site;
    return 1;
}

// Of blocks above 64 KiB every one counts, cached runs too.
static int large_blocks_of_a_site(void)
{
    static const size_t sizes[] = {100 * KIB, 300 * KIB, 70 * KIB, 5 * MIB, 100 * KIB};
    int (*each)(int (*)(const hak_site_t *, void *), void *);
    void *(*alloc_at)(size_t, const void *);
    static char here;
    struct wanted_site wanted = {.site = &here};
    size_t total = 0;

    *(void **)&each = function("hak_site_foreach");
    *(void **)&alloc_at = function("hak_alloc_at");
    for (size_t round = 1; round <= 500; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            void *p = alloc_at(sizes[i], &here);
            CHECK(p != NULL);
            free(p);
            total += sizes[i];
        }
        if (round != 1 && round != 500)
            continue;
        CHECK_EQ(1, each(keep_site, &wanted));
        CHECK_EQ(round * COUNT(sizes), wanted.found.allocs);
        CHECK_EQ(total, wanted.found.total_bytes);
        CHECK_EQ(5 * MIB, wanted.found.max_bytes);
    }
    return PASS;
}

static int find_size(const hak_site_t *site, void *bytes)
{
    return site->max_bytes == *(size_t *)bytes;
}

// Those of exactly 64 KiB are left to the samples, which are off here.
static int large_begins_above_64_KiB(void)
{
    int (*each)(int (*)(const hak_site_t *, void *), void *);
    void *block[100];

    if (!getenv("HAKMEM_PROF")) {
        setenv("HAKMEM_PROF", "off", 1);
        execl("/proc/self/exe", "stats", "large begins above 64 KiB", (char *)NULL);
        return FAIL;
    }
    *(void **)&each = function("hak_site_foreach");
    for (size_t bytes = 64 * KIB; bytes <= 64 * KIB + 1; bytes++) {
        for (size_t i = 0; i < COUNT(block); i++)
            CHECK((block[i] = hide(malloc(bytes))) != NULL);
        CHECK_EQ(bytes > 64 * KIB, each(find_size, &bytes));
        for (size_t i = 0; i < COUNT(block); i++)
            free(block[i]);
    }
    return PASS;
}

static int narrow_mallinfo(void)
{
    void *p = malloc((size_t)3 << 30); // more than an int holds
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo (*call)(void);

    *(void **)&call = function("mallinfo");
    if (!p)
        return skip("no 3 GiB");
    struct mallinfo narrow = call();
    CHECK_EQ(INT_MAX, narrow.hblkhd);
    CHECK_EQ(INT_MAX, narrow.uordblks);
    CHECK_EQ(wide.ordblks, narrow.ordblks);
    CHECK_EQ(wide.hblks, narrow.hblks);
    free(p);
    CHECK_EQ(mallinfo2().uordblks, call().uordblks);
    return PASS;
}

static const struct test_case cases[] = {
    {"the sum of one thread", one_thread, 30},
    {"the sum of threads at rest", threads_at_rest, 60},
    {"the sum in a fork child", child_of_fork, 0},
    {"blocks of a class, to the block", blocks_of_a_class, 0},
    {"blocks on their way home", blocks_on_their_way, 0},
    {"runs and big blocks", runs_and_big_blocks, 0},
    {"mallinfo2 agrees", mallinfo_agrees, 0},
    {"what is in memory, within 5 %", resident, 30},
    {"structs are versioned by size", versions_by_size, 0},
    {"KPIs", kpis, 0},
    {"printed", printed, 0},
    {"refills say where from", reasons_of_refills, 0},
    {"expanded in place, or not at all", expand_in_place_or_not, 30},
    {"zeroed blocks and good sizes", zeroed_and_good, 30},
    {"trim and purge", trim_keeps_what_it_is_told, 30},
    {"a walk over sites ends when told", sites_end_when_told, 0},
    {"large blocks of a site", large_blocks_of_a_site, 30},
    {"large begins above 64 KiB", large_begins_above_64_KiB, 0},
    {"mallinfo, when an int is too small", narrow_mallinfo, 0},
};

int main(int argc, char **argv)
{
    harness_preload(argv);
    return harness_main(argc, argv, cases, COUNT(cases));
}
