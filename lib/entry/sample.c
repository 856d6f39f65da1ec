// SPDX-License-Identifier: MIT
/*
 * sample: which allocations up to 64 KiB the profile of call sites looks at.
 *
 * When.  What enters a magazine from slabs, or from other threads, is counted down in heap->sampling; intervals
 *        are exponential with mean prof_sample, so every such byte is equally likely to make a sample due,
 *        whatever the pattern. One that is due stands for mean / size blocks of the class that was refilled.
 * Which. Not the call that refilled: that one always stands at a peak of what is in use, and a program that
 *        keeps A and borrows B would show B alone. A search begins: the thread's fast paths stay off, and
 *        after a random number of allocations of the class (fewer than the refill took, at most 8) the next
 *        one is the sample. A search that meets too many other calls gives the fast paths back; then, or when
 *        another class is due meanwhile, the next slow path of that class is its sample.
 * Else.  Pairs of malloc and free that live in a magazine refill nothing. A look at the clock (every 100 ms
 *        of slow paths) searches as well, for any class; what it finds counts for itself alone. Looks that
 *        find nothing become rarer. A thread that takes no slow path at all is not seen.
 *
 * The block comes from the sampled heap (heap.h), so its end takes the slow path by itself and comes here; now and then
 * it is a guarded one (guard.c). Without a profile guard alone takes samples.
 */
#include "entry/entry_private.h"

#include "ace/ace.h"
#include "config/config.h"
#include "entry/probe.h"
#include "heap/heap.h"
#include "os/os.h"
#include "site/site.h"

#include <string.h>

#define MAX_SKIP 8
#define PATIENCE 24 /* calls with fast paths off, at most */
#define ANY_CLASS UINT16_MAX
#define FAR 64 /* means overdue from which the number of samples is its expectation */

static void search(struct hk_sampling *s, unsigned class, unsigned skip)
{
    s->class = (uint16_t)class;
    s->skip = (uint8_t)skip;
    s->patience = PATIENCE;
    s->searching = true;
}

/* A sample is the profile's, or guard's chance to take one, or both: then the denser one decides. */
static uint64_t mean_bytes(void)
{
    size_t guard = hk_config.guard ? hk_config.guard_rate_bytes : SIZE_MAX;

    if (hk_config.secure)
        return SIZE_MAX; /* no block of the sampled heap's */
    if (hk_entry_guard_counts())
        guard = SIZE_MAX;
    return hk_config.prof ? hk_min(hk_config.prof_sample_bytes, guard) : guard;
}

static void add_owed(struct hk_sampling *s, unsigned class, uint32_t nr_events)
{
    s->nr_owed += s->owed[class] == 0;
    s->owed[class] = (uint16_t)hk_min(s->owed[class] + nr_events, UINT16_MAX);
}

/* In mean intervals. */
static uint32_t take_owed(struct hk_sampling *s, unsigned class)
{
    uint32_t nr_events = s->owed[class];

    s->nr_owed -= nr_events != 0;
    s->owed[class] = 0;
    return nr_events;
}

/* The intervals that have passed. */
static uint32_t count_events(struct hk_sampling *s, uint64_t mean)
{
    uint64_t overdue = (uint64_t)-s->countdown, nr = 0;

    if (overdue > FAR * mean) {
        nr = overdue / mean;
        s->countdown += (int64_t)(nr * mean);
    }
    for (; s->countdown <= 0; nr++)
        s->countdown += (int64_t)hk_site_interval(&s->random, mean);
    return (uint32_t)nr;
}

static void start(struct hk_heap *heap)
{
    uint64_t seed = hk_config.seed;

    /* A given seed makes the same stream in every run; each heap has its own. */
    heap->sampling.random = seed ? hk_site_mix(seed * 2 * HK_HEAP_ALIGN + 2 * heap->id + 1) | 1
                                 : hk_os_random(heap->id);
}

/* What is due is owed to the class that made it due, at once: later refills are of other classes. */
static void note_due(struct hk_heap *heap)
{
    struct hk_sampling *s = &heap->sampling;
    bool first = s->random == 0;
    unsigned range = s->due_blocks < MAX_SKIP ? s->due_blocks : MAX_SKIP;
    uint32_t nr_events;

    if (first)
        start(heap);
    nr_events = count_events(s, mean_bytes()) - first; /* the first interval starts, no more */
    if (nr_events == 0)
        return;
    add_owed(s, s->due_class, nr_events);
    if (!s->searching) /* without a step of the generator: one seed, one stream of intervals */
        search(s, s->due_class, (unsigned)(hk_site_mix(~s->random) % range));
}

/* The clock chooses which call: the stream of the seed stays as it is. */
static void note_look(struct hk_heap *heap)
{
    struct hk_sampling *s = &heap->sampling;

    if (s->looks_left > 0)
        s->looks_left--;
    else
        search(s, ANY_CLASS, (unsigned)(hk_site_mix(heap->last_tick_ns) % MAX_SKIP));
}

void hk_entry_sample_attend(struct hk_heap *heap)
{
    struct hk_sampling *s = &heap->sampling;
    uint8_t attention = s->attention;

    s->attention = 0;
    if (mean_bytes() == SIZE_MAX)
        s->countdown = INT64_MAX;
    else if (attention & HK_SAMPLE_DUE)
        note_due(heap);
    else if (hk_config.prof && s->random && !s->searching)
        note_look(heap);
}

void hk_entry_sample_passes(struct hk_heap *heap)
{
    struct hk_sampling *s = &heap->sampling;

    if (!s->searching || --s->patience > 0)
        return;
    s->searching = false;
    if (s->class == ANY_CLASS) /* nothing small is going on */
        s->looks_left = s->looks_off = (uint8_t)(s->looks_off < 63 ? s->looks_off * 2 + 1 : 63);
}

/* Is this the one that is searched for, or one of another class that is owed a sample? */
static bool is_wanted(struct hk_sampling *s, unsigned class)
{
    if (class >= HK_NR_CLASSES)
        return false;
    if (!s->searching || (s->class != ANY_CLASS && s->class != class))
        return s->owed[class] > 0;
    return s->skip == 0 || s->skip-- == 0;
}

#if HK_USDT
/* Raised by who looks at the probes. In the section that <sys/sdt.h> gives them. */
__attribute__((section(".probes"))) unsigned short otel_memory_alloc_semaphore, otel_memory_free_semaphore;
#endif

/* Stands for as many bytes asked for as in the table of sites. */
static void tell_probe(const struct hk_site_sample *s, const void *p)
{
    if (HK_UNLIKELY(hk_probe_wants_alloc()))
        hk_probe_alloc(p, s->bytes, s->weight_bytes ? s->weight_bytes * s->bytes / s->block_bytes : s->bytes);
}

static void tell_probe_end(const void *p)
{
    if (HK_UNLIKELY(hk_probe_wants_free()))
        hk_probe_free(p);
}

uint32_t hk_entry_owner_number(const struct hk_heap *heap)
{
    return heap ? heap->id + 1 : 0;
}

/* Guarded if one is due, else of the sampled heap; NULL without a profile, or no memory. */
static void *take_block(struct hk_heap *heap, size_t n, size_t align, const struct hk_site_sample *sample)
{
    void *p = hk_entry_guard_counts() ? NULL : hk_entry_guard_alloc(heap, n, align, sample->weight_bytes, sample->site);

    return p || !hk_config.prof ? p : hk_heap_alloc_sampled(heap, hk_ace_class(n, align));
}

HK_NOINLINE void *hk_entry_sample_alloc(struct hk_heap *heap, size_t n, size_t align, bool zero,
                                        const void *site)
{
    struct hk_sampling *s = &heap->sampling;
    unsigned class = hk_ace_class(n, align);
    struct hk_site_sample sample = {.thread = hk_entry_owner_number(heap), .bytes = n};
    void *p;

    if (!is_wanted(s, class)) {
        hk_entry_sample_passes(heap);
        return NULL;
    }
    sample.site = hk_entry_caller(site, __builtin_frame_address(0), &sample.height);
    sample.weight_bytes = s->owed[class] * mean_bytes();
    p = take_block(heap, n, align, &sample);
    if (!p && hk_config.prof)
        return NULL;
    (void)take_owed(s, class);
    if (s->searching && (s->class == class || s->class == ANY_CLASS))
        s->searching = false;
    s->looks_off = 0;
    if (!hk_config.prof)
        return p;
    if (zero)
        memset(p, 0, n);
    sample.now_ns = hk_os_now_ns();
    sample.block_bytes = hk_size_class[class].size;
    (void)hk_site_sample(&sample, p);
    tell_probe(&sample, p);
    return p;
}

void hk_entry_sample_freed(struct hk_heap *heap, const void *p)
{
    tell_probe_end(p);
    hk_site_sample_freed(p, hk_entry_owner_number(heap), hk_os_now_ns());
}

void hk_entry_sample_resized(struct hk_heap *heap, const void *p, size_t n, bool moves)
{
    if (moves)
        tell_probe_end(p);
    hk_site_sample_resized(p, n, moves, hk_entry_owner_number(heap), hk_os_now_ns());
}
