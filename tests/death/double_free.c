// SPDX-License-Identifier: MIT
#include "death.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *freed_block(size_t size)
{
    void *p = take(size);

    free_it(p);
    about(p, p, size);
    return p;
}

static void at_once(const struct death *self, uint64_t seed)
{
    (void)seed;
    free_it(freed_block(self->size));
}

// `argument` other blocks of random sizes are freed between the first and the second free.
static void late(const struct death *self, uint64_t seed)
{
    static void *other[1000];
    unsigned place = (unsigned)(random_next(&seed) % self->argument);
    void *p = NULL;

    for (unsigned i = 0; i < self->argument; i++) {
        if (i == place)
            p = take(self->size);
        other[i] = take((size_t)1 << (4 + random_next(&seed) % 13));
    }
    free_it(p);
    about(p, p, self->size);
    for (unsigned i = 0; i < self->argument; i++)
        free_it(other[i]);
    free_it(p);
}

static bool covers(const char *block, size_t size, const char *p)
{
    return p >= block && p < block + (size != 0 ? size : 1);
}

// Other blocks are allocated, and stay, between the two calls; none of them may be where p was.
static void late_among_new(const struct death *self, uint64_t seed)
{
    void *neighbour = take(self->size);
    void *p = freed_block(self->size);

    for (unsigned i = 0; i < self->argument; i++) {
        size_t size = (size_t)1 << (4 + random_next(&seed) % 13);
        if (size == self->size)
            continue;
        if (covers(take(size), size, p))
            skip_case("the memory was handed out again");
    }
    free_it(p);
    free_it(neighbour);
}

static unsigned crowd_of(size_t size)
{
    if (size <= 8 * KIB)
        return 4096;
    return size <= MIB ? 128 : 4;
}

// Enough blocks of one size are freed to push p out of every cache; half of them stay, so that its
// memory stays.
static void flushed(const struct death *self, uint64_t seed)
{
    static void *block[4096];
    unsigned count = crowd_of(self->size);

    for (unsigned i = 0; i < count; i++)
        block[i] = take(self->size);
    unsigned place = (unsigned)(random_next(&seed) % (count / 2)) * 2;
    free_it(block[place]);
    about(block[place], block[place], self->size);
    for (unsigned i = 0; i < count; i += 2)
        if (i != place)
            free_it(block[i]);
    if (self->argument != 0)
        malloc_trim(0);
    free_it(block[place]);
}

static void local_then_remote(const struct death *self, uint64_t seed)
{
    (void)seed;
    in_thread(free_it, freed_block(self->size));
}

static void remote_then_local(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    about(p, p, self->size);
    in_thread(free_it, p);
    free_it(p);
}

// Between the two, the owner allocates and frees other sizes, which makes it look at what others
// have freed.
static void remote_then_busy_local(const struct death *self, uint64_t seed)
{
    void *neighbour = take(self->size);
    void *p = take(self->size);

    about(p, p, self->size);
    in_thread(free_it, p);
    for (unsigned i = 0; i < 200; i++) {
        size_t size = (size_t)1 << (4 + random_next(&seed) % 13);
        if (size == self->size)
            continue;
        void *other = take(size);
        if (covers(other, size, p))
            skip_case("the memory was handed out again");
        free_it(other);
    }
    free_it(p);
    free_it(neighbour);
}

static void two_remotes(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    about(p, p, self->size);
    in_thread(free_it, p);
    in_thread(free_it, p);
}

struct errand {
    size_t size;
    void *block;
};

static void fetch(void *errand_)
{
    struct errand *errand = errand_;

    errand->block = take(errand->size);
}

static void fetch_and_free(void *errand_)
{
    struct errand *errand = errand_;

    errand->block = take(errand->size);
    free_it(errand->block);
}

static void owner_gone(const struct death *self, uint64_t seed)
{
    struct errand errand = {self->size, NULL};

    (void)seed;
    in_thread(self->argument != 0 ? fetch_and_free : fetch, &errand);
    about(errand.block, errand.block, self->size);
    free_it(errand.block);
    free_it(errand.block);
}

static pthread_barrier_t barrier;

static void *free_at_barrier(void *p)
{
    pthread_barrier_wait(&barrier);
    free_it(p);
    return NULL;
}

// Two threads free at the same moment. Not every round need hit the same instruction, but one must
// be caught.
static void racing(const struct death *self, uint64_t seed)
{
    (void)seed;
    pthread_barrier_init(&barrier, NULL, 2);
    for (unsigned round = 0; round < 200; round++) {
        void *p = take(self->size);
        pthread_t thread;
        about(p, p, self->size);
        if (pthread_create(&thread, NULL, free_at_barrier, p) != 0)
            skip_case("no thread");
        free_at_barrier(p);
        pthread_join(thread, NULL);
    }
}

static void aligned(const struct death *self, uint64_t seed)
{
    void *p = hide(aligned_alloc(self->argument, self->size));

    (void)seed;
    if (p == NULL)
        skip_case("no memory");
    memset(p, 1, self->size);
    about(p, p, self->size);
    free_it(p);
    free_it(p);
}

static void cleared(const struct death *self, uint64_t seed)
{
    void *p = hide(calloc(1, self->size));

    (void)seed;
    about(p, p, self->size);
    free_it(p);
    free_it(p);
}

static void grown(const struct death *self, uint64_t seed)
{
    void *p = hide(realloc(take(24), self->size));

    (void)seed;
    about(p, p, self->size);
    free_it(p);
    free_it(p);
}

static void shrunk(const struct death *self, uint64_t seed)
{
    void *p = hide(realloc(take(self->size), self->size / 2));

    (void)seed;
    about(p, p, self->size / 2);
    free_it(p);
    free_it(p);
}

// The block moved; the program frees where it was.
static void moved_away(const struct death *self, uint64_t seed)
{
    void *neighbour = take(self->size), *p = take(self->size), *next = take(self->size);
    void *q = hide(realloc(hide(p), self->size * 8 + 1000));

    (void)seed;
    if (q == p)
        skip_case("it grew where it was");
    about(p, p, self->size);
    free_it(p);
    free_it(neighbour);
    free_it(next);
}

static void realloc_to_zero(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    about(p, p, self->size);
    if (hide(realloc(hide(p), 0)) != NULL)
        skip_case("realloc to zero gave a block");
    free_it(p);
}

static void first_second_first(const struct death *self, uint64_t seed)
{
    void *a = take(self->size), *b = take(self->size);

    (void)seed;
    about(a, a, self->size);
    free_it(a);
    free_it(b);
    free_it(a);
}

static void many_then_one_again(const struct death *self, uint64_t seed)
{
    void *block[64];
    unsigned place = (unsigned)(random_next(&seed) % COUNT(block));

    for (unsigned i = 0; i < COUNT(block); i++)
        block[i] = take(self->size);
    for (unsigned i = 0; i < COUNT(block); i++)
        free_it(block[i]);
    about(block[place], block[place], self->size);
    free_it(block[place]);
}

static void empty_block(const struct death *self, uint64_t seed)
{
    void *p = hide(malloc(0));

    (void)self, (void)seed;
    about(p, p, 0);
    free_it(p);
    free_it(p);
}

static void with_free_sized(const struct death *self, uint64_t seed)
{
    void (*free_sized)(void *, size_t) = function_named("free_sized");
    void *p = take(self->size);

    (void)seed;
    about(p, p, self->size);
    free_sized(p, self->size);
    free_sized(p, self->size);
}

static void with_free_aligned_sized(const struct death *self, uint64_t seed)
{
    void (*free_aligned_sized)(void *, size_t, size_t) = function_named("free_aligned_sized");
    void *p = hide(aligned_alloc(256, self->size));

    (void)seed;
    about(p, p, self->size);
    free_aligned_sized(p, 256, self->size);
    free_aligned_sized(p, 256, self->size);
}

static void with_name(const struct death *self, const char *allocate, const char *release)
{
    void *(*new)(size_t) = function_named(allocate);
    void (*delete)(void *) = function_named(release);
    void *p = hide(new (self->size));

    about(p, p, self->size);
    delete (p);
    delete (p);
}

static void with_hak_free(const struct death *self, uint64_t seed)
{
    (void)seed;
    with_name(self, "hak_malloc", "hak_free");
}

static void with_cfree(const struct death *self, uint64_t seed)
{
    (void)seed;
    with_name(self, "malloc", "cfree");
}

static void with_libc_free(const struct death *self, uint64_t seed)
{
    (void)seed;
    if (function_named("hak_malloc") != NULL)
        with_name(self, "__libc_malloc", "__libc_free");
}

static void with_delete(const struct death *self, uint64_t seed)
{
    (void)seed;
    with_name(self, "_Znwm", "_ZdlPv");
}

static void with_delete_array(const struct death *self, uint64_t seed)
{
    (void)seed;
    with_name(self, "_Znam", "_ZdaPv");
}

static void with_sized_delete(const struct death *self, uint64_t seed)
{
    void *(*new)(size_t) = function_named("_Znwm");
    void (*delete)(void *, size_t) = function_named("_ZdlPvm");
    void *p = hide(new (self->size));

    (void)seed;
    about(p, p, self->size);
    delete (p, self->size);
    delete (p, self->size);
}

static void with_aligned_delete(const struct death *self, uint64_t seed)
{
    void *(*new)(size_t, size_t) = function_named("_ZnwmSt11align_val_t");
    void (*delete)(void *, size_t) = function_named("_ZdlPvSt11align_val_t");
    void *p = hide(new (self->size, 512));

    (void)seed;
    about(p, p, self->size);
    delete (p, 512);
    delete (p, 512);
}

static void copied_string(const struct death *self, uint64_t seed)
{
    char *p = hide(strdup("the free that came twice"));

    (void)self, (void)seed;
    about(p, p, strlen(p) + 1);
    free_it(p);
    free_it(p);
}

static void in_child_after_fork(const struct death *self, uint64_t seed)
{
    void *p = freed_block(self->size);
    pid_t child = fork();
    int status = 0;

    (void)seed;
    if (child == 0) {
        free_it(p);
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        raise(WTERMSIG(status));
}

// Parent and child free the same block, each its own copy: no double free. Then the child frees it
// again.
static void child_twice(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);
    pid_t child = fork();
    int status = 0;

    (void)seed;
    if (child == 0) {
        about(p, p, self->size);
        free_it(p);
        free_it(p);
        _exit(0);
    }
    free_it(p);
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        raise(WTERMSIG(status));
}

static void *victim;

static void free_victim(void)
{
    free_it(victim);
}

static void at_exit(const struct death *self, uint64_t seed)
{
    (void)seed;
    victim = freed_block(self->size);
    atexit(free_victim);
    exit(0);
}

static pthread_key_t key;

static void set_key(void *p)
{
    pthread_setspecific(key, p);
}

static void in_key_destructor(const struct death *self, uint64_t seed)
{
    (void)seed;
    pthread_key_create(&key, free_it);
    in_thread(set_key, freed_block(self->size));
}

static void on_signal(int number)
{
    (void)number;
    free_it(victim);
}

static void in_signal_handler(const struct death *self, uint64_t seed)
{
    (void)seed;
    victim = freed_block(self->size);
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
}

// The program overwrote the dead block first, so a mark in it is gone.
static void overwritten(const struct death *self, uint64_t seed)
{
    char *p = freed_block(self->size);

    (void)seed;
    memset(hide(p), 0x41, self->size);
    free_it(p);
}

static const struct death cases[] = {
    ALL_SIZES("double free at once,", at_once, 0, 0),
    ALL_SIZES("double free after 1 other,", late, 1, 0),
    ALL_SIZES("double free after 30 others,", late, 30, 3),
    ALL_SIZES("double free after 1000 others,", late, 1000, 3),
    SIZES_UP_TO_64K("double free after 100 new blocks,", late_among_new, DOUBLE_FREE, 100, 2),
    SIZES_BIG("double free after 100 new blocks,", late_among_new, ANY_SENTENCE, ANY_SENTENCE, 100,
              2),
    ALL_SIZES("double free after a cache flush,", flushed, 0, 2),
    ALL_SIZES("double free after malloc_trim,", flushed, 1, 0),
    ALL_SIZES("double free, here then in a thread,", local_then_remote, 0, 0),
    ALL_SIZES("double free, in a thread then here,", remote_then_local, 0, 0),
    // A big block's memory may serve others by then, and the sentence is about what lies there now.
    SIZES_UP_TO_64K("double free, in a thread, then after other work here,", remote_then_busy_local,
                    DOUBLE_FREE, 0, 2),
    SIZES_BIG("double free, in a thread, then after other work here,", remote_then_busy_local,
              ANY_SENTENCE, ANY_SENTENCE, 0, 2),
    ALL_SIZES("double free, in two threads,", two_remotes, 0, 0),
    ALL_SIZES("double free, allocating thread gone,", owner_gone, 0, 0),
    ALL_SIZES("double free, freeing thread gone,", owner_gone, 1, 0),
    ALL_SIZES("double free, two threads at a time,", racing, 0, 0),
    ALL_SIZES("double free of calloc's,", cleared, 0, 0),
    ALL_SIZES("double free of realloc's grown,", grown, 0, 0),
    ALL_SIZES("double free of realloc's shrunk,", shrunk, 0, 0),
    ALL_SIZES("double free of what realloc moved,", moved_away, 0, 0),
    ALL_SIZES("double free after realloc to zero,", realloc_to_zero, 0, 0),
    SIZES_UP_TO_64K("double free a b a,", first_second_first, DOUBLE_FREE, 0, 0),
    SIZES_UP_TO_64K("double free of one among 64,", many_then_one_again, DOUBLE_FREE, 0, 3),
    {"double free aligned 64, 100 B", aligned, DOUBLE_FREE, 100, 64, 0},
    {"double free aligned 256, 256 B", aligned, DOUBLE_FREE, 256, 256, 0},
    {"double free aligned 4096, 100 B", aligned, DOUBLE_FREE, 100, 4096, 0},
    {"double free aligned 4096, 40 KiB", aligned, DOUBLE_FREE, 40 * KIB, 4096, 0},
    {"double free aligned 65536, 1 KiB", aligned, DOUBLE_FREE, KIB, 65536, 0},
    {"double free aligned 65536, 200 KiB", aligned, DOUBLE_FREE, 200 * KIB, 65536, 0},
    {"double free aligned 2 MiB, 1 MiB", aligned, DOUBLE_FREE_OR_UNKNOWN, MIB, 2 * MIB, 0},
    {"double free aligned 2 MiB, 8 MiB", aligned, DOUBLE_FREE_OR_UNKNOWN, 8 * MIB, 2 * MIB, 0},
    {"double free of an empty block", empty_block, DOUBLE_FREE, 0, 0, 0},
    SIZES_UP_TO_64K("double free by free_sized,", with_free_sized, DOUBLE_FREE, 0, 0),
    {"double free by free_sized, 1 MiB", with_free_sized, DOUBLE_FREE, MIB, 0, 0},
    {"double free by free_aligned_sized, 1 KiB", with_free_aligned_sized, DOUBLE_FREE, KIB, 0, 0},
    {"double free by free_aligned_sized, 1 MiB", with_free_aligned_sized, DOUBLE_FREE, MIB, 0, 0},
    {"double free by hak_free", with_hak_free, DOUBLE_FREE, 100, 0, 0},
    {"double free by cfree", with_cfree, DOUBLE_FREE, 100, 0, 0},
    {"double free by __libc_free", with_libc_free, DOUBLE_FREE, 100, 0, 0},
    {"double delete", with_delete, DOUBLE_FREE, 100, 0, 0},
    {"double delete, 1 MiB", with_delete, DOUBLE_FREE, MIB, 0, 0},
    {"double delete[]", with_delete_array, DOUBLE_FREE, 100, 0, 0},
    {"double sized delete", with_sized_delete, DOUBLE_FREE, 100, 0, 0},
    {"double aligned delete", with_aligned_delete, DOUBLE_FREE, 1000, 0, 0},
    {"double free of strdup's", copied_string, DOUBLE_FREE, 0, 0, 0},
    {"double free in the child of a fork", in_child_after_fork, DOUBLE_FREE, 100, 0, 0},
    {"double free in the child of a fork, 1 MiB", in_child_after_fork, DOUBLE_FREE, MIB, 0, 0},
    {"double free by a child alone", child_twice, DOUBLE_FREE, 100, 0, 0},
    {"double free at exit", at_exit, DOUBLE_FREE, 100, 0, 0},
    {"double free in a key destructor", in_key_destructor, DOUBLE_FREE, 100, 0, 0},
    {"double free in a signal handler", in_signal_handler, DOUBLE_FREE, 100, 0, 0},
    {"double free of an overwritten block, 16 B", overwritten, ABORT_OR_LIVE, 16, 0, 0},
    {"double free of an overwritten block, 1 KiB", overwritten, ABORT_OR_LIVE, KIB, 0, 0},
};

const struct suite double_free_suite = {cases, COUNT(cases)};
