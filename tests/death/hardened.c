// SPDX-License-Identifier: MIT
//
// What guarded blocks and secure mode say, word for word: each case misuses the heap under options of its own, in a
// process of its own, and says before on stdout what it is about. `hardened "NAME"` runs one here.
#include "../integration/harness.h"

#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define DENSE        "guard:report,guard_rate:1"
#define DENSE_QUIET  "guard:on,guard_rate:1"
#define SKIPPED      77
#define PAGE         ((size_t)sysconf(_SC_PAGESIZE))

// `expected` is the whole of stderr: %P the pointer, %B the block, %S its size, as the case said them; %A any
// address, %F one within malloc_here, %T a thread, %D any number.
struct hardened {
    const char *name, *options, *expected;
    int signal; // 0: exit status 0
    void (*run)(size_t size);
    size_t size;
};

// ---- for the cases -----------------------------------------------------------------------------

static void about(const volatile void *pointer, const volatile void *block, size_t size)
{
    printf("%zu %zu %zu\n", (size_t)pointer, (size_t)block, size);
    fflush(stdout);
}

// A place with a name: within the first bytes lies the return address of its malloc. Every fourth guarded block lies at
// the start of its page; most cases are about the others.
static bool wants_start;
__attribute__((noinline)) static char *malloc_here(size_t size)
{
    char *p = hide(malloc(size));

    for (int i = 0; i < 8 && size % PAGE != 0 && ((size_t)p % PAGE == 0) != wants_start; i++)
        p = hide(malloc(size));
    return p;
}

static void poke(char *p)
{
    *(volatile char *)hide(p) = 0x41;
}

static void done_with(char *p)
{
    free(hide(p));
}

// ---- guarded blocks ----------------------------------------------------------------------------

// The bytes that alignment leaves behind the block lie in its page.
static void overflow(size_t size)
{
    char *p = malloc_here(size), *end = p + size + (-size & 15);

    about(end, p, size);
    poke(end);
}

// What may be used ends where the page behind a big block begins, if the kernel has such pages.
static void overflow_of_a_big_block(size_t size)
{
    char *p = malloc_here(size), *end = p + malloc_usable_size(p);
    void *probe = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    end[-1] = 1;
    if (probe == MAP_FAILED || madvise(probe, 4096, 102 /* MADV_GUARD_INSTALL */) != 0)
        _exit(SKIPPED);
    about(end, p, (size_t)(end - p));
    poke(end);
}

static void overflow_of_a_grown_block(size_t size)
{
    void *small = malloc_here(size / 3), *grown = realloc(small, size);

    done_with(grown);
    overflow_of_a_big_block(size);
}

static void overflow_by_one(size_t size)
{
    char *p = malloc_here(size);

    about(p + size, p, size);
    poke(p + size);
    done_with(p);
}

static void underflow(size_t size)
{
    char *p = malloc_here(size), *page = p - (size_t)p % PAGE;

    about(page - 1, p, size);
    poke(page - 1);
}

static void underflow_by_one(size_t size)
{
    char *p = malloc_here(size);

    about(p - 1, p, size);
    poke(p - 1);
    done_with(p);
}

static void underflow_at_the_start(size_t size)
{
    wants_start = true;
    underflow(size);
}

static void use_after_free(size_t size)
{
    char *p = malloc_here(size);

    done_with(p);
    about(p + 5, p, size);
    poke(p + 5);
}

static void *free_in_thread(void *p)
{
    free(p);
    return NULL;
}

static void use_after_free_by_another(size_t size)
{
    char *p = malloc_here(size);
    pthread_t thread;

    if (pthread_create(&thread, NULL, free_in_thread, p) != 0)
        exit(SKIP);
    pthread_join(thread, NULL);
    about(p, p, size);
    poke(p);
}

// It rests while others come and go.
static void late_use_after_free(size_t size)
{
    char *p = malloc_here(size);

    done_with(p);
    for (int i = 0; i < 20; i++)
        done_with(malloc_here(size));
    about(p, p, size);
    poke(p);
}

static void double_free(size_t size)
{
    char *p = malloc_here(size);

    about(p, p, size);
    done_with(p);
    done_with(p);
}

static void interior_free(size_t size)
{
    char *p = malloc_here(size);

    about(p + 16, p, size);
    done_with(p + 16);
}

static void free_of_nothing(size_t size)
{
    char *p = malloc_here(size), *page = p - (size_t)p % PAGE;

    about(page, p, size);
    done_with(page);
}

static void free_of_a_forbidden_page(size_t size)
{
    char *p = malloc_here(size), *page = p - (size_t)p % PAGE;

    about(page + PAGE, p, size);
    done_with(page + PAGE);
}

static void realloc_of_freed(size_t size)
{
    char *p = malloc_here(size);

    about(p, p, size);
    done_with(p);
    done_with(hide(realloc(hide(p), size * 2)));
}

static void fault_elsewhere(size_t size)
{
    (void)malloc_here(size);
    poke((char *)16);
}

static void sent_signal(size_t size)
{
    (void)malloc_here(size);
    kill(getpid(), SIGSEGV);
}

static void exit_quietly(int number)
{
    (void)number;
    _exit(0);
}

// The program's own handler is the one that counts, whenever it comes.
static void own_handler(size_t size)
{
    char *p = malloc_here(size);

    signal(SIGSEGV, exit_quietly);
    done_with(p);
    poke(p);
}

// Blocks of all sizes, used for what they may be.
static void correct_use(size_t size)
{
    for (size_t n = 1; n <= size; n++) {
        char *p = hide(calloc(1, n)), *moved;
        for (size_t i = 0; i < n; i++)
            if (p[i] != 0)
                abort();
        memset(p, 0x5a, n);
        moved = hide(realloc(p, n * 3));
        for (size_t i = 0; i < n; i++)
            if (moved[i] != 0x5a)
                abort();
        memset(moved, 0x5b, n * 3);
        moved = hide(realloc(moved, n));
        for (size_t i = 0; i < n; i++)
            if (moved[i] != 0x5b)
                abort();
        free(moved);
    }
}

static void in_a_child(size_t size)
{
    char *p = malloc_here(size);
    int status;
    pid_t child = fork();

    if (child == 0) {
        about(p, p, size);
        done_with(p);
        poke(p);
        _exit(0);
    }
    waitpid(child, &status, 0);
    memset(p, 1, size); // still ours
    done_with(p);
    raise(WTERMSIG(status));
}

#define AT       ", allocated at %F by thread %T"
#define AT_FREED AT ", freed at %A by thread %T\n"

static const struct hardened guard_cases[] = {
    {"guard: overflow", DENSE, "hakmem: heap overflow: address %P, 12 bytes behind block %B, size %S" AT "\n", SIGSEGV,
     overflow, 100},
    {"guard: overflow, nothing is said unasked", DENSE_QUIET, "", SIGSEGV, overflow, 100},
    {"guard: overflow of a whole page", DENSE, "hakmem: heap overflow: address %P, 0 bytes behind block %B, size %S" AT "\n",
     SIGSEGV, overflow, 4096},
    {"guard: behind a big block", "guard:report",
     "hakmem: heap overflow: address %P, 0 bytes behind block %B, usable size %S, allocated at %F\n", SIGSEGV,
     overflow_of_a_big_block, 3000000},
    {"guard: behind a huge block, nothing is said unasked", "mode:minimal", "", SIGSEGV, overflow_of_a_big_block, 50000000},
    {"guard: behind a block in the place of a grown one", "mode:fast", "", SIGSEGV, overflow_of_a_grown_block, 5000000},
    {"guard: behind a big block, off", "big_guard:off", "", 0, overflow_of_a_big_block, 3000000},
    {"guard: overflow by one", DENSE_QUIET,
     "hakmem: heap overflow, found at free: pointer %P, block %B, size %S, owner thread %T, called from %A, allocated at %F\n",
     SIGABRT, overflow_by_one, 100},
    {"guard: underflow", DENSE, "hakmem: heap underflow: address %P, %D bytes before block %B, size %S" AT "\n", SIGSEGV,
     underflow, 100},
    {"guard: underflow by one", DENSE_QUIET,
     "hakmem: heap underflow, found at free: pointer %P, block %B, size %S, owner thread %T, called from %A, allocated at %F\n",
     SIGABRT, underflow_by_one, 100},
    {"guard: underflow of a block at its page's start", DENSE,
     "hakmem: heap underflow: address %P, 1 bytes before block %B, size %S" AT "\n", SIGSEGV, underflow_at_the_start, 100},
    {"guard: use after free", DENSE, "hakmem: use after free: address %P, 5 bytes into block %B, size %S" AT_FREED, SIGSEGV,
     use_after_free, 100},
    {"guard: use after free by another thread", DENSE,
     "hakmem: use after free: address %P, 0 bytes into block %B, size %S" AT_FREED, SIGSEGV, use_after_free_by_another, 100},
    {"guard: late use after free", DENSE, "hakmem: use after free: address %P, 0 bytes into block %B, size %S" AT_FREED,
     SIGSEGV, late_use_after_free, 100},
    {"guard: use after free in a child", DENSE, "hakmem: use after free: address %P, 0 bytes into block %B, size %S" AT_FREED,
     SIGSEGV, in_a_child, 100},
    {"guard: double free", DENSE_QUIET,
     "hakmem: double free: pointer %P, block %B, size %S, owner thread %T, called from %A, allocated at %F, freed at %A by "
     "thread %T\n",
     SIGABRT, double_free, 100},
    {"guard: interior free", DENSE_QUIET,
     "hakmem: invalid free: interior pointer: pointer %P, block %B, size %S, owner thread %T, called from %A, allocated at "
     "%F\n",
     SIGABRT, interior_free, 100},
    {"guard: free of nothing", DENSE_QUIET, "hakmem: invalid free: unknown pointer: pointer %P, called from %A\n", SIGABRT,
     free_of_nothing, 100},
    {"guard: free of a forbidden page", DENSE_QUIET, "hakmem: invalid free: unknown pointer: pointer %P, called from %A\n",
     SIGABRT, free_of_a_forbidden_page, 100},
    {"guard: realloc of a freed block", DENSE_QUIET,
     "hakmem: invalid realloc: freed pointer: pointer %P, block %B, size %S, owner thread %T, called from %A, allocated at "
     "%F, freed at %A by thread %T\n",
     SIGABRT, realloc_of_freed, 100},
    {"guard: a fault elsewhere", DENSE, "", SIGSEGV, fault_elsewhere, 100},
    {"guard: a signal that was sent", DENSE, "", SIGSEGV, sent_signal, 100},
    {"guard: the program's own handler", DENSE, "", 0, own_handler, 100},
    {"guard: correct use", DENSE, "", 0, correct_use, 2000},
    {"guard: off", "guard:off,guard_rate:1", "", 0, overflow, 100},
    {"guard: off in mode minimal", "mode:minimal,guard_rate:1", "", 0, overflow, 100},
    {"guard: off in mode fast", "mode:fast,guard_rate:1", "", 0, overflow, 100},
    {"guard: on in mode learning", "mode:learning,guard_rate:1", "", SIGSEGV, overflow, 100},
};

// ---- secure mode -------------------------------------------------------------------------------

// The operators by name, so that the compiler knows nothing of them.
static void *operator(const char *name)
{
    void *function = dlsym(RTLD_DEFAULT, name);

    if (function == NULL)
        exit(SKIP);
    return function;
}

static char *new_block(const char *name, size_t size)
{
    void *(*new)(size_t);

    *(void **)&new = operator(name);
    return hide(new(size));
}

static void give_to(const char *name, void *p, size_t size)
{
    void (*delete)(void *, size_t); // one that takes no size leaves it alone

    *(void **)&delete = operator(name);
    about(p, p, size);
    delete(p, size);
}

static void malloc_to_delete(size_t size)
{
    give_to("_ZdlPv", malloc_here(size), size);
}

static void new_to_free(size_t size)
{
    char *p = new_block("_Znwm", size);

    about(p, p, size);
    done_with(p);
}

static void new_to_delete_array(size_t size)
{
    give_to("_ZdaPv", new_block("_Znwm", size), size);
}

static void new_array_to_delete(size_t size)
{
    give_to("_ZdlPv", new_block("_Znam", size), size);
}

static void new_to_realloc(size_t size)
{
    char *p = new_block("_Znwm", size);

    about(p, p, size);
    done_with(hide(realloc(p, 2 * size)));
}

static void sized_delete_says_less(size_t size)
{
    char *p = new_block("_Znwm", size);

    about(p, p, size);
    void (*delete)(void *, size_t);
    *(void **)&delete = operator("_ZdlPvm");
    delete(p, size - 1);
}

static void matching_operators(size_t size)
{
    give_to("_ZdlPv", new_block("_Znwm", size), size);
    give_to("_ZdaPv", new_block("_Znam", size), size);
    give_to("_ZdlPvm", new_block("_Znwm", size), size);
    give_to("_ZdaPvm", new_block("_Znam", size), size);
}

// Neighbours that two threads delete at the same time: each looks at the trailer of the block before. On a busy
// machine the threads wait for their turns, and there are fewer rounds.
enum { NR_PAIRS = 32, NR_ROUNDS = 30000, MAX_SECONDS = 5 };
static const unsigned no_more_rounds = UINT_MAX;
static char *neighbour[2 * NR_PAIRS];
static unsigned rounds_begun, rounds_done;

static void *delete_odd_ones(void *delete_by_name)
{
    void (*delete)(void *);

    *(void **)&delete = delete_by_name;
    for (unsigned round = 1, begun; true; round++) {
        while ((begun = __atomic_load_n(&rounds_begun, __ATOMIC_ACQUIRE)) < round)
            sched_yield();
        if (begun == no_more_rounds)
            return NULL;
        for (int i = 1; i < 2 * NR_PAIRS; i += 2)
            delete(neighbour[i]);
        __atomic_store_n(&rounds_done, round, __ATOMIC_RELEASE);
    }
}

static void neighbours_of_two_threads(size_t size)
{
    void *(*new)(size_t);
    void (*delete)(void *);
    time_t begun = time(NULL);
    pthread_t thread;

    *(void **)&new = operator("_Znwm");
    *(void **)&delete = operator("_ZdlPv");
    if (pthread_create(&thread, NULL, delete_odd_ones, operator("_ZdlPv")) != 0)
        exit(SKIP);
    for (unsigned round = 1; round <= NR_ROUNDS && time(NULL) <= begun + MAX_SECONDS; round++) {
        for (int i = 0; i < 2 * NR_PAIRS; i++)
            neighbour[i] = hide(new(size));
        __atomic_store_n(&rounds_begun, round, __ATOMIC_RELEASE);
        for (int i = 0; i < 2 * NR_PAIRS; i += 2) {
            delete(neighbour[i]);
            delete(hide(new(size)));
        }
        while (__atomic_load_n(&rounds_done, __ATOMIC_ACQUIRE) < round)
            sched_yield();
    }
    __atomic_store_n(&rounds_begun, no_more_rounds, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
}

// In place, or to nothing: the size last asked for is the one to say.
static void sizes_after_realloc(size_t size)
{
    int (*expand)(void *, size_t);
    void (*free_sized)(void *, size_t);
    char *p = malloc_here(size);

    *(void **)&expand = operator("hak_expand");
    *(void **)&free_sized = operator("free_sized");
    free_sized(p, expand(p, size - 10) ? size - 10 : size);
    free_sized(hide(realloc(malloc_here(size), 0)), 0); // option realloc0
}

static void write_after_free(size_t size)
{
    char *p = malloc_here(size);

    done_with(p);
    about(p + 20, p, size);
    poke(p + 20);
    for (int i = 0; i < 2000; i++)
        done_with(malloc_here(size));
}

static void write_after_free_at_exit(size_t size)
{
    char *p = malloc_here(size);

    done_with(p);
    about(p + 20, p, size);
    poke(p + 20);
}

// Two neighbours in a slab: the second's predecessor is the first.
static void write_before(size_t size)
{
    char *p[200];
    size_t i = 0;

    for (; i < COUNT(p); i++)
        p[i] = malloc_here(size);
    for (i = 0; (size_t)p[i] % 16384 < 4096; i++) // not the first of its slab
        ;
    about(p[i] - 16, p[i], size);
    poke(p[i] - 1);
    done_with(p[i]);
}

static void write_behind(size_t size)
{
    char *p = malloc_here(size);

    about(p + size, p, size);
    p[size] = 0; // a string's end
    done_with(p);
}

static void write_behind_then_realloc(size_t size)
{
    char *p = malloc_here(size);

    about(p + size, p, size);
    poke(p + size);
    done_with(hide(realloc(p, 2 * size)));
}

static void write_far_behind(size_t size)
{
    char *p = malloc_here(size), *page = p + size + 8192;

    for (page = p + size; page < p + size + 65536; page += 64)
        poke(page);
    about(p, p, size);
    done_with(p);
}

static void write_to_nothing(size_t size)
{
    poke(malloc_here(size));
}

static void double_free_late(size_t size)
{
    char *p = malloc_here(size);

    about(p, p, size);
    done_with(p);
    for (int i = 0; i < 300; i++)
        done_with(malloc_here(size));
    done_with(p);
}

static void is_zeroed(size_t size)
{
    volatile char *p = malloc_here(size);

    memset(hide(p), 0x5a, size);
    done_with(hide(p));
    for (size_t i = 0; i < size; i++)
        if (((volatile char *)hide(p))[i] != 0)
            abort();
}

// Blocks that are never freed: what is wrong is seen when the next one is asked for, and nothing comes after that.
static void ask_for_another(void)
{
    malloc_here(40);
    _exit(0);
}

static void keep_stdio_from_asking(void)
{
    static char buffer[BUFSIZ];

    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
}

static void write_behind_and_keep(size_t size)
{
    char *p;

    keep_stdio_from_asking();
    p = malloc_here(size);
    about(p + size, p, size);
    p[size] = 0;
    ask_for_another();
}

static void write_before_and_keep(size_t size)
{
    char *p;

    keep_stdio_from_asking();
    p = malloc_here(size);
    about(p - 16, p, size);
    poke(p - 1);
    ask_for_another();
}

static void write_well_before(size_t size)
{
    char *p = malloc_here(size);

    about(p - 32, p, size);
    poke(p - 32);
    done_with(p);
}

static void write_soon_after_free(size_t size)
{
    char *p = malloc_here(size);

    about(p + 20, p, size);
    done_with(p);
    poke(p + 20);
    ask_for_another();
}

static void write_after_free_and_leave(size_t size)
{
    char *p = malloc_here(size);

    about(p + 20, p, size);
    done_with(p);
    done_with(malloc_here(100)); // looked at once, and well
    poke(p + 20);
    for (int i = 0; i < 4; i++)
        done_with(malloc_here(size));
    _exit(0);
}

#define SECURE   "secure:on,seed:11" // this seed's first guarded block comes after 3 MiB
#define TAIL     "pointer %P, block %B, size %S, owner thread %T, called from %A\n"
#define BIG_TAIL "pointer %P, block %B, size %S, called from %A\n"

// ---- every mode --------------------------------------------------------------------------------

// A slot of a page that nothing of this process touched; the next class to get its first slab finds it.
static void free_of_a_far_slot(size_t size)
{
    char *p = malloc_here(size), *q = p + 170 * size;

    about(q, NULL, 0);
    done_with(q);
    malloc_here(700);
    malloc_here(900);
}

static void nothing_is_of_no_size(size_t size)
{
    char *p = malloc_here(size), *q = malloc_here(size);

    if (p == q || malloc_usable_size(p) != 0)
        abort();
    q = hide(realloc(q, 50));
    memset(q, 1, 50);
    done_with(p);
    done_with(q);
}

static const struct hardened default_cases[] = {
    {"default: free of a slot that was never out", "", "hakmem: invalid free: unknown pointer, found later: pointer %P, owner thread %T\n",
     SIGABRT, free_of_a_far_slot, 48},
    {"default: write to a block of no size", "", "", SIGSEGV, write_to_nothing, 0},
    {"default: write to a block of no size, allowed", "empty_guard:off", "", 0, write_to_nothing, 0},
    {"default: a block of no size", "", "", 0, nothing_is_of_no_size, 0},
    {"default: double free of no size", "", "hakmem: double free: " BIG_TAIL, SIGABRT, double_free, 0},
};

static const struct hardened secure_cases[] = {
    {"secure: malloc to delete", SECURE, "hakmem: mismatched free: block of malloc given to delete: " TAIL, SIGABRT,
     malloc_to_delete, 100},
    {"secure: new to free", SECURE, "hakmem: mismatched free: block of new given to free: " TAIL, SIGABRT, new_to_free, 100},
    {"secure: new to delete[]", SECURE, "hakmem: mismatched free: block of new given to delete[]: " TAIL, SIGABRT,
     new_to_delete_array, 100},
    {"secure: new[] to delete", SECURE, "hakmem: mismatched free: block of new[] given to delete: " TAIL, SIGABRT,
     new_array_to_delete, 100},
    {"secure: new to realloc", SECURE, "hakmem: mismatched free: block of new given to free: " TAIL, SIGABRT, new_to_realloc,
     100},
    {"secure: guarded new to free", "secure:on,guard_rate:1",
     "hakmem: mismatched free: block of new given to free: " TAIL, SIGABRT, new_to_free, 100},
    {"secure: sized delete says less", SECURE, "hakmem: mismatched free: size 99 said: " TAIL, SIGABRT,
     sized_delete_says_less, 100},
    {"secure: matching operators", SECURE, "", 0, matching_operators, 100},
    {"secure: matching operators, guarded", "secure:on,guard_rate:1", "", 0, matching_operators, 100},
    {"secure: neighbours that two threads delete", SECURE, "", 0, neighbours_of_two_threads, 100},
    {"secure: sizes after realloc", SECURE ",realloc0:alloc", "", 0, sizes_after_realloc, 100},
    {"secure: sizes after realloc, guarded", "secure:on,guard_rate:1,realloc0:alloc", "", 0, sizes_after_realloc, 100},
    {"secure: write after free", SECURE, "hakmem: write after free: " TAIL, SIGABRT, write_after_free, 100},
    {"secure: write after free, at exit", SECURE, "hakmem: write after free: pointer %P, block %B, size %S, owner thread %T\n", SIGABRT,
     write_after_free_at_exit, 100},
    {"secure: write before a block", SECURE, "hakmem: heap underflow, or overflow of the block before: " TAIL, SIGABRT,
     write_before, 100},
    {"secure: a zero behind a block", SECURE, "hakmem: heap overflow: " TAIL, SIGABRT, write_behind, 100},
    {"secure: a zero behind a block, 200 KiB", SECURE, "hakmem: heap overflow: " BIG_TAIL, SIGABRT, write_behind, 200000},
    {"secure: a write behind a block, then realloc", SECURE, "hakmem: heap overflow: " TAIL, SIGABRT,
     write_behind_then_realloc, 100},
    {"secure: writes far behind, 5 MiB", SECURE, "", SIGSEGV, write_far_behind, 5 << 20},
    {"secure: write to a block of no size", SECURE, "", SIGSEGV, write_to_nothing, 0},
    {"secure: double free", SECURE, "hakmem: double free: " TAIL, SIGABRT, double_free, 100},
    {"secure: late double free", SECURE, "hakmem: double free: " TAIL, SIGABRT, double_free_late, 100},
    {"secure: double free of no size", SECURE, "hakmem: double free: " BIG_TAIL, SIGABRT, double_free, 0},
    {"secure: realloc of a freed block", SECURE, "hakmem: invalid realloc: freed pointer: " TAIL, SIGABRT, realloc_of_freed,
     100},
    {"secure: freed is zeroed", SECURE, "", 0, is_zeroed, 1000},
    {"secure: correct use", SECURE, "", 0, correct_use, 2000},
    {"secure: a zero behind a block that is kept", SECURE, "hakmem: heap overflow: " TAIL, SIGABRT, write_behind_and_keep, 100},
    {"secure: a zero behind a block that is kept, 200 KiB", SECURE, "hakmem: heap overflow: " BIG_TAIL, SIGABRT,
     write_behind_and_keep, 200000},
    {"secure: a write before a block that is kept", SECURE, "hakmem: heap underflow, or overflow of the block before: " TAIL,
     SIGABRT, write_before_and_keep, 100},
    {"secure: a write well before a slab's first block", SECURE,
     "hakmem: heap underflow, or overflow of the block before: " TAIL, SIGABRT, write_well_before, 8000},
    {"secure: a write well before a block, 200 KiB", SECURE,
     "hakmem: heap underflow, or overflow of the block before: " BIG_TAIL, SIGABRT, write_well_before, 200000},
    {"secure: a write soon after free", SECURE, "hakmem: write after free: " TAIL, SIGABRT, write_soon_after_free, 100},
    {"secure: a write soon after free, 200 KiB", SECURE, "hakmem: write after free: " BIG_TAIL, SIGABRT, write_soon_after_free,
     200000},
    {"secure: a write after free, 200 KiB", SECURE, "hakmem: write after free: " BIG_TAIL, SIGABRT, write_after_free_and_leave,
     200000},
    {"secure: in mode minimal", "mode:minimal," SECURE, "hakmem: heap overflow: " TAIL, SIGABRT, write_behind, 100},
    {"secure: off", "secure:off,guard:off", "", 0, write_behind, 100},
};

static const struct {
    const struct hardened *cases;
    size_t count;
} suites[] = {{guard_cases, COUNT(guard_cases)}, {default_cases, COUNT(default_cases)}, {secure_cases, COUNT(secure_cases)}};

// ---- the driver --------------------------------------------------------------------------------

struct facts {
    size_t pointer, block, size;
};

static bool take_number(const char **text, int base, size_t *value)
{
    char *end;

    *value = strtoull(*text, &end, base);
    if (end == *text || (base == 16 && strncmp(*text, "0x", 2) != 0))
        return false;
    *text = end;
    return true;
}

static bool placeholder(char kind, const char **text, const struct facts *facts)
{
    bool address = kind == 'P' || kind == 'B' || kind == 'A' || kind == 'F';
    size_t value, here;

    if (!take_number(text, address ? 16 : 10, &value))
        return false;
    switch (kind) {
    case 'P':
        return value == facts->pointer;
    case 'B':
        return value == facts->block;
    case 'S':
        return value == facts->size;
    case 'F': // the child is this program, elsewhere: the same place in its page
        here = (size_t)(uintptr_t)malloc_here;
        return ((value - here) & 4095) < 160;
    default:
        return value != 0;
    }
}

static bool matches(const char *text, const char *expected, const struct facts *facts)
{
    for (; *expected; expected++) {
        if (*expected == '%') {
            if (!placeholder(*++expected, &text, facts))
                return false;
        } else if (*text++ != *expected) {
            return false;
        }
    }
    return *text == '\0';
}

static bool ended_well(const struct hardened *c, const struct run *run)
{
    if (run->timed_out)
        return false;
    if (c->signal == 0)
        return WIFEXITED(run->status) && WEXITSTATUS(run->status) == 0;
    return WIFSIGNALED(run->status) && WTERMSIG(run->status) == c->signal;
}

static bool run_case(const struct hardened *c, const char *program, unsigned number)
{
    static struct run run;
    const char *argv[] = {program, c->name, NULL};
    struct facts facts = {0, 0, 0};

    setenv("HAKMEM_OPTIONS", c->options, 1);
    run.argv = argv;
    run.timeout_s = 20;
    run_program(&run);
    sscanf(run.out, "%zu %zu %zu", &facts.pointer, &facts.block, &facts.size);
    if (WIFEXITED(run.status) && WEXITSTATUS(run.status) == SKIPPED) {
        printf("ok %u - %s # SKIP not to be had here\n", number, c->name);
        return true;
    }
    bool good = ended_well(c, &run) && matches(run.err, c->expected, &facts);
    printf("%sok %u - %s\n", good ? "" : "not ", number, c->name);
    if (!good)
        printf("# pointer %#zx block %#zx size %zu, status %#x, expected signal %d and %s# actual %s\n", facts.pointer,
               facts.block, facts.size, (unsigned)run.status, c->signal, c->expected, run.err);
    return good;
}

int main(int argc, char **argv)
{
    struct rlimit no_core = {0, 0};
    unsigned number = 0, failures = 0;

    harness_preload(argv);
    setrlimit(RLIMIT_CORE, &no_core);
    for (size_t s = 0; s < COUNT(suites); s++)
        for (size_t i = 0; i < suites[s].count; i++) {
            const struct hardened *c = &suites[s].cases[i];
            if (argc < 2)
                failures += !run_case(c, argv[0], ++number);
            else if (strcmp(argv[1], c->name) == 0)
                c->run(c->size);
        }
    if (argc < 2)
        printf("1..%u\n", number);
    return failures != 0;
}
