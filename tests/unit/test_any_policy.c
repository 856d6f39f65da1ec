// SPDX-License-Identifier: MIT
/*
 * Whatever policy is published, and whenever: threads allocate, free, hand on and resize blocks while one
 * publishes snapshots drawn at random over every field, and all content stays. What learners may publish is a
 * small part of it.
 */
#include "ace/ace.h"

#include "heap/heap_inline.h"
#include "os/os.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>


#define NR_THREADS 3
#define NR_SLOTS 300
#define NR_OPERATIONS 40000
#define PUBLISH_EVERY 40
#define NR_PUBLICATIONS 100 /* of each thread at least, however they take turns */

struct block {
    unsigned char *p;
    size_t n;
    unsigned char byte;
};

/* Blocks that change hands: freed by another thread than the one that made them. */
static struct block handed[64];
static pthread_mutex_t handed_lock = PTHREAD_MUTEX_INITIALIZER;
static bool publishes; /* the negative control of the count below */

/* The library makes system calls, which the thread sanitizer does not see: it would take what a page held in
 * an earlier life, before the kernel took it back, for a race. The C library's functions it does see. */
static intptr_t visible_map(void *hint, size_t bytes)
{
    void *p = mmap(hint, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? -ENOMEM : (intptr_t)p;
}

static int visible_unmap(void *base, size_t bytes)
{
    return munmap(base, bytes) == 0 ? 0 : -EINVAL;
}

static void setup(void)
{
    if (UNDER_TSAN) {
        hk_os_calls.map = visible_map;
        hk_os_calls.unmap = visible_unmap;
    }
    set_policy();
    hk_ace_init();
    hk_policy_set_readers(hk_heap_policy_seen);
    publishes = true;
}

static void teardown(void)
{
}

static uint64_t mix(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static size_t upto(uint64_t *state, size_t most)
{
    return (size_t)(mix(state) % (most + 1));
}

/* Log-uniform. */
static size_t sized(uint64_t *state, size_t least, size_t most)
{
    size_t n = least << upto(state, hk_log2_floor(most / least));

    return hk_min(n + upto(state, n - 1), most);
}

static struct hk_class_policy random_class(uint64_t *state, unsigned class)
{
    struct hk_tiny_options tiny = {sized(state, 1, 1024), sized(state, 1, 1024), sized(state, 8, 65536)};
    struct hk_pool_options pool = {upto(state, 1024), upto(state, 3) != 0};

    return class < HK_FIRST_POOL_CLASS ? hk_tiny_class_policy(class, &tiny) : hk_pool_class_policy(class, &pool);
}

/* Every field, over what its option accepts. */
static void randomise(struct hk_policy *policy, void *arg)
{
    uint64_t *state = arg;

    for (unsigned c = 0; c < HK_NR_CLASSES; c++)
        policy->class[c] = random_class(state, c);
    policy->cache_budget_bytes = sized(state, HK_KIB, 16 * HK_MIB);
    policy->remote_batch_bytes = sized(state, HK_KIB, 16 * HK_MIB);
    policy->purge_delay_ns = upto(state, 100) * UINT64_C(1000000);
    policy->purge_floor_bytes = upto(state, 3) ? sized(state, HK_KIB, 128 * HK_MIB) : 0;
    policy->idle_flush_ns = upto(state, 100) * UINT64_C(1000000);
    policy->big_threshold = sized(state, 64 * HK_KIB + 1, 16 * HK_MIB);
    policy->l25_cap = upto(state, 255);
    policy->wmax_mid = 1000 + (unsigned)upto(state, 3000);
    policy->wmax_large = 1000 + (unsigned)upto(state, 3000);
    policy->limit_bytes = upto(state, 3) ? 0 : sized(state, HK_MIB, 1024 * HK_MIB);
    policy->huge_pages = upto(state, 1);
    policy->steal = upto(state, 1);
    policy->cache_big = upto(state, 1);
    policy->batch = upto(state, 1);
}

static size_t random_size(uint64_t *state)
{
    return upto(state, 20) ? sized(state, 1, 64 * HK_KIB) : sized(state, 64 * HK_KIB, 6 * HK_MIB);
}

/* Both ends and every 4 KiB. */
static void write_block(struct block *b)
{
    for (size_t i = 0; i < b->n; i += hk_min(4096, b->n))
        b->p[i] = b->byte;
    b->p[b->n - 1] = b->byte;
}

static void must_hold(const struct block *b, size_t n)
{
    for (size_t i = 0; i < n; i += hk_min(4096, b->n))
        if (b->p[i] != b->byte)
            abort();
    if (n == b->n && b->p[n - 1] != b->byte)
        abort();
}

static void make(struct hk_heap *heap, struct block *b, uint64_t *state)
{
    b->n = random_size(state);
    b->byte = (unsigned char)mix(state);
    b->p = hk_ace_alloc(heap, b->n, 16, upto(state, 8) == 0, NULL);
    if (!b->p || (uintptr_t)b->p % 16)
        abort();
    write_block(b);
}

static void drop(struct hk_heap *heap, struct block *b)
{
    if (b->p) {
        must_hold(b, b->n);
        hk_ace_free(heap, b->p, NULL);
    }
    b->p = NULL;
}

static void resize(struct hk_heap *heap, struct block *b, uint64_t *state)
{
    size_t n = random_size(state);

    if (!b->p)
        return;
    b->p = hk_ace_realloc(heap, b->p, n, NULL);
    if (!b->p)
        abort();
    must_hold(b, hk_min(n, b->n) - 1);
    b->n = n;
    write_block(b);
}

static void swap(struct block *b, uint64_t *state)
{
    struct block *slot = &handed[upto(state, 63)], other;

    pthread_mutex_lock(&handed_lock);
    other = *slot;
    *slot = *b;
    *b = other;
    pthread_mutex_unlock(&handed_lock);
}

static void operate(struct hk_heap *heap, struct block *b, uint64_t *state)
{
    switch (upto(state, 7)) {
    case 0:
        resize(heap, b, state);
        break;
    case 1:
    case 2:
        swap(b, state);
        break;
    default:
        drop(heap, b);
        make(heap, b, state);
        break;
    }
}

/* Whether it was published. A refusal ends when the others have gone on. */
static bool publish(uint64_t *state)
{
    int error = hk_policy_update(randomise, state, 32);

    if (error == ENOMEM)
        abort();
    if (error == EAGAIN)
        sched_yield();
    return error == 0;
}

static void *work(void *arg)
{
    uint64_t state = 1000 + (uint64_t)(uintptr_t)arg + random_state;
    struct block *blocks = calloc(NR_SLOTS, sizeof *blocks);
    unsigned nr_published = 0;
    struct hk_heap *heap;

    hk_policy_stranger_enters(); /* as thread does */
    heap = hk_heap_adopt();
    hk_policy_stranger_leaves();
    heap->thread_id = (unsigned)(uintptr_t)arg + 1;
    for (unsigned i = 0; i < NR_OPERATIONS || (publishes && nr_published < NR_PUBLICATIONS); i++) {
        if (publishes && i % PUBLISH_EVERY == 0)
            nr_published += publish(&state);
        operate(heap, &blocks[upto(&state, NR_SLOTS - 1)], &state);
        if (i % 4096 == 0)
            hk_heap_check(heap);
    }
    for (unsigned i = 0; i < NR_SLOTS; i++)
        drop(heap, &blocks[i]);
    hk_policy_stranger_enters();
    hk_l25_flush(&heap->l25);
    hk_heap_park(heap);
    hk_ace_thread_ended();
    hk_policy_stranger_leaves();
    free(blocks);
    return NULL;
}

static struct hk_policy_stats run_threads(void)
{
    pthread_t thread[NR_THREADS];
    struct hk_policy_stats stats;

    for (uintptr_t i = 0; i < NR_THREADS; i++)
        pthread_create(&thread[i], NULL, work, (void *)i);
    for (unsigned i = 0; i < NR_THREADS; i++)
        pthread_join(thread[i], NULL);
    struct hk_heap *heap = hk_heap_adopt();
    for (unsigned i = 0; i < 64; i++)
        drop(heap, &handed[i]);
    hk_ace_purge(heap);
    hk_ace_check(heap);
    hk_policy_check();
    hk_policy_stats(&stats);
    return stats;
}

START_TEST(any_policy_at_any_time)
{
    start_random(_i);
    struct hk_policy_stats stats = run_threads();
    ck_assert_uint_ge(stats.nr_published, NR_THREADS * NR_PUBLICATIONS);
    ck_assert_uint_ge(stats.nr_reused, 100); /* ticks let them go */
    ck_assert_uint_le(stats.nr_snapshots, 32);
}
END_TEST

START_TEST(the_count_is_of_publications)
{
    publishes = false;
    ck_assert_uint_eq(run_threads().nr_published, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("any_policy");
    TCase *tc = new_case(suite, "random policies", setup, teardown);

    tcase_add_loop_test(tc, any_policy_at_any_time, 0, 3);
    tcase_add_test(tc, the_count_is_of_publications);
    return run_suite(suite);
}
