// SPDX-License-Identifier: MIT
#include "bigcache/bigcache.h"

#include "base/panic.h"
#include "config/config.h"
#include "sync/atomic.h"
#include "sync/lock.h"

#include <string.h>

#define NR_SITES 64
#define SITE_SHIFT (64 - 6)
#define NR_CLASSES 32 /* two per doubling from 64 KiB; the last is open-ended */
#define NR_ENTRIES 256
#define NR_VICTIMS 16 /* evicted per turn of the lock */

_Static_assert(NR_SITES == 1 << (64 - SITE_SHIFT), "the hash's top bits number the rows");
_Static_assert(NR_ENTRIES <= UINT8_MAX + 1, "an index is a byte");

/* Index of an entry; 0 is the head of the age list and stands for "none" everywhere else. */
typedef uint8_t entry_id;

struct entry {
    struct hk_big_range range;
    entry_id older, newer; /* age list, a circle through entry 0: 0.newer is the oldest of all */
    entry_id prev, next;   /* class list, newest first; of a free entry, next alone */
};

/*
 * Invariants (hk_bigcache_check):
 *   ids on the age list == ids on the class lists == nr_cached
 *   nr_cached + ids on the free list == nr_touched
 *   sum of range.bytes over cached entries == counters.bytes
 *   each class list holds entries of its class only
 *   each ring slot is 0 or a cached entry of its row and class, and no entry stands in two slots
 *   no two cached ranges overlap
 *
 * Everything is written under the lock; `budget_bytes` and the counters are read without it. What is
 * large and starts at zero stays out of the initialised data, and untouched until it is used.
 */
static HK_LARGE_BSS struct entry hk_bigcache_entry[NR_ENTRIES];
/* Newest first, no gaps. */
static HK_LARGE_BSS entry_id hk_bigcache_ring[NR_SITES][NR_CLASSES][HK_BIGCACHE_RING_SLOTS];
static struct {
    struct hk_lock lock;
    struct hk_bigcache_counters counters;
    hk_bigcache_evict_fn evict;
    size_t budget_bytes;
    unsigned nr_cached;
    unsigned nr_touched; /* entries 1..nr_touched have been used before */
    entry_id free_first;
    entry_id class_first[NR_CLASSES];
} hk_bigcache_global = {
    .lock = HK_LOCK_INIT(HK_RANK_BIGCACHE),
    .budget_bytes = HK_BIGCACHE_FLOOR_BYTES,
};

/* Ranges on their way out, collected under the lock and evicted without it. */
struct victims {
    unsigned nr;
    struct hk_big_range range[NR_VICTIMS];
};

static unsigned class_of(size_t bytes)
{
    if (bytes < HK_BIGCACHE_MIN_BYTES)
        return 0;

    unsigned log2 = hk_log2_floor(bytes);
    unsigned half = (unsigned)(bytes >> (log2 - 1)) & 1;
    unsigned class = 2 * (log2 - 16) + half;
    return class < NR_CLASSES ? class : NR_CLASSES - 1;
}
_Static_assert(HK_BIGCACHE_MIN_BYTES == (size_t)1 << 16, "class 0 starts there");

/* Fibonacci hashing. Two sites in one row cost hits, never correctness: slots are verified. */
static entry_id *ring_of(const void *site, unsigned class)
{
    uint64_t hash = (uint64_t)(uintptr_t)site * UINT64_C(0x9e3779b97f4a7c15);

    return hk_bigcache_ring[hash >> SITE_SHIFT][class];
}

static struct entry *entry_at(entry_id id)
{
    return &hk_bigcache_entry[id];
}

static size_t budget(void)
{
    return hk_min(hk_load_relaxed(&hk_bigcache_global.budget_bytes), hk_load_relaxed(&hk_config.bigcache_bytes));
}

/*
 * The three indexes of an entry: ring, class list, age list. Lock held.
 */

/* What falls out at the far end stays in the lists. */
static void ring_push(entry_id id)
{
    const struct hk_big_range *r = &entry_at(id)->range;
    entry_id *ring = ring_of(r->site, class_of(r->bytes));

    memmove(ring + 1, ring, (HK_BIGCACHE_RING_SLOTS - 1) * sizeof *ring);
    ring[0] = id;
}

static void ring_remove(entry_id id)
{
    const struct hk_big_range *r = &entry_at(id)->range;
    entry_id *ring = ring_of(r->site, class_of(r->bytes));

    for (unsigned i = 0; i < HK_BIGCACHE_RING_SLOTS; i++) {
        if (ring[i] != id)
            continue;
        memmove(ring + i, ring + i + 1, (HK_BIGCACHE_RING_SLOTS - 1 - i) * sizeof *ring);
        ring[HK_BIGCACHE_RING_SLOTS - 1] = 0;
        return;
    }
}

static void class_push(entry_id id)
{
    struct entry *e = entry_at(id);
    entry_id *first = &hk_bigcache_global.class_first[class_of(e->range.bytes)];

    e->prev = 0;
    e->next = *first;
    if (*first)
        entry_at(*first)->prev = id;
    *first = id;
}

static void class_remove(entry_id id)
{
    struct entry *e = entry_at(id);

    if (e->prev)
        entry_at(e->prev)->next = e->next;
    else
        hk_bigcache_global.class_first[class_of(e->range.bytes)] = e->next;
    if (e->next)
        entry_at(e->next)->prev = e->prev;
}

static void age_push(entry_id id)
{
    struct entry *e = entry_at(id), *head = entry_at(0);

    e->newer = 0;
    e->older = head->older;
    entry_at(head->older)->newer = id;
    head->older = id;
}

static void age_remove(entry_id id)
{
    struct entry *e = entry_at(id);

    entry_at(e->older)->newer = e->newer;
    entry_at(e->newer)->older = e->older;
}

static entry_id oldest(void)
{
    return entry_at(0)->newer;
}

/*
 * Entries in and out. Lock held.
 */

static bool has_room(size_t bytes)
{
    size_t cached = hk_bigcache_global.counters.bytes;

    return hk_bigcache_global.nr_cached < NR_ENTRIES - 1 && cached <= budget() &&
           bytes <= budget() - cached;
}

static entry_id acquire_entry(void)
{
    entry_id id = hk_bigcache_global.free_first;

    if (id)
        hk_bigcache_global.free_first = entry_at(id)->next;
    else
        id = (entry_id)++hk_bigcache_global.nr_touched;
    return id;
}

static void insert(const struct hk_big_range *range)
{
    entry_id id = acquire_entry();

    entry_at(id)->range = *range;
    ring_push(id);
    class_push(id);
    age_push(id);
    hk_bigcache_global.nr_cached++;
    hk_count_add(&hk_bigcache_global.counters.bytes, range->bytes);
    hk_count_add(&hk_bigcache_global.counters.puts, 1);
}

static void remove_entry(entry_id id, struct hk_big_range *out)
{
    struct entry *e = entry_at(id);

    *out = e->range;
    ring_remove(id);
    class_remove(id);
    age_remove(id);
    hk_bigcache_global.nr_cached--;
    hk_count_add(&hk_bigcache_global.counters.bytes, -e->range.bytes);
    e->next = hk_bigcache_global.free_first;
    hk_bigcache_global.free_first = id;
}

static void collect_oldest(struct victims *victims)
{
    remove_entry(oldest(), &victims->range[victims->nr++]);
}

/* Lock not held. */
static void evict_all(const struct victims *victims, hk_bigcache_evict_fn evict, void *arg)
{
    for (unsigned i = 0; i < victims->nr; i++)
        evict(&victims->range[i], arg);
}

/*
 * take
 */

static bool fits(entry_id id, size_t bytes, size_t max_bytes)
{
    size_t have = entry_at(id)->range.bytes;

    return have >= bytes && have <= max_bytes;
}

/* Of `best` (or none) and `id`; on a tie `best`, which was met first and is the newer one. */
static entry_id smaller(entry_id best, entry_id id)
{
    return best && entry_at(best)->range.bytes <= entry_at(id)->range.bytes ? best : id;
}

static entry_id larger(entry_id best, entry_id id)
{
    return best && entry_at(best)->range.bytes >= entry_at(id)->range.bytes ? best : id;
}

static entry_id find_in_ring(const void *site, size_t bytes, size_t max_bytes)
{
    entry_id best = 0;

    for (unsigned class = class_of(bytes); !best && class <= class_of(max_bytes); class++) {
        const entry_id *ring = ring_of(site, class);
        for (unsigned i = 0; i < HK_BIGCACHE_RING_SLOTS && ring[i]; i++) {
            if (entry_at(ring[i])->range.site == site && fits(ring[i], bytes, max_bytes))
                best = smaller(best, ring[i]);
        }
    }
    return best;
}

/* A perfect fit ends the search, so that equal sizes never walk the list. */
static entry_id find_in_class(unsigned class, size_t bytes, size_t max_bytes)
{
    entry_id best = 0;

    for (entry_id id = hk_bigcache_global.class_first[class]; id; id = entry_at(id)->next) {
        if (fits(id, bytes, max_bytes))
            best = smaller(best, id);
        if (best && entry_at(best)->range.bytes == bytes)
            break;
    }
    return best;
}

/* Anything in a higher class is larger than anything in a lower one. */
static entry_id find_shared(size_t bytes, size_t max_bytes)
{
    entry_id best = 0;

    for (unsigned class = class_of(bytes); !best && class <= class_of(max_bytes); class++)
        best = find_in_class(class, bytes, max_bytes);
    return best;
}

static bool take_locked(const void *site, size_t bytes, size_t max_bytes, struct hk_big_range *out)
{
    size_t *counter = &hk_bigcache_global.counters.hits_site;
    entry_id id = find_in_ring(site, bytes, max_bytes);

    if (!id) {
        counter = &hk_bigcache_global.counters.hits_shared;
        id = find_shared(bytes, max_bytes);
    }
    if (!id)
        counter = &hk_bigcache_global.counters.misses;
    hk_count_add(counter, 1);
    if (id)
        remove_entry(id, out);
    return id != 0;
}

bool hk_bigcache_take(const void *site, size_t bytes, size_t max_bytes, struct hk_big_range *out)
{
    if (hk_load_relaxed(&hk_config.disable_bigcache))
        return false;
    hk_lock(&hk_bigcache_global.lock);
    bool taken = take_locked(site, bytes, max_bytes, out);
    hk_unlock(&hk_bigcache_global.lock);
    return taken;
}

static entry_id find_largest_below(size_t min_bytes, size_t bytes)
{
    entry_id best = 0;

    for (unsigned class = class_of(bytes) + 1; !best && class > class_of(min_bytes); class--) {
        for (entry_id id = hk_bigcache_global.class_first[class - 1]; id; id = entry_at(id)->next) {
            if (fits(id, min_bytes, bytes - 1))
                best = larger(best, id);
        }
    }
    return best;
}

bool hk_bigcache_take_part(size_t min_bytes, size_t bytes, struct hk_big_range *out)
{
    if (hk_load_relaxed(&hk_config.disable_bigcache) || bytes <= min_bytes)
        return false;
    hk_lock(&hk_bigcache_global.lock);
    entry_id id = find_largest_below(min_bytes, bytes);
    if (id) {
        remove_entry(id, out);
        hk_count_add(&hk_bigcache_global.counters.hits_part, 1);
    }
    hk_unlock(&hk_bigcache_global.lock);
    return id != 0;
}

/*
 * put, and what makes room
 */

static bool is_acceptable(const struct hk_big_range *range)
{
    return !hk_load_relaxed(&hk_config.disable_bigcache) && range->bytes >= HK_BIGCACHE_MIN_BYTES &&
           range->bytes <= budget();
}

static void collect_until_room(size_t bytes, struct victims *victims)
{
    while (victims->nr < NR_VICTIMS && oldest() && !has_room(bytes)) {
        collect_oldest(victims);
        hk_count_add(&hk_bigcache_global.counters.evictions_budget, 1);
    }
}

/* Until it is in or turns out not to be acceptable: the budget may shrink while the lock is off. */
bool hk_bigcache_put(const struct hk_big_range *range)
{
    for (;;) {
        struct victims victims = {.nr = 0};
        hk_bigcache_evict_fn evict;

        hk_lock(&hk_bigcache_global.lock);
        evict = hk_bigcache_global.evict;
        bool accepted = is_acceptable(range) && (evict || has_room(range->bytes));
        if (accepted)
            collect_until_room(range->bytes, &victims);
        bool done = !accepted || has_room(range->bytes);
        if (accepted && done)
            insert(range);
        hk_unlock(&hk_bigcache_global.lock);

        evict_all(&victims, evict, NULL);
        if (done)
            return accepted;
    }
}

void hk_bigcache_set_evict(hk_bigcache_evict_fn evict)
{
    hk_lock(&hk_bigcache_global.lock);
    hk_bigcache_global.evict = evict;
    hk_unlock(&hk_bigcache_global.lock);
}

/* Relaxed: a bound that is late by one put is as good. */
void hk_bigcache_set_budget(size_t bytes)
{
    hk_store_relaxed(&hk_bigcache_global.budget_bytes, bytes);
}

static bool is_expired(uint64_t now_ns)
{
    entry_id id = oldest();
    uint64_t age_ns = (uint64_t)hk_load_relaxed(&hk_config.bigcache_age_ms) * 1000000;

    if (!id)
        return false;
    uint64_t freed_ns = entry_at(id)->range.freed_ns;
    return now_ns > freed_ns && now_ns - freed_ns > age_ns; /* another CPU's clock may be ahead */
}

void hk_bigcache_expire(uint64_t now_ns, hk_bigcache_evict_fn evict, void *arg)
{
    struct victims victims;

    do {
        victims.nr = 0;
        hk_lock(&hk_bigcache_global.lock);
        while (victims.nr < NR_VICTIMS && is_expired(now_ns)) {
            collect_oldest(&victims);
            hk_count_add(&hk_bigcache_global.counters.evictions_age, 1);
        }
        hk_unlock(&hk_bigcache_global.lock);
        evict_all(&victims, evict, arg);
    } while (victims.nr == NR_VICTIMS);
}

size_t hk_bigcache_trim(size_t keep_bytes, hk_bigcache_evict_fn evict, void *arg)
{
    struct victims victims;
    size_t evicted_bytes = 0;

    do {
        victims.nr = 0;
        hk_lock(&hk_bigcache_global.lock);
        while (victims.nr < NR_VICTIMS && hk_bigcache_global.counters.bytes > keep_bytes) {
            evicted_bytes += entry_at(oldest())->range.bytes;
            collect_oldest(&victims);
            hk_count_add(&hk_bigcache_global.counters.evictions_budget, 1);
        }
        hk_unlock(&hk_bigcache_global.lock);
        evict_all(&victims, evict, arg);
    } while (victims.nr == NR_VICTIMS);
    return evicted_bytes;
}

size_t hk_bigcache_bytes(void)
{
    return hk_load_relaxed(&hk_bigcache_global.counters.bytes);
}

void hk_bigcache_each(void (*fn)(const struct hk_big_range *range, void *arg), void *arg)
{
    hk_lock(&hk_bigcache_global.lock);
    for (entry_id id = oldest(); id; id = entry_at(id)->newer)
        fn(&entry_at(id)->range, arg);
    hk_unlock(&hk_bigcache_global.lock);
}

const struct hk_bigcache_counters *hk_bigcache_counters(void)
{
    return &hk_bigcache_global.counters;
}

/*
 * Invariants. Lock held; lengths are bounded, so that a broken list ends.
 */

static void expect(bool holds, const char *what)
{
    if (!holds)
        hk_panic_internal(what, &hk_bigcache_global);
}

static void check_age_list(void)
{
    unsigned nr = 0;
    size_t bytes = 0;

    for (entry_id id = oldest(); id && nr <= NR_ENTRIES; id = entry_at(id)->newer, nr++) {
        expect(entry_at(entry_at(id)->newer)->older == id, "bigcache: age list");
        bytes += entry_at(id)->range.bytes;
    }
    expect(nr == hk_bigcache_global.nr_cached, "bigcache: entries on the age list");
    expect(bytes == hk_bigcache_global.counters.bytes, "bigcache: cached bytes");
}

static void check_class_lists(void)
{
    unsigned nr = 0;

    for (unsigned class = 0; class < NR_CLASSES; class++) {
        for (entry_id id = hk_bigcache_global.class_first[class]; id && nr <= NR_ENTRIES;
             id = entry_at(id)->next, nr++)
            expect(class_of(entry_at(id)->range.bytes) == class, "bigcache: class list");
    }
    expect(nr == hk_bigcache_global.nr_cached, "bigcache: entries on the class lists");
}

static void check_free_list(void)
{
    unsigned nr = 0;

    entry_id id = hk_bigcache_global.free_first;

    for (; id && nr <= NR_ENTRIES; id = entry_at(id)->next)
        nr++;
    expect(nr + hk_bigcache_global.nr_cached == hk_bigcache_global.nr_touched,
           "bigcache: entries free and cached");
}

/* Marks in `seen` what is cached; a ring may hold nothing else, and nothing twice. */
static void check_rings(void)
{
    bool seen[NR_ENTRIES] = {false};

    for (entry_id id = oldest(); id; id = entry_at(id)->newer)
        seen[id] = true;
    for (unsigned row = 0; row < NR_SITES; row++) {
        for (unsigned class = 0; class < NR_CLASSES; class++) {
            const entry_id *ring = hk_bigcache_ring[row][class];
            for (unsigned i = 0; i < HK_BIGCACHE_RING_SLOTS && ring[i]; i++) {
                const struct hk_big_range *r = &entry_at(ring[i])->range;
                expect(seen[ring[i]], "bigcache: stale ring slot");
                expect(ring_of(r->site, class_of(r->bytes)) == ring, "bigcache: ring slot");
                seen[ring[i]] = false;
            }
        }
    }
}

static bool overlap(const struct hk_big_range *a, const struct hk_big_range *b)
{
    uintptr_t x = (uintptr_t)a->base, y = (uintptr_t)b->base;

    return x < y ? y - x < a->bytes : x - y < b->bytes;
}

static void check_overlap(void)
{
    for (entry_id a = oldest(); a; a = entry_at(a)->newer) {
        for (entry_id b = entry_at(a)->newer; b; b = entry_at(b)->newer)
            expect(!overlap(&entry_at(a)->range, &entry_at(b)->range), "bigcache: overlap");
    }
}

void hk_bigcache_check(void)
{
    hk_lock(&hk_bigcache_global.lock);
    check_age_list(); /* first: the others walk that list */
    check_class_lists();
    check_free_list();
    check_rings();
    check_overlap();
    hk_unlock(&hk_bigcache_global.lock);
}

struct hk_lock *hk_bigcache_lock(void)
{
    return &hk_bigcache_global.lock;
}

void hk_bigcache_forget(void)
{
    memset(hk_bigcache_entry, 0, sizeof hk_bigcache_entry);
    memset(hk_bigcache_ring, 0, sizeof hk_bigcache_ring);
    memset(hk_bigcache_global.class_first, 0, sizeof hk_bigcache_global.class_first);
    hk_bigcache_global.free_first = 0;
    hk_bigcache_global.nr_cached = hk_bigcache_global.nr_touched = 0;
    hk_store_relaxed(&hk_bigcache_global.counters.bytes, (size_t)0);
}
