// SPDX-License-Identifier: MIT
#include "entry/large.h"

#include "config/config.h"
#include "entry/entry_private.h"
#include "os/os.h"
#include "site/site.h"

#define SAMPLES_A_TICK 32
#define MAX_GROUP HK_MAX_PENDING_SITES
#define TICK_NS 20000000
#define COSTLY_BYTES (4 * HK_MIB) /* from here on the record is little beside the pages */
#define MANY 4096 /* followed now */
#define MOST 8192

/* ---- calls --------------------------------------------------------------------------------- */

/* Calls gathered since the last one are counted; a sample is to stand for them. */
static void tell(struct hk_heap *heap)
{
    unsigned nr = heap->site_pending.nr_allocs;
    size_t bytes = heap->site_pending.bytes;

    if (nr == 0)
        return;
    hk_site_note_allocs(heap->site_pending.site, nr, bytes, heap->site_pending.max_bytes, heap->last_tick_ns);
    hk_heap_count_large(heap, nr, bytes);
    heap->large.nr_waiting += nr;
    heap->large.bytes_waiting += bytes;
    heap->site_pending.nr_allocs = 0;
    heap->site_pending.bytes = heap->site_pending.max_bytes = 0;
}

/* No call of this site follows: the sample that came before stands for what waits. */
static void end_run(struct hk_heap *heap)
{
    tell(heap);
    if (heap->large.serial && heap->large.nr_waiting)
        hk_site_sample_weigh(heap->site_pending.site, heap->large.block, heap->large.serial,
                             heap->large.nr_waiting * heap->large.weight,
                             heap->large.bytes_waiting * (uint64_t)heap->large.weight);
    heap->large.serial = 0;
    heap->large.nr_waiting = 0;
    heap->large.bytes_waiting = 0;
}

/* Somebody looks, perhaps at every turn of a loop: which sample what waits belongs to is seen later. */
void hk_entry_tell_sites(struct hk_heap *heap)
{
    if (heap)
        tell(heap);
}

/*
 * The group of calls that one sample stands for. It is one call at first, twice as many after each 32 samples of a tick, and
 * half as many after a tick that took less than half of those.
 */
static void pace(struct hk_heap *heap)
{
    unsigned nr_ticks = (unsigned)hk_min((heap->last_tick_ns - heap->large.tick_ns) / TICK_NS, 16);

    if (heap->large.group == 0)
        heap->large.group = 1;
    if (heap->large.tick_ns != heap->last_tick_ns) {
        if (nr_ticks > 1 || heap->large.nr_chosen < SAMPLES_A_TICK / 2)
            heap->large.group = hk_max(heap->large.group >> hk_max(nr_ticks, 1), 1);
        heap->large.tick_ns = heap->last_tick_ns;
        heap->large.nr_chosen = 0;
    }
    if (heap->large.nr_chosen >= SAMPLES_A_TICK) {
        heap->large.group = hk_min(heap->large.group * 2, (unsigned)MAX_GROUP);
        heap->large.nr_chosen = 0;
    }
}

/* Does this call, with nr_before others of its site since the last slow one, get a sample? How many such groups it stands for; 0: no. */
static uint32_t choose(struct hk_heap *heap, size_t n, unsigned nr_before)
{
    unsigned nr_large = hk_site_nr_large(), least = nr_large < MANY ? 1 : nr_large < MOST ? 16 : 256;
    uint32_t weight = least;

    if (!hk_config.prof || hk_config.secure) {
        heap->site_pending.max_allocs = MAX_GROUP;
        return 0;
    }
    pace(heap);
    if (n < COSTLY_BYTES && nr_before < heap->site_pending.max_allocs)
        weight = hk_max(weight, hk_min(heap->large.group / (nr_before + 1), 16u));
    heap->large.random = hk_site_mix(heap->large.random + heap->last_tick_ns + 1);
    if (weight > 1 && heap->large.random % weight != 0)
        return 0;
    heap->large.nr_chosen++;
    /* Of random length, so that no pattern of calls meets the same one each time. */
    heap->site_pending.max_allocs =
        heap->large.group / 2 + (unsigned)((heap->large.random >> 32) % heap->large.group);
    return weight;
}

/* The block stands for `weight` times what waits, itself included. */
static void follow(struct hk_heap *heap, void *p, size_t n, uint32_t weight)
{
    struct hk_site_sample sample = {
        .site = heap->site_pending.site,
        .now_ns = hk_os_now_ns(),
        .weight_bytes = heap->large.bytes_waiting * (uint64_t)weight,
        .bytes = n,
        .block_bytes = n,
        .nr_calls = weight * heap->large.nr_waiting,
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
    if (heap->site_pending.site != site)
        end_run(heap);
    weight = choose(heap, n, heap->site_pending.nr_allocs);
    heap->site_pending.site = site;
    hk_entry_add_pending(heap, n);
    tell(heap); /* at once: nobody sees more live than was ever made */
    heap->large.serial = 0; /* what waited is this one's, or nobody's */
    if (weight)
        follow(heap, p, n, weight);
    heap->large.nr_waiting = 0;
    heap->large.bytes_waiting = 0;
    if (n >= COSTLY_BYTES) /* nothing waits untold when the program comes to rest */
        heap->site_pending.max_allocs = 0;
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
