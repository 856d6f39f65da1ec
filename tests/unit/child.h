// SPDX-License-Identifier: MIT
/* child: runs a function in a forked child and brings back its stderr and how it ended. */
#ifndef TESTS_UNIT_CHILD_H
#define TESTS_UNIT_CHILD_H

#ifdef __has_feature
#define HK_HAS_FEATURE(x) __has_feature(x)
#else
#define HK_HAS_FEATURE(x) 0
#endif
/* The thread sanitizer takes no part in children of processes with threads, and brings a malloc. */
#if defined(__SANITIZE_THREAD__) || HK_HAS_FEATURE(thread_sanitizer)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
    int status; /* of waitpid */
    char text[8192];
};

static inline struct child run_child(void (*function)(void))
{
    static const struct rlimit no_core = {0, 0};
    struct child child = {.status = -1};
    size_t used = 0;
    ssize_t n;
    int ends[2];

    if (pipe(ends) != 0)
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        function();
        _exit(0);
    }
    close(ends[1]);
    while (used < sizeof child.text - 1 &&
           (n = read(ends[0], child.text + used, sizeof child.text - 1 - used)) > 0)
        used += (size_t)n;
    close(ends[0]);
    waitpid(pid, &child.status, 0);
    return child;
}

static inline bool child_aborted(const struct child *child)
{
    return WIFSIGNALED(child->status) && WTERMSIG(child->status) == SIGABRT;
}

static inline bool child_exited_0(const struct child *child)
{
    return WIFEXITED(child->status) && WEXITSTATUS(child->status) == 0;
}

#endif
