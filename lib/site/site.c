// SPDX-License-Identifier: MIT
#include "site/site.h"

#define MIN_OBSERVATIONS 10

HK_LARGE_BSS struct hk_site_slot hk_site_slots[HK_SITE_SLOTS];
static uint64_t nr_dropped;

/* Fibonacci hashing (Knuth, TAOCP 3, 6.4): the high bits of a product are well mixed. */
static unsigned hash(const void *site)
{
    return (unsigned)(((uint64_t)(uintptr_t)site * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static struct hk_site_slot *find(const void *site, bool claim)
{
    unsigned h = hash(site);

    for (unsigned i = 0; i < HK_SITE_PROBES; i++) {
        struct hk_site_slot *slot = &hk_site_slots[(h + i) % HK_SITE_SLOTS];
        const void *key = hk_load_relaxed(&slot->site);

        if (key == site)
            return slot;
        if (key)
            continue;
        if (!claim)
            return NULL;
        /* Relaxed: the numbers of a fresh slot are zero whoever looks. */
        if (hk_cas_relaxed(&slot->site, &key, site) || key == site)
            return slot;
    }
    return NULL;
}

static void raise_max(uint64_t *max, uint64_t value)
{
    uint64_t seen = hk_load_relaxed(max);

    while (seen < value && !hk_cas_relaxed(max, &seen, value))
        ;
}

void hk_site_note_allocs(const void *site, unsigned n, size_t bytes, size_t max_bytes)
{
    struct hk_site_slot *slot = site ? find(site, true) : NULL;

    if (!slot) {
        hk_add_relaxed(&nr_dropped, n);
        return;
    }
    hk_add_relaxed(&slot->nr_allocs, n);
    hk_add_relaxed(&slot->total_bytes, bytes);
    hk_add_relaxed(&slot->live_bytes, bytes);
    raise_max(&slot->max_bytes, max_bytes);
}

void hk_site_note_free(const void *site, size_t bytes)
{
    struct hk_site_slot *slot = site ? find(site, false) : NULL;

    if (!slot)
        return;
    hk_add_relaxed(&slot->nr_frees, 1);
    hk_sub_relaxed(&slot->live_bytes, bytes);
}

bool hk_site_read(unsigned i, struct hk_site_slot *out)
{
    const struct hk_site_slot *slot = &hk_site_slots[i];

    out->site = hk_load_relaxed(&slot->site);
    out->nr_allocs = hk_load_relaxed(&slot->nr_allocs);
    out->nr_frees = hk_load_relaxed(&slot->nr_frees);
    out->total_bytes = hk_load_relaxed(&slot->total_bytes);
    out->live_bytes = hk_load_relaxed(&slot->live_bytes);
    out->max_bytes = hk_load_relaxed(&slot->max_bytes);
    return out->site && out->nr_allocs;
}

uint64_t hk_site_dropped(void)
{
    return hk_load_relaxed(&nr_dropped);
}

/* Without lifetimes (the sampled profile will bring them) size and frequency decide. */
const char *hk_site_purpose_of(const struct hk_site_slot *slot)
{
    uint64_t average;

    if (slot->nr_allocs < MIN_OBSERVATIONS)
        return "unknown";
    average = slot->total_bytes / slot->nr_allocs;
    if (average <= 32 * HK_KIB)
        return "small-frequent";
    return average < HK_MIB ? "medium" : "large-infrequent";
}
