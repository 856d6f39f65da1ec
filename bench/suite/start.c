// SPDX-License-Identifier: MIT
/* start: what loading the allocator costs a program that hardly allocates. An operation is a process. */
#define _GNU_SOURCE
#include "suite.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static uint64_t start_up(const struct workload *w)
{
    uint64_t nr_steps = suite_scaled(w->nr_steps);
    char *argv[] = {(char *)"true", NULL};
    const char *path = access("/usr/bin/true", X_OK) == 0 ? "/usr/bin/true" : "/bin/true";

    for (uint64_t s = 0; s < nr_steps; s++) {
        pid_t child;
        int status;
        if (posix_spawn(&child, path, NULL, NULL, argv, environ) != 0 ||
            waitpid(child, &status, 0) != child || status != 0)
            suite_fail("cannot run true", 2);
    }
    return nr_steps;
}

const struct workload suite_start[] = {
    {"startup-true", "300 times `true`: fork, exec and exit", start_up, 1, 0, 0, 0, 300, 0},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};
