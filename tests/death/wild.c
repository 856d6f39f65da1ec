// SPDX-License-Identifier: MIT
#include "wild.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

static _Alignas(64) char data[4096] = "data";
static _Alignas(64) char bss[4096];
static _Alignas(64) const char constant[64] = "constant";
static _Thread_local _Alignas(64) char thread_local_bytes[256];

static __attribute__((noinline, aligned(64))) int code(int x)
{
    return x + 1;
}

static void *mapping(int protection, int flags, int fd)
{
    void *p = mmap(NULL, 1 << 20, protection, flags, fd, 0);

    if (p == MAP_FAILED)
        skip_case("no mapping");
    return p;
}

static void *file_mapping(void)
{
    FILE *file = tmpfile();

    if (file == NULL || ftruncate(fileno(file), 1 << 20) != 0)
        skip_case("no temporary file");
    return mapping(PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file));
}

// Some symbol of the library itself, rounded down to 16.
static void *in_library(const char *name)
{
    uintptr_t at = (uintptr_t)function_named(name);

    return (void *)(at & ~(uintptr_t)15);
}

void *wild_pointer(enum wild which, size_t address)
{
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;

    switch (which) {
    case WILD_DATA:
        return hide(data + 64);
    case WILD_BSS:
        return hide(bss + 64);
    case WILD_CONSTANT:
        return hide(constant);
    case WILD_CODE:
        return hide((void *)(uintptr_t)code);
    case WILD_LIBRARY_CODE:
        return in_library("malloc");
    case WILD_LIBRARY_DATA:
        return in_library("hak_stats_root");
    case WILD_THREAD_LOCAL:
        return hide(thread_local_bytes);
    case WILD_STDOUT:
        return hide(stdout);
    case WILD_AUXILIARY:
        return (void *)(getauxval(AT_RANDOM) & ~15ul);
    case WILD_VDSO:
        return (void *)getauxval(AT_SYSINFO_EHDR);
    case WILD_UNMAPPED: {
        void *p = mapping(PROT_READ | PROT_WRITE, anonymous, -1);
        munmap(p, 1 << 20);
        return p;
    }
    case WILD_NEVER_MAPPED:
        return (void *)0x10000000000;
    case WILD_MAPPED:
        return mapping(PROT_READ | PROT_WRITE, anonymous, -1);
    case WILD_MAPPED_MIDDLE:
        return (char *)mapping(PROT_READ | PROT_WRITE, anonymous, -1) + 65536 + 32;
    case WILD_NO_ACCESS:
        return mapping(PROT_NONE, anonymous, -1);
    case WILD_FILE:
        return file_mapping();
    case WILD_SHARED:
        return mapping(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    case WILD_BREAK: // just behind what might be libc's heap
        if (sbrk(8192) == (void *)-1)
            skip_case("no program break");
        return sbrk(0);
    default:
        return hide((void *)address);
    }
}
