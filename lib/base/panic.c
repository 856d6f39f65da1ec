// SPDX-License-Identifier: MIT
#include "base/panic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void (*hk_panic_hook)(void);

struct line {
    char text[512];
    size_t used;
};

static void put(struct line *l, const char *s)
{
    while (*s && l->used < sizeof l->text - 1)
        l->text[l->used++] = *s++;
}

static void put_number(struct line *l, uintptr_t v, unsigned base)
{
    char digits[24];
    size_t n = sizeof digits - 1;

    digits[n] = 0;
    do {
        digits[--n] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    put(l, digits + n);
}

static void put_address(struct line *l, const char *label, const void *p)
{
    put(l, label);
    put(l, "0x");
    put_number(l, (uintptr_t)p, 16);
}

/* A short or failed write is not retried: there is nobody left to tell. */
static void emit(struct line *l)
{
    int saved = errno;

    l->text[l->used++] = '\n';
    if (write(STDERR_FILENO, l->text, l->used) < 0)
        l->used = 0;
    errno = saved;
}

void hk_panic(const struct hk_diag *diag)
{
    struct line l = {.used = 0};

    put(&l, "hakmem: ");
    put(&l, diag->what);
    put_address(&l, ": pointer ", diag->ptr);
    if (diag->block) {
        put_address(&l, ", block ", diag->block);
        put(&l, ", size ");
        put_number(&l, diag->size, 10);
    }
    if (diag->owner) {
        put(&l, ", owner thread ");
        put_number(&l, diag->owner, 10);
    }
    if (diag->caller)
        put_address(&l, ", called from ", diag->caller);
    if (diag->alloc_site)
        put_address(&l, ", allocated at ", diag->alloc_site);
    if (diag->free_site)
        put_address(&l, ", freed at ", diag->free_site);
    if (diag->freed_by) {
        put(&l, " by thread ");
        put_number(&l, diag->freed_by, 10);
    }
    emit(&l);
    if (hk_panic_hook)
        hk_panic_hook();
    abort();
}

void hk_panic_internal(const char *what, const void *where)
{
    struct line l = {.used = 0};

    put(&l, "hakmem: heap corrupted: ");
    put(&l, what);
    if (where)
        put_address(&l, ": at ", where);
    emit(&l);
    if (hk_panic_hook)
        hk_panic_hook();
    abort();
}

void hk_warn(const char *text, const char *quoted, const char *tail)
{
    struct line l = {.used = 0};

    put(&l, "hakmem: ");
    put(&l, text);
    if (quoted)
        put(&l, quoted);
    if (tail)
        put(&l, tail);
    emit(&l);
}
