// SPDX-License-Identifier: MIT
//
// Shrinking: a failing stream of one thread is recorded by a forked child, then parts of it are
// left out as long as it still fails in the same way (delta debugging). The parent never allocates,
// so that every child starts from the same heap, as small as a process has it.
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRY_SECONDS 30

static time_t deadline;

static time_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static int wait_for(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

static void be_quiet(void)
{
    int null = open("/dev/null", O_WRONLY);

    dup2(null, STDERR_FILENO);
    dup2(null, STDOUT_FILENO);
}

static void record_stream(void)
{
    static struct worker w;

    worker_init(&w, 0, opt.ops);
    set_reporting(&w);
    while (w.n < w.limit) {
        struct op *op = &verdict->trace[verdict->recorded++];
        next_op(&w, op);
        play(&w, op);
    }
    drain(&w);
    _exit(0);
}

static void replay(const struct op *ops, size_t count)
{
    static struct worker w;

    be_quiet();
    worker_init(&w, 0, count);
    set_reporting(&w);
    for (size_t i = 0; i < count; i++) {
        w.n = ops[i].n;
        play(&w, &ops[i]);
    }
    drain(&w);
    _exit(0);
}

// Does this part of the stream fail as the whole did?
static bool still_fails(const struct op *ops, size_t count, const char *what)
{
    memset(verdict->what, 0, sizeof verdict->what);
    pid_t child = fork();
    if (child == 0) {
        alarm(TRY_SECONDS);
        replay(ops, count);
    }
    wait_for(child);
    return strcmp(verdict->what, what) == 0;
}

// Leaves out ops[from..to) and says whether the rest still fails; on success the list is shorter.
static bool try_without(struct op *ops, struct op *spare, size_t *count, size_t from, size_t to,
                        const char *what)
{
    memcpy(spare, ops, from * sizeof *ops);
    memcpy(spare + from, ops + to, (*count - to) * sizeof *ops);
    size_t rest = *count - (to - from);
    if (!still_fails(spare, rest, what))
        return false;
    memcpy(ops, spare, rest * sizeof *ops);
    *count = rest;
    return true;
}

static void delta_debug(struct op *ops, struct op *spare, size_t *count, const char *what)
{
    size_t chunk = *count / 2;

    while (chunk > 0 && now() < deadline) {
        bool shorter = false;
        // From the front: what came early is most often unneeded, and the end is the failure
        // itself.
        for (size_t from = 0; from < *count && now() < deadline;) {
            size_t to = from + chunk < *count ? from + chunk : *count;
            if (to - from < *count && try_without(ops, spare, count, from, to, what))
                shorter = true;
            else
                from = to;
        }
        if (chunk == 1 && !shorter)
            return;
        if (chunk > 1)
            chunk /= 2;
    }
}

int shrink_run(void)
{
    char what[sizeof verdict->what], text[160];

    verdict = map_memory(sizeof *verdict + (opt.ops + 1) * sizeof(struct op), true);
    pid_t child = fork();
    if (child == 0)
        record_stream();
    if (wait_for(child) == 0) {
        say("model: seed %" PRIu64 ": nothing fails, nothing to shrink\n", opt.seed);
        return 0;
    }
    memcpy(what, verdict->what, sizeof what);
    size_t count = verdict->recorded;
    struct op *ops = map_memory(2 * count * sizeof *ops, false);
    memcpy(ops, verdict->trace, count * sizeof *ops);
    deadline = now() + opt.shrink_seconds;
    if (!still_fails(ops, count, what)) {
        say("model: the recorded stream of %zu operations does not fail again\n", count);
        return 1;
    }
    delta_debug(ops, ops + count, &count, what);
    say("model: seed %" PRIu64 ": %" PRIu64 " operations shrunk to %zu that still fail (%s):\n",
        opt.seed, verdict->recorded, count, what);
    for (size_t i = 0; i < count && i < 200; i++) {
        describe_op(text, sizeof text, &ops[i]);
        say("model:   %s\n", text);
    }
    return 1;
}
