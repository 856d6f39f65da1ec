// SPDX-License-Identifier: MIT
/* What grew between two captures: totals, then call sites by what they hold more. */
#include "views.h"

#include "metrics.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct growth {
    struct symbol symbol;
    uint64_t key;
    uint64_t live, blocks; /* signed, but what a damaged file says may wrap */
};

struct growths {
    struct growth *list;
    uint32_t nr;
};

/* ---- call sites ---------------------------------------------------------------------------- */

/* Addresses move between runs; what stays is the module and the offset in it. */
static bool same_site(const struct growth *g, const struct symbol *symbol, uint64_t key)
{
    if (!g->symbol.module[0] || !symbol->module[0])
        return g->key == key;
    return g->symbol.offset == symbol->offset && strcmp(g->symbol.module, symbol->module) == 0;
}

static struct growth *growth_of(struct growths *all, const struct symbol *symbol, uint64_t key)
{
    for (uint32_t i = 0; i < all->nr; i++)
        if (same_site(&all->list[i], symbol, key))
            return &all->list[i];
    struct growth *list = realloc(all->list, (all->nr + 1) * sizeof *list);
    if (!list)
        return NULL;
    all->list = list;
    list[all->nr] = (struct growth){.symbol = *symbol, .key = key};
    return &list[all->nr++];
}

static void add_sites(struct growths *all, struct target *target, int sign)
{
    const struct table *table = capture_table(&target->capture, "site");

    for (uint32_t i = 0; table && i < table->nr_rows; i++) {
        struct symbol symbol;
        struct growth *g;
        struct site site;
        site_read(table, i, &site);
        if (site.key == 0)
            continue;
        target_symbol(target, i, &symbol);
        g = growth_of(all, &symbol, site.key);
        if (!g)
            return;
        g->live += (sign > 0 ? site.live_bytes : 0 - site.live_bytes);
        g->blocks += (sign > 0 ? site.live_blocks : 0 - site.live_blocks);
    }
}

static int compare_growth(const void *a, const void *b)
{
    const struct growth *x = a, *y = b;

    return (int64_t)x->live < (int64_t)y->live ? 1 : (int64_t)x->live > (int64_t)y->live ? -1 : 0;
}

/* ---- output -------------------------------------------------------------------------------- */

static const char *signed_text(int64_t value, bool bytes, char text[NUMBER_BYTES + 1])
{
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    text[0] = value < 0 ? '-' : '+';
    if (bytes)
        human_bytes(size, text + 1);
    else
        human_count(size, text + 1);
    return text;
}

static void print_totals(const hak_stats_t *a, const hak_stats_t *b)
{
    char before[NUMBER_BYTES], after[NUMBER_BYTES], change[NUMBER_BYTES + 1];

    printf("%s  %-22s %12s %12s %12s%s\n", bold(), "", "before", "after", "change", plain());
    for (unsigned i = 0; i < nr_metrics; i++) {
        uint64_t old = metric_value(a, &metrics[i]), new = metric_value(b, &metrics[i]);
        bool bytes = metric_is_bytes(&metrics[i]);
        if (old == new &&metrics[i].group != METRIC_IDENTITY)
            continue;
        printf("  %-22s %12s %12s %12s\n", metrics[i].name,
               bytes ? human_bytes(old, before) : human_count(old, before),
               bytes ? human_bytes(new, after) : human_count(new, after),
               signed_text((int64_t)(new - old), bytes, change));
    }
}

static void print_growths(const struct growths *all, unsigned limit)
{
    char live[NUMBER_BYTES + 1], blocks[NUMBER_BYTES + 1], name[SYMBOL_TEXT_BYTES];
    unsigned shown = 0;

    printf("\n%s%12s %12s  %s%s\n", bold(), "bytes", "blocks", "call site", plain());
    for (uint32_t i = 0; i < all->nr && (limit == 0 || shown < limit); i++) {
        const struct growth *g = &all->list[i];
        if (g->live == 0 && g->blocks == 0)
            continue;
        shown++;
        printf("%12s %12s  %s\n", signed_text((int64_t)g->live, true, live),
               signed_text((int64_t)g->blocks, false, blocks),
               symbol_text(&g->symbol, g->key, output_room(27), name));
    }
    if (shown == 0)
        printf("  no call site holds more or less\n");
}

static void diff_json(struct target *a, struct target *b, const struct growths *all)
{
    json_open(NULL, '{');
    json_title(b);
    json_number("before_ns", a->capture.taken_ns);
    json_open("change", '{');
    for (unsigned i = 0; i < nr_metrics; i++)
        json_signed(metrics[i].name, (int64_t)(metric_value(&b->capture.total, &metrics[i]) -
                                               metric_value(&a->capture.total, &metrics[i])));
    json_close('}');
    json_open("sites", '[');
    for (uint32_t i = 0; i < all->nr; i++) {
        const struct growth *g = &all->list[i];
        if (g->live == 0 && g->blocks == 0)
            continue;
        json_open(NULL, '{');
        json_signed("live_bytes", (int64_t)g->live);
        json_signed("blocks", (int64_t)g->blocks);
        json_text("function", g->symbol.function);
        json_text("file", g->symbol.file);
        json_number("line", g->symbol.line);
        json_text("module", g->symbol.module);
        json_number("offset", g->symbol.offset);
        json_close('}');
    }
    json_close(']');
    json_close('}');
    json_end();
}

void view_diff(struct target *a, struct target *b, unsigned limit)
{
    struct growths all = {0};

    add_sites(&all, b, 1);
    add_sites(&all, a, -1);
    if (all.nr)
        qsort(all.list, all.nr, sizeof *all.list, compare_growth);
    if (output.json) {
        diff_json(a, b, &all);
    } else {
        print_title(b);
        if (a->capture.root.start_ns != b->capture.root.start_ns)
            printf("note: these are two runs, not one at two times\n");
        print_totals(&a->capture.total, &b->capture.total);
        print_growths(&all, limit);
    }
    free(all.list);
}
