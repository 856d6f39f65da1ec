// SPDX-License-Identifier: MIT
//
// Pointers that malloc never gave, for both free and realloc.
#ifndef TESTS_DEATH_WILD_H
#define TESTS_DEATH_WILD_H

#include "death.h"

enum wild {
    WILD_STACK,
    WILD_DATA,
    WILD_BSS,
    WILD_CONSTANT,
    WILD_CODE,
    WILD_LIBRARY_CODE,
    WILD_LIBRARY_DATA,
    WILD_THREAD_LOCAL,
    WILD_STDOUT,
    WILD_AUXILIARY,
    WILD_VDSO,
    WILD_UNMAPPED,
    WILD_NEVER_MAPPED,
    WILD_MAPPED,
    WILD_MAPPED_MIDDLE,
    WILD_NO_ACCESS,
    WILD_FILE,
    WILD_SHARED,
    WILD_BREAK,
    WILD_ADDRESS, // `size` of the case is the address
};

// Ends the case when there is no such pointer here.
void *wild_pointer(enum wild which, size_t address);

#endif
