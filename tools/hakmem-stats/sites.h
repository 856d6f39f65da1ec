/* SPDX-License-Identifier: MIT */
/*
 * sites: a row of table "site" as numbers. The library counts exactly what is labelled or above 64 KiB and
 * estimates the rest from samples; here the two are one. Fields (a name that is missing reads 0):
 *
 *   key allocs frees total_bytes live_bytes max_bytes      exact
 *   est_allocs_256ths est_frees_256ths est_bytes est_live_bytes    estimated, to be added; counts in 1/256
 *   samples                                                what estimates and quantiles rest on
 *   {size,lifetime}_{p50,p99}_4096ths    quantiles of samples, bytes and ns in 1/4096
 *   purpose                                                number, or text
 */
#ifndef SITES_H
#define SITES_H

#include "capture.h"

struct site {
    uint64_t key; /* return address or label; 0: the row is free */
    uint64_t allocs, frees, live_blocks;
    uint64_t total_bytes, live_bytes, max_bytes;
    uint64_t samples;
    uint64_t size_p50, size_p99, life_p50_ns, life_p99_ns;
    bool live_known;   /* false: no end of its blocks is followed (prof off, secure, or none was chosen), live_bytes is 0 */
    bool has_lifetime; /* the library records it, and a sample has ended */
    char purpose[24];  /* "-" when it is not recorded */
};

enum site_order { SITES_BY_BYTES, SITES_BY_COUNT, SITES_BY_LIFETIME };

void site_read(const struct table *table, uint32_t row, struct site *site);
/* Each heap gathers calls above 64 KiB, a run of one site at a time, before it tells the table; what it has not told yet is
 * added to the copy here. */
void sites_add_untold(const struct capture *capture);
/* Used rows of table "site", largest first; free() it. NULL without memory, *nr is 0 then. */
uint32_t *sites_sorted(const struct capture *capture, enum site_order order, uint32_t *nr);

#endif
