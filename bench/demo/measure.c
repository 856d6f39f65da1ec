// SPDX-License-Identifier: MIT
/*
 * measure: runs a program under a preloaded allocator and says what it took.
 *
 *     measure REPORT LIBRARY COMMAND [ARGUMENT...]
 *
 * writes "wall-seconds peak-RSS-KiB minor-faults" of the command and the children it waited for to the
 * file REPORT, and returns its status. It is a small C program because the kernel starts a process's
 * peak RSS at that of the process that forked it: a script would put a floor of its own under it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct rusage used;
    int status;

    if (argc < 4) {
        fprintf(stderr, "usage: measure REPORT LIBRARY COMMAND [ARGUMENT...]\n");
        return 2;
    }
    double start = now();
    pid_t pid = fork();
    if (pid == 0) {
        setenv("LD_PRELOAD", argv[2], 1);
        execvp(argv[3], argv + 3);
        perror(argv[3]);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &used) != pid) {
        perror("measure");
        return 1;
    }
    double seconds = now() - start;
    FILE *report = fopen(argv[1], "w");
    if (!report || fprintf(report, "%.6f %ld %ld\n", seconds, used.ru_maxrss, used.ru_minflt) < 0 ||
        fclose(report) != 0) {
        perror(argv[1]);
        return 1;
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
