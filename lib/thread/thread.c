// SPDX-License-Identifier: MIT
#include "thread/thread.h"

#include "ace/ace.h"
#include "base/panic.h"
#include "meta/meta.h"
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
    static const uint8_t options[] = {
        HK_OPTION_cap_mid, /* and the others of the classes */
        HK_OPTION_tiny_must_adopt, HK_OPTION_remote_batch_bytes, HK_OPTION_purge_cap_bytes,
        HK_OPTION_mmap_threshold, HK_OPTION_cap_large, HK_OPTION_wmax_mid, HK_OPTION_wmax_large,
        HK_OPTION_limit, HK_OPTION_thp, HK_OPTION_disable_bigcache, HK_OPTION_purge_delay_ms,
    };

    policy->cache_budget_bytes = 4 * HK_MIB;
    policy->idle_flush_ns = UINT64_C(1000000000);
    for (unsigned i = 0; i < sizeof options; i++)
        fill_option(policy, options[i], &hk_config);
}

/* A snapshot that differs from the current one in what follows from the change. 0 or ENOMEM. */
static int update_policy(const struct hk_config_change *change)
{
    struct hk_policy changed, *published;

    memcpy(&changed, hk_policy(), sizeof changed); /* gaps too: they are compared */
    fill_option(&changed, change->option, &change->config);
    if (memcmp(&changed, hk_policy(), sizeof changed) == 0)
        return 0;
    published = hk_meta_alloc(sizeof *published);
    if (!published)
        return ENOMEM;
    memcpy(published, &changed, sizeof changed);
    hk_policy_publish(published); /* the one before is never freed: somebody may be reading it */
    return 0;
}

int hk_thread_change_option(const struct hk_config_change *change, const char *by)
{
    int error = update_policy(change);

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
    hk_size_init(hk_os_random(hk_config.seed));
    fill_policy(&hk_policy_builtin);
    hk_policy_publish(&hk_policy_builtin);
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

static struct hk_heap *start_thread(void)
{
    struct hk_heap *heap;

    if (!ensure_init())
        return NULL;
    heap = hk_heap_adopt();
    if (!heap)
        return NULL;
    heap->thread_id = hk_thread_kernel_id();
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
        if (HK_LIKELY(!hk_load_relaxed(&fast_paths_off) &&
                      !own_heap->sampling.searching))
            hk_heap_self = own_heap;
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
    if (HK_LIKELY(thread_state == THREAD_ALIVE))
        return own_heap;
    if (thread_state == THREAD_NEW)
        return start_thread();
    return NULL;
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
    hk_l25_flush(&((struct hk_heap *)heap)->l25);
    hk_heap_park(heap);
    hk_ace_thread_ended();
    hk_in_slow_section = 0;
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* libc's lock of the list of open streams. It is taken by fork() after all prepare handlers, while a
 * thread that holds it may be waiting for one of ours: so take it first. Absent in other libcs. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

static bool config_lock_taken; /* by prepare; written with the lock held */

/*
 * The lowest rank. A signal handler that interrupted us may hold a lock that the holder of this one waits
 * for: then it is only tried. Half a change is harmless to the child: each store of it is whole.
 */
static void lock_config(void)
{
    bool taken = true;

    if (hk_in_slow_section)
        taken = !hk_lock_is_mine(&hk_config_lock) && hk_try_lock(&hk_config_lock);
    else
        hk_lock(&hk_config_lock);
    if (taken)
        config_lock_taken = true;
}

static void unlock_config(void)
{
    bool taken = config_lock_taken && hk_lock_is_mine(&hk_config_lock);

    if (taken) {
        config_lock_taken = false;
        hk_unlock(&hk_config_lock);
    }
}

static void prepare_fork(void)
{
    if (_IO_list_lock)
        _IO_list_lock();
    lock_config();
    hk_ace_fork_prepare(thread_state == THREAD_ALIVE ? own_heap : NULL);
}

static void after_fork_in_parent(void)
{
    hk_ace_fork_parent();
    unlock_config();
    if (_IO_list_unlock)
        _IO_list_unlock();
}

static void after_fork_in_child(void)
{
    hk_ace_fork_child(thread_state == THREAD_ALIVE ? own_heap : NULL);
    if (config_lock_taken || !hk_lock_is_mine(&hk_config_lock))
        hk_lock_reset(&hk_config_lock); /* whoever had it is not here; else the interrupted call ends it */
    config_lock_taken = false;
    if (thread_state == THREAD_ALIVE)
        own_heap->thread_id = hk_thread_kernel_id();
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
