// SPDX-License-Identifier: MIT
/*
 * ace_loan: a big block out of scattered dirty pages.
 *
 * Where no dirty extent is large enough, there is mostly enough dirty memory in several. To take clean
 * memory instead costs a fault per page, and as many pages go back to the system because the bound on
 * what is dirty is full. So the pages of up to eight extents are moved side by side into a new mapping
 * (mremap with DONTUNMAP: the arena's own mapping stays whole, and clean), and when the block is freed
 * they move home again, where the kernel joins what it had split. To move a page and back is some
 * thirty times cheaper than to fault it in.
 *
 *   arena:   | live | dirty a | live | dirty b ...... | live |
 *                       \                |
 *   block:             | pages of a | pages of b | fresh |
 *
 * A loan that cannot be had costs nothing but the attempt; after a few in a row (an older kernel, a
 * sandbox) no more are made.
 */
#include "ace/ace_private.h"

#include "batch/batch.h"
#include "meta/meta.h"
#include "os/os.h"

#define MAX_LOANS 256     /* each costs the kernel up to nine mappings */
#define MAX_FAILURES 8    /* in a row */

static struct {
    unsigned nr_live;     /* relaxed */
    unsigned nr_failures; /* relaxed: a hint */
} loans;

/* The pieces' pages, one after the other from target on. What stays at home is returned; the target has
 * fresh pages there. */
static bool move_in(struct hk_loan *loan, char *target)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < loan->nr; i++) {
        struct hk_arena_piece *piece = &loan->piece[i];
        if (hk_os_take_pages(piece->base, piece->n * HK_GRANULE, target)) {
            loan->piece[kept++] = *piece;
            target += piece->n * HK_GRANULE;
        } else {
            hk_arena_return(piece, true);
        }
    }
    loan->nr = kept;
    return kept != 0;
}

struct hk_loan *hk_loan_take(char *target, size_t bytes)
{
    struct hk_loan *loan;

    if (hk_load_relaxed(&loans.nr_live) >= MAX_LOANS || hk_load_relaxed(&loans.nr_failures) >= MAX_FAILURES)
        return NULL;
    loan = hk_meta_alloc(sizeof *loan);
    if (!loan)
        return NULL;
    loan->nr = hk_arena_borrow(loan->piece, HK_LOAN_PIECES, bytes / HK_GRANULE);
    if (loan->nr && move_in(loan, target)) {
        hk_store_relaxed(&loans.nr_failures, 0u);
        hk_add_relaxed(&loans.nr_live, 1u);
        return loan;
    }
    hk_add_relaxed(&loans.nr_failures, 1u);
    hk_meta_free(loan, sizeof *loan);
    return NULL;
}

void hk_loan_repay(struct hk_loan *loan, char *base, size_t bytes)
{
    char *end = base + bytes;

    for (unsigned i = 0; i < loan->nr; i++) {
        const struct hk_arena_piece *piece = &loan->piece[i];
        size_t part = piece->n * HK_GRANULE;
        bool home = hk_os_move(base, part, piece->base, part);
        if (!home)
            hk_batch_unmap(base, part, false);
        hk_arena_return(piece, home); /* else nothing has been there since */
        base += part;
    }
    if (base < end)
        hk_batch_unmap(base, (size_t)(end - base), false);
    hk_meta_free(loan, sizeof *loan);
    hk_sub_relaxed(&loans.nr_live, 1u);
}
