// SPDX-License-Identifier: MIT
#include "wild.h"

#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

static void wild(const struct death *self, uint64_t seed)
{
    _Alignas(16) char stack[64] = "";
    void *p = self->argument == WILD_STACK ? hide(stack) : wild_pointer(self->argument, self->size);

    (void)seed;
    about(p, NULL, 0);
    hide(realloc(p, 100));
}

static void freed_grown(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    free_it(p);
    about(p, p, self->size);
    hide(realloc(hide(p), self->size * 2));
}

// A size that would fit where the block is: the shortest path must look too.
static void freed_same(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    free_it(p);
    about(p, p, self->size);
    hide(realloc(hide(p), self->size));
}

static void freed_shrunk(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    free_it(p);
    about(p, p, self->size);
    hide(realloc(hide(p), self->size / 2));
}

static void freed_to_zero(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    free_it(p);
    about(p, p, self->size);
    hide(realloc(hide(p), 0));
}

static void freed_remotely(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    in_thread(free_it, p);
    about(p, p, self->size);
    hide(realloc(hide(p), self->size * 2));
}

static void freed_array(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    free_it(p);
    about(p, p, self->size);
    hide(reallocarray(hide(p), 2, self->size));
}

static void interior(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p + self->argument, p, self->size);
    hide(realloc(hide(p + self->argument), self->size * 2));
}

static void interior_shrunk(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p + self->argument, p, self->size);
    hide(realloc(hide(p + self->argument), 10));
}

static void interior_middle(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p + self->size / 2, p, self->size);
    hide(realloc(hide(p + self->size / 2), self->size));
}

static void usable_size(void *p)
{
    volatile size_t size = malloc_usable_size(hide(p));

    (void)size;
    _exit(0);
}

static void usable_wild(const struct death *self, uint64_t seed)
{
    void *p = wild_pointer(self->argument, self->size);

    (void)seed;
    about(p, NULL, 0);
    usable_size(p);
}

static void usable_interior(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p + self->argument, p, self->size);
    usable_size(p + self->argument);
}

static void usable_freed(const struct death *self, uint64_t seed)
{
    void *p = take(self->size);

    (void)seed;
    free_it(p);
    about(p, p, self->size);
    usable_size(p);
}

static const struct death cases[] = {
    SIZES_UP_TO_64K("realloc of a freed block,", freed_grown, REALLOC_FREED, 0, 0),
    SIZES_BIG("realloc of a freed block,", freed_grown, REALLOC_FREED, REALLOC_FREED_OR_UNKNOWN, 0,
              0),
    SIZES_UP_TO_64K("realloc of a freed block to its own size,", freed_same, REALLOC_FREED, 0, 0),
    SIZES_BIG("realloc of a freed block to its own size,", freed_same, REALLOC_FREED,
              REALLOC_FREED_OR_UNKNOWN, 0, 0),
    SIZES_UP_TO_64K("realloc of a freed block to its half,", freed_shrunk, REALLOC_FREED, 0, 0),
    SIZES_BIG("realloc of a freed block to its half,", freed_shrunk, REALLOC_FREED,
              REALLOC_FREED_OR_UNKNOWN, 0, 0),
    SIZES_UP_TO_64K("realloc of a freed block to zero,", freed_to_zero, ANY_SENTENCE, 0, 0),
    SIZES_BIG("realloc of a freed block to zero,", freed_to_zero, ANY_SENTENCE, ANY_SENTENCE, 0, 0),
    SIZES_UP_TO_64K("realloc of a block freed in a thread,", freed_remotely, REALLOC_FREED, 0, 0),
    SIZES_BIG("realloc of a block freed in a thread,", freed_remotely, REALLOC_FREED,
              REALLOC_FREED_OR_UNKNOWN, 0, 0),
    {"reallocarray of a freed block", freed_array, REALLOC_FREED, 100, 0, 0},
    {"realloc of the stack", wild, REALLOC_UNKNOWN, 0, WILD_STACK, 0},
    {"realloc of a global", wild, REALLOC_UNKNOWN, 0, WILD_DATA, 0},
    {"realloc of code", wild, REALLOC_UNKNOWN, 0, WILD_CODE, 0},
    {"realloc of unmapped memory", wild, REALLOC_UNKNOWN, 0, WILD_UNMAPPED, 0},
    {"realloc of the program's mapping", wild, REALLOC_UNKNOWN, 0, WILD_MAPPED, 0},
    {"realloc of the program break", wild, REALLOC_UNKNOWN, 0, WILD_BREAK, 0},
    {"realloc of a mapping without access", wild, REALLOC_UNKNOWN, 0, WILD_NO_ACCESS, 0},
    {"realloc of NULL + 8", wild, REALLOC_MISALIGNED, 8, WILD_ADDRESS, 0},
    {"realloc of NULL + 16", wild, REALLOC_UNKNOWN, 16, WILD_ADDRESS, 0},
    {"realloc of -1", wild, REALLOC_MISALIGNED, SIZE_MAX, WILD_ADDRESS, 0},
    {"realloc of 0xdeadbeefdeadbeef", wild, REALLOC_MISALIGNED, 0xdeadbeefdeadbeef, WILD_ADDRESS,
     0},
    {"realloc of 0xdeadbeefdeadbee0", wild, REALLOC_UNKNOWN, 0xdeadbeefdeadbee0, WILD_ADDRESS, 0},
    {"realloc at +1 of 16 B", interior, REALLOC_MISALIGNED, 16, 1, 0},
    {"realloc at +8 of 16 B", interior, REALLOC_MISALIGNED, 16, 8, 0},
    {"realloc at +8 of 200 KiB", interior, REALLOC_MISALIGNED, 200 * KIB, 8, 0},
    {"realloc at +16 of 1 KiB", interior, REALLOC_INTERIOR, KIB, 16, 0},
    {"realloc at +16 of 8 KiB", interior, REALLOC_INTERIOR, 8 * KIB, 16, 0},
    {"realloc at +16 of 64 KiB", interior, REALLOC_INTERIOR, 64 * KIB, 16, 0},
    {"realloc at +16 of 200 KiB", interior, REALLOC_INTERIOR, 200 * KIB, 16, 0},
    {"realloc at +16 of 4 MiB", interior, REALLOC_INTERIOR, 4 * MIB, 16, 0},
    {"realloc at +16 of 1 KiB to 10", interior_shrunk, REALLOC_INTERIOR, KIB, 16, 0},
    {"realloc at +16 of 200 KiB to 10", interior_shrunk, REALLOC_INTERIOR, 200 * KIB, 16, 0},
    {"realloc in the middle of 1 KiB", interior_middle, REALLOC_INTERIOR, KIB, 0, 0},
    {"realloc in the middle of 64 KiB", interior_middle, REALLOC_INTERIOR, 64 * KIB, 0, 0},
    {"realloc in the middle of 1 MiB", interior_middle, REALLOC_INTERIOR, MIB, 0, 0},
    {"realloc in the middle of 64 MiB", interior_middle, REALLOC_INTERIOR, 64 * MIB, 0, 0},
    {"usable size of a global", usable_wild, ABORT_OR_LIVE, 0, WILD_DATA, 0},
    {"usable size of a mapping without access", usable_wild, ABORT_OR_LIVE, 0, WILD_NO_ACCESS, 0},
    {"usable size of NULL + 8", usable_wild, ABORT_OR_LIVE, 8, WILD_ADDRESS, 0},
    {"usable size of 0xdeadbeefdeadbee0", usable_wild, ABORT_OR_LIVE, 0xdeadbeefdeadbee0,
     WILD_ADDRESS, 0},
    {"usable size at +16 of 1 KiB", usable_interior, ABORT_OR_LIVE, KIB, 16, 0},
    {"usable size at +16 of 4 MiB", usable_interior, ABORT_OR_LIVE, 4 * MIB, 16, 0},
    {"usable size of a freed block", usable_freed, ABORT_OR_LIVE, KIB, 0, 0},
    {"usable size of a freed block, 64 MiB", usable_freed, ABORT_OR_LIVE, 64 * MIB, 0, 0},
};

const struct suite invalid_realloc_suite = {cases, COUNT(cases)};
