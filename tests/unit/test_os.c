// SPDX-License-Identifier: MIT
/* "kernel": over the real one. "fake": over fake_os, which refuses what the test names. */
#include "os/os.h"

#include "child.h"
#include "fake_os.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static size_t page;

static void over_kernel(void)
{
    page = hk_os_page_bytes();
    errno = EBADMSG; /* every test ends by looking at it */
}

static void over_fake(void)
{
    over_kernel();
    fake_os_install();
    errno = EBADMSG;
}

static void errno_untouched(void)
{
    ck_assert_int_eq(errno, EBADMSG);
}

static void no_violations(void)
{
    ck_assert_uint_eq(fake_os_violations(), 0);
    fake_os_remove();
}

static bool is_zero(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (p[i])
            return false;
    }
    return true;
}

static void *must_reserve(size_t bytes, size_t align)
{
    char *p = hk_os_reserve(bytes, align);

    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p & (align - 1), 0);
    return p;
}

/*
 * Over the kernel.
 */

START_TEST(page_bytes)
{
    ck_assert(hk_is_pow2(page));
    ck_assert_uint_eq(page, (size_t)sysconf(_SC_PAGESIZE));
}
END_TEST

START_TEST(reserve_is_aligned_and_zero)
{
    for (size_t align = page; align <= 64 * HK_MIB; align *= 2) {
        char *p = must_reserve(3 * page, align);
        ck_assert(is_zero(p, 3 * page));
        memset(p, 0x55, 3 * page);
        ck_assert(hk_os_release(p, 3 * page));
    }
    errno_untouched();
}
END_TEST

START_TEST(a_fence_is_before_it)
{
    for (size_t align = page; align <= 64 * page; align *= 2) {
        size_t mapped = hk_os_counters.mapped_bytes, lost = hk_os_counters.lost_bytes;
        void *fence = NULL;
        char *p = hk_os_reserve_fenced(3 * page, align, &fence);
        ck_assert_uint_eq((uintptr_t)p % align, 0);
        ck_assert(fake_os_is_guarded(p - page));
        ck_assert(!fake_os_is_guarded(p));
        ck_assert(fake_os_all_mapped(p, 3 * page));
        ck_assert(fake_os_none_mapped(p + 3 * page, page));
        ck_assert_uint_eq(hk_os_counters.mapped_bytes - mapped, 4 * page);
        ck_assert_uint_eq(hk_os_counters.lost_bytes - lost, page);
        ck_assert_ptr_eq(fence, p - page);
    }
}
END_TEST

/* What lay behind the last fence is gone: so is the fence, or each such mapping would leave one. */
START_TEST(the_last_fence_goes)
{
    size_t mapped = hk_os_counters.mapped_bytes, lost = hk_os_counters.lost_bytes;
    void *fence = NULL;

    for (int i = 0; i < 100; i++) {
        char *p = hk_os_reserve_fenced(3 * page, page, &fence);
        ck_assert(fake_os_is_guarded(p - page));
        ck_assert_uint_eq(hk_os_counters.mapped_bytes - mapped, 4 * page);
        ck_assert_uint_eq(hk_os_counters.lost_bytes - lost, page);
        ck_assert(hk_os_release(p, 3 * page));
    }
}
END_TEST

START_TEST(no_fence_is_no_failure)
{
    void *fence = NULL;
    char *p;

    fake_os_fail(FAKE_PROTECT, 1, ENOMEM);
    p = hk_os_reserve_fenced(3 * page, 4 * page, &fence);
    ck_assert(fake_os_all_mapped(p, 3 * page));
    ck_assert(fake_os_none_mapped(p - page, page));
    ck_assert_uint_eq(hk_os_counters.lost_bytes, 0);
    fake_os_fail(FAKE_MAP, 1, ENOMEM); /* no room for more than was asked for */
    ck_assert(fake_os_all_mapped(hk_os_reserve_fenced(3 * page, page, &fence), 3 * page));
    ck_assert_ptr_null(hk_os_reserve_fenced(SIZE_MAX & ~(page - 1), page, &fence));
}
END_TEST

START_TEST(reserve_refuses_the_impossible)
{
    if (sizeof(size_t) == 8) /* 2 GiB can be had */
        ck_assert_ptr_null(hk_os_reserve((size_t)PTRDIFF_MAX & ~(page - 1), page));
    ck_assert_ptr_null(hk_os_reserve(SIZE_MAX & ~(page - 1), page));
    ck_assert_ptr_null(hk_os_reserve(SIZE_MAX & ~(page - 1), 2 * HK_MIB));
    errno_untouched();
}
END_TEST

START_TEST(failures_say_so_and_keep_errno)
{
    char *p = must_reserve(4 * page, page), *other = must_reserve(4 * page, page);

    ck_assert(!hk_os_release(p + 1, page));
    ck_assert(!hk_os_purge(p + 1, page));
    ck_assert(!hk_os_purge_lazy(p + 1, page));
    ck_assert(!hk_os_guard(p + 1, page, true));
    ck_assert(!hk_os_wipe_on_fork(p + 1, page));
    ck_assert(!hk_os_resize(p + 1, page, 2 * page));
    ck_assert_int_eq(hk_os_move(p + 1, page, other, page), HK_OS_REFUSED);
    hk_os_huge_pages(p + 1, page, false);
    errno_untouched();
}
END_TEST

START_TEST(purge_zeroes)
{
    char *p = must_reserve(4 * page, page);

    memset(p, 0x55, 4 * page);
    ck_assert(hk_os_purge(p + page, 2 * page));
    ck_assert_int_eq(p[page - 1], 0x55);
    ck_assert(is_zero(p + page, 2 * page));
    ck_assert_int_eq(p[3 * page], 0x55);
    ck_assert(hk_os_purge_lazy(p, 4 * page));
    memset(p, 0x66, 4 * page); /* still ours */
    errno_untouched();
}
END_TEST

START_TEST(resize_in_place)
{
    char *p = must_reserve(8 * page, page);

    memset(p, 0x55, 8 * page);
    ck_assert(hk_os_resize(p, 8 * page, 4 * page));
    ck_assert(hk_os_resize(p, 4 * page, 8 * page)); /* what was given back is free */
    ck_assert_int_eq(p[4 * page - 1], 0x55);
    ck_assert(is_zero(p + 4 * page, 4 * page));
    errno_untouched();
}
END_TEST

static bool under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}

START_TEST(move_keeps_content)
{
    char *p = must_reserve(2 * page, page), *target = must_reserve(8 * page, page);

    memset(p, 0x55, 2 * page);
    ck_assert_int_eq(HK_OS_MOVED, hk_os_move(p, 2 * page, target, 8 * page));
    ck_assert_int_eq(target[2 * page - 1], 0x55);
    /* memcheck does not know that a remap to a fixed place may grow (valgrind 3.19). */
    if (!under_valgrind())
        ck_assert(is_zero(target + 2 * page, 6 * page));
    errno_untouched();
}
END_TEST

static void touch_guard(void)
{
    char *p = hk_os_reserve(2 * page, page);

    p[page] = 1;
    if (!hk_os_guard(p + page, page, true))
        _exit(1);
    signal(SIGSEGV, SIG_DFL); /* a sanitizer has a handler */
    ((volatile char *)p)[page] = 2;
}

START_TEST(guard_faults_until_it_is_lifted)
{
    struct child child = run_child(touch_guard);
    char *p = must_reserve(page, page);

    ck_assert(WIFSIGNALED(child.status));
    ck_assert(hk_os_guard(p, page, true));
    ck_assert(hk_os_guard(p, page, false));
    p[0] = 1;
    errno_untouched();
}
END_TEST

static char *wiped;

static void expect_wiped(void)
{
    _exit(!is_zero(wiped, page));
}

/* As the kernel does it, which knows nothing of what was there. */
START_TEST(renewed_pages_are_open_and_zero)
{
    char *p = must_reserve(4 * page, page);

    memset(p, 0x55, 4 * page);
    ck_assert(hk_os_guard(p + 2 * page, page, true));
    ck_assert_int_eq(HK_OS_MOVED, hk_os_renew(p + 2 * page, page));
    ck_assert(is_zero(p + 2 * page, page));
    ck_assert_int_eq(p[2 * page - 1], 0x55);
    ck_assert_int_eq(p[3 * page], 0x55);
    memset(p, 0x66, 4 * page);
    ck_assert(hk_os_release(p, 4 * page));
    ck_assert_uint_eq(hk_os_counters.mapped_bytes, 0);
    errno_untouched();
}
END_TEST

START_TEST(wipe_on_fork)
{
    wiped = must_reserve(page, page);
    wiped[0] = 1;
    if (!hk_os_wipe_on_fork(wiped, page))
        return; /* before Linux 4.14 */
    struct child child = run_child(expect_wiped);
    ck_assert(child_exited_0(&child));
    ck_assert_int_eq(wiped[0], 1);
}
END_TEST

START_TEST(resident_is_what_was_touched)
{
    char *p = hk_os_reserve(3000 * page, page);

    hk_os_huge_pages(p, 3000 * page, false);
    ck_assert_uint_eq(hk_os_resident(p, 3000 * page), 0);
    for (size_t i = 0; i < 20; i++)
        p[i * 149 * page] = 1; /* in each of the parts that one system call asks about */
    ck_assert_uint_eq(hk_os_resident(p, 3000 * page), 20 * page);
    ck_assert(hk_os_purge(p, 100 * page));
    ck_assert_uint_eq(hk_os_resident(p, 3000 * page), 19 * page);
    ck_assert(hk_os_release(p, 3000 * page));
    ck_assert_uint_eq(hk_os_resident(p, 3000 * page), 0);
}
END_TEST

START_TEST(shared_file)
{
    struct hk_os_counters before = hk_os_counters;
    void *view;
    int fd = hk_os_share("hakmem-test", 3 * page, &view);
    char first = 0;

    ck_assert_int_ge(fd, 100);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    *(char *)view = 'x';
    ck_assert_int_eq(pread(fd, &first, 1, 0), 1);
    ck_assert_int_eq(first, 'x');
    ck_assert_int_eq(pwrite(fd, "y", 1, 0), -1); /* only the view writes */
    ck_assert_uint_eq(hk_os_counters.mapped_bytes, before.mapped_bytes + 3 * page);
    ck_assert_uint_eq(hk_os_counters.shared_bytes, before.shared_bytes + 3 * page);
    ck_assert(hk_os_unshare(view, 3 * page)); /* as a fork child does */
    ck_assert_int_eq(*(char *)view, 0);
    *(char *)view = 'z';
    ck_assert_int_eq(pread(fd, &first, 1, 0), 1);
    ck_assert_int_eq(first, 'x');
    close(fd);
    errno = EBADMSG;
}
END_TEST

/* The rest in children, with whose limits and filters it ends. */
static void expect(bool holds, int line)
{
    char text[40];

    if (holds)
        return;
    snprintf(text, sizeof text, "line %d", line);
    (void)!write(STDERR_FILENO, text, strlen(text));
    _exit(1);
}

#define EXPECT(x) expect((x), __LINE__)

static void must_hold(void (*function)(void))
{
    struct child child = run_child(function);

    ck_assert_msg(child_exited_0(&child), "status %x: %s", (unsigned)child.status, child.text);
}

static void set_limit(int which, rlim_t value)
{
    EXPECT(setrlimit(which, &(struct rlimit){value, value}) == 0);
}

static int next_fd(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    close(fd);
    return fd;
}

static int descriptors; /* that the child may have */

static void share_with_few_descriptors(void)
{
    int low = next_fd(), fd;
    void *view;

    set_limit(RLIMIT_NOFILE, (rlim_t)(descriptors ? descriptors : low + 1));
    fd = hk_os_share("hakmem-test", page, &view);
    *(char *)view = 1;
    if (descriptors) {
        EXPECT(fd > descriptors / 4 && fd < descriptors && fd > low);
        EXPECT(next_fd() == low); /* that is the program's */
    } else {
        EXPECT(fd == low); /* better than none */
    }
    EXPECT(errno == EBADMSG);
}

START_TEST(shared_file_with_few_descriptors)
{
    static const int limits[] = {0, 40, 64, 256, 900};
    struct rlimit own;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &own), 0);
    descriptors = own.rlim_max < (rlim_t)limits[_i] ? (int)own.rlim_max : limits[_i]; /* some build daemons */
    must_hold(share_with_few_descriptors);
}
END_TEST

/* Nothing of it is left: no descriptor, no view, no count. */
static void share_fails(size_t bytes)
{
    struct hk_os_counters before = hk_os_counters;
    int low = next_fd();
    void *view = &before;

    EXPECT(hk_os_share("hakmem-test", bytes, &view) == -1);
    EXPECT(errno == EBADMSG);
    EXPECT(next_fd() == low);
    EXPECT(memcmp(&before, &hk_os_counters, sizeof before) == 0);
    /* A view that was there has gone. */
    EXPECT(view == &before || hk_os_resident(view, bytes) == 0);
}

static void share_beyond_file_size(void)
{
    signal(SIGXFSZ, SIG_IGN);
    set_limit(RLIMIT_FSIZE, 0);
    share_fails(page);
}

static void share_beyond_address_space(void)
{
    set_limit(RLIMIT_AS, (rlim_t)1 << 20); /* less than there is: nothing more */
    share_fails(64 * page);
}

START_TEST(shared_file_fails_whole)
{
    must_hold(share_beyond_file_size);
    must_hold(share_beyond_address_space);
}
END_TEST

/* The call is refused where `bits` are set in its second argument; none: always. False: no such filters here. */
static bool refuse_call(unsigned nr, uint32_t bits, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | (bits ? BPF_JSET : BPF_JGE) | BPF_K, bits, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
        errno = EBADMSG;
        return false;
    }
    return true;
}

static void share_without_files(void)
{
    if (refuse_call(SYS_memfd_create, 0, ENOSYS))
        share_fails(page);
}

static void share_on_linux_6_2(void)
{
    void *view;

    if (!refuse_call(SYS_memfd_create, 8, EINVAL)) /* what it calls NOEXEC_SEAL */
        return;
    EXPECT(hk_os_share("hakmem-test", page, &view) >= 100);
    *(char *)view = 1;
    EXPECT(errno == EBADMSG);
}

static void share_without_modes(void)
{
    if (refuse_call(SYS_fchmod, 0, EPERM))
        share_fails(page);
}

#ifdef SYS_fcntl64 /* what libc calls where words have 32 bits */
#define NR_FCNTL SYS_fcntl64
#else
#define NR_FCNTL SYS_fcntl
#endif

static void share_without_seals(void)
{
    if (refuse_call(NR_FCNTL, F_ADD_SEALS & ~(uint32_t)F_DUPFD_CLOEXEC, EPERM))
        share_fails(page);
}

START_TEST(shared_file_under_filters)
{
    must_hold(share_without_files);
    must_hold(share_on_linux_6_2);
    must_hold(share_without_modes);
    must_hold(share_without_seals);
}
END_TEST

START_TEST(clock_does_not_go_back)
{
    uint64_t last = hk_os_now_ns();

    ck_assert_uint_gt(last, 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = hk_os_now_ns();
        ck_assert_uint_ge(now, last);
        last = now;
    }
}
END_TEST

START_TEST(random_depends_on_salt_alone)
{
    ck_assert_uint_eq(hk_os_random(1), hk_os_random(1));
    ck_assert_uint_ne(hk_os_random(1), hk_os_random(2));
    ck_assert_uint_ne(hk_os_random(0), 0);
    errno_untouched();
}
END_TEST

START_TEST(identity)
{
    ck_assert_uint_eq(hk_os_thread_id(), (unsigned)getpid());
    ck_assert(!hk_os_is_secure());
    ck_assert_ptr_eq(hk_os_program_break(), sbrk(0));
}
END_TEST

/*
 * Over the fake.
 */

START_TEST(aligned_at_first_try_costs_one_call)
{
    fake_os_place(2 * HK_MIB, 0);
    must_reserve(2 * HK_MIB, 2 * HK_MIB);
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), 1);
    ck_assert_uint_eq(fake_os_calls(FAKE_UNMAP), 0);
}
END_TEST

START_TEST(misaligned_leaves_nothing_but_the_range)
{
    static const size_t skews[] = {1, 2, 255, 256, 511};

    for (size_t i = 0; i < sizeof skews / sizeof *skews; i++) {
        fake_os_install();
        fake_os_place(2 * HK_MIB, skews[i] * page);
        char *p = must_reserve(2 * HK_MIB, 2 * HK_MIB);
        ck_assert_uint_eq(fake_os_mapped_bytes(), 2 * HK_MIB);
        ck_assert(fake_os_all_mapped(p, 2 * HK_MIB));
        ck_assert(hk_os_release(p, 2 * HK_MIB));
        ck_assert_uint_eq(fake_os_mapped_bytes(), 0);
    }
    errno_untouched();
}
END_TEST

START_TEST(map_refused)
{
    fake_os_fail(FAKE_MAP, 1, ENOMEM);
    ck_assert_ptr_null(hk_os_reserve(page, page));
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), 1);
    must_reserve(page, page); /* that one alone was refused */
    errno_untouched();
}
END_TEST

START_TEST(second_map_refused_leaves_nothing)
{
    fake_os_place(2 * HK_MIB, page);
    fake_os_fail(FAKE_MAP, 2, ENOMEM);
    ck_assert_ptr_null(hk_os_reserve(page, 2 * HK_MIB));
    ck_assert_uint_eq(fake_os_calls(FAKE_MAP), 2);
    ck_assert_uint_eq(fake_os_mapped_bytes(), 0);
    errno_untouched();
}
END_TEST

/* A sandbox, or one mapping too many: address space is lost, the range is still right. */
START_TEST(cuts_refused_never_give_a_wrong_range)
{
    for (unsigned nth = 1; nth <= 3; nth++) {
        fake_os_install();
        fake_os_place(2 * HK_MIB, page);
        fake_os_fail(FAKE_UNMAP, nth, ENOMEM);
        char *p = must_reserve(2 * HK_MIB, 2 * HK_MIB);
        ck_assert(fake_os_all_mapped(p, 2 * HK_MIB));
        ck_assert(is_zero(p, 2 * HK_MIB));
    }
    errno_untouched();
}
END_TEST

START_TEST(every_refusal_is_passed_on)
{
    char *p = must_reserve(4 * page, page), *other = must_reserve(4 * page, page);

    fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    fake_os_fail_all(FAKE_REMAP, ENOMEM);
    fake_os_fail_all(FAKE_ADVISE, EINVAL);
    fake_os_fail_all(FAKE_PROTECT, ENOMEM);
    ck_assert(!hk_os_release(p, page));
    ck_assert(!hk_os_resize(p, 4 * page, page));
    ck_assert_int_ne(hk_os_move(p, 4 * page, other, 4 * page), HK_OS_MOVED);
    ck_assert(!hk_os_purge(p, page));
    ck_assert(!hk_os_purge_lazy(p, page));
    ck_assert(!hk_os_wipe_on_fork(p, page));
    hk_os_huge_pages(p, page, true);
    ck_assert(!hk_os_guard(p, page, true));
    ck_assert_uint_eq(fake_os_mapped_bytes(), 8 * page);
    ck_assert_uint_eq(fake_os_guarded_bytes(), 0);
    errno_untouched();
}
END_TEST

START_TEST(advice_is_the_right_one)
{
    char *p = must_reserve(page, page);

    ck_assert(hk_os_purge(p, page));
    ck_assert_int_eq(fake_os_last_advice(), MADV_DONTNEED);
    ck_assert(hk_os_purge_lazy(p, page));
    ck_assert_int_eq(fake_os_last_advice(), MADV_FREE);
    hk_os_huge_pages(p, page, true);
    ck_assert_int_eq(fake_os_last_advice(), MADV_HUGEPAGE);
    hk_os_huge_pages(p, page, false);
    ck_assert_int_eq(fake_os_last_advice(), MADV_NOHUGEPAGE);
}
END_TEST

/* What the kernel gave and took, and what it refused to take back. */
START_TEST(mapped_bytes_are_counted)
{
    char *p = hk_os_reserve(64 * page, 16 * page), *target;

    ck_assert_uint_eq(hk_os_counters.mapped_bytes, fake_os_mapped_bytes());
    ck_assert(hk_os_resize(p, 64 * page, 40 * page));
    ck_assert_uint_eq(hk_os_counters.mapped_bytes, fake_os_mapped_bytes());
    target = hk_os_reserve(80 * page, page);
    ck_assert_int_eq(HK_OS_MOVED, hk_os_move(p, 40 * page, target, 80 * page));
    ck_assert_uint_eq(hk_os_counters.mapped_bytes, 80 * page);
    ck_assert_uint_eq(hk_os_counters.lost_bytes, 0);
    fake_os_fail_all(FAKE_UNMAP, ENOMEM);
    hk_os_abandon(target, 80 * page);
    fake_os_fail_all(FAKE_UNMAP, 0);
    ck_assert_uint_eq(hk_os_counters.mapped_bytes, 80 * page);
    ck_assert_uint_eq(hk_os_counters.lost_bytes, 80 * page);
}
END_TEST

static void must_renew(char *p, enum hk_os_moved as, size_t lost_bytes)
{
    size_t mapped = fake_os_mapped_bytes();

    ck_assert_int_eq(hk_os_renew(p, page), as);
    ck_assert_uint_eq(hk_os_counters.lost_bytes, lost_bytes);
    ck_assert_uint_eq(fake_os_mapped_bytes(), mapped - (as == HK_OS_UNSURE ? page : 0));
    ck_assert_uint_eq(hk_os_counters.mapped_bytes, mapped);
}

START_TEST(renewal_is_refused)
{
    char *p = must_reserve(4 * page, page);

    ck_assert(hk_os_guard(p, page, true));
    must_renew(p, HK_OS_MOVED, 0);
    fake_os_fail(FAKE_MAP, 1, ENOMEM);
    must_renew(p, HK_OS_REFUSED, 0);
    fake_os_fail(FAKE_REMAP, 1, EPERM);
    must_renew(p, HK_OS_REFUSED, 0);
    fake_os_fail(FAKE_REMAP, 1, EPERM);
    fake_os_fail(FAKE_UNMAP, 1, ENOMEM);
    ck_assert_int_eq(hk_os_renew(p, page), HK_OS_REFUSED);
    ck_assert_uint_eq(hk_os_counters.lost_bytes, page); /* the fresh one */
    fake_os_fail(FAKE_REMAP, 1, EFAULT);
    must_renew(p, HK_OS_UNSURE, page);
    errno_untouched();
}
END_TEST

START_TEST(accounting_of_the_fake)
{
    char *p = must_reserve(4 * page, page), *other = must_reserve(8 * page, page);

    memset(p, 0x55, 4 * page);
    ck_assert_int_eq(HK_OS_MOVED, hk_os_move(p, 4 * page, other, 8 * page));
    ck_assert(fake_os_none_mapped(p, 4 * page));
    ck_assert_int_eq(other[0], 0x55);
    ck_assert(hk_os_resize(other, 8 * page, 2 * page));
    ck_assert_uint_eq(fake_os_mapped_bytes(), 2 * page);
    ck_assert(hk_os_guard(other, page, true));
    ck_assert_uint_eq(fake_os_guarded_bytes(), page);
    ck_assert(hk_os_release(other, 2 * page));
    ck_assert_uint_eq(fake_os_mapped_bytes(), 0);
    ck_assert_uint_eq(fake_os_violations(), 0);
    ck_assert(!hk_os_release(other, page));
    ck_assert_uint_eq(fake_os_violations(), 1);
    fake_os_install();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("os");
    TCase *tc = tcase_create("kernel");

    tcase_add_checked_fixture(tc, over_kernel, NULL);
    tcase_add_test(tc, page_bytes);
    tcase_add_test(tc, reserve_is_aligned_and_zero);
    tcase_add_test(tc, reserve_refuses_the_impossible);
    tcase_add_test(tc, failures_say_so_and_keep_errno);
    tcase_add_test(tc, purge_zeroes);
    tcase_add_test(tc, resize_in_place);
    tcase_add_test(tc, move_keeps_content);
    tcase_add_test(tc, guard_faults_until_it_is_lifted);
    tcase_add_test(tc, renewed_pages_are_open_and_zero);
    tcase_add_test(tc, wipe_on_fork);
    tcase_add_test(tc, resident_is_what_was_touched);
    tcase_add_test(tc, shared_file);
    if (!under_valgrind()) /* which keeps the last descriptors for itself */
        tcase_add_loop_test(tc, shared_file_with_few_descriptors, 0, 5);
    tcase_add_test(tc, shared_file_fails_whole);
    tcase_add_test(tc, shared_file_under_filters);
    tcase_add_test(tc, clock_does_not_go_back);
    tcase_add_test(tc, random_depends_on_salt_alone);
    tcase_add_test(tc, identity);
    suite_add_tcase(suite, tc);

    tc = tcase_create("fake");
    tcase_add_checked_fixture(tc, over_fake, no_violations);
    tcase_add_test(tc, aligned_at_first_try_costs_one_call);
    tcase_add_test(tc, misaligned_leaves_nothing_but_the_range);
    tcase_add_test(tc, map_refused);
    tcase_add_test(tc, second_map_refused_leaves_nothing);
    tcase_add_test(tc, cuts_refused_never_give_a_wrong_range);
    tcase_add_test(tc, every_refusal_is_passed_on);
    tcase_add_test(tc, advice_is_the_right_one);
    tcase_add_test(tc, mapped_bytes_are_counted);
    tcase_add_test(tc, a_fence_is_before_it);
    tcase_add_test(tc, the_last_fence_goes);
    tcase_add_test(tc, no_fence_is_no_failure);
    tcase_add_test(tc, renewal_is_refused);
    tcase_add_test(tc, accounting_of_the_fake);
    suite_add_tcase(suite, tc);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
