// SPDX-License-Identifier: MIT
/* Over 900 lines because extents have one lock and one set of helpers, which a split would have to share. */
#include "arena/arena.h"

#include "base/panic.h"
#include "meta/meta.h"
#include "os/os.h"
#include "policy/policy.h"
#include "stats/stats.h"

#include <string.h>

#define NR_BINS 256       /* one per size to 15 granules, then eight per doubling; the last is open-ended */
#define MAX_TRIES 32      /* extents looked at in a bin, or in the dirty queue */
#define MAX_REFUSED 16    /* purges that may fail in one go */
#define PIECE ((size_t)64) /* granules: the least that is purged or unmapped of a larger extent */
#define LEAST_LENT ((size_t)16) /* granules: a smaller piece is not worth a system call */
#define MAX_PIECES 16
#define FIRST_MAP_BYTES HK_MIB
#define MAX_MAP_BYTES (32 * HK_MIB)
#define CLEAN_KEPT_BYTES (64 * HK_MIB) /* address space, or half of what is used */
#define ROOMY 16  /* an extent of so many times the request has room */
#define LEAST_SHARED 4 /* and one of so many is shared with what grows before it */

/* All under the lock. */
struct extent {
    char *base;
    size_t n;                       /* granules */
    struct extent *next, *prev;     /* in its bin; of a free descriptor, next alone */
    struct extent *older, *newer;   /* dirty queue, by the time of the last release into the extent */
    uint64_t since_ns;              /* dirty: when its oldest part became so */
    uint32_t generation;            /* of the arena when it was made */
    uint16_t bin;
    bool dirty;                     /* and so in the queue */
};
_Static_assert(sizeof(struct extent) <= 128, "two lines of meta");

static HK_LARGE_BSS struct {
    struct extent *bins[2][NR_BINS]; /* clean, dirty; newest first */
    uint64_t occupied[2][NR_BINS / 64];
    struct extent *oldest, *newest;
    struct extent *descriptors;  /* without an extent */
    struct extent *purging;      /* in the kernel's hands; next, prev */
    uint32_t generation;         /* a fork child that had to forget counts up */
    struct hk_arena_stats stats; /* read relaxed by anybody */
} arena;

struct hk_lock hk_arena_lock = HK_LOCK_INIT(HK_RANK_ARENA);

static void add(size_t *field, size_t granules)
{
    hk_store_relaxed(field, *field + granules * HK_GRANULE);
}

static void sub(size_t *field, size_t granules)
{
    hk_store_relaxed(field, *field - granules * HK_GRANULE);
}

static void add_count(size_t *field, size_t n)
{
    hk_store_relaxed(field, *field + n);
}

/* Granules in what the kernel maps and purges. */
static size_t unit(void)
{
    return hk_max(HK_GRANULE, hk_os_page_bytes()) / HK_GRANULE;
}

/* A fork child that forgot what was busy may still get it back. */
static void end_busy(size_t n)
{
    sub(arena.stats.busy_bytes / HK_GRANULE >= n ? &arena.stats.busy_bytes : &arena.stats.lost_bytes, n);
}

static char *end_of(const struct extent *e)
{
    return e->base + e->n * HK_GRANULE;
}

static size_t *bytes_of_kind(bool dirty)
{
    return dirty ? &arena.stats.dirty_bytes : &arena.stats.clean_bytes;
}

/* ---- descriptors, bins, queue -------------------------------------------------------------- */

static struct extent *new_descriptor(void)
{
    struct extent *e = arena.descriptors;

    if (!e)
        return hk_meta_alloc(sizeof *e);
    arena.descriptors = e->next;
    return e;
}

static void free_descriptor(struct extent *e)
{
    e->next = arena.descriptors;
    arena.descriptors = e;
}

static unsigned bin_of(size_t n)
{
    unsigned log2, bin;

    if (n < 16)
        return (unsigned)n;
    log2 = hk_log2_floor(n);
    bin = 16 + (log2 - 4) * 8 + ((unsigned)(n >> (log2 - 3)) & 7);
    return bin < NR_BINS ? bin : NR_BINS - 1;
}

/* First bin at or after `bin` that holds an extent, or NR_BINS. */
static unsigned next_bin(bool dirty, unsigned bin)
{
    for (unsigned w = bin / 64; w < NR_BINS / 64; w++) {
        uint64_t word = arena.occupied[dirty][w];
        if (w == bin / 64)
            word &= ~UINT64_C(0) << (bin % 64);
        if (word)
            return w * 64 + (unsigned)__builtin_ctzll(word);
    }
    return NR_BINS;
}

static void mark_ends(const struct extent *e, uintptr_t word, void *desc)
{
    hk_pagemap_set(e->base, 1, word, desc);
    hk_pagemap_set(end_of(e) - HK_GRANULE, 1, word, desc);
}

/* Into its bin, its ends marked, its bytes counted; and back. */
static void link_extent(struct extent *e)
{
    struct extent **list;

    e->bin = (uint16_t)bin_of(e->n);
    list = &arena.bins[e->dirty][e->bin];
    e->prev = NULL;
    e->next = *list;
    if (e->next)
        e->next->prev = e;
    *list = e;
    arena.occupied[e->dirty][e->bin / 64] |= UINT64_C(1) << (e->bin % 64);
    mark_ends(e, HK_PM_FREE, e);
    add(bytes_of_kind(e->dirty), e->n);
}

static void unlink_extent(struct extent *e)
{
    struct extent **list = &arena.bins[e->dirty][e->bin];

    if (e->prev)
        e->prev->next = e->next;
    else
        *list = e->next;
    if (e->next)
        e->next->prev = e->prev;
    if (!*list)
        arena.occupied[e->dirty][e->bin / 64] &= ~(UINT64_C(1) << (e->bin % 64));
    mark_ends(e, HK_PM_SPAN, NULL);
    sub(bytes_of_kind(e->dirty), e->n);
}

static void enqueue(struct extent *e)
{
    if (!e->dirty)
        return;
    e->older = arena.newest;
    e->newer = NULL;
    *(arena.newest ? &arena.newest->newer : &arena.oldest) = e;
    arena.newest = e;
}

static void dequeue(struct extent *e)
{
    if (!e->dirty)
        return;
    *(e->older ? &e->older->newer : &arena.oldest) = e->newer;
    *(e->newer ? &e->newer->older : &arena.newest) = e->older;
}

/* ---- extents ------------------------------------------------------------------------------- */

/* The extent that starts or ends at this granule, or NULL. Anything may lie there, ours or not. */
static struct extent *extent_at(const char *granule)
{
    struct extent *e = hk_pagemap_word(granule) == HK_PM_FREE ? hk_pagemap_desc(granule) : NULL;

    return e && e->generation == arena.generation ? e : NULL;
}

static struct extent *extent_of_kind_at(const char *granule, bool dirty)
{
    struct extent *e = extent_at(granule);

    return e && e->dirty == dirty ? e : NULL;
}

/* The extent grows by its right neighbour, which is unlinked already. */
static void swallow(struct extent *e, struct extent *right)
{
    e->n += right->n;
    if (right->since_ns < e->since_ns)
        e->since_ns = right->since_ns;
    dequeue(right);
    free_descriptor(right);
}

/* A range becomes free and joins its neighbours. since_ns: of a dirty one. False: no descriptor. */
static bool insert(char *base, size_t n, bool dirty, uint64_t since_ns)
{
    struct extent *left = extent_of_kind_at(base - HK_GRANULE, dirty);
    struct extent *right = extent_of_kind_at(base + n * HK_GRANULE, dirty);
    struct extent *e = left ? left : right ? right : new_descriptor();

    if (!e)
        return false;
    if (left)
        unlink_extent(left);
    if (right)
        unlink_extent(right);
    if (!left && !right) {
        *e = (struct extent){
            .base = base, .n = n, .since_ns = since_ns, .dirty = dirty, .generation = arena.generation};
    } else {
        dequeue(e);
        e->n += n;
        if (base < e->base)
            e->base = base;
        if (since_ns < e->since_ns)
            e->since_ns = since_ns;
    }
    if (left && right)
        swallow(left, right);
    enqueue(e);
    link_extent(e);
    return true;
}

/* Granules [at, at + n) of the extent become the caller's, what is left on either side stays free and
 * keeps its place in the queue. False: no descriptor. */
static bool take(struct extent *e, size_t at, size_t n)
{
    size_t tail_n = e->n - at - n;
    struct extent *tail = at && tail_n ? new_descriptor() : NULL;

    if (at && tail_n && !tail)
        return false;
    unlink_extent(e);
    if (tail) {
        *tail = (struct extent){.base = e->base + (at + n) * HK_GRANULE,
                                .n = tail_n,
                                .since_ns = e->since_ns,
                                .dirty = e->dirty,
                                .generation = arena.generation};
        enqueue(tail);
        link_extent(tail);
    }
    if (at) {
        e->n = at;
        link_extent(e);
    } else if (tail_n) {
        e->base += n * HK_GRANULE;
        e->n = tail_n;
        link_extent(e);
    } else {
        dequeue(e);
        free_descriptor(e);
    }
    return true;
}

/* ---- search -------------------------------------------------------------------------------- */

static struct extent *tightest_in_bin(bool dirty, unsigned bin, size_t n)
{
    struct extent *best = NULL;
    unsigned tries = 0;

    for (struct extent *e = arena.bins[dirty][bin]; e && tries < MAX_TRIES; e = e->next, tries++)
        if (e->n >= n && (!best || e->n < best->n))
            best = e;
    return best;
}

static struct extent *tightest(bool dirty, size_t n)
{
    for (unsigned bin = next_bin(dirty, bin_of(n)); bin < NR_BINS; bin = next_bin(dirty, bin + 1)) {
        struct extent *e = tightest_in_bin(dirty, bin, n);
        if (e)
            return e;
    }
    return NULL;
}

static unsigned last_bin(bool dirty)
{
    for (unsigned w = NR_BINS / 64; w-- > 0;)
        if (arena.occupied[dirty][w])
            return w * 64 + 63 - (unsigned)__builtin_clzll(arena.occupied[dirty][w]);
    return NR_BINS;
}

/* Nearly: of the first few in the highest bin. */
static struct extent *largest(bool dirty)
{
    struct extent *best = NULL;
    unsigned bin = last_bin(dirty), tries = 0;

    if (bin == NR_BINS)
        return NULL;
    for (struct extent *e = arena.bins[dirty][bin]; e && tries < MAX_TRIES; e = e->next, tries++)
        if (!best || e->n > best->n)
            best = e;
    return best;
}

static void *take_aligned(struct extent *e, size_t n, size_t align)
{
    uintptr_t first = (uintptr_t)e->base / HK_GRANULE;
    size_t at = (size_t)(-first & (align - 1));
    char *base = e->base + at * HK_GRANULE;

    return take(e, at, n) ? base : NULL;
}

/* So much of n in dirty memory is as good as all of it. */
static size_t mostly(size_t n)
{
    return n - n / 4;
}

/* A dirty extent and the clean ones beside it, as one. */
struct hole {
    struct extent *left, *dirty, *right;
    size_t left_n, right_n;
};

static struct hole hole_around(struct extent *dirty)
{
    struct hole h = {.dirty = dirty,
                     .left = extent_at(dirty->base - HK_GRANULE),
                     .right = extent_at(end_of(dirty))};

    h.left_n = h.left ? h.left->n : 0;
    h.right_n = h.right ? h.right->n : 0;
    return h;
}

/* The hole that reuses most dirty memory, among the most recent ones. */
static bool find_hole(size_t n, struct hole *best)
{
    unsigned tries = 0;

    best->dirty = NULL;
    for (struct extent *e = arena.newest; e && tries < MAX_TRIES; e = e->older, tries++) {
        struct hole h = hole_around(e);
        if (h.left_n + e->n + h.right_n >= n && (!best->dirty || e->n > best->dirty->n))
            *best = h;
    }
    return best->dirty != NULL;
}

/* n exceeds the dirty extent alone. The right neighbour first, so that the rest stays at one end. */
static void *take_hole(const struct hole *h, size_t n)
{
    size_t missing = n - h->dirty->n, from_right = hk_min(missing, h->right_n);
    size_t from_left = missing - from_right;
    char *base = h->dirty->base - from_left * HK_GRANULE;

    take(h->dirty, 0, h->dirty->n); /* whole, or from one end: cannot fail */
    if (from_right)
        take(h->right, 0, from_right);
    if (from_left)
        take(h->left, h->left_n - from_left, from_left);
    return base;
}

static void *acquire_locked(size_t n, size_t align, bool *zero)
{
    size_t need = n + (align - unit());
    struct extent *e = tightest(true, need);
    struct hole hole;
    void *p = NULL;

    *zero = false;
    if (e) {
        p = take_aligned(e, n, align);
    } else if (align == unit() && find_hole(n, &hole)) {
        p = take_hole(&hole, n);
        add_count(&arena.stats.nr_mixed, 1);
    } else if ((e = tightest(false, need)) != NULL) {
        *zero = true;
        p = take_aligned(e, n, align);
    }
    if (p)
        add(&arena.stats.used_bytes, n);
    return p;
}

/* ---- mappings ------------------------------------------------------------------------------ */

/* Of the first mapping; relaxed, and stale once that is gone. */
static const char *behind_fence;

const char *hk_arena_behind_fence(void)
{
    return hk_load_relaxed(&behind_fence);
}

static char *map_covered(size_t bytes)
{
    static void *fence;
    bool first = hk_load_relaxed(&arena.stats.mapped_bytes) == 0; /* it begins behind a fence */
    size_t align = unit() * HK_GRANULE;
    char *base = first ? hk_os_reserve_fenced(bytes, align, &fence) : hk_os_reserve(bytes, align);

    if (base && !hk_pagemap_cover(base, bytes)) {
        hk_os_abandon(base, bytes);
        return NULL;
    }
    if (base && first)
        hk_store_relaxed(&behind_fence, base);
    return base;
}

static size_t map_step(void)
{
    size_t half = hk_load_relaxed(&arena.stats.mapped_bytes) / 2; /* stale: another size */

    return hk_min(hk_max(hk_align_up(half, HK_MIB), FIRST_MAP_BYTES), MAX_MAP_BYTES);
}

/* The lock is held on return if the answer is true: others must not empty it first. */
static bool grow_and_lock(size_t n, size_t more)
{
    size_t need = hk_align_up(n, unit()) * HK_GRANULE, bytes = hk_max(need, more);
    char *base = map_covered(bytes);
    bool ok;

    if (!base && bytes > need)
        base = map_covered(bytes = need);
    if (!base)
        return false;
    hk_trace(HK_TRACE_REGION, 0, bytes);
    (void)hk_os_huge_pages(base, bytes, hk_policy()->huge_pages);
    hk_pagemap_set(base, bytes / HK_GRANULE, HK_PM_SPAN, NULL);
    hk_lock(&hk_arena_lock);
    ok = insert(base, bytes / HK_GRANULE, false, 0);
    if (ok) {
        add(&arena.stats.mapped_bytes, bytes / HK_GRANULE);
        add_count(&arena.stats.nr_maps, 1);
        return true;
    }
    hk_unlock(&hk_arena_lock);
    hk_pagemap_set(base, bytes / HK_GRANULE, HK_PM_GONE, NULL);
    hk_os_abandon(base, bytes);
    return false;
}

void *hk_arena_acquire(size_t nr_granules, size_t align_granules, bool *zero)
{
    size_t n = hk_align_up(nr_granules, unit()), align = hk_max(align_granules, unit());
    void *p;

    hk_lock(&hk_arena_lock);
    p = acquire_locked(n, align, zero);
    if (!p) {
        hk_unlock(&hk_arena_lock);
        if (!grow_and_lock(n + (align - unit()), map_step()))
            return NULL;
        p = acquire_locked(n, align, zero);
    }
    if (p && *zero)
        add(&arena.stats.fresh_bytes, n);
    hk_unlock(&hk_arena_lock);
    return p;
}

void *hk_arena_acquire_dirty(size_t nr_granules, size_t align_granules)
{
    size_t n = hk_align_up(nr_granules, unit()), align = hk_max(align_granules, unit());
    struct extent *e;
    struct hole hole;
    void *p = NULL;

    hk_lock(&hk_arena_lock);
    e = tightest(true, n + (align - unit()));
    if (e)
        p = take_aligned(e, n, align);
    else if (align == unit() && find_hole(n, &hole) && hole.dirty->n >= mostly(n))
        p = take_hole(&hole, n);
    if (p)
        add(&arena.stats.used_bytes, n);
    hk_unlock(&hk_arena_lock);
    return p;
}

/* What lies right before the extent is in use, or nobody can tell. */
static bool is_behind_live(const struct extent *e)
{
    uintptr_t word = hk_pagemap_word(e->base - HK_GRANULE);

    return word != HK_PM_UNKNOWN && word != HK_PM_GONE && word != HK_PM_FREE;
}

/* Of the recent ones that have room with their right neighbour, the one with most dirty memory: so that what
 * grows side by side is spread out. */
static struct extent *dirty_with_room(size_t room)
{
    struct extent *best = NULL;
    unsigned tries = 0;

    for (struct extent *e = arena.newest; e && tries < MAX_TRIES; e = e->older, tries++) {
        struct hole h = hole_around(e);
        if (e->n + h.right_n >= room && (!best || e->n > best->n))
            best = e;
    }
    return best;
}

/* At its start; in the middle where something lies before it that may grow too. */
static void *take_spot(struct extent *e, size_t n, bool *zero)
{
    size_t at = e->n >= LEAST_SHARED * n && is_behind_live(e) ? (e->n - n) / 2 & ~(unit() - 1) : 0;
    struct hole h = hole_around(e);
    char *base = e->base + at * HK_GRANULE;

    *zero = !e->dirty;
    h.left_n = 0;
    if (e->n < n)
        return take_hole(&h, n);
    return take(e, at, n) ? base : NULL;
}

static void *take_roomy(size_t n, bool *zero)
{
    struct extent *e = largest(true);
    void *p;

    if (!e || e->n < ROOMY * n)
        e = dirty_with_room(ROOMY * n);
    if (!e)
        e = largest(false);
    if (!e || (!e->dirty && e->n < ROOMY * n))
        return NULL;
    p = take_spot(e, n, zero);
    if (p)
        add(&arena.stats.used_bytes, n);
    return p;
}

static bool may_map_for_room(void)
{
    const struct hk_arena_stats *s = &arena.stats;

    return s->clean_bytes + s->dirty_bytes <= hk_max(MAX_MAP_BYTES, s->used_bytes / 4);
}

void *hk_arena_acquire_roomy(size_t nr_granules, bool *zero)
{
    size_t n = hk_align_up(nr_granules, unit()), room = hk_min(2 * ROOMY * n * HK_GRANULE, MAX_MAP_BYTES);
    bool may_map;
    void *p;

    hk_lock(&hk_arena_lock);
    p = take_roomy(n, zero);
    may_map = may_map_for_room();
    if (!p) {
        hk_unlock(&hk_arena_lock);
        if (!may_map || !grow_and_lock(n, hk_max(room, map_step())))
            return NULL;
        p = take_roomy(n, zero);
    }
    if (p && *zero)
        add(&arena.stats.fresh_bytes, n);
    hk_unlock(&hk_arena_lock);
    return p;
}

/* ---- use and disuse ------------------------------------------------------------------------ */

/* Without a descriptor a range can still be given back as a whole. */
static void unmap_or_lose(char *base, size_t n)
{
    bool gone;

    hk_pagemap_set(base, n, HK_PM_GONE, NULL);
    gone = hk_os_release(base, n * HK_GRANULE);
    hk_lock(&hk_arena_lock);
    if (gone)
        sub(&arena.stats.mapped_bytes, n);
    else
        add(&arena.stats.lost_bytes, n);
    hk_unlock(&hk_arena_lock);
}

/* Where pages are larger than granules, a tail begins with the first whole page. */
void hk_arena_release(void *base, size_t nr_granules, bool dirty)
{
    uintptr_t page = unit() * HK_GRANULE, first = hk_align_up((uintptr_t)base, page);
    uintptr_t end = hk_align_up((uintptr_t)base + nr_granules * HK_GRANULE, page);
    size_t n = (end - first) / HK_GRANULE;
    uint64_t now = dirty ? hk_os_now_ns() : 0;
    bool ok;

    if (n == 0)
        return;
    hk_lock(&hk_arena_lock);
    hk_pagemap_set((void *)first, 1, HK_PM_SPAN, NULL);
    sub(&arena.stats.used_bytes, n);
    ok = insert((char *)first, n, dirty, now);
    hk_unlock(&hk_arena_lock);
    if (HK_UNLIKELY(!ok))
        unmap_or_lose((char *)first, n);
}

/* Free granules at `from`, up to `want`; no more than one dirty and one clean extent, or the reverse. */
static size_t free_behind(const char *from, size_t want, struct extent *found[2])
{
    size_t have = 0;

    for (unsigned i = 0; i < 2; i++) {
        found[i] = have < want ? extent_at(from + have * HK_GRANULE) : NULL;
        if (found[i])
            have += found[i]->n;
    }
    return have;
}

bool hk_arena_extend(void *base, size_t nr_granules, size_t more, bool *zero)
{
    size_t have = hk_align_up(nr_granules, unit());
    size_t want = hk_align_up(nr_granules + more, unit()) - have, left = want;
    struct extent *found[2];
    bool ok;

    *zero = true;
    hk_lock(&hk_arena_lock);
    ok = free_behind((char *)base + have * HK_GRANULE, want, found) >= want;
    for (unsigned i = 0; ok && left; i++) {
        size_t part = hk_min(left, found[i]->n);
        *zero = *zero && !found[i]->dirty;
        take(found[i], 0, part); /* from one end: cannot fail */
        left -= part;
    }
    if (ok)
        add(&arena.stats.used_bytes, want);
    hk_unlock(&hk_arena_lock);
    return ok;
}

bool hk_arena_donate(void *base, size_t nr_granules)
{
    uint64_t now = hk_os_now_ns();
    bool ok;

    if (nr_granules % unit())
        return false;
    hk_pagemap_set(base, nr_granules, HK_PM_SPAN, NULL);
    hk_lock(&hk_arena_lock);
    ok = insert(base, nr_granules, true, now);
    if (ok)
        add(&arena.stats.mapped_bytes, nr_granules);
    hk_unlock(&hk_arena_lock);
    if (!ok)
        hk_pagemap_set(base, nr_granules, HK_PM_GONE, NULL);
    return ok;
}

void hk_arena_lend(void *base, size_t nr_granules)
{
    size_t n = hk_align_up(nr_granules, unit());

    hk_pagemap_set(base, n, HK_PM_GONE, NULL);
    hk_lock(&hk_arena_lock);
    sub(&arena.stats.mapped_bytes, n);
    sub(&arena.stats.used_bytes, n);
    hk_unlock(&hk_arena_lock);
}

void hk_arena_take_back(void *base, size_t nr_granules)
{
    size_t n = hk_align_up(nr_granules, unit());

    hk_pagemap_set(base, n, HK_PM_SPAN, NULL);
    hk_lock(&hk_arena_lock);
    add(&arena.stats.mapped_bytes, n);
    add(&arena.stats.used_bytes, n);
    hk_unlock(&hk_arena_lock);
}

/* ---- loans --------------------------------------------------------------------------------- */

/* Oldest first: they would go back to the system next. */
static unsigned pick_pieces(struct extent *picked[], unsigned max, size_t n)
{
    unsigned nr = 0, tries = 0;
    size_t have = 0;

    for (struct extent *e = arena.oldest; e && nr < max && have < n && tries < MAX_TRIES; e = e->newer, tries++)
        if (e->n >= LEAST_LENT) {
            picked[nr++] = e;
            have += e->n;
        }
    return have >= mostly(n) ? nr : 0;
}

unsigned hk_arena_borrow(struct hk_arena_piece *piece, unsigned max, size_t n)
{
    struct extent *picked[MAX_PIECES];
    unsigned nr;

    if (hk_arena_dirty_bytes() / HK_GRANULE < n)
        return 0;
    hk_lock(&hk_arena_lock);
    nr = pick_pieces(picked, max < MAX_PIECES ? max : MAX_PIECES, n);
    for (unsigned i = 0; i < nr; i++) {
        size_t part = hk_min(picked[i]->n, n);
        piece[i] = (struct hk_arena_piece){picked[i]->base, part};
        take(picked[i], 0, part); /* from one end: cannot fail */
        add(&arena.stats.busy_bytes, part);
        n -= part;
    }
    add_count(&arena.stats.nr_borrowed, nr);
    hk_unlock(&hk_arena_lock);
    return nr;
}

void hk_arena_return(const struct hk_arena_piece *piece, bool dirty)
{
    uint64_t now = hk_os_now_ns();
    bool ok;

    hk_lock(&hk_arena_lock);
    end_busy(piece->n);
    ok = insert(piece->base, piece->n, dirty, now);
    hk_unlock(&hk_arena_lock);
    if (HK_UNLIKELY(!ok))
        unmap_or_lose(piece->base, piece->n);
}

void hk_arena_lose(const struct hk_arena_piece *piece)
{
    hk_lock(&hk_arena_lock);
    end_busy(piece->n);
    add(&arena.stats.lost_bytes, piece->n);
    hk_unlock(&hk_arena_lock);
}

/* ---- memory goes back ---------------------------------------------------------------------- */

/*
 * The end of the extent, at least n granules of it, all if little would be left or there is no second
 * descriptor. Busy from now on; the answer, in no bin and no queue, says what it was.
 */
static struct extent *detach(struct extent *e, size_t n)
{
    struct extent *part = e->n > n + PIECE ? new_descriptor() : NULL;
    size_t at = part ? (e->n - n) & ~(unit() - 1) : 0;
    char *base = e->base + at * HK_GRANULE;

    n = e->n - at;
    take(e, at, n); /* to its end: cannot fail */
    if (!part)
        part = new_descriptor(); /* e's */
    *part = (struct extent){.base = base, .n = n, .generation = arena.generation};
    add(&arena.stats.busy_bytes, n);
    return part;
}

/* Free again; its descriptor serves if the neighbours do not. */
static void attach(struct extent *part, bool dirty, uint64_t since_ns)
{
    struct extent range = *part;

    end_busy(range.n);
    free_descriptor(part);
    insert(range.base, range.n, dirty, since_ns);
}

static void start_purging(struct extent *part)
{
    part->next = arena.purging;
    if (part->next)
        part->next->prev = part;
    arena.purging = part;
}

static void end_purging(struct extent *part)
{
    *(part->prev ? &part->prev->next : &arena.purging) = part->next;
    if (part->next)
        part->next->prev = part->prev;
}

/* With the lock held, dropped around the system call. Returns granules purged; what was refused is dirty
 * from now, the last in the queue. */
static size_t purge_locked(struct extent *e, size_t most)
{
    struct extent *part = detach(e, hk_max(most, PIECE));
    size_t n = part->n;
    uint64_t now = hk_os_now_ns();
    bool clean;

    hk_trace(HK_TRACE_PURGE, 0, n * HK_GRANULE);
    start_purging(part);
    hk_unlock(&hk_arena_lock);
    clean = hk_os_purge(part->base, n * HK_GRANULE);
    hk_lock(&hk_arena_lock);
    if (HK_UNLIKELY(part->generation != arena.generation))
        return 0; /* a signal handler forked, and this is the child: forgotten */
    end_purging(part);
    add_count(&arena.stats.nr_purges, 1);
    if (clean)
        add(&arena.stats.nr_purged_bytes, n);
    attach(part, !clean, now);
    return clean ? n : 0;
}

void hk_arena_inherit(void)
{
    while (arena.purging) {
        struct extent *part = arena.purging;
        end_purging(part);
        attach(part, true, hk_os_now_ns());
    }
}

/* Page-map words of the old generation lead to extents that are told apart by it. */
void hk_arena_forget(void)
{
    struct hk_arena_stats *s = &arena.stats;

    arena.generation++;
    memset(arena.bins, 0, sizeof arena.bins);
    memset(arena.occupied, 0, sizeof arena.occupied);
    arena.oldest = arena.newest = arena.descriptors = arena.purging = NULL;
    hk_store_relaxed(&s->dirty_bytes, (size_t)0);
    hk_store_relaxed(&s->clean_bytes, (size_t)0);
    hk_store_relaxed(&s->busy_bytes, (size_t)0);
    hk_store_relaxed(&s->lost_bytes, s->mapped_bytes - hk_min(s->used_bytes, s->mapped_bytes));
}

static bool is_expired(const struct extent *e, uint64_t now_ns, uint64_t delay_ns)
{
    return now_ns >= e->since_ns && now_ns - e->since_ns >= delay_ns; /* another CPU's clock may be ahead */
}

static struct extent *find_expired(uint64_t now_ns, uint64_t delay_ns)
{
    unsigned tries = 0;

    for (struct extent *e = arena.oldest; e && tries < MAX_TRIES; e = e->newer, tries++)
        if (is_expired(e, now_ns, delay_ns))
            return e;
    return NULL;
}

static void unmap_excess(void)
{
    hk_arena_unmap_to(hk_max(CLEAN_KEPT_BYTES, hk_arena_used_bytes() / 2));
}

size_t hk_arena_purge_expired(uint64_t now_ns, uint64_t delay_ns)
{
    unsigned refused = 0;
    struct extent *e;
    size_t n = 0;

    if (hk_arena_dirty_bytes() == 0)
        return 0;
    hk_lock(&hk_arena_lock);
    while (refused < MAX_REFUSED && (e = find_expired(now_ns, delay_ns)) != NULL) {
        size_t purged = purge_locked(e, e->n);
        refused += purged == 0;
        n += purged;
    }
    hk_unlock(&hk_arena_lock);
    unmap_excess();
    return n * HK_GRANULE;
}

size_t hk_arena_purge_to(size_t keep_bytes)
{
    unsigned refused = 0;
    size_t n = 0;

    if (hk_arena_dirty_bytes() <= keep_bytes)
        return 0;
    hk_lock(&hk_arena_lock);
    while (refused < MAX_REFUSED && arena.oldest && arena.stats.dirty_bytes > keep_bytes) {
        size_t excess = (arena.stats.dirty_bytes - keep_bytes + HK_GRANULE - 1) / HK_GRANULE;
        size_t purged = purge_locked(arena.oldest, hk_align_up(excess, unit()));
        refused += purged == 0;
        n += purged;
    }
    hk_unlock(&hk_arena_lock);
    unmap_excess();
    return n * HK_GRANULE;
}

/* As purge_locked, but a fork child cannot tell whether the range is still there: not the arena's meanwhile.
 * False: the kernel refused, the range is clean as before. */
static bool unmap_locked(struct extent *e, size_t most)
{
    struct extent *part = detach(e, hk_max(most, PIECE));
    char *base = part->base;
    size_t n = part->n;
    bool gone;

    hk_trace(HK_TRACE_UNMAP, 0, n * HK_GRANULE);
    sub(&arena.stats.mapped_bytes, n);
    sub(&arena.stats.busy_bytes, n);
    hk_unlock(&hk_arena_lock);
    hk_pagemap_set(base, n, HK_PM_GONE, NULL);
    gone = hk_os_release(base, n * HK_GRANULE);
    if (!gone)
        hk_pagemap_set(base, n, HK_PM_SPAN, NULL);
    hk_lock(&hk_arena_lock);
    add_count(&arena.stats.nr_unmaps, gone);
    free_descriptor(part);
    if (!gone) {
        add(&arena.stats.mapped_bytes, n);
        insert(base, n, false, 0); /* there is a descriptor */
    }
    return gone;
}

void hk_arena_unmap_to(size_t keep_bytes)
{
    struct extent *e;

    if (hk_load_relaxed(&arena.stats.clean_bytes) <= keep_bytes) /* stale: the next call does it */
        return;
    hk_lock(&hk_arena_lock);
    while (arena.stats.clean_bytes > keep_bytes && (e = largest(false)) != NULL &&
           (e->n >= PIECE || keep_bytes == 0) &&
           unmap_locked(e, (arena.stats.clean_bytes - keep_bytes) / HK_GRANULE))
        ;
    hk_unlock(&hk_arena_lock);
}

/* ---- counters ------------------------------------------------------------------------------ */

size_t hk_arena_dirty_bytes(void)
{
    return hk_load_relaxed(&arena.stats.dirty_bytes);
}

size_t hk_arena_fresh_bytes(void)
{
    return hk_load_relaxed(&arena.stats.fresh_bytes);
}

size_t hk_arena_used_bytes(void)
{
    return hk_load_relaxed(&arena.stats.used_bytes);
}

const struct hk_arena_stats *hk_arena_counters(void)
{
    return &arena.stats;
}

void hk_arena_stats(struct hk_arena_stats *out)
{
    hk_lock(&hk_arena_lock);
    *out = arena.stats;
    hk_unlock(&hk_arena_lock);
}

static void expect(bool holds, const char *what, const void *where)
{
    if (!holds)
        hk_panic_internal(what, where);
}

static void check_extent(const struct extent *e, bool dirty, unsigned bin)
{
    expect(e->dirty == dirty && e->bin == bin && bin_of(e->n) == bin, "arena: extent in the wrong bin", e);
    expect(extent_at(e->base) == e && extent_at(end_of(e) - HK_GRANULE) == e, "arena: ends not marked", e);
    expect(!extent_of_kind_at(e->base - HK_GRANULE, dirty) && !extent_of_kind_at(end_of(e), dirty),
           "arena: neighbours not joined", e);
}

/* Returns bytes. */
static size_t check_kind(bool dirty, size_t *nr)
{
    size_t bytes = 0;

    for (unsigned bin = 0; bin < NR_BINS; bin++) {
        expect((arena.occupied[dirty][bin / 64] >> (bin % 64) & 1) == (arena.bins[dirty][bin] != NULL),
               "arena: occupied bins", NULL);
        for (const struct extent *e = arena.bins[dirty][bin]; e; e = e->next) {
            check_extent(e, dirty, bin);
            bytes += e->n * HK_GRANULE;
            ++*nr;
        }
    }
    return bytes;
}

static void check_queue(size_t nr_dirty)
{
    const struct extent *last = NULL;

    for (const struct extent *e = arena.oldest; e && nr_dirty; last = e, e = e->newer, nr_dirty--)
        expect(e->dirty && e->older == last, "arena: dirty queue", e);
    expect(nr_dirty == 0 && arena.newest == last && !(last && last->newer), "arena: dirty queue", NULL);
}

void hk_arena_check(void)
{
    const struct hk_arena_stats *s = &arena.stats;
    size_t nr_dirty = 0, nr_clean = 0;

    hk_lock(&hk_arena_lock);
    expect(check_kind(true, &nr_dirty) == s->dirty_bytes, "arena: dirty bytes do not add up", NULL);
    expect(check_kind(false, &nr_clean) == s->clean_bytes, "arena: clean bytes do not add up", NULL);
    expect(s->used_bytes + s->dirty_bytes + s->clean_bytes + s->busy_bytes + s->lost_bytes == s->mapped_bytes,
           "arena: mapped bytes do not add up", NULL);
    check_queue(nr_dirty);
    hk_unlock(&hk_arena_lock);
}
