// SPDX-License-Identifier: MIT
#include "run.h"

#include "problem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The one beside this program comes first: a build tree, or another prefix. */
static void beside_us(char *path, size_t bytes)
{
    static const char name[] = "hakmem-run";
    ssize_t n = readlink("/proc/self/exe", path, bytes - 1);
    char *slash;

    path[n > 0 ? n : 0] = '\0';
    slash = strrchr(path, '/');
    if (slash && (size_t)(slash + 1 - path) + sizeof name <= bytes)
        memcpy(slash + 1, name, sizeof name);
    else
        path[0] = '\0';
}

int run_command(int argc, char **argv)
{
    char path[4096], **list = calloc((size_t)argc + 3, sizeof *list);

    if (argc == 0) {
        fputs("hakmem-stats: run: no command (hakmem-stats run [options] -- command)\n", stderr);
        free(list);
        return EXIT_USAGE;
    }
    if (!list)
        return 127;
    list[0] = (char *)"hakmem-run";
    list[1] = (char *)"--report";
    memcpy(list + 2, argv, (size_t)argc * sizeof *argv);
    beside_us(path, sizeof path);
    if (path[0])
        execv(path, list);
    execvp(list[0], list);
    fprintf(stderr, "hakmem-stats: run: hakmem-run: %s\n", strerror(errno));
    free(list);
    return 127;
}
