// SPDX-License-Identifier: MIT
//
// Signals that land in the middle of malloc. POSIX lets no handler allocate, but programs have such
// handlers: no hang, no crash, and no damage to blocks. (Under glibc's own malloc the storms below
// end in a crash.)
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static volatile sig_atomic_t nr_signals;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void storm(int signal_number, int timer, void (*on_signal)(int))
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 100}, {0, 100}};

    sigaction(signal_number, &action, NULL);
    setitimer(timer, &often, NULL);
}

static void calm(int timer)
{
    struct itimerval never = {{0, 0}, {0, 0}};

    setitimer(timer, &never, NULL);
}

// False: a block does not hold what was written into it.
static bool work_for(double seconds, uint64_t seed)
{
    struct {
        unsigned char *p;
        size_t size;
        unsigned char byte;
    } block[128] = {{NULL, 0, 0}};
    double end = now() + seconds;
    bool good = true;

    while (now() < end)
        for (unsigned i = 0; i < 500; i++) {
            uint64_t r = random_next(&seed);
            unsigned k = r % COUNT(block);
            if (block[k].p != NULL && block[k].size != 0)
                good &= block[k].p[0] == block[k].byte &&
                        block[k].p[block[k].size - 1] == block[k].byte;
            free(block[k].p);
            block[k].size = (r >> 8) % ((size_t)1 << (4 + (r >> 32) % 14));
            block[k].byte = (unsigned char)(r >> 56);
            block[k].p = hide(malloc(block[k].size));
            memset(block[k].p, block[k].byte, block[k].size);
        }
    for (unsigned i = 0; i < COUNT(block); i++)
        free(block[i].p);
    return good;
}

static void count_only(int number)
{
    (void)number;
    nr_signals++;
}

static void allocate(int number)
{
    static unsigned n;
    size_t size = (size_t)16 << (n++ % 12);
    void *p = hide(malloc(size));

    (void)number;
    if (p != NULL)
        memset(p, 0xcc, size < 64 ? size : 64);
    free(p);
    nr_signals++;
}

static int handler_counts(void)
{
    storm(SIGPROF, ITIMER_PROF, count_only);
    bool good = work_for(1, 1);
    calm(ITIMER_PROF);
    CHECK(good);
    CHECK(nr_signals > 10);
    return PASS;
}

// The handler gives back what it takes, in the order of a stack: that is safe at every instruction (steps.c goes
// through them one by one).
static int allocate_in_storm(int signal_number, int timer, uint64_t seed)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        storm(signal_number, timer, allocate);
        bool good = work_for(2, seed);
        calm(timer);
        _exit(good && nr_signals > 10 ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_MSG(status == 0, "status %#x", (unsigned)status);
    return PASS;
}

static int handler_allocates(void)
{
    return allocate_in_storm(SIGPROF, ITIMER_PROF, 1);
}

static int handler_allocates_in_real_time(void)
{
    return allocate_in_storm(SIGALRM, ITIMER_REAL, 2);
}

static void *work_in_thread(void *seed)
{
    return (void *)(uintptr_t)work_for(1, (uintptr_t)seed);
}

static int storm_over_threads(void)
{
    pthread_t thread[4];
    bool good = true;

    storm(SIGPROF, ITIMER_PROF, count_only);
    for (unsigned i = 0; i < COUNT(thread); i++)
        if (pthread_create(&thread[i], NULL, work_in_thread, (void *)(uintptr_t)(i + 1)) != 0)
            abort();
    for (unsigned i = 0; i < COUNT(thread); i++) {
        void *result;
        pthread_join(thread[i], &result);
        good &= result != NULL;
    }
    calm(ITIMER_PROF);
    CHECK(good);
    return PASS;
}

// The program's own handlers are the program's: none of ours is installed.
static int no_handlers_installed(void)
{
    free(hide(malloc(100)));
    free(hide(malloc(10000000)));
    for (int number = 1; number < 32; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) != 0)
            continue;
        CHECK_MSG(action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN, "signal %d",
                  number);
    }
    return PASS;
}

static int on_alternate_stack(void)
{
    stack_t stack = {.ss_sp = hide(malloc(SIGSTKSZ)), .ss_size = (size_t)SIGSTKSZ};
    struct sigaction action = {.sa_handler = allocate, .sa_flags = SA_ONSTACK};

    CHECK_EQ(0, sigaltstack(&stack, NULL));
    sigaction(SIGUSR1, &action, NULL);
    for (unsigned i = 0; i < 1000; i++)
        raise(SIGUSR1);
    CHECK_EQ(1000, nr_signals);
    return PASS;
}

static const struct test_case cases[] = {
    {"a storm of SIGPROF, the handler counts", handler_counts, 20},
    {"a storm of SIGPROF, the handler allocates", handler_allocates, 20},
    {"a storm of SIGALRM, the handler allocates", handler_allocates_in_real_time, 20},
    {"a storm over four threads", storm_over_threads, 20},
    {"no handlers installed", no_handlers_installed, 0},
    {"a handler on its own stack allocates", on_alternate_stack, 0},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, COUNT(cases));
}
