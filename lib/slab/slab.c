// SPDX-License-Identifier: MIT
#include "slab/slab.h"

#include "base/panic.h"
#include "meta/meta.h"

static size_t nr_words(unsigned nr_slots)
{
    return (nr_slots + 63u) / 64;
}

static size_t descriptor_bytes(unsigned nr_slots)
{
    return offsetof(struct hk_slab, free_bits) + nr_words(nr_slots) * sizeof(uint64_t);
}

static size_t nr_granules(const struct hk_size_class *sc)
{
    return ((size_t)sc->slab_mask + 1) >> HK_GRANULE_SHIFT;
}

static void set_all_free(struct hk_slab *slab)
{
    for (unsigned slot = 0; slot < slab->nr_slots; slot += 64) {
        unsigned n = slab->nr_slots - slot;
        slab->free_bits[slot / 64] = n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
    }
    slab->nr_free = slab->nr_slots;
}

struct hk_slab *hk_slab_acquire(unsigned class, uintptr_t word, void *owner)
{
    const struct hk_size_class *sc = &hk_size_class[class];
    struct hk_slab *slab = hk_meta_alloc(descriptor_bytes(sc->nr_slots));
    bool zero;

    if (!slab)
        return NULL;
    slab->base = (uintptr_t)hk_span_acquire(nr_granules(sc), nr_granules(sc), &zero, &slab->home);
    if (!slab->base) {
        hk_meta_free(slab, descriptor_bytes(sc->nr_slots));
        return NULL;
    }
    slab->class = (uint16_t)class;
    slab->nr_slots = sc->nr_slots;
    set_all_free(slab);
    hk_slab_set_owner(slab, word, owner);
    return slab;
}

void hk_slab_set_owner(struct hk_slab *slab, uintptr_t word, void *owner)
{
    hk_store_relaxed(&slab->owner, owner);
    hk_pagemap_set((void *)slab->base, nr_granules(&hk_size_class[slab->class]), word, slab);
}

void hk_slab_retire(struct hk_slab *slab)
{
    HK_ASSERT(slab->nr_free == slab->nr_slots);
    hk_span_release(slab->home, (void *)slab->base, nr_granules(&hk_size_class[slab->class]), true);
    hk_meta_free(slab, descriptor_bytes(slab->nr_slots));
}

#define MARK_ALL_MAX 2048 /* larger blocks are not touched before they are handed out */

/* Blocks [carved, end) are on their way out for the first time. */
static void carve_to(struct hk_slab *slab, unsigned end)
{
    const struct hk_size_class *sc = &hk_size_class[slab->class];
    unsigned slot = sc->size <= MARK_ALL_MAX ? slab->carved : end;

    for (; HK_CHECKS && slot <= end; slot++)
        if ((size_t)slot * sc->size + 16 <= (size_t)sc->slab_mask + 1)
            *hk_mark_of((void *)(slab->base + (size_t)slot * sc->size)) = sc->magic;
    slab->carved = (uint16_t)end;
}

unsigned hk_slab_take(struct hk_slab *slab, void **blocks, unsigned n)
{
    size_t size = hk_size_class[slab->class].size;
    unsigned taken = 0;

    if (n > slab->nr_free)
        n = slab->nr_free;
    for (unsigned w = slab->first_word; taken < n; w++) {
        uint64_t bits = slab->free_bits[w];
        uintptr_t word_base = slab->base + w * 64 * size;

        while (bits && taken < n) {
            blocks[taken++] = (void *)(word_base + (unsigned)__builtin_ctzll(bits) * size);
            bits &= bits - 1;
        }
        slab->free_bits[w] = bits;
        slab->first_word = (uint16_t)w;
    }
    slab->nr_free = (uint16_t)(slab->nr_free - taken);
    if (taken) {
        size_t last = (uintptr_t)blocks[taken - 1] - slab->base;
        unsigned end = hk_size_slot(&hk_size_class[slab->class], last) + 1;
        if (end > slab->carved)
            carve_to(slab, end);
    }
    return taken;
}

bool hk_slab_give(struct hk_slab *slab, void *p)
{
    const struct hk_size_class *sc = &hk_size_class[slab->class];
    size_t offset = (uintptr_t)p - slab->base;
    unsigned slot = hk_size_slot(sc, offset);
    uint64_t bit = UINT64_C(1) << (slot % 64);

    if (HK_UNLIKELY(slot >= slab->nr_slots || slab->free_bits[slot / 64] & bit ||
                    !hk_size_starts_block(sc->magic, offset)))
        return false;
    slab->free_bits[slot / 64] |= bit;
    slab->nr_free++;
    if (slot / 64 < slab->first_word)
        slab->first_word = (uint16_t)(slot / 64);
    return true;
}

bool hk_slab_block_is_free(const struct hk_slab *slab, const void *p)
{
    unsigned slot = hk_size_slot(&hk_size_class[slab->class], (uintptr_t)p - slab->base);

    return slot < slab->nr_slots && (hk_load_relaxed(&slab->free_bits[slot / 64]) >> (slot % 64) & 1);
}

void hk_slab_check(const struct hk_slab *slab)
{
    const struct hk_size_class *sc = &hk_size_class[slab->class];
    unsigned nr_free = 0;

    for (unsigned w = 0; w < nr_words(slab->nr_slots); w++)
        nr_free += (unsigned)__builtin_popcountll(slab->free_bits[w]);
    if (nr_free != slab->nr_free)
        hk_panic_internal("slab: free count", slab);
    if (slab->nr_slots % 64 && slab->free_bits[slab->nr_slots / 64] >> (slab->nr_slots % 64))
        hk_panic_internal("slab: free bit beyond the last block", slab);
    for (size_t offset = 0; offset < sc->slab_mask; offset += HK_GRANULE)
        if (hk_pagemap_desc((void *)(slab->base + offset)) != slab)
            hk_panic_internal("slab: page map", slab);
}
