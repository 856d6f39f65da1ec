// SPDX-License-Identifier: MIT
#include "export.h"

#include "latency.h"
#include "metrics.h"
#include "options.h"
#include "output.h"
#include "views.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char export_formats[] = "json, ndjson, csv, prometheus, pprof, heap_v2";

/* ---- json ---------------------------------------------------------------------------------- */

static void json_option(const char *name, const char *value, const char *from, void *arg)
{
    (void)arg;
    (void)from;
    json_text(name, value);
}

static void json_class(const hak_stats_class_t *row)
{
    json_number("size", row->size);
    json_number("slabs", row->slabs);
    json_number("live", row->live);
    json_number("cached", row->cached);
    json_number("parcels", row->parcels);
    json_number("free", row->free);
}

static int export_json(struct target *t, struct problem *problem)
{
    uint32_t nr, *rows = sites_sorted(&t->capture, SITES_BY_BYTES, &nr);

    (void)problem;
    json_open(NULL, '{');
    json_title(t);
    json_open("stats", '{');
    for (unsigned i = 0; i < nr_metrics; i++)
        json_number(metrics[i].name, metric_value(&t->capture.total, &metrics[i]));
    json_close('}');
    json_open("classes", '[');
    for (uint32_t i = 0; i < t->capture.nr_classes; i++)
        if (t->capture.classes[i].slabs) {
            json_open(NULL, '{');
            json_class(&t->capture.classes[i]);
            json_close('}');
        }
    json_close(']');
    json_open("sites", '[');
    for (uint32_t i = 0; i < nr; i++) {
        json_open(NULL, '{');
        json_site(t, capture_table(&t->capture, "site"), rows[i]);
        json_close('}');
    }
    json_close(']');
    json_open("options", '{');
    options_foreach(&t->capture, json_option, NULL);
    json_close('}');
    json_close('}');
    json_end();
    free(rows);
    return 0;
}

/* ---- ndjson -------------------------------------------------------------------------------- */

static void line_open(const struct target *t, const char *kind)
{
    json_open(NULL, '{');
    json_number("pid", t->pid ? (uint64_t)t->pid : t->capture.root.pid);
    json_number("time_ns", t->capture.taken_ns);
    json_text("kind", kind);
}

static void line_close(void)
{
    json_close('}');
    json_end();
}

static int export_ndjson(struct target *t, struct problem *problem)
{
    uint32_t nr, *rows = sites_sorted(&t->capture, SITES_BY_BYTES, &nr);

    (void)problem;
    for (unsigned i = 0; i < nr_metrics; i++) {
        line_open(t, "metric");
        json_text("name", metrics[i].name);
        json_number("value", metric_value(&t->capture.total, &metrics[i]));
        line_close();
    }
    for (uint32_t i = 0; i < t->capture.nr_classes; i++)
        if (t->capture.classes[i].slabs) {
            line_open(t, "class");
            json_class(&t->capture.classes[i]);
            line_close();
        }
    for (uint32_t i = 0; i < nr; i++) {
        line_open(t, "site");
        json_site(t, capture_table(&t->capture, "site"), rows[i]);
        line_close();
    }
    free(rows);
    return 0;
}

/* ---- csv (RFC 4180) ------------------------------------------------------------------------ */

static void csv_row(const char *kind, const char *name, const char *of, uint64_t value)
{
    printf("%s,\"", kind);
    for (; *name; name++)
        printf(*name == '"' ? "\"\"" : "%c", *name);
    printf("\",%s,%" PRIu64 "\r\n", of, value);
}

static void csv_site(struct target *t, uint32_t row)
{
    const struct table *table = capture_table(&t->capture, "site");
    struct symbol symbol;
    struct site site;
    char name[SYMBOL_TEXT_BYTES];

    site_read(table, row, &site);
    target_symbol(t, row, &symbol);
    symbol_text(&symbol, site.key, SYMBOL_WHOLE, name);
    csv_row("site", name, "allocs", site.allocs);
    csv_row("site", name, "frees", site.frees);
    csv_row("site", name, "total_bytes", site.total_bytes);
    csv_row("site", name, "live_bytes", site.live_bytes);
    csv_row("site", name, "max_bytes", site.max_bytes);
}

static int export_csv(struct target *t, struct problem *problem)
{
    uint32_t nr, *rows = sites_sorted(&t->capture, SITES_BY_BYTES, &nr);
    char size[NUMBER_BYTES];

    (void)problem;
    printf("kind,name,of,value\r\n");
    for (unsigned i = 0; i < nr_metrics; i++)
        csv_row("metric", metrics[i].name, metric_is_counter(&metrics[i]) ? "total" : "now",
                metric_value(&t->capture.total, &metrics[i]));
    for (uint32_t i = 0; i < t->capture.nr_classes; i++) {
        const hak_stats_class_t *row = &t->capture.classes[i];
        if (row->slabs == 0)
            continue;
        snprintf(size, sizeof size, "%" PRIu64, row->size);
        csv_row("class", size, "slabs", row->slabs);
        csv_row("class", size, "live", row->live);
        csv_row("class", size, "cached", row->cached);
        csv_row("class", size, "free", row->free);
    }
    for (uint32_t i = 0; i < nr; i++)
        csv_site(t, rows[i]);
    free(rows);
    return 0;
}

/* ---- prometheus ---------------------------------------------------------------------------- */

/* Label values escape backslash, quote and newline; the command is clean of the last. */
static void prometheus_labels(const struct target *t)
{
    printf("{pid=\"%" PRIu64 "\",command=\"", t->pid ? (uint64_t)t->pid : t->capture.root.pid);
    for (const char *c = t->capture.command; *c; c++)
        printf(*c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    printf("\"}");
}

static int export_prometheus(struct target *t, struct problem *problem)
{
    (void)problem;
    for (unsigned i = 0; i < nr_metrics; i++) {
        const struct metric *m = &metrics[i];
        char name[80];
        bool named = strstr(m->name, "bytes_total") != NULL;
        snprintf(name, sizeof name, "hakmem_%s%s%s", m->name,
                 !named && metric_is_bytes(m) ? "_bytes" : "",
                 !named && metric_is_counter(m) ? "_total" : "");
        printf("# HELP %s %s\n# TYPE %s %s\n%s", name, m->help, name,
               metric_is_counter(m) ? "counter" : "gauge", name);
        prometheus_labels(t);
        printf(" %" PRIu64 "\n", metric_value(&t->capture.total, m));
    }
    return 0;
}

/* ---- choice -------------------------------------------------------------------------------- */

export_function *export_find(const char *format)
{
    static const struct {
        const char *name;
        export_function *function;
    } formats[] = {{"json", export_json},   {"ndjson", export_ndjson},
                   {"csv", export_csv},     {"prometheus", export_prometheus},
                   {"pprof", export_pprof}, {"heap_v2", export_heap_v2}};

    for (unsigned i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, format) == 0)
            return formats[i].function;
    return NULL;
}
