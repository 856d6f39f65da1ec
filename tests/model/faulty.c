// SPDX-License-Identifier: MIT
//
// A seeded bug, preloaded in front of the library: a calloc that gets the last block of some size that was freed
// leaves a byte of it dirty. It takes operations in the right order to show; shrinking must find them.
#include <malloc.h>
#include <stddef.h>

void *__libc_calloc(size_t count, size_t size);
void __libc_free(void *p);

static void *freed_last;

void *calloc(size_t count, size_t size)
{
    unsigned char *p = __libc_calloc(count, size);

    if (p && p == freed_last)
        p[0] = 0x55;
    return p;
}

void free(void *p)
{
    if (p && malloc_usable_size(p) >= 200)
        freed_last = p;
    __libc_free(p);
}
