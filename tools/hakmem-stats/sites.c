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
    if (site->live_bytes > site->total_bytes && table_get(table, row, "samples_grown") > 0)
        site->total_bytes = site->live_bytes; /* realloc that makes a block larger where it lies, or moves its pages, is no new call */
    else if (site->live_bytes > site->total_bytes) /* estimated */
        site->live_bytes = site->total_bytes;
    site->max_bytes = table_get(table, row, "max_bytes");
    site->samples = table_get(table, row, "samples");
    site->live_known = site->live_bytes || site->samples || site->frees || table_get(table, row, "labelled") ||
                       !table_field(table, "samples");
    site->size_p50 = table_get(table, row, "size_p50_4096ths") >> 12;
    site->size_p99 = table_get(table, row, "size_p99_4096ths") >> 12;
    site->life_p50_ns = table_get(table, row, "lifetime_p50_4096ths") >> 12;
    site->life_p99_ns = table_get(table, row, "lifetime_p99_4096ths") >> 12;
    if (table_field(table, "samples") && site->samples < 5) /* the markers are the first values themselves until then */
        site->size_p50 = site->size_p99 = site->life_p50_ns = site->life_p99_ns = 0;
    site->has_lifetime = site->life_p50_ns || site->life_p99_ns;
    read_purpose(table, row, site->purpose, sizeof site->purpose);
}

/* ---- what heaps have not told ---------------------------------------------------------------- */

#define MAX_UNTOLD 4096      /* heaps and rows, that a hostile process may not keep us: a table has 256 rows */
#define MAX_UNTOLD_ROWS 65536

/* The row of a site, or a free one; nr_rows: neither. */
static uint32_t row_of(const struct table *table, uint64_t site)
{
    const struct hak_stats_field *f = table_field(table, "key");
    uint32_t free_row = table->nr_rows;

    for (uint32_t i = 0; f && i < table->nr_rows; i++) {
        uint64_t key = table_value(table, i, f);
        if (key == site)
            return i;
        if (key == 0 && free_row == table->nr_rows)
            free_row = i;
    }
    return free_row;
}

static void add(const struct table *table, uint32_t row, const char *name, uint64_t value)
{
    table_put(table, row, name, table_get(table, row, name) + value);
}

/* Calls and bytes are exact. Of their ends nothing is known but what became of the site's samples. */
static void add_calls(const struct table *table, uint32_t row, uint64_t nr, uint64_t bytes)
{
    uint64_t samples = table_get(table, row, "samples"), ended = table_get(table, row, "samples_ended");

    add(table, row, "allocs", nr);
    add(table, row, "total_bytes", bytes);
    if (table_get(table, row, "labelled"))
        add(table, row, "live_bytes", bytes);
    else if (samples)
        add(table, row, "est_frees_256ths", (nr << 8) * (ended < samples ? ended : samples) / samples);
}

void sites_add_untold(const struct capture *capture)
{
    const struct table *site = capture_table(capture, "site"), *heap = capture_table(capture, "heap");
    unsigned nr_added = 0;

    for (uint32_t i = 0; site && heap && i < heap->nr_rows && nr_added < MAX_UNTOLD; i++) {
        uint64_t key = table_get(heap, i, "untold_site"), nr = table_get(heap, i, "untold_allocs");
        uint64_t most = table_get(heap, i, "untold_max_bytes");
        uint32_t row = key && nr && site->nr_rows < MAX_UNTOLD_ROWS ? row_of(site, key) : site->nr_rows;
        nr_added += nr != 0;
        if (row == site->nr_rows)
            continue;
        table_put(site, row, "key", key);
        add_calls(site, row, nr, table_get(heap, i, "untold_bytes"));
        if (most > table_get(site, row, "max_bytes"))
            table_put(site, row, "max_bytes", most);
    }
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
