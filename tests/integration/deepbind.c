// SPDX-License-Identifier: MIT
//
// deepbind PLUGIN: blocks cross between a program and a plug-in that it loads with RTLD_DEEPBIND, in every direction, as
// they do in php. The plug-in then loads inner.so by its bare name, which only its own RUNPATH can find. Built three times
// by links.sh: with -DPLUGIN, with -DINNER, and without.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined INNER

int inner(void);
int inner(void)
{
    return 7;
}

#elif defined PLUGIN

char *cross(char *taken, size_t n);
char *cross(char *taken, size_t n)
{
    char *p = strdup(taken); /* a block of whom libc calls */

    free(taken);
    return realloc(p, n);
}

int load(void);
int load(void)
{
    return dlopen("inner.so", RTLD_NOW) != NULL;
}

#else

static int fail(const char *what)
{
    printf("%s\n", what);
    return 1;
}

int main(int argc, char **argv)
{
    void *plugin = dlopen(argc > 1 ? argv[1] : "", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    char *(*cross)(char *, size_t) = NULL;
    int (*load)(void) = NULL;
    void *symbols[] = {plugin ? dlsym(plugin, "cross") : NULL, plugin ? dlsym(plugin, "load") : NULL};

    if (!symbols[0] || !symbols[1])
        return fail("no plug-in");
    memcpy(&cross, &symbols[0], sizeof cross);
    memcpy(&load, &symbols[1], sizeof load);
    for (size_t i = 1; i < 2000; i++) {
        char *p = calloc(1, i);
        if (!p || !(p = cross(memset(p, 'x', i - 1), 2 * i)) || strlen(p) != i - 1)
            return fail("a block did not come back as it was");
        free(p);
    }
    if (!load())
        return fail(dlerror());
    if (dlopen("/nonexistent.so", RTLD_NOW | RTLD_DEEPBIND) || !dlerror())
        return fail("no error for a file that is not there");
    return 0;
}

#endif
