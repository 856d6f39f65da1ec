// SPDX-License-Identifier: MIT
/*
 * Why the library behaves as it does: the policy in force, and every table that a learner keeps. Tables that
 * this program has no view of are shown as they describe themselves, so a newer library loses nothing.
 */
#include "views.h"

#include "options.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAX_SHOWN_ROWS 64u

static bool has_own_view(const char *name)
{
    static const char *const names[] = {
        "os",           "meta",        "pagemap", "span",      "big",           "bigcache",
        "batch",        "heaps",       "size",    "heap",      "heap.slabs",    "heap.magazine",
        "heap.runs",    "parcel",      "run",     "run.class", "shard",         "runs",
        "site",         "policy",      "config",  "option",    "option.source", "option.names",
        "option.words", "option.text", "latency", "trace",     "stats",         "class",
        "process",      "site.symbol", "arena",
    };

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void field_text(const struct table *t, uint32_t row, const struct hak_stats_field *f,
                       char *text, size_t bytes)
{
    char number[NUMBER_BYTES];

    if (f->kind == HAK_KIND_TEXT) {
        clean_text((const char *)table_bytes(t, row, f), f->bytes, text, bytes);
        return;
    }
    if (f->bytes > 8)
        snprintf(text, bytes, "(%u bytes)", f->bytes);
    else if (f->kind == HAK_KIND_BYTES || f->kind == HAK_KIND_BYTES_TOTAL)
        snprintf(text, bytes, "%s", human_bytes(table_value(t, row, f), number));
    else if (f->kind == HAK_KIND_NS)
        snprintf(text, bytes, "%s", human_ns(table_value(t, row, f), number));
    else if (f->kind == HAK_KIND_ADDRESS)
        snprintf(text, bytes, "0x%" PRIx64, table_value(t, row, f));
    else
        snprintf(text, bytes, "%" PRIu64, table_value(t, row, f));
}

static bool is_empty(const struct table *t, uint32_t row)
{
    for (uint32_t i = 0; i < t->nr_fields; i++)
        if (t->fields[i].bytes > 8 || table_value(t, row, &t->fields[i]) != 0)
            return false;
    return true;
}

static void print_row(const struct table *t, uint32_t row)
{
    char text[128], field[sizeof t->fields->name];

    for (uint32_t i = 0; i < t->nr_fields; i++) {
        field_text(t, row, &t->fields[i], text, sizeof text);
        clean_text(t->fields[i].name, sizeof field, field, sizeof field);
        if (t->nr_rows == 1)
            printf("  %-24s %s\n", field, text);
        else
            printf("  %s %s%s", field, text, i + 1 == t->nr_fields ? "\n" : "");
    }
}

/* Of many rows those that say something. */
static void print_table(const struct table *t)
{
    char name[sizeof t->name];
    uint32_t nr_shown = 0, nr_empty = 0;

    printf("\n%s%s%s\n", bold(), clean_text(t->name, sizeof t->name, name, sizeof name), plain());
    for (uint32_t row = 0; row < t->nr_rows; row++)
        if (t->nr_rows > 1 && is_empty(t, row)) {
            nr_empty++;
        } else if (nr_shown < MAX_SHOWN_ROWS) {
            print_row(t, row);
            nr_shown++;
        }
    if (nr_shown + nr_empty < t->nr_rows)
        printf("  ... and %" PRIu32 " more rows\n", t->nr_rows - nr_shown - nr_empty);
    if (nr_empty > 0)
        printf("  %" PRIu32 " rows are empty\n", nr_empty);
}

static void json_table(const struct table *t)
{
    char text[256];

    json_open(t->name, '[');
    for (uint32_t row = 0; row < t->nr_rows; row++) {
        json_open(NULL, '{');
        for (uint32_t i = 0; i < t->nr_fields; i++) {
            const struct hak_stats_field *f = &t->fields[i];
            if (f->kind == HAK_KIND_TEXT)
                json_text(f->name, clean_text((const char *)table_bytes(t, row, f), f->bytes, text,
                                              sizeof text));
            else if (f->bytes <= 8)
                json_number(f->name, table_value(t, row, f));
        }
        json_close('}');
    }
    json_close(']');
}

static void print_set_option(const char *name, const char *value, const char *from, void *arg)
{
    unsigned *nr = arg;

    if (strcmp(from, "default") == 0)
        return;
    if ((*nr)++ == 0)
        printf("\n%sOptions that somebody set%s\n", bold(), plain());
    printf("  %-24s %-16s from %s\n", name, value, from);
}

static void why_json(struct target *target)
{
    const struct capture *c = &target->capture;

    json_open(NULL, '{');
    json_title(target);
    if (capture_table(c, "policy"))
        json_table(capture_table(c, "policy"));
    json_open("learner", '{');
    for (uint32_t i = 0; i < c->nr_tables; i++)
        if (!has_own_view(c->tables[i].name) && !(c->tables[i].flags & HAK_STATS_BLOB))
            json_table(&c->tables[i]);
    json_close('}');
    json_close('}');
    json_end();
}

void view_why(struct target *target)
{
    const struct capture *c = &target->capture;
    unsigned nr_set = 0, nr_learner = 0;

    if (output.json) {
        why_json(target);
        return;
    }
    print_title(target);
    if (capture_table(c, "policy"))
        print_table(capture_table(c, "policy"));
    else
        print_not_recorded("\npolicy");
    options_foreach(c, print_set_option, &nr_set);
    for (uint32_t i = 0; i < c->nr_tables; i++)
        if (!has_own_view(c->tables[i].name) && !(c->tables[i].flags & HAK_STATS_BLOB)) {
            print_table(&c->tables[i]);
            nr_learner++;
        }
    if (nr_learner == 0)
        print_not_recorded("\nlearner: its choices and their evidence");
}
