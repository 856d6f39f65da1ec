// SPDX-License-Identifier: MIT
//
// The generator: which operation comes next. It looks at the worker's own state only, never at the
// clock or at an address, so one seed gives one stream. A phase keeps one flavour for some thousand
// operations: a narrow window of slots reuses memory at once, a wide one lets the heap grow; some
// phases mostly fill, others mostly empty.
#include "model.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)

static uint64_t draw(struct worker *w)
{
    w->rng += 0x9e3779b97f4a7c15u;
    return mix(w->rng);
}

static unsigned log2_floor(uint64_t x)
{
    return 63 - (unsigned)__builtin_clzll(x | 1);
}

static void next_phase(struct worker *w)
{
    static const uint8_t free_weights[] = {16, 96, 144, 144, 192, 255};
    static const uint8_t fill_weights[] = {32, 255, 255, 255, 255, 255};
    static const uint8_t exchange_weights[] = {0, 2, 16, 96};
    struct phase *phase = &w->phase;
    uint64_t r = draw(w);
    unsigned window = (unsigned)(r % (log2_floor(opt.slots) + 1));

    phase->mask = ((uint32_t)1 << window) - 1;
    phase->base = (uint32_t)(r >> 8) & (opt.slots - 1) & ~phase->mask;
    phase->free_weight = free_weights[(r >> 32) % sizeof free_weights];
    phase->fill_weight = fill_weights[(r >> 40) % sizeof fill_weights];
    phase->exchange_weight = opt.threads > 1 ? exchange_weights[(r >> 48) & 3] : 0;
    phase->small_shift = 4 + (unsigned)(r >> 56) % 7;
    phase->ends_at = w->n + ((uint64_t)1 << (10 + (r >> 60) % 7));
}

static uint64_t log_uniform(uint64_t r, unsigned low_shift, unsigned high_shift)
{
    unsigned shift = low_shift + (unsigned)(r >> 58) % (high_shift - low_shift + 1);

    return r & (((uint64_t)1 << shift) - 1);
}

static uint64_t pick_size(const struct worker *w, uint64_t r)
{
    uint64_t rare = r & 0xffff;
    uint64_t size;

    r = mix(r);
    if (rare == 0)
        size = 8 * MIB + log_uniform(r, 20, 26);
    else if (rare < 24)
        size = 64 * KIB + log_uniform(r, 10, 23);
    else if (rare < 6000)
        size = log_uniform(r, 0, 16);
    else
        size = log_uniform(r, 0, w->phase.small_shift);
    // Where size classes end, off-by-one errors live.
    if ((r >> 40 & 15) == 0)
        size = ((uint64_t)1 << log2_floor(size)) + (r >> 44 & 3) * 16 + (r >> 46 & 1) - 1;
    if (size > opt.max_size || w->live_bytes + size > opt.max_live)
        size &= 1023;
    return size > opt.max_size ? size % (opt.max_size + 1) : size;
}

static uint8_t pick_alignment(uint64_t r)
{
    if ((r & 0x3ff) == 0)
        return (uint8_t)(17 + (r >> 10) % 8);
    if ((r & 0x1fff) == 1)
        return (uint8_t)(25 + (r >> 13) % (sizeof(size_t) == 8 ? 16 : 4));
    unsigned shift = 4 + (unsigned)__builtin_ctzll(r >> 16 | (uint64_t)1 << 12);
    return (uint8_t)shift;
}

static uint8_t pick_alloc_kind(uint64_t r)
{
    static const uint8_t kinds[64] = {
        // the rest is OP_MALLOC
        OP_CALLOC,
        OP_CALLOC,
        OP_CALLOC,
        OP_CALLOC,
        OP_CALLOC,
        OP_CALLOC,
        OP_CALLOC,
        OP_CALLOC,
        OP_REALLOC_NULL,
        OP_REALLOC_NULL,
        OP_NEW,
        OP_NEW,
        OP_NEW,
        OP_NEW,
        OP_NEW,
        OP_NEW,
        OP_NEW_ARRAY,
        OP_NEW_ARRAY,
        OP_NEW_ALIGNED,
        OP_NEW_ALIGNED,
        OP_POSIX_MEMALIGN,
        OP_POSIX_MEMALIGN,
        OP_POSIX_MEMALIGN,
        OP_ALIGNED_ALLOC,
        OP_ALIGNED_ALLOC,
        OP_MEMALIGN,
        OP_MEMALIGN,
        OP_REALLOCARRAY_NULL,
    };

    if ((r & 0x7f) == 0)
        return r & 0x80 ? OP_VALLOC : OP_PVALLOC;
    return kinds[r >> 8 & 63];
}

static void alloc_op(struct worker *w, struct op *op, uint64_t r)
{
    op->kind = pick_alloc_kind(r);
    op->size = pick_size(w, r >> 16 ^ r << 40);
    if (op->kind >= OP_POSIX_MEMALIGN)
        op->align_shift = pick_alignment(mix(r));
    if (op->kind == OP_POSIX_MEMALIGN && (r & 0x300) == 0)
        op->align_shift = 3;
    // operator new throws where others return NULL, so it only gets what must succeed.
    if (op->kind == OP_NEW_ALIGNED && op->align_shift > 16)
        op->align_shift = 16;
    if (opt.oom_ok && op->kind >= OP_NEW && op->kind <= OP_NEW_ALIGNED)
        op->kind = OP_MALLOC;
}

static void block_op(struct worker *w, struct op *op, uint64_t r)
{
    if ((r & 255) < w->phase.free_weight) {
        op->kind = r & 0x300 ? OP_FREE : OP_FREE_SIZED;
        return;
    }
    unsigned choice = r >> 10 & 255;
    if (choice < 112)
        op->kind = OP_REALLOC;
    else if (choice < 120)
        op->kind = OP_REALLOCARRAY;
    else if (choice < 122)
        op->kind = OP_REALLOC_ZERO;
    else if (choice < 124)
        op->kind = OP_EXPAND;
    else if (choice < 125)
        op->kind = OP_REALLOC_HUGE;
    else if (choice < 126)
        op->kind = OP_REALLOCARRAY_OVERFLOW;
    else
        op->kind = OP_CHECK;
    if (op->kind != OP_REALLOC && op->kind != OP_REALLOCARRAY && op->kind != OP_EXPAND)
        return;
    // Half the time the new size lies near the old one, as a growing buffer's does.
    uint64_t size = w->slot[op->slot].size;
    op->size =
        r & 1 << 20 ? pick_size(w, r >> 8) : size + (size >> (1 + (r >> 21 & 3))) + (r >> 23 & 31);
    if (op->size > opt.max_size || w->live_bytes + op->size > opt.max_live)
        op->size = size / 2;
}

static void rare_op(struct op *op, uint64_t r)
{
    static const uint8_t kinds[] = {OP_MALLOC_HUGE, OP_CALLOC_OVERFLOW, OP_ALIGNED_HUGE,
                                    OP_BAD_ALIGNMENT, OP_FREE_NULL};

    op->kind = (r >> 8 & 255) == 0 ? OP_TRIM : kinds[(r >> 20) % sizeof kinds];
}

void next_op(struct worker *w, struct op *op)
{
    if (w->n >= w->phase.ends_at)
        next_phase(w);
    uint64_t r = draw(w);
    *op = (struct op){.n = w->n++, .slot = w->phase.base + ((uint32_t)(r >> 40) & w->phase.mask)};
    if ((r & 255) == 0) {
        rare_op(op, mix(r));
        return;
    }
    if ((r >> 8 & 255) < w->phase.exchange_weight) {
        op->kind = OP_EXCHANGE;
        return;
    }
    bool fill = (r >> 16 & 255) < w->phase.fill_weight;
    for (unsigned i = 0; !fill && i < 8 && w->slot[op->slot].ptr == NULL; i++)
        op->slot = w->phase.base + ((op->slot + 1) & w->phase.mask);
    if (w->slot[op->slot].ptr == NULL)
        alloc_op(w, op, mix(r));
    else
        block_op(w, op, mix(r));
}

void worker_init(struct worker *w, unsigned index, uint64_t limit)
{
    *w = (struct worker){.index = index, .limit = limit, .rng = mix(opt.seed ^ mix(index))};
    w->slot = map_memory(opt.slots * sizeof *w->slot, false);
}
