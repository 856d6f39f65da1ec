// SPDX-License-Identifier: MIT
//
// A signal handler that runs while its own thread is inside the allocator, on a path where it holds things open. A filter makes
// the allocator's madvise a SIGSYS, so that this happens at a known place and not by chance (signals.c) or one instruction at a
// time (steps.c). The handler refuses the call, as a filter may, and asks for everything there is meanwhile.
#include "harness.h"

#include <hakmem/hakmem.h>
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

// The interface, out of the preloaded library.
static struct {
    int (*get)(const char *, char *, size_t *), (*source)(const char *, char *, size_t *);
    int (*set)(const char *, const char *), (*limit)(size_t);
    size_t (*trim)(size_t), (*purge)(void);
    int (*expand)(void *, size_t);
    void (*idle)(void);
    int (*policy)(hak_policy_t *, size_t), (*save)(const char *), (*load)(const char *);
    int (*freeze)(void), (*learn)(void);
    const char *(*state)(void);
    int (*stats)(hak_stats_t *, size_t);
} hak;

static bool resolve(void)
{
    static const struct {
        const char *name;
        void *at;
    } table[] = {
        {"hak_ctl_get", &hak.get},       {"hak_ctl_source", &hak.source},  {"hak_ctl_set", &hak.set},
        {"hak_limit_set", &hak.limit},   {"hak_trim", &hak.trim},          {"hak_purge", &hak.purge},
        {"hak_expand", &hak.expand},     {"hak_thread_idle", &hak.idle},   {"hak_policy_get", &hak.policy},
        {"hak_policy_save", &hak.save},  {"hak_policy_load", &hak.load},   {"hak_evo_freeze", &hak.freeze},
        {"hak_evo_learn", &hak.learn},   {"hak_evo_state", &hak.state},    {"hak_stats_get", &hak.stats},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        void *symbol = dlsym(RTLD_DEFAULT, table[i].name);
        if (!symbol)
            return false;
        memcpy(table[i].at, &symbol, sizeof symbol);
    }
    return true;
}

// ---- the signal ----

static int (*inside)(void); // what the handler does, once
static int verdict = -1;    // of it; -1: it never came

// What the interrupted call returns.
#if defined __x86_64__
enum { CAN_REFUSE = true };
static void refuse(ucontext_t *context)
{
    context->uc_mcontext.gregs[REG_RAX] = -EPERM;
}
#elif defined __aarch64__
enum { CAN_REFUSE = true };
static void refuse(ucontext_t *context)
{
    context->uc_mcontext.regs[0] = (unsigned long long)-EPERM;
}
#else
enum { CAN_REFUSE = false };
static void refuse(ucontext_t *context)
{
    (void)context;
}
#endif

static void on_call(int number, siginfo_t *info, void *context)
{
    int saved = errno;

    (void)number, (void)info;
    if (verdict < 0)
        verdict = inside();
    refuse(context);
    errno = saved;
}

// From now on: madvise is a signal, and mmap fails if so asked.
static int install(bool no_memory)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, no_memory ? SYS_mmap : SYS_madvise, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO};

    if (sigaction(SIGSYS, &action, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

// Memory goes back by hak_purge, which holds no lock of its own then but is in the middle of its work.
static int run_inside(int (*function)(void), bool no_memory)
{
    char *p[8];

    if (!CAN_REFUSE)
        return skip("how a call is refused is not known here");
    for (size_t i = 0; i < 8; i++) {
        p[i] = malloc(700 * KIB);
        CHECK(p[i] != NULL);
        memset(p[i], 1, 700 * KIB);
    }
    for (size_t i = 0; i < 8; i++)
        free(p[i]);
    inside = function;
    if (install(no_memory) != 0)
        return skip("no filter can be installed");
    hak.purge();
    CHECK_MSG(verdict >= 0, "the kernel was never asked");
    return verdict;
}

// ---- the interface ----

static char *small;

static int ask_for_everything(void)
{
    char text[64] = "";
    size_t bytes = sizeof text;
    hak_policy_t policy;

    errno = EBADMSG;
    CHECK_EQ(EAGAIN, hak.get("guard_rate", text, &bytes));
    CHECK_EQ(EAGAIN, hak.source("guard_rate", text, &bytes));
    CHECK_EQ(ENOENT, hak.get("no such option", text, &bytes));
    CHECK(bytes == sizeof text && !*text);
    CHECK_EQ(EAGAIN, hak.set("purge_delay_ms", "17"));
    CHECK_EQ(EAGAIN, hak.limit(64 * MIB));
    CHECK_EQ(EINVAL, hak.limit(1));
    CHECK_EQ(EAGAIN, hak.policy(&policy, sizeof policy));
    CHECK_EQ(EAGAIN, hak.save("/nowhere/at/all"));
    CHECK_EQ(ENOENT, hak.load("/nowhere/at/all"));
    CHECK_EQ(EAGAIN, hak.freeze());
    CHECK_EQ(EAGAIN, hak.learn());
    CHECK(strcmp(hak.state(), "off") == 0);
    CHECK_EQ(0, hak.trim(0));
    CHECK_EQ(0, hak.purge());
    CHECK_EQ(0, hak.expand(small, 100));
    hak.idle();
    CHECK_EQ(EBADMSG, errno);
    return PASS;
}

static int interface_says_that_it_is_busy(void)
{
    char text[64];
    size_t bytes = sizeof text;

    small = malloc(100);
    CHECK(small != NULL && resolve());
    if (run_inside(ask_for_everything, false) != PASS)
        return verdict < 0 ? SKIP : FAIL;
    CHECK_EQ(0, hak.get("purge_delay_ms", text, &bytes)); // nothing has changed, and it serves again
    CHECK(strcmp(text, "17") != 0);
    CHECK_EQ(0, hak.set("purge_delay_ms", "17"));
    bytes = sizeof text;
    CHECK_EQ(0, hak.get("purge_delay_ms", text, &bytes));
    CHECK(strcmp(text, "17") == 0);
    CHECK_EQ(1, hak.expand(small, 100));
    free(small);
    return PASS;
}

// ---- the family ----

#define NR_OUTER 60 // more than a heap notes by itself
static unsigned char *outer[NR_OUTER];

static size_t outer_size(size_t i)
{
    return i % 20 == 0 ? 3 * MIB : i % 5 == 0 ? 100 * KIB : 300;
}

static bool make_outer(void)
{
    for (size_t i = 0; i < NR_OUTER; i++) {
        outer[i] = malloc(outer_size(i));
        if (!outer[i])
            return false;
        memset(outer[i], (int)i + 1, outer_size(i));
    }
    return true;
}

static bool is_filled(const unsigned char *p, int byte, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte)
            return false;
    return true;
}

static int allocate_and_free(void)
{
    unsigned char *p[5] = {malloc(100), calloc(10, 1000), aligned_alloc(4096, 5000), malloc(2 * MIB), realloc(NULL, 7)};

    for (size_t i = 0; i < 5; i++)
        CHECK(p[i] != NULL);
    CHECK(is_filled(p[1], 0, 10000) && (uintptr_t)p[2] % 4096 == 0);
    memset(p[0], 5, 100);
    memset(p[3], 6, 2 * MIB);
    CHECK(malloc_usable_size(p[0]) >= 100);
    p[0] = realloc(p[0], 70000);
    CHECK(p[0] && is_filled(p[0], 5, 100));
    outer[1] = realloc(outer[1], 500);
    CHECK(outer[1] && is_filled(outer[1], 2, 300));
    outer[20] = realloc(outer[20], 4 * MIB);
    CHECK(outer[20] && is_filled(outer[20], 21, 3 * MIB));
    outer[2] = realloc(outer[2], 0);
    errno = 0;
    CHECK(malloc(hide((void *)PTRDIFF_MAX) ? (size_t)PTRDIFF_MAX : 0) == NULL && errno == ENOMEM);
    for (size_t i = 0; i < 5; i++)
        free(p[i]);
    for (size_t i = 0; i < NR_OUTER; i++) {
        free(outer[i]);
        outer[i] = NULL;
    }
    return PASS;
}

static int blocks_come_and_go(void)
{
    hak_stats_t before, after;

    CHECK(resolve());
    hak.purge();
    hak.stats(&before, sizeof before);
    CHECK(make_outer());
    if (run_inside(allocate_and_free, false) != PASS)
        return verdict < 0 ? SKIP : FAIL;
    hak.purge();
    hak.stats(&after, sizeof after);
    CHECK_EQ(before.live_blocks, after.live_blocks);
    CHECK_EQ(0, after.remote_lost);
    CHECK_MSG(after.live <= before.live, "live bytes %ju, were %ju", (uintmax_t)after.live, (uintmax_t)before.live);
    return PASS;
}

// ---- and no memory ----

static int free_without_memory(void)
{
    errno = 0;
    CHECK(malloc(100) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(realloc(outer[1], 5000) == NULL && errno == ENOMEM && is_filled(outer[1], 2, 300));
    for (size_t i = 1; i < NR_OUTER; i++)
        free(outer[i]);
    return PASS;
}

// The heap notes 16; what is beyond is lost, and counted.
static int what_cannot_be_noted_is_counted(void)
{
    hak_stats_t before, after;

    CHECK(resolve() && make_outer());
    hak.stats(&before, sizeof before);
    if (run_inside(free_without_memory, true) != PASS)
        return verdict < 0 ? SKIP : FAIL;
    hak.stats(&after, sizeof after);
    CHECK_EQ(NR_OUTER - 1 - 16, after.remote_lost);
    CHECK(after.live_blocks <= before.live_blocks - 16);
    CHECK(is_filled(outer[0], 1, outer_size(0)));
    free(outer[0]);
    return PASS;
}

// ---- in secure mode ----

static int in_secure_mode(const char *name)
{
    const char *const argv[] = {"/proc/self/exe", name, NULL};
    struct run run = {.argv = argv, .timeout_s = 20};

    if (setenv("HAKMEM_OPTIONS", "secure:1", 1) != 0)
        return FAIL;
    run_program(&run);
    unsetenv("HAKMEM_OPTIONS");
    if (WIFEXITED(run.status) && WEXITSTATUS(run.status) == SKIP)
        return SKIP;
    CHECK_MSG(WIFEXITED(run.status) && WEXITSTATUS(run.status) == 0, "status %#x: %s%s", run.status, run.out, run.err);
    return PASS;
}

static int interface_in_secure_mode(void)
{
    return in_secure_mode("the interface says that it is busy");
}

static int blocks_in_secure_mode(void)
{
    return in_secure_mode("blocks come and go");
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"the interface says that it is busy", interface_says_that_it_is_busy, 0},
        {"blocks come and go", blocks_come_and_go, 0},
        {"without memory what cannot be noted is counted", what_cannot_be_noted_is_counted, 0},
        {"the interface, secure", interface_in_secure_mode, 30},
        {"blocks come and go, secure", blocks_in_secure_mode, 30},
    };

    harness_preload(argv);
    return harness_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
