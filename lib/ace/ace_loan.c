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

static void send_home(char *from, const struct hk_arena_piece *piece)
{
    size_t bytes = piece->n * HK_GRANULE;
    enum hk_os_moved moved = hk_os_move(from, bytes, piece->base, bytes);

    if (moved != HK_OS_MOVED)
        hk_batch_unmap(from, bytes, false);
    if (moved == HK_OS_UNSURE)
        hk_arena_lose(piece);
    else
        hk_arena_return(piece, moved == HK_OS_MOVED); /* else nothing has been there since */
}

/* The first pieces' pages, one after the other, from base on. */
static void send_all_home(const struct hk_loan *loan, char *base)
{
    for (unsigned i = 0; i < loan->nr; i++) {
        send_home(base, &loan->piece[i]);
        base += loan->piece[i].n * HK_GRANULE;
    }
}

/*
 * The pieces' pages, one after the other from target on. What stays at home is returned; the target has fresh
 * pages there. False: a part of the target is lost, and so there is no loan; the rest of it is given back.
 */
static bool move_in(struct hk_loan *loan, char *target, char *end)
{
    unsigned kept = 0, nr = loan->nr;
    size_t lost = 0;
    char *base = target;
    enum hk_os_moved moved = HK_OS_REFUSED;

    for (unsigned i = 0; i < nr; i++) {
        struct hk_arena_piece *piece = &loan->piece[i];
        size_t bytes = piece->n * HK_GRANULE;
        if (moved != HK_OS_UNSURE)
            moved = hk_os_take_pages(piece->base, bytes, target);
        if (moved == HK_OS_MOVED) {
            loan->piece[kept++] = *piece;
            target += bytes;
        } else {
            hk_arena_return(piece, true);
            lost = lost == 0 && moved == HK_OS_UNSURE ? bytes : lost;
        }
    }
    loan->nr = kept;
    if (moved != HK_OS_UNSURE)
        return true;
    send_all_home(loan, base);
    hk_os_lose(lost);
    if (target + lost < end)
        hk_os_abandon(target + lost, (size_t)(end - target) - lost);
    return false;
}

static bool fill(struct hk_loan *loan, char *target, size_t bytes, size_t spare)
{
    loan->nr = hk_arena_borrow(loan->piece, HK_LOAN_PIECES, (bytes - spare) / HK_GRANULE);
    if (!move_in(loan, target, target + bytes))
        return false;
    if (loan->nr == 0)
        hk_os_abandon(target, bytes);
    return loan->nr != 0;
}

struct hk_loan *hk_loan_take(char *target, size_t bytes, size_t spare)
{
    bool allowed = hk_load_relaxed(&loans.nr_live) < MAX_LOANS &&
                   hk_load_relaxed(&loans.nr_failures) < MAX_FAILURES;
    struct hk_loan *loan = allowed ? hk_meta_alloc(sizeof *loan) : NULL;

    if (!loan) {
        hk_os_abandon(target, bytes);
        return NULL;
    }
    if (fill(loan, target, bytes, spare)) {
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

    send_all_home(loan, base);
    for (unsigned i = 0; i < loan->nr; i++)
        base += loan->piece[i].n * HK_GRANULE;
    if (base < end)
        hk_batch_unmap(base, (size_t)(end - base), false);
    hk_meta_free(loan, sizeof *loan);
    hk_sub_relaxed(&loans.nr_live, 1u);
}
