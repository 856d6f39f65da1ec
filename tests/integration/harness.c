// SPDX-License-Identifier: MIT
#include "harness.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT_S 10

void harness_preload(char **argv)
{
    const char *library = getenv("HK_LIB");

    if (library == NULL || *library == '\0')
        return;
    if (getenv("HK_PRELOADED") == NULL) {
        setenv("LD_PRELOAD", library, 1);
        setenv("HK_PRELOADED", "1", 1);
        execv("/proc/self/exe", argv);
        printf("Bail out! cannot start again under %s\n", library);
        exit(99);
    }
    // A preloaded library that does not interpose would let every test pass on libc.
    Dl_info info;
    char *wanted = realpath(library, NULL);
    char *actual =
        dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) ? realpath(info.dli_fname, NULL) : NULL;
    if (wanted == NULL || actual == NULL || strcmp(wanted, actual) != 0) {
        printf("Bail out! malloc comes from %s, not from %s\n", actual ? actual : "?", library);
        exit(99);
    }
    free(wanted);
    free(actual);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Reads what is there; closes the descriptor and sets it to -1 at the end of the stream.
static void drain_pipe(int *fd, char *buffer, size_t room, size_t *used)
{
    char rest[4096];
    size_t left = room - 1 - *used;
    ssize_t got = read(*fd, left != 0 ? buffer + *used : rest, left != 0 ? left : sizeof rest);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        close(*fd);
        *fd = -1;
        return;
    }
    if (left != 0)
        *used += (size_t)got;
    buffer[*used] = '\0';
}

static void drain_both(struct run *run, int fds[2], int wait_ms)
{
    struct pollfd p[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};

    if (poll(p, 2, wait_ms) <= 0)
        return;
    if (p[0].revents != 0)
        drain_pipe(&fds[0], run->out, sizeof run->out, &run->out_size);
    if (p[1].revents != 0)
        drain_pipe(&fds[1], run->err, sizeof run->err, &run->err_size);
}

// On a slow machine: so many times as long.
static double patience(void)
{
    const char *text = getenv("HK_TEST_PATIENCE");
    int times = text != NULL ? atoi(text) : 1;

    return times > 1 ? times : 1;
}

static void supervise(struct run *run, pid_t child, int fds[2])
{
    double deadline =
        now() + (run->timeout_s != 0 ? run->timeout_s : DEFAULT_TIMEOUT_S) * patience();
    bool ended = false;

    while (!ended) {
        // Once both pipes are closed there is nothing to poll: then this only sleeps.
        drain_both(run, fds, fds[0] < 0 && fds[1] < 0 ? 1 : 20);
        ended = waitpid(child, &run->status, WNOHANG) == child;
        if (!ended && now() > deadline) {
            run->timed_out = true;
            kill(-child, SIGKILL);
            waitpid(child, &run->status, 0);
            ended = true;
        }
    }
    // What it had written before its end; a grandchild may hold the pipe open, so no wait for the
    // end of the stream.
    for (int i = 0; i < 8 && (fds[0] >= 0 || fds[1] >= 0); i++)
        drain_both(run, fds, 0);
    kill(-child, SIGKILL);
}

void run_program(struct run *run)
{
    int out[2], err[2];

    run->out_size = run->err_size = 0;
    run->out[0] = run->err[0] = '\0';
    run->timed_out = false;
    fflush(stdout);
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
        abort();
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        setpgid(0, 0);
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        execv("/proc/self/exe", (char *const *)(uintptr_t)run->argv);
        _exit(126);
    }
    setpgid(child, child);
    close(out[1]);
    close(err[1]);
    int fds[2] = {out[0], err[0]};
    supervise(run, child, fds);
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void print_comment(const char *text)
{
    bool start = true;

    for (; *text != '\0'; text++) {
        if (start && *text != '#')
            fputs("# ", stdout);
        putchar(*text);
        start = *text == '\n';
    }
    if (!start)
        putchar('\n');
}

static bool run_case(const struct test_case *c, unsigned number, char *program)
{
    static struct run run;
    const char *argv[] = {program, c->name, NULL};
    double start = now();

    run = (struct run){.argv = argv, .timeout_s = c->timeout_s};
    run_program(&run);
    bool exited = WIFEXITED(run.status) && !run.timed_out;
    if (exited && WEXITSTATUS(run.status) == SKIP) {
        char *why = strstr(run.out, "# SKIP ");
        if (why != NULL)
            why[strcspn(why, "\n")] = '\0';
        printf("ok %u - %s %s\n", number, c->name, why != NULL ? why : "# SKIP");
        return true;
    }
    bool good = exited && WEXITSTATUS(run.status) == PASS;
    print_comment(run.out);
    if (run.err_size != 0)
        print_comment(run.err);
    if (run.timed_out)
        printf("# no end within %u s\n", c->timeout_s != 0 ? c->timeout_s : DEFAULT_TIMEOUT_S);
    else if (!exited)
        printf("# ended by signal %d\n", WTERMSIG(run.status));
    printf("%sok %u - %s\n", good ? "" : "not ", number, c->name);
    if (now() - start > 2)
        printf("# took %.1f s\n", now() - start);
    return good;
}

int skip(const char *why)
{
    printf("# SKIP %s\n", why);
    return SKIP;
}

int harness_main(int argc, char **argv, const struct test_case *cases, size_t count)
{
    bool good = true;
    struct rlimit no_core = {0, 0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    harness_preload(argv);
    setrlimit(RLIMIT_CORE, &no_core);
    if (argc > 1) {
        for (size_t i = 0; i < count; i++)
            if (strcmp(argv[1], cases[i].name) == 0) {
                int result = cases[i].run();
                fflush(stdout);
                return result;
            }
        printf("# no such case: %s\n", argv[1]);
        return 2;
    }
    printf("1..%zu\n", count);
    for (size_t i = 0; i < count; i++)
        good &= run_case(&cases[i], (unsigned)i + 1, argv[0]);
    return good ? PASS : FAIL;
}

size_t proc_bytes(const char *file, const char *field)
{
    char text[8192];
    size_t used = 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    for (ssize_t got; (got = read(fd, text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got;
    close(fd);
    text[used] = '\0';
    const char *at = strstr(text, field);
    return at != NULL ? (size_t)strtoull(at + strlen(field) + 1, NULL, 10) * 1024 : 0;
}

size_t resident_bytes(void)
{
    return proc_bytes("/proc/self/status", "VmRSS");
}

uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
