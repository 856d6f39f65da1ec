// SPDX-License-Identifier: MIT
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

/* The kernel's calls, not libc's wrappers: a program may define its own mmap on top of malloc. */
#if defined(__s390__) /* its mmap takes the address of its arguments */
static long map_call(void *hint, size_t bytes, int flags, int fd)
{
    unsigned long arguments[6] = {
        (unsigned long)hint, bytes, PROT_READ | PROT_WRITE, (unsigned long)flags, (unsigned long)fd, 0};

    return syscall(SYS_mmap, arguments);
}
#else
#ifdef SYS_mmap2
#define MAP_NUMBER SYS_mmap2
#else
#define MAP_NUMBER SYS_mmap
#endif
static long map_call(void *hint, size_t bytes, int flags, int fd)
{
    return syscall(MAP_NUMBER, hint, bytes, PROT_READ | PROT_WRITE, flags, fd, 0L);
}
#endif

/* From the beginning of the file, if any. */
static intptr_t map_with(void *hint, size_t bytes, int flags, int fd)
{
    int saved = errno;
    long p = map_call(hint, bytes, flags, fd);
    intptr_t result = p == -1 ? -(intptr_t)errno : (intptr_t)p;

    errno = saved;
    return result;
}

static intptr_t kernel_map(void *hint, size_t bytes)
{
    return map_with(hint, bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
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

struct hk_os_counters hk_os_counters;

/* Relaxed: the counters order nothing. sync's names are not for this level. */
static void count(size_t *field, size_t bytes)
{
    (void)__atomic_fetch_add(field, bytes, __ATOMIC_RELAXED);
}

static void *map_at(void *hint, size_t bytes)
{
    intptr_t p = hk_os_calls.map(hint, bytes);

    if (p < 0 && p > -4096)
        return NULL;
    count(&hk_os_counters.mapped_bytes, bytes);
    return (void *)p;
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
        hk_os_abandon(p, head);
    if (tail)
        hk_os_abandon(p + head + bytes, tail);
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
    hk_os_abandon(p, bytes);
    return reserve_and_trim(bytes, align);
}

static HK_COLD HK_NOINLINE void take_down(void *fence)
{
    if (hk_os_release(fence, hk_os_page_bytes()))
        count(&hk_os_counters.lost_bytes, -hk_os_page_bytes());
}

void *hk_os_reserve_fenced(size_t bytes, size_t align, void **fence)
{
    size_t page = hk_os_page_bytes(), head;
    char *p = bytes <= SIZE_MAX - align ? map_at(NULL, bytes + align) : NULL, *base;
    void *last = __atomic_exchange_n(fence, NULL, __ATOMIC_RELAXED); /* an address alone; two that fence at once may leave a page */

    if (HK_UNLIKELY(last != NULL))
        take_down(last);
    if (!p)
        return hk_os_reserve(bytes, align);
    base = (char *)hk_align_up((uintptr_t)p + page, align);
    head = (size_t)(base - p);
    if (head < align)
        hk_os_abandon(base + bytes, align - head);
    if (hk_os_guard(base - page, page, true)) {
        hk_os_lose(page);
        head -= page;
        __atomic_store_n(fence, base - page, __ATOMIC_RELAXED);
    }
    if (head)
        hk_os_abandon(p, head);
    return base;
}

bool hk_os_release(void *base, size_t bytes)
{
    if (hk_os_calls.unmap(base, bytes) != 0)
        return false;
    count(&hk_os_counters.mapped_bytes, -bytes);
    return true;
}

void hk_os_abandon(void *base, size_t bytes)
{
    if (!hk_os_release(base, bytes))
        count(&hk_os_counters.lost_bytes, bytes);
}

void hk_os_lose(size_t bytes)
{
    count(&hk_os_counters.lost_bytes, bytes);
}

bool hk_os_purge(void *base, size_t bytes)
{
    return hk_os_calls.advise(base, bytes, MADV_DONTNEED) == 0;
}

bool hk_os_install_guard(void *base, size_t bytes)
{
    return hk_os_calls.advise(base, bytes, MADV_GUARD_INSTALL) == 0;
}

bool hk_os_remove_guard(void *base, size_t bytes)
{
    return hk_os_calls.advise(base, bytes, MADV_GUARD_REMOVE) == 0;
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

    if (p != (intptr_t)base)
        return false;
    count(&hk_os_counters.mapped_bytes, new_bytes - old_bytes);
    return true;
}

/* Errors of the arguments, and those of filters, come before anything is done. */
static enum hk_os_moved outcome(intptr_t p, const void *target)
{
    if (p == (intptr_t)target)
        return HK_OS_MOVED;
    return p == -EINVAL || p == -ENOSYS || p == -EPERM || p == -EACCES ? HK_OS_REFUSED : HK_OS_UNSURE;
}

enum hk_os_moved hk_os_move(void *base, size_t old_bytes, void *target, size_t new_bytes)
{
    intptr_t p = hk_os_calls.remap(base, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    enum hk_os_moved moved = outcome(p, target);

    if (moved == HK_OS_MOVED)
        count(&hk_os_counters.mapped_bytes, -old_bytes);
    return moved;
}

enum hk_os_moved hk_os_take_pages(void *base, size_t bytes, void *target)
{
    intptr_t p = hk_os_calls.remap(base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, target);

    return outcome(p, target);
}

void *hk_os_move_anywhere(void *base, size_t old_bytes, size_t new_bytes)
{
    intptr_t p = hk_os_calls.remap(base, old_bytes, new_bytes, MREMAP_MAYMOVE, NULL);

    if (p < 0 && p > -4096)
        return NULL;
    count(&hk_os_counters.mapped_bytes, new_bytes - old_bytes);
    return (void *)p;
}

bool hk_os_guard(void *base, size_t bytes, bool guarded)
{
    return hk_os_calls.protect(base, bytes, !guarded) == 0;
}

enum hk_os_moved hk_os_renew(void *base, size_t bytes)
{
    void *fresh = hk_os_reserve(bytes, hk_os_page_bytes());
    enum hk_os_moved moved = fresh ? hk_os_move(fresh, bytes, base, bytes) : HK_OS_REFUSED;

    if (fresh && moved != HK_OS_MOVED)
        hk_os_abandon(fresh, bytes);
    return moved;
}

bool hk_os_huge_pages(void *base, size_t bytes, bool allowed)
{
    return hk_os_calls.advise(base, bytes, allowed ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0;
}

bool hk_os_wipe_on_fork(void *base, size_t bytes)
{
    return hk_os_calls.advise(base, bytes, MADV_WIPEONFORK) == 0;
}

#define HIGH_FD 900 /* the program still gets descriptor 3, and select() works up to 1023 */

/* NOEXEC_SEAL is refused by kernels before 6.3. */
static int create_file(const char *name)
{
    const unsigned noexec_seal = 8;
    long fd = syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING | noexec_seal);

    if (fd == -1 && errno == EINVAL)
        fd = syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return (int)fd;
}

/* The view exists before the seal that forbids others like it. */
static bool seal_file(int fd, size_t bytes, void **view)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

    if (syscall(SYS_ftruncate, fd, bytes) != 0)
        return false;
    intptr_t p = map_with(NULL, bytes, MAP_SHARED, fd);
    if (p < 0 && p > -4096)
        return false;
    *view = (void *)p;
    if (fcntl(fd, F_ADD_SEALS, seals) == 0 && fchmod(fd, 0400) == 0)
        return true;
    (void)syscall(SYS_munmap, *view, bytes);
    return false;
}

/* A low RLIMIT_NOFILE: then as high as it allows, else where it is. */
static int move_up(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

    for (int from = HIGH_FD / 2; high == -1 && errno == EINVAL && from > fd; from /= 2)
        high = fcntl(fd, F_DUPFD_CLOEXEC, from);
    if (high == -1)
        return fd;
    (void)close(fd);
    return high;
}

int hk_os_share(const char *name, size_t bytes, void **view)
{
    int saved = errno, fd = create_file(name);

    if (fd >= 0 && !seal_file(fd, bytes, view)) {
        (void)close(fd);
        fd = -1;
    }
    if (fd >= 0) {
        fd = move_up(fd);
        count(&hk_os_counters.mapped_bytes, bytes);
        count(&hk_os_counters.shared_bytes, bytes);
    }
    errno = saved;
    return fd;
}

bool hk_os_unshare(void *view, size_t bytes)
{
    return map_with(view, bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1) == (intptr_t)view;
}

#define VEC_PAGES 1024

size_t hk_os_resident(const void *base, size_t bytes)
{
    size_t page = hk_os_page_bytes(), resident = 0;
    unsigned char in_core[VEC_PAGES];
    int saved = errno;

    for (size_t done = 0; done < bytes; done += VEC_PAGES * page) {
        size_t part = hk_min(bytes - done, VEC_PAGES * page);
        if (syscall(SYS_mincore, (const char *)base + done, part, in_core) != 0)
            continue;
        for (size_t i = 0; i < (part + page - 1) / page; i++)
            resident += (in_core[i] & 1) * page;
    }
    errno = saved;
    return resident;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t = {0, 0};

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

uint64_t hk_os_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC_COARSE);
}

uint64_t hk_os_fine_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t hk_os_boot_ns(void)
{
    return clock_ns(CLOCK_BOOTTIME);
}

#if defined(SYS_clock_gettime) && defined(__LP64__)
#define CLOCK_NUMBER SYS_clock_gettime
#else
#define CLOCK_NUMBER -1 /* the kernel's time may have another shape than libc's */
#endif
uint64_t hk_os_start_ns(void)
{
    int saved = errno;
    struct timespec t = {0, 0};
    long r = CLOCK_NUMBER == -1 ? -1 : syscall(CLOCK_NUMBER, CLOCK_BOOTTIME, &t);

    errno = saved;
    return r == 0 ? (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec : hk_os_boot_ns();
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
