// SPDX-License-Identifier: MIT
#include "thread/thread.h"

#include "ace/ace.h"
#include "base/panic.h"
#include "config/config.h"
#include "os/os.h"
#include "pool/pool.h"
#include "tiny/tiny.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum thread_state { THREAD_NEW, THREAD_ALIVE, THREAD_ENDED, THREAD_PANICKING };

/* The thread's heap. hk_heap_self is the same, or the empty heap while fast paths are off. */
static __thread struct hk_heap *own_heap __attribute__((tls_model("initial-exec")));
static __thread uint8_t thread_state __attribute__((tls_model("initial-exec")));
__thread uint8_t hk_in_slow_section;
static __thread uint8_t is_stranger __attribute__((tls_model("initial-exec"))); /* see policy.h */
static __thread uint8_t destructor_rounds __attribute__((tls_model("initial-exec")));

enum { INIT_NONE, INIT_RUNNING, INIT_DONE };

static uint32_t init_state; /* release I1 / acquire I2 */
static bool fast_paths_off;  /* relaxed: for threads that start later */
static pthread_key_t exit_key;
static bool has_exit_key;

/* ---- process ------------------------------------------------------------------------------- */

static void fill_class_policies(struct hk_policy *policy)
{
    struct hk_tiny_options tiny = {
        .refill_count = hk_config.tiny_refill_count,
        .refill_count_hot = hk_config.tiny_refill_count_hot,
        .mag_cap = hk_config.tiny_mag_cap,
    };

    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        /* cap_mid lists one number per doubling from 1 KiB up. */
        unsigned doubling = (c - HK_FIRST_POOL_CLASS) / 8 % HK_CONFIG_LIST_MAX;
        struct hk_pool_options pool = {
            .cap_mid = hk_config.cap_mid_blocks.of[doubling],
            .tls_free = hk_config.pool_tls_free,
        };
        policy->class[c] = c < HK_FIRST_POOL_CLASS ? hk_tiny_class_policy(c, &tiny)
                                                   : hk_pool_class_policy(c, &pool);
    }
}

static void fill_policy(struct hk_policy *policy)
{
    fill_class_policies(policy);
    policy->cache_budget_bytes = 4 * HK_MIB;
    policy->remote_batch_bytes = hk_config.remote_batch_bytes;
    policy->purge_delay_ns = (uint64_t)hk_config.purge_delay_ms * 1000000;
    policy->purge_floor_bytes = hk_config.purge_cap_bytes;
    policy->idle_flush_ns = UINT64_C(1000000000);
    policy->big_threshold = hk_config.mmap_threshold_bytes;
    policy->l25_cap = hk_min(hk_config.cap_large_blocks.of[0], 255);
    policy->wmax_mid = hk_config.wmax_mid_thousandths;
    policy->wmax_large = hk_config.wmax_large_thousandths;
    policy->limit_bytes = hk_config.limit_bytes <= HK_LIMIT_NONE ? 0 : hk_config.limit_bytes;
    policy->huge_pages = hk_config.thp == HK_THP_ON;
    policy->steal = hk_config.tiny_must_adopt;
    policy->cache_big = !hk_config.disable_bigcache;
    policy->batch = !hk_config.disable_batch;
    if (hk_config.disable_batch)
        policy->purge_delay_ns = 0;
}

static void thread_ends(void *heap);

static void on_panic(void)
{
    thread_state = THREAD_PANICKING;
    hk_heap_self = (struct hk_heap *)&hk_heap_empty;
}

static void init_process(void)
{
    hk_config_load(environ);
    hk_size_init(hk_os_random(hk_config.seed));
    fill_policy(&hk_policy_builtin);
    hk_policy_set_readers(hk_heap_policy_seen);
    hk_ace_init();
    hk_panic_hook = on_panic;
    has_exit_key = pthread_key_create(&exit_key, thread_ends) == 0;
}

/* False only inside init_process itself (a signal handler that allocates in those microseconds). */
static bool ensure_init(void)
{
    static const void *initialiser;
    uint32_t none = INIT_NONE;

    if (HK_LIKELY(hk_load_acquire(&init_state) == INIT_DONE)) /* I2 acquire, pairs with I1 */
        return true;
    if (hk_cas_acquire(&init_state, &none, (uint32_t)INIT_RUNNING)) {
        hk_store_relaxed(&initialiser, hk_thread_id());
        init_process();
        hk_store_release(&init_state, (uint32_t)INIT_DONE); /* I1 release, pairs with I2 */
        return true;
    }
    while (hk_load_acquire(&init_state) != INIT_DONE) { /* I2 acquire, pairs with I1 */
        if (hk_load_relaxed(&initialiser) == hk_thread_id())
            return false;
        sched_yield();
    }
    return true;
}

/* ---- thread -------------------------------------------------------------------------------- */

/*
 * The kernel's thread id without a system call where libc keeps it: an uncontended mutex notes its owner.
 * A seccomp filter may allow no gettid once the program runs.
 */
static unsigned kernel_thread_id(void)
{
#ifdef __GLIBC__
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    unsigned id;

    pthread_mutex_lock(&mutex);
    id = (unsigned)mutex.__data.__owner;
    pthread_mutex_unlock(&mutex);
    return id;
#else
    return hk_os_thread_id();
#endif
}

static struct hk_heap *start_thread(void)
{
    struct hk_heap *heap;

    if (!ensure_init())
        return NULL;
    hk_policy_stranger_enters(); /* until the heap is active */
    heap = hk_heap_adopt();
    hk_policy_stranger_leaves();
    if (!heap)
        return NULL;
    heap->thread_id = kernel_thread_id();
    thread_state = THREAD_ALIVE;
    own_heap = heap;
    /* The heap is whole: setspecific may allocate from it. A key without a value has no destructor call;
     * then the heap stays with a dead thread. */
    if (has_exit_key) {
        hk_thread_leave();
        pthread_setspecific(exit_key, heap);
        hk_thread_enter();
    }
    return heap;
}

/* ---- slow sections ------------------------------------------------------------------------- */

static void free_deferred(struct hk_heap *heap)
{
    while (heap->nr_deferred) {
        void *p = heap->deferred[heap->nr_deferred - 1];
        heap->nr_deferred--;
        hk_signal_fence();
        hk_ace_free(heap, p, NULL);
    }
}

void hk_thread_leave(void)
{
    if (thread_state == THREAD_ALIVE) {
        if (HK_UNLIKELY(own_heap->nr_deferred))
            free_deferred(own_heap);
        if (HK_LIKELY(!hk_load_relaxed(&fast_paths_off)))
            hk_heap_self = own_heap;
    }
    if (HK_UNLIKELY(is_stranger)) {
        is_stranger = 0;
        hk_policy_stranger_leaves();
    }
    hk_signal_fence();
    hk_in_slow_section = 0;
}

bool hk_thread_defer_free(void *p)
{
    struct hk_heap *heap = own_heap;

    if (thread_state != THREAD_ALIVE || heap->nr_deferred == HK_MAX_DEFERRED)
        return false;
    heap->deferred[heap->nr_deferred] = p;
    hk_signal_fence();
    heap->nr_deferred++;
    return true;
}

struct hk_heap *hk_thread_heap(void)
{
    struct hk_heap *heap = NULL;

    if (HK_LIKELY(thread_state == THREAD_ALIVE))
        return own_heap;
    if (thread_state == THREAD_NEW)
        heap = start_thread();
    if (!heap && !is_stranger) {
        is_stranger = 1;
        hk_policy_stranger_enters(); /* until the section ends */
    }
    return heap;
}

void hk_thread_fast_paths(bool on)
{
    hk_store_relaxed(&fast_paths_off, !on); /* this thread's leave sees it */
}

bool hk_thread_is_panicking(void)
{
    return thread_state == THREAD_PANICKING;
}

static void thread_ends(void *heap)
{
    if (++destructor_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(exit_key, heap); /* once more, after the others */
        return;
    }
    hk_in_slow_section = 1; /* handlers that come now do without */
    hk_heap_self = (struct hk_heap *)&hk_heap_empty;
    thread_state = THREAD_ENDED;
    hk_policy_stranger_enters();
    hk_l25_flush(&((struct hk_heap *)heap)->l25);
    hk_heap_park(heap);
    hk_ace_thread_ended();
    hk_policy_stranger_leaves();
    hk_in_slow_section = 0;
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* libc's lock of the list of open streams. It is taken by fork() after all prepare handlers, while a
 * thread that holds it may be waiting for one of ours: so take it first. Absent in other libcs. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

static void prepare_fork(void)
{
    if (_IO_list_lock)
        _IO_list_lock();
    hk_ace_fork_prepare(thread_state == THREAD_ALIVE ? own_heap : NULL);
}

static void after_fork_in_parent(void)
{
    hk_ace_fork_parent();
    if (_IO_list_unlock)
        _IO_list_unlock();
}

static void after_fork_in_child(void)
{
    hk_policy_fork_child(is_stranger);
    hk_ace_fork_child(thread_state == THREAD_ALIVE ? own_heap : NULL);
    if (thread_state == THREAD_ALIVE)
        own_heap->thread_id = kernel_thread_id();
    if (_IO_list_resetlock)
        _IO_list_resetlock(); /* the only thread there is: whatever the count was */
}

/* ---- background ---------------------------------------------------------------------------- */

/*
 * Option background: memory goes back without a call by the program. A fork child has no such thread (it
 * would be one that the program did not make); its slow paths do the work, as without the option.
 */
static void *work_in_background(void *arg)
{
    const struct timespec second = {1, 0};

    for (;;) {
        nanosleep(&second, NULL);
        if (hk_thread_enter()) {
            hk_ace_background(hk_thread_heap());
            hk_thread_leave();
        }
    }
    return arg;
}

static void start_background(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's signals are not for this thread */
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, hk_max(64 * HK_KIB, (size_t)PTHREAD_STACK_MIN));
    if (pthread_create(&thread, &attr, work_in_background, NULL) != 0)
        hk_warn("background: no thread could be made", NULL, NULL);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Handlers registered first run last before the fork and first after it. */
void hk_thread_start(void)
{
    if (hk_thread_enter()) {
        (void)hk_thread_heap();
        hk_thread_leave();
    }
    pthread_atfork(prepare_fork, after_fork_in_parent, after_fork_in_child);
    if (hk_config.background)
        start_background();
}
