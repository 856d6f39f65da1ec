// SPDX-License-Identifier: MIT
/* malloc: the C family. Semantics where implementations differ: see hakmem(7), "What differs from the C library". */
#include "entry/entry_private.h"

#include "ace/ace.h"
#include "base/panic.h"
#include "config/config.h"
#include "entry/large.h"
#include "entry/malloc_h.h"
#include "export/export.h"
#include "guard/guard.h"
#include "heap/heap_inline.h"
#include "l25/l25_inline.h"
#include "os/os.h"
#include "secure/secure.h"
#include "site/site.h"
#include "thread/thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The same function under another name: its attributes too, where the compiler can copy them. */
#if __has_attribute(copy)
#define ALIAS_OF(name) __attribute__((visibility("default"), alias(#name), copy(name)))
#define HERE(name)     __attribute__((visibility("hidden"), alias(#name), copy(name)))
#else
#define ALIAS_OF(name) __attribute__((visibility("default"), alias(#name)))
#define HERE(name)     __attribute__((visibility("hidden"), alias(#name)))
#endif
#define CALLER() __builtin_return_address(0)

/* M_PERTURB: fill byte, 0 for none. Then no fast path is taken. */
static uint8_t perturb;

/* ---- slow halves --------------------------------------------------------------------------- */

/*
 * A thread that is about to abort must not touch the heap, but a SIGABRT handler may well allocate: give
 * it mappings that are never freed, their size in front.
 */
static void *emergency_alloc(size_t n)
{
    size_t unit = hk_os_page_bytes();
    size_t *p;

    if (n > PTRDIFF_MAX - 2 * unit)
        return NULL;
    p = hk_os_reserve(hk_align_up(n + 64, unit), unit);
    if (!p)
        return NULL;
    hk_add_relaxed(&hk_ace_counters.emergency_bytes, hk_align_up(n + 64, unit));
    p[7] = n;
    return p + 8;
}

static size_t emergency_size(const void *p)
{
    struct hk_block b;

    return hk_ace_identify(p, &b) == HK_BLOCK_UNKNOWN ? ((const size_t *)p)[-1] : b.usable;
}

static void fill_new(void *p, size_t n, bool zero)
{
    uint8_t byte = hk_load_relaxed(&perturb);

    if (HK_UNLIKELY(byte) && !zero)
        memset(p, byte ^ 0xff, n); /* as glibc: the complement on malloc, the byte on free */
}

static HK_COLD void *alloc_guarded(struct hk_heap *heap, size_t n, size_t align, const void *site)
{
    void *p = hk_entry_guard_alloc(heap, n, align, n, site);

    if (p && heap && hk_config.secure)
        hk_secure_look_at_last(heap, site);
    return p;
}

/* Inside a slow section. */
static void *alloc_inside(size_t n, size_t align, bool zero, const void *site)
{
    struct hk_heap *heap = hk_thread_heap();
    void *p = NULL;

    if (HK_UNLIKELY(!heap && hk_thread_is_panicking()))
        return emergency_alloc(n);
    if (HK_UNLIKELY(heap && (heap->sampling.searching || heap->sampling.nr_owed)))
        p = hk_entry_sample_alloc(heap, n, align, zero, site);
    if (HK_UNLIKELY(!p && hk_entry_guard_counts()))
        p = alloc_guarded(heap, n, align, site);
    if (HK_LIKELY(!p))
        p = HK_UNLIKELY(hk_config.secure) ? hk_secure_alloc(heap, n, align, zero, site)
                                          : hk_ace_alloc(heap, n, align, zero, site);
    if (HK_UNLIKELY(heap && heap->sampling.attention))
        hk_entry_sample_attend(heap);
    if (p && n > HK_FAST_MAX)
        hk_entry_note_large(heap, p, n, site);
    if (p)
        fill_new(p, n, zero);
    return p;
}

static HK_NOINLINE void *alloc_slow(size_t n, size_t align, bool zero, const void *site)
{
    int saved = errno;
    void *p = NULL;

    if (HK_LIKELY(n <= PTRDIFF_MAX)) {
        if (HK_LIKELY(hk_thread_enter())) {
            p = alloc_inside(n, align, zero, site);
            hk_thread_leave();
        } else {
            p = hk_ace_loose_alloc(n, align);
        }
    }
    errno = p ? saved : ENOMEM;
    return p;
}

/* A section that a signal handler used ends the long way. */
static HK_NOINLINE void *leave_with(void *p)
{
    hk_thread_leave();
    return p;
}

static HK_NOINLINE void *leave_and_alloc(size_t n, const void *site)
{
    hk_thread_leave();
    return alloc_slow(n, 16, false, site);
}

/*
 * 64 KiB to 2 MiB from the thread's own cache: no lock, no system call, errno untouched. All other calls are
 * in tail position, so that nothing is saved on the stack. Everything else goes to alloc_slow.
 */
static HK_NOINLINE void *malloc_run(size_t n, const void *site)
{
    struct hk_heap *heap = hk_heap_self;
    struct hk_run *run;

    if (n - HK_FAST_MAX - 1 >= heap->max_run || heap->site_pending.site != site ||
        heap->site_pending.nr_allocs >= heap->site_pending.max_allocs || !hk_thread_enter_light())
        return alloc_slow(n, 16, false, site);
    run = hk_l25_pop(&heap->l25, n);
    if (HK_LIKELY(run)) {
        run->site = site;
        hk_entry_add_pending(heap, n);
        if (HK_UNLIKELY(!hk_thread_try_leave_light(heap)))
            return leave_with(hk_run_start(run));
        return hk_run_start(run);
    }
    return leave_and_alloc(n, site);
}

HK_NOINLINE void *hk_entry_alloc(size_t n, size_t align, bool zero, const void *site)
{
    return align <= 16 && !zero ? malloc_run(n, site) : alloc_slow(n, align, zero, site);
}

static void fill_old(void *p)
{
    uint8_t byte = hk_load_relaxed(&perturb);
    struct hk_block b;

    if (HK_UNLIKELY(byte) && !hk_config.secure && hk_ace_identify(p, &b) == HK_BLOCK_LIVE) /* else free says what it is */
        memset(p, byte, b.usable);
}

/* May the profile have a record of it? */
static bool is_followed(const void *p)
{
    uintptr_t word = hk_pagemap_word(p);

    return hk_heap_is_sampled_word(word) || word == HK_PM_GUARD;
}

static void free_inside(void *p, enum hk_origin origin, size_t size, const void *site)
{
    struct hk_heap *heap = hk_thread_heap();

    if (HK_UNLIKELY(!heap && hk_thread_is_panicking()))
        return;
    fill_old(p);
    if (HK_UNLIKELY(heap && heap->sampling.searching))
        hk_entry_sample_passes(heap);
    if (HK_UNLIKELY(is_followed(p)))
        hk_entry_sample_freed(heap, p);
    if (HK_UNLIKELY(hk_ace_follows(p)))
        hk_entry_large_freed(heap, p);
    if (HK_UNLIKELY(hk_config.secure))
        hk_secure_free(heap, p, origin, size, site);
    else
        hk_ace_free(heap, p, site);
}

/* By a function that takes `origin`, and says the block has `size` bytes: option secure verifies both. */
static HK_NOINLINE void free_as(void *p, enum hk_origin origin, size_t size, const void *site)
{
    int saved = errno;

    if (HK_LIKELY(hk_thread_enter())) {
        free_inside(p, origin, size, site);
        hk_thread_leave();
    } else if (!hk_ace_loose_free(p) && (HK_LIKELY(!hk_config.secure) || hk_secure_let_past(p))) {
        hk_thread_defer_free(p);
    }
    errno = saved;
}

static HK_NOINLINE void free_slow(void *p, const void *site)
{
    free_as(p, HK_ORIGIN_MALLOC, HK_SIZE_UNSAID, site);
}

static HK_NOINLINE void leave_and_free(void *p, const void *site)
{
    hk_thread_leave();
    free_slow(p, site);
}

/* After a successful kill, with room. */
HK_INLINE void keep_run(struct hk_heap *heap, struct hk_run *run, size_t class)
{
    hk_l25_push_in(&heap->l25, run, class);
    if (HK_UNLIKELY(!hk_thread_try_leave_light(heap)))
        hk_thread_leave();
}

static HK_NOINLINE void free_run_shared(void *p, const void *site, struct hk_heap *heap, struct hk_run *run)
{
    if (HK_LIKELY(hk_l25_kill(run)))
        keep_run(heap, run, run->class);
    else
        leave_and_free(p, site); /* dead already: the slow path says so */
}

/* Into the thread's own cache. As malloc_run: all calls in tail position, and the arguments stay where they are.
 * A signal handler that frees between the look and the section may fill the room: one run too many. */
static HK_NOINLINE void free_run(void *p, const void *site, struct hk_run *run)
{
    struct hk_heap *heap = hk_heap_self;
    size_t class = run->class;

    if (p != hk_run_start(run) || !hk_l25_has_room_in(&heap->l25, run, class) || !hk_thread_enter_light())
        free_slow(p, site);
    else if (!hk_is_single_threaded())
        free_run_shared(p, site, heap, run);
    else if (HK_LIKELY(hk_l25_kill_alone(run)))
        keep_run(heap, run, class);
    else
        leave_and_free(p, site);
}

/* A small block of another heap's, and the magazine is full. errno stays: parcels are sent without a call that sets it. */
static HK_NOINLINE void free_remote(void *p, const void *site, uintptr_t word)
{
    struct hk_heap *heap = hk_heap_self;
    bool done = false;

    if (heap->max_fast && hk_thread_enter()) {
        done = hk_ace_free_remote(heap, p, word);
        hk_thread_leave_fast(heap);
    }
    if (!done)
        free_slow(p, site);
}

HK_NOINLINE void hk_entry_free(void *p, const void *site)
{
    uintptr_t a = (uintptr_t)p, word;
    struct hk_pm_leaf *leaf;

    if (HK_LIKELY(a >> HK_ROOT_SHIFT < HK_ROOT_ENTRIES)) {
        leaf = hk_pagemap_leaf(a);
        word = hk_load_relaxed(&leaf->word[hk_pagemap_index(a)]);
        if (word == HK_PM_RUN) {
            free_run(p, site, hk_load_relaxed(&leaf->desc[hk_pagemap_index(a)]));
            return;
        }
        if (word >= HK_PM_KINDS && !hk_heap_is_sampled_word(word) && hk_heap_of_word(word) != hk_heap_self) {
            free_remote(p, site, word);
            return;
        }
        if (!p)
            return;
    }
    free_slow(p, site);
}

/* Option secure. */
static void free_said(void *p, enum hk_origin origin, size_t size, const void *site)
{
    if (p)
        free_as(p, origin, size, site);
}

HK_NOINLINE void hk_entry_free_sized(void *p, size_t size, const void *site)
{
    struct hk_block b;

    if (HK_UNLIKELY(hk_config.secure)) {
        free_said(p, HK_ORIGIN_MALLOC, size, site);
        return;
    }
    if (p && hk_ace_identify(p, &b) == HK_BLOCK_LIVE && !hk_size_is_plausible(b.usable, size))
        hk_add_relaxed(&hk_ace_counters.size_mismatches, 1);
    hk_entry_free(p, site);
}

HK_NOINLINE void hk_entry_delete(void *p, unsigned origin, size_t size, size_t align, const void *site)
{
    if (HK_UNLIKELY(hk_config.secure))
        free_said(p, (enum hk_origin)origin, size, site);
    else if (size == HK_SIZE_UNSAID)
        hk_entry_free(p, site);
    else
        hk_entry_free_sized(p, hk_entry_aligned_size(size, align), site);
}

/* ---- malloc, free, calloc, realloc --------------------------------------------------------- */

HK_EXPORT void *malloc(size_t n)
{
    void *p = hk_heap_alloc_fast(n);

    if (HK_LIKELY(p))
        return p;
    return malloc_run(n, CALLER());
}

HK_EXPORT void free(void *p)
{
    if (HK_LIKELY(hk_heap_free_fast(p)))
        return;
    hk_entry_free(p, CALLER());
}

/* Not through the PLT, whoever replaces free. */
extern __typeof(free) free_here HERE(free);

HK_EXPORT void *calloc(size_t count, size_t size)
{
    size_t n;
    void *p;

    if (HK_UNLIKELY(__builtin_mul_overflow(count, size, &n))) {
        errno = ENOMEM;
        return NULL;
    }
    p = hk_heap_alloc_fast(n);
    if (HK_LIKELY(p))
        return memset(p, 0, n);
    return hk_entry_alloc(n, 16, true, CALLER());
}

/*
 * The block is a sample, or the new one may become one: hk_ace_realloc in steps, each told to the profile
 * before the old address can be somebody else's block.
 */
static void *realloc_with_sample(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    bool sampled = is_followed(p);
    bool stays = hk_ace_resize(heap, p, n, site);
    size_t usable = hk_ace_usable(p, site);
    void *moved = stays ? p : alloc_inside(n, 16, false, site);

    if (!moved)
        return n <= usable ? p : NULL; /* a shrink never fails */
    if (sampled)
        hk_entry_sample_resized(heap, p, n, moved != p);
    if (moved != p) {
        hk_ace_note_moved(moved, n);
        memcpy(moved, p, hk_min(n, usable));
        hk_ace_free(heap, p, site);
    }
    return moved;
}

static void *realloc_inside(void *p, size_t n, const void *site)
{
    struct hk_heap *heap = hk_thread_heap();
    void *moved;

    if (HK_UNLIKELY(!heap && hk_thread_is_panicking())) {
        moved = emergency_alloc(n);
        return moved ? memcpy(moved, p, hk_min(n, emergency_size(p))) : NULL;
    }
    if (HK_UNLIKELY(hk_config.secure))
        return hk_secure_realloc(heap, p, n, site);
    moved = is_followed(p) ? NULL : hk_ace_regrow(heap, p, n, site);
    if (moved) {
        hk_entry_note_large(heap, moved, n, site); /* as if it had begun up there */
        return moved;
    }
    if (HK_UNLIKELY(heap && n <= HK_FAST_MAX && (heap->sampling.searching || heap->sampling.nr_owed)) ||
        HK_UNLIKELY(is_followed(p)))
        return realloc_with_sample(heap, p, n, site);
    moved = n > HK_FAST_MAX || hk_ace_follows(p) ? hk_entry_large_realloc(heap, p, n, site)
                                                 : hk_ace_realloc(heap, p, n, site);
    if (HK_UNLIKELY(heap && heap->sampling.attention))
        hk_entry_sample_attend(heap);
    return moved;
}

static size_t usable_size(const void *p, const void *site)
{
    return HK_UNLIKELY(hk_config.secure) ? hk_secure_usable(p, site) : hk_ace_usable(p, site);
}

/* In a signal handler that interrupted a slow section. */
static void *realloc_loose(void *p, size_t n, const void *site)
{
    void *moved = hk_ace_loose_alloc(n, 16);

    if (moved) {
        memcpy(moved, p, hk_min(n, usable_size(p, site)));
        hk_entry_free(p, site);
    }
    return moved;
}

static void *realloc_at(void *p, size_t n, const void *site)
{
    int saved = errno;
    void *moved = NULL;

    if (!p)
        return hk_entry_alloc(n, 16, false, site);
    if (n == 0 && hk_load_relaxed(&hk_config.realloc0) == HK_REALLOC0_FREE) {
        hk_entry_free(p, site);
        return NULL;
    }
    n += n == 0;
    if (HK_LIKELY(n <= PTRDIFF_MAX)) {
        if (HK_LIKELY(hk_thread_enter())) {
            moved = realloc_inside(p, n, site);
            hk_thread_leave();
        } else {
            moved = realloc_loose(p, n, site);
        }
    }
    errno = moved ? saved : ENOMEM;
    return moved;
}

/* The old block goes by free itself: its fast path is the only code that puts blocks into magazines outside of slow sections. */
static HK_NOINLINE void *move_small(void *fresh, void *p, size_t bytes)
{
    memcpy(fresh, p, bytes);
    free_here(p);
    return fresh;
}

static HK_NOINLINE void *realloc_other(void *p, size_t n, const void *site)
{
    return hk_ace_keeps(p, n) ? p : realloc_at(p, n, site);
}

/*
 * A small block of the thread's own stays, or moves from one magazine to another; a new one is a malloc, for programs that know
 * no other call than realloc. Nothing is saved on the stack here.
 */
HK_INLINE void *realloc_fast(void *p, size_t n, const void *site)
{
    size_t size = p ? hk_heap_small_size(p) : 0;
    void *fresh;

    if (p && size == 0)
        return realloc_other(p, n, site);
    if (hk_ace_keeps_small(size, n))
        return p;
    fresh = HK_LIKELY(!p || n <= HK_ACE_GROW_MIN) ? hk_heap_alloc_fast(n) : NULL;
    if (HK_UNLIKELY(!fresh))
        return realloc_at(p, n, site);
    return p ? move_small(fresh, p, hk_min(n, size)) : fresh;
}

HK_EXPORT void *realloc(void *p, size_t n)
{
    return realloc_fast(p, n, CALLER());
}

HK_EXPORT void *reallocarray(void *p, size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc_fast(p, n, CALLER());
}

HK_EXPORT void free_sized(void *p, size_t size);
HK_EXPORT void free_sized(void *p, size_t size)
{
    if (HK_UNLIKELY(!hk_heap_free_sized_fast(p, size)))
        hk_entry_free_sized(p, size, CALLER());
}

HK_EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size);
HK_EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size)
{
    size_t usable = hk_entry_aligned_size(size, alignment);

    if (HK_UNLIKELY(!hk_heap_free_sized_fast(p, usable)))
        hk_entry_free_sized(p, hk_config.secure ? size : usable, CALLER());
}

HK_EXPORT void cfree(void *p);
HK_EXPORT void cfree(void *p)
{
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_free(p, CALLER());
}

/* ---- aligned ------------------------------------------------------------------------------- */

/* align: a power of two. */
HK_INLINE void *alloc_aligned(size_t n, size_t align, const void *site)
{
    void *p = align <= 16 ? hk_heap_alloc_fast(n) : hk_heap_alloc_aligned_fast(n, align);

    return HK_LIKELY(p) ? p : hk_entry_alloc(n, align, false, site);
}

HK_EXPORT int posix_memalign(void **out, size_t align, size_t n)
{
    int saved = errno;
    void *p;

    if (!hk_is_pow2(align) || align % sizeof(void *))
        return EINVAL;
    p = alloc_aligned(n, align, CALLER());
    errno = saved; /* reports by value, on failure too */
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

HK_EXPORT void *aligned_alloc(size_t align, size_t n)
{
    if (!hk_is_pow2(align)) {
        errno = EINVAL;
        return NULL;
    }
    return alloc_aligned(n, align, CALLER());
}

/* As glibc: any alignment, rounded up to a power of two. */
HK_EXPORT void *memalign(size_t align, size_t n)
{
    if (align > (SIZE_MAX >> 1) + 1) {
        errno = EINVAL;
        return NULL;
    }
    while (!hk_is_pow2(align))
        align = align ? align + (align & -align) : 1;
    return alloc_aligned(n, align, CALLER());
}

HK_EXPORT void *valloc(size_t n)
{
    return hk_entry_alloc(n, hk_os_page_bytes(), false, CALLER());
}

HK_EXPORT void *pvalloc(size_t n)
{
    size_t page = hk_os_page_bytes();

    if (n > PTRDIFF_MAX - page) {
        errno = ENOMEM;
        return NULL;
    }
    return hk_entry_alloc(hk_align_up(n ? n : 1, page), page, false, CALLER());
}

size_t hk_entry_trim(size_t keep_bytes)
{
    int saved = errno;
    size_t given = 0;

    if (hk_thread_enter()) {
        struct hk_heap *heap = hk_thread_heap();
        if (hk_config.secure)
            hk_secure_flush(heap);
        if (hk_ace_cached_bytes() > keep_bytes || keep_bytes == 0)
            given = hk_ace_purge(heap);
        hk_thread_leave();
    }
    errno = saved;
    return given;
}

/* ---- queries ------------------------------------------------------------------------------- */

HK_EXPORT size_t malloc_usable_size(void *p)
{
    size_t size;

    if (!p)
        return 0;
    size = hk_heap_small_size(p); /* some programs ask at each malloc and free */
    if (HK_LIKELY(size))
        return size;
    if (HK_UNLIKELY(hk_thread_is_panicking()))
        return emergency_size(p);
    return usable_size(p, CALLER());
}

HK_EXPORT int malloc_trim(size_t keep_bytes)
{
    return hk_entry_trim(keep_bytes) > 0;
}

/* ---- libc's other names, and ours ---------------------------------------------------------- */

extern __typeof(malloc) __libc_malloc ALIAS_OF(malloc);
extern __typeof(calloc) __libc_calloc ALIAS_OF(calloc);
extern __typeof(realloc) __libc_realloc ALIAS_OF(realloc);
extern __typeof(free) __libc_free ALIAS_OF(free);
extern __typeof(memalign) __libc_memalign ALIAS_OF(memalign);
extern __typeof(valloc) __libc_valloc ALIAS_OF(valloc);
extern __typeof(pvalloc) __libc_pvalloc ALIAS_OF(pvalloc);
extern __typeof(posix_memalign) __posix_memalign ALIAS_OF(posix_memalign);

extern __typeof(malloc) hak_malloc ALIAS_OF(malloc);
extern __typeof(calloc) hak_calloc ALIAS_OF(calloc);
extern __typeof(realloc) hak_realloc ALIAS_OF(realloc);
extern __typeof(free) hak_free ALIAS_OF(free);
extern __typeof(aligned_alloc) hak_aligned_alloc ALIAS_OF(aligned_alloc);
extern __typeof(free_sized) hak_free_sized ALIAS_OF(free_sized);

/* ---- start --------------------------------------------------------------------------------- */

/*
 * The next allocator's function of that name, or NULL. Looked up when the first such block comes, inside a slow
 * section, where dlsym may allocate; at start it would cost every process a microsecond.
 */
static bool find_next(const char *name, const void *ours, void *function, size_t size)
{
    static uint32_t told; /* a byte would need a library on some machines */
    void *symbol = dlsym(RTLD_NEXT, name);

    if (!symbol || symbol == ours)
        return false;
    memcpy(function, &symbol, size); /* ISO C has no cast from object to function pointer */
    if (!__atomic_exchange_n(&told, 1, __ATOMIC_RELAXED))
        hk_warn("block of another allocator: handed on to it (reported once)", NULL, NULL);
    return true;
}

static bool free_foreign(void *p)
{
    void (*next)(void *);

    if (!find_next("free", (void *)free, &next, sizeof next))
        return false;
    next(p);
    return true;
}

static bool resize_foreign(void *p, size_t n, void **moved)
{
    void *(*next)(void *, size_t);

    if (!find_next("realloc", (void *)realloc, &next, sizeof next))
        return false;
    *moved = next(p, n);
    return true;
}

static bool measure_foreign(const void *p, size_t *bytes)
{
    size_t (*next)(void *);

    if (!find_next("malloc_usable_size", (void *)malloc_usable_size, &next, sizeof next))
        return false;
    *bytes = next((void *)p);
    return true;
}

static void child_of_fork(void)
{
    hk_site_fork_child();
    hk_guard_fork_child(hk_in_slow_section); /* thread.c, whose handler came first, left it set only then */
}

static __attribute__((constructor(101))) void start(void)
{
    static const struct hk_foreign foreign = {free_foreign, resize_foreign, measure_foreign};

    hk_ace_foreign = &foreign;
    hk_thread_start();
    hk_entry_obey_run();
    hk_entry_keep_stderr();
    hk_entry_start_learning();
    hk_export_start();
    pthread_atfork(NULL, NULL, child_of_fork);
    if (hk_config.prof || hk_config.guard)
        hk_entry_caller_start();
    hk_entry_guard_start();
    if (hk_config.secure) {
        hk_secure_operators_are_ours = hk_entry_operators_are_ours;
        (void)atexit(hk_secure_look);
    }
}

/* ---- mallopt ------------------------------------------------------------------------------- */

static int set_option(enum hk_option option, size_t value)
{
    struct hk_config_change change;
    int error;

    hk_lock(&hk_config_lock);
    hk_config_propose_number(option, value, &change);
    error = hk_thread_change_option(&change, "mallopt");
    hk_unlock(&hk_config_lock);
    return error == 0;
}

static int apply_option(int param, int value)
{
    size_t bytes = value < 0 ? SIZE_MAX / 2 : (size_t)value;

    (void)hk_thread_heap(); /* the configured values first */
    switch (param) {
    case M_MMAP_THRESHOLD:
        return set_option(HK_OPTION_mmap_threshold, hk_max(bytes, HK_FAST_MAX + 1));
    case M_TRIM_THRESHOLD:
        return set_option(HK_OPTION_purge_cap_bytes, bytes);
    case M_PERTURB:
        hk_store_relaxed(&perturb, (uint8_t)value);
        hk_thread_fast_paths((uint8_t)value == 0);
        return 1;
    case M_MXFAST:
    case M_TOP_PAD:
    case M_MMAP_MAX:
    case M_CHECK_ACTION:
    case M_ARENA_TEST:
    case M_ARENA_MAX:
        return 1;
    default:
        return 0;
    }
}

HK_EXPORT int mallopt(int param, int value)
{
    int done = 0;

    if (hk_thread_enter()) {
        done = apply_option(param, value);
        hk_thread_leave();
    }
    return done;
}
