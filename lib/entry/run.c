// SPDX-License-Identifier: MIT
/*
 * run: the library's half of hakmem-run(1). HAKMEM_RUN (struct hk_config_run) asks the constructor to
 *
 *   - say that it is there: one datagram, the digit `hops`, to the abstract socket; nobody may be listening
 *   - count down `hops` and leave the rest alone while it is not 0: this program is env(1), which will exec
 *     the one that is meant
 *   - take its own entry out of LD_PRELOAD, and HAKMEM_RUN out of the environment, so that the program's
 *     children start without us; an empty `path` says that they shall inherit both
 *
 * In place, without allocating: only strings where the kernel put them are written to.
 */
#include "entry/entry_private.h"

#include "config/config.h"
#include "os/os.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

extern char **environ;

static pid_t started_as; /* 0: not by hakmem-run; written once, by the constructor */

static void tell(const struct hk_config_run *run)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strcspn(run->socket, ";");
    int fd;

    if (length == 0 || length >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path + 1, run->socket, length);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, run->hops, 1, MSG_NOSIGNAL, (const struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
    close(fd);
}

/* The kernel's layout: random bytes, argv, environment, name of the program. An earlier constructor may have
 * put other strings, constants even, into environ. */
static bool is_initial(const char *s)
{
    return (uintptr_t)s > getauxval(AT_RANDOM) && (uintptr_t)s < getauxval(AT_EXECFN);
}

static void drop_variable(char **entry)
{
    do
        entry[0] = entry[1];
    while (*entry++);
}

/* "a:ours:b" becomes "a:b". ld.so takes blanks for colons. */
static bool drop_item(char *value, const char *ours)
{
    size_t length = strlen(ours), item;

    for (char *p = value;; p += item + 1) {
        item = strcspn(p, ": ");
        if (item == length && memcmp(p, ours, length) == 0) {
            if (p[item])
                memmove(p, p + item + 1, strlen(p + item + 1) + 1);
            else
                p[p > value ? -1 : 0] = 0;
            return true;
        }
        if (!p[item])
            return false;
    }
}

static void leave_environment(const struct hk_config_run *run)
{
    static const char preload[] = "LD_PRELOAD=", own[] = "HAKMEM_RUN=";

    for (char **entry = environ; *entry;) {
        char *value = *entry + sizeof preload - 1;
        bool dropped = strncmp(*entry, own, sizeof own - 1) == 0;
        if (strncmp(*entry, preload, sizeof preload - 1) == 0 && is_initial(*entry))
            dropped = drop_item(value, run->path) && !*value;
        if (dropped)
            drop_variable(entry);
        else
            entry++;
    }
}

void hk_entry_obey_run(void)
{
    struct hk_config_run run;
    int saved = errno;

    if (hk_os_is_secure() || !hk_config_find_run(environ, &run))
        return;
    tell(&run);
    if (*run.hops > '0') {
        if (is_initial(run.hops))
            --*run.hops;
    } else {
        started_as = getpid();
        if (*run.path)
            leave_environment(&run);
    }
    errno = saved;
}

bool hk_entry_is_child_of_run(void)
{
    return started_as && started_as != getpid();
}
