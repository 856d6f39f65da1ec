// SPDX-License-Identifier: MIT
/*
 * dlopen without RTLD_DEEPBIND, unless option deepbind keeps it. An object loaded with that flag looks for
 * malloc and free in the objects it needs before it looks here: it finds libc's, and ends the process with the first block
 * that the program, or strdup inside libc, took from us. php loads each of its modules so.
 *
 * In the shared library alone: a static program has no RTLD_NEXT to ask.
 * State: the next dlopen, once found. Locks: none of ours; dlsym takes the dynamic linker's. Any thread may call it.
 * Fails as the next dlopen does; without one it answers NULL, and dlerror has dlsym's words.
 */
#define _GNU_SOURCE
#include "entry/entry_private.h"

#include "config/config.h"
#include "sync/atomic.h"

#include <dlfcn.h>
#include <string.h>

#ifdef PIC

/*
 * The last call of dlopen must be a jump, in every build: libc takes the return address for the caller, whose RUNPATH it
 * searches and whose namespace it loads into.
 */
#if defined(__has_attribute) && __has_attribute(musttail)
#define JUMPS
#define JUMP __attribute__((musttail))
#else
#define JUMPS __attribute__((optimize("O2")))
#define JUMP
#endif

#ifndef RTLD_DEEPBIND
#define RTLD_DEEPBIND 0 /* a libc that knows no such thing */
#endif

typedef void *(*dlopen_fn)(const char *file, int mode);

static dlopen_fn next_dlopen;

static dlopen_fn find_dlopen(void)
{
    void *symbol = dlsym(RTLD_NEXT, "dlopen");
    dlopen_fn next;

    memcpy(&next, &symbol, sizeof next); /* ISO C has no cast from object to function pointer */
    hk_store_relaxed(&next_dlopen, next);
    return next;
}

HK_EXPORT JUMPS void *dlopen(const char *file, int mode)
{
    dlopen_fn next = hk_load_relaxed(&next_dlopen);

    if (!next)
        next = find_dlopen();
    if (!next)
        return NULL;
    if (hk_config.deepbind == HK_DEEPBIND_DROP)
        mode &= ~RTLD_DEEPBIND;
    JUMP return next(file, mode);
}

#endif
