// SPDX-License-Identifier: MIT
#include "pagemap/pagemap.h"

#include "os/os.h"

HK_HUGE_BSS struct hk_pagemap hk_pagemap;

static size_t nr_leaves; /* relaxed adds */

static size_t leaf_bytes(void)
{
    return hk_align_up(sizeof(struct hk_pm_leaf), hk_os_page_bytes());
}

static void use_leaf(struct hk_pm_stock *stock)
{
    if (!stock)
        return;
    stock->leaves += leaf_bytes();
    stock->nr--;
}

/* Without a lock: a signal handler comes here wherever its thread was. stock: where a leaf comes from; NULL:
 * the system. */
static bool cover_entry(size_t entry, struct hk_pm_stock *stock)
{
    uintptr_t *distance = &hk_pagemap.leaf_distance[entry], none = 0;
    void *leaf;

    if (hk_load_relaxed(distance) != 0) /* never goes back to 0 */
        return true;
    leaf = stock ? stock->leaves : hk_os_reserve(leaf_bytes(), hk_os_page_bytes());
    if (!leaf)
        return false;
    (void)hk_os_huge_pages(leaf, sizeof(struct hk_pm_leaf), false);
    /* Relaxed: fresh pages are zero whoever looks, and words are handed over with pointers. */
    if (hk_cas_relaxed(distance, &none, (uintptr_t)leaf - (uintptr_t)&hk_pagemap.zero)) {
        hk_add_relaxed(&nr_leaves, 1);
        use_leaf(stock);
    } else if (!stock) {
        hk_os_abandon(leaf, leaf_bytes()); /* somebody was faster */
    }
    return true;
}

static bool cover(const void *base, size_t bytes, struct hk_pm_stock *stock)
{
    uintptr_t first = (uintptr_t)base, last = first + bytes - 1;

    if (!hk_pagemap_in_range(last))
        return false;
    for (size_t entry = first >> HK_ROOT_SHIFT; entry <= last >> HK_ROOT_SHIFT; entry++)
        if (!cover_entry(entry, stock))
            return false;
    return true;
}

bool hk_pagemap_cover(const void *base, size_t bytes)
{
    return cover(base, bytes, NULL);
}

bool hk_pagemap_stock(struct hk_pm_stock *stock, size_t bytes)
{
    stock->nr = (bytes >> HK_ROOT_SHIFT) + 2; /* both ends may lie inside an entry */
    stock->leaves = hk_os_reserve(stock->nr * leaf_bytes(), hk_os_page_bytes());
    return stock->leaves != NULL;
}

void hk_pagemap_use_stock(struct hk_pm_stock *stock, const void *base, size_t bytes)
{
    if (base)
        (void)cover(base, bytes, stock);
    if (stock->nr)
        hk_os_abandon(stock->leaves, stock->nr * leaf_bytes());
}

void hk_pagemap_set(const void *base, size_t nr_granules, uintptr_t word, void *desc)
{
    uintptr_t a = (uintptr_t)base;

    for (size_t i = 0; i < nr_granules; i++, a += HK_GRANULE) {
        struct hk_pm_leaf *leaf = hk_pagemap_leaf(a);
        size_t g = hk_pagemap_index(a);

        /* Relaxed: see "Readers" in pagemap.h. desc first, so that a diagnostic that races sees a
         * descriptor no older than the word. */
        hk_store_relaxed(&leaf->desc[g], desc);
        hk_store_relaxed(&leaf->word[g], word);
    }
}

const size_t *hk_pagemap_leaves_field(void)
{
    return &nr_leaves;
}

size_t hk_pagemap_mapped_bytes(void)
{
    return hk_load_relaxed(&nr_leaves) * sizeof(struct hk_pm_leaf);
}
