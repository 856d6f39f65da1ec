// SPDX-License-Identifier: MIT
/*
 * The threads of a model and who of them runs; then the program that explores.
 *
 * A thread is a stack of its own on the one thread that the system knows. It gives up the processor at switch
 * points only. To go on with another although this one could is a preemption; the exhaustive search bounds
 * their number (Musuvathi, Qadeer, "Iterative context bounding", 2007), and that of loads which see an old value. The
 * random search gives priorities that fall at random moments (Burckhardt and others, "A randomized
 * scheduler with probabilistic guarantees of finding bugs", 2010).
 */
#undef _FORTIFY_SOURCE /* longjmp to another stack is the point */
#include "engine_private.h"
#include "schedule.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <linux/futex.h>

#define MAX_STEPS 20000
#define MAX_CLAIMED 64
#define NR_CHANGES 4      /* of priority, in a random schedule */
#define WARM_UP 200       /* random schedules that learn which words are shared */

enum thread_state { DONE, READY, YIELDED, AWAITS_VALUE, AWAITS_FUTEX };

struct thread {
    enum thread_state state;
    bool primed;      /* its stack stands before the next schedule's body */
    jmp_buf context;
    char *stack;
    const volatile void *awaited;
    uint64_t value;
    bool may_time_out, timed_out;
    unsigned priority;
    uint32_t identity[32];            /* apart: an address is also a lock's word */
};

enum phase explore_phase;
unsigned explore_current;
const struct explore_model *explore_model;
bool explore_tracing;

static struct thread threads[EXPLORE_THREADS];
static unsigned nr_threads;
static jmp_buf main_context, failure;
static ucontext_t priming_main, priming_thread;
static const void *claimed[MAX_CLAIMED];
static unsigned nr_claimed, nr_busy;

/* Of the schedule that runs. */
static unsigned nr_steps, nr_preemptions, nr_old_reads;
static unsigned change_at[NR_CHANGES], lowest_priority;
static unsigned expected_steps = 100; /* about as long as the last */
static unsigned max_preemptions = 2, max_old_reads = 1;
static bool grew;
static char complaint[1024];

void explore_grew(void)
{
    grew = true;
}

unsigned explore_self(void)
{
    return explore_current;
}

unsigned explore_nr_busy(void)
{
    return nr_busy;
}

uint32_t *explore_identity(void)
{
    static uint32_t nobody[2];

    return explore_phase == RUNNING ? threads[explore_current].identity : nobody;
}

uintptr_t explore_stack(void)
{
    return (uintptr_t)threads[explore_current].stack;
}

void explore_trace(const char *format, ...)
{
    va_list ap;

    if (!explore_tracing)
        return;
    printf("  T%u ", explore_current);
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    printf("\n");
}

void explore_fail(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(complaint, sizeof complaint, format, ap);
    va_end(ap);
    if (explore_phase == SETUP) {
        fprintf(stderr, "explore: %s: before the first schedule: %s\n", explore_model->name, complaint);
        abort();
    }
    longjmp(failure, 1);
}

/* ---- threads ------------------------------------------------------------------------------- */

static void jump_to(unsigned next)
{
    struct thread *from = &threads[explore_current];

    if (next == explore_current)
        return;
    explore_current = next;
    if (_setjmp(from->context) == 0)
        _longjmp(threads[next].context, 1);
}

static bool is_enabled(const struct thread *t)
{
    switch (t->state) {
    case DONE:
        return false;
    case AWAITS_VALUE:
        return *(const volatile uint64_t *)t->awaited == t->value;
    case AWAITS_FUTEX:
        return t->may_time_out;
    default:
        return true;
    }
}

/* Who may run: the running thread first if it can go on, those that spin last, only if nobody else can. */
static unsigned list_candidates(unsigned *list, bool *can_go_on)
{
    unsigned n = 0;

    *can_go_on = threads[explore_current].state == READY;
    if (*can_go_on)
        list[n++] = explore_current;
    for (unsigned t = 0; t < nr_threads; t++)
        if (t != explore_current && threads[t].state != YIELDED && threads[t].state != AWAITS_FUTEX &&
            is_enabled(&threads[t]))
            list[n++] = t;
    if (n == 0)
        for (unsigned t = 0; t < nr_threads; t++)
            if (threads[t].state == YIELDED)
                list[n++] = t;
    for (unsigned t = 0; t < nr_threads; t++)
        if (threads[t].state == AWAITS_FUTEX && is_enabled(&threads[t]))
            list[n++] = t;
    return n;
}

static unsigned highest_priority(const unsigned *list, unsigned n)
{
    unsigned best = 0;

    for (unsigned i = 1; i < n; i++)
        if (threads[list[i]].priority > threads[list[best]].priority)
            best = i;
    return best;
}

static void change_priority(void)
{
    for (unsigned i = 0; i < NR_CHANGES; i++)
        if (change_at[i] == nr_steps)
            threads[explore_current].priority = --lowest_priority;
}

/* A time-out that another thread need not have waited for is chosen freely only where nobody else can run. */
static unsigned nr_free(const unsigned *list, unsigned n)
{
    unsigned nr = 0;

    while (nr < n && threads[list[nr]].state != AWAITS_FUTEX)
        nr++;
    return nr ? nr : n;
}

static void resume(unsigned next)
{
    struct thread *t = &threads[next];

    for (unsigned i = 0; i < nr_threads; i++)
        if (i != next && threads[i].state == YIELDED)
            threads[i].state = READY;
    t->timed_out = t->state == AWAITS_FUTEX;
    t->state = READY;
}

/* What chance says. Time-outs are rare: one that comes always keeps the thread it waits for from running. */
static unsigned wish(const unsigned *list, unsigned n)
{
    if (schedule_kind() != SCHEDULE_RANDOM)
        return 0;
    return highest_priority(list, schedule_draw() % 8 == 0 ? n : nr_free(list, n));
}

/* The running thread can go on or not; who does? */
static void dispatch(void)
{
    unsigned list[EXPLORE_THREADS], n, allowed, taken;
    bool can_go_on;

    n = list_candidates(list, &can_go_on);
    if (n == 0) {
        bool all_done = true;
        for (unsigned t = 0; t < nr_threads; t++)
            all_done &= threads[t].state == DONE;
        if (!all_done)
            explore_fail("deadlock");
        if (_setjmp(threads[explore_current].context) == 0)
            _longjmp(main_context, 1);
        return;
    }
    if (++nr_steps > MAX_STEPS)
        explore_fail("a schedule of more than %u steps", MAX_STEPS);
    change_priority();
    allowed = nr_preemptions < max_preemptions ? n : can_go_on ? 1 : nr_free(list, n);
    taken = schedule_pick(n, allowed, wish(list, n));
    if ((can_go_on && taken > 0) || taken >= nr_free(list, n))
        nr_preemptions++;
    resume(list[taken]);
    if (list[taken] != explore_current)
        explore_trace("-> T%u", list[taken]);
    jump_to(list[taken]);
}

void explore_switch_point(void)
{
    dispatch();
}

void explore_yield(void)
{
    if (explore_phase != RUNNING)
        return;
    threads[explore_current].state = YIELDED;
    dispatch();
}

void explore_block_on_value(const volatile uint64_t *word, uint64_t value)
{
    struct thread *t = &threads[explore_current];

    if (*word == value)
        return;
    t->state = AWAITS_VALUE;
    t->awaited = word;
    t->value = value;
    dispatch();
}

bool explore_block_on_futex(const volatile uint32_t *word, bool may_time_out)
{
    struct thread *t = &threads[explore_current];

    t->state = AWAITS_FUTEX;
    t->awaited = word;
    t->may_time_out = may_time_out;
    t->timed_out = false;
    dispatch();
    return !t->timed_out;
}

void explore_wake_futex(const volatile uint32_t *word, unsigned n)
{
    unsigned list[EXPLORE_THREADS], nr = 0;

    for (unsigned t = 0; t < nr_threads; t++)
        if (threads[t].state == AWAITS_FUTEX && threads[t].awaited == word)
            list[nr++] = t;
    for (; n > 0 && nr > 0; n--) {
        unsigned i = schedule_pick(nr, nr, (unsigned)(schedule_draw() % nr));
        threads[list[i]].state = READY;
        memory_wakes(explore_current, list[i]);
        list[i] = list[--nr];
    }
}

unsigned explore_choose(unsigned n)
{
    return schedule_pick(n, n, (unsigned)(schedule_draw() % n));
}

unsigned explore_choose_store(unsigned n)
{
    unsigned allowed = nr_old_reads < max_old_reads ? n : 1;
    unsigned wish = n > 1 && schedule_draw() % 3 == 0 ? (unsigned)(schedule_draw() % n) : 0;
    unsigned taken = schedule_pick(n, allowed, wish);

    nr_old_reads += taken > 0;
    return taken;
}

void explore_only_me(void)
{
    for (unsigned t = 0; t < nr_threads; t++)
        if (t != explore_current && threads[t].state != DONE) {
            threads[t].state = DONE;
            threads[t].primed = false;
        }
    memory_join_all(explore_current);
}

/* ---- the rest of the models' interface ----------------------------------------------------- */

void explore_claim(const void *p)
{
    for (unsigned i = 0; i < nr_claimed; i++)
        if (claimed[i] == p)
            explore_fail("%p has two owners", p);
    if (nr_claimed == MAX_CLAIMED)
        explore_fail("internal: too many claims");
    claimed[nr_claimed++] = p;
}

void explore_disclaim(const void *p)
{
    for (unsigned i = 0; i < nr_claimed; i++)
        if (claimed[i] == p) {
            claimed[i] = claimed[--nr_claimed];
            return;
        }
    explore_fail("%p has no owner", p);
}

unsigned explore_nr_claimed(void)
{
    return nr_claimed;
}

/* lock.c's futex; the rest goes to the kernel. A wait reads the word as the kernel does: the newest. */
long explore_syscall(long number, ...)
{
    va_list ap;
    long a[6];

    va_start(ap, number);
    for (unsigned i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (number != SYS_futex || explore_phase != RUNNING)
        return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    explore_switch_point();
    if ((a[1] & FUTEX_CMD_MASK) == FUTEX_WAKE) {
        explore_trace("futex wake");
        explore_wake_futex((const volatile uint32_t *)a[0], (unsigned)a[2]);
        return 0;
    }
    if (*(const volatile uint32_t *)a[0] != (uint32_t)a[2])
        return -1;
    explore_trace("futex wait");
    return explore_block_on_futex((const volatile uint32_t *)a[0], a[3] != 0) ? 0 : -1;
}

/* ---- the linker's --wrap: locks, where they are not under test, and time -------------------- */

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmissing-declarations"
#endif

struct hk_lock {
    uintptr_t word;
    uint32_t rank, for_fork;
};

void __real_hk_lock(struct hk_lock *lock);
void __real_hk_unlock(struct hk_lock *lock);
bool __real_hk_try_lock(struct hk_lock *lock);

static bool take(struct hk_lock *lock)
{
    static struct explore_site here = {.file = __FILE__, .function = "hk_lock", .name = "cas_acquire", .line = __LINE__};
    uintptr_t none = 0;

    return explore_cas(&here, &lock->word, sizeof lock->word, &none, (uintptr_t)explore_identity(), EXPLORE_ACQUIRE);
}

void __wrap_hk_lock(struct hk_lock *lock)
{
    if (explore_phase != RUNNING || explore_model->real_locks) {
        __real_hk_lock(lock);
        return;
    }
    explore_switch_point();
    do
        explore_block_on_value((const volatile uint64_t *)&lock->word, 0);
    while (!take(lock));
}

bool __wrap_hk_try_lock(struct hk_lock *lock)
{
    bool done;

    if (explore_phase != RUNNING || explore_model->real_locks)
        return __real_hk_try_lock(lock);
    done = take(lock);
    nr_busy += !done;
    return done;
}

void __wrap_hk_unlock(struct hk_lock *lock)
{
    static struct explore_site here = {.file = __FILE__, .function = "hk_unlock", .name = "store_release", .line = __LINE__};

    if (explore_phase != RUNNING || explore_model->real_locks)
        __real_hk_unlock(lock);
    else
        explore_store(&here, &lock->word, sizeof lock->word, 0, EXPLORE_RELEASE);
}

int __wrap_sched_yield(void)
{
    explore_yield();
    return 0;
}

/* Time stands still unless a model moves it. */
uint64_t __wrap_hk_os_now_ns(void)
{
    return UINT64_C(1000000000);
}

struct hk_diag {
    const char *what;
};

_Noreturn void __wrap_hk_panic(const struct hk_diag *diag)
{
    explore_fail("panic: %s", diag->what);
}

_Noreturn void __wrap_hk_panic_internal(const char *what, const void *where)
{
    explore_fail("panic: %s (%p)", what, where);
}

/* ---- one schedule -------------------------------------------------------------------------- */

static void run_thread(void)
{
    unsigned me = explore_current;

    if (_setjmp(threads[me].context) == 0)
        swapcontext(&priming_thread, &priming_main);
    for (;;) {
        threads[me].primed = false;
        explore_model->thread[me]();
        threads[me].state = DONE;
        threads[me].primed = true;
        dispatch();
    }
}

static void prime(unsigned t)
{
    getcontext(&priming_thread);
    priming_thread.uc_stack.ss_sp = threads[t].stack;
    priming_thread.uc_stack.ss_size = STACK_BYTES;
    priming_thread.uc_link = NULL;
    explore_current = t;
    makecontext(&priming_thread, run_thread, 0);
    swapcontext(&priming_main, &priming_thread);
    threads[t].primed = true;
}

static void draw_priorities(void)
{
    if (schedule_kind() != SCHEDULE_RANDOM)
        return;
    lowest_priority = 1000;
    for (unsigned t = 0; t < nr_threads; t++)
        threads[t].priority = 1001 + (unsigned)(schedule_draw() % 1000);
    for (unsigned i = 0; i < NR_CHANGES; i++)
        change_at[i] = 1 + (unsigned)(schedule_draw() % expected_steps);
}

static void begin(void)
{
    schedule_begin();
    memory_begin();
    nr_steps = nr_preemptions = nr_old_reads = nr_busy = nr_claimed = 0;
    draw_priorities();
    for (unsigned t = 0; t < nr_threads; t++) {
        if (!threads[t].primed)
            prime(t);
        threads[t].state = READY;
        threads[t].identity[0] = 0;
    }
}

static bool run_schedule(void)
{
    volatile bool held = true;

    begin();
    if (setjmp(failure) == 0) {
        explore_phase = RUNNING;
        explore_current = 0;
        if (_setjmp(main_context) == 0) {
            /* Who is first is a choice like any other, and free. */
            explore_current = explore_choose(nr_threads);
            _longjmp(threads[explore_current].context, 1);
        }
        explore_phase = AFTER;
        if (explore_model->check)
            explore_model->check();
    } else {
        held = false;
        for (unsigned t = 0; t < nr_threads; t++)
            if (threads[t].state != DONE || t == explore_current)
                threads[t].primed = false;
    }
    explore_phase = SETUP;
    memory_undo();
    expected_steps = nr_steps ? nr_steps : 1;
    return held;
}

static void on_crash(int signal)
{
    (void)signal;
    if (explore_phase == SETUP)
        _exit(99);
    explore_fail("crash: signal %d", signal);
}

/* ---- the search ---------------------------------------------------------------------------- */

static uint64_t nr_schedules;

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* At most `most` schedules of the kind that was begun. False: a violation. */
static bool search(uint64_t most, bool *complete)
{
    *complete = false;
    for (uint64_t n = 0; n < most; n++) {
        bool held = run_schedule(), again = grew && (!held || schedule_kind() == SCHEDULE_EXHAUSTIVE);

        nr_schedules++;
        if (again) { /* with what was learnt */
            grew = false;
            schedule_again();
            continue;
        }
        if (!held)
            return false;
        if (!schedule_next()) {
            *complete = true;
            return true;
        }
    }
    return true;
}

/* What was found is found again from its record. */
static bool report(const char *control)
{
    char first[sizeof complaint];

    memcpy(first, complaint, sizeof first);
    printf("violation in %s after %llu schedules: %s\n", explore_model->name, (unsigned long long)nr_schedules,
           first);
    printf("  replay: explore %s %s%s --replay ", explore_model->name, control ? "--control " : "",
           control ? control : "");
    schedule_print();
    printf("\n");
    schedule_repeat();
    if (!run_schedule() && strcmp(first, complaint) == 0)
        return true;
    printf("  but its replay ends otherwise\n");
    return false;
}

static bool warm_up(void)
{
    bool complete, held;

    for (unsigned round = 0; round < 20; round++) {
        grew = false;
        schedule_random(round);
        held = search(WARM_UP, &complete);
        if (!held || !grew)
            break;
    }
    grew = false;
    return held;
}

static bool exhaustive(unsigned preemptions, unsigned old_reads, uint64_t most, bool *complete)
{
    max_preemptions = preemptions;
    max_old_reads = old_reads;
    schedule_exhaustive();
    return search(most, complete);
}

/* Fewest preemptions first: what is found is short. */
static bool deepening(unsigned preemptions, unsigned old_reads, uint64_t most, bool *complete)
{
    for (unsigned p = 0; p <= preemptions; p++) {
        uint64_t before = nr_schedules;
        if (!exhaustive(p, old_reads, most, complete))
            return false;
        if (nr_schedules - before >= most)
            return true;
        most -= nr_schedules - before;
    }
    return true;
}

/* ---- the program --------------------------------------------------------------------------- */

struct arguments {
    const struct explore_control *control;
    struct explore_control any; /* a site from the command line */
    unsigned preemptions, old_reads;
    uint64_t most, nr_random, seed;
    const char *replay;
    bool sites;
};

static int usage(void)
{
    fprintf(stderr, "usage: explore --list\n"
                    "       explore MODEL [--control SITE] [--preemptions N] [--old-reads N] [--most N] [--random N]\n"
                    "                     [--seed N] [--sites] [--replay CHOICES]\n");
    return 2;
}

static int list_models(void)
{
    for (unsigned i = 0; explore_models[i]; i++) {
        const struct explore_model *m = explore_models[i];
        printf("model %s %u %u %u %u %u\n", m->name, m->preemptions, m->old_reads, m->nr_random, m->more_preemptions,
               m->more_old_reads);
        for (const struct explore_control *c = m->control; c->site; c++)
            printf("control %s %s\n", m->name, c->site);
    }
    return 0;
}

static const struct explore_model *find_model(const char *name)
{
    for (unsigned i = 0; explore_models[i]; i++)
        if (strcmp(explore_models[i]->name, name) == 0)
            return explore_models[i];
    return NULL;
}

static bool parse(int argc, char **argv, struct arguments *a)
{
    *a = (struct arguments){.preemptions = explore_model->preemptions, .old_reads = explore_model->old_reads,
                            .most = UINT64_MAX, .nr_random = explore_model->nr_random, .seed = 1};
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--sites") == 0) {
            a->sites = true;
            continue;
        }
        if (!value)
            return false;
        if (strcmp(argv[i], "--control") == 0) {
            a->any.site = value;
            a->control = &a->any;
        } else if (strcmp(argv[i], "--preemptions") == 0) {
            a->preemptions = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--old-reads") == 0) {
            a->old_reads = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--most") == 0) {
            a->most = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--random") == 0) {
            a->nr_random = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0) {
            a->seed = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--replay") == 0) {
            a->replay = value;
        } else {
            return false;
        }
        i++;
    }
    return true;
}

static void start(void)
{
    struct sigaction crash = {.sa_handler = on_crash, .sa_flags = SA_NODEFER | SA_ONSTACK};
    static char alternate[64 << 10];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};

    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &crash, NULL);
    sigaction(SIGBUS, &crash, NULL);
    sigaction(SIGFPE, &crash, NULL);
    memory_start();
    explore_ignore(&errno, sizeof errno);
    while (nr_threads < EXPLORE_THREADS && explore_model->thread[nr_threads]) {
        threads[nr_threads].stack = aligned_alloc(4096, STACK_BYTES);
        if (!threads[nr_threads].stack)
            abort();
        nr_threads++;
    }
    explore_model->setup();
}

static int replay(const char *text)
{
    if (!schedule_replay(text))
        return usage();
    do
        grew = false; /* the search knew more than this process yet does */
    while ((run_schedule(), grew));
    explore_tracing = true;
    if (run_schedule()) {
        printf("no violation\n");
        return 0;
    }
    printf("violation: %s\n", complaint);
    return 1;
}

int main(int argc, char **argv)
{
    struct arguments a;
    bool complete = false, held;
    double begun = seconds();
    uint64_t nr_exhaustive = 0;

    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list_models();
    explore_model = argc > 1 ? find_model(argv[1]) : NULL;
    if (!explore_model || !parse(argc, argv, &a))
        return usage();
    start();
    /* What is shared is learnt without the bug, and in both passes of a replay alike. */
    held = warm_up();
    memory_use_control(a.control);
    if (a.replay)
        return replay(a.replay);
    if (held) {
        held = a.control ? deepening(a.preemptions, a.old_reads, a.most, &complete)
                         : exhaustive(a.preemptions, a.old_reads, a.most, &complete);
        nr_exhaustive = nr_schedules;
    }
    if (held && a.nr_random) {
        bool ignored;
        schedule_random(a.seed << 32);
        held = search(a.nr_random, &ignored);
    }
    if (!held) {
        bool replays = report(a.any.site);
        return replays ? 1 : 3;
    }
    printf("%s: %llu schedules, %s to %u preemptions and %u old reads, %llu random, %.1f s\n", explore_model->name,
           (unsigned long long)nr_schedules, complete ? "exhaustive" : "cut short on the way", a.preemptions,
           a.old_reads, (unsigned long long)(nr_schedules - nr_exhaustive), seconds() - begun);
    if (a.control)
        printf("  the seeded place was passed %u times in the last schedule\n", memory_nr_seeded_hits());
    if (a.sites)
        memory_list_sites();
    return 0;
}
