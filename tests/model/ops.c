// SPDX-License-Identifier: MIT
//
// Plays one operation against the allocator and checks the answer. Every call goes through a
// pointer, so that the compiler cannot reason about malloc, and so that an alias (hak_malloc, a C++
// operator) is one more candidate.
#include "model.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <malloc.h>

#define ERRNO_BEFORE 4242 // no errno value: shows whether a call wrote errno
#define MAX_ALIASES  4

typedef void *alloc_fn(size_t);
typedef void *calloc_fn(size_t, size_t);
typedef void *realloc_fn(void *, size_t);
typedef void *reallocarray_fn(void *, size_t, size_t);
typedef void *aligned_fn(size_t, size_t);
typedef int posix_memalign_fn(void **, size_t, size_t);
typedef void free_fn(void *);
typedef void free_sized_fn(void *, size_t);
typedef void free_aligned_sized_fn(void *, size_t, size_t);
typedef size_t usable_fn(void *);
typedef void *new_nothrow_fn(size_t, const void *);
typedef void *new_aligned_nothrow_fn(size_t, size_t, const void *);
typedef void *alloc_at_fn(size_t, const void *);
typedef void free_at_fn(void *, size_t, const void *);
typedef int expand_fn(void *, size_t);
typedef size_t good_size_fn(size_t);
typedef size_t trim_fn(size_t);
typedef void idle_fn(void);

// Each list holds what the process has; count is 0 for functions that libc alone does not know.
static struct api {
    alloc_fn *malloc[MAX_ALIASES], *zalloc[MAX_ALIASES], *valloc[MAX_ALIASES],
        *pvalloc[MAX_ALIASES];
    calloc_fn *calloc[MAX_ALIASES];
    realloc_fn *realloc[MAX_ALIASES];
    reallocarray_fn *reallocarray[MAX_ALIASES];
    aligned_fn *aligned_alloc[MAX_ALIASES], *memalign[MAX_ALIASES], *new_aligned[MAX_ALIASES];
    posix_memalign_fn *posix_memalign[MAX_ALIASES];
    free_fn *free[MAX_ALIASES], *delete[MAX_ALIASES], *delete_array[MAX_ALIASES];
    free_sized_fn *free_sized[MAX_ALIASES], *delete_sized[MAX_ALIASES],
        *delete_array_sized[MAX_ALIASES];
    free_sized_fn *delete_aligned[MAX_ALIASES];
    free_aligned_sized_fn *free_aligned_sized[MAX_ALIASES], *delete_aligned_sized[MAX_ALIASES];
    usable_fn *usable[MAX_ALIASES];
    alloc_fn *new[MAX_ALIASES], *new_array[MAX_ALIASES];
    new_nothrow_fn *new_nothrow[MAX_ALIASES], *new_array_nothrow[MAX_ALIASES];
    new_aligned_nothrow_fn *new_aligned_nothrow[MAX_ALIASES];
    alloc_at_fn *alloc_at[MAX_ALIASES];
    free_at_fn *free_at[MAX_ALIASES];
    expand_fn *expand[MAX_ALIASES];
    good_size_fn *good_size[MAX_ALIASES];
    trim_fn *trim[MAX_ALIASES];
    idle_fn *idle[MAX_ALIASES];
} api;

static const char nothrow_tag; // what std::nothrow is: an empty object, only its address counts

#define LOOKUP(list, ...)                                                                          \
    look_up((void **)(list), sizeof(list) / sizeof *(list),                                        \
            (const char *const[]){__VA_ARGS__, NULL})

static void look_up(void **list, size_t room, const char *const *names)
{
    size_t count = 0;

    for (; *names != NULL && count < room; names++) {
        void *symbol = dlsym(RTLD_DEFAULT, *names);
        if (symbol != NULL)
            list[count++] = symbol;
    }
}

static size_t count_of(void *const *list)
{
    size_t count = 0;

    while (count < MAX_ALIASES && list[count] != NULL)
        count++;
    return count;
}

#define HAVE(list) ((list)[0] != NULL)
#define PICK(list, random)                                                                         \
    ((list)[(list)[1] == NULL ? 0 : (random) % count_of((void *const *)(list))])

void api_init(void)
{
    LOOKUP(api.malloc, "malloc", "hak_malloc", "hak_alloc_cs", "__libc_malloc");
    LOOKUP(api.zalloc, "hak_zalloc");
    LOOKUP(api.calloc, "calloc", "hak_calloc", "__libc_calloc");
    LOOKUP(api.realloc, "realloc", "hak_realloc", "__libc_realloc");
    LOOKUP(api.reallocarray, "reallocarray");
    LOOKUP(api.aligned_alloc, "aligned_alloc", "hak_aligned_alloc");
    LOOKUP(api.memalign, "memalign", "__libc_memalign");
    LOOKUP(api.posix_memalign, "posix_memalign");
    LOOKUP(api.valloc, "valloc", "__libc_valloc");
    LOOKUP(api.pvalloc, "pvalloc", "__libc_pvalloc");
    LOOKUP(api.free, "free", "hak_free", "cfree", "__libc_free");
    LOOKUP(api.free_sized, "free_sized", "hak_free_sized", "hak_free_cs");
    LOOKUP(api.free_aligned_sized, "free_aligned_sized");
    LOOKUP(api.usable, "malloc_usable_size", "hak_usable_size");
    LOOKUP(api.alloc_at, "hak_alloc_at");
    LOOKUP(api.free_at, "hak_free_at");
    LOOKUP(api.expand, "hak_expand");
    LOOKUP(api.good_size, "hak_good_size");
    LOOKUP(api.trim, "hak_trim");
    LOOKUP(api.idle, "hak_thread_idle");
    LOOKUP(api.new, "_Znwm");
    LOOKUP(api.new_array, "_Znam");
    LOOKUP(api.new_nothrow, "_ZnwmRKSt9nothrow_t");
    LOOKUP(api.new_array_nothrow, "_ZnamRKSt9nothrow_t");
    LOOKUP(api.new_aligned, "_ZnwmSt11align_val_t");
    LOOKUP(api.new_aligned_nothrow, "_ZnwmSt11align_val_tRKSt9nothrow_t");
    LOOKUP(api.delete, "_ZdlPv");
    LOOKUP(api.delete_array, "_ZdaPv");
    LOOKUP(api.delete_sized, "_ZdlPvm");
    LOOKUP(api.delete_array_sized, "_ZdaPvm");
    LOOKUP(api.delete_aligned, "_ZdlPvSt11align_val_t");
    LOOKUP(api.delete_aligned_sized, "_ZdlPvmSt11align_val_t");
    // __libc_malloc pairs with free only where the library exports it too.
    if (!api_is_hakmem()) {
        api.malloc[1] = api.valloc[1] = api.pvalloc[1] = NULL;
        api.calloc[1] = api.memalign[1] = NULL;
        api.realloc[1] = NULL;
        api.free[1] = NULL;
    }
}

bool api_is_hakmem(void)
{
    return dlsym(RTLD_DEFAULT, "hak_malloc") != NULL;
}

// --- the fault of --break: a function of the operation's number, so that a shrunk stream shows it
// too ---

static bool faulty(const struct op *op, enum fault fault)
{
    return opt.fault == fault && mix(op->n ^ mix(opt.seed + 77)) % 509 == 0;
}

static void *lie_about_pointer(struct worker *w, const struct op *op, void *p)
{
    if (faulty(op, FAULT_ALIGN))
        return (char *)p + 8;
    if (!faulty(op, FAULT_OVERLAP))
        return p;
    for (uint32_t i = 1; i < opt.slots; i++) {
        const struct block *other = &w->slot[(op->slot + i) % opt.slots];
        if (other->ptr != NULL && other->usable != 0)
            return other->ptr;
    }
    return p;
}

// --- the answers ---

static uint64_t hash_of(const struct op *op)
{
    return mix(op->n ^ opt.seed << 20);
}

static void expect_errno_kept(const struct worker *w)
{
    if (errno != ERRNO_BEFORE && opt.strict)
        fail(w, "errno", "expected untouched, actual %d", errno);
}

static void expect_null_and_enomem(const struct worker *w, const void *p)
{
    if (p != NULL)
        fail(w, "huge request", "expected NULL, actual %p", p);
    if (errno != ENOMEM && opt.strict)
        fail(w, "errno of a huge request", "expected ENOMEM, actual %d", errno);
}

static bool may_fail(const struct op *op)
{
    return opt.oom_ok || (op->align_shift > 24 && op->kind != OP_MALLOC);
}

// NULL for a request that could have been served: legal only where memory may be short.
static void expect_out_of_memory(const struct worker *w, const struct op *op)
{
    if (!may_fail(op))
        fail(w, "NULL", "expected a block of %" PRIu64 " bytes, actual NULL with errno %d",
             op->size, errno);
    if (errno != ENOMEM && opt.strict)
        fail(w, "errno of NULL", "expected ENOMEM, actual %d", errno);
}

static void check_contents(const struct worker *w, const struct block *b, size_t valid)
{
    size_t at = 0;
    uint64_t expected, actual;

    if (!pattern_check(b, valid, &at, &expected, &actual))
        fail(w, "contents",
             "expected %#" PRIx64
             " at offset %zu of block %p (size %zu, usable %zu), actual %#" PRIx64,
             expected, at, (void *)b->ptr, b->size, b->usable, actual);
}

static size_t usable_size(const struct op *op, void *p)
{
    size_t usable = PICK(api.usable, hash_of(op) >> 50)(p);

    return faulty(op, FAULT_USABLE) ? usable - 1 : usable;
}

static void check_usable(const struct worker *w, const struct op *op, const struct block *b)
{
    size_t usable = usable_size(op, b->ptr);

    if (usable != b->usable)
        fail(w, "usable size", "expected %zu as at birth of block %p, actual %zu", b->usable,
             (void *)b->ptr, usable);
}

static void check_block(const struct worker *w, const struct op *op, const struct block *b)
{
    check_usable(w, op, b);
    check_contents(w, b, b->usable);
}

static void check_alignment(const struct worker *w, const void *p, size_t align, size_t size)
{
    // Others give 8 for requests of up to 8 bytes.
    if (align == 16 && size <= 8 && !opt.strict)
        align = 8;
    if (((uintptr_t)p & (align - 1)) != 0)
        fail(w, "alignment", "expected a multiple of %zu, actual %p", align, p);
}

// A block has been handed out: checks it, claims it in the shadow, fills it and stores it in its
// slot.
static void adopt(struct worker *w, const struct op *op, struct block *b)
{
    check_alignment(w, b->ptr, b->align, b->size);
    b->usable = PICK(api.usable, hash_of(op) >> 50)(b->ptr);
    if (b->usable < b->size)
        fail(w, "usable size", "expected at least %zu, actual %zu", b->size, b->usable);
    if (!shadow_claim(b->ptr, b->usable))
        fail(w, "overlap", "expected a free range, actual %p..+%zu covers a live block",
             (void *)b->ptr, b->usable);
    b->id = mix(op->n ^ (uint64_t)w->index << 48);
    b->full = hash_of(op) % 64 == 0 && b->usable <= 262144;
    pattern_fill(b);
    if (faulty(op, FAULT_CONTENT) && b->usable != 0)
        b->ptr[b->usable - 1] ^= 0x40;
    w->live_bytes += b->size;
    w->slot[op->slot] = *b;
}

static void disown(struct worker *w, const struct op *op, struct block *b)
{
    check_block(w, op, b);
    if (!shadow_release(b->ptr, b->usable))
        fail(w, "overlap", "expected %p..+%zu live, actual partly free", (void *)b->ptr, b->usable);
    w->live_bytes -= b->size;
}

// --- allocation ---

static size_t divisor_of(size_t size, uint64_t random)
{
    static const unsigned char try[] = {1, 2, 3, 4, 7, 8, 16, 24};
    size_t n = try[random % sizeof try];

    return size % n == 0 ? n : 1;
}

static void check_zero(const struct worker *w, const struct op *op, unsigned char *p, size_t size)
{
    size_t at = 0;

    if (faulty(op, FAULT_ZERO) && size != 0 && size <= 4096)
        p[hash_of(op) % size] = 1;
    if (!zero_check(p, size, hash_of(op), &at))
        fail(w, "zeroing", "expected 0 at offset %zu of %zu, actual %#x", at, size, p[at]);
}

static void *call_malloc(const struct op *op, uint64_t random)
{
    size_t size = (size_t)op->size;

    if (HAVE(api.alloc_at) && random % 8 == 0)
        return PICK(api.alloc_at, random)(size, (const void *)(uintptr_t)(0x400000 + random % 64 * 16));
    return PICK(api.malloc, random)(size);
}

static void *call_calloc(const struct op *op, uint64_t random)
{
    size_t size = (size_t)op->size;
    size_t n = divisor_of(size, random);

    if (HAVE(api.zalloc) && random % 8 == 1)
        return PICK(api.zalloc, random)(size);
    if (random & 1024)
        return PICK(api.calloc, random >> 8)(n, size / n);
    return PICK(api.calloc, random >> 8)(size / n, n);
}

static void *call_new(const struct op *op, uint64_t random)
{
    size_t size = (size_t)op->size;
    bool array = op->kind == OP_NEW_ARRAY;

    if (random % 4 == 0)
        return (array ? api.new_array_nothrow[0] : api.new_nothrow[0])(size, &nothrow_tag);
    return (array ? api.new_array[0] : api.new[0])(size);
}

static void *call_new_aligned(const struct op *op, uint64_t random)
{
    size_t align = (size_t)1 << op->align_shift;

    if (random % 2 == 0)
        return api.new_aligned_nothrow[0]((size_t)op->size, align, &nothrow_tag);
    return api.new_aligned[0]((size_t)op->size, align);
}

static void *call_posix_memalign(const struct worker *w, const struct op *op)
{
    void *const before = &api;
    void *p = before; // must stay as it is when the call fails
    int rc = api.posix_memalign[0](&p, (size_t)1 << op->align_shift, (size_t)op->size);

    expect_errno_kept(w);
    if (rc == 0)
        return p;
    if (rc != ENOMEM)
        fail(w, "posix_memalign", "expected 0 or ENOMEM, actual %d", rc);
    if (p != before && opt.strict)
        fail(w, "posix_memalign", "expected the pointer left alone, actual %p", p);
    errno = ENOMEM;
    return NULL;
}

static void *call_aligned(const struct worker *w, const struct op *op, uint64_t random)
{
    size_t align = (size_t)1 << op->align_shift;

    switch (op->kind) {
    case OP_POSIX_MEMALIGN:
        return call_posix_memalign(w, op);
    case OP_ALIGNED_ALLOC:
        return PICK(api.aligned_alloc, random)(align, (size_t)op->size);
    case OP_VALLOC:
        return PICK(api.valloc, random)((size_t)op->size);
    case OP_PVALLOC:
        return PICK(api.pvalloc, random)((size_t)op->size);
    default:
        // Not a power of two: memalign rounds up.
        if (opt.strict && op->align_shift >= 5 && random % 4 == 0)
            align -= align / 4;
        return PICK(api.memalign, random)(align, (size_t)op->size);
    }
}

static void *call_allocator(struct worker *w, const struct op *op)
{
    uint64_t random = hash_of(op);

    switch (op->kind) {
    case OP_MALLOC:
        return call_malloc(op, random);
    case OP_CALLOC:
        return call_calloc(op, random);
    case OP_REALLOC_NULL:
        return PICK(api.realloc, random)(NULL, (size_t)op->size);
    case OP_REALLOCARRAY_NULL: {
        size_t n = divisor_of((size_t)op->size, random);
        return PICK(api.reallocarray, random)(NULL, n, (size_t)op->size / n);
    }
    case OP_NEW:
    case OP_NEW_ARRAY:
        return call_new(op, random);
    case OP_NEW_ALIGNED:
        return call_new_aligned(op, random);
    default:
        return call_aligned(w, op, random);
    }
}

static enum family family_of(const struct op *op)
{
    switch (op->kind) {
    case OP_NEW:
        return FAMILY_NEW;
    case OP_NEW_ARRAY:
        return FAMILY_NEW_ARRAY;
    case OP_NEW_ALIGNED:
        return FAMILY_NEW_ALIGNED;
    case OP_ALIGNED_ALLOC:
    case OP_POSIX_MEMALIGN:
    case OP_MEMALIGN:
    case OP_VALLOC:
        return FAMILY_ALIGNED;
    case OP_PVALLOC:
        return FAMILY_PAGES;
    default:
        return FAMILY_MALLOC;
    }
}

static size_t alignment_of(const struct op *op)
{
    size_t asked = (size_t)1 << op->align_shift;

    if (op->kind == OP_VALLOC || op->kind == OP_PVALLOC)
        return page_size;
    if (family_of(op) == FAMILY_ALIGNED || family_of(op) == FAMILY_NEW_ALIGNED)
        return asked > 16 ? asked : 16;
    return 16;
}

static bool served(const struct op *op)
{
    switch (op->kind) {
    case OP_NEW:
    case OP_NEW_ARRAY:
        return HAVE(api.new) && HAVE(api.new_array) && HAVE(api.new_nothrow) &&
               HAVE(api.new_array_nothrow);
    case OP_NEW_ALIGNED:
        return HAVE(api.new_aligned) && HAVE(api.new_aligned_nothrow) && HAVE(api.delete_aligned);
    default:
        return true;
    }
}

static void play_alloc(struct worker *w, const struct op *op)
{
    struct op plain = *op;

    if (!served(op)) {
        plain.kind = OP_MALLOC;
        op = &plain;
    }
    errno = ERRNO_BEFORE;
    void *p = call_allocator(w, op);
    if (p == NULL) {
        expect_out_of_memory(w, op);
        return;
    }
    expect_errno_kept(w);
    if (op->kind == OP_MALLOC && HAVE(api.good_size) && hash_of(op) % 16 == 0 &&
        api.good_size[0]((size_t)op->size) > PICK(api.usable, 0)(p) &&
        PICK(api.usable, 0)(p) != (size_t)op->size) // a guarded block has what was asked for
        fail(w, "hak_good_size", "expected at most the usable %zu, actual %zu",
             PICK(api.usable, 0)(p), api.good_size[0]((size_t)op->size));
    if (op->kind == OP_CALLOC)
        check_zero(w, op, p, (size_t)op->size);
    struct block b = {
        .ptr = lie_about_pointer(w, op, p),
        .size = (size_t)op->size,
        .align = alignment_of(op),
        .family = (uint8_t)family_of(op),
    };
    adopt(w, op, &b);
}

// --- release ---

static void call_free(const struct op *op, const struct block *b, uint64_t random)
{
    bool sized = op->kind == OP_FREE_SIZED;

    switch (b->family) {
    case FAMILY_NEW:
        if (sized && HAVE(api.delete_sized))
            api.delete_sized[0](b->ptr, b->size);
        else
            api.delete[0](b->ptr);
        return;
    case FAMILY_NEW_ARRAY:
        if (sized && HAVE(api.delete_array_sized))
            api.delete_array_sized[0](b->ptr, b->size);
        else
            api.delete_array[0](b->ptr);
        return;
    case FAMILY_NEW_ALIGNED:
        if (sized && HAVE(api.delete_aligned_sized))
            api.delete_aligned_sized[0](b->ptr, b->size, b->align);
        else
            api.delete_aligned[0](b->ptr, b->align);
        return;
    case FAMILY_ALIGNED:
        if (sized && HAVE(api.free_aligned_sized))
            api.free_aligned_sized[0](b->ptr, b->align, b->size);
        else
            PICK(api.free, random)(b->ptr);
        return;
    case FAMILY_PAGES: // rounded up: no sized free says its size
        PICK(api.free, random)(b->ptr);
        return;
    default:
        if (sized && HAVE(api.free_at) && random % 8 == 0)
            PICK(api.free_at, random)(b->ptr, b->size, (const void *)(uintptr_t)(0x400000 + random % 64 * 16));
        else if (sized && HAVE(api.free_sized))
            PICK(api.free_sized, random)(b->ptr, b->size);
        else
            PICK(api.free, random)(b->ptr);
        return;
    }
}

static void play_free(struct worker *w, const struct op *op, struct block *b)
{
    disown(w, op, b);
    errno = ERRNO_BEFORE;
    call_free(op, b, hash_of(op));
    if (faulty(op, FAULT_ERRNO))
        errno = EINVAL;
    expect_errno_kept(w);
    b->ptr = NULL;
}

// --- realloc ---

static bool reallocatable(const struct block *b)
{
    return b->family == FAMILY_MALLOC || b->family == FAMILY_ALIGNED || b->family == FAMILY_PAGES;
}

static void *call_realloc(const struct op *op, void *p, size_t size, uint64_t random)
{
    if (op->kind != OP_REALLOCARRAY)
        return PICK(api.realloc, random)(p, size);
    size_t n = divisor_of(size, random);
    return PICK(api.reallocarray, random)(p, size / n, n);
}

// The old block is as it was: nothing of it may have changed.
static void keep_after_failure(struct worker *w, const struct op *op, struct block *b)
{
    if (!shadow_claim(b->ptr, b->usable))
        fail(w, "overlap", "expected %p..+%zu kept by a failed realloc, actual live elsewhere",
             (void *)b->ptr, b->usable);
    w->live_bytes += b->size;
    check_block(w, op, b);
}

static void play_realloc(struct worker *w, const struct op *op, struct block *b)
{
    struct block old = *b;
    size_t size = (size_t)op->size;

    disown(w, op, b);
    errno = ERRNO_BEFORE;
    unsigned char *p = call_realloc(op, old.ptr, size, hash_of(op));
    if (p == NULL && size != 0) {
        expect_out_of_memory(w, op);
        keep_after_failure(w, op, b);
        return;
    }
    expect_errno_kept(w);
    b->ptr = NULL;
    if (p == NULL)
        return;
    if (size == 0 && opt.strict && !opt.realloc0_alloc)
        fail(w, "realloc to zero", "expected NULL, actual %p", (void *)p);
    if (faulty(op, FAULT_REALLOC) && size != 0 && old.usable != 0)
        p[0] ^= 1;
    old.ptr = p;
    size_t kept = opt.strict ? old.usable : old.size;
    check_contents(w, &old, kept < size ? kept : size);
    struct block fresh = {.ptr = p, .size = size, .align = 16, .family = FAMILY_MALLOC};
    adopt(w, op, &fresh);
}

// Grows or shrinks without moving, or changes nothing.
static void play_expand(struct worker *w, const struct op *op, struct block *b)
{
    struct block old = *b;

    disown(w, op, b);
    errno = ERRNO_BEFORE;
    int done = api.expand[0](old.ptr, (size_t)op->size);
    expect_errno_kept(w);
    if (done == 0) {
        keep_after_failure(w, op, b);
        return;
    }
    if (done != 1)
        fail(w, "hak_expand", "expected 0 or 1, actual %d", done);
    check_contents(w, &old, old.usable < op->size ? old.usable : (size_t)op->size);
    struct block fresh = old;
    fresh.size = (size_t)op->size;
    fresh.align = 16;
    adopt(w, op, &fresh);
}

#define WORD_BITS (unsigned)(8 * sizeof(size_t))

// More than any process can have: from the first address bit that user space lacks.
static size_t huge_size(const struct op *op)
{
    uint64_t random = hash_of(op);
    unsigned shift = WORD_BITS == 64 ? 47 + random % 17 : WORD_BITS - 1;

    switch (random >> 32 & 3) {
    case 0:
        return SIZE_MAX - (random >> 40 & 0xffff);
    case 1:
        return (size_t)PTRDIFF_MAX + 1 + (random >> 40 & 0xffff);
    default:
        return ((size_t)1 << shift) + (random >> 40 & 0xffff);
    }
}

// n * each overflows, and what is left of the product is small.
static void overflowing(const struct op *op, size_t *n, size_t *each)
{
    uint64_t random = hash_of(op);
    unsigned shift = 8 + random % (WORD_BITS - 16);

    *n = ((size_t)1 << shift) + (random >> 60 & 1);
    *each = ((size_t)1 << (WORD_BITS - shift)) + (random >> 61 & 1);
}

static void play_failing_realloc(struct worker *w, const struct op *op, struct block *b)
{
    size_t n, each;
    void *p;

    overflowing(op, &n, &each);
    errno = ERRNO_BEFORE;
    if (op->kind == OP_REALLOC_HUGE)
        p = PICK(api.realloc, hash_of(op))(b->ptr, huge_size(op));
    else
        p = PICK(api.reallocarray, hash_of(op))(b->ptr, n, each);
    expect_null_and_enomem(w, p);
    check_block(w, op, b);
}

// --- calls that fail, and others without a slot ---

static void play_aligned_huge(struct worker *w, const struct op *op)
{
    uint64_t random = hash_of(op);
    size_t align = (size_t)1 << (4 + random % (WORD_BITS == 64 ? 36 : 24));
    size_t size = huge_size(op);
    void *p = w;

    errno = ERRNO_BEFORE;
    switch (random >> 8 & 3) {
    case 0:
        expect_null_and_enomem(w, PICK(api.aligned_alloc, random)(align, size));
        return;
    case 1:
        expect_null_and_enomem(w, PICK(api.memalign, random)(align, size));
        return;
    case 2:
        expect_null_and_enomem(w, random & 4096 ? api.valloc[0](size) : api.pvalloc[0](size));
        return;
    default: {
        int rc = api.posix_memalign[0](&p, align, size);
        expect_errno_kept(w);
        if (rc != ENOMEM || (p != w && opt.strict))
            fail(w, "posix_memalign", "expected ENOMEM and %p, actual %d and %p", (void *)w, rc, p);
    }
    }
}

static void play_bad_alignment(struct worker *w, const struct op *op)
{
    static const size_t bad[] = {0, 1, 2, sizeof(void *) / 2, 3, 7, 24, 48, 96, 4095, 12288, ((size_t)1 << (WORD_BITS - 4)) + 16};
    uint64_t random = hash_of(op);
    size_t align = bad[random % (sizeof bad / sizeof *bad)];
    size_t size = random >> 32 & 0xfff;
    void *p = w;

    errno = ERRNO_BEFORE;
    if (random & 4096) {
        int rc = api.posix_memalign[0](&p, align, size);
        expect_errno_kept(w);
        if (rc != EINVAL || p != w)
            fail(w, "posix_memalign", "expected EINVAL for alignment %zu and %p, actual %d and %p",
                 align, (void *)w, rc, p);
        return;
    }
    if (!opt.strict || align == 1 || align == 2 || align == 4)
        return; // powers of two are fine for aligned_alloc; others are rounded up by most
    void *q = PICK(api.aligned_alloc, random)(align, size);
    if (q != NULL || errno != EINVAL)
        fail(w, "aligned_alloc", "expected EINVAL for alignment %zu, actual %p and errno %d", align,
             q, errno);
}

static void play_calloc_overflow(struct worker *w, const struct op *op)
{
    size_t n, each;

    overflowing(op, &n, &each);
    errno = ERRNO_BEFORE;
    expect_null_and_enomem(w, PICK(api.calloc, hash_of(op))(n, each));
}

static void play_without_slot(struct worker *w, const struct op *op)
{
    uint64_t random = hash_of(op);

    errno = ERRNO_BEFORE;
    switch (op->kind) {
    case OP_MALLOC_HUGE:
        expect_null_and_enomem(w, PICK(api.malloc, random)(huge_size(op)));
        break;
    case OP_CALLOC_OVERFLOW:
        play_calloc_overflow(w, op);
        break;
    case OP_ALIGNED_HUGE:
        play_aligned_huge(w, op);
        break;
    case OP_BAD_ALIGNMENT:
        play_bad_alignment(w, op);
        break;
    case OP_FREE_NULL:
        PICK(api.free, random)(NULL);
        if (PICK(api.usable, random)(NULL) != 0)
            fail(w, "usable size", "expected 0 for NULL, actual another");
        expect_errno_kept(w);
        break;
    case OP_TRIM:
        if (HAVE(api.idle) && random % 4 == 0)
            api.idle[0]();
        else if (HAVE(api.trim) && random % 4 == 1)
            api.trim[0](random >> 32 & 0xffffff);
        else
            malloc_trim(random >> 32 & 0xffff);
        break;
    default:
        break;
    }
}

static void play_on_block(struct worker *w, const struct op *op, struct block *b)
{
    switch (op->kind) {
    case OP_FREE:
    case OP_FREE_SIZED:
        play_free(w, op, b);
        return;
    case OP_REALLOC:
    case OP_REALLOCARRAY:
    case OP_REALLOC_ZERO:
        if (reallocatable(b))
            play_realloc(w, op, b);
        else
            play_free(w, op, b);
        return;
    case OP_EXPAND:
        if (reallocatable(b) && HAVE(api.expand))
            play_expand(w, op, b);
        else
            check_block(w, op, b);
        return;
    case OP_REALLOC_HUGE:
    case OP_REALLOCARRAY_OVERFLOW:
        if (reallocatable(b))
            play_failing_realloc(w, op, b);
        return;
    default:
        check_block(w, op, b);
        return;
    }
}

// Plays an operation where it has a meaning: one that wants an empty slot and finds a full one is
// skipped, and the other way round, so that any part of a stream is a stream.
void play(struct worker *w, const struct op *op)
{
    struct block *b = &w->slot[op->slot];

    w->current = op;
    if (op->kind <= OP_LAST_ALLOC) {
        if (b->ptr == NULL)
            play_alloc(w, op);
    } else if (op->kind <= OP_LAST_SLOT) {
        if (b->ptr != NULL)
            play_on_block(w, op, b);
    } else {
        play_without_slot(w, op);
    }
}

void drain(struct worker *w)
{
    for (uint32_t i = 0; i < opt.slots; i++) {
        struct op op = {.n = w->n + i, .slot = i, .kind = OP_FREE};
        if (w->slot[i].ptr == NULL)
            continue;
        w->current = &op;
        play_free(w, &op, &w->slot[i]);
    }
    w->current = NULL;
}
