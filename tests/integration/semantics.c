// SPDX-License-Identifier: MIT
//
// What each function of the malloc family answers, above all at the edges. Calls go through
// volatile pointers, or the compiler would warn about, or fold away, what is tested here.
#include "harness.h"

#include <dlfcn.h>
#include <fenv.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIB       ((size_t)1024)
#define MIB       (1024 * KIB)
#define UNTOUCHED 4242

static void *(*volatile v_malloc)(size_t) = malloc;
static void *(*volatile v_calloc)(size_t, size_t) = calloc;
static void *(*volatile v_realloc)(void *, size_t) = realloc;
static void *(*volatile v_reallocarray)(void *, size_t, size_t) = reallocarray;
static void (*volatile v_free)(void *) = free;
static void *(*volatile v_memalign)(size_t, size_t) = memalign;
static void *(*volatile v_aligned_alloc)(size_t, size_t) = aligned_alloc;
static int (*volatile v_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void *(*volatile v_valloc)(size_t) = valloc;
static void *(*volatile v_pvalloc)(size_t) = pvalloc;
static size_t (*volatile v_usable)(void *) = malloc_usable_size;

#define BITS (8 * sizeof(size_t))
#if SIZE_MAX > 0xffffffffu
#define Z "m" // as C++ names spell size_t
#else
#define Z "j"
#endif

static const size_t huge[] = {SIZE_MAX,        SIZE_MAX - 1,        SIZE_MAX - 15,
                              SIZE_MAX - 4095, SIZE_MAX - 65536,    (size_t)PTRDIFF_MAX + 1,
                              PTRDIFF_MAX,     SIZE_MAX / 2 + 4096, BITS == 64 ? (size_t)1 << (BITS - 2) : SIZE_MAX / 2};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool is_aligned(const void *p, size_t alignment)
{
    return ((uintptr_t)p & (alignment - 1)) == 0;
}

static bool is_filled(const void *p, int byte, size_t size)
{
    const unsigned char *bytes = p;

    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)byte)
            return false;
    return true;
}

static int exported_names(void)
{
    static const char *const names[] = {
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
        "pvalloc",
        "malloc_usable_size",
        "reallocarray",
        "free_sized",
        "free_aligned_sized",
        "cfree",
        "malloc_trim",
        "mallopt",
        "mallinfo",
        "mallinfo2",
        "malloc_stats",
        "malloc_info",
        "__libc_malloc",
        "__libc_calloc",
        "__libc_realloc",
        "__libc_free",
        "__libc_memalign",
        "__libc_valloc",
        "__libc_pvalloc",
        "__posix_memalign",
        "hak_malloc",
        "hak_calloc",
        "hak_realloc",
        "hak_free",
        "_Znw" Z,
        "_Zna" Z,
        "_Znw" Z "RKSt9nothrow_t",
        "_Zna" Z "RKSt9nothrow_t",
        "_Znw" Z "St11align_val_t",
        "_Zna" Z "St11align_val_t",
        "_Znw" Z "St11align_val_tRKSt9nothrow_t",
        "_Zna" Z "St11align_val_tRKSt9nothrow_t",
        "_ZdlPv",
        "_ZdaPv",
        "_ZdlPv" Z,
        "_ZdaPv" Z,
        "_ZdlPvRKSt9nothrow_t",
        "_ZdaPvRKSt9nothrow_t",
        "_ZdlPvSt11align_val_t",
        "_ZdaPvSt11align_val_t",
        "_ZdlPv" Z "St11align_val_t",
        "_ZdaPv" Z "St11align_val_t",
        "_ZdlPvSt11align_val_tRKSt9nothrow_t",
        "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    };
    Dl_info ours, info;

    CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &ours) != 0);
    for (size_t i = 0; i < COUNT(names); i++) {
        void *symbol = dlsym(RTLD_DEFAULT, names[i]);
        CHECK_MSG(symbol != NULL, "%s is missing", names[i]);
        CHECK_MSG(dladdr(symbol, &info) != 0 && info.dli_fbase == ours.dli_fbase,
                  "%s comes from %s", names[i], info.dli_fname);
    }
    return PASS;
}

static int malloc_of_nothing(void)
{
    void *a = v_malloc(0), *b = v_malloc(0), *c = v_calloc(0, 8), *d = v_calloc(8, 0),
         *e = v_realloc(NULL, 0);

    CHECK(a != NULL && b != NULL && c != NULL && d != NULL && e != NULL);
    CHECK(a != b && c != d && a != c && d != e);
    v_free(a), v_free(b), v_free(c), v_free(d), v_free(e);
    return PASS;
}

static int malloc_huge(void)
{
    for (size_t i = 0; i < COUNT(huge); i++) {
        errno = UNTOUCHED;
        CHECK_MSG(v_malloc(huge[i]) == NULL, "size %zu", huge[i]);
        CHECK_EQ(ENOMEM, errno);
    }
    return PASS;
}

static int calloc_huge(void)
{
    static const size_t pairs[][2] = {{SIZE_MAX, 1},
                                      {1, SIZE_MAX},
                                      {SIZE_MAX, 2},
                                      {2, SIZE_MAX},
                                      {SIZE_MAX / 2, 3},
                                      {(size_t)1 << BITS / 2, (size_t)1 << BITS / 2},
                                      {(size_t)1 << (BITS / 2 + 1), ((size_t)1 << (BITS / 2 - 1)) + 1},
                                      {SIZE_MAX, SIZE_MAX},
                                      {SIZE_MAX / 16 + 1, 16},
                                      {PTRDIFF_MAX, 1},
                                      {3, SIZE_MAX / 3}};

    for (size_t i = 0; i < COUNT(pairs); i++) {
        errno = UNTOUCHED;
        CHECK_MSG(v_calloc(pairs[i][0], pairs[i][1]) == NULL, "%zu x %zu", pairs[i][0],
                  pairs[i][1]);
        CHECK_EQ(ENOMEM, errno);
    }
    void *p = v_calloc(0, SIZE_MAX);
    CHECK(p != NULL);
    v_free(p);
    return PASS;
}

static int realloc_huge(void)
{
    static const size_t sizes[] = {0, 1, 100, 5000, 100 * KIB, 3 * MIB};

    for (size_t s = 0; s < COUNT(sizes); s++)
        for (size_t i = 0; i < COUNT(huge); i++) {
            char *p = v_malloc(sizes[s]);
            memset(p, 0x37, sizes[s]);
            errno = UNTOUCHED;
            CHECK(v_realloc(p, huge[i]) == NULL);
            CHECK_EQ(ENOMEM, errno);
            CHECK(is_filled(p, 0x37, sizes[s]));
            v_free(p);
        }
    return PASS;
}

static int reallocarray_overflow(void)
{
    char *p = v_malloc(100);

    memset(p, 0x37, 100);
    errno = UNTOUCHED;
    CHECK(v_reallocarray(p, SIZE_MAX / 2, 3) == NULL);
    CHECK_EQ(ENOMEM, errno);
    errno = UNTOUCHED;
    CHECK(v_reallocarray(NULL, (size_t)1 << (BITS / 2 + 1), (size_t)1 << (BITS / 2 + 1)) == NULL);
    CHECK_EQ(ENOMEM, errno);
    CHECK(is_filled(p, 0x37, 100));
    p = v_reallocarray(p, 50, 40);
    CHECK(p != NULL && is_filled(p, 0x37, 100) && v_usable(p) >= 2000);
    v_free(p);
    return PASS;
}

static int memalign_rounds_up(void)
{
    static const size_t asked[] = {0, 1, 3, 5, 24, 48, 100, 4095, 4097, 12288, 3 * MIB};

    for (size_t i = 0; i < COUNT(asked); i++) {
        size_t rounded = 16;
        while (rounded < asked[i])
            rounded *= 2;
        errno = UNTOUCHED;
        char *p = v_memalign(asked[i], 100);
        CHECK_MSG(p != NULL, "alignment %zu", asked[i]);
        CHECK_MSG(is_aligned(p, rounded), "alignment %zu gives %p", asked[i], (void *)p);
        CHECK_EQ(UNTOUCHED, errno);
        memset(p, 1, 100);
        v_free(p);
    }
    errno = UNTOUCHED;
    CHECK(v_memalign(SIZE_MAX, 1) == NULL);
    CHECK(errno == EINVAL || errno == ENOMEM);
    errno = UNTOUCHED;
    CHECK(v_memalign(((size_t)1 << (BITS - 1)) + 1, 1) == NULL);
    CHECK(errno == EINVAL || errno == ENOMEM);
    errno = UNTOUCHED;
    CHECK(v_memalign((size_t)1 << (BITS - 1), 1) == NULL); // a power of two, which nobody has
    CHECK_EQ(ENOMEM, errno);
    return PASS;
}

static int memalign_huge(void)
{
    for (size_t alignment = 16; alignment <= MIB; alignment *= 4)
        for (size_t i = 0; i < COUNT(huge); i++) {
            void *p = &p;
            errno = UNTOUCHED;
            CHECK_MSG(v_memalign(alignment, huge[i]) == NULL, "alignment %zu size %zu", alignment,
                      huge[i]);
            CHECK_EQ(ENOMEM, errno);
            errno = UNTOUCHED;
            CHECK(v_aligned_alloc(alignment, huge[i]) == NULL);
            CHECK_EQ(ENOMEM, errno);
            errno = UNTOUCHED;
            CHECK_EQ(ENOMEM, v_posix_memalign(&p, alignment, huge[i]));
            CHECK_EQ(UNTOUCHED, errno);
            CHECK(p == &p);
        }
    return PASS;
}

static int aligned_alloc_arguments(void)
{
    static const size_t bad[] = {0,   3,    5,     24,       48,
                                 100, 4095, 12288, SIZE_MAX, ((size_t)1 << (BITS - 2)) + 1};

    for (size_t i = 0; i < COUNT(bad); i++) {
        errno = UNTOUCHED;
        CHECK_MSG(v_aligned_alloc(bad[i], 96) == NULL, "alignment %zu", bad[i]);
        CHECK_EQ(EINVAL, errno);
    }
    for (size_t alignment = 1; alignment <= 64 * KIB; alignment *= 2)
        for (size_t size = 0; size < 300; size += 37) {
            char *p = v_aligned_alloc(alignment, size);
            CHECK_MSG(p != NULL && is_aligned(p, alignment) && is_aligned(p, 16),
                      "alignment %zu size %zu gives %p", alignment, size, (void *)p);
            memset(p, 1, size);
            v_free(p);
        }
    return PASS;
}

static int posix_memalign_arguments(void)
{
    static const size_t bad[] = {0, 1, sizeof(void *) / 2, 3, 7, 12, 24, 48, 4095, 12288, SIZE_MAX};
    void *p = &p;

    for (size_t i = 0; i < COUNT(bad); i++) {
        errno = UNTOUCHED;
        CHECK_EQ(EINVAL, v_posix_memalign(&p, bad[i], 96));
        CHECK(p == &p);
        CHECK_EQ(UNTOUCHED, errno);
    }
    for (size_t alignment = 8; alignment <= MIB; alignment *= 2) {
        CHECK_EQ(0, v_posix_memalign(&p, alignment, alignment / 3));
        CHECK(p != NULL && is_aligned(p, alignment));
        memset(p, 1, alignment / 3);
        v_free(p);
    }
    CHECK_EQ(0, v_posix_memalign(&p, 64, 0));
    v_free(p);
    return PASS;
}

static int valloc_and_pvalloc(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    for (size_t size = 0; size < 3 * page; size = size * 2 + 1) {
        void *p = v_valloc(size), *q = v_pvalloc(size);
        CHECK_MSG(p != NULL && is_aligned(p, page), "valloc(%zu) gives %p", size, p);
        CHECK_MSG(q != NULL && is_aligned(q, page), "pvalloc(%zu) gives %p", size, q);
        CHECK(v_usable(q) >= (size + page - 1) / page * page);
        memset(p, 1, size);
        memset(q, 1, (size + page - 1) / page * page);
        v_free(p), v_free(q);
    }
    for (size_t i = 0; i < COUNT(huge); i++) {
        errno = UNTOUCHED;
        CHECK_MSG(v_valloc(huge[i]) == NULL, "size %zu", huge[i]);
        CHECK_EQ(ENOMEM, errno);
        errno = UNTOUCHED;
        CHECK_MSG(v_pvalloc(huge[i]) == NULL, "size %zu", huge[i]);
        CHECK_EQ(ENOMEM, errno);
    }
    return PASS;
}

static int every_alignment(void)
{
    static const size_t sizes[] = {1, 100, 5000, 100 * KIB, 5 * MIB};

    for (unsigned shift = 3; shift <= (BITS == 64 ? 40 : 28); shift++)
        for (size_t s = 0; s < COUNT(sizes); s++) {
            void *p = NULL;
            errno = UNTOUCHED;
            int rc = v_posix_memalign(&p, (size_t)1 << shift, sizes[s]);
            CHECK_EQ(UNTOUCHED, errno);
            if (rc != 0) {
                CHECK_MSG(shift > 28 && rc == ENOMEM, "alignment 2^%u size %zu: %d", shift,
                          sizes[s], rc);
                continue;
            }
            CHECK_MSG(is_aligned(p, (size_t)1 << shift), "alignment 2^%u gives %p", shift, p);
            memset(p, 0x5a, sizes[s]);
            CHECK(v_usable(p) >= sizes[s]);
            char *q = v_realloc(p, sizes[s] * 3 + 11);
            CHECK(q != NULL && is_filled(q, 0x5a, sizes[s]));
            memset(q, 1, sizes[s] * 3 + 11);
            v_free(q);
            void *r = v_aligned_alloc((size_t)1 << shift, sizes[s]);
            CHECK(r == NULL || is_aligned(r, (size_t)1 << shift));
            v_free(r);
        }
    return PASS;
}

static int realloc_to_zero(void)
{
    static const size_t sizes[] = {0, 1, 100, 5000, 100 * KIB, 3 * MIB};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *p = v_malloc(sizes[i]);
        errno = UNTOUCHED;
        CHECK_MSG(v_realloc(p, 0) == NULL, "size %zu", sizes[i]);
        CHECK_EQ(UNTOUCHED, errno);
        p = v_malloc(sizes[i]);
        CHECK(v_reallocarray(p, 0, 5) == NULL);
    }
    return PASS;
}

static int realloc_to_zero_bsd_child(void)
{
    void *p = v_realloc(v_malloc(100), 0);

    CHECK(p != NULL);
    v_free(p);
    return PASS;
}

static int realloc_to_zero_bsd(void)
{
    static struct run run;
    const char *argv[] = {"semantics", "realloc to zero, BSD child", NULL};

    if (dlsym(RTLD_DEFAULT, "hak_malloc") == NULL)
        return skip("an option of libhakmem");
    setenv("HAKMEM_OPTIONS", "realloc0:alloc", 1);
    run.argv = argv;
    run_program(&run);
    CHECK_EQ(0, run.err_size);
    CHECK_MSG(run.status == 0, "%s", run.out);
    return PASS;
}

static void take_twice(size_t alignment, size_t size)
{
    for (unsigned i = 0; i < 2; i++) {
        void *p = v_memalign(alignment, size);
        memset(p, 0x5a, size);
        v_free(p);
    }
}

// Aligned runs of one granule and more on the same ground in turn: what one leaves is no write to the next.
static int aligned_in_turn_child(void)
{
    for (size_t alignment = 16 * KIB; alignment <= 512 * KIB; alignment *= 2) {
        for (size_t size = 0; size <= 100; size++)
            take_twice(alignment, size);
        for (size_t power = 128; power <= MIB; power *= 2)
            for (size_t size = power - 1; size <= power + 1; size++)
                take_twice(alignment, size);
    }
    return PASS;
}

static int aligned_in_turn_secure(void)
{
    static struct run run;
    const char *argv[] = {"semantics", "aligned in turn, secure child", NULL};

    if (dlsym(RTLD_DEFAULT, "hak_malloc") == NULL)
        return skip("an option of libhakmem");
    setenv("HAKMEM_OPTIONS", "secure:1", 1);
    run.argv = argv;
    run_program(&run);
    CHECK_MSG(run.status == 0 && run.err_size == 0, "%s%s", run.out, run.err);
    return PASS;
}

static int free_keeps_errno(void)
{
    void (*free_sized)(void *, size_t) = dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) = dlsym(RTLD_DEFAULT, "free_aligned_sized");

    for (size_t size = 0; size <= 256 * MIB; size = size * 4 + 1) {
        char *p = v_malloc(size), *q = v_malloc(size), *r = v_aligned_alloc(64, size);
        CHECK(p != NULL && q != NULL && r != NULL);
        errno = UNTOUCHED;
        v_free(p);
        CHECK_EQ(UNTOUCHED, errno);
        free_sized != NULL ? free_sized(q, size) : v_free(q);
        CHECK_EQ(UNTOUCHED, errno);
        free_aligned_sized != NULL ? free_aligned_sized(r, 64, size) : v_free(r);
        CHECK_EQ(UNTOUCHED, errno);
    }
    v_free(NULL);
    CHECK_EQ(UNTOUCHED, errno);
    return PASS;
}

static int success_keeps_errno(void)
{
    void *p;

    for (size_t size = 0; size <= 64 * MIB; size = size * 3 + 1) {
        errno = UNTOUCHED;
        p = v_malloc(size);
        CHECK_EQ(UNTOUCHED, errno);
        p = v_realloc(p, size * 2 + 1);
        CHECK_EQ(UNTOUCHED, errno);
        v_free(p);
        p = v_calloc(1, size);
        CHECK_EQ(UNTOUCHED, errno);
        v_free(p);
        p = v_memalign(4096, size);
        CHECK_EQ(UNTOUCHED, errno);
        v_free(p);
        v_usable(v_valloc(1));
        CHECK_EQ(UNTOUCHED, errno);
    }
    return PASS;
}

static int always_aligned_to_16(void)
{
    for (size_t size = 0; size < 3000; size++) {
        void *p = v_malloc(size), *q = v_calloc(1, size), *r = v_realloc(v_malloc(1), size + 1);
        CHECK_MSG(is_aligned(p, 16) && is_aligned(q, 16) && is_aligned(r, 16),
                  "size %zu gives %p, %p, %p", size, p, q, r);
        v_free(p), v_free(q), v_free(r);
    }
    for (size_t size = 3000; size < 100 * MIB; size = size * 5 / 4) {
        void *p = v_malloc(size);
        CHECK(is_aligned(p, 16));
        v_free(p);
    }
    return PASS;
}

static int usable_size(void)
{
    CHECK_EQ(0, v_usable(NULL));
    for (size_t size = 0; size < 20 * MIB; size = size * 9 / 8 + 1) {
        char *p = v_malloc(size);
        size_t usable = v_usable(p);
        CHECK_MSG(usable >= size, "size %zu usable %zu", size, usable);
        memset(p, 0x11, usable);
        void *others[8];
        for (unsigned i = 0; i < COUNT(others); i++) {
            others[i] = v_malloc(size);
            memset(others[i], 0x22, v_usable(others[i]));
        }
        CHECK_EQ(usable, v_usable(p));
        CHECK(is_filled(p, 0x11, usable));
        p = v_realloc(p, usable + usable / 2 + 100);
        CHECK(is_filled(p, 0x11, usable));
        for (unsigned i = 0; i < COUNT(others); i++)
            v_free(others[i]);
        v_free(p);
    }
    return PASS;
}

// Blocks are dirtied and freed first, so that calloc gets used memory where the allocator has some.
static int calloc_is_zero(void)
{
    static void *block[64];

    for (size_t size = 1; size <= 16 * MIB; size = size * 3 / 2 + 1) {
        unsigned count = size > MIB ? 4 : 64;
        for (unsigned i = 0; i < count; i++)
            memset(block[i] = v_malloc(size), 0xff, size);
        for (unsigned i = 0; i < count; i++)
            v_free(block[i]);
        for (unsigned i = 0; i < count; i++) {
            block[i] = v_calloc(i % 2 != 0 ? size : 1, i % 2 != 0 ? 1 : size);
            CHECK_MSG(is_filled(block[i], 0, size), "size %zu", size);
            memset(block[i], 0xff, size);
        }
        for (unsigned i = 0; i < count; i++)
            v_free(block[i]);
    }
    return PASS;
}

static unsigned char letter(size_t i)
{
    return (unsigned char)(i * 7 + (i >> 8) * 3 + (i >> 16));
}

static bool has_letters(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i<size; i += size> MIB ? 61 : 1)
        if (p[i] != letter(i))
            return false;
    return true;
}

// Grown and shrunk by small and large steps, among neighbours and alone.
static int realloc_keeps_contents(void)
{
    uint64_t state = 7;

    for (unsigned round = 0; round < 60; round++) {
        unsigned char *p = NULL;
        size_t size = 0;
        void *neighbour = NULL;
        for (unsigned step = 0; step < 40; step++) {
            uint64_t r = random_next(&state);
            size_t next = r % 3 != 0 ? size + (size >> (r >> 8) % 5) + (r >> 16) % 100
                                     : (r >> 16) % (size + 1) + 1;
            if (next > 24 * MIB)
                next = 1;
            p = v_realloc(p, next);
            CHECK(p != NULL);
            CHECK_MSG(has_letters(p, size < next ? size : next), "from %zu to %zu", size, next);
            for (size_t i = 0; i < next; i++)
                p[i] = letter(i);
            size = next;
            if (r >> 60 == 0) {
                v_free(neighbour);
                neighbour = v_malloc(next);
            }
        }
        v_free(p);
        v_free(neighbour);
    }
    return PASS;
}

static int realloc_of_big_blocks(void)
{
    size_t size = MIB;
    size_t *p = v_malloc(size);

    for (; size < 512 * MIB; size *= 2) {
        for (size_t i = 0; i < size / sizeof *p; i += 512)
            p[i] = i ^ 0x5555;
        p = v_realloc(p, size * 2);
        CHECK(p != NULL);
        for (size_t i = 0; i < size / sizeof *p; i += 512)
            CHECK_EQ(i ^ 0x5555, p[i]);
    }
    for (; size > 4 * KIB; size /= 2) {
        p = v_realloc(p, size / 2);
        CHECK(p != NULL);
        for (size_t i = 0; i < size / 2 / sizeof *p && i < 128 * MIB / sizeof *p; i += 512)
            CHECK_EQ(i ^ 0x5555, p[i]);
    }
    v_free(p);
    return PASS;
}

static int sized_free(void)
{
    void (*free_sized)(void *, size_t) = dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) = dlsym(RTLD_DEFAULT, "free_aligned_sized");

    CHECK(free_sized != NULL && free_aligned_sized != NULL);
    free_sized(NULL, 0);
    free_sized(NULL, 100);
    free_aligned_sized(NULL, 64, 100);
    for (size_t size = 0; size < 8 * MIB; size = size * 2 + 1) {
        free_sized(v_malloc(size), size);
        free_sized(v_calloc(1, size), size);
        free_sized(v_realloc(v_malloc(3), size + 1), size + 1);
        for (size_t alignment = 8; alignment <= 64 * KIB; alignment *= 8)
            free_aligned_sized(v_aligned_alloc(alignment, size), alignment, size);
    }
    return PASS;
}

static int names_of_libc(void)
{
    void *(*libc_malloc)(size_t) = dlsym(RTLD_DEFAULT, "__libc_malloc");
    void *(*libc_realloc)(void *, size_t) = dlsym(RTLD_DEFAULT, "__libc_realloc");
    void *(*libc_memalign)(size_t, size_t) = dlsym(RTLD_DEFAULT, "__libc_memalign");
    void (*libc_free)(void *) = dlsym(RTLD_DEFAULT, "__libc_free");

    CHECK(libc_malloc != NULL && libc_realloc != NULL && libc_memalign != NULL &&
          libc_free != NULL);
    v_free(libc_malloc(100));
    libc_free(v_malloc(100));
    v_free(libc_realloc(v_malloc(10), 1000));
    libc_free(v_realloc(libc_memalign(256, 10), 1000));
    return PASS;
}

static int mallopt_parameters(void)
{
    CHECK_EQ(1, mallopt(M_TRIM_THRESHOLD, 1 << 20));
    CHECK_EQ(1, mallopt(M_TOP_PAD, 1 << 16));
    CHECK_EQ(1, mallopt(M_MMAP_THRESHOLD, 1 << 20));
    CHECK_EQ(1, mallopt(M_MMAP_MAX, 100));
    CHECK_EQ(1, mallopt(M_CHECK_ACTION, 3));
    CHECK_EQ(1, mallopt(M_ARENA_TEST, 2));
    CHECK_EQ(1, mallopt(M_ARENA_MAX, 2));
    CHECK_EQ(1, mallopt(M_MXFAST, 64));
    CHECK_EQ(0, mallopt(12345, 1));
    CHECK_EQ(0, mallopt(-99, 1));
    v_free(v_malloc(100));
    return PASS;
}

static int perturbed(void)
{
    CHECK_EQ(1, mallopt(M_PERTURB, 0x5a));
    for (size_t size = 1; size < MIB; size = size * 3 + 1) {
        for (unsigned i = 0; i < 50; i++) {
            void *p = v_malloc(size);
            CHECK_MSG(is_filled(p, 0x5a ^ 0xff, size), "size %zu: first byte %#x", size,
                      *(unsigned char *)p);
            memset(p, 0, size);
            v_free(p);
        }
        void *p = v_calloc(1, size);
        CHECK(is_filled(p, 0, size));
        v_free(p);
    }
    return PASS;
}

static int mallinfo_counts(void)
{
    static void *block[4096];
    struct mallinfo2 before = mallinfo2();

    for (unsigned i = 0; i < COUNT(block); i++)
        block[i] = v_malloc(8 * KIB);
    struct mallinfo2 with = mallinfo2();
    size_t grown = with.uordblks + with.hblkhd - before.uordblks - before.hblkhd;
    CHECK_MSG(grown >= 30 * MIB && grown <= 48 * MIB, "32 MiB allocated, counted %zu", grown);
    CHECK(with.arena + with.hblkhd >= 32 * MIB);
    for (unsigned i = 0; i < COUNT(block); i++)
        v_free(block[i]);
    struct mallinfo2 after = mallinfo2();
    CHECK_MSG(after.uordblks + after.hblkhd < before.uordblks + before.hblkhd + 4 * MIB,
              "%zu before, %zu after", before.uordblks, after.uordblks);
    return PASS;
}

static int malloc_info_writes_xml(void)
{
    static char text[65536];
    FILE *file = fmemopen(text, sizeof text - 1, "w");

    errno = 0;
    CHECK_EQ(0, malloc_info(0, file));
    fclose(file);
    CHECK_MSG(strstr(text, "<malloc version=") != NULL && strstr(text, "</malloc>") != NULL,
              "%.60s", text);
    FILE *null = fopen("/dev/null", "w");
    CHECK(malloc_info(1, null) != 0);
    fclose(null);
    return PASS;
}

static int malloc_stats_prints(void)
{
    char text[4096] = "";
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);

    CHECK(file != NULL);
    dup2(fileno(file), STDERR_FILENO);
    malloc_stats();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    rewind(file);
    CHECK(fread(text, 1, sizeof text - 1, file) > 20);
    return PASS;
}

static int trim_gives_back(void)
{
    static void *block[16384];

    for (unsigned i = 0; i < COUNT(block); i++)
        memset(block[i] = v_malloc(2 * KIB), 1, 2 * KIB);
    for (unsigned i = 0; i < COUNT(block); i++)
        v_free(block[i]);
    size_t before = resident_bytes();
    int answer = malloc_trim(0);
    size_t after = resident_bytes();
    CHECK(answer == 0 || answer == 1);
    CHECK_MSG(after < 12 * MIB, "%zu resident before, %zu after", before, after);
    CHECK_MSG(answer == 1 || before < after + 4 * MIB, "gave back %zu but said 0", before - after);
    return PASS;
}

// No floating point in the allocator: a division there would end such a program with SIGFPE.
static int with_floating_point_traps(void)
{
    uint64_t state = 1;

    feenableexcept(FE_ALL_EXCEPT);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t r = random_next(&state);
        char *p = v_malloc(r % ((size_t)1 << (r >> 60)) + (r >> 56 == 0 ? 3 * MIB : 0));
        p = v_realloc(p, 100 + (r >> 8) % 5000);
        p[99] = 1;
        v_free(p);
    }
    malloc_trim(0);
    return PASS;
}

static int hello_from_pipe(void)
{
    char *line = NULL;
    size_t room = 0;
    FILE *pipe = popen("echo hello", "r");

    CHECK(pipe != NULL);
    CHECK_EQ(6, getline(&line, &room, pipe));
    CHECK_EQ(0, pclose(pipe));
    free(line);
    return PASS;
}

static const struct test_case cases[] = {
    {"exported names", exported_names, 0},
    {"malloc of nothing", malloc_of_nothing, 0},
    {"malloc, huge", malloc_huge, 0},
    {"calloc, huge and overflowing", calloc_huge, 0},
    {"realloc, huge: the old block is kept", realloc_huge, 0},
    {"reallocarray, overflowing: the old block is kept", reallocarray_overflow, 0},
    {"memalign rounds up", memalign_rounds_up, 0},
    {"aligned and huge", memalign_huge, 0},
    {"aligned_alloc arguments", aligned_alloc_arguments, 0},
    {"posix_memalign arguments", posix_memalign_arguments, 0},
    {"valloc and pvalloc", valloc_and_pvalloc, 0},
    {"every alignment to 2^40", every_alignment, 30},
    {"realloc to zero", realloc_to_zero, 0},
    {"realloc to zero, BSD way", realloc_to_zero_bsd, 0},
    {"aligned blocks in turn, secure", aligned_in_turn_secure, 0},
    {"free keeps errno", free_keeps_errno, 0},
    {"success keeps errno", success_keeps_errno, 0},
    {"always aligned to 16", always_aligned_to_16, 0},
    {"usable size", usable_size, 30},
    {"calloc is zero", calloc_is_zero, 30},
    {"realloc keeps contents", realloc_keeps_contents, 60},
    {"realloc of big blocks", realloc_of_big_blocks, 30},
    {"sized free", sized_free, 0},
    {"libc's names", names_of_libc, 0},
    {"mallopt", mallopt_parameters, 0},
    {"M_PERTURB", perturbed, 0},
    {"mallinfo2 counts", mallinfo_counts, 0},
    {"malloc_info writes XML", malloc_info_writes_xml, 0},
    {"malloc_stats prints", malloc_stats_prints, 0},
    {"malloc_trim gives back", trim_gives_back, 0},
    {"floating point traps", with_floating_point_traps, 0},
    {"popen and getline", hello_from_pipe, 0},
};

// Not in the plan: started by another case with its own environment.
static const struct test_case child_cases[] = {
    {"realloc to zero, BSD child", realloc_to_zero_bsd_child, 0},
    {"aligned in turn, secure child", aligned_in_turn_child, 0},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < COUNT(child_cases); i++)
        if (argc > 1 && strcmp(argv[1], child_cases[i].name) == 0)
            return harness_main(argc, argv, child_cases, COUNT(child_cases));
    return harness_main(argc, argv, cases, COUNT(cases));
}
