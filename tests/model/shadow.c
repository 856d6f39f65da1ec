// SPDX-License-Identifier: MIT
//
// The shadow: one bit per 8 bytes of address space, set while a live block covers them. Two live
// blocks that share a granule overlap, because every block starts at a multiple of 8, or of 16 in
// this library. Leaves of 256 MiB are mapped on demand, from /dev/zero: so whoever looks at the process tells them from
// the library's memory, and as blocks move through the address space they become many.
#include "model.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define GRANULE_SHIFT 3
#define LEAF_SHIFT    28
#define ADDRESS_BITS  (sizeof(void *) == 8 ? 47 : 32)
#define LEAF_WORDS    ((size_t)1 << (LEAF_SHIFT - GRANULE_SHIFT - 6))

typedef _Atomic(uint64_t) word_t;

static _Atomic(word_t *) *root;
static int zero = -1;

static word_t *map_leaf(void)
{
    size_t bytes = LEAF_WORDS * sizeof(word_t);
    void *leaf = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, zero, 0);

    return leaf != MAP_FAILED ? leaf : map_memory(bytes, false);
}

void shadow_init(void)
{
    zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
    root = map_memory(((size_t)1 << (ADDRESS_BITS - LEAF_SHIFT)) * sizeof *root, false);
}

static word_t *leaf_of(uintptr_t granule)
{
    _Atomic(word_t *) *at = &root[granule >> (LEAF_SHIFT - GRANULE_SHIFT)];
    word_t *leaf = atomic_load_explicit(at, memory_order_acquire);

    if (leaf != NULL)
        return leaf;
    // Two threads may race here; the loser's leaf is left mapped, which costs address space only.
    word_t *fresh = map_leaf();
    if (atomic_compare_exchange_strong(at, &leaf, fresh))
        return fresh;
    return leaf;
}

static word_t *word_of(uintptr_t granule)
{
    return &leaf_of(granule)[(granule >> 6) & (LEAF_WORDS - 1)];
}

static uint64_t bits_between(unsigned first, unsigned last)
{
    return (~(uint64_t)0 << first) & (~(uint64_t)0 >> (63 - last));
}

static bool update(const void *ptr, size_t bytes, bool claim)
{
    uintptr_t at = (uintptr_t)ptr >> GRANULE_SHIFT;
    uintptr_t last = ((uintptr_t)ptr + (bytes != 0 ? bytes - 1 : 0)) >> GRANULE_SHIFT;
    bool good = true;

    if ((uint64_t)last >> (ADDRESS_BITS - GRANULE_SHIFT) != 0 || last < at)
        return false;
    while (at <= last) {
        unsigned first_bit = at & 63;
        unsigned last_bit = (at | 63) <= last ? 63 : last & 63;
        uint64_t mask = bits_between(first_bit, last_bit);
        word_t *word = word_of(at);
        // Relaxed is enough: a granule changes hands only through the allocator, or through a mail
        // box, and both order.
        if (claim)
            good &= (atomic_fetch_or_explicit(word, mask, memory_order_relaxed) & mask) == 0;
        else
            good &= (atomic_fetch_and_explicit(word, ~mask, memory_order_relaxed) & mask) == mask;
        at = (at | 63) + 1;
    }
    return good;
}

bool shadow_claim(const void *ptr, size_t bytes)
{
    return update(ptr, bytes, true);
}

bool shadow_release(const void *ptr, size_t bytes)
{
    return update(ptr, bytes, false);
}
