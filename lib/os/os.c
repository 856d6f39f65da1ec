// SPDX-License-Identifier: MIT
#include "os/os.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* The kernel's calls, not libc's wrappers: a program may define its own mmap on top of malloc. */
#if defined(__s390__) /* its mmap takes the address of its arguments */
static long map_call(void *hint, size_t bytes, unsigned long protection, unsigned long flags)
{
    unsigned long arguments[6] = {(unsigned long)hint, bytes, protection, flags, (unsigned long)-1, 0};

    return syscall(SYS_mmap, arguments);
}
#else
#ifdef SYS_mmap2
#define MAP_NUMBER SYS_mmap2
#else
#define MAP_NUMBER SYS_mmap
#endif
static long map_call(void *hint, size_t bytes, unsigned long protection, unsigned long flags)
{
    return syscall(MAP_NUMBER, hint, bytes, protection, flags, -1, 0L);
}
#endif

static intptr_t kernel_map(void *hint, size_t bytes)
{
    int saved = errno;
    long p = map_call(hint, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    intptr_t result = p == -1 ? -(intptr_t)errno : (intptr_t)p;
    errno = saved;
    return result;
}

static int as_result(long r, int saved)
{
    int result = r == -1 ? -errno : 0;

    errno = saved;
    return result;
}

static int kernel_unmap(void *base, size_t bytes)
{
    int saved = errno;

    return as_result(syscall(SYS_munmap, base, bytes), saved);
}

static intptr_t kernel_remap(void *base, size_t old_bytes, size_t new_bytes, int flags, void *target)
{
    int saved = errno;
    long p = syscall(SYS_mremap, base, old_bytes, new_bytes, flags, target);
    intptr_t result = p == -1 ? -(intptr_t)errno : (intptr_t)p;

    errno = saved;
    return result;
}

static int kernel_advise(void *base, size_t bytes, int advice)
{
    int saved = errno;

    return as_result(syscall(SYS_madvise, base, bytes, advice), saved);
}

static int kernel_protect(void *base, size_t bytes, bool accessible)
{
    int saved = errno;

    return as_result(syscall(SYS_mprotect, base, bytes, accessible ? PROT_READ | PROT_WRITE : PROT_NONE),
                     saved);
}

struct hk_os_calls hk_os_calls = {
    .map = kernel_map,
    .unmap = kernel_unmap,
    .remap = kernel_remap,
    .advise = kernel_advise,
    .protect = kernel_protect,
};

size_t hk_os_page_bytes(void)
{
    static size_t page_bytes; /* same value whoever writes it first */
    size_t bytes = __atomic_load_n(&page_bytes, __ATOMIC_RELAXED);

    if (HK_UNLIKELY(bytes == 0)) {
        bytes = getauxval(AT_PAGESZ);
        if (bytes == 0)
            bytes = 4096;
        __atomic_store_n(&page_bytes, bytes, __ATOMIC_RELAXED);
    }
    return bytes;
}

static void *map_at(void *hint, size_t bytes)
{
    intptr_t p = hk_os_calls.map(hint, bytes);

    return p < 0 && p > -4096 ? NULL : (void *)p;
}

/* Maps more than asked and cuts off both ends. A cut that the kernel refuses leaves address space
 * behind, never a wrong result. */
static void *reserve_and_trim(size_t bytes, size_t align)
{
    if (bytes > SIZE_MAX - align)
        return NULL;

    char *p = map_at(NULL, bytes + align);
    if (!p)
        return NULL;
    size_t head = (size_t)(-(uintptr_t)p & (align - 1));
    size_t tail = align - head;
    if (head)
        hk_os_calls.unmap(p, head);
    if (tail)
        hk_os_calls.unmap(p + head + bytes, tail);
    return p + head;
}

/* The kernel places mappings side by side, so that once one is aligned the next of the same size
 * mostly is: try the plain call first. */
void *hk_os_reserve(size_t bytes, size_t align)
{
    char *p = map_at(NULL, bytes);

    if (!p || ((uintptr_t)p & (align - 1)) == 0)
        return p;
    /* If even that is refused (a sandbox, or no room for another mapping), address space is lost. */
    (void)hk_os_calls.unmap(p, bytes);
    return reserve_and_trim(bytes, align);
}

bool hk_os_release(void *base, size_t bytes)
{
    return hk_os_calls.unmap(base, bytes) == 0;
}

bool hk_os_purge(void *base, size_t bytes)
{
    return hk_os_calls.advise(base, bytes, MADV_DONTNEED) == 0;
}

bool hk_os_purge_lazy(void *base, size_t bytes)
{
#ifdef MADV_FREE
    return hk_os_calls.advise(base, bytes, MADV_FREE) == 0;
#else
    return hk_os_purge(base, bytes);
#endif
}

bool hk_os_resize(void *base, size_t old_bytes, size_t new_bytes)
{
    intptr_t p = hk_os_calls.remap(base, old_bytes, new_bytes, 0, NULL);

    return p == (intptr_t)base;
}

bool hk_os_move(void *base, size_t old_bytes, void *target, size_t new_bytes)
{
    intptr_t p = hk_os_calls.remap(base, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target);

    return p == (intptr_t)target;
}

bool hk_os_guard(void *base, size_t bytes, bool guarded)
{
    return hk_os_calls.protect(base, bytes, !guarded) == 0;
}

void hk_os_huge_pages(void *base, size_t bytes, bool allowed)
{
    (void)hk_os_calls.advise(base, bytes, allowed ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

bool hk_os_wipe_on_fork(void *base, size_t bytes)
{
    return hk_os_calls.advise(base, bytes, MADV_WIPEONFORK) == 0;
}

uint64_t hk_os_now_ns(void)
{
    struct timespec t = {0, 0};

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014: the output mixer. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t hk_os_random(uint64_t salt)
{
    const unsigned char *kernel = (const unsigned char *)getauxval(AT_RANDOM);
    uint64_t half[2] = {0, 0};

    if (kernel)
        memcpy(half, kernel, sizeof half);
    return mix(half[0] ^ mix(half[1] ^ mix(salt)));
}

unsigned hk_os_thread_id(void)
{
    return (unsigned)syscall(SYS_gettid);
}

bool hk_os_is_secure(void)
{
    return getauxval(AT_SECURE) != 0;
}

const char *hk_os_program_break(void)
{
    return (const char *)syscall(SYS_brk, 0);
}
