// SPDX-License-Identifier: MIT
#include "views.h"

#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- order --------------------------------------------------------------------------------- */

struct keyed {
    uint64_t key;
    uint32_t row;
};

static int compare_keys(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? 1 : -1;
    return x->row < y->row ? -1 : x->row > y->row;
}

uint32_t *sites_sorted(const struct capture *capture, enum site_order order, uint32_t *nr)
{
    static const char *const first[] = {"live_bytes", "allocs", "life_p50_ns"};
    static const char *const second[] = {"total_bytes", "total_bytes", "total_bytes"};
    const struct table *site = capture_table(capture, "site");
    uint32_t nr_rows = site ? site->nr_rows : 0, used = 0;
    struct keyed *list = calloc(nr_rows + 1, sizeof *list);
    uint32_t *rows = calloc(nr_rows + 1, sizeof *rows);

    for (uint32_t i = 0; list && i < nr_rows; i++) {
        if (table_get(site, i, "key") == 0)
            continue;
        list[used].row = i;
        list[used].key = table_get(site, i, first[order]);
        if (list[used].key == 0) /* behind those that have one */
            list[used].key = table_get(site, i, second[order]) >> 32;
        used++;
    }
    if (list && used)
        qsort(list, used, sizeof *list, compare_keys);
    for (uint32_t i = 0; rows && list && i < used; i++)
        rows[i] = list[i].row;
    free(list);
    *nr = rows ? used : 0;
    return rows;
}

/* ---- text and JSON ------------------------------------------------------------------------- */

static const char *site_purpose(const struct table *site, uint32_t row, char *text, size_t bytes)
{
    static const char *const names[] = {"unknown", "small-frequent", "medium", "large-infrequent", "short-lived",
                                        "long-lived", "hand-off", "grows-by-realloc"};
    const struct hak_stats_field *f = table_field(site, "purpose");
    uint64_t number;

    if (!f)
        return "-";
    if (f->bytes > 8)
        return clean_text((const char *)table_bytes(site, row, f), f->bytes, text, bytes);
    number = table_value(site, row, f);
    return number < sizeof names / sizeof *names ? names[number] : "?";
}

static void print_site(struct target *t, const struct table *site, uint32_t row)
{
    char live[NUMBER_BYTES], total[NUMBER_BYTES], allocs[NUMBER_BYTES], most[NUMBER_BYTES], name[400], purpose[32];
    char life[NUMBER_BYTES] = "-";
    struct symbol symbol;

    target_symbol(t, row, &symbol);
    if (table_field(site, "life_p50_ns"))
        human_ns(table_get(site, row, "life_p50_ns"), life);
    printf("  %9s %9s %9s %9s %9s  %-16s  %s\n", human_bytes(table_get(site, row, "live_bytes"), live),
           human_bytes(table_get(site, row, "total_bytes"), total),
           human_count(table_get(site, row, "allocs"), allocs), human_bytes(table_get(site, row, "max_bytes"), most),
           life, site_purpose(site, row, purpose, sizeof purpose),
           symbol_text(&symbol, table_get(site, row, "key"), name, sizeof name));
}

static void json_site(struct target *t, const struct table *site, uint32_t row)
{
    char purpose[32];
    struct symbol symbol;

    target_symbol(t, row, &symbol);
    json_open(NULL, '{');
    for (uint32_t i = 0; i < site->nr_fields; i++)
        if (site->fields[i].bytes <= 8 && strcmp(site->fields[i].name, "purpose") != 0)
            json_number(site->fields[i].name, table_value(site, row, &site->fields[i]));
    if (table_field(site, "purpose"))
        json_text("purpose", site_purpose(site, row, purpose, sizeof purpose));
    json_text("function", symbol.function);
    json_text("file", symbol.file);
    json_number("line", symbol.line);
    json_text("module", symbol.module);
    json_number("offset", symbol.offset);
    json_close('}');
}

void view_sites(struct target *target, enum site_order order, unsigned limit)
{
    const struct table *site = capture_table(&target->capture, "site");
    uint32_t nr, *rows = sites_sorted(&target->capture, order, &nr);
    uint32_t shown = limit && nr > limit ? limit : nr;

    if (output.json) {
        json_open(NULL, '{');
        json_title(target);
        json_open("sites", '[');
        for (uint32_t i = 0; i < shown; i++)
            json_site(target, site, rows[i]);
        json_close(']');
        json_close('}');
        json_end();
    } else if (!site) {
        print_title(target);
        print_not_recorded("call sites");
    } else {
        print_title(target);
        printf("\n  %s%9s %9s %9s %9s %9s  %-16s  %s%s\n", bold(), "live", "total", "allocs", "largest", "lifetime",
               "purpose", "call site", plain());
        for (uint32_t i = 0; i < shown; i++)
            print_site(target, site, rows[i]);
        if (shown < nr)
            printf("  ... and %" PRIu32 " more (--limit 0 shows all)\n", nr - shown);
        if (nr == 0)
            printf("  none yet\n");
    }
    free(rows);
}
