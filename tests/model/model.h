// SPDX-License-Identifier: MIT
//
// model: random operation streams over the malloc family, checked against a shadow.
//
// Does:    plays a stream of operations (malloc, realloc, free, hand-off between threads, ...)
//          against the allocator that the process has, and checks every answer: overlap,
//          alignment, contents, zeroing, usable size, errno.
// Doesn't: allocate through the allocator under test for its own needs; all of its memory comes
//          from mmap.
// Replay:  a stream of one thread is a function of the seed and the options alone. With several
//          threads each has its own generator, but the interleaving is the machine's.
// Threads: a struct worker belongs to one thread at a time. The shadow and the mail boxes are
//          shared and atomic.
#ifndef TESTS_MODEL_MODEL_H
#define TESTS_MODEL_MODEL_H

// Included first everywhere: libc shows its extensions.
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE 1
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op_kind {
    // fill an empty slot
    OP_MALLOC,
    OP_CALLOC,
    OP_REALLOC_NULL,
    OP_REALLOCARRAY_NULL,
    OP_POSIX_MEMALIGN,
    OP_ALIGNED_ALLOC,
    OP_MEMALIGN,
    OP_VALLOC,
    OP_PVALLOC,
    OP_NEW,
    OP_NEW_ARRAY,
    OP_NEW_ALIGNED,
    // work on a full slot
    OP_FREE,
    OP_FREE_SIZED,
    OP_REALLOC,
    OP_REALLOCARRAY,
    OP_REALLOC_ZERO,
    OP_EXPAND,
    OP_CHECK,
    OP_REALLOC_HUGE,
    OP_REALLOCARRAY_OVERFLOW,
    // need no slot
    OP_MALLOC_HUGE,
    OP_CALLOC_OVERFLOW,
    OP_ALIGNED_HUGE,
    OP_BAD_ALIGNMENT,
    OP_FREE_NULL,
    OP_TRIM,
    OP_EXCHANGE,
    OP_KINDS
};

#define OP_LAST_ALLOC OP_NEW_ALIGNED
#define OP_LAST_SLOT  OP_REALLOCARRAY_OVERFLOW

// One operation with every decision taken, so that a part of a stream can be played again without
// the generator.
struct op {
    uint64_t n;    // its number in the stream; all details come from mix(n)
    uint64_t size; // bytes asked for
    uint32_t slot;
    uint8_t kind;
    uint8_t align_shift;
};

enum family { FAMILY_MALLOC, FAMILY_ALIGNED, FAMILY_PAGES, FAMILY_NEW, FAMILY_NEW_ARRAY, FAMILY_NEW_ALIGNED };

struct block {
    unsigned char *ptr; // NULL: the slot is empty
    size_t size;        // as asked for
    size_t usable;      // as malloc_usable_size said at birth; must never change
    size_t align;       // alignment asked for by an aligned entry point
    uint64_t id;        // seeds the contents
    uint8_t family;     // which deallocation functions fit
    uint8_t full;       // the whole block carries the pattern, not only head, tail and samples
};

enum fault {
    FAULT_NONE,
    FAULT_OVERLAP,
    FAULT_CONTENT,
    FAULT_ZERO,
    FAULT_ALIGN,
    FAULT_USABLE,
    FAULT_ERRNO,
    FAULT_REALLOC
};

struct options {
    uint64_t seed;
    uint64_t ops; // over all threads
    unsigned threads;
    uint64_t max_size;
    uint64_t max_live; // bytes asked for and live, per thread
    uint32_t slots;    // per thread
    bool strict;       // errno and argument rules of this library, where others differ
    bool oom_ok;       // NULL with ENOMEM is a legal answer to any request
    bool realloc0_alloc;
    bool shrink;
    bool quiet;
    unsigned shrink_seconds;
    enum fault fault;
};

// A stretch of the stream with one flavour: which slots, how many frees, which sizes.
struct phase {
    uint64_t ends_at;
    uint32_t base, mask;  // slots base..base+mask of the table
    uint32_t free_weight; // of 256: how often a full slot is freed or reallocated, else looked at
    uint32_t fill_weight; // of 256: how often an empty slot is filled
    uint32_t exchange_weight;
    uint32_t small_shift; // most sizes are below 1 << small_shift
};

struct worker {
    uint64_t rng;
    uint64_t n;         // operations played
    uint64_t limit;     // operations to play in all
    uint64_t life_ends; // this thread dies at that operation, and another goes on
    uint64_t live_bytes;
    unsigned index;
    struct phase phase;
    const struct op *current;
    struct block *slot;
};

extern struct options opt;
extern size_t page_size;

static inline uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// report.c: text without allocation
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail(const struct worker *w, const char *what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void describe_op(char *text, size_t text_size, const struct op *op);
void *map_memory(size_t bytes, bool shared);
void catch_signals(void);
void set_reporting(struct worker *w);

// What the child of a shrinking run tells its parent; NULL when not shrinking.
struct verdict {
    char what[64];
    uint64_t recorded;
    struct op trace[];
};
extern struct verdict *verdict;

// shadow.c: which bytes are live, over all threads
void shadow_init(void);
bool shadow_claim(const void *ptr, size_t bytes);   // false: part of it was live already
bool shadow_release(const void *ptr, size_t bytes); // false: part of it was not live

// pattern.c: contents
void pattern_fill(const struct block *b);
bool pattern_check(const struct block *b, size_t valid, size_t *at, uint64_t *expected,
                   uint64_t *actual);
bool zero_check(const unsigned char *p, size_t size, uint64_t random, size_t *at);

// ops.c
void api_init(void);
bool api_is_hakmem(void);
void play(struct worker *w, const struct op *op);
void drain(struct worker *w);

// stream.c
void worker_init(struct worker *w, unsigned index, uint64_t limit);
void next_op(struct worker *w, struct op *op);

// shrink.c
int shrink_run(void);

#endif
