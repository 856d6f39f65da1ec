// SPDX-License-Identifier: MIT
/*
 * Bytes become operations on blocks, by this thread and by two others that come and go; a shadow knows what every
 * block holds. Each answer is checked: overlap, alignment, content, zeroing, usable size. At the end of an input all is
 * freed, the counters add up and the boxes' invariants hold.
 *
 * An operation is a byte (low 5 bits: which; high 2 bits: by which thread), a byte that names a slot, and what it
 * takes: a size is two bytes.
 */
#include "fuzz.h"

#include "ace/ace.h"
#include "thread/thread.h"

#include <errno.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NR_SLOTS 64
#define MAX_LIVE_BYTES ((size_t)32 << 20)
#define HUGE_BYTES ((size_t)1 << 40) /* from here on a refusal is right */
#define MAX_SHIFT 22

struct block {
    unsigned char *p;
    size_t n, usable;
    uint8_t seed;
};

struct input {
    const uint8_t *at, *end;
};

static struct block slots[NR_SLOTS];
static size_t live_bytes;

/* ---- bytes ---------------------------------------------------------------------------------- */

static uint8_t take(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

/* Exponent and mantissa, a few bytes beside every power of two; and what no allocator can give. */
static size_t take_size(struct input *in)
{
    unsigned shift = take(in), fraction = take(in);
    size_t n;

    if (shift >= 0xf8)
        return SIZE_MAX >> (shift & 7) >> (fraction & 15);
    shift = shift % 64 <= MAX_SHIFT ? shift % 64 : shift % 12;
    n = ((size_t)1 << shift) + (fraction & 0x80 ? ((size_t)(fraction & 0x7f) << shift) >> 7 : (fraction & 0x7f)) - 8;
    n = n > (size_t)1 << 30 ? 0 : n; /* below nothing */
    return live_bytes + n > MAX_LIVE_BYTES ? n & 0xfff : n;
}

/* ---- the shadow ----------------------------------------------------------------------------- */

static uint8_t pattern(const struct block *b, size_t i)
{
    return (uint8_t)(b->seed + i * 37 + (i >> 8) * 101);
}

/* Which byte comes after byte i: all of a small block, ends and samples of a large one. */
static size_t next_byte(size_t i, size_t n)
{
    size_t step = n < 32 * 1021 ? 1021 : n / 32;

    return i < 256 || n - i <= 64 ? i + 1 : (i + step < n - 64 ? i + step : n - 64);
}

static void fill(const struct block *b)
{
    for (size_t i = 0; i < b->n; i = next_byte(i, b->n))
        b->p[i] = pattern(b, i);
}

/* The first `valid` bytes of what was n bytes. */
static void check_content(const struct block *b, const unsigned char *p, size_t valid)
{
    for (size_t i = 0; i < b->n; i = next_byte(i, b->n))
        if (i < valid)
            FUZZ_CHECK(p[i] == pattern(b, i));
}

static void check_apart(const struct block *b)
{
    for (unsigned i = 0; i < NR_SLOTS; i++) {
        const struct block *o = &slots[i];
        if (o != b && o->p)
            FUZZ_CHECK(b->p + b->usable <= o->p || o->p + o->usable <= b->p);
    }
}

static void born(struct block *b, void *p, size_t n, size_t align, uint8_t seed)
{
    if (!p) {
        FUZZ_CHECK(n >= HUGE_BYTES || align >= HUGE_BYTES);
        return;
    }
    FUZZ_CHECK(n <= PTRDIFF_MAX && (uintptr_t)p % align == 0);
    *b = (struct block){p, n, hak_usable_size(p), seed};
    FUZZ_CHECK(b->usable >= n);
    check_apart(b);
    live_bytes += n;
    fill(b);
}

static void dies(struct block *b)
{
    FUZZ_CHECK(hak_usable_size(b->p) == b->usable);
    check_content(b, b->p, b->n);
    live_bytes -= b->n;
}

/* ---- operations ----------------------------------------------------------------------------- */

static void check_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; p && i < n; i = next_byte(i, n))
        FUZZ_CHECK(p[i] == 0);
}

static void make(struct block *b, unsigned how, struct input *in)
{
    uint8_t seed = take(in);
    size_t n = take_size(in), align = 16;
    void *p;

    errno = 4242;
    switch (how % 6) {
    case 0:
        p = hak_calloc(1 + seed % 3, n);
        n = n > SIZE_MAX / (1 + seed % 3) ? SIZE_MAX : n * (1 + seed % 3);
        check_zero(p, n);
        break;
    case 1:
        align = (size_t)1 << seed % 26;
        p = hak_aligned_alloc(align, n);
        break;
    case 2:
        p = hak_realloc(NULL, n);
        break;
    case 3:
        p = hak_alloc_at(n, (const void *)(uintptr_t)(seed % 8 + 1));
        break;
    default:
        p = hak_malloc(n);
    }
    FUZZ_CHECK(errno == (p ? 4242 : ENOMEM));
    born(b, p, n, align, seed);
}

static void resize(struct block *b, struct input *in)
{
    size_t n = take_size(in);
    struct block old = *b;
    void *p = hak_realloc(b->p, n);

    if (!p && n > 0) {
        FUZZ_CHECK(n >= HUGE_BYTES && errno == ENOMEM);
        check_content(b, b->p, b->n);
        return;
    }
    if (p)
        check_content(&old, p, n < old.n ? n : old.n);
    live_bytes -= old.n;
    b->p = NULL;
    if (p)
        born(b, p, n, 16, (uint8_t)(old.seed + 1));
}

static void expand(struct block *b, struct input *in)
{
    size_t n = take_size(in), old = b->n;

    if (!hak_expand(b->p, n))
        n = old;
    check_content(b, b->p, n < old ? n : old);
    live_bytes += n - old;
    b->n = n;
    b->usable = hak_usable_size(b->p);
    FUZZ_CHECK(b->usable >= n);
    check_apart(b);
    fill(b);
}

static void discard(struct block *b, unsigned how)
{
    dies(b);
    errno = 4242;
    if (how == 0)
        hak_free_sized(b->p, b->n);
    else if (how == 1)
        hak_free_at(b->p, b->n, (const void *)(uintptr_t)(b->seed % 8 + 1));
    else
        hak_free(b->p);
    FUZZ_CHECK(errno == 4242);
    b->p = NULL;
}

/* Many of one size and all of them back: magazines fill, slabs come and go. */
static void burst(struct input *in)
{
    enum { MOST = 300 };
    static void *many[MOST];
    unsigned nr = take(in) + 1u;
    size_t n = take_size(in) % 20000;

    for (unsigned i = 0; i < nr; i++) {
        many[i] = hak_malloc(n);
        FUZZ_CHECK(many[i]);
    }
    for (unsigned i = 0; i < nr; i++)
        hak_free(many[nr % 2 ? i : nr - 1 - i]);
}

static void set_option(struct input *in)
{
    static const char *const settings[][2] = {
        {"tiny_mag_cap", "8"}, {"tiny_mag_cap", "2048"}, {"tiny_refill_count", "1"}, {"tiny_refill_count", "200"},
        {"tiny_must_adopt", "off"}, {"tiny_must_adopt", "on"}, {"remote_batch_bytes", "1K"},
        {"remote_batch_bytes", "64K"}, {"pool_tls_free", "off"}, {"pool_tls_free", "on"}, {"wmax_mid", "4"},
        {"wmax_mid", "1"}, {"wmax_large", "4"}, {"wmax_large", "1"}, {"cap_mid", "0"}, {"cap_mid", "64"},
        {"cap_large", "0"}, {"cap_large", "4"}, {"mmap_threshold", "64K"}, {"mmap_threshold", "16M"},
        {"disable_bigcache", "on"}, {"disable_bigcache", "off"}, {"bigcache_bytes", "1M"}, {"bigcache_bytes", "128M"},
        {"disable_batch", "on"}, {"disable_batch", "off"}, {"purge_delay_ms", "0"}, {"purge_delay_ms", "300"},
        {"purge_cap_bytes", "0"}, {"purge_cap_bytes", "32M"}, {"limit", "1M"}, {"limit", "none"}};
    unsigned i = take(in) % (sizeof settings / sizeof *settings);

    FUZZ_CHECK(hak_ctl_set(settings[i][0], settings[i][1]) == 0);
}

static void general(unsigned which, struct input *in)
{
    switch (which % 6) {
    case 0:
        burst(in);
        break;
    case 1:
        set_option(in);
        break;
    case 2:
        hak_trim(take_size(in));
        break;
    case 3:
        hak_thread_idle();
        break;
    case 4:
        FUZZ_CHECK(hak_good_size(take(in)) > 0);
        break;
    default:
        hak_free(NULL);
    }
}

static void play_one(unsigned op, struct input *in)
{
    struct block *b;

    if (op >= 26) {
        general(op, in);
        return;
    }
    b = &slots[take(in) % NR_SLOTS];
    if (!b->p)
        make(b, op, in);
    else if (op < 14)
        discard(b, op);
    else if (op < 21)
        resize(b, in);
    else if (op < 24)
        expand(b, in);
    else
        check_content(b, b->p, b->n);
}

/* ---- the other threads ---------------------------------------------------------------------- */

/* One job at a time; who gave it waits. */
static struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct input *job; /* NULL: idle; protected by lock, as the rest */
    unsigned op;
    bool alive, ends;
} workers[2] = {{.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER},
                {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}};

static void *work(void *arg)
{
    struct worker *w = arg;

    pthread_mutex_lock(&w->lock);
    while (!w->ends) {
        if (w->job)
            play_one(w->op, w->job);
        w->job = NULL;
        pthread_cond_signal(&w->changed);
        pthread_cond_wait(&w->changed, &w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void have_played(struct worker *w, unsigned op, struct input *in)
{
    pthread_mutex_lock(&w->lock);
    w->op = op;
    w->job = in;
    w->ends = false;
    if (!w->alive)
        FUZZ_CHECK(pthread_create(&w->thread, NULL, work, w) == 0);
    w->alive = true;
    pthread_cond_signal(&w->changed);
    while (w->job)
        pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static void end_worker(struct worker *w)
{
    if (!w->alive)
        return;
    pthread_mutex_lock(&w->lock);
    w->ends = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    w->alive = false;
}

/* ---- an input ------------------------------------------------------------------------------- */

static void adds_up(void)
{
    hak_stats_t s;

    FUZZ_CHECK(hak_stats_get(&s, offsetof(hak_stats_t, resident)) == 0);
    FUZZ_CHECK(s.mapped == s.live + s.cached + s.slab_free + s.dirty + s.purged + s.metadata);
}

/* Walks all there is. */
static void invariants_hold(void)
{
    FUZZ_CHECK(hk_thread_enter());
    hk_ace_check(hk_thread_heap());
    hk_thread_leave();
}

static void finish(void)
{
    static unsigned nr_inputs;

    for (unsigned i = 0; i < NR_SLOTS; i++)
        if (slots[i].p)
            discard(&slots[i], 2);
    FUZZ_CHECK(live_bytes == 0);
    adds_up();
    if (nr_inputs++ % 64 == 0)
        invariants_hold();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = {data, data + bytes};

    while (in.at < in.end) {
        unsigned op = take(&in), who = op >> 6;
        if (who == 3 && (op & 0x20))
            end_worker(&workers[op & 1]);
        else if (who == 1 || who == 2)
            have_played(&workers[who - 1], op & 31, &in);
        else
            play_one(op & 31, &in);
    }
    finish();
    return 0;
}
