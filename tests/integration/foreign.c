// SPDX-License-Identifier: MIT
//
// A plug-in loaded with RTLD_DEEPBIND calls libc's malloc; the program frees, resizes and measures what it
// gets with ours. Built twice by links.sh: with -DPLUGIN the plug-in, without: foreign PLUGIN.
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef PLUGIN

char *make(size_t n);
char *make(size_t n)
{
    char *p = malloc(n);

    return p ? memset(p, 'x', n) : NULL;
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
    char *(*make)(size_t) = NULL, *p;
    void *symbol = plugin ? dlsym(plugin, "make") : NULL;

    if (!symbol)
        return fail("no plug-in");
    memcpy(&make, &symbol, sizeof make);
    free(make(100));
    p = make(200);
    if (malloc_usable_size(p) < 200)
        return fail("malloc_usable_size");
    p = realloc(p, 5000);
    if (!p || p[0] != 'x' || p[199] != 'x')
        return fail("realloc");
    free(p);
    for (int i = 0; i < 1000; i++)
        free(make((size_t)i * 10));
    return 0;
}

#endif
