// SPDX-License-Identifier: MIT
/*
 * new: the C++ allocation operators, all 20, in C.
 *
 * They are exported so that a C++ allocation is known by its own call site and not by one inside the
 * C++ runtime. The library is not linked with a C++ runtime; one is looked for only when memory has
 * run out, because then the standard wants new_handler called and std::bad_alloc thrown.
 *
 *   operator new         block, or loop { no handler: throw; handler(); try again }
 *   its nothrow form     the same, with NULL in place of any exception
 *   operator delete      free; a size or an alignment is a hint
 *
 * A handler may throw through these frames: compile with -fexceptions.
 * State: none. Locks: none of ours; dlsym and dlopen take the dynamic linker's, with nothing held.
 */
#include "entry/entry_private.h"

#include "base/panic.h"
#include "config/config.h"
#include "heap/heap_inline.h"
#include "secure/secure.h"

#include <dlfcn.h>
#include <stdlib.h>

#define CALLER() __builtin_return_address(0)
#define PLAIN_ALIGN 16 /* of every block */

/* How the Itanium C++ ABI spells size_t. */
#if defined(__LP64__) || defined(__s390__)
#define SIZE_T_IS_LONG 1
#define Z "m"
#else
#define SIZE_T_IS_LONG 0
#define Z "j"
#endif
_Static_assert(_Generic((size_t)0, unsigned long : 1, default : 0) == SIZE_T_IS_LONG, "mangling");

/* `tag` is std::nothrow, a name and not a value: never read. */
#define NOTHROW_TAG "RKSt9nothrow_t"
#define ALIGN_TAG "St11align_val_t"

HK_EXPORT void *hk_new(size_t bytes) __asm__("_Znw" Z);
HK_EXPORT void *hk_new_array(size_t bytes) __asm__("_Zna" Z);
HK_EXPORT void *hk_new_nothrow(size_t bytes, const void *tag) __asm__("_Znw" Z NOTHROW_TAG);
HK_EXPORT void *hk_new_array_nothrow(size_t bytes, const void *tag) __asm__("_Zna" Z NOTHROW_TAG);
HK_EXPORT void *hk_new_aligned(size_t bytes, size_t align) __asm__("_Znw" Z ALIGN_TAG);
HK_EXPORT void *hk_new_array_aligned(size_t bytes, size_t align) __asm__("_Zna" Z ALIGN_TAG);
HK_EXPORT void *hk_new_aligned_nothrow(size_t bytes, size_t align, const void *tag)
    __asm__("_Znw" Z ALIGN_TAG NOTHROW_TAG);
HK_EXPORT void *hk_new_array_aligned_nothrow(size_t bytes, size_t align, const void *tag)
    __asm__("_Zna" Z ALIGN_TAG NOTHROW_TAG);

HK_EXPORT void hk_delete(void *p) __asm__("_ZdlPv");
HK_EXPORT void hk_delete_array(void *p) __asm__("_ZdaPv");
HK_EXPORT void hk_delete_sized(void *p, size_t bytes) __asm__("_ZdlPv" Z);
HK_EXPORT void hk_delete_array_sized(void *p, size_t bytes) __asm__("_ZdaPv" Z);
HK_EXPORT void hk_delete_nothrow(void *p, const void *tag) __asm__("_ZdlPv" NOTHROW_TAG);
HK_EXPORT void hk_delete_array_nothrow(void *p, const void *tag) __asm__("_ZdaPv" NOTHROW_TAG);
HK_EXPORT void hk_delete_aligned(void *p, size_t align) __asm__("_ZdlPv" ALIGN_TAG);
HK_EXPORT void hk_delete_array_aligned(void *p, size_t align) __asm__("_ZdaPv" ALIGN_TAG);
HK_EXPORT void hk_delete_sized_aligned(void *p, size_t bytes, size_t align)
    __asm__("_ZdlPv" Z ALIGN_TAG);
HK_EXPORT void hk_delete_array_sized_aligned(void *p, size_t bytes, size_t align)
    __asm__("_ZdaPv" Z ALIGN_TAG);
HK_EXPORT void hk_delete_aligned_nothrow(void *p, size_t align, const void *tag)
    __asm__("_ZdlPv" ALIGN_TAG NOTHROW_TAG);
HK_EXPORT void hk_delete_array_aligned_nothrow(void *p, size_t align, const void *tag)
    __asm__("_ZdaPv" ALIGN_TAG NOTHROW_TAG);

/*
 * The way to the C++ runtime. Weak references serve programs that have it in the global scope and
 * static ones; the dynamic linker is asked for a runtime that came by dlopen. dlsym is weak too, and
 * the linker's other functions are asked of it: a static program need not have them, and a reference
 * to dlopen would make its link print a warning.
 */
typedef void (*handler_fn)(void);
typedef handler_fn (*get_handler_fn)(void);
typedef void (*throw_fn)(void);

__attribute__((weak)) handler_fn std_get_new_handler(void) __asm__("_ZSt15get_new_handlerv");
__attribute__((weak)) void std_throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv");
#pragma weak dlsym
typedef void *(*dlopen_fn)(const char *file, int flags);
typedef int (*dladdr_fn)(const void *address, Dl_info *info);

/* What throws a bad_alloc by hand: a static program that catches one has these, but not always
 * std::__throw_bad_alloc. Itanium C++ ABI, 2.4 (exceptions) and 2.9 (RTTI). */
__attribute__((weak)) void *cxa_allocate_exception(size_t bytes)
    __asm__("__cxa_allocate_exception");
__attribute__((weak)) void cxa_throw(void *exception, void *type, void (*destroy)(void *))
    __asm__("__cxa_throw");
__attribute__((weak)) void bad_alloc_destroy(void *exception) __asm__("_ZNSt9bad_allocD1Ev");
extern __attribute__((weak)) char bad_alloc_type[] __asm__("_ZTISt9bad_alloc");
extern __attribute__((weak)) char bad_alloc_vtable[] __asm__("_ZTVSt9bad_alloc");

/* A request that failed once. */
struct request {
    size_t bytes;
    size_t align;
    const void *caller;
    enum hk_origin origin;
};

/* A handle of the object if it is loaded, else NULL, which to dlsym is RTLD_DEFAULT: harmless here.
 * It is never closed: what is about to be called must not go away. */
static void *open_loaded(const char *file)
{
    dlopen_fn open = (dlopen_fn)dlsym(RTLD_DEFAULT, "dlopen");

    return open ? open(file, RTLD_LAZY | RTLD_NOLOAD) : NULL;
}

/* The object that holds `address`. dlsym searches what it depends on too: the C++ runtime of this
 * caller, whichever that is, and even if it was loaded with RTLD_LOCAL. */
static void *open_object_of(const void *address)
{
    dladdr_fn find_object = (dladdr_fn)dlsym(RTLD_DEFAULT, "dladdr");
    Dl_info info;

    if (!find_object || !find_object(address, &info))
        return NULL;
    return open_loaded(info.dli_fname);
}

/* `name` anywhere but in this library, or NULL. */
static void *find(const char *name, const void *caller, const void *ours)
{
    enum { GLOBAL, AFTER_US, CALLER, RUNTIME, NR_SCOPES };

    for (int scope = GLOBAL; dlsym && scope < NR_SCOPES; scope++) {
        void *handle = scope == AFTER_US  ? RTLD_NEXT
                       : scope == CALLER  ? open_object_of(caller)
                       : scope == RUNTIME ? open_loaded("libstdc++.so.6")
                                          : RTLD_DEFAULT;
        void *found = dlsym(handle, name);
        if (found && found != ours)
            return found;
    }
    return NULL;
}

/* No handler can help with an alignment that is none. */
static bool is_hopeless(const struct request *request)
{
    return !hk_is_pow2(request->align);
}

static bool is_ours(const char *name, const void *ours)
{
    void *found = dlsym(RTLD_DEFAULT, name);

    return !found || found == ours;
}

/* The default ones of the other forms call these, so who replaces an operator replaces one of them. */
static bool are_ours(void)
{
    return is_ours("_Znw" Z, (const void *)hk_new) && is_ours("_ZdlPv", (const void *)hk_delete) &&
           is_ours("_Zna" Z, (const void *)hk_new_array) && is_ours("_ZdaPv", (const void *)hk_delete_array) &&
           is_ours("_Znw" Z ALIGN_TAG, (const void *)hk_new_aligned) &&
           is_ours("_ZdlPv" ALIGN_TAG, (const void *)hk_delete_aligned) &&
           is_ours("_Zna" Z ALIGN_TAG, (const void *)hk_new_array_aligned) &&
           is_ours("_ZdaPv" ALIGN_TAG, (const void *)hk_delete_array_aligned);
}

/* Asked of the dynamic linker, not of relocations, which every start would pay for. */
bool hk_entry_operators_are_ours(void)
{
    enum { UNKNOWN, OURS, THEIRS };
    static uint32_t known; /* relaxed */

    if (!dlsym)
        return true;
    if (hk_load_relaxed(&known) == UNKNOWN)
        hk_store_relaxed(&known, are_ours() ? (uint32_t)OURS : (uint32_t)THEIRS);
    return hk_load_relaxed(&known) == OURS;
}

/* For option secure. */
static void *with_origin(void *p, const struct request *request)
{
    if (HK_UNLIKELY(hk_config.secure) && p)
        hk_secure_mark_origin(p, request->origin);
    return p;
}

static void *allocate(const struct request *request)
{
    if (is_hopeless(request))
        return NULL;
    return with_origin(hk_entry_alloc(request->bytes, request->align, false, request->caller), request);
}

static handler_fn current_handler(const struct request *request)
{
    get_handler_fn get = std_get_new_handler;

    if (is_hopeless(request))
        return NULL;
    if (!get)
        get = (get_handler_fn)find("_ZSt15get_new_handlerv", request->caller, NULL);
    return get ? get() : NULL;
}

/* A plugin linked with -static-libstdc++ may hold no more of it than an operator new of its own.
 * Given a size that no allocator grants, that throws. */
static void ask_to_throw(const void *caller)
{
    void *(*theirs)(size_t) = (void *(*)(size_t))find("_Znw" Z, caller, (const void *)hk_new);

    if (theirs)
        theirs(SIZE_MAX);
}

static void throw_by_hand(void)
{
    if (!cxa_allocate_exception || !cxa_throw || !bad_alloc_destroy || !bad_alloc_type ||
        !bad_alloc_vtable)
        return;

    void **exception = cxa_allocate_exception(sizeof(void *));
    *exception = bad_alloc_vtable + 2 * sizeof(void *); /* past offset-to-top and type */
    cxa_throw(exception, bad_alloc_type, bad_alloc_destroy);
}

static _Noreturn void throw_bad_alloc(const struct request *request)
{
    throw_fn thrower = std_throw_bad_alloc;

    if (!thrower)
        thrower = (throw_fn)find("_ZSt17__throw_bad_allocv", request->caller, NULL);
    if (thrower)
        thrower();
    ask_to_throw(request->caller);
    throw_by_hand();
    hk_warn("out of memory in operator new", ", and no C++ runtime to throw std::bad_alloc", NULL);
    abort();
}

/* [new.delete.single]: the handler makes memory available, throws, or does not return. */
static void *retry(const struct request *request)
{
    handler_fn handler;

    while ((handler = current_handler(request)) != NULL) {
        handler();
        void *p = allocate(request);
        if (p)
            return p;
    }
    return NULL;
}

static HK_COLD void *fail(const struct request *request)
{
    void *p = retry(request);

    if (!p)
        throw_bad_alloc(request);
    return p;
}

/*
 * An exception of the handler must become NULL, which C cannot do: the runtime's own nothrow
 * operator does, around our throwing one. Statically linked there may be no second one: the exception
 * passes.
 */
static HK_COLD void *fail_nothrow(const struct request *request, const void *tag)
{
    void *(*theirs)(size_t, const void *);

    if (!current_handler(request))
        return NULL;
    theirs = (void *(*)(size_t, const void *))find("_Znw" Z NOTHROW_TAG, request->caller,
                                                   (const void *)hk_new_nothrow);
    return theirs ? with_origin(theirs(request->bytes, tag), request) : retry(request);
}

static HK_COLD void *fail_aligned_nothrow(const struct request *request, const void *tag)
{
    void *(*theirs)(size_t, size_t, const void *);

    if (!current_handler(request))
        return NULL;
    theirs = (void *(*)(size_t, size_t, const void *))find(
        "_Znw" Z ALIGN_TAG NOTHROW_TAG, request->caller, (const void *)hk_new_aligned_nothrow);
    return theirs ? with_origin(theirs(request->bytes, request->align, tag), request) : retry(request);
}

/*
 * Past the magazine.
 */

static HK_NOINLINE void *new_slow(size_t bytes, size_t align, const void *caller, enum hk_origin origin)
{
    struct request request = {bytes, align, caller, origin};
    void *p = allocate(&request);

    return HK_LIKELY(p != NULL) ? p : fail(&request);
}

static HK_NOINLINE void *new_nothrow_slow(size_t bytes, const void *tag, const void *caller, enum hk_origin origin)
{
    struct request request = {bytes, PLAIN_ALIGN, caller, origin};
    void *p = allocate(&request);

    return HK_LIKELY(p != NULL) ? p : fail_nothrow(&request, tag);
}

static HK_NOINLINE void *new_aligned_nothrow_slow(size_t bytes, size_t align, const void *tag,
                                                  const void *caller, enum hk_origin origin)
{
    struct request request = {bytes, align, caller, origin};
    void *p = allocate(&request);

    return HK_LIKELY(p != NULL) ? p : fail_aligned_nothrow(&request, tag);
}

/*
 * The operators. Each is a function of its own and no alias of another: valgrind replaces functions
 * by address, and would report delete[] of what it took for new.
 */

void *hk_new(size_t bytes)
{
    void *p = hk_heap_alloc_fast(bytes);

    return HK_LIKELY(p != NULL) ? p : new_slow(bytes, PLAIN_ALIGN, CALLER(), HK_ORIGIN_NEW);
}

void *hk_new_array(size_t bytes)
{
    void *p = hk_heap_alloc_fast(bytes);

    return HK_LIKELY(p != NULL) ? p : new_slow(bytes, PLAIN_ALIGN, CALLER(), HK_ORIGIN_NEW_ARRAY);
}

void *hk_new_nothrow(size_t bytes, const void *tag)
{
    void *p = hk_heap_alloc_fast(bytes);

    return HK_LIKELY(p != NULL) ? p : new_nothrow_slow(bytes, tag, CALLER(), HK_ORIGIN_NEW);
}

void *hk_new_array_nothrow(size_t bytes, const void *tag)
{
    void *p = hk_heap_alloc_fast(bytes);

    return HK_LIKELY(p != NULL) ? p : new_nothrow_slow(bytes, tag, CALLER(), HK_ORIGIN_NEW_ARRAY);
}

HK_INLINE void *aligned_fast(size_t bytes, size_t align)
{
    return HK_LIKELY(align > 16 && hk_is_pow2(align)) ? hk_heap_alloc_aligned_fast(bytes, align) : NULL;
}

void *hk_new_aligned(size_t bytes, size_t align)
{
    void *p = aligned_fast(bytes, align);

    return HK_LIKELY(p != NULL) ? p : new_slow(bytes, align, CALLER(), HK_ORIGIN_ALIGNED_NEW);
}

void *hk_new_array_aligned(size_t bytes, size_t align)
{
    void *p = aligned_fast(bytes, align);

    return HK_LIKELY(p != NULL) ? p : new_slow(bytes, align, CALLER(), HK_ORIGIN_ALIGNED_NEW_ARRAY);
}

void *hk_new_aligned_nothrow(size_t bytes, size_t align, const void *tag)
{
    void *p = aligned_fast(bytes, align);

    return HK_LIKELY(p != NULL) ? p : new_aligned_nothrow_slow(bytes, align, tag, CALLER(), HK_ORIGIN_ALIGNED_NEW);
}

void *hk_new_array_aligned_nothrow(size_t bytes, size_t align, const void *tag)
{
    void *p = aligned_fast(bytes, align);

    return HK_LIKELY(p != NULL) ? p : new_aligned_nothrow_slow(bytes, align, tag, CALLER(), HK_ORIGIN_ALIGNED_NEW_ARRAY);
}

/* free preserves errno, and so do these; those that jump to it let it see delete's caller. */

void hk_delete(void *p)
{
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_delete(p, HK_ORIGIN_NEW, HK_SIZE_UNSAID, PLAIN_ALIGN, CALLER());
}

void hk_delete_array(void *p)
{
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_delete(p, HK_ORIGIN_NEW_ARRAY, HK_SIZE_UNSAID, PLAIN_ALIGN, CALLER());
}

void hk_delete_sized(void *p, size_t bytes)
{
    if (HK_UNLIKELY(!hk_heap_free_sized_fast(p, bytes)))
        hk_entry_delete(p, HK_ORIGIN_NEW, bytes, PLAIN_ALIGN, CALLER());
}

void hk_delete_array_sized(void *p, size_t bytes)
{
    if (HK_UNLIKELY(!hk_heap_free_sized_fast(p, bytes)))
        hk_entry_delete(p, HK_ORIGIN_NEW_ARRAY, bytes, PLAIN_ALIGN, CALLER());
}

void hk_delete_nothrow(void *p, const void *tag)
{
    (void)tag;
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_delete(p, HK_ORIGIN_NEW, HK_SIZE_UNSAID, PLAIN_ALIGN, CALLER());
}

void hk_delete_array_nothrow(void *p, const void *tag)
{
    (void)tag;
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_delete(p, HK_ORIGIN_NEW_ARRAY, HK_SIZE_UNSAID, PLAIN_ALIGN, CALLER());
}

void hk_delete_aligned(void *p, size_t align)
{
    (void)align;
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_delete(p, HK_ORIGIN_ALIGNED_NEW, HK_SIZE_UNSAID, PLAIN_ALIGN, CALLER());
}

void hk_delete_array_aligned(void *p, size_t align)
{
    (void)align;
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_delete(p, HK_ORIGIN_ALIGNED_NEW_ARRAY, HK_SIZE_UNSAID, PLAIN_ALIGN, CALLER());
}

void hk_delete_sized_aligned(void *p, size_t bytes, size_t align)
{
    if (HK_UNLIKELY(!hk_heap_free_sized_fast(p, hk_entry_aligned_size(bytes, align))))
        hk_entry_delete(p, HK_ORIGIN_ALIGNED_NEW, bytes, align, CALLER());
}

void hk_delete_array_sized_aligned(void *p, size_t bytes, size_t align)
{
    if (HK_UNLIKELY(!hk_heap_free_sized_fast(p, hk_entry_aligned_size(bytes, align))))
        hk_entry_delete(p, HK_ORIGIN_ALIGNED_NEW_ARRAY, bytes, align, CALLER());
}

void hk_delete_aligned_nothrow(void *p, size_t align, const void *tag)
{
    (void)align;
    (void)tag;
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_delete(p, HK_ORIGIN_ALIGNED_NEW, HK_SIZE_UNSAID, PLAIN_ALIGN, CALLER());
}

void hk_delete_array_aligned_nothrow(void *p, size_t align, const void *tag)
{
    (void)align;
    (void)tag;
    if (HK_UNLIKELY(!hk_heap_free_fast(p)))
        hk_entry_delete(p, HK_ORIGIN_ALIGNED_NEW_ARRAY, HK_SIZE_UNSAID, PLAIN_ALIGN, CALLER());
}
