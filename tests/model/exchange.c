// SPDX-License-Identifier: MIT
//
// Mail boxes through which blocks change threads: a worker swaps what its slot holds with what a
// box holds, so that it gives, takes or trades. A box is EMPTY, FULL or BUSY (one thread is in it).
#include "exchange.h"

#include <stdatomic.h>

enum { EMPTY, FULL, BUSY };

#define NR_BOXES 256

static struct {
    _Alignas(64) atomic_uint state;
    struct block block;
} box[NR_BOXES];

void exchange(struct worker *w, struct block *mine, uint64_t random)
{
    unsigned i = random % NR_BOXES;
    unsigned state = atomic_load_explicit(&box[i].state, memory_order_relaxed);

    if (state == BUSY || (state == EMPTY && mine->ptr == NULL))
        return;
    // Acquire: what the giver wrote into the block; pairs with the release below.
    if (!atomic_compare_exchange_strong_explicit(&box[i].state, &state, BUSY, memory_order_acquire,
                                                 memory_order_relaxed))
        return;
    struct block theirs = state == FULL ? box[i].block : (struct block){.ptr = NULL};
    box[i].block = *mine;
    unsigned next = mine->ptr != NULL ? FULL : EMPTY;
    w->live_bytes -= mine->ptr != NULL ? mine->size : 0;
    w->live_bytes += theirs.size;
    *mine = theirs;
    atomic_store_explicit(&box[i].state, next, memory_order_release);
}

// Only when one thread is left: takes what lies in the boxes, one block a call.
bool exchange_take_last(struct worker *w, struct block *into)
{
    for (unsigned i = 0; i < NR_BOXES; i++)
        if (atomic_load(&box[i].state) == FULL) {
            *into = box[i].block;
            w->live_bytes += into->size;
            atomic_store(&box[i].state, EMPTY);
            return true;
        }
    return false;
}
