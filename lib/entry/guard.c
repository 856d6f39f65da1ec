// SPDX-License-Identifier: MIT
/*
 * guard: which allocations get a guarded block, and what is said of a fault there.
 *
 * When.  One countdown for the process, in bytes: what the profile's samples stand for (sample.c), or, in the exact
 *        mode of tests, the bytes of every allocation. Distances are exponential with mean guard_rate, so that
 *        a program that runs often and briefly is looked at as often as one that runs long.
 * Which. One of at most a page whose call site has not been guarded before, if one comes along before the
 *        block is overdue by an eighth of the rate; then any. Sites are remembered by hash, and forgotten when half of
 *        the bits are set.
 *        Blocks of 2 MiB and more have a guard page behind them each (ace_big.c), which the report knows too.
 * Else.  With guard:report a handler for SIGSEGV and SIGBUS, where the program had none at start. It writes one
 *        sentence and gives the signal back its default action, which the access then meets again: the
 *        core dump is of the place itself.
 *
 * State: relaxed numbers of this file. Locks: none. Failure: no guarded block, the call is served as any other.
 */
#include "entry/entry_private.h"

#include "ace/ace.h"
#include "base/text.h"
#include "config/config.h"
#include "guard/guard.h"
#include "heap/heap.h"
#include "os/os.h"
#include "site/site.h"

#include <signal.h>
#include <string.h>

#define SITE_BITS 2048
#define BITS_PER_WORD 64
#define TOLD_PARTS 64 /* of the rate, that a heap may keep to itself */
#define SECURE_RATE HK_MIB /* of option secure, which is on in any mode and takes no fast path */

static HK_LARGE_BSS struct {
    int64_t countdown;   /* bytes until the next one is due; negative: overdue */
    uint32_t started;    /* 0: no first distance yet. CAS */
    uint32_t nr_known;   /* bits set, about */
    uint64_t nr_draws;
    uint64_t known[SITE_BITS / BITS_PER_WORD]; /* sites that had a guarded block */
} due;

bool hk_entry_guard_counts(void)
{
    return hk_config_is_exact(&hk_config);
}

static size_t rate_bytes(void)
{
    return hk_config.secure ? hk_min(hk_config.guard_rate_bytes, SECURE_RATE) : hk_config.guard_rate_bytes;
}

static int64_t draw_distance(void)
{
    uint64_t seed = hk_config.seed ? hk_config.seed : hk_os_random(0);
    uint64_t state = hk_site_mix(seed + hk_add_relaxed(&due.nr_draws, 1)) | 1;

    return (int64_t)hk_site_interval(&state, rate_bytes());
}

static uint64_t *word_of(const void *site, uint64_t *bit)
{
    unsigned i = (unsigned)(hk_site_mix((uintptr_t)site) % SITE_BITS);

    *bit = UINT64_C(1) << i % BITS_PER_WORD;
    return &due.known[i / BITS_PER_WORD];
}

static bool is_known(const void *site)
{
    uint64_t bit, *word = word_of(site, &bit);

    return hk_load_relaxed(word) & bit;
}

static void forget_sites(void)
{
    for (unsigned i = 0; i < SITE_BITS / BITS_PER_WORD; i++)
        hk_store_relaxed(&due.known[i], 0);
    hk_store_relaxed(&due.nr_known, 0u);
}

static void remember(const void *site)
{
    uint64_t bit, *word = word_of(site, &bit);

    if (hk_or_relaxed(word, bit) & bit)
        return;
    if (hk_add_relaxed(&due.nr_known, 1) >= SITE_BITS / 2)
        forget_sites();
}

/* The first distance starts at the first bytes. */
static void start_countdown(void)
{
    uint32_t none = 0;

    if (!hk_load_relaxed(&due.started) && hk_cas_relaxed(&due.started, &none, (uint32_t)1))
        hk_add_relaxed(&due.countdown, draw_distance());
}

static bool is_due(uint64_t bytes, const void *site)
{
    int64_t left;

    start_countdown();
    left = hk_sub_relaxed(&due.countdown, (int64_t)bytes) - (int64_t)bytes;
    return left <= 0 && (!is_known(site) || -left >= (int64_t)(rate_bytes() / 8));
}

/* With option secure every call comes here, and the countdown is everybody's: a heap tells what it gave a few KiB at a time. */
static HK_NOINLINE bool tells(struct hk_heap *heap, uint64_t *bytes)
{
    uint64_t few = rate_bytes() / TOLD_PARTS;

    *bytes += heap->sampling.untold_bytes;
    heap->sampling.untold_bytes = *bytes < few ? (uint32_t)*bytes : 0;
    return *bytes >= few;
}

void *hk_entry_guard_alloc(struct hk_heap *heap, size_t n, size_t align, uint64_t bytes, const void *site)
{
    if (n == 0 || (!hk_config.guard && !hk_config.secure))
        return NULL;
    if (HK_UNLIKELY(hk_config.secure) && heap && !tells(heap, &bytes))
        return NULL;
    if (!is_due(bytes, site) || !hk_guard_fits(n, align))
        return NULL;
    hk_add_relaxed(&due.countdown, draw_distance());
    remember(site);
    return hk_guard_alloc(n, align, site, heap ? heap->thread_id : 0);
}

/* ---- the report ---------------------------------------------------------------------------- */

static void put_event(struct hk_text *t, const char *what, const void *site, unsigned thread)
{
    hk_text_put(t, what);
    hk_text_hex(t, (uintptr_t)site);
    if (thread) {
        hk_text_put(t, " by thread ");
        hk_text_number(t, thread);
    }
}

static void put_place(struct hk_text *t, const struct hk_guard_slot *slot, const char *p)
{
    const char *start = hk_load_relaxed(&slot->start);
    size_t bytes = hk_load_relaxed(&slot->bytes);

    hk_text_hex(t, (uintptr_t)p);
    hk_text_put(t, ", ");
    hk_text_number(t, p < start ? (size_t)(start - p) : (size_t)(p - start) < bytes ? (size_t)(p - start)
                                                                                  : (size_t)(p - start) - bytes);
    hk_text_put(t, p < start ? " bytes before block " : (size_t)(p - start) < bytes ? " bytes into block "
                                                                                  : " bytes behind block ");
    hk_text_hex(t, (uintptr_t)start);
    hk_text_put(t, ", size ");
    hk_text_number(t, bytes);
}

static const char *name_of(const struct hk_guard_slot *slot, const char *p)
{
    if (hk_load_relaxed(&slot->state) != HK_GUARD_LIVE)
        return "use after free";
    return p < hk_load_relaxed(&slot->start) ? "heap underflow" : "heap overflow";
}

static void report(const char *p)
{
    const struct hk_guard_slot *slot = hk_guard_nearest(p);
    struct hk_text t = {.used = 0};

    if (!slot)
        return;
    hk_text_put(&t, "hakmem: ");
    hk_text_put(&t, name_of(slot, p));
    hk_text_put(&t, ": address ");
    put_place(&t, slot, p);
    put_event(&t, ", allocated at ", hk_load_relaxed(&slot->alloc_site), hk_load_relaxed(&slot->alloc_thread));
    if (hk_load_relaxed(&slot->free_site))
        put_event(&t, ", freed at ", hk_load_relaxed(&slot->free_site), hk_load_relaxed(&slot->free_thread));
    hk_text_char(&t, '\n');
    hk_text_flush(&t);
}

/* Behind a block of 2 MiB or more there is a guard page of its own. */
static void report_big(const char *p)
{
    struct hk_block block;
    const void *site;
    struct hk_text t = {.used = 0};

    if (!hk_ace_guards(p, &block, &site))
        return;
    hk_text_put(&t, "hakmem: heap overflow: address ");
    hk_text_hex(&t, (uintptr_t)p);
    hk_text_put(&t, ", ");
    hk_text_number(&t, (size_t)(p - (const char *)block.start) - block.usable);
    hk_text_put(&t, " bytes behind block ");
    hk_text_hex(&t, (uintptr_t)block.start);
    hk_text_put(&t, ", usable size ");
    hk_text_number(&t, block.usable);
    put_event(&t, ", allocated at ", site, 0);
    hk_text_char(&t, '\n');
    hk_text_flush(&t);
}

/* The default action is ours to restore: we are here in its place. A signal that was sent and not met by an access
 * will not come by itself again. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    struct sigaction fatal;

    (void)context;
    if (info->si_code > 0 && hk_guard_contains(info->si_addr))
        report(info->si_addr);
    else if (info->si_code > 0)
        report_big(info->si_addr);
    memset(&fatal, 0, sizeof fatal);
    fatal.sa_handler = SIG_DFL;
    (void)sigaction(number, &fatal, NULL);
    if (info->si_code <= 0)
        (void)raise(number);
}

static void watch(int number)
{
    struct sigaction old, ours;

    if (sigaction(number, NULL, &old) != 0 || old.sa_handler != SIG_DFL)
        return;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    (void)sigaction(number, &ours, NULL);
}

void hk_entry_guard_start(void)
{
    if (hk_config.guard != HK_GUARD_REPORT)
        return;
    watch(SIGSEGV);
    watch(SIGBUS);
}
