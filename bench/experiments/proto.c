/* SPDX-License-Identifier: MIT */
// Over 900 lines because every variant of an experiment is built from one file, so that nothing else differs.
/*
 * proto.c - a throw-away allocator that exists to be measured.
 *
 * One file, compile-time switches, LD_PRELOAD. Each switch is one design
 * question; the variants share every slow path they can, so that a difference
 * between two builds is the difference between two designs. It is no part of
 * the library, returns no memory to the OS before exit and has no learning.
 *
 *   EXP_CACHE         0 owner-checked LIFO magazines of pointers
 *                     1 page-local lists linked through the blocks
 *   EXP_MAP           0 two-level page map, root of offsets from a zero leaf
 *                     1 flat page map, one NORESERVE reservation
 *   EXP_SLAB_SHIFT    log2 of the slab bytes for classes <= 256 B
 *   EXP_CHECK         0 none
 *                     1 keyed mark in the dead block + reciprocal start test
 *                     2 side bitmap of live block starts, a bit per 16 bytes
 *                     3 side byte map of live block starts, a byte per 16 bytes
 *                     4 keyed mark alone: interior pointers pass
 *   EXP_COLOUR        1: blocks >= 4 KiB lie 64 bytes further apart
 *                     2: and the slabs of those classes start at rotating lines
 *   EXP_MAG_MAX       slots that a magazine may grow to, within 128 KiB of blocks
 *   EXP_REMOTE_BATCH  blocks per push onto the owner's inbox
 *                     (1: the block itself is the link, no array)
 *   EXP_REMOTE_BYTES  a remote batch is sent at the latest when it holds this
 *   EXP_ADDRESS_BITS  what the page map covers; valgrind refuses the flat one
 *                     unless it is small (the fast paths do not depend on it)
 *
 * Build: cc -O2 -fPIC -shared -fvisibility=hidden -fno-builtin-malloc
 *        -ftls-model=initial-exec proto.c -o proto.so
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef EXP_CACHE
#define EXP_CACHE 0
#endif
#ifndef EXP_MAP
#define EXP_MAP 0
#endif
#ifndef EXP_SLAB_SHIFT
#define EXP_SLAB_SHIFT 14
#endif
#ifndef EXP_CHECK
#define EXP_CHECK 0
#endif
#ifndef EXP_COLOUR
#define EXP_COLOUR 0
#endif
#ifndef EXP_MAG_MAX
#define EXP_MAG_MAX 1024
#endif
#ifndef EXP_ADDRESS_BITS
#define EXP_ADDRESS_BITS 47
#endif
#ifndef EXP_REMOTE_BATCH
#define EXP_REMOTE_BATCH 62
#endif
#ifndef EXP_REMOTE_BYTES
#define EXP_REMOTE_BYTES 65536
#endif

#define EXPORT __attribute__((visibility("default")))
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((noinline, cold))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
_Static_assert(EXP_COLOUR != 2 || (EXP_CHECK != 1), "the start test wants slabs without offset");
/* Forces an address into one register: both cursors are then reached base-only. */
#define IN_REGISTER(x) __asm__("" : "+r"(x))

enum {
    CACHE_LOCAL = EXP_CACHE == 1,
    CHECK_MARK = EXP_CHECK == 1 || EXP_CHECK == 4,
    CHECK_START = EXP_CHECK == 1,
    CHECK_MAP = EXP_CHECK == 2 || EXP_CHECK == 3,
    CHECK_BYTES = EXP_CHECK == 3,
    REMOTE_CHAIN = EXP_REMOTE_BATCH == 1,

    GRANULE_SHIFT = 14,
    LEAF_SHIFT = 30,
    LEAF_GRANULES = 1 << (LEAF_SHIFT - GRANULE_SHIFT),
    ADDRESS_BITS = EXP_ADDRESS_BITS,

    NR_CLASSES = 81, /* class 0 is never used: its magazine is always empty */
    MAX_SMALL = 65536,
    COLOUR_MIN = 4096,
    SLAB_SHIFT_MID = 15,
    SPAN_SHIFT_MAX = 20,

    MAG_INITIAL = 32,
    MAG_MAX = EXP_MAG_MAX,
    MAG_MIN_CAP = 8,
    MAG_CAP_BYTES = 128 * 1024,
    DRAIN_BLOCKS = 512, /* per refill: no malloc pauses for longer */
    NR_OUT = 8,
    NODE_LOT = 8,
};

struct heap;

/* ---- classes ----------------------------------------------------------- */

/* 16 apart to 256, 32 to 512, 64 to 1 KiB, then 8 per doubling to 64 KiB. */
struct class_info {
    uint64_t magic;  /* ceil(2^64 / stride) */
    uint32_t size;   /* bytes a caller may use */
    uint32_t stride; /* bytes from block to block */
    uint32_t nr_blocks;
    uint16_t capacity_max; /* magazine slots */
    uint8_t slab_shift;
};

static uint8_t class_of[MAX_SMALL / 16 + 1]; /* zero before init: class 0 */
static struct class_info classes[NR_CLASSES];
static uint64_t mark_key;

/* ---- data -------------------------------------------------------------- */

/*
 * A page-map word is token | class * MAG_STRIDE, so that word - token is the
 * byte offset of the magazine. Zero is foreign memory, WORD_LARGE a mapping.
 */
#define TOKEN_SHIFT 13
#define WORD_LARGE 1u
#define TOKEN_NONE 0xffffe000u /* matches no word: heap ids stay below it */

struct mag {
    void **top; /* next free slot */
    void **end;
    void **base;
    uint32_t misses;
    uint32_t capacity;
#if EXP_CHECK == 1
    uint64_t magic;
    uint64_t mask;
    uint64_t pad[2];
#endif
};
#define MAG_STRIDE ((uint32_t)sizeof(struct mag))
_Static_assert(NR_CLASSES * sizeof(struct mag) < 1u << TOKEN_SHIFT, "word");

/* First 40 bytes: all that a page-local malloc or free touches. */
struct slab {
    void *free;         /* page-local only: blocks linked through their first word */
    struct heap *owner; /* page-local only: low bit set while the slab is full */
    uint64_t magic;
    char *base;
    uint32_t used;   /* page-local: live blocks, + 1 while active. magazine: blocks out */
    uint32_t carved; /* page-local only */
    struct slab *next, *prev;
    uint16_t class;
    uint8_t queued;
    uint32_t hint;   /* no set bit below this word */
    uint64_t bits[]; /* magazine only: set = in the slab */
};
_Static_assert(sizeof(struct slab) == 64, "one line");

struct queue {
    struct slab *head, *tail;
};

struct node {
    struct node *next;
    uint32_t nr, bytes;
    void *block[EXP_REMOTE_BATCH];
};

struct outbox {
    struct heap *owner;
    struct node *node;
};

struct heap {
    union {
        struct mag mag[NR_CLASSES];
        struct slab *active[NR_CLASSES];
    };
    uint32_t token;
    uint32_t nr_nodes;
    struct node *nodes; /* spare ones */
    struct node *arrived;
    struct outbox out[NR_OUT];
    struct heap *next_parked;
    uint32_t ticks;
    uint32_t colour;
    struct queue partial[NR_CLASSES];
    /* Its own line: the only field that other threads write. */
    _Alignas(64) struct node *inbox;
    _Alignas(64) void *slots[NR_CLASSES * MAG_INITIAL];
};

struct large {
    char *base;
    size_t bytes;
    struct large *next;
};

static struct slab empty_slab;
#if EXP_CACHE == 1
static struct heap empty_heap = {
    .active = { [0 ... NR_CLASSES - 1] = &empty_slab }, .token = TOKEN_NONE
};
#else
static struct heap empty_heap = { .token = TOKEN_NONE };
#endif
static __thread struct heap *tls_heap = &empty_heap;

static pthread_mutex_t central = PTHREAD_MUTEX_INITIALIZER; /* everything below */
static struct heap *heaps[1 << 16];
static uint32_t nr_heaps;
static struct heap *parked;
static struct slab *spare_slabs[NR_CLASSES];
static struct node *spare_nodes;
static struct { void **at; size_t nr; } spans[SPAN_SHIFT_MAX + 1];
static char *region_next, *region_end, *meta_next, *meta_end;
static struct large *spare_larges, *cached;
static size_t cached_bytes;
static unsigned nr_cached;
static pthread_key_t exit_key;
static bool initialised;

/* ---- page map ---------------------------------------------------------- */

struct leaf {
    uint32_t word[LEAF_GRANULES];
    struct slab *desc[LEAF_GRANULES];
};
/* The live map of a leaf lies right behind it, lazily committed. */
#define LIVE_BYTES \
    (EXP_CHECK == 2 ? 1ul << (LEAF_SHIFT - 7) : EXP_CHECK == 3 ? 1ul << (LEAF_SHIFT - 4) : 0)

static struct {
    struct leaf zero;
    intptr_t root[1 << (ADDRESS_BITS - LEAF_SHIFT)]; /* from &zero: 0 is the zero leaf */
} pm;

static uint32_t flat_zero_word;
static struct slab *flat_zero_desc;
static uint32_t *flat_word = &flat_zero_word;
static struct slab **flat_desc = &flat_zero_desc;
static char *flat_live;

static inline struct leaf *leaf_of(uintptr_t p)
{
    char *leaf = (char *)&pm + pm.root[p >> LEAF_SHIFT];
    IN_REGISTER(leaf);
    return (struct leaf *)leaf;
}

static inline uint32_t *word_at(uintptr_t p)
{
    if (EXP_MAP == 1)
        return &flat_word[p >> GRANULE_SHIFT];
    return &leaf_of(p)->word[(p >> GRANULE_SHIFT) & (LEAF_GRANULES - 1)];
}

static inline struct slab **desc_at(uintptr_t p)
{
    if (EXP_MAP == 1)
        return &flat_desc[p >> GRANULE_SHIFT];
    return &leaf_of(p)->desc[(p >> GRANULE_SHIFT) & (LEAF_GRANULES - 1)];
}

static inline char *live_base(uintptr_t p)
{
    return EXP_MAP == 1 ? flat_live : (char *)(leaf_of(p) + 1);
}

static inline uint64_t *live_bits(uintptr_t p)
{
    uintptr_t i = p >> 10;
    return (uint64_t *)live_base(p) + (EXP_MAP == 1 ? i : i & ((1u << (LEAF_SHIFT - 10)) - 1));
}

static inline char *live_byte(uintptr_t p)
{
    uintptr_t i = p >> 4;
    return live_base(p) + (EXP_MAP == 1 ? i : i & ((1u << (LEAF_SHIFT - 4)) - 1));
}

/* ---- misuse checks ----------------------------------------------------- */

static COLD void misuse(void)
{
    static const char text[] = "proto: double free or not the start of a block\n";
    if (write(2, text, sizeof text - 1) < 0)
        _exit(127);
    __builtin_trap();
}

/* On every block handed out. Only the owner of the block's slab runs this. */
static inline void check_alloc(void *block)
{
    uintptr_t p = (uintptr_t)block;
    if (CHECK_MARK)
        ((uint64_t *)block)[1] = 0;
    if (CHECK_MAP && CHECK_BYTES)
        *live_byte(p) = 1;
    if (CHECK_MAP && !CHECK_BYTES) {
        uint64_t *at = live_bits(p), w = *at;
        __asm__("btsq %1, %0" : "+r"(w) : "r"(p >> 4) : "cc");
        *at = w;
    }
}

/*
 * On every free by the owner: true if the block was live. offset is the block's
 * from the start of its slab; only the mark looks at it. A plain read-modify-
 * write may undo a remote thread's clear of a neighbouring bit: that can hide a
 * second remote free, never accuse an honest one.
 */
static inline bool check_free(void *block, uint64_t offset, uint64_t magic)
{
    uintptr_t p = (uintptr_t)block;
    if (CHECK_MARK) {
        uint64_t mark = mark_key ^ p;
        if (CHECK_START && UNLIKELY(offset * magic >= magic))
            return false;
        if (UNLIKELY(((uint64_t *)block)[1] == mark))
            return false;
        ((uint64_t *)block)[1] = mark;
    }
    if (CHECK_MAP && CHECK_BYTES) {
        char *at = live_byte(p);
        if (UNLIKELY(p & 15) || UNLIKELY(!*at))
            return false;
        *at = 0;
    }
    if (CHECK_MAP && !CHECK_BYTES) {
        uint64_t *at = live_bits(p), w = *at;
        bool was;
        if (UNLIKELY(p & 15))
            return false;
        __asm__("btrq %2, %0" : "+r"(w), "=@ccc"(was) : "r"(p >> 4));
        if (UNLIKELY(!was))
            return false;
        *at = w;
    }
    return true;
}

static bool check_free_remote(void *block, const struct class_info *c)
{
    uintptr_t p = (uintptr_t)block;
    if (CHECK_MAP && !CHECK_BYTES) {
        uint64_t bit = 1ull << ((p >> 4) & 63);
        return !(p & 15) && (__atomic_fetch_and(live_bits(p), ~bit, __ATOMIC_RELAXED) & bit);
    }
    if (CHECK_MAP)
        return !(p & 15) && __atomic_exchange_n(live_byte(p), 0, __ATOMIC_RELAXED);
    return check_free(block, p & ((1ul << c->slab_shift) - 1), c->magic);
}

/* ---- memory from the OS ------------------------------------------------ */

static void *os_map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void *os_map_aligned(size_t bytes, size_t align)
{
    char *p = os_map(bytes + align);
    if (!p)
        return NULL;
    char *start = (char *)(((uintptr_t)p + align - 1) & -align);
    if (start > p)
        munmap(p, (size_t)(start - p));
    munmap(start + bytes, (size_t)(p + align - start));
    return start;
}

static void *meta_alloc(size_t bytes)
{
    bytes = (bytes + 63) & ~63ul;
    if ((size_t)(meta_end - meta_next) < bytes) {
        size_t chunk = bytes > 1 << 20 ? bytes : 1 << 20;
        if (!(meta_next = os_map(chunk))) {
            meta_end = NULL;
            return NULL;
        }
        meta_end = meta_next + chunk;
    }
    void *p = meta_next;
    meta_next += bytes;
    return p;
}

static bool map_init(void)
{
    if (EXP_MAP != 1)
        return true;
    size_t n = 1ul << (ADDRESS_BITS - GRANULE_SHIFT);
    void *w = os_map(n * sizeof *flat_word), *d = os_map(n * sizeof *flat_desc);
    if (!w || !d)
        return false;
    if (CHECK_MAP && !(flat_live = os_map(1ul << (ADDRESS_BITS - (CHECK_BYTES ? 4 : 7)))))
        return false;
    flat_word = w;
    flat_desc = d;
    return true;
}

static bool map_ensure_leaf(uintptr_t p)
{
    if (EXP_MAP == 1 || pm.root[p >> LEAF_SHIFT])
        return true;
    char *leaf = os_map(sizeof(struct leaf) + LIVE_BYTES);
    if (!leaf)
        return false;
    __atomic_store_n(&pm.root[p >> LEAF_SHIFT], leaf - (char *)&pm, __ATOMIC_RELEASE);
    return true;
}

static bool map_set(char *base, size_t bytes, uint32_t word, void *desc)
{
    for (uintptr_t p = (uintptr_t)base; p < (uintptr_t)base + bytes; p += 1 << GRANULE_SHIFT) {
        if (!map_ensure_leaf(p))
            return false;
        *desc_at(p) = desc;
        __atomic_store_n(word_at(p), word, __ATOMIC_RELAXED);
    }
    return true;
}

/* Spans: powers of two from 16 KiB to 1 MiB, aligned to their size; split, never merged. */
static void span_push(char *p, unsigned shift)
{
    if (!spans[shift].at && !(spans[shift].at = os_map(8ul << 20)))
        return;
    spans[shift].at[spans[shift].nr++] = p;
}

static void span_push_range(char *p, char *end)
{
    while (end - p >= 1 << GRANULE_SHIFT) {
        unsigned shift = GRANULE_SHIFT;
        while (shift < SPAN_SHIFT_MAX && !((uintptr_t)p >> shift & 1)
               && end - p >= (ptrdiff_t)2 << shift)
            shift++;
        span_push(p, shift);
        p += 1ul << shift;
    }
}

static char *span_alloc(unsigned shift)
{
    for (unsigned s = shift; s <= SPAN_SHIFT_MAX; s++) {
        if (!spans[s].nr)
            continue;
        char *p = spans[s].at[--spans[s].nr];
        span_push_range(p + (1ul << shift), p + (1ul << s));
        return p;
    }
    size_t bytes = 1ul << shift;
    char *p = (char *)(((uintptr_t)region_next + bytes - 1) & -bytes);
    if (!region_next || p + bytes > region_end) {
        span_push_range(region_next, region_end);
        size_t region = region_next ? 32ul << 20 : 4ul << 20;
        if (!(region_next = os_map_aligned(region, 1ul << SPAN_SHIFT_MAX)))
            return NULL;
        region_end = region_next + region;
        p = region_next;
    }
    span_push_range(region_next, p);
    region_next = p + bytes;
    return p;
}

/* ---- start-up ---------------------------------------------------------- */

static void class_define(unsigned i, uint32_t size)
{
    struct class_info *c = &classes[i];
    c->size = size;
    c->stride = size + (EXP_COLOUR && size >= COLOUR_MIN ? 64 : 0);
    c->slab_shift = size <= 256 ? EXP_SLAB_SHIFT : SLAB_SHIFT_MID;
    while (1ul << c->slab_shift < 8ul * size)
        c->slab_shift++;
    c->nr_blocks = (1u << c->slab_shift) / c->stride;
    c->magic = UINT64_MAX / c->stride + 1;
    uint32_t cap = MAG_CAP_BYTES / size;
    c->capacity_max = (uint16_t)(cap < MAG_MIN_CAP ? MAG_MIN_CAP : cap > MAG_MAX ? MAG_MAX : cap);
}

static void classes_init(void)
{
    unsigned i = 1;
    for (uint32_t size = 16, step = 16; size <= MAX_SMALL; size += step) {
        class_define(i++, size);
        if (size >= 256 && !(size & (size - 1)))
            step = size / 8;
    }
    for (size_t s = 0, c = 1; s <= MAX_SMALL; s += 16) {
        if (s > classes[c].size)
            c++;
        class_of[s / 16] = (uint8_t)c;
    }
}

static void heap_park(void *arg);
static void lock_central(void) { pthread_mutex_lock(&central); }
static void unlock_central(void) { pthread_mutex_unlock(&central); }

static bool init_locked(void)
{
    struct timespec now;
    if (initialised)
        return true;
    if (!map_init())
        return false;
    classes_init();
    clock_gettime(CLOCK_MONOTONIC, &now);
    mark_key = ((uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15ull) ^ (uintptr_t)&now;
    initialised = pthread_key_create(&exit_key, heap_park) == 0;
    return initialised;
}

__attribute__((constructor)) static void init_fork(void)
{
    pthread_atfork(lock_central, unlock_central, unlock_central);
}

static void heap_init(struct heap *h)
{
    h->token = ++nr_heaps << TOKEN_SHIFT;
    heaps[nr_heaps] = h;
    for (unsigned i = 1; i < NR_CLASSES; i++) {
        if (CACHE_LOCAL) {
            h->active[i] = &empty_slab;
            continue;
        }
        struct mag *m = &h->mag[i];
        m->capacity = classes[i].capacity_max < MAG_INITIAL ? classes[i].capacity_max : MAG_INITIAL;
        m->base = m->top = h->slots + i * MAG_INITIAL;
        m->end = m->base + m->capacity;
#if EXP_CHECK == 1
        m->magic = classes[i].magic;
        m->mask = (1ul << classes[i].slab_shift) - 1;
#endif
    }
}

/* This thread's heap; the first call adopts a parked one or makes one. */
static COLD struct heap *heap_get(void)
{
    struct heap *h = tls_heap;
    if (h != &empty_heap)
        return h;
    lock_central();
    if (!init_locked())
        h = NULL;
    else if ((h = parked))
        parked = h->next_parked;
    else if ((h = meta_alloc(sizeof *h)))
        heap_init(h);
    unlock_central();
    if (!h)
        return NULL;
    tls_heap = h;
    pthread_setspecific(exit_key, h);
    return h;
}

/* ---- slabs ------------------------------------------------------------- */

static void queue_add(struct queue *q, struct slab *s)
{
    s->next = NULL;
    s->prev = q->tail;
    *(q->tail ? &q->tail->next : &q->head) = s;
    q->tail = s;
    s->queued = 1;
}

static void queue_remove(struct queue *q, struct slab *s)
{
    *(s->prev ? &s->prev->next : &q->head) = s->next;
    *(s->next ? &s->next->prev : &q->tail) = s->prev;
    s->queued = 0;
}

static unsigned nr_words(const struct class_info *c)
{
    return CACHE_LOCAL ? 0 : (c->nr_blocks + 63) / 64;
}

/* Where the first block lies: slabs in a row use different lines of the cache's sets. */
static size_t slab_colour(struct heap *h, const struct class_info *c)
{
    if (EXP_COLOUR != 2 || c->size < COLOUR_MIN)
        return 0;
    size_t slack = (1ul << c->slab_shift) - (size_t)c->nr_blocks * c->stride;
    h->colour += c->nr_blocks;
    return h->colour % (slack / 64 + 1) * 64;
}

static struct slab *slab_new(struct heap *h, unsigned class)
{
    const struct class_info *c = &classes[class];
    lock_central();
    struct slab *s = spare_slabs[class];
    if (s)
        spare_slabs[class] = s->next;
    else
        s = meta_alloc(sizeof *s + nr_words(c) * 8);
    char *base = s ? span_alloc(c->slab_shift) : NULL;
    if (!base || !map_set(base, 1ul << c->slab_shift, h->token + class * MAG_STRIDE, s)) {
        unlock_central();
        return NULL;
    }
    unlock_central();
    base += slab_colour(h, c);
    *s = (struct slab){ .base = base, .magic = c->magic, .class = (uint16_t)class, .owner = h };
    for (unsigned w = 0; w < nr_words(c); w++)
        s->bits[w] = ~0ull;
    if (nr_words(c) && c->nr_blocks & 63)
        s->bits[nr_words(c) - 1] = (1ull << (c->nr_blocks & 63)) - 1;
    return s;
}

static void slab_release(struct slab *s)
{
    const struct class_info *c = &classes[s->class];
    char *span = (char *)((uintptr_t)s->base & -(1ul << c->slab_shift));
    lock_central();
    map_set(span, 1ul << c->slab_shift, 0, NULL);
    span_push(span, c->slab_shift);
    s->next = spare_slabs[s->class];
    spare_slabs[s->class] = s;
    unlock_central();
}

/* An empty slab leaves its heap unless it is the last one of its class there. */
static void slab_emptied(struct heap *h, struct slab *s)
{
    struct queue *q = &h->partial[s->class];
    if (q->head == q->tail)
        return;
    queue_remove(q, s);
    slab_release(s);
}

/* ---- blocks between slab and cache ------------------------------------- */

/* Magazine: takes at most want blocks in address order. */
static unsigned slab_take(struct slab *s, const struct class_info *c, void **out, unsigned want)
{
    unsigned got = 0, w = s->hint, end = nr_words(c);
    for (; w < end; w++) {
        uint64_t bits = s->bits[w];
        for (; bits && got < want; bits &= bits - 1)
            out[got++] = s->base + (w * 64ul + (unsigned)__builtin_ctzll(bits)) * c->stride;
        s->bits[w] = bits;
        if (got == want)
            break;
    }
    s->hint = w;
    s->used += got;
    return got;
}

static inline void slab_put(struct heap *h, struct slab *s, const struct class_info *c, void *p)
{
    uint64_t off = (uint64_t)((char *)p - s->base);
    unsigned i = (unsigned)(((unsigned __int128)off * c->magic) >> 64);
    s->bits[i / 64] |= 1ull << (i & 63);
    if (s->hint > i / 64)
        s->hint = i / 64;
    s->used--;
    if (UNLIKELY(!s->queued))
        queue_add(&h->partial[s->class], s);
    if (UNLIKELY(!s->used))
        slab_emptied(h, s);
}

static NOINLINE bool local_free_slow(struct heap *h, struct slab *s)
{
    if (s->owner != h) { /* was full */
        s->owner = h;
        queue_add(&h->partial[s->class], s);
    }
    if (!s->used)
        slab_emptied(h, s);
    return true;
}

/* Page-local: gives a block back to its slab, whatever state that is in. */
static inline void local_put(struct heap *h, struct slab *s, void *p)
{
    *(void **)p = s->free;
    s->free = p;
    if (UNLIKELY(--s->used == 0) || UNLIKELY(s->owner != h))
        local_free_slow(h, s);
}

static void block_return(struct heap *h, void *p)
{
    struct slab *s = *desc_at((uintptr_t)p);
    if (CACHE_LOCAL) {
        local_put(h, s, p);
        return;
    }
    struct mag *m = &h->mag[s->class];
    if (m->top < m->end)
        *m->top++ = p;
    else
        slab_put(h, s, &classes[s->class], p);
}

/* ---- remote frees ------------------------------------------------------ */

static void inbox_push(struct heap *owner, struct node *n)
{
    /* Release: pairs with the owner's acquire in heap_drain, publishes *n. */
    n->next = __atomic_load_n(&owner->inbox, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&owner->inbox, &n->next, n, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        ;
}

/* Spare nodes move between heaps and the central stack in lots. */
static struct node *node_get(struct heap *h)
{
    if (!h->nodes) {
        lock_central();
        for (unsigned i = 0; i < NODE_LOT; i++) {
            struct node *n = spare_nodes;
            if (n)
                spare_nodes = n->next;
            else if (!(n = meta_alloc(sizeof *n)))
                break;
            n->next = h->nodes;
            h->nodes = n;
            h->nr_nodes++;
        }
        unlock_central();
    }
    struct node *n = h->nodes;
    if (n) {
        h->nodes = n->next;
        h->nr_nodes--;
        n->nr = n->bytes = 0;
    }
    return n;
}

static void node_put(struct heap *h, struct node *n)
{
    n->next = h->nodes;
    h->nodes = n;
    if (++h->nr_nodes < 2 * NODE_LOT)
        return;
    lock_central();
    for (unsigned i = 0; i < NODE_LOT; i++) {
        n = h->nodes;
        h->nodes = n->next;
        h->nr_nodes--;
        n->next = spare_nodes;
        spare_nodes = n;
    }
    unlock_central();
}

static void outbox_flush(struct outbox *o)
{
    if (o->node && o->node->nr) {
        inbox_push(o->owner, o->node);
        o->node = NULL;
    }
}

static void remote_free(struct heap *h, void *p, struct heap *owner, uint32_t bytes)
{
    if (REMOTE_CHAIN) {
        inbox_push(owner, p); /* the block's first word is the link */
        return;
    }
    struct outbox *o = &h->out[(owner->token >> TOKEN_SHIFT) % NR_OUT];
    if (UNLIKELY(o->owner != owner)) {
        outbox_flush(o);
        o->owner = owner;
    }
    struct node *n = o->node;
    if (UNLIKELY(!n) && !(n = o->node = node_get(h)))
        return; /* out of memory: a prototype may leak the block */
    n->block[n->nr++] = p;
    n->bytes += bytes;
    if (n->nr == EXP_REMOTE_BATCH || n->bytes >= EXP_REMOTE_BYTES)
        outbox_flush(o);
}

/* Runs in refill only. Takes the whole inbox, hands on DRAIN_BLOCKS at a time. */
static void heap_drain(struct heap *h)
{
    if (!h->arrived) {
        if (LIKELY(!__atomic_load_n(&h->inbox, __ATOMIC_RELAXED)))
            return;
        h->arrived = __atomic_exchange_n(&h->inbox, NULL, __ATOMIC_ACQUIRE);
    }
    for (unsigned nr = 0; h->arrived && nr < DRAIN_BLOCKS;) {
        struct node *n = h->arrived;
        h->arrived = n->next;
        if (REMOTE_CHAIN) {
            block_return(h, n);
            nr++;
            continue;
        }
        for (unsigned i = 0; i < n->nr; i++)
            block_return(h, n->block[i]);
        nr += n->nr;
        node_put(h, n);
    }
}

/* ---- magazines --------------------------------------------------------- */

/* Repeated misses double a magazine up to its cap. The old slots are lost. */
static bool mag_grow(struct mag *m, const struct class_info *c)
{
    if (m->capacity >= c->capacity_max || ++m->misses < 2)
        return false;
    uint32_t capacity = m->capacity * 2 > c->capacity_max ? c->capacity_max : m->capacity * 2;
    size_t n = (size_t)(m->top - m->base);
    lock_central();
    void **slots = meta_alloc(capacity * sizeof *slots);
    unlock_central();
    if (!slots)
        return false;
    memcpy(slots, m->base, n * sizeof *slots);
    m->base = slots;
    m->top = slots + n;
    m->end = slots + capacity;
    m->capacity = capacity;
    m->misses = 0;
    return true;
}

static void mag_flush(struct heap *h, unsigned class, size_t n)
{
    struct mag *m = &h->mag[class];
    const struct class_info *c = &classes[class];
    for (size_t i = 0; i < n; i++)
        slab_put(h, *desc_at((uintptr_t)m->base[i]), c, m->base[i]);
    size_t left = (size_t)(m->top - m->base) - n;
    memmove(m->base, m->base + n, left * sizeof *m->base);
    m->top = m->base + left;
}

static bool mag_refill(struct heap *h, unsigned class)
{
    struct mag *m = &h->mag[class];
    const struct class_info *c = &classes[class];
    struct queue *q = &h->partial[class];
    heap_drain(h);
    if (m->top != m->base)
        return true;
    mag_grow(m, c);
    unsigned want = (m->capacity + 1) / 2, got = 0;
    while (got < want) {
        struct slab *s = q->head;
        if (!s) {
            if (got || !(s = slab_new(h, class)))
                break;
            queue_add(q, s);
        }
        got += slab_take(s, c, m->base + got, want - got);
        if (s->used == c->nr_blocks)
            queue_remove(q, s);
    }
    /* Lowest address on top: the first blocks handed out are neighbours. */
    for (unsigned i = 0, j = got; i + 1 < j; i++) {
        void *t = m->base[--j];
        m->base[j] = m->base[i];
        m->base[i] = t;
    }
    m->top = m->base + got;
    return got != 0;
}

static NOINLINE void mag_full(struct heap *h, struct mag *m, void *p)
{
    unsigned class = (unsigned)(m - h->mag);
    if (!mag_grow(m, &classes[class]))
        mag_flush(h, class, (m->capacity + 1) / 2);
    *m->top++ = p;
}

/* ---- page-local lists -------------------------------------------------- */

static void local_carve(struct slab *s, const struct class_info *c)
{
    uint32_t n = 4096 / c->stride < 16 ? 16 : 4096 / c->stride;
    if (n > c->nr_blocks - s->carved)
        n = c->nr_blocks - s->carved;
    char *p = s->base + (size_t)(s->carved + n) * c->stride;
    for (uint32_t i = 0; i < n; i++) {
        p -= c->stride;
        *(void **)p = s->free;
        s->free = p;
    }
    s->carved += n;
}

/* Makes h->active[class] a slab with a non-empty list. */
static bool local_refill(struct heap *h, unsigned class)
{
    const struct class_info *c = &classes[class];
    struct queue *q = &h->partial[class];
    heap_drain(h);
    struct slab *s = h->active[class];
    if (s->free)
        return true;
    if (s != &empty_slab) {
        if (s->carved < c->nr_blocks) {
            local_carve(s, c);
            return true;
        }
        s->used--;
        s->owner = (struct heap *)((uintptr_t)h | 1); /* full: its frees take the slow path */
        h->active[class] = &empty_slab;
    }
    if ((s = q->head))
        queue_remove(q, s);
    else if (!(s = slab_new(h, class)))
        return false;
    s->used++; /* an active slab never looks empty */
    if (!s->free)
        local_carve(s, c);
    h->active[class] = s;
    return true;
}

/* ---- thread exit ------------------------------------------------------- */

static void heap_park(void *arg)
{
    struct heap *h = arg;
    for (unsigned i = 0; i < NR_OUT; i++)
        outbox_flush(&h->out[i]);
    do
        heap_drain(h);
    while (h->arrived);
    for (unsigned i = 1; !CACHE_LOCAL && i < NR_CLASSES; i++)
        mag_flush(h, i, (size_t)(h->mag[i].top - h->mag[i].base));
    tls_heap = &empty_heap;
    lock_central();
    h->next_parked = parked;
    parked = h;
    unlock_central();
}

/* ---- large blocks ------------------------------------------------------ */

enum { CACHED_MAX = 16, CACHED_BYTES = 64 << 20 };

static struct large *cache_take(size_t bytes)
{
    for (struct large **l = &cached; *l; l = &(*l)->next) {
        struct large *found = *l;
        if (found->bytes < bytes || found->bytes > bytes + bytes / 4)
            continue;
        *l = found->next;
        cached_bytes -= found->bytes;
        nr_cached--;
        return found;
    }
    return NULL;
}

/* *zeroed: whether the pages are fresh from the OS. */
static NOINLINE void *large_alloc(size_t size, size_t align, bool *zeroed)
{
    size_t granule = 1ul << GRANULE_SHIFT, bytes = (size + !size + 4095) & ~4095ul;
    if (size > PTRDIFF_MAX - (1ul << 32) || align > 1ul << 40 || !heap_get()) {
        errno = ENOMEM;
        return NULL;
    }
    lock_central();
    struct large *l = align <= granule ? cache_take(bytes) : NULL;
    *zeroed = !l;
    if (!l) {
        if ((l = spare_larges))
            spare_larges = l->next;
        else
            l = meta_alloc(sizeof *l);
        if (l && !(l->base = os_map_aligned(bytes, align > granule ? align : granule))) {
            l->next = spare_larges;
            spare_larges = l;
            l = NULL;
        }
        if (l)
            l->bytes = bytes;
    }
    if (l && !map_set(l->base, 1, WORD_LARGE, l))
        l = NULL;
    unlock_central();
    if (!l)
        errno = ENOMEM;
    return l ? l->base : NULL;
}

static void large_free(void *p)
{
    struct large *l = (struct large *)*desc_at((uintptr_t)p);
    if (!l || l->base != p) {
        misuse();
        return;
    }
    lock_central();
    map_set(l->base, 1, 0, NULL);
    l->next = cached;
    cached = l;
    cached_bytes += l->bytes;
    nr_cached++;
    while (nr_cached > CACHED_MAX || (cached_bytes > CACHED_BYTES && cached)) {
        struct large **at = &cached;
        while ((*at)->next)
            at = &(*at)->next;
        struct large *old = *at;
        *at = NULL;
        nr_cached--;
        cached_bytes -= old->bytes;
        munmap(old->base, old->bytes);
        old->next = spare_larges;
        spare_larges = old;
    }
    unlock_central();
}

/* ---- entry ------------------------------------------------------------- */

static NOINLINE void *malloc_slow(size_t size)
{
    bool zeroed;
    if (size > MAX_SMALL)
        return large_alloc(size, 0, &zeroed);
    struct heap *h = heap_get();
    unsigned class = h ? class_of[(size + 15) / 16] : 0;
    void *p;
    if (!h || !(CACHE_LOCAL ? local_refill(h, class) : mag_refill(h, class))) {
        errno = ENOMEM;
        return NULL;
    }
    if ((++h->ticks & 15) == 0)
        for (unsigned i = 0; i < NR_OUT; i++)
            outbox_flush(&h->out[i]);
    if (CACHE_LOCAL) {
        struct slab *s = h->active[class];
        p = s->free;
        s->free = *(void **)p;
        s->used++;
    } else
        p = *--h->mag[class].top;
    check_alloc(p);
    return p;
}

static inline void *alloc(size_t size)
{
    if (UNLIKELY(size > MAX_SMALL))
        return malloc_slow(size);
    unsigned class = class_of[(size + 15) / 16];
    if (CACHE_LOCAL) {
        struct slab *s = tls_heap->active[class];
        void **p = s->free;
        if (UNLIKELY(!p))
            return malloc_slow(size);
        s->free = *p;
        s->used++;
        check_alloc(p);
        return p;
    }
    struct mag *m = &tls_heap->mag[class];
    IN_REGISTER(m);
    void **top = m->top;
    if (UNLIKELY(top == m->base))
        return malloc_slow(size);
    void *p = top[-1];
    m->top = top - 1;
    check_alloc(p);
    return p;
}

/* NULL, another heap's, large, full page-local slab. */
static NOINLINE void free_slow(void *p)
{
    uint32_t word = *word_at((uintptr_t)p);
    if (!p)
        return;
    if (word == WORD_LARGE) {
        large_free(p);
        return;
    }
    struct heap *h = heap_get(), *owner = heaps[word >> TOKEN_SHIFT];
    if (!word || !h) {
        misuse();
        return;
    }
    const struct class_info *c = &classes[(word & ((1u << TOKEN_SHIFT) - 1)) / MAG_STRIDE];
    if (!check_free_remote(p, c))
        misuse();
    else if (owner == h) /* a full slab, or a heap adopted just now */
        block_return(h, p);
    else
        remote_free(h, p, owner, c->size);
}

EXPORT void *malloc(size_t size) { return alloc(size); }

EXPORT void free(void *ptr)
{
    struct heap *h = tls_heap;
    if (CACHE_LOCAL) {
        struct slab *s = *desc_at((uintptr_t)ptr);
        if (UNLIKELY(!s) || UNLIKELY(s->owner != h)) {
            free_slow(ptr);
            return;
        }
        if (UNLIKELY(!check_free(ptr, (uint64_t)((char *)ptr - s->base), s->magic))) {
            misuse();
            return;
        }
        *(void **)ptr = s->free;
        s->free = ptr;
        if (UNLIKELY(--s->used == 0))
            local_free_slow(h, s);
        return;
    }
    uint32_t off = *word_at((uintptr_t)ptr) - h->token;
    if (UNLIKELY(off >= NR_CLASSES * MAG_STRIDE)) {
        free_slow(ptr);
        return;
    }
    struct mag *m = (struct mag *)((char *)h + off);
    IN_REGISTER(m);
#if EXP_CHECK == 1
    bool live = check_free(ptr, (uintptr_t)ptr & m->mask, m->magic);
#else
    bool live = check_free(ptr, 0, 0);
#endif
    if (UNLIKELY(!live)) {
        misuse();
        return;
    }
    void **top = m->top;
    if (UNLIKELY(top == m->end)) {
        mag_full(h, m, ptr);
        return;
    }
    *top = ptr;
    m->top = top + 1;
}

EXPORT size_t malloc_usable_size(void *ptr)
{
    uintptr_t p = (uintptr_t)ptr;
    uint32_t word = *word_at(p);
    if (!word)
        return 0;
    if (word == WORD_LARGE)
        return ((struct large *)*desc_at(p))->bytes;
    return classes[(word & ((1u << TOKEN_SHIFT) - 1)) / MAG_STRIDE].size;
}

EXPORT void *calloc(size_t nr, size_t size)
{
    size_t bytes;
    bool zeroed = false;
    if (__builtin_mul_overflow(nr, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *p = bytes > MAX_SMALL ? large_alloc(bytes, 0, &zeroed) : alloc(bytes);
    return p && !zeroed ? memset(p, 0, bytes) : p;
}

EXPORT void *realloc(void *ptr, size_t size)
{
    if (!ptr)
        return alloc(size);
    if (!size) {
        free(ptr);
        return NULL;
    }
    size_t have = malloc_usable_size(ptr);
    if (size <= have && (size >= have / 2 || have <= 64))
        return ptr;
    size_t ask = size > have && size > MAX_SMALL ? size + size / 8 : size;
    void *p = alloc(ask);
    if (!p)
        return NULL;
    memcpy(p, ptr, size < have ? size : have);
    free(ptr);
    return p;
}

EXPORT void *memalign(size_t align, size_t size)
{
    bool zeroed;
    if (align <= 16)
        return alloc(size);
    if (size > MAX_SMALL || align > 1 << GRANULE_SHIFT)
        return large_alloc(size, align, &zeroed);
    heap_get(); /* fills the class table */
    for (unsigned i = class_of[(size + 15) / 16]; i && i < NR_CLASSES; i++)
        if (classes[i].stride % align == 0 && (EXP_COLOUR != 2 || classes[i].size < COLOUR_MIN))
            return alloc(classes[i].size);
    return large_alloc(size, align, &zeroed);
}

EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
    if (align < sizeof(void *) || align & (align - 1))
        return EINVAL;
    int saved = errno;
    void *p = memalign(align, size);
    errno = saved;
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

EXPORT void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
EXPORT void *valloc(size_t size) { return memalign(4096, size); }
EXPORT void *pvalloc(size_t size) { return memalign(4096, (size + 4095) & ~4095ul); }
