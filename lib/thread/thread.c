// SPDX-License-Identifier: MIT
#include "thread/thread.h"

#include "ace/ace.h"
#include "base/panic.h"
#include "os/os.h"
#include "pool/pool.h"
#include "tiny/tiny.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
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

static void fill_class_policies(struct hk_policy *policy, const struct hk_config *config)
{
    struct hk_tiny_options tiny = {
        .refill_count = config->tiny_refill_count,
        .refill_count_hot = config->tiny_refill_count_hot,
        .mag_cap = config->tiny_mag_cap,
    };

    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        /* cap_mid lists one number per doubling from 1 KiB up. */
        unsigned doubling = (c - HK_FIRST_POOL_CLASS) / 8 % HK_CONFIG_LIST_MAX;
        struct hk_pool_options pool = {
            .cap_mid = config->cap_mid_blocks.of[doubling],
            .tls_free = config->pool_tls_free,
        };
        policy->class[c] = c < HK_FIRST_POOL_CLASS ? hk_tiny_class_policy(c, &tiny)
                                                   : hk_pool_class_policy(c, &pool);
    }
}

/* The members of a snapshot that follow from one option. Over 35 lines: it is a table. */
static void fill_option(struct hk_policy *policy, unsigned option, const struct hk_config *config)
{
    switch (option) {
    case HK_OPTION_tiny_mag_cap:
    case HK_OPTION_tiny_refill_count:
    case HK_OPTION_tiny_refill_count_hot:
    case HK_OPTION_pool_tls_free:
    case HK_OPTION_cap_mid:
        fill_class_policies(policy, config);
        break;
    case HK_OPTION_budget_mid:
        policy->cache_budget_bytes = config->budget_mid_bytes ? config->budget_mid_bytes : SIZE_MAX / 2;
        break;
    case HK_OPTION_tiny_must_adopt:
        policy->steal = config->tiny_must_adopt;
        break;
    case HK_OPTION_remote_batch_bytes:
        policy->remote_batch_bytes = config->remote_batch_bytes;
        break;
    case HK_OPTION_purge_cap_bytes:
        policy->purge_floor_bytes = config->purge_cap_bytes;
        break;
    case HK_OPTION_mmap_threshold:
        policy->big_threshold = config->mmap_threshold_bytes;
        break;
    case HK_OPTION_cap_large:
        policy->l25_cap = hk_min(config->cap_large_blocks.of[0], 255);
        break;
    case HK_OPTION_wmax_mid:
        policy->wmax_mid = config->wmax_mid_thousandths;
        break;
    case HK_OPTION_wmax_large:
        policy->wmax_large = config->wmax_large_thousandths;
        break;
    case HK_OPTION_limit:
        policy->limit_bytes = hk_config_limit(config);
        break;
    case HK_OPTION_thp:
        policy->huge_pages = config->thp == HK_THP_ON;
        policy->promote = config->thp == HK_THP_AUTO;
        break;
    case HK_OPTION_disable_bigcache:
        policy->cache_big = !config->disable_bigcache;
        break;
    case HK_OPTION_disable_batch:
    case HK_OPTION_purge_delay_ms:
        policy->batch = !config->disable_batch;
        policy->purge_delay_ns = policy->batch ? (uint64_t)config->purge_delay_ms * 1000000 : 0;
        break;
    default:
        break; /* read where it is needed */
    }
}

static void fill_policy(struct hk_policy *policy)
{
    static HK_START_CONST const uint8_t options[] = {
        HK_OPTION_cap_mid, /* and the others of the classes */
        HK_OPTION_budget_mid, HK_OPTION_tiny_must_adopt, HK_OPTION_remote_batch_bytes, HK_OPTION_purge_cap_bytes,
        HK_OPTION_mmap_threshold, HK_OPTION_cap_large, HK_OPTION_wmax_mid, HK_OPTION_wmax_large,
        HK_OPTION_limit, HK_OPTION_thp, HK_OPTION_disable_bigcache, HK_OPTION_purge_delay_ms,
    };

    policy->idle_flush_ns = UINT64_C(1000000000);
    for (unsigned i = 0; i < sizeof options; i++)
        fill_option(policy, options[i], &hk_config);
}

static void change_policy(struct hk_policy *policy, void *arg)
{
    const struct hk_config_change *change = arg;

    fill_option(policy, change->option, &change->config);
}

int hk_thread_change_option(const struct hk_config_change *change, const char *by)
{
    int error = hk_policy_update(change_policy, (void *)change, 0);

    if (!error)
        hk_config_commit(change, by);
    return error;
}

static void thread_ends(void *heap);

static void on_panic(void)
{
    thread_state = THREAD_PANICKING;
    hk_heap_self = (struct hk_heap *)&hk_heap_empty;
    hk_trace_dump();
}

static void init_process(void)
{
    hk_config_load(environ);
    hk_trace_on = hk_config.trace_ring;
    fast_paths_off = hk_config_is_slow(&hk_config);
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
unsigned hk_thread_kernel_id(void)
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

/* In force until the section ends; twice is once. */
static void become_stranger(void)
{
    if (is_stranger)
        return;
    is_stranger = 1;
    hk_policy_stranger_enters();
}

static struct hk_heap *start_thread(void)
{
    struct hk_heap *heap;

    if (!ensure_init())
        return NULL;
    become_stranger(); /* of use until the heap is active */
    heap = hk_heap_adopt();
    if (!heap)
        return NULL;
    heap->thread_id = hk_thread_kernel_id();
    own_heap = heap;
    hk_signal_fence(); /* a handler that finds the thread alive uses its heap */
    thread_state = THREAD_ALIVE;
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

/* Put off by threads that have no heap yet or no more: each in a mapping of its own, for whoever leaves a
 * section next. Exchange and compare-and-swap. */
static struct hk_deferred *orphans; /* release S1 / acquire S2 */

static void free_list(struct hk_heap *heap, struct hk_deferred *list)
{
    while (list) {
        struct hk_deferred *next = list->next;
        unsigned n = list->count < list->capacity ? list->count : list->capacity;
        for (unsigned i = 0; i < n; i++)
            hk_ace_free(heap, list->blocks[i], NULL);
        hk_os_release(list, hk_os_page_bytes());
        list = next;
    }
}

/* Handlers go on putting blocks in meanwhile: into a slot that is seen here or sets the mark again. */
static void free_deferred(struct hk_heap *heap)
{
    while (hk_load_relaxed(&heap->any_deferred)) {
        hk_store_relaxed(&heap->any_deferred, false);
        hk_signal_fence();
        for (unsigned i = 0; i < HK_NR_DEFERRED_SLOTS; i++) {
            void *p = hk_exchange_acquire(&heap->deferred[i], NULL); /* S2 acquire, pairs with S1 */
            if (p)
                hk_ace_free(heap, p, NULL);
        }
        free_list(heap, hk_exchange_acquire(&heap->more_deferred, NULL)); /* S2 acquire, pairs with S1 */
    }
}

static HK_NOINLINE void free_orphans(struct hk_heap *heap)
{
    free_list(heap, hk_exchange_acquire(&orphans, NULL)); /* S2 acquire, pairs with S1 */
}

void hk_thread_leave(void)
{
    if (HK_UNLIKELY(hk_load_relaxed(&orphans)) && thread_state != THREAD_PANICKING)
        free_orphans(thread_state == THREAD_ALIVE ? own_heap : NULL);
    if (thread_state == THREAD_ALIVE) {
        if (HK_UNLIKELY(own_heap->any_deferred))
            free_deferred(own_heap);
        if (HK_LIKELY(!hk_load_relaxed(&fast_paths_off) &&
                      !own_heap->sampling.searching))
            hk_heap_self = own_heap;
    }
    if (HK_UNLIKELY(is_stranger)) {
        is_stranger = 0;
        hk_policy_stranger_leaves();
    }
    hk_signal_fence();
    hk_in_slow_section = 0;
}

/* A list of one block, linked. False: no memory. */
static bool map_deferred(struct hk_deferred **head, void *p)
{
    size_t bytes = hk_os_page_bytes();
    struct hk_deferred *list = hk_os_reserve(bytes, bytes);

    if (!list)
        return false;
    list->capacity = (unsigned)((bytes - sizeof *list) / sizeof(void *));
    list->count = 1;
    list->blocks[0] = p;
    list->next = hk_load_relaxed(head);
    while (!hk_cas_release(head, &list->next, list)) /* S1 release, pairs with S2: publishes the list */
        ;
    return true;
}

/* The newest list belongs to this thread: whoever empties it is interrupted by us, or we by nobody. */
static bool put_in_list(struct hk_deferred *list, void *p)
{
    unsigned i;

    if (!list || list->count >= list->capacity)
        return false;
    i = hk_add_relaxed(&list->count, 1); /* a handler that interrupts us claims another */
    if (i >= list->capacity)
        return false;
    list->blocks[i] = p;
    return true;
}

static bool put_in_slot(struct hk_heap *heap, void *p)
{
    for (unsigned i = 0; i < HK_NR_DEFERRED_SLOTS; i++) {
        void *none = NULL;
        /* S1 release, pairs with S2 */
        if (!hk_load_relaxed(&heap->deferred[i]) && hk_cas_release(&heap->deferred[i], &none, p))
            return true;
    }
    return false;
}

static bool defer_in(struct hk_heap *heap, void *p)
{
    bool done = put_in_slot(heap, p) || put_in_list(heap->more_deferred, p) ||
                map_deferred(&heap->more_deferred, p);

    hk_signal_fence();
    hk_store_relaxed(&heap->any_deferred, true);
    return done;
}

void hk_thread_defer_free(void *p)
{
    struct hk_heap *heap = thread_state == THREAD_ALIVE ? own_heap : hk_heap_first();
    bool done = thread_state == THREAD_ALIVE ? defer_in(heap, p) : map_deferred(&orphans, p);

    if (HK_UNLIKELY(!done) && heap)
        hk_count_add(&heap->stats.nr_lost, 1);
}

struct hk_heap *hk_thread_heap(void)
{
    struct hk_heap *heap = NULL;

    if (HK_LIKELY(thread_state == THREAD_ALIVE))
        return own_heap;
    if (thread_state == THREAD_NEW)
        heap = start_thread();
    if (!heap)
        become_stranger();
    return heap;
}

void hk_thread_fast_paths(bool on)
{
    hk_store_relaxed(&fast_paths_off, !on || hk_config_is_slow(&hk_config)); /* this thread's leave sees it */
}

bool hk_thread_is_panicking(void)
{
    return thread_state == THREAD_PANICKING;
}

/* The value is not believed: a program that uses a key which it never made may have set it. */
static void thread_ends(void *value)
{
    struct hk_heap *heap = own_heap;

    if (thread_state != THREAD_ALIVE)
        return;
    (void)value;
    if (++destructor_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(exit_key, heap); /* once more, after the others */
        return;
    }
    hk_in_slow_section = 1; /* handlers that come now do without */
    hk_signal_fence();
    hk_heap_self = (struct hk_heap *)&hk_heap_empty;
    thread_state = THREAD_ENDED;
    become_stranger(); /* the heap will be nobody's */
    hk_signal_fence(); /* what handlers free from here on is nobody's */
    free_deferred(heap);
    hk_l25_flush(&heap->l25);
    hk_heap_park(heap);
    hk_ace_thread_ended();
    hk_thread_leave();
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* libc's lock of the list of open streams. It is taken by fork() after all prepare handlers, while a
 * thread that holds it may be waiting for one of ours: so take it first. Absent in other libcs. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

/*
 * From prepare to the end of the parent's or the child's handler the thread holds all locks: signals wait,
 * and it is in a slow section, so that a fork handler of the program that was registered before ours and
 * allocates is served. Written while every lock is held.
 */
static HK_LARGE_BSS struct {
    sigset_t signals; /* the thread's mask before */
    bool inside;      /* the fork comes from a handler that interrupted a section */
} forking;

static void lock_streams(void)
{
    if (_IO_list_lock)
        _IO_list_lock();
}

static void unlock_streams(void)
{
    if (_IO_list_unlock)
        _IO_list_unlock();
}

static void prepare_fork(void)
{
    static const struct hk_fork_outer streams = {lock_streams, unlock_streams};
    sigset_t all, before;
    bool inside;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    inside = !hk_thread_enter();
    hk_ace_fork_prepare(inside, &streams);
    forking.signals = before;
    forking.inside = inside;
}

static void end_fork(sigset_t before, bool inside)
{
    if (!inside)
        hk_thread_leave();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void after_fork_in_parent(void)
{
    sigset_t before = forking.signals;
    bool inside = forking.inside;

    hk_ace_fork_parent();
    unlock_streams();
    end_fork(before, inside);
}

static void after_fork_in_child(void)
{
    hk_policy_fork_child(is_stranger);
    hk_ace_fork_child(thread_state == THREAD_ALIVE ? own_heap : NULL, forking.inside);
    if (thread_state == THREAD_ALIVE)
        own_heap->thread_id = hk_thread_kernel_id();
    if (_IO_list_resetlock)
        _IO_list_resetlock(); /* the only thread there is: whatever the count was */
    end_fork(forking.signals, forking.inside);
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
