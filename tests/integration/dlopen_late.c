// SPDX-License-Identifier: MIT
//
// dlopen_late LIBRARY [OTHER...]: loads the others, then the library, allocates through it from
// several threads, closes it, and goes on using what it allocated. Built by links.sh; the program's
// own malloc stays libc's.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *(*hak_malloc)(size_t);
static void (*hak_free)(void *);

static void *work(void *unused)
{
    static __thread void *block[1000];

    (void)unused;
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < 1000; i++)
            if ((block[i] = hak_malloc(i * 50)) == NULL)
                return "no memory";
            else
                memset(block[i], (int)i, i * 50);
        for (size_t i = 0; i < 1000; i++)
            hak_free(block[i]);
    }
    return NULL;
}

static int fail(const char *what)
{
    printf("%s\n", what);
    return 1;
}

static int in_threads(void)
{
    pthread_t thread[4];
    void *result;
    int bad = 0;

    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, work, NULL);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], &result);
        bad |= result != NULL;
    }
    return bad;
}

static void *wait_then_work(void *barrier)
{
    pthread_barrier_wait(barrier);
    return work(NULL);
}

int main(int argc, char **argv)
{
    pthread_barrier_t barrier;
    pthread_t early;
    void *result;

    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&early, NULL, wait_then_work, &barrier); // exists before the library does
    for (int i = 2; i < argc; i++) {
        void *other = dlopen(argv[i], RTLD_NOW);
        if (other == NULL)
            return fail(dlerror());
        int (*touch)(void) = (int (*)(void))dlsym(other, "touch");
        touch();
    }
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return fail(dlerror());
    hak_malloc = (void *(*)(size_t))dlsym(library, "hak_malloc");
    hak_free = (void (*)(void *))dlsym(library, "hak_free");
    if (hak_malloc == NULL || hak_free == NULL)
        return fail("no hak_malloc or hak_free");
    if (work(NULL) != NULL || in_threads())
        return fail("work after dlopen failed");
    pthread_barrier_wait(&barrier);
    pthread_join(early, &result);
    if (result != NULL)
        return fail("work in a thread older than the library failed");
    char *kept = hak_malloc(1000);
    memset(kept, 7, 1000);
    dlclose(library);
    for (int i = 0; i < 1000; i++)
        if (kept[i] != 7)
            return fail("a block changed when the library was closed");
    hak_free(kept);
    if (in_threads())
        return fail("work after dlclose failed");
    library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL || dlsym(library, "hak_malloc") != (void *)hak_malloc)
        return fail("the library came back elsewhere");
    return 0;
}
