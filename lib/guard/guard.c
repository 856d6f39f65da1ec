// SPDX-License-Identifier: MIT
#include "guard/guard_private.h"

#include "base/panic.h"
#include "os/os.h"

#include <string.h>

#define MIN_ALIGN 16
#define LEFT_EVERY 4 /* one block in so many lies at the start of its page */

HK_LARGE_BSS struct hk_guard_slot hk_guard_slots[HK_GUARD_SLOTS];

enum { INIT_NONE, INIT_RUNNING, INIT_DONE };

static struct {
    struct hk_guard_region region;
    uint64_t nr_freed; /* relaxed: order of the frees */
    struct hk_guard_counters counters;
} guard = {.region.word = HK_PM_GUARD};

const struct hk_guard_counters *hk_guard_counters(void)
{
    return &guard.counters;
}

/* ---- the region ---------------------------------------------------------------------------- */

static size_t granule(void)
{
    return hk_max(HK_GRANULE, hk_os_page_bytes());
}

static size_t region_bytes(void)
{
    return hk_align_up((2 * HK_GUARD_SLOTS + 1) * hk_os_page_bytes(), granule());
}

static char *page_of(size_t i)
{
    return guard.region.base + (2 * i + 1) * hk_os_page_bytes();
}

static bool map_region(struct hk_guard_region *region, size_t bytes)
{
    char *base = hk_os_reserve(bytes, granule());

    if (!base)
        return false;
    if (!hk_pagemap_cover(base, bytes) || !hk_os_guard(base, bytes, true)) {
        hk_os_abandon(base, bytes);
        return false;
    }
    (void)hk_os_huge_pages(base, bytes, false);
    hk_pagemap_set(base, bytes / HK_GRANULE, region->word, NULL);
    region->base = base;
    hk_add_relaxed(&guard.counters.mapped_bytes, bytes);
    return true;
}

bool hk_guard_region_is_there(const struct hk_guard_region *region)
{
    return hk_load_acquire(&region->init) == INIT_DONE; /* GI1 acquire, pairs with GI2: base */
}

bool hk_guard_have_region(struct hk_guard_region *region, size_t bytes)
{
    uint32_t none = INIT_NONE;
    bool done;

    if (hk_guard_region_is_there(region))
        return true;
    if (!hk_cas_acquire(&region->init, &none, (uint32_t)INIT_RUNNING)) /* GI1 acquire, pairs with GI2 */
        return none == INIT_DONE;
    done = map_region(region, bytes);
    /* GI2 release, pairs with GI1: publishes base and the page map */
    hk_store_release(&region->init, (uint32_t)(done ? INIT_DONE : INIT_NONE));
    return done;
}

void hk_guard_region_fork_child(struct hk_guard_region *region)
{
    if (region->init == INIT_RUNNING)
        region->init = INIT_NONE;
}

bool hk_guard_contains(const void *p)
{
    return hk_guard_region_is_there(&guard.region) && (size_t)((const char *)p - guard.region.base) < region_bytes();
}

static size_t page_number(const void *p)
{
    return (size_t)((const char *)p - guard.region.base) / hk_os_page_bytes();
}

const struct hk_guard_slot *hk_guard_slot_at(const void *p)
{
    size_t page = page_number(p);

    if (page % 2 == 0 || page / 2 >= HK_GUARD_SLOTS || !hk_load_relaxed(&hk_guard_slots[page / 2].start))
        return NULL;
    return &hk_guard_slots[page / 2];
}

/* Bytes between p, outside, and the slot's block. */
static size_t distance(const struct hk_guard_slot *slot, const char *p)
{
    const char *start = hk_load_relaxed(&slot->start);

    return p < start ? (size_t)(start - p) : (size_t)(p - start) - hk_load_relaxed(&slot->bytes);
}

const struct hk_guard_slot *hk_guard_nearest(const void *p)
{
    size_t page = hk_os_page_bytes();
    const struct hk_guard_slot *here = hk_guard_slot_at(p), *left, *right;

    if (here)
        return here;
    left = (const char *)p >= guard.region.base + page ? hk_guard_slot_at((const char *)p - page) : NULL;
    right = hk_guard_slot_at((const char *)p + page);
    if (!left || !right)
        return left ? left : right;
    return distance(left, p) <= distance(right, p) ? left : right;
}

/* ---- one page ------------------------------------------------------------------------------ */

/* No run of equal bytes, and unlike what programs write there. */
static char pattern(const char *at)
{
    return (char)(0xb5 + 29 * (uintptr_t)at);
}

static void fill(char *from, const char *end)
{
    for (; from < end; from++)
        *from = pattern(from);
}

static const char *first_other(const char *from, const char *end)
{
    for (; from < end; from++)
        if (*from != pattern(from))
            return from;
    return NULL;
}

static char *page_around(const struct hk_guard_slot *slot)
{
    return page_of((size_t)(slot - hk_guard_slots));
}

/* The first byte of the page outside the block that was written to; NULL: none. */
static const char *find_damage(const struct hk_guard_slot *slot)
{
    const char *page = page_around(slot), *end = slot->start + slot->bytes;
    const char *behind = first_other(end, page + hk_os_page_bytes());

    return behind ? behind : first_other(page, slot->start);
}

/* The slot's page is open. */
static void place(struct hk_guard_slot *slot, size_t n, size_t align, bool left)
{
    char *page = page_around(slot), *end = page + hk_os_page_bytes();
    char *start = left ? page : (char *)((uintptr_t)(end - n) & ~(uintptr_t)(align - 1));

    fill(page, start);
    memset(start, 0, n);
    fill(start + n, end);
    hk_store_relaxed(&slot->start, start);
    hk_store_relaxed(&slot->bytes, (uint32_t)n);
}

/* ---- alloc --------------------------------------------------------------------------------- */

/* An over-aligned block has all bytes to its alignment, as one of a size class has: sized frees may say either. */
static size_t usable_bytes(size_t n, size_t align)
{
    return align > MIN_ALIGN ? hk_align_up(n, align) : n;
}

bool hk_guard_fits(size_t n, size_t align)
{
    size_t page = hk_os_page_bytes();

    return n <= page && align <= page && usable_bytes(n, align) <= page;
}

static bool may_take(uint32_t state)
{
    return state == HK_GUARD_FREE || state == HK_GUARD_DEAD;
}

/* Of those that are free the one that has been for longest; NULL: all are live. */
static struct hk_guard_slot *oldest(void)
{
    struct hk_guard_slot *found = NULL;

    for (unsigned i = 0; i < HK_GUARD_SLOTS; i++) {
        struct hk_guard_slot *slot = &hk_guard_slots[i];
        if (may_take(hk_load_relaxed(&slot->state)) &&
            (!found || hk_load_relaxed(&slot->freed_at) < hk_load_relaxed(&found->freed_at)))
            found = slot;
    }
    return found;
}

static struct hk_guard_slot *take_slot(uint32_t *state)
{
    struct hk_guard_slot *slot;

    while ((slot = oldest()) != NULL) {
        *state = hk_load_relaxed(&slot->state);
        /* GD1 acquire, pairs with GD2: the fields as the last owner left them */
        if (may_take(*state) && hk_cas_acquire(&slot->state, state, (uint32_t)HK_GUARD_BUSY))
            return slot;
    }
    return NULL;
}

static void give_slot(struct hk_guard_slot *slot, uint32_t state)
{
    hk_store_release(&slot->state, state); /* GD2 release, pairs with GD1: publishes the fields */
}

static struct hk_guard_slot *open_slot(void)
{
    uint32_t before;
    struct hk_guard_slot *slot = hk_guard_have_region(&guard.region, region_bytes()) ? take_slot(&before) : NULL;

    if (slot && !hk_os_guard(page_around(slot), hk_os_page_bytes(), false)) {
        give_slot(slot, before);
        slot = NULL;
    }
    return slot;
}

void *hk_guard_alloc(size_t n, size_t align, const void *site, unsigned thread)
{
    struct hk_guard_slot *slot = hk_guard_fits(n, align) ? open_slot() : NULL;
    size_t nr;

    if (!slot) {
        hk_add_relaxed(&guard.counters.nr_refused, 1);
        return NULL;
    }
    nr = hk_add_relaxed(&guard.counters.nr_samples, 1);
    place(slot, usable_bytes(n, align), hk_max(align, MIN_ALIGN), nr % LEFT_EVERY == LEFT_EVERY - 1);
    hk_store_relaxed(&slot->asked, (uint32_t)n);
    hk_store_relaxed(&slot->origin, 0u);
    hk_store_relaxed(&slot->alloc_site, site);
    hk_store_relaxed(&slot->free_site, NULL);
    hk_store_relaxed(&slot->alloc_thread, thread);
    hk_store_relaxed(&slot->free_thread, 0u);
    hk_add_relaxed(&guard.counters.nr_live, 1);
    hk_add_relaxed(&guard.counters.live_bytes, hk_os_page_bytes());
    give_slot(slot, HK_GUARD_LIVE);
    return slot->start;
}

void hk_guard_set_origin(const void *p, unsigned origin)
{
    hk_store_relaxed(&hk_guard_slots[hk_guard_slot_at(p) - hk_guard_slots].origin, (uint32_t)origin);
}

void hk_guard_set_asked(const void *p, size_t n)
{
    hk_store_relaxed(&hk_guard_slots[hk_guard_slot_at(p) - hk_guard_slots].asked, (uint32_t)n);
}

/* ---- free ---------------------------------------------------------------------------------- */

/* A page that stays open, or keeps its content, is overwritten when it is taken again. */
static void close_page(struct hk_guard_slot *slot)
{
    (void)hk_os_purge(page_around(slot), hk_os_page_bytes());
    (void)hk_os_guard(page_around(slot), hk_os_page_bytes(), true);
}

static void bury(struct hk_guard_slot *slot)
{
    close_page(slot);
    hk_store_relaxed(&slot->freed_at, hk_add_relaxed(&guard.nr_freed, 1) + 1);
    hk_sub_relaxed(&guard.counters.nr_live, 1);
    hk_sub_relaxed(&guard.counters.live_bytes, hk_os_page_bytes());
    give_slot(slot, HK_GUARD_DEAD);
}

bool hk_guard_free(const struct hk_guard_slot *slot_, const void *site, unsigned thread, const char **damage)
{
    struct hk_guard_slot *slot = &hk_guard_slots[slot_ - hk_guard_slots];
    uint32_t live = HK_GUARD_LIVE;

    *damage = NULL;
    if (!hk_cas_acquire(&slot->state, &live, (uint32_t)HK_GUARD_BUSY)) /* GD1 acquire, pairs with GD2 */
        return false;
    *damage = find_damage(slot);
    if (HK_UNLIKELY(*damage != NULL)) {
        give_slot(slot, HK_GUARD_LIVE);
        return false;
    }
    hk_store_relaxed(&slot->free_site, site);
    hk_store_relaxed(&slot->free_thread, thread);
    bury(slot);
    return true;
}

/* ---- fork, check --------------------------------------------------------------------------- */

static unsigned count_live(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < HK_GUARD_SLOTS; i++)
        n += hk_guard_slots[i].state == HK_GUARD_LIVE;
    return n;
}

void hk_guard_fork_child(bool inside)
{
    if (inside)
        return;
    hk_guard_empty_fork_child();
    hk_guard_region_fork_child(&guard.region);
    if (!hk_guard_region_is_there(&guard.region))
        return;
    for (unsigned i = 0; i < HK_GUARD_SLOTS; i++) {
        if (hk_guard_slots[i].state != HK_GUARD_BUSY)
            continue;
        close_page(&hk_guard_slots[i]);
        hk_guard_slots[i].state = hk_guard_slots[i].start ? HK_GUARD_DEAD : HK_GUARD_FREE;
    }
    guard.counters.nr_live = count_live();
    guard.counters.live_bytes = count_live() * hk_os_page_bytes();
}

static void check_slot(const struct hk_guard_slot *slot)
{
    const char *page = page_around(slot);

    if (slot->state == HK_GUARD_FREE)
        return;
    if (slot->start < page || slot->start + slot->bytes > page + hk_os_page_bytes() ||
        (uintptr_t)slot->start % MIN_ALIGN)
        hk_panic_internal("guard: a block outside its page", slot);
    if (slot->state == HK_GUARD_LIVE && find_damage(slot))
        hk_panic_internal("guard: written beside a block", slot);
    if (slot->state == HK_GUARD_DEAD && slot->freed_at > guard.nr_freed)
        hk_panic_internal("guard: order of the frees", slot);
}

void hk_guard_check(void)
{
    if (!hk_guard_region_is_there(&guard.region))
        return;
    for (unsigned i = 0; i < HK_GUARD_SLOTS; i++)
        check_slot(&hk_guard_slots[i]);
    if (count_live() != guard.counters.nr_live ||
        guard.counters.live_bytes != guard.counters.nr_live * hk_os_page_bytes())
        hk_panic_internal("guard: live blocks do not add up", &guard);
    for (size_t at = 0; at < region_bytes(); at += HK_GRANULE)
        if (hk_pagemap_word(guard.region.base + at) != HK_PM_GUARD)
            hk_panic_internal("guard: page map", guard.region.base + at);
}
