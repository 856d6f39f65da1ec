// SPDX-License-Identifier: MIT
//
// fork while another thread stands anywhere in the allocator. That thread goes through free and malloc one instruction at a time (the
// processor's trap flag) and at each one it has not tried yet waits, a little, for the main thread to fork. The child has what there
// was: no block that is live may be handed out, and none twice. Where the thread holds a lock that fork wants it goes on, fork waiting.
// HK_STEPS=once: every instruction, with blocks of each size. Else free alone with the first size, every eighth with the second, and no
// longer than ten seconds.
#include "harness.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define TRAP_FLAG 0x100
#define PATIENCE_NS 3000000 /* of the stepping thread, for a fork that wants what it holds */

struct block {
    size_t size;
    unsigned char byte;
    unsigned char *volatile p; // NULL: not there
};

static struct block of_main[64], of_stepper[200];
static const size_t sizes[] = {64, 1000, 6000, 30000, 100000};

static void fill(struct block *b, size_t size, unsigned seed)
{
    unsigned char *p = hide(malloc(size));

    if (p == NULL)
        _exit(7);
    b->size = size;
    b->byte = (unsigned char)(seed * 37 + 11);
    memset(p, b->byte, size < 256 ? size : 256);
    b->p = p;
}

static void drop(struct block *b)
{
    unsigned char *p = b->p;

    b->p = NULL; // from here on nobody's
    free(p);
}

static void check(const struct block *b, int status)
{
    for (size_t i = 0; b->p != NULL && i < b->size && i < 256; i++)
        if (b->p[i] != b->byte)
            _exit(status);
}

static void check_all(const struct block *b, size_t n, int status)
{
    for (size_t i = 0; i < n; i++)
        check(&b[i], status);
}

static void drop_all(struct block *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b[i].p != NULL)
            drop(&b[i]);
}

// --- the child ---

static void fill_all(struct block *b, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++)
        fill(&b[i], size, (unsigned)i + 100);
}

static _Noreturn void be_child(size_t size)
{
    static struct block fresh[400];
    size_t n = size > 20000 ? 20 : size > 2000 ? 80 : COUNT(fresh);

    alarm(10);
    for (unsigned round = 0; round < 2; round++) {
        fill_all(fresh, n, size);
        check_all(of_main, COUNT(of_main), 3);
        check_all(of_stepper, COUNT(of_stepper), 4);
        check_all(fresh, n, 5);
        drop_all(fresh, n);
    }
    drop_all(of_main, COUNT(of_main));
    drop_all(of_stepper, COUNT(of_stepper)); // but for the one in its hands
    fill_all(fresh, n, size);
    check_all(fresh, n, 6);
    _exit(0);
}

// --- the stepping thread ---

static uintptr_t code_start, code_end;
static unsigned char *tries;
static sem_t wanted, done;
static atomic_bool waiting; // for the main thread's fork
static volatile bool stepping;

static int note_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    if (info->dlpi_addr != *(uintptr_t *)arg)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) != 0) {
            code_start = info->dlpi_addr + p->p_vaddr;
            code_end = code_start + p->p_memsz;
        }
    }
    return 1;
}

static bool find_library(void)
{
    uintptr_t base;
    Dl_info info;

    if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) == 0)
        return false;
    base = (uintptr_t)info.dli_fbase;
    return dl_iterate_phdr(note_library, &base) == 1 && code_end > code_start;
}

#if defined __x86_64__
enum { CAN_STEP = true };
static uintptr_t next_instruction(ucontext_t *context, bool go_on)
{
    greg_t *flags = &context->uc_mcontext.gregs[REG_EFL];

    *flags = go_on ? *flags | TRAP_FLAG : *flags & ~(greg_t)TRAP_FLAG;
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
}
#else
enum { CAN_STEP = false };
static uintptr_t next_instruction(ucontext_t *context, bool go_on)
{
    (void)context, (void)go_on;
    return 0;
}
#endif

// True: it has been.
static bool wait_for_fork(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PATIENCE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (sem_timedwait(&done, &until) != 0)
        return false;
    waiting = false;
    return true;
}

static size_t size_now;
static bool everywhere;

static time_t enough;

static bool is_chosen(uintptr_t offset)
{
    if (tries[offset] >= 2)
        return false;
    return everywhere || (time(NULL) < enough && (size_now == sizes[0] || (offset * 0x9e3779b1u >> 16) % 8 == 0));
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    uintptr_t address = next_instruction(context, stepping);
    int saved = errno;

    (void)number, (void)info;
    if (stepping && address >= code_start && address < code_end && is_chosen(address - code_start)) {
        if (!waiting) {
            waiting = true;
            tries[address - code_start]++;
            sem_post(&wanted);
            if (wait_for_fork())
                tries[address - code_start] = 2;
        } else if (sem_trywait(&done) == 0) {
            waiting = false;
        }
    }
    errno = saved;
}

// Magazines run full and empty; what main freed comes home.
static void *step(void *unused)
{
    (void)unused;
    fill_all(of_stepper, COUNT(of_stepper), size_now);
    stepping = true;
    raise(SIGTRAP);
    for (unsigned round = 0; round < 2; round++) {
        drop_all(of_stepper, COUNT(of_stepper) - 20 * round);
        stepping = everywhere || size_now != sizes[0];
        for (size_t i = 0; i < COUNT(of_stepper) - 60; i++)
            if (of_stepper[i].p == NULL)
                fill(&of_stepper[i], size_now, (unsigned)i);
        stepping = true;
        raise(SIGTRAP);
    }
    stepping = false;
    if (waiting)
        sem_wait(&done);
    size_now = 0;
    sem_post(&wanted);
    return NULL;
}

// The stepper's block that is just being freed is in `of_stepper` no more, and one that it gets not yet.
static int fork_once(size_t size, unsigned *nr_forks)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0)
        be_child(size);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    ++*nr_forks;
    CHECK_MSG(status == 0, "fork %u, blocks of %zu: status %#x", *nr_forks, size, (unsigned)status);
    return PASS;
}

static int fork_while_it_steps(size_t size, unsigned *nr_forks)
{
    pthread_t thread;
    int result = PASS;

    size_now = size;
    fill_all(of_main, COUNT(of_main), size);
    if (pthread_create(&thread, NULL, step, NULL) != 0)
        abort();
    for (;;) {
        while (sem_wait(&wanted) != 0)
            continue;
        if (size_now == 0)
            break;
        if (result == PASS)
            result = fork_once(size, nr_forks);
        sem_post(&done);
    }
    pthread_join(thread, NULL);
    waiting = false;
    drop_all(of_main, COUNT(of_main));
    drop_all(of_stepper, COUNT(of_stepper));
    return result;
}

static int at_every_instruction(void)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_RESTART};
    unsigned nr_forks = 0;

    if (!CAN_STEP || !find_library())
        return skip("no trap flag here");
    everywhere = getenv("HK_STEPS") != NULL;
    enough = time(NULL) + 10;
    tries = calloc(1, code_end - code_start);
    sem_init(&wanted, 0, 0);
    sem_init(&done, 0, 0);
    sigaction(SIGTRAP, &action, NULL);
    for (size_t i = 0; i < (everywhere ? COUNT(sizes) : 2); i++)
        CHECK_EQ(PASS, fork_while_it_steps(sizes[i], &nr_forks));
    CHECK_MSG(nr_forks > 10, "%u forks", nr_forks);
    printf("# %u forks\n", nr_forks);
    return PASS;
}

static const struct test_case cases[] = {
    {"fork while a thread stands at any instruction of malloc and free", at_every_instruction, 300},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, COUNT(cases));
}
