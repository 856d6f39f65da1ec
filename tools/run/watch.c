// SPDX-License-Identifier: MIT
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "watch.h"

#include "program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 10000 /* from the exec to the library's constructor, on a machine that is busy */
#define POLL_MS 20        /* where the kernel has no pidfd */

bool watch_open(struct watch *watch)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int on = 1;

    watch->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (watch->fd < 0)
        return false;
    /* With the family alone the kernel chooses an abstract name, five hexadecimal digits. */
    if (setsockopt(watch->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
        bind(watch->fd, (struct sockaddr *)&address, sizeof address.sun_family) != 0 ||
        getsockname(watch->fd, (struct sockaddr *)&address, &length) != 0 ||
        length - offsetof(struct sockaddr_un, sun_path) - 1 >= sizeof watch->name) {
        close(watch->fd);
        watch->fd = -1;
        return false;
    }
    length -= (socklen_t)offsetof(struct sockaddr_un, sun_path) + 1;
    memcpy(watch->name, address.sun_path + 1, length);
    watch->name[length] = 0;
    return true;
}

/* ---- the watching process ------------------------------------------------------------------ */

/* One byte that `pid` itself sent, or 0: nothing is waiting. */
static char receive(int fd, pid_t pid)
{
    for (;;) {
        char byte = 0, control[CMSG_SPACE(sizeof(struct ucred))];
        struct iovec part = {&byte, 1};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct ucred who = {0, 0, 0};
        if (recvmsg(fd, &message, 0) < 0)
            return 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
                memcpy(&who, CMSG_DATA(c), sizeof who);
        if (who.pid == pid)
            return byte;
    }
}

enum verdict { WAITING, LOADED, CANCELLED };

/* "1": in env, which has yet to exec; "0": in the program. `seen` keeps the former. */
static enum verdict read_all(int fd, pid_t pid, bool *seen)
{
    char byte;

    while ((byte = receive(fd, pid))) {
        if (byte == 'x')
            return CANCELLED;
        if (byte == '0')
            return LOADED;
        *seen = true;
    }
    return WAITING;
}

static int open_process(pid_t pid)
{
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    return -1;
#endif
}

static long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until the library has spoken, the process has ended or patience has. */
static enum verdict listen_to(int fd, pid_t pid, bool *seen, bool *ended)
{
    long end = now_ms() + PATIENCE_MS, left;
    int process = open_process(pid);
    struct pollfd polled[2] = {{fd, POLLIN, 0}, {process, POLLIN, 0}};
    enum verdict verdict = WAITING;

    *ended = false;
    while (verdict == WAITING && !*ended && (left = end - now_ms()) > 0) {
        (void)poll(polled, process < 0 ? 1 : 2, process < 0 ? POLL_MS : (int)left);
        *ended = process < 0 ? kill(pid, 0) != 0 : polled[1].revents != 0;
        verdict = read_all(fd, pid, seen); /* after the look at the process: it may have spoken last */
    }
    return verdict;
}

/* It may be there although its word did not get through: sockets forbidden, or a machine at its limit. */
static bool is_mapped(pid_t pid)
{
    char path[32], line[PATH_MAX + 128];
    bool found = false;
    FILE *maps;

    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    maps = fopen(path, "re");
    if (!maps)
        return true; /* not ours to look at: nothing is claimed */
    while (!found && fgets(line, sizeof line, maps))
        found = strstr(line, "/libhakmem.so") != NULL;
    fclose(maps);
    return found;
}

static void close_all_but(int fd)
{
    int last = 65536; /* more only where the kernel has close_range as well */

#ifdef SYS_close_range
    if (syscall(SYS_close_range, 3, fd - 1, 0) == 0 && syscall(SYS_close_range, fd + 1, ~0U, 0) == 0)
        last = 0;
#endif
    for (int i = 3; i < last; i++)
        if (i != fd)
            close(i);
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
}

static void watch_process(int fd, pid_t pid, const char *program, const char *library, bool verbose)
{
    bool seen = false, ended = false;
    enum verdict verdict = listen_to(fd, pid, &seen, &ended);

    if (verdict == LOADED && verbose)
        say("%s (%d): %s is loaded", program, (int)pid, library);
    if (verdict != WAITING)
        return;
    /* env that ended without its command has said why. */
    if (ended ? !seen : !is_mapped(pid))
        say("%s (%d): %s was not loaded; the program runs on its own malloc", program, (int)pid, library);
}

void watch_start(struct watch *watch, const char *program, const char *library, bool verbose)
{
    pid_t self = getpid(), child;

    if (watch->fd < 0)
        return;
    child = fork();
    if (child == 0) {
        if (fork() != 0)
            _exit(0); /* the one in between: the program shall have no child that it did not make */
        setsid();
        close_all_but(watch->fd);
        if (chdir("/") == 0)
            watch_process(watch->fd, self, program, library, verbose);
        _exit(0);
    }
    if (child < 0)
        say("warning: no process to watch (%s): it will not be noticed if the library is not loaded",
            strerror(errno));
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}

void watch_cancel(const struct watch *watch)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(watch->name);

    if (watch->fd < 0)
        return;
    memcpy(address.sun_path + 1, watch->name, length);
    (void)sendto(watch->fd, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
}
