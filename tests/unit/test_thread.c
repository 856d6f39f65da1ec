// SPDX-License-Identifier: MIT
/* Sections, blocks put off by signal handlers, threads without a heap, thread exit and fork. A handler inside a section
 * is a call inside a section: which instruction it interrupts is the business of tests/integration/steps. */
#include "thread/thread.h"

#include "ace/ace.h"
#include "base/panic.h"
#include "config/config.h"

#include "child.h"
#include "fake_os.h"
#include "support.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>

/* More than slots, and than two mappings of a page hold. */
#define PER_PAGE ((size_t)(4096 - sizeof(struct hk_deferred)) / sizeof(void *))
#define MANY (HK_NR_DEFERRED_SLOTS + 2 * PER_PAGE + 5)

static struct hk_heap *self;

static void setup(void)
{
    fake_os_install();
    fake_os_place(HK_REGION_BYTES, 0);
    ck_assert(hk_thread_enter());
    self = hk_thread_heap();
    ck_assert_ptr_nonnull(self);
    hk_thread_leave();
}

static void teardown(void)
{
    ck_assert_uint_eq(hk_in_slow_section, 0);
    hk_ace_check(self);
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static void *take(size_t n)
{
    void *p;

    ck_assert(hk_thread_enter());
    p = hk_ace_alloc(hk_thread_heap(), n, 16, false, NULL);
    hk_thread_leave();
    ck_assert_ptr_nonnull(p);
    return p;
}

static bool is_live(void *p)
{
    struct hk_block block;

    return hk_ace_identify(p, &block) == HK_BLOCK_LIVE;
}

static size_t count_live(void *const *p, size_t n)
{
    size_t live = 0;

    for (size_t i = 0; i < n; i++)
        live += is_live(p[i]);
    return live;
}

/* ---- sections -------------------------------------------------------------------------------- */

START_TEST(section_is_entered_once)
{
    ck_assert(hk_thread_enter());
    ck_assert_ptr_eq(hk_heap_self, &hk_heap_empty);
    ck_assert(!hk_thread_enter());
    ck_assert(!hk_thread_enter_light());
    hk_thread_leave();
    ck_assert_ptr_eq(hk_heap_self, self);
    ck_assert(hk_thread_enter_light());
    ck_assert_ptr_eq(hk_heap_self, self); /* fast paths stay on */
    ck_assert(!hk_thread_enter());
    ck_assert(hk_thread_try_leave_light(self));
    ck_assert(hk_thread_enter());
    ck_assert(hk_thread_try_leave(self));
    ck_assert_ptr_eq(hk_heap_self, self);
}
END_TEST

START_TEST(fast_paths_go_off_and_on)
{
    ck_assert(hk_thread_enter());
    hk_thread_fast_paths(false);
    hk_thread_leave();
    ck_assert_ptr_eq(hk_heap_self, &hk_heap_empty);
    ck_assert(hk_thread_enter());
    hk_thread_fast_paths(true);
    self->sampling.searching = true; /* a profile looks for its next block */
    hk_thread_leave();
    ck_assert_ptr_eq(hk_heap_self, &hk_heap_empty);
    ck_assert(hk_thread_enter());
    self->sampling.searching = false;
    hk_thread_leave();
    ck_assert_ptr_eq(hk_heap_self, self);
}
END_TEST

/* ---- put off -------------------------------------------------------------------------------- */

START_TEST(deferred_blocks_are_freed_at_the_end)
{
    static void *p[MANY];
    size_t mapped = fake_os_mapped_bytes(), n = _i == 0 ? 1 : _i == 1 ? HK_NR_DEFERRED_SLOTS + 1 : MANY;

    for (size_t i = 0; i < n; i++)
        p[i] = take(40);
    mapped = fake_os_mapped_bytes();
    ck_assert(hk_thread_enter());
    for (size_t i = 0; i < n; i++)
        hk_thread_defer_free(p[i]);
    ck_assert_uint_eq(count_live(p, n), n); /* not before the section's end */
    ck_assert(!hk_thread_try_leave(self));
    ck_assert(!hk_thread_try_leave_light(self));
    hk_thread_leave_fast(self);
    ck_assert_uint_eq(count_live(p, n), 0);
    ck_assert_uint_eq(self->stats.nr_lost, 0);
    ck_assert_uint_le(fake_os_mapped_bytes(), mapped); /* the lists are gone */
    ck_assert(hk_thread_enter());
    ck_assert(hk_thread_try_leave(self));
}
END_TEST

START_TEST(what_no_memory_can_note_is_lost_and_counted)
{
    void *p[HK_NR_DEFERRED_SLOTS + 3];

    for (size_t i = 0; i < HK_NR_DEFERRED_SLOTS + 3; i++)
        p[i] = take(40);
    ck_assert(hk_thread_enter());
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    for (size_t i = 0; i < HK_NR_DEFERRED_SLOTS + 3; i++)
        hk_thread_defer_free(p[i]);
    fake_os_fail_all(FAKE_MAP, 0);
    hk_thread_leave();
    ck_assert_uint_eq(self->stats.nr_lost, 3);
    ck_assert_uint_eq(count_live(p, HK_NR_DEFERRED_SLOTS), 0);
    ck_assert_uint_eq(count_live(p + HK_NR_DEFERRED_SLOTS, 3), 3);
}
END_TEST

/* ---- threads without a heap -------------------------------------------------------------------- */

static void run_thread(void *(*function)(void *), void *arg)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, function, arg), 0);
    pthread_join(thread, NULL);
}

/* Its first call comes from a handler that interrupted ... nothing: the section is only pretended. */
static void *defer_without_heap(void *p)
{
    hk_in_slow_section = 1;
    for (void **q = p; *q; q++)
        hk_thread_defer_free(*q);
    hk_in_slow_section = 0;
    return NULL;
}

START_TEST(orphans_are_freed_by_who_leaves_next)
{
    void *p[] = {take(40), take(70000), take(5 * HK_MIB), NULL};
    size_t mapped = fake_os_mapped_bytes();

    run_thread(defer_without_heap, p);
    ck_assert_uint_eq(count_live(p, 3), 3);
    ck_assert_uint_eq(fake_os_mapped_bytes(), mapped + 3 * 4096); /* each in a mapping of its own */
    ck_assert(hk_thread_enter());
    hk_thread_leave();
    ck_assert_uint_eq(count_live(p, 3), 0);
    ck_assert_uint_eq(self->stats.nr_lost, 0);
}
END_TEST

START_TEST(orphans_that_no_memory_can_note_are_counted)
{
    void *p[] = {take(40), NULL};

    fake_os_fail_all(FAKE_MAP, ENOMEM);
    run_thread(defer_without_heap, p);
    fake_os_fail_all(FAKE_MAP, 0);
    ck_assert(hk_thread_enter());
    hk_thread_leave();
    ck_assert(is_live(p[0]));
    ck_assert_uint_eq(hk_heap_first()->stats.nr_lost, 1);
}
END_TEST

static void *work_without_memory(void *p)
{
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    while (hk_heap_adopt())
        ; /* there is room for some */
    ck_assert(hk_thread_enter());
    ck_assert_ptr_null(hk_thread_heap());
    hk_ace_free(hk_thread_heap(), p, NULL); /* others' blocks go home */
    hk_thread_leave();
    ck_assert_ptr_eq(hk_heap_self, &hk_heap_empty);
    fake_os_fail_all(FAKE_MAP, 0);
    ck_assert(hk_thread_enter());
    ck_assert_ptr_nonnull(hk_thread_heap()); /* as soon as there is some */
    hk_thread_leave();
    ck_assert_ptr_eq(hk_heap_self, hk_thread_heap());
    ck_assert_uint_eq(hk_thread_heap()->thread_id, hk_thread_kernel_id());
    return NULL;
}

START_TEST(thread_without_memory_works_without_a_heap)
{
    void *p = take(40);

    ck_assert_ptr_nonnull(hk_heap_alloc_from_depot(0)); /* the depot lends it what it needs */
    run_thread(work_without_memory, p);
    ck_assert(!is_live(p));
    ck_assert(hk_thread_enter());
    ck_assert_ptr_nonnull(hk_ace_alloc(self, 40, 16, false, NULL));
    hk_heap_reclaim(self);
    hk_thread_leave();
    for (struct hk_heap *h = hk_heap_first(); h; h = h->next_ever)
        ck_assert_uint_eq(h->stats.nr_lost, 0);
}
END_TEST

START_TEST(what_such_a_thread_cannot_send_it_brings_home)
{
    void *p = take(40);

    run_thread(work_without_memory, p);
    ck_assert(!is_live(p));
    ck_assert_uint_eq(self->stats.nr_lost, 0);
}
END_TEST

/* ---- exit -------------------------------------------------------------------------------------- */

static pthread_key_t late_key;
static unsigned late_calls;
static struct hk_heap *late_heap[PTHREAD_DESTRUCTOR_ITERATIONS + 2];

static void late(void *p)
{
    if (late_calls < PTHREAD_DESTRUCTOR_ITERATIONS)
        pthread_setspecific(late_key, p);
    ck_assert(hk_thread_enter());
    late_heap[late_calls++] = hk_thread_heap();
    hk_thread_leave();
}

static void *end_late(void *heap)
{
    ck_assert(hk_thread_enter());
    *(struct hk_heap **)heap = hk_thread_heap();
    hk_thread_leave();
    pthread_setspecific(late_key, heap);
    return NULL;
}

/* The program's destructors have the thread's heap in every round but the last, and none after ours. */
START_TEST(heap_stays_until_the_last_round)
{
    struct hk_heap *heap = NULL;

    /* After ours, which the first section has made: so called after it in each round. */
    ck_assert_int_eq(pthread_key_create(&late_key, late), 0);
    run_thread(end_late, &heap);
    ck_assert_ptr_nonnull(heap);
    ck_assert_ptr_ne(heap, self);
    ck_assert_uint_eq(late_calls, PTHREAD_DESTRUCTOR_ITERATIONS);
    for (unsigned i = 0; i + 1 < late_calls; i++)
        ck_assert_ptr_eq(late_heap[i], heap);
    ck_assert_ptr_null(late_heap[late_calls - 1]);
    ck_assert_int_eq(heap->state, HK_HEAP_PARKED);
}
END_TEST

static void *leave_block(void *block)
{
    *(void **)block = take(40);
    return NULL;
}

START_TEST(parked_heap_is_adopted)
{
    struct hk_block of_p, of_q;
    void *p, *q;

    run_thread(leave_block, &p);
    run_thread(leave_block, &q);
    ck_assert_int_eq(hk_ace_identify(p, &of_p), HK_BLOCK_LIVE);
    ck_assert_int_eq(hk_ace_identify(q, &of_q), HK_BLOCK_LIVE);
    ck_assert_ptr_ne(p, q);
    ck_assert_ptr_eq(of_p.desc, of_q.desc); /* the second thread goes on in the first one's slab */
    ck_assert(hk_thread_enter());
    hk_ace_free(self, p, NULL);
    hk_ace_free(self, q, NULL);
    hk_thread_leave();
    ck_assert(!is_live(p) && !is_live(q));
}
END_TEST

/* ---- fork -------------------------------------------------------------------------------------- */

static bool are_equal(const sigset_t *a, const sigset_t *b)
{
    for (int i = 1; i < 64; i++)
        if (sigismember(a, i) != sigismember(b, i))
            return false;
    return true;
}

static void fork_in_section(void)
{
    void *p = hk_ace_alloc(self, 300, 16, false, NULL);
    sigset_t before, after;
    int status = -1;

    pthread_sigmask(SIG_SETMASK, NULL, &before);
    pid_t child = fork();
    if (child == 0) {
        hk_ace_free(hk_thread_heap(), p, NULL);
        p = hk_ace_alloc(hk_thread_heap(), 5 * HK_MIB, 16, false, NULL);
        hk_ace_check(self);
        _exit(p && self->thread_id == (unsigned)getpid() && hk_in_slow_section ? 0 : 1);
    }
    waitpid(child, &status, 0);
    ck_assert_int_eq(status, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    ck_assert(are_equal(&before, &after));
    ck_assert_uint_eq(hk_in_slow_section, 1); /* that of who forked */
}

START_TEST(fork_keeps_sections_and_masks)
{
    sigset_t set, now;
    int status = -1;

    hk_thread_start();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    pid_t child = fork();
    if (child == 0) {
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        (void)take(3000);
        _exit(sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2) && !hk_in_slow_section &&
                      self->thread_id == (unsigned)getpid()
                  ? 0
                  : 1);
    }
    waitpid(child, &status, 0);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(hk_in_slow_section, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    ck_assert(sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2));
    ck_assert(hk_thread_enter()); /* now as from a handler */
    fork_in_section();
    hk_thread_leave();
}
END_TEST

/* ---- panic ------------------------------------------------------------------------------------- */

/* Whoever catches the signal and leaves a section must not touch the heap. */
static void panic_and_leave(void)
{
    static void *p[2];

    p[0] = take(40);
    run_thread(defer_without_heap, p);
    hk_panic_hook();
    if (!hk_thread_is_panicking() || hk_heap_self != &hk_heap_empty)
        _exit(1);
    if (!hk_thread_enter() || hk_thread_heap())
        _exit(2);
    hk_thread_leave();
    if (!is_live(p[0]) || hk_heap_self != &hk_heap_empty)
        _exit(3);
    hk_thread_defer_free(p[0]); /* to nobody */
    _exit(is_live(p[0]) ? 0 : 4);
}

START_TEST(panic_leaves_the_heap_alone)
{
    struct child child = run_child(panic_and_leave);

    ck_assert(!hk_thread_is_panicking());
    ck_assert_int_eq(child.status, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("thread");
    TCase *tc = new_case(suite, "thread", setup, teardown);

    tcase_add_test(tc, section_is_entered_once);
    tcase_add_test(tc, fast_paths_go_off_and_on);
    tcase_add_loop_test(tc, deferred_blocks_are_freed_at_the_end, 0, 3);
    tcase_add_test(tc, what_no_memory_can_note_is_lost_and_counted);
    tcase_add_test(tc, orphans_are_freed_by_who_leaves_next);
    if (!UNDER_TSAN) { /* whose own end of a thread comes before the last round of ours, and breaks what runs then */
        tcase_add_test(tc, orphans_that_no_memory_can_note_are_counted);
        tcase_add_test(tc, thread_without_memory_works_without_a_heap);
        tcase_add_test(tc, what_such_a_thread_cannot_send_it_brings_home);
        tcase_add_test(tc, heap_stays_until_the_last_round);
        tcase_add_test(tc, parked_heap_is_adopted);
    }
    tcase_add_test(tc, fork_keeps_sections_and_masks);
    tcase_add_test(tc, panic_leaves_the_heap_alone);
    return run_suite(suite);
}
