// SPDX-License-Identifier: MIT
/*
 * os: the whole contract with the kernel. The only mmap, munmap, mremap, madvise and mprotect.
 *
 * Every call goes through the table hk_os_calls, so that a unit test can run a box over a fake or a
 * failing kernel. No state but that table and the page size; no lock; errno is preserved.
 * Failure: NULL or false, and nothing changed. After start-up these are the only system calls made
 * (with futex in sync): a seccomp filter may refuse all others.
 */
#ifndef HK_OS_H
#define HK_OS_H

#include "base/base.h"

struct hk_os_calls {
    /* All as their system calls, but with -errno instead of errno; map returns an address or -errno. */
    intptr_t (*map)(void *hint, size_t bytes);                       /* private anonymous, read-write */
    int (*unmap)(void *base, size_t bytes);                          /* munmap */
    intptr_t (*remap)(void *base, size_t old_bytes, size_t new_bytes, int flags, void *target);
    int (*advise)(void *base, size_t bytes, int advice);             /* madvise */
    int (*protect)(void *base, size_t bytes, bool accessible);       /* mprotect: none or read-write */
};

extern struct hk_os_calls hk_os_calls; /* written by tests only, before any thread exists */

/* Relaxed adds beside a system call each; what the sums of all boxes are held against. */
struct hk_os_counters {
    size_t mapped_bytes; /* reserved and not given back */
    size_t lost_bytes;   /* of these: the kernel refused to take them, or may have; nobody uses them */
    size_t shared_bytes; /* of these: a file that others read, and what its maker knows of it */
};
extern struct hk_os_counters hk_os_counters;

/* Page size in bytes, read from the auxiliary vector at first use: 4, 16 or 64 KiB. */
size_t hk_os_page_bytes(void);

/* `bytes` (page multiple) of zeroed read-write memory aligned to `align` (power of two >= page). */
void *hk_os_reserve(size_t bytes, size_t align);
/* The same with a page before it that nobody may touch, if that can be had. *fence, NULL at first, is the caller's last one: it goes,
 * since what lay behind it is gone. */
void *hk_os_reserve_fenced(size_t bytes, size_t align, void **fence);
/* Gives the range back. False: the kernel refused (too many mappings) and the range is still ours. */
bool hk_os_release(void *base, size_t bytes);
/* The same for a caller who keeps no record of the range: when the kernel refuses it is lost, and counted. */
void hk_os_abandon(void *base, size_t bytes);
/* Counts what the caller will never use or unmap again. */
void hk_os_lose(size_t bytes);
/* Drops the content. True: the pages read as zero from now on. False: content unknown, still ours. */
bool hk_os_purge(void *base, size_t bytes);
/* As purge, but the kernel may keep pages until it needs them: content is unknown either way. */
bool hk_os_purge_lazy(void *base, size_t bytes);
/* Grows or shrinks in place. */
bool hk_os_resize(void *base, size_t old_bytes, size_t new_bytes);
/*
 * Older kernels (6.1 does) unmap the target before they look at the source, which they may then refuse: it spans
 * several of their mappings, say, because the program locked a part. After that the target may be a hole, or by now
 * somebody else's: it must be neither used nor unmapped.
 */
enum hk_os_moved {
    HK_OS_REFUSED, /* nothing changed */
    HK_OS_MOVED,
    HK_OS_UNSURE,  /* the source is as it was; the target is lost */
};
/* Moves `base` onto `target`, a range of new_bytes reserved by us; the old range is gone on success. */
enum hk_os_moved hk_os_move(void *base, size_t old_bytes, void *target, size_t new_bytes);
/* The pages of `base` move onto `target`, a range of ours; base stays, and reads as zero. Refused by kernels
 * before 5.7. */
enum hk_os_moved hk_os_take_pages(void *base, size_t bytes, void *target);
/* Moves it to an address of the kernel's choice, which is a page's and no more. NULL: nothing changed. */
void *hk_os_move_anywhere(void *base, size_t old_bytes, size_t new_bytes);
/* No access at all from now on (true) or read-write again (false). */
bool hk_os_guard(void *base, size_t bytes, bool guarded);
/* Fresh pages in the place of a range of ours, whatever access it had: read-write, zeroed. UNSURE: it is not
 * to be touched again, and still the caller's to account for. */
enum hk_os_moved hk_os_renew(void *base, size_t bytes);
/*
 * Guard pages: who touches one gets SIGSEGV, and they cost no mapping of their own (MADV_GUARD_INSTALL, Linux 6.13).
 * Their content is gone; once removed they read as zero. purge leaves them, fork copies them, a move takes them along.
 */
bool hk_os_install_guard(void *base, size_t bytes);
/* False: they are still there, and the range is of no use to anybody. */
bool hk_os_remove_guard(void *base, size_t bytes);
/* Keeps transparent huge pages off (or lets them on) for the range; false: refused, which is harmless. */
bool hk_os_huge_pages(void *base, size_t bytes, bool allowed);
/* Wiped to zero in a fork child. False: the kernel cannot. */
bool hk_os_wipe_on_fork(void *base, size_t bytes);

/*
 * A sealed file in memory that others can read and only this process can write, through *view. Closed on
 * exec. Returns the file descriptor, a high number where the limits allow one; -1: not to be had, nothing
 * is left behind. For the constructor: memfd_create, ftruncate, mmap, fcntl, fchmod, close.
 */
int hk_os_share(const char *name, size_t bytes, void **view);
/* In a fork child: the parent's view becomes a private mapping of the child's own, zeroed. */
bool hk_os_unshare(void *view, size_t bytes);

/* Bytes of the range that are in memory. A range that is not mapped: 0. System calls, 4 MiB each at least. */
size_t hk_os_resident(const void *base, size_t bytes);

/* Coarse monotonic clock in ns (a few ms of resolution); no system call where the vDSO works. */
uint64_t hk_os_now_ns(void);
/* The same, fine: tens of ns per call. */
uint64_t hk_os_fine_ns(void);
/* Since the machine started, suspended time included (CLOCK_BOOTTIME). */
uint64_t hk_os_boot_ns(void);
/* The same, for the constructor alone: a system call, since the C library's way costs two page faults the
 * first time. Not later: a sandbox may forbid it. */
uint64_t hk_os_start_ns(void);
/* 64 random bits from AT_RANDOM, mixed with `salt`. */
uint64_t hk_os_random(uint64_t salt);
/* Kernel thread id of the caller (cached by the callers; one system call). */
unsigned hk_os_thread_id(void);
/* Where the memory that libc's own allocator takes by brk ends now. One system call. */
const char *hk_os_program_break(void);
/* setuid, setgid or file capabilities: do not trust the environment. */
bool hk_os_is_secure(void);

#endif
