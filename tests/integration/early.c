// SPDX-License-Identifier: MIT
//
// Calls before any constructor: this program's preinit_array runs before the constructors of every
// library, so the allocator is in its zero state. main() reports what happened there.
#include "harness.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define UNTOUCHED 4242

static struct {
    int errno_after_malloc, errno_after_free, errno_after_huge;
    void *huge;
    bool usable_good, contents_good, calloc_good, aligned_good, ran;
    char *kept;
} seen;

static bool all(const char *p, int byte, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != (char)byte)
            return false;
    return true;
}

static void before_constructors(int argc, char **argv, char **environment)
{
    (void)argc, (void)argv, (void)environment;
    free(hide(NULL));
    seen.usable_good = malloc_usable_size(hide(NULL)) == 0;
    errno = UNTOUCHED;
    char *p = hide(malloc(100));
    seen.errno_after_malloc = errno;
    seen.usable_good &= malloc_usable_size(p) >= 100;
    memset(p, 0x5a, 100);
    p = hide(realloc(p, 70000));
    seen.contents_good = p != NULL && all(p, 0x5a, 100);
    errno = UNTOUCHED;
    free(p);
    seen.errno_after_free = errno;
    p = hide(calloc(1000, 10));
    seen.calloc_good = p != NULL && all(p, 0, 10000);
    free(p);
    void *q = NULL;
    seen.aligned_good = posix_memalign(&q, 4096, 100) == 0 && ((uintptr_t)q & 4095) == 0;
    free(q);
    seen.kept = hide(realloc(hide(NULL), 3000000));
    memset(seen.kept, 0x11, 3000000);
    seen.huge = hide(malloc((size_t)hide((void *)SIZE_MAX)));
    seen.errno_after_huge = errno;
    seen.ran = true;
}

__attribute__((section(".preinit_array"),
               used)) static void (*const preinit)(int, char **, char **) = before_constructors;

static char *from_constructor;

__attribute__((constructor(101))) static void in_constructor(void)
{
    from_constructor = hide(malloc(500));
    memset(from_constructor, 0x22, 500);
}

__attribute__((destructor)) static void in_destructor(void)
{
    free(from_constructor);
    free(hide(malloc(500)));
}

static int before_any_constructor(void)
{
    CHECK(seen.ran);
    CHECK(seen.usable_good);
    CHECK(seen.contents_good);
    CHECK(seen.calloc_good);
    CHECK(seen.aligned_good);
    return PASS;
}

static int errno_of_the_first_calls(void)
{
    CHECK_EQ(UNTOUCHED, seen.errno_after_malloc);
    CHECK_EQ(UNTOUCHED, seen.errno_after_free);
    CHECK(seen.huge == NULL);
    CHECK_EQ(ENOMEM, seen.errno_after_huge);
    return PASS;
}

static int early_blocks_live_on(void)
{
    CHECK(all(seen.kept, 0x11, 3000000));
    char *p = hide(realloc(seen.kept, 5000000));
    CHECK(p != NULL && all(p, 0x11, 3000000));
    free(p);
    CHECK(all(from_constructor, 0x22, 500));
    return PASS;
}

static void free_at_exit(void)
{
    free(hide(malloc(100)));
    free(seen.kept);
}

static int late_calls(void)
{
    return atexit(free_at_exit);
}

static int empty_environment(void)
{
    extern char **environ;

    environ = NULL;
    for (size_t size = 1; size < 10000000; size = size * 3 + 1)
        free(hide(malloc(size)));
    CHECK(setenv("HAKMEM_MODE", "nonsense", 1) == 0);
    free(hide(malloc(100)));
    return PASS;
}

static const struct test_case cases[] = {
    {"calls before any constructor", before_any_constructor, 0},
    {"errno of the first calls", errno_of_the_first_calls, 0},
    {"early blocks live on", early_blocks_live_on, 0},
    {"calls at exit and in destructors", late_calls, 0},
    {"the environment goes away", empty_environment, 0},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
