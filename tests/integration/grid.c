// SPDX-License-Identifier: MIT
//
// Every function of the malloc family over a grid of odd arguments. What each call must answer is said by rules from
// ISO C, POSIX and hakmem(7), "What differs from the C library"; what glibc answers is printed beside it, as a comment, where
// it is something else: the program runs itself once more, without the library.
//
// An answer is "block", "none" (the function returns nothing), "NULL" or a number, with the name of the error.
#include "harness.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define BITS         (8 * sizeof(size_t))
#define POWER(n)     ((n) < BITS ? (size_t)1 << (n) % BITS : (size_t)1 << (BITS - 1))
#define ABSURD       POWER(BITS == 64 ? 62 : 31) // beyond any address space
#define UNTOUCHED    4242
#define OLD_BYTE     0x37
#define SIZE_NAME    (SIZE_MAX > 0xffffffffu ? "m" : "j") // as C++ spells size_t

static const size_t sizes[] = {0,
                               1,
                               8,
                               15,
                               16,
                               17,
                               100,
                               1024,
                               1025,
                               4095,
                               4096,
                               4097,
                               65535,
                               65536,
                               65537,
                               100000,
                               POWER(21) - 1,
                               POWER(21),
                               POWER(21) + 1,
                               POWER(26) + 1,
                               POWER(BITS - 2),
                               (size_t)PTRDIFF_MAX - 1,
                               PTRDIFF_MAX,
                               (size_t)PTRDIFF_MAX + 1,
                               SIZE_MAX - 65536,
                               SIZE_MAX - 4096,
                               SIZE_MAX - 4095,
                               SIZE_MAX - 16,
                               SIZE_MAX - 15,
                               SIZE_MAX - 1,
                               SIZE_MAX};

static const size_t alignments[] = {0,
                                    1,
                                    2,
                                    3,
                                    4,
                                    8,
                                    16,
                                    24,
                                    48,
                                    64,
                                    4095,
                                    4096,
                                    4097,
                                    POWER(16),
                                    POWER(21),
                                    POWER(30),
                                    POWER(BITS - 2),
                                    POWER(BITS - 1),
                                    POWER(BITS - 1) + 1,
                                    SIZE_MAX};

static const size_t counts[] = {0, 1, 3, 16, POWER(BITS / 2), SIZE_MAX / 16 + 1, SIZE_MAX / 3, SIZE_MAX};

// ---- what must be ------------------------------------------------------------------------------

enum demand {
    MUST_GIVE,   // a block
    MAY_GIVE,    // a block, or NULL with ENOMEM
    NO_MEMORY,   // NULL with ENOMEM
    BAD_REQUEST, // NULL with EINVAL
    REFUSED,     // NULL with either: both arguments are wrong
    GIVE_NULL,   // NULL, errno untouched
};

static bool is_power_of_two(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

// The address space has 47 bits or more, or 32; in between a block depends on the machine.
static enum demand demand_of(size_t size, size_t alignment)
{
    if (size > PTRDIFF_MAX || size >= ABSURD || alignment >= ABSURD)
        return NO_MEMORY;
    return size <= POWER(21) + 1 && alignment <= POWER(21) ? MUST_GIVE : MAY_GIVE;
}

static enum demand demand_of_product(size_t a, size_t b)
{
    size_t product;

    return __builtin_mul_overflow(a, b, &product) ? NO_MEMORY : demand_of(product, 1);
}

static enum demand demand_aligned(size_t size, size_t alignment, bool is_valid)
{
    enum demand demand = demand_of(size, alignment);

    if (is_valid)
        return demand;
    return demand == NO_MEMORY ? REFUSED : BAD_REQUEST;
}

static size_t rounded(size_t size, size_t to)
{
    return size > SIZE_MAX - to ? SIZE_MAX : (size + to - 1) & ~(to - 1);
}

// ---- what is -----------------------------------------------------------------------------------

static bool is_glibc_alone; // only answers are asked for
static bool is_beside_glibc = true;
static FILE *glibc;         // its answers, a line each
static unsigned nr_calls, nr_different, nr_wrong;

static const char *name_of(int error)
{
    static char other[32];

    if (error == UNTOUCHED)
        return "";
    if (error == ENOMEM)
        return " ENOMEM";
    if (error == EINVAL)
        return " EINVAL";
    snprintf(other, sizeof other, " errno %d", error);
    return other;
}

// Notes one answer: compared with glibc's, and complained of if it is wrong.
static void note(const char *call, const char *answer, int error, const char *wrong)
{
    char line[160], theirs[160];

    snprintf(line, sizeof line, "%s: %s%s\n", call, answer, name_of(error));
    nr_calls++;
    if (is_glibc_alone) {
        fputs(line, stdout);
        return;
    }
    if (wrong != NULL && nr_wrong++ < 20)
        printf("# wrong, %s: %s", wrong, line);
    if (glibc == NULL || fgets(theirs, sizeof theirs, glibc) == NULL || strcmp(line, theirs) == 0)
        return;
    if (nr_different++ < 8)
        printf("# %.*s; glibc %s", (int)strlen(line) - 1, line,
               strchr(theirs, ':') != NULL ? strchr(theirs, ':') + 2 : theirs);
}

static const char *fault_of_null(enum demand demand, int error)
{
    if (demand == MUST_GIVE)
        return "no block";
    if (demand == GIVE_NULL)
        return error == UNTOUCHED ? NULL : "errno of a success";
    if (error == ENOMEM && demand != BAD_REQUEST)
        return NULL;
    if (error == EINVAL && (demand == BAD_REQUEST || demand == REFUSED))
        return NULL;
    return "errno";
}

// Writes the ends of a block, but not all of a large one.
static const char *fault_of_block(char *p, size_t size, size_t alignment)
{
    size_t ends = size < 4096 ? size : 4096;

    if (((uintptr_t)p & (alignment - 1)) != 0 || ((uintptr_t)p & 15) != 0)
        return "alignment";
    if (malloc_usable_size(p) < size)
        return "usable size";
    memset(p, 0x5a, ends);
    memset(p + size - ends, 0x5a, ends);
    return NULL;
}

static const char *fault_of(enum demand demand, char *p, size_t size, size_t alignment, int error)
{
    if (p == NULL)
        return fault_of_null(demand, error);
    if (demand != MUST_GIVE && demand != MAY_GIVE)
        return "a block";
    if (error != UNTOUCHED)
        return "errno of a success";
    return fault_of_block(p, size, alignment);
}

// How the block of the current row is freed: what operator new made is deleted.
static void (*delete_plain)(void *);
static void (*delete_aligned)(void *, size_t);
static size_t delete_alignment; // 0: the plain one

static void release(void *p)
{
    if (delete_plain == NULL || delete_aligned == NULL)
        free(p);
    else if (delete_alignment == 0)
        delete_plain(p);
    else
        delete_aligned(p, delete_alignment);
}

// Judges what an allocating function returned, frees it, and looks whether free left errno alone.
static void judge(const char *call, enum demand demand, void *p, size_t size, size_t alignment)
{
    int error = errno;
    const char *fault = fault_of(demand, p, size, alignment < 16 ? 16 : alignment, error);
    const char *answer = p != NULL ? "block" : "NULL";

    errno = UNTOUCHED;
    release(p);
    if (errno != UNTOUCHED && fault == NULL)
        fault = "errno after free";
    note(call, answer, error, fault);
}

static const char *call_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *call_text(const char *format, ...)
{
    static char text[128];
    va_list list;

    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    errno = UNTOUCHED;
    return text;
}

// ---- the functions -----------------------------------------------------------------------------

static void *(*volatile v_malloc)(size_t) = malloc;
static void *(*volatile v_calloc)(size_t, size_t) = calloc;
static void *(*volatile v_realloc)(void *, size_t) = realloc;
static void *(*volatile v_reallocarray)(void *, size_t, size_t) = reallocarray;
static void *(*volatile v_memalign)(size_t, size_t) = memalign;
static void *(*volatile v_aligned_alloc)(size_t, size_t) = aligned_alloc;
static int (*volatile v_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void *(*volatile v_valloc)(size_t) = valloc;
static void *(*volatile v_pvalloc)(size_t) = pvalloc;

static void sweep_malloc(void)
{
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const char *call = call_text("malloc(%#zx)", sizes[i]);
        judge(call, demand_of(sizes[i], 1), v_malloc(sizes[i]), sizes[i], 1);
    }
}

static const char *fault_of_zeros(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i += size < 100000 || i % 4096 ? 1 : 4095)
        if (p[i] != 0)
            return "not zero";
    return NULL;
}

static void check_calloc(size_t count, size_t size)
{
    const char *call = call_text("calloc(%#zx, %#zx)", count, size);
    enum demand demand = demand_of_product(count, size);
    void *p = v_calloc(count, size);

    if (p != NULL && demand == MUST_GIVE && fault_of_zeros(p, count * size) != NULL)
        note(call, "block", errno, "not zero");
    judge(call, demand, p, count * size, 1);
}

static void sweep_calloc(void)
{
    for (size_t i = 0; i < COUNT(counts); i++)
        for (size_t k = 0; k < COUNT(sizes); k++) {
            check_calloc(counts[i], sizes[k]);
            check_calloc(sizes[k], counts[i]);
        }
}

// A block of the old size with known bytes; NULL for the size SIZE_MAX.
static void *old_block(size_t size)
{
    void *p = size == SIZE_MAX ? NULL : malloc(size);

    if (p != NULL)
        memset(p, OLD_BYTE, size);
    return p;
}

static const char *old_text(size_t size)
{
    static char text[32];

    snprintf(text, sizeof text, size == SIZE_MAX ? "NULL" : "%zu bytes", size);
    return text;
}

static bool is_old(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i += size < 100000 ? 1 : 997)
        if (p[i] != OLD_BYTE)
            return false;
    return true;
}

// After realloc or reallocarray of old to q: what is kept, and that a failure leaves the block as it was.
static void judge_moved(const char *call, enum demand demand, void *old, size_t old_size, void *q,
                        size_t size)
{
    int error = errno;
    size_t kept = old == NULL ? 0 : old_size < size ? old_size : size;

    if (q != NULL && size <= POWER(26) + 1 && !is_old(q, kept))
        note(call, "block", error, "contents");
    if (q == NULL && demand != GIVE_NULL && old != NULL) {
        if (!is_old(old, old_size) || malloc_usable_size(old) < old_size)
            note(call, "NULL", error, "the old block");
        free(old);
    }
    errno = error;
    judge(call, demand, q, size, 1);
}

static const size_t old_sizes[] = {SIZE_MAX, 0, 1, 100, 5000, 70000, 3000000};

static void sweep_realloc(void)
{
    for (size_t i = 0; i < COUNT(old_sizes); i++)
        for (size_t k = 0; k < COUNT(sizes); k++) {
            void *old = old_block(old_sizes[i]);
            bool frees = old != NULL && sizes[k] == 0;
            const char *call = call_text("realloc(%s, %#zx)", old_text(old_sizes[i]), sizes[k]);
            void *q = v_realloc(old, sizes[k]);
            judge_moved(call, frees ? GIVE_NULL : demand_of(sizes[k], 1), old, old_sizes[i], q,
                        sizes[k]);
        }
}

static void sweep_reallocarray(void)
{
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < COUNT(sizes); k++)
            for (size_t n = 0; n < COUNT(counts); n++) {
                void *old = old_block(old_sizes[i]);
                size_t product = counts[n] * sizes[k];
                enum demand demand = demand_of_product(counts[n], sizes[k]);
                const char *call = call_text("reallocarray(%s, %#zx, %#zx)", old_text(old_sizes[i]),
                                             counts[n], sizes[k]);
                void *q = v_reallocarray(old, counts[n], sizes[k]);
                if (old != NULL && product == 0 && demand != NO_MEMORY)
                    demand = GIVE_NULL;
                judge_moved(call, demand, old, old_sizes[i], q, product);
            }
}

static void sweep_memalign(void)
{
    for (size_t i = 0; i < COUNT(alignments); i++)
        for (size_t k = 0; k < COUNT(sizes); k++) {
            size_t power = 1;
            while (power < alignments[i] && power < POWER(BITS - 1))
                power *= 2;
            bool fits = alignments[i] <= POWER(BITS - 1);
            const char *call = call_text("memalign(%#zx, %#zx)", alignments[i], sizes[k]);
            judge(call, demand_aligned(sizes[k], power, fits), v_memalign(alignments[i], sizes[k]),
                  sizes[k], power);
        }
}

static void sweep_aligned_alloc(void)
{
    for (size_t i = 0; i < COUNT(alignments); i++)
        for (size_t k = 0; k < COUNT(sizes); k++) {
            bool valid = is_power_of_two(alignments[i]);
            const char *call = call_text("aligned_alloc(%#zx, %#zx)", alignments[i], sizes[k]);
            judge(call, demand_aligned(sizes[k], alignments[i], valid),
                  v_aligned_alloc(alignments[i], sizes[k]), sizes[k], alignments[i]);
        }
}

// Its error is the result; errno and the pointer stay.
static void check_posix_memalign(size_t alignment, size_t size)
{
    bool valid = is_power_of_two(alignment) && alignment >= sizeof(void *);
    const char *call = call_text("posix_memalign(%#zx, %#zx)", alignment, size);
    void *p = &p;
    int result = v_posix_memalign(&p, alignment, size);

    if (errno != UNTOUCHED || (result != 0) != (p == &p)) {
        note(call, p == &p ? "pointer untouched" : "pointer written", errno, "errno or pointer");
        return;
    }
    errno = result == 0 ? UNTOUCHED : result;
    judge(call, demand_aligned(size, alignment, valid), result == 0 ? p : NULL, size, alignment);
}

static void sweep_posix_memalign(void)
{
    for (size_t i = 0; i < COUNT(alignments); i++)
        for (size_t k = 0; k < COUNT(sizes); k++)
            check_posix_memalign(alignments[i], sizes[k]);
}

static void sweep_page_aligned(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    for (size_t k = 0; k < COUNT(sizes); k++) {
        size_t whole = rounded(sizes[k], page);
        const char *call = call_text("valloc(%#zx)", sizes[k]);
        judge(call, demand_of(sizes[k], page), v_valloc(sizes[k]), sizes[k], page);
        call = call_text("pvalloc(%#zx)", sizes[k]);
        judge(call, demand_of(whole, page), v_pvalloc(sizes[k]), whole, page);
    }
}

// ---- functions that free -----------------------------------------------------------------------

static void judge_freed(const char *call, bool is_there)
{
    note(call, is_there ? "none" : "no such function", errno,
         is_there && errno == UNTOUCHED ? NULL : "errno of free");
}

static void sweep_frees(void)
{
    void (*cfree_of_libc)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");

    for (size_t i = 0; i < COUNT(old_sizes); i++) {
        void *p = old_block(old_sizes[i]), *q = old_block(old_sizes[i]), *r = old_block(old_sizes[i]);
        void *aligned = old_sizes[i] == SIZE_MAX ? NULL : aligned_alloc(64, old_sizes[i]);
        const char *call = call_text("free(%s)", old_text(old_sizes[i]));
        free(p);
        judge_freed(call, true);
        call = call_text("cfree(%s)", old_text(old_sizes[i]));
        cfree_of_libc != NULL ? cfree_of_libc(q) : free(q);
        judge_freed(call, cfree_of_libc != NULL);
        call = call_text("free_sized(%s)", old_text(old_sizes[i]));
        free_sized != NULL ? free_sized(r, r == NULL ? 0 : old_sizes[i]) : free(r);
        judge_freed(call, free_sized != NULL);
        call = call_text("free_aligned_sized(%s)", old_text(old_sizes[i]));
        free_aligned_sized != NULL ? free_aligned_sized(aligned, 64, aligned == NULL ? 0 : old_sizes[i])
                                   : free(aligned);
        judge_freed(call, free_aligned_sized != NULL);
    }
}

// ---- C++ ---------------------------------------------------------------------------------------

// Those that throw are in operators.cc; here only what C can call: the ones that return NULL, and any that have memory.
static void *new_function(const char *begin, const char *end)
{
    char name[64];

    snprintf(name, sizeof name, "%s%s%s", begin, SIZE_NAME, end);
    return dlsym(RTLD_DEFAULT, name);
}

typedef void *new_plain(size_t);
typedef void *new_nothrow(size_t, const void *);
typedef void *new_aligned(size_t, size_t, const void *);

static void check_new(const char *name, size_t size, new_plain *plain, new_nothrow *nothrow)
{
    static const char nothrow_tag; // a reference to std::nothrow, of which nothing is read
    const char *call = call_text("%s(%#zx)", name, size);

    delete_alignment = 0;
    if (demand_of(size, 1) == MUST_GIVE)
        judge(call, MUST_GIVE, plain(size), size, 1);
    call = call_text("%s(%#zx, nothrow)", name, size);
    void *p = nothrow(size, &nothrow_tag);
    errno = p == NULL ? ENOMEM : errno; // C++ says nothing of errno
    judge(call, demand_of(size, 1), p, size, 1);
}

static void check_new_aligned(const char *name, size_t size, new_aligned *aligned)
{
    static const char nothrow_tag;

    for (size_t i = 0; i < COUNT(alignments); i++) {
        if (!is_power_of_two(alignments[i])) // undefined in C++
            continue;
        delete_alignment = alignments[i];
        const char *call =
            call_text("%s(%#zx, align_val_t %#zx, nothrow)", name, size, alignments[i]);
        void *p = aligned(size, alignments[i], &nothrow_tag);
        errno = p == NULL ? ENOMEM : errno;
        judge(call, demand_of(size, alignments[i]), p, size, alignments[i]);
    }
}

static void sweep_new(const char *new_name, const char *delete_name)
{
    new_plain *plain = (new_plain *)new_function(new_name, "");
    new_nothrow *nothrow = (new_nothrow *)new_function(new_name, "RKSt9nothrow_t");
    new_aligned *aligned = (new_aligned *)new_function(new_name, "St11align_val_tRKSt9nothrow_t");
    char delete_with_alignment[40];

    snprintf(delete_with_alignment, sizeof delete_with_alignment, "%sSt11align_val_t", delete_name);
    delete_plain = (void (*)(void *))dlsym(RTLD_DEFAULT, delete_name);
    delete_aligned = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, delete_with_alignment);
    if (plain == NULL || nothrow == NULL || aligned == NULL)
        return; // too few calls: the case fails
    for (size_t k = 0; k < COUNT(sizes); k++) {
        check_new(new_name, sizes[k], plain, nothrow);
        check_new_aligned(new_name, sizes[k], aligned);
    }
}

static void sweep_operators(void)
{
    sweep_new("_Znw", "_ZdlPv");
    sweep_new("_Zna", "_ZdaPv");
}

// ---- the rest ----------------------------------------------------------------------------------

static void judge_number(const char *call, intmax_t number, bool is_right)
{
    char text[24];

    snprintf(text, sizeof text, "%jd", number);
    note(call, text, errno, is_right && errno == UNTOUCHED ? NULL : "number or errno");
}

static bool is_known(int param)
{
    static const int known[] = {M_MXFAST,     M_TRIM_THRESHOLD, M_TOP_PAD,    M_MMAP_THRESHOLD, M_MMAP_MAX,
                                M_CHECK_ACTION, M_PERTURB,      M_ARENA_TEST, M_ARENA_MAX};

    for (size_t i = 0; i < COUNT(known); i++)
        if (known[i] == param)
            return true;
    return false;
}

static void sweep_mallopt(void)
{
    static const int values[] = {0, 1, 64, 100000, INT32_MAX, -1, INT32_MIN};

    for (int param = -12; param <= 4; param++)
        for (size_t i = 0; i < COUNT(values); i++) {
            const char *call = call_text("mallopt(%d, %d)", param, values[i]);
            int result = mallopt(param, values[i]);
            // A known parameter with a value out of its range may be refused.
            judge_number(call, result, is_known(param) ? result == 1 || (result == 0 && i > 2) : result == 0);
            mallopt(M_PERTURB, 0);
            mallopt(M_MMAP_THRESHOLD, 2 << 20);
            void *p = v_malloc(3000), *q = v_malloc(300000);
            const char *fault = p == NULL || q == NULL ? "no block" : fault_of_block(q, 300000, 16);
            if (fault != NULL)
                note(call, "afterwards", UNTOUCHED, fault);
            free(p);
            free(q);
        }
}

static void sweep_reports(void)
{
    FILE *null = fopen("/dev/null", "w");

    for (size_t i = 0; i < COUNT(sizes); i++) {
        const char *call = call_text("malloc_trim(%#zx)", sizes[i]);
        int result = malloc_trim(sizes[i]);
        judge_number(call, result, result == 0 || result == 1);
    }
    const char *call = call_text("malloc_usable_size(NULL)");
    judge_number(call, (intmax_t)malloc_usable_size(NULL), malloc_usable_size(NULL) == 0);
    for (int options = -1; options <= 1; options++) {
        int result;
        call = call_text("malloc_info(%d)", options);
        result = malloc_info(options, null);
        errno = UNTOUCHED; // stdio's own
        judge_number(call, result, options == 0 ? result == 0 : result == EINVAL);
    }
    void *p = v_malloc(3000);
    call = call_text("mallinfo2, a block in use");
    judge_number(call, mallinfo2().uordblks + mallinfo2().hblkhd >= 3000, true);
    free(p);
    fclose(null);
}

// ---- comparison --------------------------------------------------------------------------------

// Starts this program without the library; its answers come by a pipe.
static FILE *ask_glibc(const char *name)
{
    char self[4096], command[4300];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

    if (length <= 0)
        return NULL;
    self[length] = '\0';
    snprintf(command, sizeof command, "env -u LD_PRELOAD -u HK_LIB '%s' answers '%s'", self, name);
    return popen(command, "r");
}

static int compare(const char *name, void (*sweep)(void), unsigned nr_least)
{
    if (is_beside_glibc && getenv("LD_PRELOAD") != NULL)
        glibc = ask_glibc(name);
    sweep();
    if (is_glibc_alone)
        return PASS;
    if (glibc != NULL)
        pclose(glibc);
    printf("# %u calls, %u wrong, %u other than glibc's\n", nr_calls, nr_wrong, nr_different);
    CHECK_EQ(0, nr_wrong);
    CHECK_MSG(nr_calls >= nr_least, "%u calls", nr_calls);
    return PASS;
}

static int of_malloc(void)
{
    return compare("malloc", sweep_malloc, 31);
}

static int of_calloc(void)
{
    return compare("calloc", sweep_calloc, 400);
}

static int of_realloc(void)
{
    return compare("realloc", sweep_realloc, 200);
}

static int of_reallocarray(void)
{
    return compare("reallocarray", sweep_reallocarray, 900);
}

static int of_memalign(void)
{
    return compare("memalign", sweep_memalign, 600);
}

static int of_aligned_alloc(void)
{
    return compare("aligned_alloc", sweep_aligned_alloc, 600);
}

static int of_posix_memalign(void)
{
    return compare("posix_memalign", sweep_posix_memalign, 600);
}

static int of_page_aligned(void)
{
    return compare("valloc and pvalloc", sweep_page_aligned, 60);
}

static int of_frees(void)
{
    return compare("free and its sized forms", sweep_frees, 28);
}

static int of_operators(void)
{
    if (dlsym(RTLD_DEFAULT, "hak_malloc") == NULL)
        return skip("without libhakmem there are no operators in a C program");
    return compare("operators new", sweep_operators, 700);
}

static int of_mallopt(void)
{
    return compare("mallopt", sweep_mallopt, 100);
}

static int of_reports(void)
{
    return compare("malloc_trim, mallinfo2 and others", sweep_reports, 36);
}

static int in_other_modes(void)
{
    static const char *const modes[] = {"mode:minimal", "mode:learning", "secure:1", "guard_rate:1024"};
    static const char *const argv[] = {"grid", "all", NULL};
    static struct run run;

    if (dlsym(RTLD_DEFAULT, "hak_malloc") == NULL)
        return skip("options of libhakmem");
    for (size_t i = 0; i < COUNT(modes); i++) {
        setenv("HAKMEM_OPTIONS", modes[i], 1);
        run.argv = argv;
        run.timeout_s = 30;
        run_program(&run);
        CHECK_MSG(run.status == 0 && run.err_size == 0, "%s: status %#x %s%s", modes[i],
                  (unsigned)run.status, run.out, run.err);
    }
    return PASS;
}

static const struct test_case cases[] = {
    {"malloc", of_malloc, 30},
    {"calloc", of_calloc, 30},
    {"realloc", of_realloc, 30},
    {"reallocarray", of_reallocarray, 30},
    {"memalign", of_memalign, 30},
    {"aligned_alloc", of_aligned_alloc, 30},
    {"posix_memalign", of_posix_memalign, 30},
    {"valloc and pvalloc", of_page_aligned, 30},
    {"free and its sized forms", of_frees, 30},
    {"operators new", of_operators, 30},
    {"mallopt", of_mallopt, 30},
    {"malloc_trim, mallinfo2 and others", of_reports, 30},
    {"other modes", in_other_modes, 120},
};

// In this process, without a look at glibc.
static int run_all(void)
{
    for (size_t i = 0; i + 1 < COUNT(cases); i++) {
        nr_calls = nr_wrong = 0;
        if (cases[i].run() != PASS)
            return FAIL;
    }
    return PASS;
}

static int print_answers(const char *name)
{
    is_glibc_alone = true;
    is_beside_glibc = false;
    for (size_t i = 0; i < COUNT(cases); i++)
        if (strcmp(cases[i].name, name) == 0)
            return cases[i].run();
    return FAIL;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "answers") == 0)
        return print_answers(argv[2]);
    if (argc == 2 && strcmp(argv[1], "all") == 0) {
        is_beside_glibc = false;
        return run_all();
    }
    return harness_main(argc, argv, cases, COUNT(cases));
}
