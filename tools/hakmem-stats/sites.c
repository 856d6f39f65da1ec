// SPDX-License-Identifier: MIT
#include "sites.h"

#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void read_purpose(const struct table *table, uint32_t row, char *text, size_t bytes)
{
    static const char *const names[] = {"unknown",          "small-frequent",  "medium",
                                        "large-infrequent", "short-lived",     "long-lived",
                                        "hand-off",         "grows-by-realloc"};
    const struct hak_stats_field *f = table_field(table, "purpose");
    uint64_t number;

    if (f && f->bytes > 8) {
        clean_text((const char *)table_bytes(table, row, f), f->bytes, text, bytes);
        return;
    }
    number = f ? table_value(table, row, f) : 0;
    snprintf(text, bytes, "%s",
             !f                                      ? "-"
             : number < sizeof names / sizeof *names ? names[number]
                                                     : "?");
}

void site_read(const struct table *table, uint32_t row, struct site *site)
{
    memset(site, 0, sizeof *site);
    if (!table || row >= table->nr_rows)
        return;
    site->key = table_get(table, row, "key");
    site->allocs = table_get(table, row, "allocs") + (table_get(table, row, "est_allocs_256ths") >> 8);
    site->frees = table_get(table, row, "frees") + (table_get(table, row, "est_frees_256ths") >> 8);
    site->frees = site->frees < site->allocs ? site->frees : site->allocs; /* of large blocks estimated */
    site->live_blocks = site->allocs > site->frees ? site->allocs - site->frees : 0;
    site->total_bytes = table_get(table, row, "total_bytes") + table_get(table, row, "est_bytes");
    site->live_bytes =
        table_get(table, row, "live_bytes") + table_get(table, row, "est_live_bytes");
    site->max_bytes = table_get(table, row, "max_bytes");
    site->samples = table_get(table, row, "samples");
    site->size_p50 = table_get(table, row, "size_p50_4096ths") >> 12;
    site->size_p99 = table_get(table, row, "size_p99_4096ths") >> 12;
    site->life_p50_ns = table_get(table, row, "lifetime_p50_4096ths") >> 12;
    site->life_p99_ns = table_get(table, row, "lifetime_p99_4096ths") >> 12;
    if (table_field(table, "samples") && site->samples < 5) /* the markers are the first values themselves until then */
        site->size_p50 = site->size_p99 = site->life_p50_ns = site->life_p99_ns = 0;
    site->has_lifetime = site->life_p50_ns || site->life_p99_ns;
    read_purpose(table, row, site->purpose, sizeof site->purpose);
}

/* ---- order --------------------------------------------------------------------------------- */

struct keyed {
    uint64_t first, second;
    uint32_t row;
};

static int compare_keys(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;

    if (x->first != y->first)
        return x->first < y->first ? 1 : -1;
    if (x->second != y->second)
        return x->second < y->second ? 1 : -1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static uint64_t order_key(const struct site *site, enum site_order order)
{
    switch (order) {
    case SITES_BY_COUNT:
        return site->allocs;
    case SITES_BY_LIFETIME:
        return site->life_p50_ns;
    default:
        return site->live_bytes;
    }
}

uint32_t *sites_sorted(const struct capture *capture, enum site_order order, uint32_t *nr)
{
    const struct table *table = capture_table(capture, "site");
    uint32_t nr_rows = table ? table->nr_rows : 0, used = 0;
    struct keyed *list = calloc(nr_rows + 1, sizeof *list);
    uint32_t *rows = calloc(nr_rows + 1, sizeof *rows);

    for (uint32_t i = 0; list && i < nr_rows; i++) {
        struct site site;
        site_read(table, i, &site);
        if (site.key)
            list[used++] = (struct keyed){order_key(&site, order), site.total_bytes, i};
    }
    if (list && used)
        qsort(list, used, sizeof *list, compare_keys);
    for (uint32_t i = 0; rows && list && i < used; i++)
        rows[i] = list[i].row;
    free(list);
    *nr = rows ? used : 0;
    return rows;
}
