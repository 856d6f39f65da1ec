// SPDX-License-Identifier: MIT
//
// Signals at every instruction. The processor's trap flag runs an operation one instruction at a time; at
// each instruction inside the library a child is forked whose signal handler allocates, frees, or
// forks right there, and which then finishes the operation and looks whether the heap is whole. So each
// child tries one interruption, and the parent goes on as if nothing had been.
//
// By default a sixth of the instructions of slow paths is tried by each kind of handler; HK_STEPS=all tries all,
// in every operation and up to 80 visits of each (hours), HK_STEPS=once the first visits (minutes), HK_STEPS=show is
// the default with the counts, and lets the children's messages through. Where all goes well nothing is printed.
//
// Over 900 lines because operations, handlers and the stepping between them share the blocks that are looked at.
#include "harness.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

#if defined(__x86_64__) && defined(__LP64__)
#    define CAN_STEP 1
#    define FLAGS    REG_EFL
#    define POINTER  REG_RIP
#else
#    define CAN_STEP 0
#    define FLAGS    0
#    define POINTER  0
#endif
#define TRAP_FLAG 0x100

// --- the library's code ---

static uintptr_t code_start, code_end, load_base;

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
    Dl_info info;

    if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) == 0)
        return false;
    load_base = (uintptr_t)info.dli_fbase;
    dl_iterate_phdr(note_library, &load_base);
    return code_end != 0;
}

// The exported function that `address` lies in; NULL: some other function of the library.
static const char *function_at(uintptr_t address, uintptr_t *start, size_t *size)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;

    if (dladdr1((void *)address, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL)
        return NULL;
    *start = (uintptr_t)info.dli_saddr;
    *size = symbol->st_size;
    return address < *start + *size ? info.dli_sname : NULL;
}

// --- an operation ---

struct block {
    unsigned char *p;
    size_t size;
    unsigned char byte;
};

static struct block fill(size_t size)
{
    static unsigned char next;
    struct block b = {.p = hide(malloc(size)), .size = size, .byte = ++next};

    if (b.p == NULL)
        abort();
    memset(b.p, b.byte, b.size < 4096 ? b.size : 4096);
    b.p[size - 1] = b.byte;
    return b;
}

static bool holds(const struct block *b)
{
    for (size_t i = 0; i < b->size && i < 4096; i++)
        if (b->p[i] != b->byte)
            return false;
    return b->p[b->size - 1] == b->byte;
}

static struct block live[32];  // the program's, untouched by the operation
static struct block extra[16]; // the program's, for handlers to free
static struct block kept[16];  // a handler's
static unsigned nr_kept;
static void *result; // the operation's
static size_t op_size;
static void *many[2500];
static struct block pile[300]; // more of the program's, for one handler

static void (*action)(void);
static void free_many(void);

static void prepare(size_t size)
{
    op_size = size;
    for (unsigned i = 0; i < COUNT(live); i++)
        live[i] = fill(i % 2 != 0 && size <= 4096 ? size : 8 + (size_t)i * 40);
    for (unsigned i = 0; i < COUNT(extra); i++)
        extra[i] = fill(i % 4 != 3 ? size : 200 + (size_t)i * 100);
    for (unsigned i = 0; action == free_many && i < COUNT(pile); i++)
        pile[i] = fill(i % 8 != 0 ? 3000 : 48); // of no operation's size
}

// --- what handlers do ---

// Takes and gives back one block after the other, then several at a time in the order of a stack.
static void balanced(void)
{
    static const size_t sizes[] = {24, 100, 1000, 20000, 100 * KIB};
    struct block b[4];

    for (unsigned i = 0; i <= COUNT(sizes); i++) {
        b[0] = fill(i < COUNT(sizes) ? sizes[i] : op_size);
        if (!holds(&b[0]))
            abort();
        free(b[0].p);
    }
    for (unsigned i = 0; i < COUNT(b); i++)
        b[i] = fill(op_size);
    for (unsigned i = COUNT(b); i-- > 0;) {
        if (!holds(&b[i]))
            abort();
        free(b[i].p);
    }
}

// Frees blocks that the program allocated, keeps others.
static void unbalanced(void)
{
    for (unsigned i = 0; i < 6; i++)
        kept[nr_kept++] = fill(i % 3 != 2 ? op_size : 40 * (size_t)i);
    for (unsigned i = 0; i < 8; i++) {
        if (!holds(&extra[i]))
            abort();
        free(extra[i].p);
        extra[i].p = NULL;
    }
    kept[nr_kept++] = fill(op_size);
    struct block grown = fill(200);
    grown.p = hide(realloc(grown.p, 5000));
    if (grown.p == NULL || !holds(&grown))
        abort();
    kept[nr_kept++] = grown;
}

// More than the room that a section has for blocks freed by handlers.
static void free_many(void)
{
    for (unsigned i = 0; i < COUNT(pile); i++) {
        free(pile[i].p);
        pile[i].p = NULL;
    }
}

static int own_fork_status;

static int end_of(pid_t child)
{
    int status = -1;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static void fork_here(void)
{
    pid_t child = fork();

    if (child == 0) {
        alarm(5);
        balanced();
        pid_t second = fork();
        if (second == 0) {
            balanced();
            _exit(0);
        }
        if (second < 0 || end_of(second) != 0)
            _exit(9);
        return; // and goes on with the operation, as the parent does
    }
    own_fork_status = child < 0 ? -1 : end_of(child);
    balanced();
}

// --- is the heap whole? ---

static void check_blocks(struct block *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b[i].p != NULL && !holds(&b[i]))
            _exit(3);
}

static void free_blocks(struct block *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(b[i].p);
}

static void check_all(struct block *fresh, size_t n)
{
    check_blocks(live, COUNT(live));
    check_blocks(extra, COUNT(extra));
    check_blocks(kept, nr_kept);
    check_blocks(fresh, n);
}

// Such a block is never from the fast path, and inside a section it is a mapping of its own.
static bool is_in_section(void)
{
    void *p = hide(valloc(100));
    bool alone = p == NULL || malloc_usable_size(p) >= 64 * KIB;

    free(p);
    return alone;
}

// A block that is handed out twice shows: both are filled. A child ends here.
static _Noreturn void verify(void)
{
    static struct block fresh[150];
    size_t many_of = op_size <= 4096 ? COUNT(fresh) : op_size <= 128 * KIB ? 12 : 4;

    if (own_fork_status != 0)
        _exit(4);
    if (is_in_section())
        _exit(6);
    if (result != NULL)
        memset(result, 0xf7, op_size < 4096 ? op_size : 4096);
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < many_of; i++)
            fresh[i] = fill(i % 16 == 15 ? 300 * i / 16 + 1 : op_size);
        check_all(fresh, many_of);
        if (result != NULL && round == 0)
            free(result);
        free_blocks(fresh, many_of);
    }
    check_all(fresh, 0);
    free_blocks(live, COUNT(live));
    free_blocks(extra, COUNT(extra));
    free_blocks(kept, nr_kept);
    for (size_t i = 0; i < many_of; i++)
        fresh[i] = fill(op_size);
    check_blocks(fresh, many_of);
    _exit(0);
}

// --- stepping ---

struct unsafe {
    uintptr_t address;
    int status;
};

static volatile sig_atomic_t stepping, counting, in_child;
static unsigned visits_max = 1, nr_children, nr_unsafe;
static volatile unsigned nr_steps; // raise() is a leaf function to the compiler
static struct unsafe unsafe[256];
static uint8_t *visits, *visits_in_all; // by offset into the code; of the operation, and shared by all
static unsigned phase; // 0, 1 or 2
static bool show;

static bool in_fast_path(uintptr_t address)
{
    uintptr_t start;
    size_t size;

    return function_at(address, &start, &size) != NULL;
}

// Exported functions hold the fast paths and are tried whole in each operation. Of the rest, unless all are
// wanted, every sixth address, another sixth for each kind of handler, and in one operation only.
static bool is_chosen(uintptr_t address)
{
    uintptr_t i = address - code_start;

    if (visits[i] >= visits_max)
        return false;
    if (visits_max > 1 || in_fast_path(address))
        return true;
    return visits_in_all[i] == 0 && (i * 0x9e3779b1u >> 16) % 6 == phase;
}

// --- two threads, each interrupted somewhere, that fork from their handlers at once ---

static volatile sig_atomic_t pairing;
static __thread unsigned steps_left;
static atomic_uint nr_there;

static void fork_with_the_other(void)
{
    steps_left = 0;
    nr_there++; // the other may be waiting for a lock that we hold: then it comes no nearer
    for (unsigned i = 0; i < 50 && nr_there < 2; i++)
        usleep(1000);
    pid_t child = fork();
    if (child == 0) {
        alarm(5);
        balanced();
        pid_t second = fork();
        if (second == 0) {
            balanced();
            _exit(0);
        }
        _exit(second < 0 || end_of(second) != 0);
    }
    if (child < 0 || end_of(child) != 0)
        _exit(5);
    balanced();
}

static void step_of_pair(ucontext_t *context, uintptr_t address)
{
    context->uc_mcontext.gregs[FLAGS] |= TRAP_FLAG;
    if (address >= code_start && address < code_end && steps_left > 0 && --steps_left == 0) {
        context->uc_mcontext.gregs[FLAGS] &= ~TRAP_FLAG;
        fork_with_the_other();
    }
    if (steps_left == 0)
        context->uc_mcontext.gregs[FLAGS] &= ~TRAP_FLAG;
}

static void try_here(ucontext_t *context, uintptr_t address)
{
    pid_t child = _Fork();
    if (child < 0)
        abort();
    if (child == 0) {
        in_child = 1;
        alarm(10);
        if (!show)
            dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        context->uc_mcontext.gregs[FLAGS] &= ~TRAP_FLAG;
        action();
        return;
    }
    nr_children++;
    int status = end_of(child);
    if (status != 0 && nr_unsafe < COUNT(unsafe))
        unsafe[nr_unsafe++] = (struct unsafe){address, status};
}

static void on_trap(int number, siginfo_t *info, void *context_)
{
    ucontext_t *context = context_;
    uintptr_t address = (uintptr_t)context->uc_mcontext.gregs[POINTER];
    int saved = errno;

    (void)number;
    (void)info;
    if (pairing) {
        step_of_pair(context, address);
        errno = saved;
        return;
    }
    if (!stepping || in_child) {
        context->uc_mcontext.gregs[FLAGS] &= ~TRAP_FLAG;
        return;
    }
    context->uc_mcontext.gregs[FLAGS] |= TRAP_FLAG;
    nr_steps++;
    if (counting || address < code_start || address >= code_end)
        return;
    if (!is_chosen(address))
        return;
    visits[address - code_start]++;
    visits_in_all[address - code_start]++;
    try_here(context, address);
    errno = saved;
}

static void start_stepping(void)
{
    stepping = 1;
    raise(SIGTRAP);
}

static void stop_stepping(void)
{
    stepping = 0;
    if (in_child)
        verify();
}

// --- operations: setup leaves the heap as the operation needs it ---

struct operation {
    const char *name;
    size_t size;
    void (*setup)(void);
    void (*run)(void);
};

static void nothing(void)
{
}

static void run_malloc(void)
{
    result = hide(malloc(op_size));
}

static void run_free(void)
{
    free(result);
    result = NULL;
}

static void run_calloc(void)
{
    result = hide(calloc(1, op_size));
}

static void run_aligned(void)
{
    result = hide(aligned_alloc(4096, op_size));
}

static void run_realloc(void)
{
    result = hide(realloc(result, op_size + op_size / 2 + 100));
}

static void run_shrink(void)
{
    result = hide(realloc(result, op_size / 4));
}

static void run_trim(void)
{
    malloc_trim(0);
}

static void run_info(void)
{
    (void)mallinfo2();
}

// A block in the magazine, and room.
static void warm(void)
{
    void *p[4];

    for (unsigned i = 0; i < COUNT(p); i++)
        p[i] = hide(malloc(op_size));
    for (unsigned i = 0; i < COUNT(p); i++)
        free(p[i]);
}

static void with_block(void)
{
    warm();
    run_malloc();
}

static bool malloc_misses(void **p)
{
    counting = 1;
    nr_steps = 0;
    start_stepping();
    *p = hide(malloc(op_size));
    stepping = 0;
    raise(SIGTRAP);
    counting = 0;
    return nr_steps > 90; // a hit takes about 60, libc's part included
}

// Blocks of the size live in `many`, and the magazine is empty: it is filled at every miss with the same
// number of blocks as at the one before.
// A copy of the process tries.
static bool next_misses(void)
{
    pid_t child = fork();

    if (child == 0) {
        void *p;
        _exit(malloc_misses(&p) ? 0 : 1);
    }
    return child > 0 && end_of(child) == 0;
}

// Time counts: on a slow machine an idle look may have emptied the magazine between, and then it is not empty at the end. With a
// block or two in it, a handler that holds more than the gap has slots is not safe (DESIGN.md, "Signal handlers").
static void until_empty(void)
{
    do {
        unsigned i = 0, period = 1;

        while (!malloc_misses(&many[i++]))
            continue;
        while (!malloc_misses(&many[i++]))
            period++;
        while (--period > 0)
            many[i++] = hide(malloc(op_size));
    } while (!next_misses());
}

static void empty_with_block(void)
{
    until_empty();
    result = many[0];
    many[0] = NULL;
}

static bool free_misses(void *p)
{
    counting = 1;
    nr_steps = 0;
    start_stepping();
    free(p);
    stepping = 0;
    raise(SIGTRAP);
    counting = 0;
    return nr_steps > 90; // a hit takes about 60, libc's part included
}

// Frees until the magazine was full: half of it or more went back, so as many again and one fit.
// Frees until the magazine was full several times (it grows first). A flush gives half of it back, so the
// number of frees between two flushes, once more, fills it.
static void until_full(void)
{
    unsigned period = 0, last = 1, i = 0;

    for (unsigned k = 0; k < COUNT(many); k++)
        many[k] = hide(malloc(op_size));
    run_malloc();
    while (period != last) {
        last = period;
        for (period = 1; i < COUNT(many) && !free_misses(many[i++]); period++)
            continue;
        if (i == COUNT(many))
            abort();
    }
    while (--period > 0)
        free(many[i++]);
}

static void *free_result(void *unused)
{
    (void)unused;
    warm();
    return result = hide(malloc(op_size));
}

static void in_thread(void *(*fn)(void *))
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, fn, NULL) != 0)
        abort();
    pthread_join(thread, NULL);
}

// The other thread lives on: its blocks are not ours.
static pthread_barrier_t other_is_there, other_may_go;

static void *other_thread(void *unused)
{
    void *p = free_result(unused);

    pthread_barrier_wait(&other_is_there);
    pthread_barrier_wait(&other_may_go);
    return p;
}

static void with_remote_block(void)
{
    pthread_t thread;

    pthread_barrier_init(&other_is_there, NULL, 2);
    pthread_barrier_init(&other_may_go, NULL, 2);
    if (pthread_create(&thread, NULL, other_thread, NULL) != 0)
        abort();
    pthread_barrier_wait(&other_is_there);
}

static void *first_in_thread(void *unused)
{
    start_stepping();
    run_malloc();
    stop_stepping();
    return unused;
}

static void run_in_thread(void)
{
    stepping = 0;
    in_thread(first_in_thread);
}

// The last of the thread's destructors; the library's runs in the last round before.
static pthread_key_t last_key;
static unsigned rounds;

static void *verify_in_thread(void *unused)
{
    (void)unused;
    verify();
}

static void at_thread_end(void *value)
{
    if (++rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(last_key, value);
        return;
    }
    stepping = 0;
    raise(SIGTRAP);
    if (in_child) // a thread whose heap this thread's may become
        in_thread(verify_in_thread);
}

static void *allocate_and_end(void *unused)
{
    pthread_setspecific(last_key, &last_key);
    for (unsigned i = 0; i < 20; i++)
        many[i] = hide(malloc(i % 2 != 0 ? op_size : 100 * KIB));
    for (unsigned i = 0; i < 20; i += 3)
        free(many[i]);
    start_stepping();
    return unused;
}

static void run_thread_end(void)
{
    stepping = 0;
    pthread_key_create(&last_key, at_thread_end);
    rounds = 0;
    in_thread(allocate_and_end);
}

static const struct operation operations[] = {
    {"malloc", 64, warm, run_malloc},
    {"free", 64, with_block, run_free},
    {"malloc, empty magazine", 64, until_empty, run_malloc},
    {"malloc of 1000, empty magazine", 1000, until_empty, run_malloc},
    {"malloc of 20000, empty magazine", 20000, until_empty, run_malloc},
    {"free, empty magazine", 64, empty_with_block, run_free},
    {"first malloc of a size", 4000, nothing, run_malloc},
    {"free, full magazine", 1000, until_full, run_free},
    {"free of another thread's block", 64, with_remote_block, run_free},
    {"malloc of 100 KiB, new", 100 * KIB, nothing, run_malloc},
    {"malloc of 100 KiB, cached", 100 * KIB, warm, run_malloc},
    {"free of 100 KiB", 100 * KIB, with_block, run_free},
    {"malloc of 3 MiB, new", 3 * MIB, nothing, run_malloc},
    {"malloc of 3 MiB, cached", 3 * MIB, warm, run_malloc},
    {"free of 3 MiB", 3 * MIB, with_block, run_free},
    {"realloc of 64", 64, with_block, run_realloc},
    {"realloc of 100 KiB", 100 * KIB, with_block, run_realloc},
    {"realloc of 3 MiB", 3 * MIB, with_block, run_realloc},
    {"realloc down", 1000, with_block, run_shrink},
    {"calloc", 300, warm, run_calloc},
    {"aligned_alloc", 5000, warm, run_aligned},
    {"malloc_trim", 1000, until_full, run_trim},
    {"mallinfo2", 64, warm, run_info},
    {"a thread's first malloc", 64, nothing, run_in_thread},
    {"a thread's end", 64, nothing, run_thread_end},
};

static void report(const char *name)
{
    if (show)
        printf("# %s: %u steps, %u children, %u unsafe\n", name, nr_steps, nr_children, nr_unsafe);
    for (unsigned i = 0; i < nr_unsafe; i++) {
        uintptr_t start = 0; // (addr2line -f finds the line)
        size_t size = 0;
        const char *function = function_at(unsafe[i].address, &start, &size);
        printf("# unsafe in %s: library + %#jx", name, (uintmax_t)(unsafe[i].address - load_base));
        if (function != NULL)
            printf(" (%s + %#jx of %#zx)", function, (uintmax_t)(unsafe[i].address - start), size);
        printf(", status %#x\n", (unsigned)unsafe[i].status);
    }
}

static void step_through(const struct operation *op, void (*handler)(void))
{
    memset(visits, 0, code_end - code_start);
    nr_children = nr_unsafe = nr_steps = 0;
    action = handler;
    prepare(op->size);
    op->setup();
    start_stepping();
    op->run();
    stop_stepping();
    report(op->name);
}

// Each operation in a process of its own. What is unsafe comes back through a pipe.
static bool run_operation(const struct operation *op, void (*handler)(void))
{
    int fds[2];
    struct unsafe found[COUNT(unsafe)];

    if (pipe(fds) != 0)
        abort();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        step_through(op, handler);
        fflush(stdout);
        if (nr_steps == 0) // without a child, all its addresses were tried in other operations
            _exit(SKIP);
        _exit(write(fds[1], unsafe, nr_unsafe * sizeof *unsafe) < 0);
    }
    close(fds[1]);
    nr_unsafe = (unsigned)(read(fds[0], found, sizeof found) / (ssize_t)sizeof *found);
    memcpy(unsafe, found, sizeof found);
    close(fds[0]);
    int status = end_of(child);
    if (status != 0)
        printf("# %s: ended with status %#x\n", op->name, (unsigned)status);
    return status == 0;
}

// The instruction that moves a cursor by one slot: add or sub $8 on memory.
static bool moves_cursor(const unsigned char *code)
{
    return (code[0] & 0xf8) == 0x48 && code[1] == 0x83 && (code[2] & 0xc0) == 0 &&
           ((code[2] & 0x38) == 0x00 || (code[2] & 0x38) == 0x28) && code[3] == 8;
}

#define WINDOW_BYTES        32
#define WINDOW_INSTRUCTIONS 5

// The documented window: in an exported function, at the instruction that moves the cursor or just before.
static bool in_window(uintptr_t address)
{
    uintptr_t start;
    size_t size;

    if (function_at(address, &start, &size) == NULL)
        return false;
    for (uintptr_t a = address; a < address + WINDOW_BYTES && a + 4 <= start + size; a++)
        if (moves_cursor((const unsigned char *)a))
            return true;
    return false;
}

// Unsafe steps inside the window, of all operations; -1: one is elsewhere, or there are too many.
static int count_unsafe(void (*handler)(void), bool window)
{
    unsigned outside = 0, inside = 0;

    for (unsigned i = 0; i < COUNT(operations); i++) {
        unsigned here = 0;
        if (!run_operation(&operations[i], handler))
            return -1;
        for (unsigned k = 0; k < nr_unsafe; k++)
            if (window && in_window(unsafe[k].address))
                here++;
            else
                outside++;
        if (here > WINDOW_INSTRUCTIONS) {
            printf("# %u unsafe instructions\n", here);
            return -1;
        }
        inside += here;
    }
    if (outside != 0)
        printf("# %u unsafe instructions outside of the window\n", outside);
    return outside != 0 ? -1 : (int)inside;
}

// `window`: the handler may be unsafe there, and is. Everywhere else none may. What a handler hits depends on which
// blocks it gets: now and then a pass sees nothing (3 of some 30), so there are three before the test says that
// it was blind.
static int run_all(void (*handler)(void), bool window)
{
    int inside = 0;

    for (unsigned pass = 0; pass < (window ? 3 : 1) && inside == 0; pass++) {
        memset(visits_in_all, 0, code_end - code_start);
        inside = count_unsafe(handler, window);
    }
    CHECK(inside >= 0);
    CHECK_MSG(inside == 0 || window, "%d unsafe", inside);
    return window && inside == 0 ? skip("nothing unsafe seen where something is") : PASS;
}

static bool set_up(void)
{
    struct sigaction action_ = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_RESTART};
    const char *mode = getenv("HK_STEPS");

    if (!CAN_STEP || !find_library())
        return false;
    show = mode != NULL && strcmp(mode, "show") == 0;
    if (mode != NULL && strcmp(mode, "all") == 0)
        visits_max = 80;
    else if (mode != NULL && strcmp(mode, "once") == 0)
        visits_max = 2;
    visits = hide(calloc(1, code_end - code_start));
    visits_in_all = mmap(NULL, code_end - code_start, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGTRAP, &action_, NULL);
    counting = 1;
    start_stepping();
    free(hide(malloc(100)));
    stop_stepping();
    counting = 0;
    return nr_steps != 0;
}

static int run_case_with(void (*handler)(void), unsigned phase_, bool window)
{
    if (!set_up())
        return skip("no trap flag here");
    phase = phase_;
    return run_all(handler, window);
}

static int handler_is_balanced(void)
{
    return run_case_with(balanced, 0, false);
}

static int handler_is_unbalanced(void)
{
    return run_case_with(unbalanced, 1, true);
}

static int handler_frees_many(void)
{
    return run_case_with(free_many, 2, false);
}

static int handler_forks(void)
{
    return run_case_with(fork_here, 0, false);
}

static void *one_of_pair(void *steps)
{
    steps_left = (unsigned)(uintptr_t)steps;
    raise(SIGTRAP);
    struct block a = fill(3000), b = fill(100 * KIB), c = fill(3 * MIB);
    bool good = holds(&a) && holds(&b) && holds(&c);
    free(a.p);
    free(b.p);
    free(c.p);
    malloc_trim(0);
    if (steps_left != 0)
        fork_with_the_other(); // the operations were shorter
    return good ? steps : NULL;
}

static _Noreturn void run_pair(unsigned first, unsigned second)
{
    pthread_t thread[2];
    void *good[2];

    alarm(120);
    if (!show)
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    pairing = 1;
    op_size = 64;
    pthread_create(&thread[0], NULL, one_of_pair, (void *)(uintptr_t)first);
    pthread_create(&thread[1], NULL, one_of_pair, (void *)(uintptr_t)second);
    pthread_join(thread[0], &good[0]);
    pthread_join(thread[1], &good[1]);
    balanced();
    _exit(good[0] == NULL || good[1] == NULL);
}

static int two_handlers_fork(void)
{
    static const unsigned at[] = {90, 210, 333, 480, 700, 951, 1300, 1777, 2500};
    unsigned fine = visits_max > 1 ? 20 : 1;

    if (!set_up())
        return skip("no trap flag here");
    for (unsigned i = 0; i < COUNT(at); i++)
        for (unsigned k = i; k < COUNT(at); k++)
            for (unsigned d = 0; d < fine; d++) {
                pid_t child = fork();
                if (child == 0)
                    run_pair(at[i] + 7 * d, at[k] + 11 * i + 5 * d);
                int status = end_of(child);
                CHECK_MSG(status == 0, "%u and %u steps: status %#x", at[i] + 7 * d,
                          at[k] + 11 * i + 5 * d, (unsigned)status);
            }
    return PASS;
}

static const struct test_case cases[] = {
    {"a handler that allocates and frees, at every instruction", handler_is_balanced, 600},
    {"a handler that frees other blocks and keeps some, at every instruction", handler_is_unbalanced, 600},
    {"a handler that frees 300 blocks, at every instruction", handler_frees_many, 600},
    {"a handler that forks, at every instruction", handler_forks, 600},
    {"two handlers that fork at once", two_handlers_fork, 600},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, COUNT(cases));
}
