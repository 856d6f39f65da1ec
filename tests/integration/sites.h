// SPDX-License-Identifier: MIT
//
// What tests of the profile of call sites share: places to allocate at, and what the table says of one.
#ifndef HK_TEST_SITES_H
#define HK_TEST_SITES_H

#include "harness.h"

#include "hakmem/hakmem.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define NOINLINE __attribute__((noinline))
#define MAYBE_UNUSED __attribute__((unused))

// A place of its own in the program; its one call lies within the first bytes.
#define SITE(name, expression)                                                                     \
    NOINLINE MAYBE_UNUSED static void *name(size_t size)                                                        \
    {                                                                                              \
        return hide(expression);                                                                   \
    }
SITE(site_a, malloc(size))
SITE(site_b, malloc(size))
SITE(site_c, malloc(size))
SITE(site_d, malloc(size))
SITE(site_e, malloc(size))
SITE(site_f, malloc(size))

typedef void *site_fn(size_t size);

// ---- settings ----------------------------------------------------------------------------------

// The case starts itself again with these; true once it runs with them.
static bool with(const char *name, const char *value, const char *self)
{
    const char *argv[] = {"sites", self, NULL};

    if (getenv(name) != NULL && strcmp(getenv(name), value) == 0)
        return true;
    setenv(name, value, 1);
    fflush(stdout);
    execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
    abort();
}

// ---- the table ---------------------------------------------------------------------------------

static int (*site_foreach)(int (*)(const hak_site_t *, void *), void *);

static void *symbol(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);

    if (found == NULL) {
        printf("# no %s\n", name);
        exit(FAIL);
    }
    return found;
}

struct wanted {
    site_fn *function;
    hak_site_t sum; // of the sites in the function
};

static int add(const hak_site_t *site, void *arg)
{
    struct wanted *wanted = arg;
    uintptr_t start = (uintptr_t)wanted->function, at = (uintptr_t)site->site;
    hak_site_t *sum = &wanted->sum;

    if (at < start || at - start > 24)
        return 0;
    sum->site = site->site;
    sum->allocs += site->allocs;
    sum->frees += site->frees;
    sum->total_bytes += site->total_bytes;
    sum->live_bytes += site->live_bytes;
    sum->samples += site->samples;
    sum->samples_ended += site->samples_ended;
    sum->samples_grown += site->samples_grown;
    sum->samples_handed += site->samples_handed;
    sum->size_p50 = site->size_p50;
    sum->size_p99 = site->size_p99;
    sum->lifetime_p50_ns = site->lifetime_p50_ns;
    sum->lifetime_p99_ns = site->lifetime_p99_ns;
    sum->call_paths = site->call_paths;
    sum->module = site->module;
    memcpy(sum->build_id, site->build_id, sizeof sum->build_id);
    return 0;
}

static hak_site_t look_at(site_fn *function)
{
    struct wanted wanted = {.function = function};
    void *found = symbol("hak_site_foreach");

    memcpy(&site_foreach, &found, sizeof found);
    site_foreach(add, &wanted);
    return wanted.sum;
}

MAYBE_UNUSED static double root(double x)
{
    double r = x;

    for (int i = 0; i < 60 && r > 0; i++)
        r = (r + x / r) / 2;
    return r;
}

MAYBE_UNUSED static void wait_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

MAYBE_UNUSED static int in_thread(void *(*function)(void *))
{
    pthread_t thread;

    CHECK_EQ(0, pthread_create(&thread, NULL, function, NULL));
    CHECK_EQ(0, pthread_join(thread, NULL));
    return PASS;
}

#endif
