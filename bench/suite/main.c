// SPDX-License-Identifier: MIT
/*
 * main: the list of workloads, options, and what is printed at the end.
 *
 * Times and faults are those of the body; peak RSS is of the whole process (VmHWM), since an allocator's
 * start-up is part of it. Numbers are read before anything is printed: stdio allocates.
 */
#define _GNU_SOURCE
#include "suite.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MAX_REPORTS 16

static const struct {
    const char *name;
    const struct workload *list;
} families[] = {
    {"single", suite_single}, {"churn", suite_churn},   {"memory", suite_memory},
    {"realloc", suite_grow},  {"larson", suite_larson}, {"threads", suite_threads},
    {"start", suite_start},   {"scale", suite_scale},
};

struct suite_settings suite_settings = {.seed = 1, .scale = 1000};

static struct {
    uint64_t wall_ns, cpu_ns;     /* of finished stretches */
    uint64_t wall_from, cpu_from; /* of the running one */
    bool running;
} stopwatch;

static struct {
    const char *name;
    uint64_t value;
} reports[MAX_REPORTS];
static unsigned nr_reports;

void suite_fail(const char *what, int status)
{
    (void)!write(STDERR_FILENO, "suite: ", 7);
    (void)!write(STDERR_FILENO, what, strlen(what));
    (void)!write(STDERR_FILENO, "\n", 1);
    _exit(status);
}

uint64_t suite_scaled(uint64_t nr_steps)
{
    uint64_t n = nr_steps * suite_settings.scale / 1000;
    return n ? n : 1;
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t suite_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t suite_cpu_ns(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void suite_sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * NS_PER_MS)};
    while (nanosleep(&t, &t) != 0)
        continue;
}

void suite_pause(void)
{
    if (!stopwatch.running)
        return;
    stopwatch.wall_ns += suite_now_ns() - stopwatch.wall_from;
    stopwatch.cpu_ns += suite_cpu_ns() - stopwatch.cpu_from;
    stopwatch.running = false;
}

void suite_resume(void)
{
    stopwatch.running = true;
    stopwatch.cpu_from = suite_cpu_ns();
    stopwatch.wall_from = suite_now_ns();
}

void suite_add_time(uint64_t wall_ns, uint64_t cpu_ns)
{
    stopwatch.wall_ns += wall_ns;
    stopwatch.cpu_ns += cpu_ns;
}

void suite_report(const char *name, uint64_t value)
{
    if (nr_reports == MAX_REPORTS)
        suite_fail("too many reports", 1);
    reports[nr_reports].name = name;
    reports[nr_reports++].value = value;
}

uint64_t suite_proc_number(const char *path, const char *key)
{
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

uint64_t suite_resident_kib(void)
{
    return suite_proc_number("/proc/self/status", "VmRSS:");
}

void *suite_area(size_t bytes)
{
    void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        suite_fail("no memory for the workload's own tables", 2);
    return area;
}

void suite_drop_area(void *area, size_t bytes)
{
    munmap(area, bytes);
}

struct suite_random suite_seeded(uint64_t stream)
{
    struct suite_random r = {suite_settings.seed * 0x9e3779b97f4a7c15ull +
                             stream * 0xd1b54a32d192ed03ull + 0x1234567};
    if (r.state == 0)
        r.state = 1;
    for (int i = 0; i < 8; i++)
        suite_next(&r);
    return r;
}

/* ---- threads */

static pthread_barrier_t together;
static suite_thread_body *common_body;

static void *thread_main(void *argument)
{
    pthread_barrier_wait(&together);
    common_body(argument);
    suite_latency_merge();
    return NULL;
}

uint64_t suite_in_threads(const struct workload *w, unsigned nr, suite_thread_body *body,
                          void *data)
{
    static struct suite_thread self[MAX_THREADS];
    pthread_t thread[MAX_THREADS];
    uint64_t nr_ops = 0;

    if (nr > MAX_THREADS)
        suite_fail("too many threads", 1);
    common_body = body;
    pthread_barrier_init(&together, NULL, nr);
    for (unsigned i = 0; i < nr; i++) {
        self[i] = (struct suite_thread){w, i, suite_seeded(i + 1), 0, data};
        if (pthread_create(&thread[i], NULL, thread_main, &self[i]) != 0)
            suite_fail("cannot start a thread", 2);
    }
    for (unsigned i = 0; i < nr; i++) {
        pthread_join(thread[i], NULL);
        nr_ops += self[i].nr_ops;
    }
    pthread_barrier_destroy(&together);
    return nr_ops;
}

/* ---- the program */

static void list(void)
{
    for (size_t f = 0; f < COUNT(families); f++)
        for (const struct workload *w = families[f].list; w->name; w++)
            printf("%s\t%s\t%u\t%s\n", w->name, families[f].name, w->nr_threads, w->what);
}

static const struct workload *find(const char *name)
{
    for (size_t f = 0; f < COUNT(families); f++)
        for (const struct workload *w = families[f].list; w->name; w++)
            if (strcmp(w->name, name) == 0)
                return w;
    return NULL;
}

/* Before anything is measured: this kind of machine may give idle pages back to its host. */
static int warm(uint64_t bytes)
{
    char *area = suite_area(bytes);
    suite_touch(area, bytes);
    suite_drop_area(area, bytes);
    return 0;
}

static void run(const struct workload *w)
{
    struct rusage before, after;

    getrusage(RUSAGE_SELF, &before);
    suite_resume();
    uint64_t nr_ops = w->body(w);
    suite_pause();
    getrusage(RUSAGE_SELF, &after);
    suite_report("ops", nr_ops);
    suite_report("wall_ns", stopwatch.wall_ns);
    suite_report("cpu_ns", stopwatch.cpu_ns);
    suite_report("peak_kib", suite_proc_number("/proc/self/status", "VmHWM:"));
    suite_report("soft_faults", (uint64_t)after.ru_minflt);
    suite_report("hard_faults", (uint64_t)after.ru_majflt);
    if (SUITE_LATENCY)
        suite_latency_report();
    for (unsigned i = 0; i < nr_reports; i++)
        printf("%s %" PRIu64 "\n", reports[i].name, reports[i].value);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    if (end == text || *end)
        suite_fail("not a number", 1);
    return n;
}

static int run_named(int argc, char **argv)
{
    const struct workload *found = find(argv[1]);

    if (found == NULL)
        suite_fail("no such workload; `suite list` names them", 1);
    struct workload w = *found;
    for (int i = 2; i < argc; i += 2) {
        if (i + 1 == argc)
            suite_fail("an option without its value", 1);
        if (strcmp(argv[i], "--seed") == 0)
            suite_settings.seed = number(argv[i + 1]);
        else if (strcmp(argv[i], "--scale") == 0)
            suite_settings.scale = number(argv[i + 1]);
        else if (strcmp(argv[i], "--param") == 0)
            w.param = number(argv[i + 1]);
        else
            suite_fail("unknown option", 1);
    }
    run(&w);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        suite_fail("usage: suite list | warm BYTES | launch ... | larson ... | http ... | "
                   "WORKLOAD [--seed N] [--scale THOUSANDTHS] [--param N]",
                   1);
    if (strcmp(argv[1], "list") == 0)
        return list(), 0;
    if (strcmp(argv[1], "warm") == 0 && argc == 3)
        return warm(number(argv[2]));
    if (strcmp(argv[1], "launch") == 0)
        return suite_launch(argc - 1, argv + 1);
    if (strcmp(argv[1], "larson") == 0)
        return suite_larson_main(argc - 1, argv + 1);
    if (strcmp(argv[1], "http") == 0)
        return suite_http(argc - 1, argv + 1);
    return run_named(argc, argv);
}
