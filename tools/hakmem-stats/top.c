// SPDX-License-Identifier: MIT
#include "top.h"

#include "metrics.h"
#include "output.h"
#include "processes.h"
#include "screen.h"
#include "views.h"

#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HISTORY  24
#define MAX_ROWS 4096

struct row {
    pid_t pid;
    uint64_t start_ns;
    char command[32];
    uint64_t mode, rss, time_ns;
    hak_stats_t total, before;
    double seconds;            /* between the two; 0: only one */
    uint64_t history[HISTORY]; /* live, the latest last */
    unsigned nr_history;
};

struct table_of_rows {
    struct row rows[MAX_ROWS];
    unsigned nr;
};

static struct table_of_rows tables[2];

/* ---- taking -------------------------------------------------------------------------------- */

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static const struct row *find_row(const struct table_of_rows *t, const struct row *like)
{
    for (unsigned i = 0; i < t->nr; i++)
        if (t->rows[i].pid == like->pid && t->rows[i].start_ns == like->start_ns)
            return &t->rows[i];
    return NULL;
}

static void add_history(struct row *row, const struct row *old)
{
    if (old) {
        unsigned kept = old->nr_history < HISTORY - 1 ? old->nr_history : HISTORY - 1;
        memcpy(row->history, old->history + old->nr_history - kept, kept * sizeof *row->history);
        row->nr_history = kept;
        row->before = old->total;
        row->seconds = (double)(row->time_ns - old->time_ns) / 1e9;
    }
    row->history[row->nr_history++] = row->total.live;
}

/* tables[0] is being filled, tables[1] is the look before. */
static void take(struct target *target, void *arg)
{
    struct table_of_rows *now = arg;
    struct row *row = &now->rows[now->nr];

    if (now->nr == MAX_ROWS)
        return;
    memset(row, 0, sizeof *row);
    row->pid = target->pid;
    row->start_ns = target->capture.root.start_ns;
    memcpy(row->command, target->capture.command, sizeof row->command);
    row->mode = target->capture.root.mode;
    row->rss = target->capture.rss_bytes;
    row->total = target->capture.total;
    row->time_ns = monotonic_ns();
    add_history(row, find_row(&tables[1], row));
    now->nr++;
}

static int take_all(const struct top_options *options, struct problem *problem)
{
    struct target target;
    int code;

    tables[1] = tables[0];
    tables[0].nr = 0;
    if (!options->process) {
        processes_foreach(take, &tables[0]);
        return 0;
    }
    code = target_open(&target, options->process, true, problem);
    if (code != 0)
        return code;
    take(&target, &tables[0]);
    target_close(&target);
    return 0;
}

/* ---- rates and order ----------------------------------------------------------------------- */

/* Calls that left the fast path. */
static uint64_t slow_calls(const hak_stats_t *t)
{
    return t->refills + t->flushes + t->run_hits_cache + t->run_hits_shard + t->run_misses +
           t->big_hits_site + t->big_hits_shared + t->big_hits_part + t->big_misses;
}

static uint64_t per_second(uint64_t after, uint64_t before, double seconds)
{
    return seconds > 0 && after > before ? (uint64_t)((double)(after - before) / seconds + 0.5) : 0;
}

static uint64_t slow_rate(const struct row *r)
{
    return per_second(slow_calls(&r->total), slow_calls(&r->before), r->seconds);
}

static char sort_key;

static uint64_t sort_value(const struct row *r)
{
    switch (sort_key) {
    case 'r':
        return r->rss;
    case 's':
        return slow_rate(r);
    case 'd':
        return r->total.dirty + r->total.cached;
    case 'p':
        return UINT64_MAX - (uint64_t)r->pid;
    default:
        return r->total.live;
    }
}

static int compare_rows(const void *a, const void *b)
{
    uint64_t x = sort_value(a), y = sort_value(b);

    return x < y ? 1 : x > y ? -1 : 0;
}

/* ---- drawing ------------------------------------------------------------------------------- */

static const char *sparkline(const struct row *r, char *text, size_t bytes)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const plain_blocks[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    const char *const *marks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? blocks : plain_blocks;
    uint64_t low = UINT64_MAX, high = 0;
    size_t used = 0;

    for (unsigned i = 0; i < r->nr_history; i++) {
        low = r->history[i] < low ? r->history[i] : low;
        high = r->history[i] > high ? r->history[i] : high;
    }
    text[0] = '\0';
    for (unsigned i = 0; i < r->nr_history && used + 4 < bytes; i++) {
        double share = high > low ? (double)(r->history[i] - low) / (double)(high - low) : 0;
        used += (size_t)snprintf(text + used, bytes - used, "%s", marks[(unsigned)(share * 7)]);
    }
    return text;
}

static void draw_row(const struct screen *screen, const struct row *r)
{
    char live[NUMBER_BYTES], rss[NUMBER_BYTES], kept[NUMBER_BYTES], slow[NUMBER_BYTES],
        purge[NUMBER_BYTES];
    char spark[HISTORY * 4 + 1], line[400];

    snprintf(line, sizeof line, "%8d %-16.16s %-9s %8s %8s %8s %8s %8s  %s", (int)r->pid,
             r->command, mode_name(r->mode), human_bytes(r->total.live, live),
             human_bytes(r->total.cached + r->total.dirty, kept), human_bytes(r->rss, rss),
             human_count(slow_rate(r), slow),
             human_bytes(
                 per_second(r->total.purged_bytes_total, r->before.purged_bytes_total, r->seconds),
                 purge),
             sparkline(r, spark, sizeof spark));
    screen->line(line, false);
}

static void draw_all(const struct screen *screen)
{
    char line[160];

    snprintf(line, sizeof line, "%8s %-16s %-9s %8s %8s %8s %8s %8s  %s", "PID", "COMMAND", "MODE",
             "LIVE", "KEPT", "RSS", "SLOW/s", "PURGE/s", "LIVE OVER TIME");
    screen->line(line, true);
    for (unsigned i = 0; i < tables[0].nr; i++)
        draw_row(screen, &tables[0].rows[i]);
}

static void draw_one(const struct screen *screen, const struct row *r)
{
    char line[200], value[NUMBER_BYTES], rate[NUMBER_BYTES];

    draw_all(screen);
    screen->line("", false);
    for (unsigned i = 0; i < nr_metrics; i++) {
        const struct metric *m = &metrics[i];
        uint64_t now = metric_value(&r->total, m), change = 0;
        bool bytes = metric_is_bytes(m);
        if (now == 0)
            continue;
        if (metric_is_counter(m))
            change = per_second(now, metric_value(&r->before, m), r->seconds);
        snprintf(line, sizeof line, "  %-22s %12s  %10s%s", m->name,
                 bytes ? human_bytes(now, value) : human_count(now, value),
                 metric_is_counter(m)
                     ? (bytes ? human_bytes(change, rate) : human_count(change, rate))
                     : "",
                 metric_is_counter(m) ? "/s" : "");
        screen->line(line, false);
    }
}

static void draw_json(void)
{
    for (unsigned i = 0; i < tables[0].nr; i++) {
        const struct row *r = &tables[0].rows[i];
        json_open(NULL, '{');
        json_number("pid", (uint64_t)r->pid);
        json_text("command", r->command);
        json_number("live", r->total.live);
        json_number("cached", r->total.cached);
        json_number("dirty", r->total.dirty);
        json_number("rss", r->rss);
        json_number("slow_per_second", slow_rate(r));
        json_close('}');
        json_end();
    }
    fflush(stdout);
}

static void draw(const struct screen *screen, const struct top_options *options)
{
    qsort(tables[0].rows, tables[0].nr, sizeof *tables[0].rows, compare_rows);
    if (output.json) {
        draw_json();
        return;
    }
    screen->begin();
    if (screen != &screen_plain)
        screen->line("hakmem-stats top   q quit   sort: l live  r rss  s slow calls  d kept  p pid",
                     false);
    if (options->process && tables[0].nr)
        draw_one(screen, &tables[0].rows[0]);
    else
        draw_all(screen);
}

/* ---- the loop ------------------------------------------------------------------------------ */

static const struct screen *choose_screen(void)
{
    const char *type = getenv("TERM");
    bool terminal = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && !output.json && type &&
                    strcmp(type, "dumb") != 0;

    return terminal && screen_curses && screen_curses->start() ? screen_curses : &screen_plain;
}

static bool is_sort_key(int key)
{
    return key > 0 && key < 128 && strchr("lrsdp", key) != NULL;
}

int top(const struct top_options *options, struct problem *problem)
{
    const struct screen *screen;
    int code = take_all(options, problem), key = 0;

    if (code != 0)
        return code;
    setlocale(LC_CTYPE, "");
    sort_key = options->sort;
    screen = choose_screen();
    for (unsigned i = 1; code == 0; i++) {
        draw(screen, options);
        key = i == options->count ? 'q' : screen->wait(options->seconds);
        if (key == 'q' || key < 0)
            break;
        if (is_sort_key(key))
            sort_key = (char)key;
        code = take_all(options, problem);
    }
    screen->end();
    return code;
}
