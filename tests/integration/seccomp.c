// SPDX-License-Identifier: MIT
//
// After its start the library needs mmap, munmap, mremap, madvise, mprotect and futex, and nothing
// else; and it lives with each of them failing. The filters bind every thread, also those that have
// not allocated yet.
#include "harness.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

#if defined __x86_64__
#    define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined __i386__
#    define ARCHITECTURE AUDIT_ARCH_I386
#elif defined __aarch64__
#    define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined __arm__
#    define ARCHITECTURE AUDIT_ARCH_ARM
#elif defined __riscv && __riscv_xlen == 64
#    define ARCHITECTURE AUDIT_ARCH_RISCV64
#elif defined __s390x__
#    define ARCHITECTURE AUDIT_ARCH_S390X
#elif defined __powerpc64__ && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#    define ARCHITECTURE AUDIT_ARCH_PPC64LE
#elif defined __powerpc64__
#    define ARCHITECTURE AUDIT_ARCH_PPC64
#else
#    error "the filters need this architecture's AUDIT_ARCH"
#endif

static struct sock_filter filter[64];
static unsigned short filter_length;

static void add(unsigned short code, unsigned char jt, unsigned char jf, uint32_t k)
{
    filter[filter_length++] = (struct sock_filter){code, jt, jf, k};
}

static void begin(void)
{
    filter_length = 0;
    add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCHITECTURE);
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
}

static void on_call(unsigned number, uint32_t action)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, number);
    add(BPF_RET | BPF_K, 0, 0, action);
}

static int install(uint32_t otherwise)
{
    add(BPF_RET | BPF_K, 0, 0, otherwise);
    struct sock_fprog program = {filter_length, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static void say_number(const char *text, long number)
{
    char line[160];
    int length = snprintf(line, sizeof line, "# %s %ld\n", text, number);

    if (length < 0 || write(STDOUT_FILENO, line, (size_t)length) < 0)
        _exit(FAIL);
}

// A call outside the list: says which, and ends the process.
static void on_other_call(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    say_number("expected no other system call, actual number", info->si_syscall);
    _exit(FAIL);
}

static int only_the_documented_calls(void)
{
    static const unsigned allowed[] = {SYS_mmap,     SYS_munmap, SYS_mremap, SYS_madvise,
                                       SYS_mprotect, SYS_futex,  SYS_write,  SYS_exit_group};

    struct sigaction action = {.sa_sigaction = on_other_call, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    begin();
    for (size_t i = 0; i < COUNT(allowed); i++)
        on_call(allowed[i], SECCOMP_RET_ALLOW);
    return install(SECCOMP_RET_TRAP);
}

// --- work for the allocator; true when all went well ---

static _Thread_local long wrong_at; // the last step that went wrong

static bool expect(bool good, long step)
{
    if (!good)
        wrong_at = step;
    return good;
}

static size_t stride(size_t i)
{
    return i < 4096 ? 1 : 4096;
}

static bool use(size_t size, bool may_fail)
{
    unsigned char *p = hide(malloc(size)), *q = hide(calloc(1, size));
    bool good = expect(may_fail || (p != NULL && q != NULL), 1);

    for (size_t i = 0; p != NULL && i < size; i += stride(i))
        p[i] = 0xff;
    for (size_t i = 0; q != NULL && i < size; i += stride(i)) {
        good &= expect(q[i] == 0, 2);
        q[i] = 0xff;
    }
    unsigned char *r = hide(realloc(hide(p), size * 2 + 10));
    for (size_t i = 0; p != NULL && r != NULL && i < size; i += stride(i))
        good &= expect(r[i] == 0xff, 3);
    good &= expect(may_fail || r != NULL, 4);
    free(r != NULL ? r : p);
    free(q);
    return good;
}

static bool all_sizes(bool may_fail)
{
    static _Thread_local void *block[1000];
    bool good = true;

    for (size_t size = 1; size <= 8 * MIB; size = size * 7 / 4 + 1)
        good &= use(size, may_fail);
    for (unsigned i = 0; i < COUNT(block); i++)
        block[i] = hide(malloc(i * 40));
    for (unsigned i = 0; i < COUNT(block); i++)
        free(block[i]);
    void *p = NULL;
    for (unsigned shift = 4; shift <= 22; shift++) {
        good &= expect(posix_memalign(&p, (size_t)1 << shift, 1000) == 0 || may_fail,
                       100 + (long)shift);
        free(p);
        p = NULL;
    }
    malloc_trim(0);
    return good;
}

static pthread_barrier_t born, go, done;
static bool may_fail_now, thread_good[3];
static void *handed_over[3][200];

static void *wait_and_work(void *index_)
{
    uintptr_t index = (uintptr_t)index_;

    // libc starts a thread with calls that the filter refuses: they are over once it is here.
    pthread_barrier_wait(&born);
    pthread_barrier_wait(&go);
    bool good = true;
    for (unsigned round = 0; round < 2; round++)
        good &= all_sizes(may_fail_now);
    for (unsigned i = 0; i < COUNT(handed_over[0]); i++)
        free(handed_over[index][i]);
    thread_good[index] = good;
    if (!good)
        say_number(
            "a thread: expected every block and every byte right, actual one was wrong at step",
            wrong_at);
    pthread_barrier_wait(&done);
    // Not back to libc: the end of a thread takes calls that the filter kills.
    for (;;)
        pthread_barrier_wait(&go);
    return NULL;
}

// One thread has allocated before the filter is there, two have not.
static int work_under(int (*install_filter)(void), bool may_fail)
{
    pthread_t thread;

    may_fail_now = may_fail;
    pthread_barrier_init(&born, NULL, 4);
    pthread_barrier_init(&go, NULL, 4);
    pthread_barrier_init(&done, NULL, 4);
    for (uintptr_t i = 0; i < 3; i++)
        if (pthread_create(&thread, NULL, wait_and_work, (void *)i) != 0)
            abort();
    pthread_barrier_wait(&born);
    if (install_filter() != 0)
        return skip("no seccomp");
    for (unsigned i = 0; i < 3; i++)
        for (unsigned k = 0; k < COUNT(handed_over[0]); k++)
            handed_over[i][k] = hide(malloc(k * k));
    pthread_barrier_wait(&go);
    bool good = true;
    for (unsigned round = 0; round < 2; round++)
        good &= all_sizes(may_fail);
    pthread_barrier_wait(&done);
    if (!good)
        say_number("expected every block and every byte right, actual one was wrong at step",
                   wrong_at);
    good &= thread_good[0] && thread_good[1] && thread_good[2];
    _exit(good ? PASS : FAIL);
}

static int documented_calls(void)
{
    free(hide(malloc(100)));
    return work_under(only_the_documented_calls, false);
}

static uint32_t errno_wanted;
static unsigned call_to_fail;

static int fail_one_call(void)
{
    begin();
    on_call(call_to_fail, SECCOMP_RET_ERRNO | errno_wanted);
    return install(SECCOMP_RET_ALLOW);
}

// Every errno in a process of its own, because a filter stays.
static int failing(unsigned call, bool may_fail)
{
    static const int errnos[] = {EPERM, ENOSYS, EINVAL, ENOMEM};

    for (size_t i = 0; i < COUNT(errnos); i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            call_to_fail = call;
            errno_wanted = (uint32_t)errnos[i];
            _exit(work_under(fail_one_call, may_fail));
        }
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP)
            return skip("no seccomp");
        CHECK_MSG(status == 0, "errno %d: status %#x", errnos[i], (unsigned)status);
    }
    return PASS;
}

static int madvise_fails(void)
{
    return failing(SYS_madvise, false);
}

static int mremap_fails(void)
{
    return failing(SYS_mremap, false);
}

static int mprotect_fails(void)
{
    return failing(SYS_mprotect, true);
}

static int munmap_fails(void)
{
    return failing(SYS_munmap, false);
}

static int mmap_fails(void)
{
    return failing(SYS_mmap, true);
}

static const struct test_case cases[] = {
    {"only the documented calls", documented_calls, 20},
    {"madvise fails", madvise_fails, 60},
    {"mremap fails", mremap_fails, 60},
    {"mprotect fails", mprotect_fails, 60},
    {"munmap fails", munmap_fails, 60},
    {"mmap fails", mmap_fails, 60},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, COUNT(cases));
}
