// SPDX-License-Identifier: MIT
/*
 * The option parser from the environment: strings that end in NUL, the first of them the value of HAKMEM_OPTIONS, the
 * others entries of their own, with HAKMEM_ put in front.
 */
#include "fuzz.h"
#include "settings.h"

#include "config/config.h"

#include <string.h>

#define MAX_BYTES 4096
#define MAX_ENTRIES 64

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    hk_config_file = "/nonexistent/hakmem.conf";
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char text[MAX_BYTES + MAX_ENTRIES * 24];
    char *envp[MAX_ENTRIES + 1], *to = text;
    const char *from = (const char *)data, *end = from + (bytes < MAX_BYTES ? bytes : MAX_BYTES);
    unsigned nr = 0;

    while (from < end && nr < MAX_ENTRIES) {
        size_t n = strnlen(from, (size_t)(end - from));
        envp[nr] = to;
        to = stpcpy(to, nr == 0 ? "HAKMEM_OPTIONS=" : "HAKMEM_");
        memcpy(to, from, n);
        to[n] = '\0';
        to += n + 1;
        from += n + 1;
        nr++;
    }
    envp[nr] = NULL;
    settings_load(envp);
    return 0;
}
