// SPDX-License-Identifier: MIT
#include "os/os.h"

#include "fake_os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* 4 GiB; 1.5 GiB, and alignment, are as much as a 32-bit process has in one piece. */
#define ARENA_PAGES (sizeof(size_t) == 8 ? (size_t)1 << 20 : (size_t)3 << 17)

#define FAKE_GUARD_INSTALL 102 /* Linux 6.13 */
#define FAKE_GUARD_REMOVE 103

enum page { PAGE_FREE, PAGE_MAPPED, PAGE_GUARDED };

static struct {
    struct hk_os_calls kernel;
    bool installed;
    size_t page_bytes;
    char *arena;
    size_t next_page; /* rises only */
    size_t place_align, place_skew;
    unsigned nr_calls[FAKE_NR_CALLS];
    unsigned fail_at[FAKE_NR_CALLS]; /* value of nr_calls of the call to fail; 0: none */
    int fail_error[FAKE_NR_CALLS];
    int fail_always[FAKE_NR_CALLS];
    int last_advice;
    unsigned nr_violations;
    uint8_t page[ARENA_PAGES]; /* enum page */
} fake;

static void die(const char *what)
{
    perror(what);
    abort();
}

static int enter(enum fake_call call)
{
    unsigned nr = ++fake.nr_calls[call];

    if (fake.fail_always[call])
        return -fake.fail_always[call];
    return nr == fake.fail_at[call] ? -fake.fail_error[call] : 0;
}

/* Page numbers of a range; false: it is not page-aligned, empty, or not in the arena. */
static bool locate(const void *base, size_t bytes, size_t *first, size_t *nr)
{
    size_t offset = (size_t)((const char *)base - fake.arena);

    *first = offset / fake.page_bytes;
    *nr = bytes / fake.page_bytes;
    return (uintptr_t)base >= (uintptr_t)fake.arena && offset % fake.page_bytes == 0 && bytes > 0 &&
           bytes % fake.page_bytes == 0 && *first < ARENA_PAGES && *nr <= ARENA_PAGES - *first;
}

static bool all_are(const void *base, size_t bytes, bool mapped)
{
    size_t first, nr;

    if (!locate(base, bytes, &first, &nr))
        return false;
    for (size_t i = 0; i < nr; i++) {
        if ((fake.page[first + i] != PAGE_FREE) != mapped)
            return false;
    }
    return true;
}

/* Every call but map works on mapped pages only. */
static int must_be_mapped(const void *base, size_t bytes)
{
    if (all_are(base, bytes, true))
        return 0;
    fake.nr_violations++;
    return -EINVAL;
}

static void mark(const void *base, size_t bytes, enum page state)
{
    size_t first, nr;

    if (!locate(base, bytes, &first, &nr))
        die("fake_os: mark");
    memset(fake.page + first, state, nr);
}

/* Fresh zeroed pages, or no access. */
static void back(void *base, size_t bytes, int protection)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;

    if (mmap(base, bytes, protection, flags, -1, 0) != base)
        die("fake_os: mmap");
}

static char *next_place(void)
{
    uintptr_t at = (uintptr_t)fake.arena + fake.next_page * fake.page_bytes;

    if (fake.place_align == 0)
        return (char *)at;
    at = ((at + fake.place_align - 1) & ~(uintptr_t)(fake.place_align - 1)) + fake.place_skew;
    fake.place_align = 0;
    return (char *)at;
}

static intptr_t fake_map(void *hint, size_t bytes)
{
    int error = enter(FAKE_MAP);
    char *base = next_place();
    size_t first, nr;

    (void)hint;
    if (error)
        return error;
    if (!locate(base, bytes, &first, &nr))
        return bytes % fake.page_bytes ? -EINVAL : -ENOMEM;
    fake.next_page = first + nr;
    back(base, bytes, PROT_READ | PROT_WRITE);
    mark(base, bytes, PAGE_MAPPED);
    return (intptr_t)base;
}

static int fake_unmap(void *base, size_t bytes)
{
    int error = enter(FAKE_UNMAP);

    if (!error)
        error = must_be_mapped(base, bytes);
    if (error)
        return error;
    back(base, bytes, PROT_NONE);
    mark(base, bytes, PAGE_FREE);
    return 0;
}

/* Room behind a mapping is whatever was never mapped. */
static intptr_t resize(char *base, size_t old_bytes, size_t new_bytes)
{
    if (new_bytes < old_bytes) {
        back(base + new_bytes, old_bytes - new_bytes, PROT_NONE);
        mark(base + new_bytes, old_bytes - new_bytes, PAGE_FREE);
    } else if (new_bytes > old_bytes) {
        size_t more = new_bytes - old_bytes, first, nr;
        if (!locate(base + old_bytes, more, &first, &nr) || first < fake.next_page)
            return -ENOMEM;
        back(base + old_bytes, more, PROT_READ | PROT_WRITE);
        mark(base + old_bytes, more, PAGE_MAPPED);
        fake.next_page = first + nr;
    }
    return (intptr_t)base;
}

/* Somewhere that no granule starts, as the kernel may choose. */
static intptr_t move_anywhere(char *base, size_t old_bytes, size_t new_bytes)
{
    char *target = (char *)fake.arena + (fake.next_page + 1) * fake.page_bytes;
    size_t first, nr;

    if (!locate(target, new_bytes, &first, &nr))
        return -ENOMEM;
    fake.next_page = first + nr;
    back(target, new_bytes, PROT_READ | PROT_WRITE);
    mark(target, new_bytes, PAGE_MAPPED);
    memcpy(target, base, old_bytes < new_bytes ? old_bytes : new_bytes);
    back(base, old_bytes, PROT_NONE);
    mark(base, old_bytes, PAGE_FREE);
    return (intptr_t)target;
}

static intptr_t fake_remap(void *base, size_t old_bytes, size_t new_bytes, int flags, void *target)
{
    int error = enter(FAKE_REMAP);

    if (error == -EFAULT && flags & MREMAP_FIXED) { /* as older kernels: the target first, then a look at the source */
        back(target, new_bytes, PROT_NONE);
        mark(target, new_bytes, PAGE_FREE);
    }
    if (!error)
        error = must_be_mapped(base, old_bytes);
    if (!error && flags & MREMAP_FIXED)
        error = must_be_mapped(target, new_bytes);
    if (error)
        return error;
    if (!(flags & MREMAP_FIXED)) {
        intptr_t p = resize(base, old_bytes, new_bytes);
        return p < 0 && p > -4096 && flags & MREMAP_MAYMOVE ? move_anywhere(base, old_bytes, new_bytes) : p;
    }
    if (flags & 4) { /* MREMAP_DONTUNMAP */
        memcpy(target, base, old_bytes);
        back(base, old_bytes, PROT_READ | PROT_WRITE);
        return (intptr_t)target;
    }
    /* A copy: what is one mapping to the box may be several to the kernel, which moves none such. */
    back(target, new_bytes, PROT_READ | PROT_WRITE);
    mark(target, new_bytes, PAGE_MAPPED);
    memcpy(target, base, old_bytes < new_bytes ? old_bytes : new_bytes);
    back(base, old_bytes, PROT_NONE);
    mark(base, old_bytes, PAGE_FREE);
    return (intptr_t)target;
}

/* Stricter than the kernel: no call but unmap may meet a guard page, or it faults. */
static int fake_guard(void *base, size_t bytes, bool install)
{
    int error = enter(FAKE_GUARD);

    if (!error)
        error = must_be_mapped(base, bytes);
    if (error)
        return error;
    back(base, bytes, install ? PROT_NONE : PROT_READ | PROT_WRITE);
    mark(base, bytes, install ? PAGE_GUARDED : PAGE_MAPPED);
    return 0;
}

static int fake_advise(void *base, size_t bytes, int advice)
{
    int error;

    if (advice == FAKE_GUARD_INSTALL || advice == FAKE_GUARD_REMOVE)
        return fake_guard(base, bytes, advice == FAKE_GUARD_INSTALL);
    error = enter(FAKE_ADVISE);
    fake.last_advice = advice;
    if (!error)
        error = must_be_mapped(base, bytes);
    return error ? error : fake.kernel.advise(base, bytes, advice);
}

static int fake_protect(void *base, size_t bytes, bool accessible)
{
    int error = enter(FAKE_PROTECT);

    if (!error)
        error = must_be_mapped(base, bytes);
    if (error)
        return error;
    mark(base, bytes, accessible ? PAGE_MAPPED : PAGE_GUARDED);
    return fake.kernel.protect(base, bytes, accessible);
}

/* Aligned to what a leaf of the page map covers, so that tests that count calls count the same wherever the
 * kernel puts us. */
static char *map_arena(size_t bytes)
{
    size_t align = (size_t)512 << 20;
    char *p = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        die("fake_os: arena");
    size_t head = (size_t)(-(uintptr_t)p & (align - 1));
    if (head)
        munmap(p, head);
    munmap(p + head + bytes, align - head);
    return p + head;
}

void fake_os_install(void)
{
    struct hk_os_calls kernel = fake.installed ? fake.kernel : hk_os_calls;
    size_t page_bytes = hk_os_page_bytes();
    char *arena = fake.installed ? fake.arena : map_arena(ARENA_PAGES * page_bytes);

    memset(&fake, 0, sizeof fake);
    fake.kernel = kernel;
    fake.installed = true;
    fake.page_bytes = page_bytes;
    fake.arena = arena;
    back(arena, ARENA_PAGES * page_bytes, PROT_NONE);
    fake.next_page = 1; /* nothing lies before the first mapping */
    hk_os_calls = (struct hk_os_calls){
        .map = fake_map,
        .unmap = fake_unmap,
        .remap = fake_remap,
        .advise = fake_advise,
        .protect = fake_protect,
    };
}

void fake_os_remove(void)
{
    if (fake.installed)
        hk_os_calls = fake.kernel;
}

void fake_os_fail(enum fake_call call, unsigned nth, int error)
{
    fake.fail_at[call] = fake.nr_calls[call] + nth;
    fake.fail_error[call] = error;
}

void fake_os_fail_all(enum fake_call call, int error)
{
    fake.fail_always[call] = error;
}

void fake_os_place(size_t align, size_t skew)
{
    fake.place_align = align;
    fake.place_skew = skew;
}

unsigned fake_os_calls(enum fake_call call)
{
    return fake.nr_calls[call];
}

int fake_os_last_advice(void)
{
    return fake.last_advice;
}

unsigned fake_os_violations(void)
{
    return fake.nr_violations;
}

static size_t count(bool guarded_only)
{
    size_t nr = 0;

    for (size_t i = 0; i < fake.next_page; i++)
        nr += guarded_only ? fake.page[i] == PAGE_GUARDED : fake.page[i] != PAGE_FREE;
    return nr * fake.page_bytes;
}

size_t fake_os_mapped_bytes(void)
{
    return count(false);
}

size_t fake_os_guarded_bytes(void)
{
    return count(true);
}

bool fake_os_all_mapped(const void *base, size_t bytes)
{
    return all_are(base, bytes, true);
}

bool fake_os_is_guarded(const void *page)
{
    size_t first, nr;

    return locate(page, fake.page_bytes, &first, &nr) && fake.page[first] == PAGE_GUARDED;
}

bool fake_os_none_mapped(const void *base, size_t bytes)
{
    return all_are(base, bytes, false);
}
