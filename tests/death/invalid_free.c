// SPDX-License-Identifier: MIT
#include "wild.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void wild(const struct death *self, uint64_t seed)
{
    _Alignas(16) char stack[64] = "";
    void *p = self->argument == WILD_STACK ? hide(stack) : wild_pointer(self->argument, self->size);

    (void)seed;
    about(p, NULL, 0);
    free_it(p);
}

static void free_stack(void *argument)
{
    _Alignas(16) char stack[64] = "";
    void *p = hide(stack);

    (void)argument;
    about(p, NULL, 0);
    free_it(p);
}

static void thread_stack(const struct death *self, uint64_t seed)
{
    (void)self, (void)seed;
    in_thread(free_stack, NULL);
}

// `argument` bytes into a live block.
static void interior(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p + self->argument, p, self->size);
    free_it(p + self->argument);
}

#define MANY_SLOTS 600

static bool is_among(void *const *blocks, size_t nr, const void *p)
{
    for (size_t i = 0; i < nr; i++)
        if (blocks[i] == p)
            return true;
    return false;
}

// The slot behind the youngest block: never handed out, or the tail of a slab. As many blocks as it takes to
// meet both; a few more where a slab without a tail ends and the first block of the next is live.
static void next_slot(const struct death *self, uint64_t seed)
{
    static void *blocks[2 * MANY_SLOTS];
    size_t nr = 1 + random_next(&seed) % MANY_SLOTS, i = 0, usable;
    char *p;

    do {
        if (i == COUNT(blocks))
            skip_case("each block is followed by a live one");
        p = blocks[i++] = take(self->size);
        usable = malloc_usable_size(p);
    } while (i < nr || is_among(blocks, i, p + usable));
    about(p + usable, NULL, 0);
    free_it(p + usable);
}

// Further on in a slab that is hardly used: nothing there was ever handed out.
static void slots_behind(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);
    size_t usable = malloc_usable_size(p);

    (void)seed;
    about(p + self->argument * usable, NULL, 0);
    free_it(p + self->argument * usable);
}

static void interior_middle(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p + self->size / 2, p, self->size);
    free_it(p + self->size / 2);
}

static void interior_last(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p + self->size - 16, p, self->size);
    free_it(p + self->size - 16);
}

static void interior_random(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);
    size_t at = 16 + random_next(&seed) % (self->size / 16 - 1) * 16;

    about(p + at, p, self->size);
    free_it(p + at);
}

static void interior_remote(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p + 16, p, self->size);
    in_thread(free_it, p + 16);
}

static void interior_aligned(const struct death *self, uint64_t seed)
{
    char *p = hide(aligned_alloc(self->argument, self->size));

    (void)seed;
    memset(p, 1, self->size);
    about(p + 16, p, self->size);
    free_it(p + 16);
}

static void interior_of_calloc(const struct death *self, uint64_t seed)
{
    char *p = hide(calloc(1, self->size));

    (void)seed;
    about(p + 32, p, self->size);
    free_it(p + 32);
}

static void interior_of_file(const struct death *self, uint64_t seed)
{
    char *p = (char *)fopen("/dev/null", "r");

    (void)self, (void)seed;
    about(p + 16, p, sizeof(FILE));
    free_it(p + 16);
}

static void before(const struct death *self, uint64_t seed)
{
    char *p = hide(aligned_alloc(self->argument, self->size));

    (void)seed;
    memset(p, 1, self->size);
    about(p - 16, NULL, 0);
    free_it(p - 16);
    free_it(p - 16); // where it was another live block, this is a double free
}

static void past_the_end(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);
    char *end = p + malloc_usable_size(p);

    (void)seed;
    about(end, NULL, 0);
    free_it(end);
    free_it(end);
}

static void freed_interior(const struct death *self, uint64_t seed)
{
    char *neighbour = take(self->size), *p = take(self->size);

    (void)seed;
    free_it(p);
    about(p + 16, NULL, 0);
    free_it(p + 16);
    free_it(neighbour);
}

// Where a page, a slab or a region begins: metadata if there is any, or another block; then the
// second free is wrong.
static void rounded_down(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);
    void *down = (void *)((uintptr_t)p & ~((uintptr_t)self->argument - 1));

    (void)seed;
    about(down, NULL, 0);
    free_it(down);
    free_it(down);
}

static bool writable_anonymous(const char *line, uintptr_t *start)
{
    uintptr_t end;
    unsigned long offset, inode;
    char mode[8], device[16], path[256] = "";

    if (sscanf(line, "%lx-%lx %7s %lx %15s %lu %255s", start, &end, mode, &offset, device, &inode,
               path) < 6)
        return false;
    return mode[1] == 'w' && inode == 0 && path[0] != '[';
}

// The first bytes of every anonymous mapping, each in a child: none may pass in silence, crash or
// hang.
static void start_of_every_mapping(const struct death *self, uint64_t seed)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned wrong = 0;
    uintptr_t start;

    (void)self, (void)seed;
    for (unsigned i = 0; i < 1000; i++)
        take(16 + i * 16);
    while (fgets(line, sizeof line, maps) != NULL) {
        int status = 0;
        if (!writable_anonymous(line, &start))
            continue;
        pid_t child = fork();
        if (child == 0) {
            alarm(5);
            free_it((void *)start);
            free_it((void *)start);
            _exit(0);
        }
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
            continue;
        wrong++;
        printf("free of %#lx ended with status %#x: %s", (unsigned long)start, (unsigned)status,
               line);
    }
    fflush(stdout);
    if (wrong == 0)
        abort();
}

static void by_name(const struct death *self, const char *name)
{
    void (*release)(void *) = function_named(name);
    char *p = take(self->size);

    about(p + 16, p, self->size);
    release(p + 16);
}

static void by_delete(const struct death *self, uint64_t seed)
{
    (void)seed;
    by_name(self, "_ZdlPv");
}

static void by_delete_array(const struct death *self, uint64_t seed)
{
    (void)seed;
    by_name(self, "_ZdaPv");
}

static void by_cfree(const struct death *self, uint64_t seed)
{
    (void)seed;
    by_name(self, "cfree");
}

static void by_hak_free(const struct death *self, uint64_t seed)
{
    (void)seed;
    by_name(self, "hak_free");
}

static void by_free_sized(const struct death *self, uint64_t seed)
{
    void (*free_sized)(void *, size_t) = function_named("free_sized");
    char *p = take(self->size);

    (void)seed;
    about(p + 16, p, self->size);
    free_sized(p + 16, self->size);
}

static void by_free_sized_wild(const struct death *self, uint64_t seed)
{
    void (*free_sized)(void *, size_t) = function_named("free_sized");
    void *p = wild_pointer(self->argument, 0);

    (void)seed;
    about(p, NULL, 0);
    free_sized(p, self->size);
}

static void by_sized_delete_wild(const struct death *self, uint64_t seed)
{
    void (*delete)(void *, size_t) = function_named("_ZdlPvm");
    void *p = wild_pointer(self->argument, 0);

    (void)seed;
    about(p, NULL, 0);
    delete (p, self->size);
}

#define SIZES_FROM_1K(text, fn, sentence_, argument_)                                              \
    {text " 1 KiB", fn, sentence_, KIB, argument_, 0},                                             \
        {text " 8 KiB", fn, sentence_, 8 * KIB, argument_, 0},                                     \
        {text " 64 KiB", fn, sentence_, 64 * KIB, argument_, 0},                                   \
        {text " 200 KiB", fn, sentence_, 200 * KIB, argument_, 0},                                 \
        {text " 1 MiB", fn, sentence_, MIB, argument_, 0},                                         \
        {text " 4 MiB", fn, sentence_, 4 * MIB, argument_, 0},                                     \
    {                                                                                              \
        text " 64 MiB", fn, sentence_, 64 * MIB, argument_, 0                                      \
    }
#define SIZES_FROM_16(text, fn, sentence_, argument_)                                              \
    {text " 16 B", fn, sentence_, 16, argument_, 0}, SIZES_FROM_1K(text, fn, sentence_, argument_)

static const struct death cases[] = {
    {"free of the stack", wild, FREE_UNKNOWN, 0, WILD_STACK, 0},
    {"free of a thread's stack", thread_stack, FREE_UNKNOWN, 0, 0, 0},
    {"free of a global", wild, FREE_UNKNOWN, 0, WILD_DATA, 0},
    {"free of a zeroed global", wild, FREE_UNKNOWN, 0, WILD_BSS, 0},
    {"free of a constant", wild, FREE_UNKNOWN, 0, WILD_CONSTANT, 0},
    {"free of code", wild, FREE_UNKNOWN, 0, WILD_CODE, 0},
    {"free of the library's code", wild, FREE_UNKNOWN, 0, WILD_LIBRARY_CODE, 0},
    {"free of the library's data", wild, FREE_UNKNOWN, 0, WILD_LIBRARY_DATA, 0},
    {"free of a thread-local", wild, FREE_UNKNOWN, 0, WILD_THREAD_LOCAL, 0},
    {"free of stdout", wild, FREE_UNKNOWN, 0, WILD_STDOUT, 0},
    {"free of the auxiliary vector", wild, FREE_UNKNOWN, 0, WILD_AUXILIARY, 0},
    {"free of the vdso", wild, FREE_UNKNOWN, 0, WILD_VDSO, 0},
    {"free of unmapped memory", wild, FREE_UNKNOWN, 0, WILD_UNMAPPED, 0},
    {"free of memory never mapped", wild, FREE_UNKNOWN, 0, WILD_NEVER_MAPPED, 0},
    {"free of the program's mapping", wild, FREE_UNKNOWN, 0, WILD_MAPPED, 0},
    {"free of the middle of the program's mapping", wild, FREE_UNKNOWN, 0, WILD_MAPPED_MIDDLE, 0},
    {"free of a mapping without access", wild, FREE_UNKNOWN, 0, WILD_NO_ACCESS, 0},
    {"free of a mapped file", wild, FREE_UNKNOWN, 0, WILD_FILE, 0},
    {"free of shared memory", wild, FREE_UNKNOWN, 0, WILD_SHARED, 0},
    {"free of the program break", wild, FREE_UNKNOWN, 0, WILD_BREAK, 0},
    {"free of NULL + 8", wild, FREE_MISALIGNED, 8, WILD_ADDRESS, 0},
    {"free of NULL + 16", wild, FREE_UNKNOWN, 16, WILD_ADDRESS, 0},
    {"free of NULL + 4096", wild, FREE_UNKNOWN, 4096, WILD_ADDRESS, 0},
    {"free of -1", wild, FREE_MISALIGNED, SIZE_MAX, WILD_ADDRESS, 0},
    {"free of -16", wild, FREE_UNKNOWN, SIZE_MAX - 15, WILD_ADDRESS, 0},
    {"free of 0xdeadbeefdeadbeef", wild, FREE_MISALIGNED, 0xdeadbeefdeadbeef, WILD_ADDRESS, 0},
    {"free of 0xdeadbeefdeadbee0", wild, FREE_UNKNOWN, 0xdeadbeefdeadbee0, WILD_ADDRESS, 0},
    {"free of the first non-canonical address", wild, FREE_UNKNOWN, 0x800000000000, WILD_ADDRESS,
     0},
    {"free of the last user page", wild, FREE_UNKNOWN, 0x7ffffffff000, WILD_ADDRESS, 0},
    {"free of the last user bytes", wild, FREE_UNKNOWN, 0x7ffffffffff0, WILD_ADDRESS, 0},
    {"free of a kernel address", wild, FREE_UNKNOWN, 0xffff800000000000, WILD_ADDRESS, 0},
    {"free of a 57-bit address", wild, FREE_UNKNOWN, 0x100000000000000, WILD_ADDRESS, 0},
    SIZES_FROM_16("free at +1 of", interior, FREE_MISALIGNED, 1),
    SIZES_FROM_16("free at +8 of", interior, FREE_MISALIGNED, 8),
    SIZES_FROM_1K("free at +16 of", interior, FREE_INTERIOR, 16),
    SIZES_FROM_1K("free in the middle of", interior_middle, FREE_INTERIOR, 0),
    SIZES_FROM_1K("free near the end of", interior_last, FREE_INTERIOR, 0),
    {"free somewhere in 48 B", interior_random, FREE_INTERIOR, 48, 0, 2},
    {"free somewhere in 112 B", interior_random, FREE_INTERIOR, 112, 0, 4},
    {"free of the slot behind, 16 B", next_slot, ANY_SENTENCE, 16, 0, 8},
    {"free of the slot behind, 48 B", next_slot, ANY_SENTENCE, 48, 0, 8},
    {"free of the slot behind, 112 B", next_slot, ANY_SENTENCE, 112, 0, 8},
    {"free of the slot behind, 1000 B", next_slot, ANY_SENTENCE, 1000, 0, 8},
    {"free of the slot behind, 2000 B", next_slot, ANY_SENTENCE, 2000, 0, 8},
    {"free of the slot behind, 2100 B", next_slot, ANY_SENTENCE, 2100, 0, 8},
    {"free of the slot behind, 3000 B", next_slot, ANY_SENTENCE, 3000, 0, 8},
    {"free of the slot behind, 5000 B", next_slot, ANY_SENTENCE, 5000, 0, 8},
    {"free of the slot behind, 10000 B", next_slot, ANY_SENTENCE, 10000, 0, 8},
    {"free of the slot behind, 20000 B", next_slot, ANY_SENTENCE, 20000, 0, 8},
    {"free of the slot behind, 40000 B", next_slot, ANY_SENTENCE, 40000, 0, 8},
    {"free of the slot behind, 64 KiB", next_slot, ANY_SENTENCE, 65536, 0, 8},
    {"free of the slot two behind, 16 B", slots_behind, ANY_SENTENCE, 16, 2, 1},
    {"free of the slot 30 behind, 48 B", slots_behind, ANY_SENTENCE, 48, 30, 1},
    {"free of the slot 7 behind, 200 B", slots_behind, ANY_SENTENCE, 200, 7, 1},
    {"free of the slot two behind, 16 KiB", slots_behind, ANY_SENTENCE, 16384, 2, 1},
    {"free of the slot 3 behind, 20000 B", slots_behind, ANY_SENTENCE, 20000, 3, 1},
    {"free of the slot 5 behind, 40000 B", slots_behind, ANY_SENTENCE, 40000, 5, 1},
    {"free somewhere in 1 KiB", interior_random, FREE_INTERIOR, KIB, 0, 4},
    {"free somewhere in 5000 B", interior_random, FREE_INTERIOR, 5000, 0, 4},
    {"free somewhere in 40 KiB", interior_random, FREE_INTERIOR, 40 * KIB, 0, 4},
    {"free somewhere in 300 KiB", interior_random, FREE_INTERIOR, 300 * KIB, 0, 4},
    {"free somewhere in 3 MiB", interior_random, FREE_INTERIOR, 3 * MIB, 0, 4},
    {"free somewhere in 100 MiB", interior_random, FREE_INTERIOR, 100 * MIB, 0, 4},
    {"free at +16 in a thread, 1 KiB", interior_remote, FREE_INTERIOR, KIB, 0, 0},
    {"free at +16 in a thread, 200 KiB", interior_remote, FREE_INTERIOR, 200 * KIB, 0, 0},
    {"free at +16 in a thread, 4 MiB", interior_remote, FREE_INTERIOR, 4 * MIB, 0, 0},
    {"free at +16 of aligned 64", interior_aligned, FREE_INTERIOR, 200, 64, 0},
    {"free at +16 of aligned 4096", interior_aligned, FREE_INTERIOR, 200, 4096, 0},
    {"free at +16 of aligned 65536", interior_aligned, FREE_INTERIOR, 200 * KIB, 65536, 0},
    {"free at +16 of aligned 2 MiB", interior_aligned, FREE_INTERIOR, 4 * MIB, 2 * MIB, 0},
    {"free at +32 of calloc's", interior_of_calloc, FREE_INTERIOR, 500, 0, 0},
    {"free at +32 of calloc's, 1 MiB", interior_of_calloc, FREE_INTERIOR, MIB, 0, 0},
    {"free inside a FILE", interior_of_file, FREE_INTERIOR, 0, 0, 0},
    {"free before aligned 4096", before, ANY_SENTENCE, 200, 4096, 0},
    {"free before aligned 2 MiB", before, ANY_SENTENCE, 4 * MIB, 2 * MIB, 0},
    SIZES_FROM_16("free past the end of", past_the_end, ANY_SENTENCE, 0),
    SIZES_FROM_1K("free inside a freed", freed_interior, ANY_SENTENCE, 0),
    {"free of the start of the page", rounded_down, ANY_SENTENCE, 16, 4096, 0},
    {"free of the start of the page, 1 KiB", rounded_down, ANY_SENTENCE, KIB, 4096, 0},
    {"free of the start of 64 KiB", rounded_down, ANY_SENTENCE, 16, 65536, 0},
    {"free of the start of 64 KiB, 8 KiB", rounded_down, ANY_SENTENCE, 8 * KIB, 65536, 0},
    {"free of the start of 2 MiB", rounded_down, ANY_SENTENCE, 16, 2 << 20, 0},
    {"free of the start of 2 MiB, 200 KiB", rounded_down, ANY_SENTENCE, 200 * KIB, 2 << 20, 0},
    {"free of the start of every mapping", start_of_every_mapping, ABORT_WITHOUT_TEXT, 0, 0, 0},
    {"delete of an interior pointer", by_delete, FREE_INTERIOR, 1000, 0, 0},
    {"delete[] of an interior pointer", by_delete_array, FREE_INTERIOR, 1000, 0, 0},
    {"cfree of an interior pointer", by_cfree, FREE_INTERIOR, 1000, 0, 0},
    {"hak_free of an interior pointer", by_hak_free, FREE_INTERIOR, 1000, 0, 0},
    {"free_sized of an interior pointer", by_free_sized, FREE_INTERIOR, 1000, 0, 0},
    {"free_sized of a global", by_free_sized_wild, FREE_UNKNOWN, 100, WILD_DATA, 0},
    {"free_sized of the program's mapping", by_free_sized_wild, FREE_UNKNOWN, 100, WILD_MAPPED, 0},
    {"sized delete of a global", by_sized_delete_wild, FREE_UNKNOWN, 100, WILD_DATA, 0},
};

const struct suite invalid_free_suite = {cases, COUNT(cases)};
