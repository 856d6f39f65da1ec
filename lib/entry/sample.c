// SPDX-License-Identifier: MIT
/*
 * sample: which allocations up to 64 KiB the profile of call sites looks at.
 *
 * When.  What enters a magazine from slabs, or from other threads, is counted down in heap->sampling; intervals
 *        are exponential with mean prof_sample, so every such byte is equally likely to make a sample due,
 *        whatever the pattern. One that is due stands for mean / size blocks of the class that was refilled.
 * Which. Not the call that refilled: that one always stands at a peak of what is in use, and a program that
 *        keeps A and borrows B would show B alone. The class is diverted (heap.h): its mallocs come here, and
 *        after a random number of them (fewer than the refill took, at most 8) the next one is the sample.
 * Then.  Where a sample's block is freed, and malloc uses it again, no refill tells. So what the sample stood for is
 *        owed by its class once more, and the next malloc of it, which would have got that block, is the next sample. So
 *        samples go with the memory, through every life of it, until the magazine gives it back to its slab (heap.c,
 *        forget_owed) or another thread frees it, behind which it will be counted down again. At any time the live samples
 *        stand for the memory that is live, and all there ever were for what was allocated. Several that are owed at
 *        once are merged, and part again by halves.
 * Often. A pair of malloc and free that met a sample each time would crawl. So samples are taken as long as there is
 *        credit, which time gives; then what is owed waits for some slow path of the thread, and for credit.
 * Else.  Pairs of malloc and free that live in a magazine refill nothing. A look at the clock (every 100 ms
 *        of slow paths) searches as well, for any class, with the thread's fast paths off for some calls; what it finds
 *        counts for itself alone. Looks that find nothing become rarer. A thread that takes no slow path at all is not seen.
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
#define USUAL_MEAN (512 * HK_KIB)
#define SAMPLE_NS 250000 /* of that mean a sample so often per thread, on average, */
#define MAX_CREDIT 128   /* and so many in a row: some 3,000 instructions each, half a percent of the time at most */
#define REFUSALS 16
#define FAR 64 /* means overdue from which the number of samples is its expectation */

/* After `skip` others the next block of the class is a sample. */
static void want(struct hk_heap *heap, unsigned class, unsigned skip)
{
    heap->sampling.class = (uint16_t)class;
    heap->sampling.skip = (uint8_t)skip;
    hk_heap_divert(heap, class);
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
    s->nr_owed += s->owed[class] == 0 && nr_events > 0;
    s->owed[class] = (uint16_t)hk_min(s->owed[class] + nr_events, UINT16_MAX);
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

/*
 * The intervals that end with a sample's own block, which is one more than refills brought; or it is in the place of one of its
 * class that died. Apart from the countdown: down for each block and up for each end it would swing, and make other classes due.
 */
static uint32_t count_block(struct hk_heap *heap, unsigned class, uint64_t mean)
{
    if (heap->detour && heap->detour->nr_spare[class] > 0) {
        heap->detour->nr_spare[class]--;
        return 0;
    }
    heap->sampling.countdown -= (int64_t)hk_size_class[class].size;
    return heap->sampling.countdown > 0 ? 0 : count_events(&heap->sampling, mean);
}

static void start(struct hk_heap *heap)
{
    uint64_t seed = hk_config.seed;

    /* A given seed makes the same stream in every run; each heap has its own. */
    heap->sampling.random = seed ? hk_site_mix(seed * 2 * HK_HEAP_ALIGN + 2 * heap->id + 1) | 1
                                 : hk_os_random(heap->id);
}

/* Time gives credit, more where a denser profile was asked for. */
static void earn(struct hk_sampling *s, uint64_t now_ns)
{
    uint64_t density = hk_max(USUAL_MEAN / mean_bytes(), 1), each_ns = SAMPLE_NS / density + 1;
    uint64_t passed_ns = now_ns - s->credit_ns;

    if (passed_ns < each_ns)
        return;
    s->credit = (uint32_t)hk_min(s->credit + passed_ns / each_ns, MAX_CREDIT * density);
    s->credit_ns = now_ns - passed_ns % each_ns;
}

/* Where there is none, one call in so many looks at the clock: in a program that is short of it every slow path comes here. */
static bool has_credit(struct hk_sampling *s)
{
    if (s->credit == 0 && s->nr_refused++ % REFUSALS == 0)
        earn(s, hk_os_fine_ns());
    return s->credit > 0;
}

/* What had to wait. Whose turn it is is a matter of chance, so that no class waits for ever. */
static void resume(struct hk_heap *heap)
{
    struct hk_sampling *s = &heap->sampling;
    unsigned first;

    if (HK_LIKELY(s->nr_owed <= heap->nr_diverted) || !has_credit(s))
        return;
    first = (unsigned)(hk_site_mix(s->credit_ns + s->credit) % HK_NR_SIZED_CLASSES);
    for (unsigned i = 0; s->credit > 0 && i < HK_NR_SIZED_CLASSES; i++) {
        unsigned c = (first + i) % HK_NR_SIZED_CLASSES;
        if (s->owed[c] == 0 || hk_heap_is_diverted(heap, c))
            continue;
        s->credit--;
        hk_heap_divert(heap, c);
    }
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
    add_owed(s, s->due_class, nr_events); /* and skip without a step of the generator: one seed, one stream of intervals */
    if (has_credit(s)) {
        s->credit--;
        want(heap, s->due_class, (unsigned)(hk_site_mix(~s->random) % range));
    }
}

/* The clock chooses which call: the stream of the seed stays as it is. */
static void note_look(struct hk_heap *heap)
{
    struct hk_sampling *s = &heap->sampling;

    if (s->looks_left > 0) {
        s->looks_left--;
        return;
    }
    s->skip_any = (uint8_t)(hk_site_mix(heap->last_tick_ns) % MAX_SKIP);
    s->patience = PATIENCE;
    s->searching = true;
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
    resume(heap);
}

void hk_entry_sample_passes(struct hk_heap *heap)
{
    struct hk_sampling *s = &heap->sampling;

    if (!s->searching || --s->patience > 0)
        return;
    s->searching = false; /* nothing small is going on */
    s->looks_left = s->looks_off = (uint8_t)(s->looks_off < 63 ? s->looks_off * 2 + 1 : 63);
}

/* A class that malloc does not ask for is served when it comes along; another that is not diverted has to wait. */
static bool is_owed(const struct hk_heap *heap, unsigned class)
{
    return heap->sampling.owed[class] > 0 && (class >= HK_NR_SIZED_CLASSES || hk_heap_is_diverted(heap, class));
}

/* Is this the one that is searched for, or one of a class that is owed a sample? */
static bool is_wanted(struct hk_heap *heap, unsigned class)
{
    struct hk_sampling *s = &heap->sampling;

    if (class >= HK_NR_CLASSES)
        return false;
    if (is_owed(heap, class) && (s->class != class || s->skip == 0 || s->skip-- == 0))
        return true;
    return s->searching && (s->skip_any == 0 || s->skip_any-- == 0);
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

    return p || !hk_config.prof ? p : hk_heap_alloc_sampled(hk_ace_class(n, align));
}

/* In mean intervals: what a sample taken now stands for. Half of it, so that samples that met part again. */
static unsigned share_of_owed(const struct hk_sampling *s, unsigned class)
{
    return (s->owed[class] + 1u) / 2;
}

/* The sample is taken; the rest is for another. What came back goes first: its block is the newest of the magazine. */
static void pay(struct hk_heap *heap, unsigned class, uint64_t now_ns)
{
    struct hk_sampling *s = &heap->sampling;
    uint16_t *back = &heap->slabs[class].owed_back;

    if (s->owed[class] == 0)
        return;
    *back = (uint16_t)(*back - hk_min(*back, share_of_owed(s, class)));
    s->owed[class] = (uint16_t)(s->owed[class] - share_of_owed(s, class));
    s->nr_owed -= s->owed[class] == 0;
    add_owed(s, class, count_block(heap, class, mean_bytes()));
    if (s->owed[class] == 0 || !has_credit(s)) {
        hk_heap_restore(heap, class);
        return;
    }
    s->credit--;
    want(heap, class, (unsigned)(hk_site_mix(now_ns) % MAX_SKIP));
}

HK_NOINLINE void *hk_entry_sample_alloc(struct hk_heap *heap, size_t n, size_t align, bool zero,
                                        const void *site)
{
    struct hk_sampling *s = &heap->sampling;
    unsigned class = hk_ace_class(n, align);
    struct hk_site_sample sample = {.thread = hk_entry_owner_number(heap), .bytes = n};
    void *p;

    if (!is_wanted(heap, class)) {
        hk_entry_sample_passes(heap);
        return NULL;
    }
    sample.site = hk_entry_caller(site, __builtin_frame_address(0), &sample.height);
    sample.weight_bytes = share_of_owed(s, class) * mean_bytes();
    p = take_block(heap, n, align, &sample);
    if (!p && hk_config.prof)
        return NULL;
    sample.now_ns = hk_os_fine_ns();
    pay(heap, class, sample.now_ns);
    s->searching = false;
    s->looks_off = 0;
    if (!hk_config.prof)
        return p;
    if (zero)
        memset(p, 0, n);
    sample.block_bytes = hk_size_class[class].size;
    (void)hk_site_sample(&sample, p);
    tell_probe(&sample, p);
    return p;
}

/* A sample ends, at a block of `word`. */
static void pass_on(struct hk_heap *heap, uintptr_t word, uint64_t weight_bytes)
{
    unsigned class = hk_class_of_word(word);
    uint64_t mean = mean_bytes();
    uint16_t owed;

    if (!heap || weight_bytes < mean || word < HK_PM_KINDS)
        return;
    owed = heap->sampling.owed[class];
    add_owed(&heap->sampling, class, (uint32_t)hk_min(weight_bytes / mean, UINT16_MAX));
    heap->slabs[class].owed_back = (uint16_t)(heap->slabs[class].owed_back + heap->sampling.owed[class] - owed);
    if (heap->detour && heap->detour->nr_spare[class] < UINT16_MAX)
        heap->detour->nr_spare[class]++;
    if (has_credit(&heap->sampling)) {
        heap->sampling.credit--;
        want(heap, class, 0);
    }
    resume(heap);
}

void hk_entry_sample_freed(struct hk_heap *heap, const void *p)
{
    uint64_t now_ns = hk_os_fine_ns();

    tell_probe_end(p);
    pass_on(heap, hk_pagemap_word(p), hk_site_sample_freed(p, hk_entry_owner_number(heap), now_ns));
}

void hk_entry_sample_resized(struct hk_heap *heap, const void *p, size_t n, bool moves)
{
    uint64_t now_ns = hk_os_fine_ns();

    if (moves)
        tell_probe_end(p);
    pass_on(heap, hk_pagemap_word(p), hk_site_sample_resized(p, n, moves, hk_entry_owner_number(heap), now_ns));
}
