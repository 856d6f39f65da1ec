// SPDX-License-Identifier: MIT
/*
 * site: who allocates what. A bounded table from call site (a return address, or a label the program
 * gives) to counts. Fed by entry for labelled calls and for every block above 64 KiB, where a hash is
 * nothing against the page faults; never by a fast path.
 *
 * Open addressing, 256 slots, at most 8 probes; when no slot is found the event is counted as dropped.
 * A slot is claimed by one compare-and-swap of its key and never given up; its numbers are relaxed adds.
 * Locks: none. Failure: hk_site_note drops and counts.
 */
#ifndef HK_SITE_H
#define HK_SITE_H

#include "sync/atomic.h"

#define HK_SITE_SLOTS 256
#define HK_SITE_PROBES 8

struct hk_site_slot {
    const void *site;   /* key; NULL: free */
    uint64_t nr_allocs;
    uint64_t nr_frees;  /* of blocks freed through a labelled call or above 64 KiB */
    uint64_t total_bytes;
    uint64_t live_bytes;
    uint64_t max_bytes; /* largest request */
};

extern struct hk_site_slot hk_site_slots[HK_SITE_SLOTS]; /* for readers from outside */

/* n blocks, bytes together, the largest max_bytes. */
void hk_site_note_allocs(const void *site, unsigned n, size_t bytes, size_t max_bytes);
HK_INLINE void hk_site_note_alloc(const void *site, size_t bytes)
{
    hk_site_note_allocs(site, 1, bytes, bytes);
}
void hk_site_note_free(const void *site, size_t bytes);
/* Slot i < HK_SITE_SLOTS as a copy; false: free. */
bool hk_site_read(unsigned i, struct hk_site_slot *out);
uint64_t hk_site_dropped(void);
/* "unknown" until the 10th observation, then by size and frequency. Static string. */
const char *hk_site_purpose_of(const struct hk_site_slot *slot);

#endif
