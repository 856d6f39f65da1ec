// SPDX-License-Identifier: MIT
//
// Text for people, written with write(2) from the stack: stdio would allocate.
#include "model.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct verdict *verdict;

static _Thread_local struct worker *reporting;

static const char *const op_name[OP_KINDS] = {
    [OP_MALLOC] = "malloc",
    [OP_CALLOC] = "calloc",
    [OP_REALLOC_NULL] = "realloc(NULL)",
    [OP_REALLOCARRAY_NULL] = "reallocarray(NULL)",
    [OP_POSIX_MEMALIGN] = "posix_memalign",
    [OP_ALIGNED_ALLOC] = "aligned_alloc",
    [OP_MEMALIGN] = "memalign",
    [OP_VALLOC] = "valloc",
    [OP_PVALLOC] = "pvalloc",
    [OP_NEW] = "operator new",
    [OP_NEW_ARRAY] = "operator new[]",
    [OP_NEW_ALIGNED] = "operator new(align)",
    [OP_FREE] = "free",
    [OP_FREE_SIZED] = "sized free",
    [OP_REALLOC] = "realloc",
    [OP_REALLOCARRAY] = "reallocarray",
    [OP_REALLOC_ZERO] = "realloc to zero",
    [OP_EXPAND] = "hak_expand",
    [OP_CHECK] = "check",
    [OP_REALLOC_HUGE] = "realloc to a huge size",
    [OP_REALLOCARRAY_OVERFLOW] = "reallocarray with overflow",
    [OP_MALLOC_HUGE] = "malloc of a huge size",
    [OP_CALLOC_OVERFLOW] = "calloc with overflow",
    [OP_ALIGNED_HUGE] = "aligned huge",
    [OP_BAD_ALIGNMENT] = "bad alignment",
    [OP_FREE_NULL] = "free(NULL)",
    [OP_TRIM] = "malloc_trim",
    [OP_EXCHANGE] = "exchange",
};

static void put(const char *text, size_t length)
{
    while (length != 0) {
        ssize_t done = write(STDERR_FILENO, text, length);
        if (done <= 0)
            return;
        text += done;
        length -= (size_t)done;
    }
}

void say(const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length > 0)
        put(text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

void *map_memory(size_t bytes, bool shared)
{
    int flags = MAP_ANONYMOUS | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

    if (memory == MAP_FAILED) {
        say("model: no memory for the shadow (%zu bytes): %d\n", bytes, errno);
        _exit(99);
    }
    return memory;
}

void describe_op(char *text, size_t text_size, const struct op *op)
{
    const char *name = op->kind < OP_KINDS ? op_name[op->kind] : "?";

    snprintf(text, text_size,
             "op %" PRIu64 ": slot %" PRIu32 ", %s, size %" PRIu64 ", alignment 2^%u", op->n,
             op->slot, name, op->size, op->align_shift);
}

static void say_where(const struct worker *w)
{
    char text[160] = "no operation";

    if (w != NULL && w->current != NULL)
        describe_op(text, sizeof text, w->current);
    say("model: seed %" PRIu64 ", thread %u, %s\n", opt.seed, w != NULL ? w->index : 0, text);
    say("model: replay: model --seed %" PRIu64 " --ops %" PRIu64 " --threads %u --max-size %" PRIu64
        " --max-live %" PRIu64 " --slots %" PRIu32 "%s%s\n",
        opt.seed, opt.ops, opt.threads, opt.max_size, opt.max_live, opt.slots,
        opt.oom_ok ? " --oom-ok" : "",
        opt.threads > 1 ? " (the interleaving may differ)" : " [--shrink]");
}

void fail(const struct worker *w, const char *what, const char *format, ...)
{
    static atomic_flag reported = ATOMIC_FLAG_INIT;
    char text[400];
    va_list args;

    // The first failure is the one to read; later ones may follow from it.
    if (atomic_flag_test_and_set(&reported))
        for (;;)
            pause();
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say("model: FAIL: %s: %s\n", what, text);
    say_where(w);
    if (verdict != NULL)
        snprintf(verdict->what, sizeof verdict->what, "%s", what);
    _exit(1);
}

void set_reporting(struct worker *w)
{
    reporting = w;
}

static void on_signal(int number)
{
    say("model: FAIL: signal %d\n", number);
    say_where(reporting);
    if (verdict != NULL)
        snprintf(verdict->what, sizeof verdict->what, "signal %d", number);
    signal(number, SIG_DFL);
    raise(number);
}

void catch_signals(void)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};

    sigaltstack(&alternate, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}
