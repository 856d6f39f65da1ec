// SPDX-License-Identifier: MIT
//
// Threads: birth, death, and memory that outlives them.
#include "harness.h"

#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

// What C++ uses for the destructors of thread_local objects.
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;

static void *filled(size_t size, int byte)
{
    void *p = hide(malloc(size));

    if (p == NULL)
        abort();
    return memset(p, byte, size);
}

// The blocks that are left are held until `others`, if there are any, hold theirs too.
static void work_and_meet(uint64_t seed, unsigned rounds, pthread_barrier_t *others)
{
    void *block[32] = {NULL};

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t r = random_next(&seed);
        void **p = &block[r % COUNT(block)];
        free(*p);
        *p = filled((r >> 8) % ((size_t)1 << (4 + (r >> 32) % 14)), 1);
    }
    if (others != NULL)
        pthread_barrier_wait(others);
    for (unsigned i = 0; i < COUNT(block); i++)
        free(block[i]);
}

static void work(uint64_t seed, unsigned rounds)
{
    work_and_meet(seed, rounds, NULL);
}

static void start(pthread_t *thread, void *(*fn)(void *), void *argument)
{
    if (pthread_create(thread, NULL, fn, argument) != 0)
        abort();
}

static void run_in_thread(void *(*fn)(void *), void *argument)
{
    pthread_t thread;

    start(&thread, fn, argument);
    pthread_join(thread, NULL);
}

// --- destructors ---

static pthread_key_t key[4];
static atomic_uint nr_destroyed;

// Sets its own key again, so that libc comes back, up to four times; frees and allocates every
// time.
static void key_destructor(void *p)
{
    atomic_fetch_add(&nr_destroyed, 1);
    free(p);
    pthread_setspecific(key[atomic_load(&nr_destroyed) % COUNT(key)], filled(200, 2));
    work(5, 50);
}

static void *with_keys(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < COUNT(key); i++)
        pthread_setspecific(key[i], filled(100, 1));
    work(1, 100);
    return NULL;
}

static int key_destructors(void)
{
    for (unsigned i = 0; i < COUNT(key); i++)
        pthread_key_create(&key[i], key_destructor);
    for (unsigned i = 0; i < 200; i++)
        run_in_thread(with_keys, NULL);
    CHECK(nr_destroyed >= 800);
    return PASS;
}

static void tls_destructor(void *p)
{
    free(p);
    work(6, 50);
    atomic_fetch_add(&nr_destroyed, 1);
}

static void *with_tls(void *unused)
{
    (void)unused;
    __cxa_thread_atexit_impl(tls_destructor, filled(300, 1), &__dso_handle);
    pthread_setspecific(key[0], filled(100, 1));
    __cxa_thread_atexit_impl(tls_destructor, filled(300000, 1), &__dso_handle);
    return NULL;
}

static int tls_destructors(void)
{
    pthread_key_create(&key[0], free);
    for (unsigned i = 0; i < 200; i++)
        run_in_thread(with_tls, NULL);
    CHECK_EQ(400, nr_destroyed);
    return PASS;
}

// The very first call of a thread is in a destructor, after whatever the library tears down.
static void first_call(void *unused)
{
    (void)unused;
    free(filled(64, 1));
    work(9, 20);
}

static void *idle_until_end(void *unused)
{
    (void)unused;
    pthread_setspecific(key[0], (void *)1);
    return NULL;
}

static int first_call_in_destructor(void)
{
    pthread_key_create(&key[0], first_call);
    for (unsigned i = 0; i < 200; i++)
        run_in_thread(idle_until_end, NULL);
    return PASS;
}

// A program's mistake that libc alone forgives: a key that was never made may be the library's.
static void *use_keys_never_made(void *unused)
{
    static char mine[4096];

    work(5, 20); // the thread has its heap
    memset(mine, 0x5a, sizeof mine);
    for (pthread_key_t k = 0; k < 4; k++)
        pthread_setspecific(k, mine);
    return unused;
}

static int keys_never_made(void)
{
    for (unsigned i = 0; i < 200; i++)
        run_in_thread(use_keys_never_made, NULL);
    return PASS;
}

// Only frees, never allocates: what others gave it.
static void *only_free(void *p)
{
    free(p);
    return NULL;
}

static int threads_that_only_free(void)
{
    for (size_t size = 1; size < 4 * MIB; size = size * 2 + 1)
        for (unsigned i = 0; i < 10; i++)
            run_in_thread(only_free, filled(size, 1));
    return PASS;
}

// --- blocks of the dead ---

#define NR_BLOCKS 2000
static _Atomic(unsigned char *) box[NR_BLOCKS];

static void *fill_boxes(void *seed_)
{
    uint64_t seed = (uintptr_t)seed_;

    for (unsigned i = 0; i < NR_BLOCKS; i++) {
        uint64_t r = random_next(&seed);
        size_t size = 16 + r % ((size_t)1 << (4 + (r >> 32) % 12));
        unsigned char *p = filled(size, (int)(i & 0xff));
        memcpy(p, &size, sizeof size);
        free(atomic_exchange(&box[(r >> 40) % NR_BLOCKS], p));
    }
    return NULL;
}

static atomic_bool stop;

// Empties boxes as fast as it can, while the threads that fill them come and go.
static void *empty_boxes(void *bad)
{
    unsigned i = 0;

    while (!stop) {
        unsigned char *p = atomic_exchange(&box[i++ % NR_BLOCKS], NULL);
        size_t size;
        if (p == NULL)
            continue;
        memcpy(&size, p, sizeof size);
        for (size_t at = sizeof size + 1; at < size; at++)
            if (p[at] != p[sizeof size])
                *(volatile bool *)bad = true;
        free(p);
    }
    return NULL;
}

static int exit_while_others_free(void)
{
    static bool bad;
    pthread_t cleaner[2];

    for (unsigned i = 0; i < COUNT(cleaner); i++)
        start(&cleaner[i], empty_boxes, &bad);
    for (uintptr_t i = 0; i < 400; i++) {
        pthread_t filler[3];
        for (unsigned k = 0; k < COUNT(filler); k++)
            start(&filler[k], fill_boxes, (void *)(i * 3 + k));
        for (unsigned k = 0; k < COUNT(filler); k++)
            pthread_join(filler[k], NULL);
    }
    stop = true;
    for (unsigned i = 0; i < COUNT(cleaner); i++)
        pthread_join(cleaner[i], NULL);
    for (unsigned i = 0; i < NR_BLOCKS; i++)
        free(box[i]);
    CHECK(!bad);
    return PASS;
}

// One thread allocates, another frees, all the time: memory must not pile up on either side.
static sem_t filled_slots, free_slots;
static void *ring[256];
#define NR_PASSED 2000000

static void *produce(void *unused)
{
    uint64_t seed = 3;

    (void)unused;
    for (unsigned i = 0; i < NR_PASSED / 64; i++) {
        sem_wait(&free_slots);
        void **batch = filled(64 * sizeof *batch, 0);
        for (unsigned k = 0; k < 64; k++)
            batch[k] = filled(random_next(&seed) % 1000, 1);
        ring[i % COUNT(ring)] = batch;
        sem_post(&filled_slots);
    }
    return NULL;
}

static void *consume(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < NR_PASSED / 64; i++) {
        sem_wait(&filled_slots);
        void **batch = ring[i % COUNT(ring)];
        for (unsigned k = 0; k < 64; k++)
            free(batch[k]);
        free(batch);
        sem_post(&free_slots);
    }
    return NULL;
}

static int producer_and_consumer(void)
{
    pthread_t producer, consumer;

    sem_init(&filled_slots, 0, 0);
    sem_init(&free_slots, 0, COUNT(ring));
    start(&producer, produce, NULL);
    start(&consumer, consume, NULL);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    // In flight at most: 256 x 64 blocks of 500 bytes, 8 MiB.
    CHECK_MSG(resident_bytes() < 64 * MIB, "%zu resident", resident_bytes());
    return PASS;
}

// --- many threads ---

#define GROUP        20
#define NR_LIVES     1000       // different threads, in the same groups of GROUP each time
#define CHANCE_BYTES (128 * KIB) // of each thread's stack or tables a page more, and a few of libc's
#define CACHED_BYTES (16 * MIB) // a group holds up to 9 MiB, and size classes take their part

static pthread_barrier_t group_alive;

static void *short_life(void *seed)
{
    work_and_meet((uintptr_t)seed, 100, &group_alive);
    return NULL;
}

// Every group is alive as a whole, however busy the machine is: so the most threads and blocks there
// ever are at one time are there in the first NR_LIVES threads.
static void generation(unsigned count)
{
    pthread_t thread[GROUP];

    for (unsigned i = 0; i < count; i += GROUP) {
        for (unsigned k = 0; k < GROUP; k++)
            start(&thread[k], short_life, (void *)(uintptr_t)((i + k) % NR_LIVES));
        for (unsigned k = 0; k < GROUP; k++)
            pthread_join(thread[k], NULL);
    }
}

static size_t rss_bytes(void)
{
    return proc_bytes("/proc/self/smaps_rollup", "Rss:");
}

// What is cached at the moment depends on how long ago it was freed, so it is given back before each
// measurement; that it is little is a check of its own.
static int ten_thousand_threads(void)
{
    pthread_barrier_init(&group_alive, NULL, GROUP);
    size_t before = 0;
    for (unsigned i = 0; i < 3; i++) { // the first looks and lines bring in pages of libc
        generation(NR_LIVES);
        malloc_trim(0);
        before = rss_bytes();
        printf("# resident: %zu KiB after %u threads\n", before / KIB, (i + 1) * NR_LIVES);
    }
    generation(10000);
    size_t cached = rss_bytes();
    malloc_trim(0);
    size_t after = rss_bytes();
    printf("# resident: %zu KiB after 10,000 more, %zu KiB with what is cached\n", after / KIB, cached / KIB);
    CHECK_MSG(after <= before + before / 20 + CHANCE_BYTES, "%zu before, %zu after", before, after);
    CHECK_MSG(cached <= before + CACHED_BYTES, "%zu before, %zu with what is cached", before, cached);
    return PASS;
}

static pthread_barrier_t all_alive;

static void *live_together(void *seed)
{
    void *p = filled(1000, 1);

    work((uintptr_t)seed, 20);
    pthread_barrier_wait(&all_alive);
    free(p);
    return NULL;
}

static int a_thousand_at_once(void)
{
    static pthread_t thread[1000];
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 * KIB);
    pthread_barrier_init(&all_alive, NULL, COUNT(thread));
    size_t before = proc_bytes("/proc/self/smaps_rollup", "Rss:");
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT(thread); i++)
            if (pthread_create(&thread[i], &attr, live_together, (void *)(uintptr_t)i) != 0)
                return skip("no thousand threads here");
        for (unsigned i = 0; i < COUNT(thread); i++)
            pthread_join(thread[i], NULL);
    }
    size_t after = proc_bytes("/proc/self/smaps_rollup", "Rss:");
    printf("# resident: %zu KiB before, %zu KiB after\n", before / KIB, after / KIB);
    // libc keeps up to 40 MiB of stacks, of which 1000 threads touched some 8 KiB each.
    CHECK_MSG(after <= before + 48 * MIB, "%zu before, %zu after", before, after);
    return PASS;
}

// A thread keeps blocks and dies; the heap must hand its memory on.
static void *leave_block(void *out)
{
    *(void **)out = filled(100, 1);
    work((uintptr_t)out, 500);
    return NULL;
}

static int heirs(void)
{
    static void *block[2000];

    for (unsigned i = 0; i < COUNT(block); i++)
        run_in_thread(leave_block, &block[i]);
    size_t resident = resident_bytes();
    printf("# resident: %zu KiB with %zu live bytes of dead threads\n", resident / KIB,
           COUNT(block) * 100);
    CHECK_MSG(resident < 48 * MIB, "%zu resident", resident);
    for (unsigned i = 0; i < COUNT(block); i++)
        free(block[i]);
    return PASS;
}

static void *cancelled(void *unused)
{
    (void)unused;
    for (uint64_t i = 0;; i++) {
        work(i, 10);
        pthread_testcancel();
    }
    return NULL;
}

static int cancellation(void)
{
    for (unsigned i = 0; i < 200; i++) {
        pthread_t thread;
        start(&thread, cancelled, NULL);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    return PASS;
}

static void *outlive_main(void *unused)
{
    (void)unused;
    for (uint64_t i = 0; i < 200; i++)
        work(i, 100);
    _exit(PASS);
}

static int main_thread_exits_first(void)
{
    pthread_t thread;

    start(&thread, outlive_main, filled(100, 1));
    pthread_exit(NULL);
}

static int exit_with_threads_running(void)
{
    pthread_t thread;

    for (unsigned i = 0; i < 4; i++)
        start(&thread, cancelled, NULL);
    work(1, 1000);
    exit(PASS);
}

// A destructor in the last round runs after the library's own: its thread has no heap any more. Others take
// the slabs it uses meanwhile.
static pthread_key_t last_key;
static volatile bool going;
static unsigned long nr_ended;
static __thread unsigned nr_rounds;

static void allocate_in_last_round(void *value)
{
    void *p[300];

    if (++nr_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(last_key, value);
        return;
    }
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < COUNT(p); i++)
            p[i] = filled(24 + i % 40 * 16, 1);
        for (unsigned i = 0; i < COUNT(p); i++)
            free(p[i]);
    }
    __atomic_fetch_add(&nr_ended, 1, __ATOMIC_RELAXED);
}

static void *end_late(void *unused)
{
    pthread_setspecific(last_key, &last_key);
    free(filled(10, 1));
    return unused;
}

static void *start_and_join(void *unused)
{
    while (going) {
        pthread_t thread;
        start(&thread, end_late, NULL);
        pthread_join(thread, NULL);
    }
    return unused;
}

static void *take_and_idle(void *unused)
{
    void (*idle)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "hak_thread_idle");

    while (going) {
        void *p[3000];
        for (unsigned i = 0; i < COUNT(p); i++)
            p[i] = filled(24 + i % 40 * 16, 2);
        for (unsigned i = 0; i < COUNT(p); i++)
            free(p[i]);
        if (idle)
            idle();
    }
    return unused;
}

static int after_the_heap_is_gone(void)
{
    pthread_t thread[4];

    CHECK(pthread_key_create(&last_key, allocate_in_last_round) == 0);
    going = true;
    for (unsigned i = 0; i < COUNT(thread); i++)
        start(&thread[i], i % 2 ? take_and_idle : start_and_join, NULL);
    sleep(2);
    going = false;
    for (unsigned i = 0; i < COUNT(thread); i++)
        pthread_join(thread[i], NULL);
    CHECK(nr_ended > 10);
    return PASS;
}

// The block grows through all tiers, keeps its content, and its old places are free blocks.
static void grow_in_last_round(void *value)
{
    size_t size = 10;

    if (++nr_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(last_key, value);
        return;
    }
    for (unsigned char *p = filled(size, 7); size < 8 * MIB; size *= 3) {
        unsigned char *moved = hide(realloc(p, 3 * size));
        if (moved == NULL || malloc_usable_size(moved) < 3 * size)
            abort();
        for (size_t at = 0; at < size; at++)
            if (moved[at] != 7)
                abort();
        p = memset(moved, 7, 3 * size);
        if (size >= 8 * MIB / 3)
            free(p);
    }
    __atomic_fetch_add(&nr_ended, 1, __ATOMIC_RELAXED);
}

static int realloc_after_the_heap_is_gone(void)
{
    CHECK(pthread_key_create(&last_key, grow_in_last_round) == 0);
    for (unsigned i = 0; i < 20; i++)
        run_in_thread(end_late, NULL);
    CHECK_EQ(20, nr_ended);
    return PASS;
}

static const struct test_case cases[] = {
    {"key destructors that free and allocate", key_destructors, 0},
    {"thread-local destructors that free and allocate", tls_destructors, 0},
    {"a thread's first call in a destructor", first_call_in_destructor, 0},
    {"a key that was never made", keys_never_made, 0},
    {"threads that only free", threads_that_only_free, 0},
    {"exit while others free", exit_while_others_free, 30},
    {"producer and consumer", producer_and_consumer, 30},
    {"10,000 threads: memory is back", ten_thousand_threads, 300},
    {"1000 threads at once", a_thousand_at_once, 30},
    {"blocks of 2000 dead threads", heirs, 30},
    {"threads whose heap is gone", after_the_heap_is_gone, 20},
    {"realloc in a thread whose heap is gone", realloc_after_the_heap_is_gone, 0},
    {"cancellation", cancellation, 0},
    {"the main thread exits first", main_thread_exits_first, 0},
    {"exit while threads run", exit_with_threads_running, 0},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, COUNT(cases));
}
