// SPDX-License-Identifier: MIT
#include "pagemap/pagemap.h"

#include "os/os.h"

HK_LARGE_BSS struct hk_pagemap hk_pagemap;
struct hk_lock hk_pagemap_lock = HK_LOCK_INIT(HK_RANK_PAGEMAP);

static size_t nr_leaves; /* written under the lock */

static bool cover_entry(size_t entry)
{
    uintptr_t *distance = &hk_pagemap.leaf_distance[entry];
    bool covered;

    if (hk_load_relaxed(distance) != 0) /* never goes back to 0 */
        return true;
    hk_lock(&hk_pagemap_lock);
    covered = *distance != 0;
    if (!covered) {
        void *leaf = hk_os_reserve(hk_align_up(sizeof(struct hk_pm_leaf), hk_os_page_bytes()),
                                   hk_os_page_bytes());
        if (leaf) {
            hk_os_huge_pages(leaf, sizeof(struct hk_pm_leaf), false);
            /* Relaxed: fresh pages are zero whoever looks, and words are handed over with pointers. */
            hk_store_relaxed(distance, (uintptr_t)leaf - (uintptr_t)&hk_pagemap.zero);
            hk_store_relaxed(&nr_leaves, nr_leaves + 1);
            covered = true;
        }
    }
    hk_unlock(&hk_pagemap_lock);
    return covered;
}

bool hk_pagemap_cover(const void *base, size_t bytes)
{
    uintptr_t first = (uintptr_t)base, last = first + bytes - 1;

    if (!hk_pagemap_in_range(last))
        return false;
    for (size_t entry = first >> HK_ROOT_SHIFT; entry <= last >> HK_ROOT_SHIFT; entry++)
        if (!cover_entry(entry))
            return false;
    return true;
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
