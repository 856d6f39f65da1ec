// SPDX-License-Identifier: MIT
/*
 * closed: the last whole page of a big block is closed, and its trailer lies before that page.
 *
 * Each fence costs the kernel two mappings more, so there are at most 256. They are remembered by the block's address, in a
 * table that is walked: only big blocks ask, and they are few.
 */
#include "secure/secure_private.h"

#include "os/os.h"

#define NR_FENCES 256
#define FENCED_MIN (2 * HK_MIB)

static HK_LARGE_BSS void *fenced[NR_FENCES]; /* relaxed: a block's entry is its owner's, who was handed the block */
static uint32_t nr_fenced;      /* about */

static void **entry_of(const void *p)
{
    for (unsigned i = 0; i < NR_FENCES && hk_load_relaxed(&nr_fenced); i++)
        if (hk_load_relaxed(&fenced[i]) == p)
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
        void *none = NULL;
        if (!hk_load_relaxed(&fenced[i]) && hk_cas_relaxed(&fenced[i], &none, p)) {
            hk_add_relaxed(&nr_fenced, 1);
            return true;
        }
    }
    return false;
}

static void forget(const void *p)
{
    void **entry = entry_of(p);

    hk_store_relaxed(entry, NULL);
    hk_sub_relaxed(&nr_fenced, 1);
}

void hk_closed_put(void *p, size_t usable)
{
    if (remember(p) && !hk_os_guard(page_of(p, usable), hk_os_page_bytes(), true))
        forget(p);
}

bool hk_closed_take_down(void *p, size_t usable)
{
    if (!entry_of(p))
        return true;
    if (!hk_os_guard(page_of(p, usable), hk_os_page_bytes(), false))
        return false;
    forget(p);
    return true;
}
