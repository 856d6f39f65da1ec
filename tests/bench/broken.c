// SPDX-License-Identifier: MIT
/*
 * An allocator that fails in the way that BROKEN says, at the hundredth request of 48 bytes:
 * what the bench runner has to survive and to report. Preloaded; glibc's malloc does the rest.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);

void *malloc(size_t n)
{
    static unsigned nr_seen;
    const char *how = n == 48 && ++nr_seen == 100 ? getenv("BROKEN") : NULL;

    if (how && strcmp(how, "crash") == 0)
        abort();
    if (how && strcmp(how, "exit") == 0)
        _exit(7);
    while (how && strcmp(how, "hang") == 0)
        pause();
    return __libc_malloc(n);
}
