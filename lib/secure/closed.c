// SPDX-License-Identifier: MIT
/*
 * closed: the last whole page of a big block is closed, and its trailer lies before that page.
 *
 * Each fence costs the kernel two mappings more, so there are at most 256. They are remembered by the block's address, in a
 * table that is walked: only big blocks ask, and they are few.
 *
 * Before the block goes back the page is opened; where the kernel refuses that (a filter that came later), a fresh page takes its
 * place. When that is refused too the block stays in the table, marked, until somebody tries again with success.
 */
#include "secure/secure_private.h"

#include "os/os.h"

#define NR_FENCES 256
#define FENCED_MIN (2 * HK_MIB)

/* In an entry, beside the address. */
#define KEPT ((uintptr_t)1)  /* the block is dead, and to be given back */
#define SPOILT ((uintptr_t)2) /* it is not: its page may be somebody else's by now */

static HK_LARGE_BSS uintptr_t fenced[NR_FENCES]; /* relaxed: a block's entry is its owner's, who was handed the block */
static uint32_t nr_fenced;      /* about */
static uint32_t nr_kept;        /* of these; relaxed adds */

static uintptr_t *entry_of(const void *p)
{
    for (unsigned i = 0; i < NR_FENCES && hk_load_relaxed(&nr_fenced); i++)
        if ((hk_load_relaxed(&fenced[i]) & ~(KEPT | SPOILT)) == (uintptr_t)p)
            return &fenced[i];
    return NULL;
}

static char *page_of(const void *p, size_t usable)
{
    size_t page = hk_os_page_bytes();

    return (char *)(((uintptr_t)p + usable) & ~(uintptr_t)(page - 1)) - page;
}

size_t hk_closed_usable(const void *p, size_t usable)
{
    return entry_of(p) ? (size_t)(page_of(p, usable) - (const char *)p) : usable;
}

size_t hk_closed_extra(size_t n)
{
    return n >= FENCED_MIN && hk_load_relaxed(&nr_fenced) < NR_FENCES ? 2 * hk_os_page_bytes() : 0;
}

static bool remember(void *p)
{
    for (unsigned i = 0; i < NR_FENCES; i++) {
        uintptr_t none = 0;
        if (!hk_load_relaxed(&fenced[i]) && hk_cas_relaxed(&fenced[i], &none, (uintptr_t)p)) {
            hk_add_relaxed(&nr_fenced, 1);
            return true;
        }
    }
    return false;
}

static void forget(uintptr_t *entry)
{
    hk_store_relaxed(entry, (uintptr_t)0);
    hk_sub_relaxed(&nr_fenced, 1);
}

void hk_closed_put(void *p, size_t usable)
{
    if (remember(p) && !hk_os_guard(page_of(p, usable), hk_os_page_bytes(), true))
        forget(entry_of(p));
}

static enum hk_os_moved open_page(char *page)
{
    return hk_os_guard(page, hk_os_page_bytes(), false) ? HK_OS_MOVED : hk_os_renew(page, hk_os_page_bytes());
}

bool hk_closed_take_down(void *p, size_t usable)
{
    uintptr_t *entry = entry_of(p);
    enum hk_os_moved opened;

    if (!entry)
        return true;
    opened = open_page(page_of(p, usable));
    if (HK_LIKELY(opened == HK_OS_MOVED)) {
        forget(entry);
        return true;
    }
    hk_store_relaxed(entry, (uintptr_t)p | (opened == HK_OS_UNSURE ? SPOILT : KEPT));
    hk_add_relaxed(&nr_kept, opened != HK_OS_UNSURE);
    return false;
}

void *hk_closed_take_kept(void)
{
    for (unsigned i = 0; i < NR_FENCES && hk_load_relaxed(&nr_kept); i++) {
        uintptr_t kept = hk_load_relaxed(&fenced[i]);
        if (kept & KEPT && hk_cas_relaxed(&fenced[i], &kept, kept - KEPT)) {
            hk_sub_relaxed(&nr_kept, 1);
            return (void *)(kept - KEPT);
        }
    }
    return NULL;
}
