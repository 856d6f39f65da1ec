// SPDX-License-Identifier: MIT
#include "entry/large.h"

#include "config/config.h"
#include "entry/entry_private.h"
#include "os/os.h"
#include "site/site.h"

#define ALL_IN_A_TICK 32 /* at first, and at most */
#define COSTLY_BYTES (4 * HK_MIB) /* from here on the record is little beside the pages */
#define MANY 4096 /* followed now */
#define MOST 8192

/* ---- calls --------------------------------------------------------------------------------- */

/* Calls gathered since the last one, which the sample stands for as well. */
static void tell(struct hk_heap *heap)
{
    unsigned nr = heap->site_pending.nr_allocs;
    size_t bytes = heap->site_pending.bytes;

    if (nr == 0)
        return;
    hk_site_note_allocs(heap->site_pending.site, nr, bytes, heap->site_pending.max_bytes, heap->last_tick_ns);
    if (heap->large.serial)
        hk_site_sample_weigh(heap->site_pending.site, heap->large.block, heap->large.serial,
                             nr * heap->large.weight, bytes * (uint64_t)heap->large.weight);
    hk_heap_count_large(heap, nr, bytes);
    heap->site_pending.nr_allocs = 0;
    heap->site_pending.bytes = heap->site_pending.max_bytes = 0;
}

void hk_entry_tell_sites(struct hk_heap *heap)
{
    if (!heap)
        return;
    tell(heap);
    heap->large.serial = 0;
}

/* A tick that asks for more than its share gets half of it the next time. */
static void begin_tick(struct hk_heap *heap)
{
    unsigned share = heap->large.share ? heap->large.share : ALL_IN_A_TICK;

    if (heap->large.nr_chosen > share)
        share = hk_max(share / 2, 1u);
    else
        share = hk_min(share * 2, (unsigned)ALL_IN_A_TICK);
    heap->large.share = share;
    heap->large.tick_ns = heap->last_tick_ns;
    heap->large.nr_chosen = 0;
}

/* What the next sample stands for; 0: this call is none. While all are chosen the next call is to come here, too. */
static uint32_t choose(struct hk_heap *heap, size_t n)
{
    unsigned nr_large = hk_site_nr_large();
    uint32_t weight = nr_large < MANY ? 1 : nr_large < MOST ? 16 : 256;

    if (!hk_config.prof || hk_config.secure)
        return 0;
    if (heap->large.tick_ns != heap->last_tick_ns || heap->large.share == 0)
        begin_tick(heap);
    if (++heap->large.nr_chosen > heap->large.share && n < COSTLY_BYTES)
        weight = hk_max(weight, 16u);
    if (n < COSTLY_BYTES)
        hk_heap_set_runs(heap, weight > 1);
    return hk_site_mix(heap->large.nr_chosen + heap->last_tick_ns) % weight == 0 ? weight : 0;
}

static void follow(struct hk_heap *heap, void *p, size_t n, uint32_t weight)
{
    struct hk_site_sample sample = {
        .site = heap->site_pending.site,
        .now_ns = hk_os_now_ns(),
        .weight_bytes = (uint64_t)n * weight,
        .bytes = n,
        .block_bytes = n,
        .nr_calls = weight,
        .thread = hk_entry_owner_number(heap),
    };

    (void)hk_entry_caller(sample.site, __builtin_frame_address(0), &sample.height);
    heap->large.serial = hk_site_sample(&sample, p);
    if (heap->large.serial && !hk_ace_follow(p))
        hk_site_sample_freed(p, sample.thread, sample.now_ns); /* a block that says nothing of its end */
    heap->large.block = p;
    heap->large.weight = weight;
}

void hk_entry_note_large(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    uint32_t weight;

    if (HK_UNLIKELY(!heap)) {
        hk_site_note_allocs(site, 1, n, n, 0);
        return;
    }
    weight = choose(heap, n);
    /* A slow call stands for itself: what was followed before does not stand for it. */
    if (weight || heap->large.serial || heap->site_pending.site != site ||
        heap->site_pending.nr_allocs >= HK_MAX_PENDING_SITES)
        hk_entry_tell_sites(heap);
    heap->site_pending.site = site;
    hk_entry_add_pending(heap, n);
    if (weight) {
        tell(heap); /* at once: nobody sees more live than was ever made */
        follow(heap, p, n, weight);
    }
    if (n >= COSTLY_BYTES) /* nothing waits untold when the program comes to rest */
        hk_entry_tell_sites(heap);
}

/* ---- ends and moves ------------------------------------------------------------------------ */

void hk_entry_large_freed(struct hk_heap *heap, const void *p)
{
    hk_site_sample_freed(p, hk_entry_owner_number(heap), hk_os_now_ns());
}

static void *realloc_followed(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    struct hk_site_life life;
    bool lifted = hk_site_sample_lift(p, &life);
    void *q = hk_ace_realloc(heap, p, n, site), *at = q ? q : p;

    if (!lifted)
        return q;
    if (heap && heap->large.serial == life.serial)
        heap->large.block = at;
    if (hk_ace_follow(at))
        hk_site_sample_lay(at, &life, q ? n : life.bytes, hk_os_now_ns());
    else
        hk_site_sample_end(&life, hk_entry_owner_number(heap), hk_os_now_ns());
    return q;
}

void *hk_entry_large_realloc(struct hk_heap *heap, void *p, size_t n, const void *site)
{
    bool was_large = hk_ace_is_large(p);
    void *q;

    if (hk_ace_follows(p))
        return realloc_followed(heap, p, n, site);
    q = hk_ace_realloc(heap, p, n, site);
    if (q && !was_large)
        hk_entry_note_large(heap, q, n, site); /* as if it had begun so large */
    return q;
}
