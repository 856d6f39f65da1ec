// SPDX-License-Identifier: MIT
//
// Death tests: each case misuses the heap in one way, in a process of its own, and must end by
// SIGABRT with one exact sentence on stderr. A case first says on stdout which pointer it is about,
// so that the sentence can be compared.
#ifndef TESTS_DEATH_DEATH_H
#define TESTS_DEATH_DEATH_H

#include "../integration/harness.h"

enum sentence {
    DOUBLE_FREE,            // hakmem: double free: pointer ...
    DOUBLE_FREE_OR_UNKNOWN, // a block so big that its memory may be unmapped by now
    FREE_UNKNOWN,           // hakmem: invalid free: unknown pointer: ...
    FREE_INTERIOR,
    FREE_MISALIGNED,
    REALLOC_FREED, // hakmem: invalid realloc: freed pointer: ...
    REALLOC_FREED_OR_UNKNOWN,
    REALLOC_UNKNOWN,
    REALLOC_INTERIOR,
    REALLOC_MISALIGNED,
    ANY_SENTENCE,       // SIGABRT and some line that starts with "hakmem: "
    ABORT_WITHOUT_TEXT, // SIGABRT; the text has nowhere to go
    ABORT_OR_LIVE, // SIGABRT with a sentence, or exit 0: not promised, but never a crash or a hang
    SILENT_ABORT_OR_PIPE, // SIGABRT or SIGPIPE
    NOTHING,              // exit 0 and an empty stderr: correct, or only counted
};

struct death {
    const char *name;
    void (*run)(const struct death *self, uint64_t seed);
    enum sentence sentence;
    size_t size; // of the block
    unsigned argument;
    unsigned seeds; // how often, each time with another seed; 0 means once
};

struct suite {
    const struct death *cases;
    size_t count;
};
extern const struct suite double_free_suite, invalid_free_suite, invalid_realloc_suite,
    overflow_suite, robust_suite, harmless_suite;

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

// One case for each way in which a block can be kept: from a small class to a mapping of its own.
#define SIZES_UP_TO_64K(text, fn, sentence_, argument_, seeds_)                                    \
    {text " 16 B", fn, sentence_, 16, argument_, seeds_},                                          \
        {text " 1 KiB", fn, sentence_, KIB, argument_, seeds_},                                    \
        {text " 8 KiB", fn, sentence_, 8 * KIB, argument_, seeds_},                                \
    {                                                                                              \
        text " 64 KiB", fn, sentence_, 64 * KIB, argument_, seeds_                                 \
    }
#define SIZES_BIG(text, fn, sentence_, sentence_unmapped, argument_, seeds_)                       \
    {text " 200 KiB", fn, sentence_, 200 * KIB, argument_, seeds_},                                \
        {text " 1 MiB", fn, sentence_, MIB, argument_, seeds_},                                    \
        {text " 4 MiB", fn, sentence_unmapped, 4 * MIB, argument_, seeds_},                        \
    {                                                                                              \
        text " 64 MiB", fn, sentence_unmapped, 64 * MIB, argument_, seeds_                         \
    }
#define ALL_SIZES(text, fn, argument_, seeds_)                                                     \
    SIZES_UP_TO_64K(text, fn, DOUBLE_FREE, argument_, seeds_),                                     \
        SIZES_BIG(text, fn, DOUBLE_FREE, DOUBLE_FREE_OR_UNKNOWN, argument_, seeds_)

// The pointer that the sentence must name, and, where known, its block.
void about(const volatile void *pointer, const volatile void *block, size_t size);
// Ends the case: it cannot be had here.
_Noreturn void skip_case(const char *why);
void *take(size_t size); // malloc, hidden from the compiler, and its first and last byte written
void in_thread(void (*fn)(void *), void *argument);
void free_it(void *p);
// A function that not every library has, or skips the case.
void *function_named(const char *name);

#endif
