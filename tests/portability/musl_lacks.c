// SPDX-License-Identifier: MIT
//
// What the integration tests call and musl does not have; x86-64 only. Linked by musl.sh.
#include <pthread.h>
#include <stdlib.h>
#include <xmmintrin.h>

int feenableexcept(int exceptions);
int __cxa_thread_atexit_impl(void (*function)(void *), void *arg, void *module);

struct at_exit {
    void (*function)(void *);
    void *arg;
    struct at_exit *next;
};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

int feenableexcept(int exceptions)
{
    _mm_setcsr(_mm_getcsr() & ~((unsigned)exceptions << 7));
    return 0;
}

static void run_all(void *list)
{
    for (struct at_exit *entry = list, *next; entry; entry = next) {
        next = entry->next;
        entry->function(entry->arg);
        free(entry);
    }
}

static void make_key(void)
{
    if (pthread_key_create(&key, run_all) != 0)
        abort();
}

int __cxa_thread_atexit_impl(void (*function)(void *), void *arg, void *module)
{
    struct at_exit *entry = malloc(sizeof *entry);

    (void)module;
    pthread_once(&once, make_key);
    if (!entry)
        return -1;
    *entry = (struct at_exit){function, arg, pthread_getspecific(key)};
    return pthread_setspecific(key, entry);
}
