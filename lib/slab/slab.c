// SPDX-License-Identifier: MIT
#include "slab/slab.h"

#include "base/panic.h"
#include "meta/meta.h"
#include "os/os.h"

static uint32_t nr_acquired; /* relaxed adds */

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
    slab->class = (uint8_t)class;
    slab->serial = hk_add_relaxed(&nr_acquired, 1);
    slab->nr_slots = sc->nr_slots;
    set_all_free(slab);
    hk_slab_set_owner(slab, word, owner);
    return slab;
}

/* Granules that hold a byte of a block that left, or the start of a marked one. */
static size_t nr_opened(const struct hk_slab *slab)
{
    size_t size = hk_size_class[slab->class].size;
    size_t left = slab->carved * size, marked = slab->marked ? (slab->marked - 1) * size + 1 : 0;

    return hk_align_up(hk_max(left, marked), HK_GRANULE) >> HK_GRANULE_SHIFT;
}

static void open_granules(struct hk_slab *slab, size_t first)
{
    hk_pagemap_set((char *)slab->base + first * HK_GRANULE, nr_opened(slab) - first, slab->word, slab);
}

void hk_slab_set_owner(struct hk_slab *slab, uintptr_t word, void *owner)
{
    hk_store_relaxed(&slab->owner, owner);
    slab->word = word;
    open_granules(slab, 0);
}

void hk_slab_retire(struct hk_slab *slab)
{
    HK_ASSERT(slab->nr_free == slab->nr_slots);
    hk_span_release(slab->home, (void *)slab->base, nr_granules(&hk_size_class[slab->class]), true);
    hk_meta_free(slab, descriptor_bytes(slab->nr_slots));
}

/* Blocks above this are not touched before they are handed out, but for the first that never was. */
#define MARK_PAGES_MAX 2048

/* Slots whose start is to be marked once the blocks below `end` have left: the first that has not, or the
 * tail, and whatever starts in the page that this one starts in. */
static unsigned nr_to_mark(const struct hk_size_class *sc, unsigned end)
{
    size_t slab_bytes = (size_t)sc->slab_mask + 1, last = (size_t)end * sc->size;
    unsigned fit = (unsigned)((slab_bytes - 16) / sc->size) + 1; /* slots with room for a mark */

    if (sc->size <= MARK_PAGES_MAX)
        last |= hk_os_page_bytes() - 1;
    return (unsigned)hk_min(last / sc->size + 1, fit);
}

/* Blocks [carved, end) are on their way out for the first time. */
static void carve_to(struct hk_slab *slab, unsigned end)
{
    const struct hk_size_class *sc = &hk_size_class[slab->class];
    unsigned nr_marked = nr_to_mark(sc, end), slot = sc->size <= MARK_PAGES_MAX ? slab->marked : end;
    size_t opened = nr_opened(slab);

    for (; HK_CHECKS && slot < nr_marked; slot++)
        *hk_mark_of((void *)(slab->base + (size_t)slot * sc->size)) = sc->magic;
    hk_store_relaxed(&slab->carved, (uint16_t)end); /* others look, see identify in ace.c */
    slab->marked = (uint16_t)hk_max(slab->marked, nr_marked);
    open_granules(slab, opened);
}

/* How many of the n lowest free blocks may leave now: of large ones a single one that never did, which is
 * marked already or (the very first) handed out at once. */
static unsigned nr_to_take(const struct hk_slab *slab, unsigned n)
{
    unsigned nr_used_before = slab->nr_free - (slab->nr_slots - slab->carved);

    n = n < slab->nr_free ? n : slab->nr_free;
    if (HK_CHECKS && hk_size_class[slab->class].size > MARK_PAGES_MAX && n > nr_used_before + 1)
        n = nr_used_before + 1;
    return n;
}

bool hk_slab_fills(const void *desc, const void *granule)
{
    const struct hk_slab *slab = desc;
    size_t offset = (uintptr_t)granule - slab->base, size;
    unsigned class = slab->class, carved = hk_load_relaxed(&slab->carved);

    if (class >= HK_NR_CLASSES) /* on a machine that reorders: it is being made */
        return false;
    size = hk_size_class[class].size;
    return size <= MARK_PAGES_MAX && (carved == slab->nr_slots || offset + HK_GRANULE <= carved * size);
}

unsigned hk_slab_take(struct hk_slab *slab, void **blocks, unsigned n)
{
    size_t size = hk_size_class[slab->class].size;
    unsigned taken = 0;

    n = nr_to_take(slab, n);
    for (unsigned w = slab->first_word; taken < n; w++) {
        uint64_t bits = slab->free_bits[w];
        uintptr_t word_base = slab->base + w * 64 * size;

        while (bits && taken < n) {
            blocks[taken++] = (void *)(word_base + (unsigned)__builtin_ctzll(bits) * size);
            bits &= bits - 1;
        }
        hk_store_relaxed(&slab->free_bits[w], bits);
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

static unsigned count_free(const struct hk_slab *slab)
{
    unsigned nr_free = 0;

    for (unsigned w = 0; w < nr_words(slab->nr_slots); w++)
        nr_free += (unsigned)__builtin_popcountll(slab->free_bits[w]);
    return nr_free;
}

/* What has not been carved had not left yet, whatever its bit says; what has been was marked before. */
void hk_slab_mend(struct hk_slab *slab)
{
    for (unsigned slot = slab->carved; slot < slab->nr_slots; slot++)
        slab->free_bits[slot / 64] |= UINT64_C(1) << (slot % 64);
    slab->nr_free = (uint16_t)count_free(slab);
    slab->first_word = 0;
    slab->marked = (uint16_t)hk_max(slab->marked, slab->carved);
    slab->next = slab->prev = NULL;
    slab->listed = false;
}

bool hk_slab_give(struct hk_slab *slab, void *p)
{
    const struct hk_size_class *sc = &hk_size_class[slab->class];
    size_t offset = (uintptr_t)p - slab->base;

    return hk_size_starts_block(sc->magic, offset) && hk_slab_give_slot(slab, hk_size_slot(sc, offset));
}

bool hk_slab_block_is_free(const struct hk_slab *slab, const void *p)
{
    unsigned slot = hk_size_slot(&hk_size_class[slab->class], (uintptr_t)p - slab->base);

    return slot < slab->nr_slots && (hk_load_relaxed(&slab->free_bits[slot / 64]) >> (slot % 64) & 1);
}

void hk_slab_check(const struct hk_slab *slab)
{
    const struct hk_size_class *sc = &hk_size_class[slab->class];

    if (count_free(slab) != slab->nr_free)
        hk_panic_internal("slab: free count", slab);
    if (slab->nr_slots % 64 && slab->free_bits[slab->nr_slots / 64] >> (slab->nr_slots % 64))
        hk_panic_internal("slab: free bit beyond the last block", slab);
    if (slab->carved > slab->nr_slots || slab->nr_free < slab->nr_slots - slab->carved)
        hk_panic_internal("slab: a block that never left is not free", slab);
    for (size_t g = 0; g < nr_granules(sc); g++) {
        const void *at = (const void *)(slab->base + g * HK_GRANULE);
        if (g < nr_opened(slab) ? hk_pagemap_word(at) != slab->word || hk_pagemap_desc(at) != slab
                                : hk_pagemap_word(at) != HK_PM_SPAN)
            hk_panic_internal("slab: page map", slab);
    }
}
