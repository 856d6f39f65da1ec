// SPDX-License-Identifier: MIT
//
// fork in every situation: the child allocates, frees and reallocates at once, whatever the other
// threads of the parent were doing.
#include "harness.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static atomic_bool stop;

static void *filled(size_t size, int byte)
{
    void *p = hide(malloc(size));

    if (p == NULL)
        abort();
    return memset(p, byte, size < 4096 ? size : 4096);
}

static void all_sizes(void)
{
    static void *block[64];
    unsigned count = 0;

    for (size_t size = 1; size < 8 * MIB; size = size * 3 / 2 + 1)
        block[count++] = filled(size, 1);
    for (unsigned i = 0; i < count; i += 2)
        block[i] = hide(realloc(block[i], 10000));
    for (unsigned i = 0; i < count; i++)
        free(block[i]);
    free(hide(calloc(1, 100000)));
}

static int wait_for(pid_t child)
{
    int status = -1;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

// A background thread: many of them, and still the children get the processor soon.
static void stand_back(void)
{
    if (nice(10) == -1)
        return;
}

static void *churn(void *seed_)
{
    uint64_t seed = (uintptr_t)seed_;
    void *block[256] = {NULL};

    stand_back();
    while (!stop) {
        uint64_t r = random_next(&seed);
        void **p = &block[r % COUNT(block)];
        free(*p);
        *p = filled((r >> 8) % ((size_t)1 << (4 + (r >> 32) % 16)), 1);
    }
    for (unsigned i = 0; i < COUNT(block); i++)
        free(block[i]);
    return NULL;
}

static void start(pthread_t *thread, unsigned count, void *(*fn)(void *))
{
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&thread[i], NULL, fn, (void *)(uintptr_t)(i + 1)) != 0)
            abort();
}

static void finish(pthread_t *thread, unsigned count)
{
    stop = true;
    for (unsigned i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
}

// Forks `rounds` times; every child runs `in_child` and must exit with 0 soon.
static int fork_often(unsigned rounds, void (*in_child)(void))
{
    for (unsigned i = 0; i < rounds; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(10);
            in_child();
            _exit(0);
        }
        int status = wait_for(child);
        CHECK_MSG(status == 0, "child %u ended with status %#x", i, (unsigned)status);
    }
    return PASS;
}

static void *inherited[64];

static void use_inherited(void)
{
    for (unsigned i = 0; i < COUNT(inherited); i++)
        if (i % 3 == 0)
            inherited[i] = hide(realloc(inherited[i], 30000));
        else
            free(inherited[i]);
    all_sizes();
}

static void fill_inherited(void)
{
    for (unsigned i = 0; i < COUNT(inherited); i++)
        inherited[i] = filled((size_t)i * i * 100, 1);
}

static int alone(void)
{
    fill_inherited();
    CHECK_EQ(PASS, fork_often(200, use_inherited));
    use_inherited();
    return PASS;
}

static int with_four_threads(void)
{
    pthread_t thread[4];

    fill_inherited();
    start(thread, COUNT(thread), churn);
    int result = fork_often(400, use_inherited);
    finish(thread, COUNT(thread));
    return result;
}

static void *fork_in_thread(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)fork_often(100, all_sizes);
}

static int from_four_threads(void)
{
    pthread_t thread[4];
    void *result;

    start(thread, COUNT(thread), fork_in_thread);
    for (unsigned i = 0; i < COUNT(thread); i++) {
        pthread_join(thread[i], &result);
        CHECK(result == NULL);
    }
    return PASS;
}

static void *end_at_once(void *unused)
{
    (void)unused;
    free(filled(100, 1));
    return NULL;
}

static void with_threads_in_child(void)
{
    pthread_t thread[4];

    start(thread, COUNT(thread), end_at_once);
    for (unsigned i = 0; i < COUNT(thread); i++)
        pthread_join(thread[i], NULL);
    all_sizes();
}

static void *born_and_gone(void *unused)
{
    (void)unused;
    stand_back();
    while (!stop) {
        pthread_t thread;
        start(&thread, 1, end_at_once);
        pthread_join(thread, NULL);
    }
    return NULL;
}

static int while_threads_come_and_go(void)
{
    pthread_t thread[3];

    start(thread, COUNT(thread), born_and_gone);
    int result = fork_often(200, with_threads_in_child);
    finish(thread, COUNT(thread));
    return result;
}

// --- stdio: libc takes its own locks at fork, and holds some of them while it allocates ---

static void *print_into_files(void *unused)
{
    (void)unused;
    stand_back();
    while (!stop) {
        FILE *file = fopen("/dev/null", "w");
        char *line = NULL;
        size_t room = 0;
        fprintf(file, "%s %d %f\n", "some text", 7, 1.5);
        fclose(file);
        file = fopen("/proc/self/stat", "r");
        if (getline(&line, &room, file) < 0)
            abort();
        free(line);
        fclose(file);
    }
    return NULL;
}

static void *flush_all(void *unused)
{
    (void)unused;
    stand_back();
    while (!stop)
        fflush(NULL);
    return NULL;
}

static void print_in_child(void)
{
    FILE *file = fopen("/dev/null", "w");

    fprintf(file, "%s %d\n", "text", 3);
    fflush(NULL);
    fclose(file);
    all_sizes();
}

static int with_stdio(void)
{
    pthread_t printer[3], flusher;

    start(printer, COUNT(printer), print_into_files);
    start(&flusher, 1, flush_all);
    int result = fork_often(300, print_in_child);
    finish(printer, COUNT(printer));
    pthread_join(flusher, NULL);
    return result;
}

static void *open_memory_streams(void *unused)
{
    (void)unused;
    stand_back();
    while (!stop) {
        char *text = NULL;
        size_t size = 0;
        FILE *file = open_memstream(&text, &size);
        for (unsigned i = 0; i < 200; i++)
            fprintf(file, "line %u of some length\n", i);
        fclose(file);
        free(text);
    }
    return NULL;
}

static int with_memory_streams(void)
{
    pthread_t thread[3];

    start(thread, COUNT(thread), open_memory_streams);
    int result = fork_often(200, print_in_child);
    finish(thread, COUNT(thread));
    return result;
}

// --- fork handlers of the program that allocate ---

static void handler(void)
{
    free(filled(1000, 1));
    free(filled(300000, 1));
}

static int with_handlers_that_allocate(void)
{
    pthread_t thread[2];

    pthread_atfork(handler, handler, handler);
    start(thread, COUNT(thread), churn);
    int result = fork_often(200, all_sizes);
    finish(thread, COUNT(thread));
    return result;
}

// --- generations ---

static int descend(unsigned depth)
{
    if (depth == 0)
        return 0;
    all_sizes();
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0)
        _exit(descend(depth - 1));
    all_sizes();
    return wait_for(child) == 0 ? 0 : 1;
}

static int twenty_generations(void)
{
    CHECK_EQ(0, descend(20));
    return PASS;
}

static void leave_by_exit(void)
{
    atexit(all_sizes);
    exit(0);
}

static int child_leaves_by_exit(void)
{
    pthread_t thread[2];

    start(thread, COUNT(thread), churn);
    int result = fork_often(50, leave_by_exit);
    finish(thread, COUNT(thread));
    return result;
}

// --- fork in a signal handler, in the middle of malloc ---

static volatile sig_atomic_t nr_forks, nr_bad;

static void fork_in_handler(int number)
{
    (void)number;
    int saved = errno;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child < 0 || wait_for(child) != 0)
        nr_bad++;
    nr_forks++;
    errno = saved;
}

static volatile sig_atomic_t in_child;

static void fork_in_handler_and_return(int number)
{
    (void)number;
    if (in_child)
        return;
    pid_t child = fork();
    if (child == 0) {
        // Goes back into the malloc that was interrupted.
        in_child = 1;
        alarm(10);
        return;
    }
    if (child < 0 || wait_for(child) != 0)
        nr_bad++;
    nr_forks++;
}

static int interrupted(void (*on_signal)(int))
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};

    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    while (nr_forks < 200 && !in_child)
        all_sizes();
    setitimer(ITIMER_PROF, &never, NULL);
    for (unsigned i = 0; i < 10; i++)
        all_sizes();
    CHECK_EQ(0, nr_bad);
    if (in_child)
        _exit(0);
    return PASS;
}

static int in_signal_handler(void)
{
    return interrupted(fork_in_handler);
}

static int in_signal_handler_and_return(void)
{
    return interrupted(fork_in_handler_and_return);
}

// --- vfork, _Fork ---

static unsigned nr_vforks; // vfork returns twice: no local variable may count

static int with_vfork(void)
{
    void *kept = filled(1000, 0x5a);

    for (nr_vforks = 0; nr_vforks < 100; nr_vforks++) {
        pid_t child = vfork();
        if (child == 0) {
            // Runs in the parent's memory; what it allocates is the parent's.
            free(hide(malloc(500)));
            free(hide(malloc(500000)));
            _exit(0);
        }
        CHECK_EQ(0, wait_for(child));
        all_sizes();
    }
    for (unsigned i = 0; i < 1000; i++)
        CHECK_EQ(0x5a, ((char *)kept)[i]);
    return PASS;
}

static int with_underscore_fork(void)
{
    fill_inherited();
    for (unsigned i = 0; i < 100; i++) {
        pid_t child = _Fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(10);
            use_inherited();
            _exit(0);
        }
        CHECK_EQ(0, wait_for(child));
    }
    use_inherited();
    return PASS;
}

// Only what is async-signal-safe is allowed in the child: it runs another program.
static int with_underscore_fork_and_threads(void)
{
    pthread_t thread[3];

    start(thread, COUNT(thread), churn);
    for (unsigned i = 0; i < 100; i++) {
        pid_t child = _Fork();
        CHECK(child >= 0);
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        CHECK_EQ(0, wait_for(child));
    }
    finish(thread, COUNT(thread));
    return PASS;
}

static int with_system_and_popen(void)
{
    pthread_t thread[3];

    start(thread, COUNT(thread), churn);
    for (unsigned i = 0; i < 30; i++) {
        char text[32] = "";
        CHECK_EQ(0, system("true"));
        FILE *pipe = popen("echo some words", "r");
        CHECK(pipe != NULL && fgets(text, sizeof text, pipe) != NULL);
        CHECK_EQ(0, pclose(pipe));
        CHECK(strcmp(text, "some words\n") == 0);
    }
    finish(thread, COUNT(thread));
    return PASS;
}

// A child that writes to every inherited page must not touch what the parent sees.
static int parent_and_child_are_apart(void)
{
    static unsigned char *block[500];

    for (unsigned i = 0; i < COUNT(block); i++)
        block[i] = filled(i * 10 + 1, (int)i & 0xff);
    pid_t child = fork();
    if (child == 0) {
        for (unsigned i = 0; i < COUNT(block); i++)
            free(block[i]);
        for (unsigned i = 0; i < COUNT(block); i++)
            filled(i * 10 + 1, 0xee);
        _exit(0);
    }
    CHECK_EQ(0, wait_for(child));
    for (unsigned i = 0; i < COUNT(block); i++)
        for (unsigned k = 0; k < i * 10 + 1 && k < 4096; k++)
            CHECK_EQ(i & 0xff, block[i][k]);
    return PASS;
}

// Threads give their caches of large runs back while the process forks: a run that is on its way out
// must not be given back by the child again.
static volatile bool flushing;

static void *flush_for_ever(void *seed_)
{
    uint64_t seed = (uintptr_t)seed_ + 1;

    while (flushing) {
        void *p[12];
        for (unsigned i = 0; i < COUNT(p); i++)
            p[i] = hide(malloc(66000 + random_next(&seed) % 200000));
        for (unsigned i = 0; i < COUNT(p); i++)
            free(p[i]);
        malloc_trim(0);
    }
    return NULL;
}

static int while_threads_flush(void)
{
    pthread_t thread[4];

    flushing = true;
    for (unsigned i = 0; i < COUNT(thread); i++)
        pthread_create(&thread[i], NULL, flush_for_ever, (void *)(uintptr_t)i);
    for (unsigned round = 0; round < 150; round++) {
        pid_t child = fork();
        if (child == 0) {
            unsigned char *block[300];
            for (unsigned i = 0; i < COUNT(block); i++)
                block[i] = filled(1000 + i * 700, (int)i & 0xff);
            for (unsigned i = 0; i < COUNT(block); i++) {
                for (unsigned k = 0; k < 1000 + i * 700 && k < 4096; k++)
                    if (block[i][k] != (i & 0xff))
                        _exit(3);
                free(block[i]);
            }
            _exit(0);
        }
        CHECK_EQ(0, wait_for(child));
    }
    flushing = false;
    for (unsigned i = 0; i < COUNT(thread); i++)
        pthread_join(thread[i], NULL);
    return PASS;
}

static const struct test_case cases[] = {
    {"fork alone", alone, 20},
    {"fork with 4 threads allocating, 400 times", with_four_threads, 40},
    {"fork from 4 threads at once", from_four_threads, 40},
    {"fork while threads come and go", while_threads_come_and_go, 40},
    {"fork while threads flush", while_threads_flush, 60},
    {"fork while threads use stdio", with_stdio, 40},
    {"fork while threads use memory streams", with_memory_streams, 40},
    {"fork with handlers that allocate", with_handlers_that_allocate, 40},
    {"fork, twenty generations", twenty_generations, 20},
    {"fork, the child leaves by exit", child_leaves_by_exit, 20},
    {"fork in a signal handler", in_signal_handler, 30},
    {"fork in a signal handler that returns in the child", in_signal_handler_and_return, 30},
    {"vfork", with_vfork, 0},
    {"_Fork", with_underscore_fork, 20},
    {"_Fork and exec with threads", with_underscore_fork_and_threads, 20},
    {"system and popen with threads", with_system_and_popen, 20},
    {"parent and child are apart", parent_and_child_are_apart, 0},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, COUNT(cases));
}
