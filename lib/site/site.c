// SPDX-License-Identifier: MIT
#include "site/site_private.h"

#include <string.h>

/* The key of a slot that changes hands: nobody's. */
#define NOBODY ((const void *)1)

HK_LARGE_BSS struct hk_site_slot hk_site_slots[HK_SITE_SLOTS];
static uint64_t nr_dropped;

/* Fibonacci hashing (Knuth, TAOCP 3, 6.4): the high bits of a product are well mixed. */
static unsigned hash(const void *site)
{
    return (unsigned)(((uint64_t)(uintptr_t)site * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static void know_module(struct hk_site_slot *slot, const void *site)
{
    uint8_t build_id[HK_SITE_BUILD_ID];
    uint64_t base;

    if (!hk_site_module(site, &base, build_id))
        return;
    memcpy(slot->build_id, build_id, sizeof build_id);
    hk_store_relaxed(&slot->base, base);
}

/* The slot starts anew for `site`. NULL: somebody else was first. */
static struct hk_site_slot *renew(struct hk_site_slot *slot, const void *old, const void *site)
{
    if (!hk_cas_relaxed(&slot->site, &old, NOBODY))
        return NULL;
    memset((char *)slot + offsetof(struct hk_site_slot, nr_allocs), 0,
           sizeof *slot - offsetof(struct hk_site_slot, nr_allocs));
    know_module(slot, site);
    /* Relaxed: a thread that sees the new key and old numbers adds to a number that is cleared; see "one
     * event" in site.h. */
    hk_store_relaxed(&slot->site, site);
    return slot;
}

struct hk_site_slot *hk_site_renew(struct hk_site_slot *slot, const void *site)
{
    return renew(slot, site, site);
}

static bool is_idle(const struct hk_site_slot *slot, uint64_t now_ns)
{
    uint64_t last = hk_load_relaxed(&slot->last_ns);

    return last && now_ns > last && now_ns - last >= HK_SITE_IDLE_NS && !hk_load_relaxed(&slot->labelled) &&
           hk_load_relaxed(&slot->site) != NOBODY;
}

static struct hk_site_slot *replace_idlest(const void *site, uint64_t now_ns)
{
    struct hk_site_slot *idlest = NULL;

    for (unsigned i = 0; i < HK_SITE_PROBES; i++) {
        struct hk_site_slot *slot = &hk_site_slots[(hash(site) + i) % HK_SITE_SLOTS];
        if (is_idle(slot, now_ns) && (!idlest || slot->last_ns < idlest->last_ns))
            idlest = slot;
    }
    return idlest ? renew(idlest, hk_load_relaxed(&idlest->site), site) : NULL;
}

struct hk_site_slot *hk_site_find(const void *site, bool claim, uint64_t now_ns)
{
    unsigned h = hash(site);

    if (site == NULL || site == NOBODY)
        return NULL;
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
        if (hk_cas_relaxed(&slot->site, &key, site)) {
            know_module(slot, site);
            return slot;
        }
        if (key == site)
            return slot;
    }
    return claim ? replace_idlest(site, now_ns) : NULL;
}

void hk_site_raise_max(uint64_t *max, uint64_t value)
{
    uint64_t seen = hk_load_relaxed(max);

    while (seen < value && !hk_cas_relaxed(max, &seen, value))
        ;
}

static struct hk_site_slot *note(const void *site, unsigned n, size_t bytes, size_t max_bytes, uint64_t now_ns)
{
    struct hk_site_slot *slot = hk_site_find(site, true, now_ns);

    if (!slot) {
        hk_add_relaxed(&nr_dropped, n);
        return NULL;
    }
    hk_add_relaxed(&slot->nr_allocs, n);
    hk_add_relaxed(&slot->total_bytes, bytes);
    if (hk_load_relaxed(&slot->labelled))
        hk_add_relaxed(&slot->live_bytes, bytes);
    hk_site_raise_max(&slot->max_bytes, max_bytes);
    if (now_ns)
        hk_store_relaxed(&slot->last_ns, now_ns);
    return slot;
}

void hk_site_note_allocs(const void *site, unsigned n, size_t bytes, size_t max_bytes, uint64_t now_ns)
{
    (void)note(site, n, bytes, max_bytes, now_ns);
}

void hk_site_label(const void *site)
{
    struct hk_site_slot *slot = hk_site_find(site, true, 0);

    if (slot && !hk_load_relaxed(&slot->labelled))
        hk_store_relaxed(&slot->labelled, (uint32_t)1);
}

void hk_site_note_label(const void *site, size_t bytes)
{
    hk_site_label(site);
    (void)note(site, 1, bytes, bytes, 0);
}

void hk_site_note_free(const void *site, size_t bytes)
{
    struct hk_site_slot *slot = hk_site_find(site, false, 0);

    if (!slot || !hk_load_relaxed(&slot->labelled))
        return;
    hk_add_relaxed(&slot->nr_frees, 1);
    hk_sub_relaxed(&slot->live_bytes, bytes);
}

/* Word by word, as the fields may change meanwhile: in halves where a word has 32 bits. */
bool hk_site_read(unsigned i, struct hk_site_slot *out)
{
    const uintptr_t *from = (const uintptr_t *)&hk_site_slots[i];
    uintptr_t *to = (uintptr_t *)out;

    _Static_assert(sizeof *out % sizeof *to == 0, "words only");
    for (size_t w = 0; w < sizeof *out / sizeof *to; w++)
        to[w] = hk_load_relaxed(&from[w]);
    return out->site && out->site != NOBODY && (out->nr_allocs || out->nr_samples);
}

uint64_t hk_site_dropped(void)
{
    return hk_load_relaxed(&nr_dropped);
}
