// SPDX-License-Identifier: MIT
#include "demangle.h"

#include "maps.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHORT_BYTES       96   /* such a name cannot become more than some megabytes */
#define LONG_BYTES        4096 /* longer ones stay as they are */
#define CHILD_MORE_BYTES  (16u << 20)
#define CHILD_CPU_MS      50
#define MAX_FAILURES      3 /* children that told nothing, until none is asked any more */

/* Of the C++ ABI: a malloc'd name, or NULL. */
typedef char *demangle_function(const char *name, char *buffer, size_t *bytes, int *status);

static demangle_function *find_runtime(void)
{
    static demangle_function *function;
    static bool tried;
    void *runtime;

    if (tried)
        return function;
    tried = true;
    runtime = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_LOCAL);
    if (!runtime)
        runtime = dlopen("libc++abi.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (runtime)
        function = (demangle_function *)dlsym(runtime, "__cxa_demangle");
    return function;
}

static size_t demangle_here(demangle_function *function, const char *name, char *text, size_t bytes)
{
    int status = -1;
    char *plain = function(name, NULL, NULL, &status);
    size_t length = plain ? strnlen(plain, bytes - 1) : 0;

    if (plain)
        memcpy(text, plain, length);
    text[length] = '\0';
    free(plain);
    return length;
}

/* What is ours already, of what RLIMIT_DATA counts. */
static rlim_t data_bytes(void)
{
    char *text = read_text_file("/proc/self/statm", 4096, NULL);
    unsigned long pages = 0;

    if (text && sscanf(text, "%*u %*u %*u %*u %*u %lu", &pages) != 1)
        pages = 0;
    free(text);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

_Noreturn static void be_child(demangle_function *function, const char *name, int to, char *text, size_t bytes)
{
    const rlim_t most = data_bytes() + CHILD_MORE_BYTES;
    const struct rlimit data = {most, most}, none = {0, 0};
    const struct itimerval time = {.it_value.tv_usec = CHILD_CPU_MS * 1000};

    if (setrlimit(RLIMIT_DATA, &data) != 0 || setitimer(ITIMER_VIRTUAL, &time, NULL) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        _exit(1);
    size_t length = demangle_here(function, name, text, bytes);
    _exit(write(to, text, length) == (ssize_t)length ? 0 : 1); /* less than a pipe holds */
}

static size_t read_all(int from, char *text, size_t bytes)
{
    size_t length = 0;
    ssize_t n;

    while (length + 1 < bytes && ((n = read(from, text + length, bytes - 1 - length)) > 0 || (n < 0 && errno == EINTR)))
        length += n > 0 ? (size_t)n : 0;
    text[length] = '\0';
    return length;
}

static size_t demangle_in_child(demangle_function *function, const char *name, char *text, size_t bytes)
{
    static unsigned nr_failures;
    size_t length = 0;
    int ends[2], status = -1;

    if (nr_failures == MAX_FAILURES || pipe(ends) != 0)
        return 0;
    pid_t child = fork();
    if (child == 0)
        be_child(function, name, ends[1], text, bytes);
    close(ends[1]);
    if (child > 0) {
        length = read_all(ends[0], text, bytes);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
    }
    close(ends[0]);
    if (status == 0)
        return length; /* 0: not a mangled name after all */
    nr_failures++;
    return 0;
}

void demangle(const char *name, char *text, size_t bytes)
{
    size_t length = strnlen(name, LONG_BYTES), plain = 0;
    demangle_function *function = strncmp(name, "_Z", 2) == 0 && length < LONG_BYTES ? find_runtime() : NULL;

    if (function && length <= SHORT_BYTES)
        plain = demangle_here(function, name, text, bytes);
    else if (function)
        plain = demangle_in_child(function, name, text, bytes);
    if (plain == 0)
        snprintf(text, bytes, "%.*s", (int)(bytes - 1), name);
}
