// SPDX-License-Identifier: MIT
//
// The kernel refuses: a fixed stream of operations in every tier, again and again, each time with another call of the kernel refused.
//
// Does:    for every mode and secure mode counts the calls that the stream makes, start of the library included; then, for each kind
//          of call, each number up to that count and each of six error numbers, plays it with that one call refused, and with all
//          from that one on. Each play is a process of its own and checks what blocks contain, that requests fail with ENOMEM and only where memory was
//          refused, that the counters add up to what the kernel has given, that afterwards every tier serves, and that at the end
//          no block is live and all is given back but the address space that the library counts as lost and what it keeps when nothing
//          is refused.
// Doesn't: refuse the calls that the library makes past hk_os_calls, at its start: memfd_create and files.
// Share:   `make check` plays one in so many, HK_FAULTS=whole (`make check-faults`) all up to number 64 of a kind and every seventh beyond;
//          `faults MODE` those of one mode.
// Links:   the library under other names than malloc (apart_malloc), so that this program's own memory is libc's.
#define _GNU_SOURCE 1

#include "arena/arena.h"
#include "batch/batch.h"
#include "os/os.h"
#include "secure/secure.h"

#include <hakmem/hakmem.h>

#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

void *apart_malloc(size_t n);
void *apart_calloc(size_t count, size_t n);
void *apart_realloc(void *p, size_t n);
void *apart_aligned_alloc(size_t align, size_t n);
void apart_free(void *p);

/* ---- the kernel that refuses --------------------------------------------------------------- */

enum kind { MAP, UNMAP, RESIZE, MOVE, ADVISE, GUARD, PROTECT, NR_KINDS };
// What a plan may refuse besides: mprotect, and what takes its place.
enum { PROTECT_AND_MOVE = NR_KINDS, NR_PLANS };

static const char *const kind_name[NR_PLANS] = {
    "mmap", "munmap", "mremap in place", "mremap onto a place", "madvise", "madvise of guards", "mprotect",
    "mprotect and mremap onto a place"};

static struct hk_os_calls kernel;
static unsigned nr_calls[NR_KINDS];
static size_t mapped_bytes; // as the kernel has it
static unsigned nr_refused;
static bool refusing;
static struct plan {
    int kind; // negative: nothing is refused
    unsigned nth, last;
    int error; // DECEIVED: the kernel says yes and does nothing, which the checks must notice
} plan;

#define DECEIVED (-1)
#define LEAK (-2) // a plan's kind: nothing is refused, and the program forgets one block

static int enter(enum kind kind)
{
    unsigned nr = __atomic_add_fetch(&nr_calls[kind], 1, __ATOMIC_RELAXED);
    bool both = plan.kind == PROTECT_AND_MOVE && (kind == PROTECT || kind == MOVE);

    if (both)
        nr = __atomic_load_n(&nr_calls[PROTECT], __ATOMIC_RELAXED);
    if (!__atomic_load_n(&refusing, __ATOMIC_RELAXED) || (!both && plan.kind != (int)kind) || nr < plan.nth || nr > plan.last)
        return 0;
    __atomic_add_fetch(&nr_refused, 1, __ATOMIC_RELAXED);
    return -plan.error;
}

static void grow(size_t bytes)
{
    __atomic_add_fetch(&mapped_bytes, bytes, __ATOMIC_RELAXED);
}

static bool is_error(intptr_t p)
{
    return p < 0 && p > -4096;
}

static intptr_t map(void *hint, size_t bytes)
{
    int error = enter(MAP);
    intptr_t p = error ? error : kernel.map(hint, bytes);

    if (!is_error(p))
        grow(bytes);
    return p;
}

static int unmap(void *base, size_t bytes)
{
    int error = enter(UNMAP);

    if (error == -DECEIVED)
        return 0;
    if (!error)
        error = kernel.unmap(base, bytes);
    if (!error)
        grow(-bytes);
    return error;
}

static intptr_t remap(void *base, size_t old_bytes, size_t new_bytes, int flags, void *target)
{
    int error = enter(flags & MREMAP_FIXED ? MOVE : RESIZE);
    intptr_t p = error ? error : kernel.remap(base, old_bytes, new_bytes, flags, target);

    if (is_error(p))
        return p;
    if (!(flags & MREMAP_FIXED))
        grow(new_bytes - old_bytes);
    else if (!(flags & 4)) // MREMAP_DONTUNMAP: both stay
        grow(-old_bytes);
    return p;
}

static int advise(void *base, size_t bytes, int advice)
{
    int error = enter(advice == 102 || advice == 103 ? GUARD : ADVISE);

    if (error == -DECEIVED)
        return 0;
    return error ? error : kernel.advise(base, bytes, advice);
}

static int protect(void *base, size_t bytes, bool accessible)
{
    int error = enter(PROTECT);

    return error ? error : kernel.protect(base, bytes, accessible);
}

// Before the library's constructor. Arguments: play KIND NTH LAST ERROR.
static void before_all(int argc, char **argv, char **environment)
{
    (void)environment;
    if (argc != 6 || strcmp(argv[1], "play") != 0)
        return;
    plan = (struct plan){atoi(argv[2]), (unsigned)strtoul(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10),
                         atoi(argv[5])};
    refusing = plan.kind >= 0;
    kernel = hk_os_calls;
    hk_os_calls = (struct hk_os_calls){map, unmap, remap, advise, protect};
}

__attribute__((section(".preinit_array"), used)) static void (*const early)(int, char **, char **) = before_all;

/* ---- one play ------------------------------------------------------------------------------ */

static const char *step = "start";
static bool is_end; // nothing is refused any more

__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    printf("WRONG %s: ", step);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    _exit(1);
}

// Numbered places; a block carries its number and size at its ends and at steps between.
static struct block {
    unsigned char *p;
    size_t size;
    unsigned char mark;
} block[1200];

static size_t stride(size_t size)
{
    return size < 4 * KIB ? 61 : size < 64 * KIB ? 1021 : size < MIB ? 32 * KIB : 256 * KIB;
}

static void paint(struct block *b)
{
    static unsigned char next;

    b->mark = ++next | 1;
    for (size_t i = 0; i < b->size; i += stride(b->size))
        b->p[i] = b->mark;
    if (b->size)
        b->p[b->size - 1] = b->mark;
}

static void look(const struct block *b, size_t size, size_t by)
{
    for (size_t i = 0; i < size; i += by)
        if (b->p[i] != b->mark)
            wrong("block of %zu bytes, byte %zu: expected %u, actual %u", b->size, i, b->mark, b->p[i]);
}

static void look_whole(const struct block *b)
{
    look(b, b->size, stride(b->size));
    if (b->size && b->p[b->size - 1] != b->mark)
        wrong("block of %zu bytes: its last byte is not what was written", b->size);
}

static void give(struct block *b)
{
    if (b->p)
        look_whole(b);
    apart_free(b->p);
    b->p = NULL;
}

// NULL: memory may have been refused.
static bool may_be_null(void)
{
    int error = errno;

    if (error != ENOMEM)
        wrong("errno %d", error);
    if (is_end || nr_refused == 0 || plan.kind != MAP)
        wrong("no memory, though no mmap was refused");
    return true;
}

static void keep(struct block *b, void *p, size_t size)
{
    *b = (struct block){.p = p, .size = size};
    if (p)
        paint(b);
    else
        may_be_null();
}

static void take(struct block *b, size_t size)
{
    give(b);
    errno = 0;
    keep(b, apart_malloc(size), size);
}

static void take_zeroed(struct block *b, size_t size)
{
    give(b);
    errno = 0;
    unsigned char *p = apart_calloc(1, size);
    for (size_t i = 0; p && i < size; i += size < 128 * KIB ? 1 : 4 * KIB)
        if (p[i])
            wrong("calloc of %zu bytes: byte %zu is %u", size, i, p[i]);
    keep(b, p, size);
}

static void take_aligned(struct block *b, size_t align, size_t size)
{
    give(b);
    errno = 0;
    unsigned char *p = apart_aligned_alloc(align, size);
    if ((uintptr_t)p & (align - 1))
        wrong("aligned_alloc of %zu: %p", align, (void *)p);
    keep(b, p, size);
}

static void resize(struct block *b, size_t size)
{
    if (!b->p)
        return;
    look_whole(b);
    errno = 0;
    unsigned char *p = apart_realloc(b->p, size);
    if (!p) {
        may_be_null();
        look_whole(b);
        return;
    }
    b->p = p;
    look(b, size < b->size ? size : b->size, stride(b->size));
    b->size = size;
    paint(b);
}

static void look_at_all(void)
{
    for (size_t i = 0; i < COUNT(block); i++)
        if (block[i].p)
            look_whole(&block[i]);
}

static void add_up(hak_stats_t *t)
{
    hak_stats_get(t, sizeof *t);
    uint64_t sum = t->live + t->cached + t->slab_free + t->dirty + t->purged + t->metadata;
    if (t->mapped != mapped_bytes || t->mapped != sum)
        wrong("kernel %zu, mapped %ju, sum %ju", mapped_bytes, (uintmax_t)t->mapped, (uintmax_t)sum);
}

static void next_step(const char *name)
{
    hak_stats_t t;

    look_at_all();
    add_up(&t);
    step = name;
}

static size_t small_size(size_t i)
{
    return 1 + i * 37 % 1024;
}

static size_t pool_size(size_t i)
{
    return 1100 + i * 4099 % (60 * KIB);
}

static size_t run_size(size_t i)
{
    return 66 * KIB + i * 77777 % (MIB + 300 * KIB);
}

static void fill(size_t from, size_t to, size_t (*size_of)(size_t))
{
    for (size_t i = from; i < to; i++)
        if (i % 3)
            take(&block[i], size_of(i));
        else
            take_zeroed(&block[i], size_of(i));
}

static void free_some(size_t from, size_t to, size_t every)
{
    for (size_t i = from; i < to; i += every)
        give(&block[i]);
}

enum { SMALL = 0, POOL = 600, RUNS = 760, BIG = 800, ALIGNED = 812, GROWING = 824, THREADS = 840, LAST = 1000 };

// Frees what others made, makes what others free, and ends with blocks of its own at hand.
static void *other(void *unused)
{
    (void)unused;
    free_some(SMALL, POOL, 5);
    free_some(POOL, RUNS, 3);
    fill(THREADS, THREADS + 100, small_size);
    fill(THREADS + 100, THREADS + 130, pool_size);
    take(&block[THREADS + 130], 300 * KIB);
    take(&block[THREADS + 131], 3 * MIB);
    give(&block[BIG]);
    give(&block[RUNS]);
    free_some(THREADS, THREADS + 100, 2);
    return NULL;
}

static void in_thread(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, other, NULL) != 0 || pthread_join(thread, NULL) != 0)
        wrong("no thread");
}

static void take_big(void)
{
    for (size_t i = 0; i < 12; i++)
        take(&block[BIG + i], 2 * MIB + i * 700001);
    for (unsigned round = 0; round < 4; round++) {
        take(&block[BIG + round], 2 * MIB + round * 700001);
    }
    take(&block[BIG + 4], 0);
    take_zeroed(&block[BIG + 5], 3 * MIB);
}

static void grow_and_shrink(void)
{
    static const size_t sizes[] = {100,      5000,      40000,    200 * KIB, MIB,       3 * MIB, 3 * MIB + 4096, 9 * MIB,
                                   24 * MIB, 5 * MIB,   300 * KIB, 70000,   3000,           10};

    for (size_t k = 0; k < COUNT(sizes); k++)
        for (size_t i = GROWING; i < GROWING + 3; i++)
            if (sizes[k] < 10 * MIB || i == GROWING)
                resize(&block[i], sizes[k]);
    for (size_t i = BIG; i < ALIGNED; i += 2)
        resize(&block[i], block[i].size + 600 * KIB);
    for (size_t i = RUNS; i < BIG; i += 3)
        resize(&block[i], block[i].size * 2 / 3 + 1);
}

static void change_policy(const char *name, const char *value)
{
    int error = hak_ctl_set(name, value);

    if (error && error != ENOMEM && error != EPERM)
        wrong("%s: error %d", name, error);
}

static void change_policies(void)
{
    change_policy("purge_delay_ms", "0");
    change_policy("mmap_threshold", "1M");
    (void)hak_limit_set(8 * MIB);
    fill(LAST, LAST + 30, run_size);
    free_some(LAST, LAST + 30, 1);
    (void)hak_limit_set(0);
    change_policy("purge_delay_ms", "300");
}

static size_t any_size(size_t i)
{
    return i % 4 == 0 ? 3000 + i * 1000 : i % 4 == 1 ? 70 * KIB + i * 3000 : i % 4 == 2 ? 300 * KIB + i * 9000 : 2100 * KIB + i * 20000;
}

// What was written before a purge must not be read after it. Every third stays, so that the others' neighbourhood does.
static void purge_and_clear(void)
{
    for (size_t i = 0; i < 40; i++) {
        take(&block[LAST + i], any_size(i));
        for (size_t k = 0; block[LAST + i].p && k < any_size(i); k += 4 * KIB)
            block[LAST + i].p[k] = 0xa5;
        if (block[LAST + i].p)
            paint(&block[LAST + i]);
    }
    for (size_t i = 0; i < 40; i++)
        if (i % 3)
            give(&block[LAST + i]);
    (void)hak_purge();
    for (size_t i = 0; i < 40; i++)
        if (i % 3)
            take_zeroed(&block[LAST + i], any_size(i));
    free_some(LAST, LAST + 40, 1);
}

static void stream(void)
{
    next_step("tiny");
    fill(SMALL, POOL, small_size);
    next_step("pool");
    fill(POOL, RUNS, pool_size);
    next_step("runs");
    fill(RUNS, BIG, run_size);
    next_step("big");
    take_big();
    next_step("aligned");
    for (size_t i = 0; i < 12; i++)
        take_aligned(&block[ALIGNED + i], (size_t)64 << 2 * (i % 9), 100 + i * 90001);
    next_step("realloc");
    for (size_t i = GROWING; i < GROWING + 3; i++)
        take(&block[i], 10);
    grow_and_shrink();
    next_step("threads");
    in_thread();
    hak_thread_idle();
    in_thread();
    next_step("trim");
    free_some(SMALL, BIG, 2);
    (void)hak_purge();
    fill(LAST + 60, LAST + 120, pool_size);
    next_step("zeroes");
    purge_and_clear();
    next_step("policy");
    change_policies();
    next_step("trim again");
    free_some(BIG, LAST, 2);
    (void)hak_trim(MIB);
    next_step("end");
}

// Every tier serves again.
static void serve(void)
{
    static const size_t sizes[] = {1, 16, 100, 1000, 2000, 10000, 60000, 80000, 500000, 1500000, 3 * MIB, 20 * MIB};

    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            take(&block[LAST + i], sizes[i]);
            take_aligned(&block[LAST + 20 + i], 4096, sizes[i]);
        }
        resize(&block[LAST + 11], 24 * MIB);
        resize(&block[LAST + 11], 20 * MIB);
    }
    in_thread();
}

// What the boxes say they will never use again, though the kernel has it as theirs.
static size_t lost_bytes(void)
{
    return hk_os_counters.lost_bytes + hk_arena_counters()->lost_bytes + hk_batch_counters()->nr_lost_bytes;
}

static int play(void)
{
    hak_stats_t t;

    stream();
    is_end = true;
    __atomic_store_n(&refusing, false, __ATOMIC_RELAXED);
    serve();
    next_step("all freed");
    for (size_t i = 0; i < COUNT(block); i++)
        give(&block[i]);
    if (plan.kind == LEAK && !apart_malloc(100))
        wrong("no memory");
    (void)hak_purge();
    (void)hak_purge();
    add_up(&t);
    printf("%u", nr_refused);
    for (unsigned k = 0; k < NR_KINDS; k++)
        printf(" %u", nr_calls[k]);
    printf(" %ju %ju %ju %ju %ju %ju %zu %ju %ju %zu\n", (uintmax_t)t.mapped, (uintmax_t)t.live, (uintmax_t)t.cached,
           (uintmax_t)(t.slab_free + t.dirty), (uintmax_t)t.purged, (uintmax_t)t.metadata, lost_bytes(),
           (uintmax_t)t.remote_lost, (uintmax_t)t.live_blocks, hk_secure_counters()->nr_resting);
    return 0;
}

/* ---- all plays ----------------------------------------------------------------------------- */

static const struct {
    const char *name, *options;
} modes[] = {
    {"minimal", "mode:minimal"},
    {"fast", "mode:fast"},
    {"balanced", "mode:balanced,guard_rate:256K"},
    {"learning", "mode:learning,guard_rate:256K"},
    {"research", "mode:research"},
    {"secure", "secure:1"},
};
static const int errors[] = {ENOMEM, EAGAIN, EPERM, EINVAL, ENOSYS, EACCES};

struct result {
    int status;
    unsigned nr_refused, nr_calls[NR_KINDS];
    size_t mapped, live, cached, free, purged, metadata, lost, remote_lost, live_blocks, kept;
    char text[400];
};

static void read_result(struct result *r)
{
    static char copy[sizeof r->text];
    char *at = copy;
    size_t *const rest[] = {&r->mapped, &r->live, &r->cached, &r->free, &r->purged, &r->metadata, &r->lost, &r->remote_lost, &r->live_blocks, &r->kept};

    memcpy(copy, r->text, sizeof copy);
    r->nr_refused = (unsigned)strtoul(at, &at, 10);
    for (unsigned k = 0; k < NR_KINDS; k++)
        r->nr_calls[k] = (unsigned)strtoul(at, &at, 10);
    for (size_t i = 0; i < COUNT(rest); i++)
        *rest[i] = strtoull(at, &at, 10);
}

static void run(const char *options, struct plan how, struct result *r)
{
    char program[] = "/proc/self/exe", words[4][16], setting[100];
    char *argv[] = {program, (char[]){"play"}, words[0], words[1], words[2], words[3], NULL};
    char *environment[] = {setting, NULL};
    posix_spawn_file_actions_t actions;
    size_t length = 0;
    ssize_t got;
    pid_t child;
    int ends[2];

    snprintf(setting, sizeof setting, "HAKMEM_OPTIONS=%s", options);
    snprintf(words[0], 16, "%d", how.kind);
    snprintf(words[1], 16, "%u", how.nth);
    snprintf(words[2], 16, "%u", how.last);
    snprintf(words[3], 16, "%d", how.error);
    if (pipe(ends) != 0)
        abort();
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    if (posix_spawn(&child, program, &actions, NULL, argv, environment) != 0)
        abort();
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    while (length < sizeof r->text - 1 && (got = read(ends[0], r->text + length, sizeof r->text - 1 - length)) > 0)
        length += (size_t)got;
    r->text[length] = '\0';
    r->text[strcspn(r->text, "\n")] = '\0';
    close(ends[0]);
    waitpid(child, &r->status, 0);
    if (r->status == 0)
        read_result(r);
}

// When mremap fails so, the page that was to be replaced may be gone: its block stays, counted as resting.
static bool may_spoil(const struct plan *how)
{
    return how->kind == PROTECT_AND_MOVE && (how->error == ENOMEM || how->error == EAGAIN);
}

// NULL: all was given back that is given back when nothing is refused, but address space that the library counts as lost.
static const char *what_stayed(const struct result *r, const struct result *usual, const struct plan *how)
{
    size_t spoilt = may_spoil(how) ? r->kept : 0;

    if (r->remote_lost)
        return "a block lost";
    if (r->live_blocks > spoilt)
        return "live blocks";
    if (r->cached > usual->cached)
        return "cached bytes";
    if (r->live_blocks == 0 && r->live > 0)
        return "live bytes";
    if (r->live_blocks == 0 && r->free > usual->free + MIB)
        return "free and not given back";
    if (r->live_blocks == 0 && r->mapped > usual->mapped + r->lost + 4 * MIB)
        return "address space";
    return NULL;
}

struct totals {
    unsigned played, met, failed;
};

static void judge(unsigned mode, struct plan how, const struct result *usual, struct totals *totals)
{
    struct result r;
    const char *what = "ended";

    run(modes[mode].options, how, &r);
    totals->played++;
    if (r.status == 0) {
        totals->met += r.nr_refused > 0;
        what = what_stayed(&r, usual, &how);
    }
    if (what && totals->failed++ < 5)
        printf("# %s, %s %u%s, error %d (play %d %u %u %d): %s, status %#x: %s\n", modes[mode].name, kind_name[how.kind], how.nth,
               how.last != how.nth ? " and all later" : "", how.error, how.kind, how.nth, how.last, how.error, what,
               (unsigned)r.status, r.text);
}

// One in `every` of all; beyond number 64 of a kind every seventh of the numbers. Worker `me` of so many.
static void play_mode(unsigned mode, unsigned every, const struct result *usual, unsigned me, unsigned nr_workers,
                      struct totals *totals)
{
    unsigned nr = mode, mine = 0;

    for (int kind = 0; kind < NR_PLANS; kind++)
        for (unsigned nth = 1; nth <= usual->nr_calls[kind < NR_KINDS ? kind : PROTECT]; nth += nth < 64 ? 1 : 7)
            for (size_t e = 0; e < COUNT(errors); e++)
                for (unsigned all = 0; all < 2; all++)
                    if (nr++ % every == 0 && mine++ % nr_workers == me)
                        judge(mode, (struct plan){kind, nth, all ? (unsigned)-1 : nth, errors[e]}, usual, totals);
}

#define MOST_WORKERS 16

static void play_mode_in_workers(unsigned mode, unsigned every, const struct result *usual, struct totals *sum)
{
    long nr_cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned nr = nr_cores < 1 ? 1 : nr_cores > MOST_WORKERS ? MOST_WORKERS : (unsigned)nr_cores;
    struct totals *each = mmap(NULL, sizeof *each * nr, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child[MOST_WORKERS];
    int status;

    for (unsigned i = 0; i < nr; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            play_mode(mode, every, usual, i, nr, &each[i]);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < nr; i++) {
        waitpid(child[i], &status, 0);
        sum->played += each[i].played;
        sum->met += each[i].met;
        sum->failed += each[i].failed + (status != 0);
    }
    munmap(each, sizeof *each * nr);
}

static bool point(unsigned nr, unsigned mode, unsigned every)
{
    struct totals totals = {0};
    struct result usual;

    run(modes[mode].options, (struct plan){.kind = -1}, &usual);
    if (usual.status != 0) {
        printf("not ok %u - %s: %s\n", nr, modes[mode].name, usual.text);
        return false;
    }
    play_mode_in_workers(mode, every, &usual, &totals);
    bool good = totals.failed == 0 && totals.met * 2 > totals.played;
    printf("# %s: calls", modes[mode].name);
    for (unsigned k = 0; k < NR_KINDS; k++)
        printf("%s %u %s", k ? "," : "", usual.nr_calls[k], kind_name[k]);
    printf("; %u plays, in %u something was refused, %u failed\n", totals.played, totals.met, totals.failed);
    printf("%sok %u - the kernel refuses, %s\n", good ? "" : "not ", nr, modes[mode].name);
    return good;
}

// Negative control: munmap and madvise that do nothing, and say that they did, must be noticed, and so must a block that stays.
static bool control(unsigned nr)
{
    static const struct plan leak = {.kind = LEAK};
    struct result unmapped, purged, usual, leaked;

    run("mode:balanced", (struct plan){UNMAP, 1, (unsigned)-1, DECEIVED}, &unmapped);
    run("mode:balanced", (struct plan){ADVISE, 1, (unsigned)-1, DECEIVED}, &purged);
    run("mode:balanced", (struct plan){.kind = -1}, &usual);
    run("mode:balanced", leak, &leaked);
    const char *stayed = usual.status == 0 && leaked.status == 0 ? what_stayed(&leaked, &usual, &leak) : NULL;
    bool good = strstr(unmapped.text, "WRONG") && strstr(unmapped.text, "mapped") && strstr(purged.text, "calloc");
    good = good && stayed && strcmp(stayed, "live blocks") == 0;
    printf("# %s\n# %s\n# stayed: %s\n%sok %u - a kernel that does not do what it says is noticed, and a block that stays\n",
           unmapped.text, purged.text, stayed ? stayed : "nothing", good ? "" : "not ", nr);
    return good;
}

int main(int argc, char **argv)
{
    const char *share = getenv("HK_FAULTS");
    bool whole = share != NULL && strcmp(share, "whole") == 0, good = true;
    unsigned nr = 0;

    if (argc == 6 && strcmp(argv[1], "play") == 0)
        return play();
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned mode = 0; mode < COUNT(modes); mode++)
        if (argc < 2 || strcmp(argv[1], modes[mode].name) == 0)
            good &= point(++nr, mode, whole ? 1 : share ? (unsigned)atoi(share) : 293);
    good &= control(++nr);
    printf("1..%u\n", nr);
    return good ? 0 : 1;
}
