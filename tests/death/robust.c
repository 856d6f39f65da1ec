// SPDX-License-Identifier: MIT
//
// The report itself: it ends the process whatever the program did to SIGABRT, stderr and its
// threads.
#include "death.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void misuse(size_t size)
{
    void *p = take(size);

    about(p, p, size);
    free_it(p);
    free_it(p);
}

static void work_with_heap(int number)
{
    (void)number;
    for (size_t size = 1; size < 8 * MIB; size = size * 3 + 1) {
        void *p = hide(malloc(size));
        p = hide(realloc(p, size * 2));
        free_it(p);
    }
}

static void handler_allocates(const struct death *self, uint64_t seed)
{
    (void)seed;
    signal(SIGABRT, work_with_heap);
    misuse(self->size);
}

static void print_from_handler(int number)
{
    FILE *file = fopen("/dev/null", "w");

    fprintf(file, "signal %d\n", number);
    fclose(file);
}

static void handler_prints(const struct death *self, uint64_t seed)
{
    (void)seed;
    signal(SIGABRT, print_from_handler);
    misuse(self->size);
}

static void *victim;

static void misuse_again(int number)
{
    (void)number;
    free_it(victim);
}

static void handler_misuses_again(const struct death *self, uint64_t seed)
{
    (void)seed;
    victim = take(self->size);
    free_it(victim);
    signal(SIGABRT, misuse_again);
    misuse(self->size + 100);
}

static void signal_ignored(const struct death *self, uint64_t seed)
{
    (void)seed;
    signal(SIGABRT, SIG_IGN);
    misuse(self->size);
}

static void signal_blocked(const struct death *self, uint64_t seed)
{
    sigset_t all;

    (void)seed;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    misuse(self->size);
}

static void stderr_closed(const struct death *self, uint64_t seed)
{
    (void)seed;
    close(STDERR_FILENO);
    misuse(self->size);
}

static void stderr_full(const struct death *self, uint64_t seed)
{
    int full = open("/dev/full", O_WRONLY);

    (void)seed;
    dup2(full, STDERR_FILENO);
    misuse(self->size);
}

static void stderr_without_reader(const struct death *self, uint64_t seed)
{
    int ends[2];

    (void)seed;
    if (pipe(ends) != 0)
        skip_case("no pipe");
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    misuse(self->size);
}

static void stderr_read_only(const struct death *self, uint64_t seed)
{
    int null = open("/dev/null", O_RDONLY);

    (void)seed;
    dup2(null, STDERR_FILENO);
    misuse(self->size);
}

static void no_descriptors(const struct death *self, uint64_t seed)
{
    struct rlimit none = {0, 0};

    (void)seed;
    setrlimit(RLIMIT_NOFILE, &none);
    misuse(self->size);
}

static void no_address_space(const struct death *self, uint64_t seed)
{
    struct rlimit tight = {MIB, MIB};

    (void)seed;
    setrlimit(RLIMIT_AS, &tight);
    misuse(self->size);
}

static void misuse_in_thread(void *size)
{
    misuse(*(size_t *)size);
}

static void in_a_thread(const struct death *self, uint64_t seed)
{
    size_t size = self->size;

    (void)seed;
    in_thread(misuse_in_thread, &size);
}

static pthread_barrier_t barrier;

static void *misuse_at_barrier(void *p)
{
    free_it(p);
    pthread_barrier_wait(&barrier);
    free_it(p);
    return NULL;
}

static void many_at_once(const struct death *self, uint64_t seed)
{
    pthread_t thread[8];

    (void)seed;
    pthread_barrier_init(&barrier, NULL, COUNT(thread));
    for (unsigned i = 0; i < COUNT(thread); i++)
        pthread_create(&thread[i], NULL, misuse_at_barrier, take(self->size));
    for (unsigned i = 0; i < COUNT(thread); i++)
        pthread_join(thread[i], NULL);
}

static volatile bool stop;

static void *churn(void *unused)
{
    uint64_t state = (uint64_t)(uintptr_t)&unused;

    while (!stop)
        free_it(take(random_next(&state) % 100000));
    return NULL;
}

// Other threads are inside the allocator when one misuses it.
static void others_busy(const struct death *self, uint64_t seed)
{
    pthread_t thread[4];

    for (unsigned i = 0; i < COUNT(thread); i++)
        pthread_create(&thread[i], NULL, churn, NULL);
    for (unsigned i = 0; i < 1000 + seed * 100; i++)
        free_it(take(i));
    misuse(self->size);
}

static void *misuse_on_small_stack(void *size)
{
    misuse(*(size_t *)size);
    return NULL;
}

static void small_stack(const struct death *self, uint64_t seed)
{
    size_t size = self->size;
    pthread_attr_t attr;
    pthread_t thread;

    (void)seed;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 16384);
    if (pthread_create(&thread, &attr, misuse_on_small_stack, &size) != 0)
        skip_case("no thread with a stack of 16 KiB");
    pthread_join(thread, NULL);
}

static void from_child(const struct death *self, uint64_t seed)
{
    pthread_t thread;

    (void)seed;
    pthread_create(&thread, NULL, churn, NULL);
    pid_t child = fork();
    if (child == 0) {
        misuse(self->size);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        raise(WTERMSIG(status));
}

static const struct death cases[] = {
    {"report: the handler allocates", handler_allocates, DOUBLE_FREE, 100, 0, 0},
    {"report: the handler allocates, 200 KiB", handler_allocates, DOUBLE_FREE, 200 * KIB, 0, 0},
    {"report: the handler allocates, 4 MiB", handler_allocates, DOUBLE_FREE_OR_UNKNOWN, 4 * MIB, 0,
     0},
    {"report: the handler prints", handler_prints, DOUBLE_FREE, 100, 0, 0},
    {"report: the handler misuses again", handler_misuses_again, ANY_SENTENCE, 100, 0, 0},
    {"report: SIGABRT ignored", signal_ignored, DOUBLE_FREE, 100, 0, 0},
    {"report: SIGABRT blocked", signal_blocked, DOUBLE_FREE, 100, 0, 0},
    {"report: stderr closed", stderr_closed, ABORT_WITHOUT_TEXT, 100, 0, 0},
    {"report: stderr full", stderr_full, ABORT_WITHOUT_TEXT, 100, 0, 0},
    {"report: stderr without a reader", stderr_without_reader, SILENT_ABORT_OR_PIPE, 100, 0, 0},
    {"report: stderr not for writing", stderr_read_only, ABORT_WITHOUT_TEXT, 100, 0, 0},
    {"report: no descriptors left", no_descriptors, DOUBLE_FREE, 100, 0, 0},
    {"report: no address space left", no_address_space, DOUBLE_FREE, 100, 0, 0},
    {"report: in a thread", in_a_thread, DOUBLE_FREE, 100, 0, 0},
    {"report: eight threads at once", many_at_once, ANY_SENTENCE, 100, 0, 3},
    {"report: other threads busy", others_busy, DOUBLE_FREE, 300, 0, 5},
    {"report: a stack of 16 KiB", small_stack, DOUBLE_FREE, 100, 0, 0},
    {"report: in the child of a threaded fork", from_child, DOUBLE_FREE, 100, 0, 0},
};

const struct suite robust_suite = {cases, COUNT(cases)};
