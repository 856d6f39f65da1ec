// SPDX-License-Identifier: MIT
/*
 * panic: the one way a misused heap ends: a sentence on stderr, then abort.
 *
 * Does not allocate, take a lock, use stdio or return. The text is built on the stack and leaves in
 * one write(2). hk_panic_hook, when set, runs first, so that a SIGABRT handler that allocates finds a
 * heap it can use (thread/thread.c routes such a thread to plain mappings).
 */
#ifndef HK_PANIC_H
#define HK_PANIC_H

#include "base/base.h"

struct hk_diag {
    const char *what;   /* class of error, e.g. "double free" */
    const void *ptr;    /* the pointer the program passed */
    const void *block;  /* base of the block it lies in, or NULL if unknown */
    size_t size;        /* usable bytes of that block */
    unsigned owner;     /* kernel thread id of the owner, 0 if unknown */
    const void *caller; /* return address of the exported entry, or NULL */
    const void *alloc_site, *free_site; /* of the block, where that is known */
    unsigned freed_by;  /* kernel thread id, 0 if unknown */
};

extern void (*hk_panic_hook)(void);

_Noreturn HK_COLD void hk_panic(const struct hk_diag *diag);
/* An invariant of ours broke: not the program's fault unless it wrote into our memory. */
_Noreturn HK_COLD void hk_panic_internal(const char *what, const void *where);
/* One line "hakmem: <text><quoted>\n" on stderr; never aborts. */
HK_COLD void hk_warn(const char *text, const char *quoted, const char *tail);

#define HK_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (HK_DEBUG && HK_UNLIKELY(!(cond)))                                                      \
            hk_panic_internal(#cond, NULL);                                                        \
    } while (0)

#endif
