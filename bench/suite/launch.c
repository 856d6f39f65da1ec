// SPDX-License-Identifier: MIT
/*
 * launch: runs a program and says what it took.
 *
 *   suite launch [-t SECONDS] [-i MILLISECONDS] [-e NAME=VALUE]... [-o STDOUT] [-s SERIES] REPORT COMMAND...
 *
 * REPORT gets "key value" lines. Resident memory is read from /proc/PID/statm by this process, every few
 * milliseconds, so that the one that is measured is not disturbed; SERIES gets the samples. Peak RSS is the
 * kernel's. That this is a small program of its own matters: a child inherits the peak of who forked it.
 * -e is for the child alone: this process never runs under the allocator. After SECONDS the child's whole
 * process group is killed. SIGTERM is passed on, so that a server can be stopped.
 */
#define _GNU_SOURCE
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ENVIRONMENT 32

struct launch {
    unsigned timeout_s, interval_ms;
    char *environment[MAX_ENVIRONMENT];
    unsigned nr_environment;
    const char *out, *series, *report;
    char **command;
};

struct samples {
    uint64_t sum_kib;
    unsigned long nr;
};

static volatile sig_atomic_t child_to_stop;

static void pass_on(int signal)
{
    if (child_to_stop)
        kill(child_to_stop, signal);
}

static void on_child(int signal)
{
    (void)signal; /* only to end a sleep */
}

static struct launch launch_options(int argc, char **argv)
{
    struct launch l = {.timeout_s = 60, .interval_ms = 5};
    int c;

    while ((c = getopt(argc, argv, "+t:i:e:o:s:")) != -1) {
        switch (c) {
        case 't':
            l.timeout_s = (unsigned)atoi(optarg);
            break;
        case 'i':
            l.interval_ms = (unsigned)atoi(optarg);
            break;
        case 'e':
            if (l.nr_environment == MAX_ENVIRONMENT)
                suite_fail("launch: too many -e", 1);
            l.environment[l.nr_environment++] = optarg;
            break;
        case 'o':
            l.out = optarg;
            break;
        case 's':
            l.series = optarg;
            break;
        default:
            suite_fail("launch: unknown option", 1);
        }
    }
    if (optind + 2 > argc)
        suite_fail("launch: REPORT and COMMAND are missing", 1);
    l.report = argv[optind];
    l.command = argv + optind + 1;
    return l;
}

static void become(const struct launch *l)
{
    sigset_t none;

    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (l->out) {
        int fd = open(l->out, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
            suite_fail("launch: cannot write the output", 127);
    }
    for (unsigned i = 0; i < l->nr_environment; i++)
        putenv(l->environment[i]);
    execvp(l->command[0], l->command);
    suite_fail(strerror(errno), 127);
}

static uint64_t statm_kib(const char *path)
{
    char text[128];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *resident = strchr(text, ' ');
    return resident ? strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) / KIB : 0;
}

/* Samples until the child has ended or its time is over; true: it ended by itself. */
static bool watch(const struct launch *l, pid_t child, uint64_t start, struct samples *samples)
{
    FILE *series = l->series ? fopen(l->series, "w") : NULL;
    siginfo_t info = {.si_pid = 0};
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/statm", (int)child);
    while (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && !info.si_pid) {
        uint64_t now = suite_now_ns(), kib = statm_kib(path);
        if (now - start > l->timeout_s * NS_PER_S)
            break;
        if (kib) {
            samples->sum_kib += kib;
            samples->nr++;
        }
        if (series && kib)
            fprintf(series, "%.4f %" PRIu64 "\n", (double)(now - start) / 1e9, kib);
        /* SIGCHLD is blocked but here, so that an end between the test and the sleep is not missed. */
        sigset_t chld;
        sigemptyset(&chld);
        sigaddset(&chld, SIGCHLD);
        struct timespec t = {0, (long)(l->interval_ms * NS_PER_MS)};
        sigtimedwait(&chld, NULL, &t);
    }
    if (series)
        fclose(series);
    return info.si_pid != 0;
}

static uint64_t ns_of(struct timeval t)
{
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_usec * 1000;
}

static void write_report(const struct launch *l, uint64_t wall_ns, const struct rusage *u,
                         const struct samples *samples, int status, bool in_time)
{
    FILE *f = fopen(l->report, "w");

    if (f == NULL)
        suite_fail("launch: cannot write the report", 1);
    fprintf(f, "wall_ns %" PRIu64 "\ncpu_ns %" PRIu64 "\n", wall_ns,
            ns_of(u->ru_utime) + ns_of(u->ru_stime));
    fprintf(f, "peak_kib %ld\nmean_kib %" PRIu64 "\nsamples %lu\n", u->ru_maxrss,
            samples->nr ? samples->sum_kib / samples->nr : 0, samples->nr);
    fprintf(f, "soft_faults %ld\nhard_faults %ld\n", u->ru_minflt, u->ru_majflt);
    fprintf(f, "exit %d\nsignal %d\ntimeout %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 0,
            WIFSIGNALED(status) ? WTERMSIG(status) : 0, !in_time);
    fclose(f);
}

static void prepare_signals(void)
{
    struct sigaction stop = {.sa_handler = pass_on}, child = {.sa_handler = on_child};
    sigset_t chld;

    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGCHLD, &child, NULL);
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
}

int suite_launch(int argc, char **argv)
{
    struct launch l = launch_options(argc, argv);
    struct samples samples = {0, 0};
    struct rusage usage;
    int status = 0;

    prepare_signals();
    uint64_t start = suite_now_ns();
    pid_t child = fork();
    if (child == 0)
        become(&l);
    if (child < 0)
        suite_fail("launch: cannot fork", 1);
    child_to_stop = child;
    bool in_time = watch(&l, child, start, &samples);
    child_to_stop = 0;
    /* What it left behind in its group goes as well, so that nothing disturbs the next run. */
    kill(-child, SIGKILL);
    wait4(child, &status, 0, &usage);
    write_report(&l, suite_now_ns() - start, &usage, &samples, status, in_time);
    return 0;
}
