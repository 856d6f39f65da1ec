// SPDX-License-Identifier: MIT
//
// Writes outside a live block and into a dead one. The default build promises nothing here but that no
// list of free blocks can be bent (no link lies in user memory): either a sentence or a normal end, never
// a crash or a hang inside the library. bench/misuse compares what allocators notice.
#include "death.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

// As a program would go on: blocks of this size and of others come and go.
static void go_on(size_t size)
{
    void *blocks[64];

    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < COUNT(blocks); i++)
            memset(blocks[i] = take(i % 2 ? size : size / 2 + 1), (int)i, size / 2);
        for (size_t i = COUNT(blocks); i-- > 0;)
            free_it(blocks[i]);
    }
}

// Two blocks, the lower first: what is written between them meets no unmapped page.
static void take_two(size_t size, char **low, char **high)
{
    char *p = take(size), *q = take(size);

    *low = p < q ? p : q;
    *high = p < q ? q : p;
}

// `argument` bytes behind the requested size.
static void overflow(const struct death *self, uint64_t seed)
{
    char *p, *q;

    (void)seed;
    take_two(self->size, &p, &q);
    about(p, p, self->size);
    memset(p + self->size, 0x41, self->argument);
    free_it(p);
    free_it(q);
    go_on(self->size);
}

// The same behind everything that may be written.
static void overflow_usable(const struct death *self, uint64_t seed)
{
    char *p, *q;
    size_t usable;

    (void)seed;
    take_two(self->size, &p, &q);
    usable = malloc_usable_size(p);
    about(p, p, self->size);
    memset(p + usable, 0x41, self->argument);
    free_it(p);
    free_it(q);
    go_on(self->size);
}

static void underflow(const struct death *self, uint64_t seed)
{
    char *p, *q;

    (void)seed;
    take_two(self->size, &q, &p);
    about(p, p, self->size);
    memset(p - self->argument, 0x41, self->argument);
    free_it(p);
    free_it(q);
    go_on(self->size);
}

// A dead block's first bytes: where other allocators keep their links.
static void write_after_free(const struct death *self, uint64_t seed)
{
    char *p = take(self->size);

    (void)seed;
    about(p, p, self->size);
    free_it(p);
    memset(hide(p), 0x41, self->argument);
    go_on(self->size);
}

// The classic attack on a list of free blocks: a link to memory of the attacker's choice. No block may be
// handed out there.
static void poison_link(const struct death *self, uint64_t seed)
{
    _Alignas(16) static char target[4096];
    char *p = take(self->size), *q = take(self->size);
    void *link = target + 64;

    (void)seed;
    about(p, p, self->size);
    free_it(p);
    free_it(q);
    memcpy(hide(q), &link, sizeof link);
    for (int i = 0; i < 100; i++) {
        char *r = take(self->size);
        if (r >= target && r < target + sizeof target)
            abort(); // without a sentence: the allocator was led astray
    }
}

// Through the pointer of a block that was moved away from.
static void write_after_realloc(const struct death *self, uint64_t seed)
{
    char *p = take(self->size), *moved = hide(realloc(hide(p), self->size * 8));

    (void)seed;
    about(p, p, self->size);
    if (moved == p)
        skip_case("grown in place");
    memset(hide(p), 0x41, 16);
    free_it(moved);
    go_on(self->size);
}

#define SIZES(text, fn, argument_)                                                                 \
    {text " 24 B", fn, ABORT_OR_LIVE, 24, argument_, 0},                                           \
        {text " 100 B", fn, ABORT_OR_LIVE, 100, argument_, 0},                                     \
        {text " 1000 B", fn, ABORT_OR_LIVE, 1000, argument_, 0},                                   \
        {text " 10000 B", fn, ABORT_OR_LIVE, 10000, argument_, 0},                                 \
    {                                                                                              \
        text " 60000 B", fn, ABORT_OR_LIVE, 60000, argument_, 0                                    \
    }

static const struct death cases[] = {
    SIZES("write of 1 byte behind", overflow, 1),
    SIZES("write of 8 bytes behind", overflow, 8),
    SIZES("write of 64 bytes behind", overflow, 64),
    SIZES("write of 8 bytes behind the usable size of", overflow_usable, 8),
    SIZES("write of 32 bytes behind the usable size of", overflow_usable, 32),
    SIZES("write of 8 bytes before", underflow, 8),
    SIZES("write of 16 bytes before", underflow, 16),
    SIZES("write of 8 bytes after free of", write_after_free, 8),
    SIZES("write of 16 bytes after free of", write_after_free, 16),
    SIZES("a forged link in a freed block of", poison_link, 0),
    SIZES("write after realloc away from", write_after_realloc, 0),
};

const struct suite overflow_suite = {cases, COUNT(cases)};
