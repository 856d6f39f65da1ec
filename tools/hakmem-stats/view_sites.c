// SPDX-License-Identifier: MIT
#include "views.h"

#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_site(struct target *t, const struct table *table, uint32_t row)
{
    char live[NUMBER_BYTES], total[NUMBER_BYTES], allocs[NUMBER_BYTES], most[NUMBER_BYTES],
        name[SYMBOL_TEXT_BYTES];
    char life[NUMBER_BYTES] = "-", middle[NUMBER_BYTES] = "-";
    struct symbol symbol;
    struct site site;

    site_read(table, row, &site);
    target_symbol(t, row, &symbol);
    if (site.has_lifetime)
        human_ns(site.life_p50_ns, life);
    if (site.size_p50)
        human_bytes(site.size_p50, middle);
    printf("  %9s %9s %9s %9s %9s %9s  %-16s  %s\n", site.live_known ? human_bytes(site.live_bytes, live) : "-",
           human_bytes(site.total_bytes, total), human_count(site.allocs, allocs), middle,
           human_bytes(site.max_bytes, most), life, site.purpose,
           symbol_text(&symbol, site.key, output_room(81), name));
}

static void json_inlined(const struct frame *inlined, unsigned nr)
{
    json_open("inlined", '[');
    for (unsigned i = 0; i < nr; i++) {
        json_open(NULL, '{');
        json_text("function", inlined[i].function);
        json_text("file", inlined[i].file);
        json_number("line", inlined[i].line);
        json_close('}');
    }
    json_close(']');
}

void json_site(struct target *t, const struct table *table, uint32_t row)
{
    struct frame inlined[MAX_INLINED];
    struct symbol symbol;
    struct site site;
    char name[SYMBOL_TEXT_BYTES];
    unsigned nr;

    site_read(table, row, &site);
    nr = target_frames(t, row, &symbol, inlined);
    json_text("site", symbol_text(&symbol, site.key, SYMBOL_WHOLE, name));
    json_number("key", site.key);
    json_number("allocs", site.allocs);
    json_number("frees", site.frees);
    json_number("live_blocks", site.live_blocks);
    json_number("total_bytes", site.total_bytes);
    json_number("live_bytes", site.live_bytes);
    json_bool("live_known", site.live_known);
    json_number("max_bytes", site.max_bytes);
    json_number("samples", site.samples);
    json_number("size_p50", site.size_p50);
    json_number("size_p99", site.size_p99);
    json_number("lifetime_p50_ns", site.life_p50_ns);
    json_number("lifetime_p99_ns", site.life_p99_ns);
    json_text("purpose", site.purpose);
    json_text("function", symbol.function);
    json_text("file", symbol.file);
    json_number("line", symbol.line);
    json_text("module", symbol.module);
    json_number("offset", symbol.offset);
    json_inlined(inlined, nr);
}

/* What has no names for want of its file is said, not left to be wondered at. */
static void print_missing(const struct target *target)
{
    const char *path, *why;
    char clean[300];

    for (unsigned i = 0; (why = symbols_missing(target->symbols, i, &path)) != NULL; i++)
        printf("note: %s %s: its functions have no names here\n", clean_text(path, strlen(path), clean, sizeof clean), why);
}

static void json_missing(const struct target *target)
{
    const char *path, *why;

    json_open("missing_files", '[');
    for (unsigned i = 0; (why = symbols_missing(target->symbols, i, &path)) != NULL; i++) {
        json_open(NULL, '{');
        json_text("path", path);
        json_text("why", why);
        json_close('}');
    }
    json_close(']');
}

static void sites_json(struct target *target, const struct table *table, const uint32_t *rows,
                       uint32_t nr)
{
    json_open(NULL, '{');
    json_title(target);
    json_open("sites", '[');
    for (uint32_t i = 0; i < nr; i++) {
        json_open(NULL, '{');
        json_site(target, table, rows[i]);
        json_close('}');
    }
    json_close(']');
    json_missing(target);
    json_close('}');
    json_end();
}

/* Beside what is exact, and how many samples that rests on: its standard error is about live / sqrt(samples). */
static void print_sum(const struct capture *capture, const struct table *table, const uint32_t *rows, uint32_t nr)
{
    char live[NUMBER_BYTES], all[NUMBER_BYTES];
    uint64_t sum = 0, nr_alive = 0, nr_ended;
    struct site site;

    for (uint32_t i = 0; i < nr; i++) {
        site_read(table, rows[i], &site);
        sum += site.live_bytes;
        nr_ended = table_get(table, rows[i], "samples_ended");
        nr_alive += site.samples > nr_ended ? site.samples - nr_ended : 0;
    }
    if (nr_alive > 0 && capture->total.live > 0)
        printf("  sum: %s of %s that are live, by %" PRIu64 " live samples\n",
               human_bytes(sum, live), human_bytes(capture->total.live, all), nr_alive);
}

void view_sites(struct target *target, enum site_order order, unsigned limit)
{
    const struct table *table = capture_table(&target->capture, "site");
    uint32_t nr, *rows = sites_sorted(&target->capture, order, &nr);
    uint32_t shown = limit && nr > limit ? limit : nr;

    if (output.json) {
        sites_json(target, table, rows, shown);
    } else if (!table) {
        print_title(target);
        print_not_recorded("call sites");
    } else {
        print_title(target);
        printf("\n  %s%9s %9s %9s %9s %9s %9s  %-16s  %s%s\n", bold(), "live", "total", "allocs",
               "median", "largest", "lifetime", "purpose", "call site", plain());
        for (uint32_t i = 0; i < shown; i++)
            print_site(target, table, rows[i]);
        if (shown < nr)
            printf("  ... and %" PRIu32 " more (--limit 0 shows all)\n", nr - shown);
        if (nr == 0)
            printf("  none yet\n");
        print_sum(&target->capture, table, rows, nr);
        print_missing(target);
    }
    free(rows);
}
