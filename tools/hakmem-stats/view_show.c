// SPDX-License-Identifier: MIT
#include "views.h"

#include "latency.h"
#include "metrics.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- title --------------------------------------------------------------------------------- */

/* The process's number in its own namespace, the last of NSpid; 0 if unknown. */
static uint64_t own_pid(pid_t pid)
{
    char path[64], *text, *line;
    uint64_t own = 0;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    text = read_text_file(path, 65536, NULL);
    line = text ? strstr(text, "\nNSpid:") : NULL;
    if (line) {
        line += strlen("\nNSpid:");
        line[strcspn(line, "\n")] = '\0';
        for (char *word = strtok(line, " \t"); word; word = strtok(NULL, " \t"))
            own = strtoull(word, NULL, 10);
    }
    free(text);
    return own;
}

static bool is_inherited(const struct target *t)
{
    uint64_t own = t->pid ? own_pid(t->pid) : 0;

    return own && own != t->capture.root.pid;
}

void print_title(const struct target *target)
{
    const struct capture *c = &target->capture;
    char version[sizeof c->root.version];

    clean_text(c->root.version, sizeof c->root.version, version, sizeof version);
    printf("%sprocess %" PRIu64 "%s%s%s%s, libhakmem %s, mode %s\n", bold(),
           target->pid ? (uint64_t)target->pid : c->root.pid, c->command[0] ? " (" : "", c->command,
           c->command[0] ? ")" : "", plain(), version, mode_name(c->root.mode));
    if (target->from_export_file)
        printf("%sa copy that the process renews now and then (its memory may not be read)%s\n",
               dim(), plain());
    if (is_inherited(target))
        printf("%sforked without fork(3): counts go on from those of process %" PRIu64 "%s\n",
               dim(), c->root.pid, plain());
    if (c->torn)
        printf("warning: the parts do not add up; the counters moved a lot while they were read, "
               "or are damaged\n");
}

void json_title(const struct target *target)
{
    const struct capture *c = &target->capture;
    char version[sizeof c->root.version];

    json_number("schema", 1);
    json_number("pid", target->pid ? (uint64_t)target->pid : c->root.pid);
    json_text("command", c->command);
    json_text("version",
              clean_text(c->root.version, sizeof c->root.version, version, sizeof version));
    json_text("mode", mode_name(c->root.mode));
    json_number("taken_ns", c->taken_ns);
    json_number("start_ns", c->root.start_ns);
    json_number("rss", c->rss_bytes);
    json_bool("inherited", is_inherited(target));
    json_bool("torn", c->torn);
}

void print_not_recorded(const char *what)
{
    printf("%s: not recorded by this version\n", what);
}

/* ---- rows ---------------------------------------------------------------------------------- */

static void print_metric(const char *label, const char *value, const char *help)
{
    printf("  %-22s %14s  %s%s%s\n", label, value, dim(), help, plain());
}

/* Groups of counters leave out what never happened; the identity is always whole. */
static void print_group(const hak_stats_t *total, unsigned group)
{
    char text[NUMBER_BYTES];
    bool any = false;

    for (unsigned i = 0; i < nr_metrics; i++) {
        const struct metric *m = &metrics[i];
        uint64_t value = metric_value(total, m);
        if (m->group != group || (value == 0 && group != METRIC_IDENTITY))
            continue;
        if (!any)
            printf("\n%s%s%s\n", bold(), metric_group_titles[group], plain());
        any = true;
        print_metric(m->name,
                     metric_is_bytes(m) ? human_bytes(value, text) : human_count(value, text),
                     m->help);
    }
}

static void print_percent(const char *name, uint64_t part, uint64_t whole, const char *help)
{
    char text[NUMBER_BYTES];

    if (whole == 0)
        return;
    snprintf(text, sizeof text, "%.1f%%", 100.0 * (double)part / (double)whole);
    print_metric(name, text, help);
}

static void print_rates(const hak_stats_t *t)
{
    uint64_t run_hits = t->run_hits_cache + t->run_hits_shard;
    uint64_t big_hits = t->big_hits_site + t->big_hits_shared + t->big_hits_part;

    if (t->refills + run_hits + t->run_misses + big_hits + t->big_misses == 0)
        return;
    printf("\n%sHow often what was kept served%s\n", bold(), plain());
    print_percent("refills without new",
                  t->refills > t->refill_new ? t->refills - t->refill_new : 0, t->refills,
                  "refills that needed no new slab");
    print_percent("run hits", run_hits, run_hits + t->run_misses,
                  "runs that were kept, of those asked for");
    print_percent("big hits", big_hits, big_hits + t->big_misses,
                  "big blocks that were kept, of those asked for");
}

static void print_latency(const struct capture *c)
{
    static const unsigned quantiles[] = {500, 950, 990};
    uint32_t counts[LATENCY_BUCKETS];
    unsigned nr = latency_read(c, counts);
    char text[NUMBER_BYTES], name[32];

    if (latency_quantile(counts, nr, 500) == 0)
        return;
    printf("\n%sTime of slow allocations%s\n", bold(), plain());
    for (unsigned i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "p%u", quantiles[i] / 10);
        print_metric(name, human_ns(latency_quantile(counts, nr, quantiles[i]), text),
                     "of those that left the fast path; 1 in 64 is timed");
    }
}

/* As the kernel counts: the heap is in what is anonymous, beside stacks and data. */
static void print_rollup(const struct capture *c)
{
    char text[NUMBER_BYTES];

    if (c->rss_anonymous_bytes)
        print_metric("rss_anonymous", human_bytes(c->rss_anonymous_bytes, text),
                     "of rss: not of files; the heap, stacks, variables");
    if (c->rss_huge_bytes)
        print_metric("rss_huge", human_bytes(c->rss_huge_bytes, text), "of rss: in huge pages");
    if (c->swap_bytes)
        print_metric("rss_swapped", human_bytes(c->swap_bytes, text), "not in rss: swapped out");
}

static void show_text(struct target *target)
{
    const struct capture *c = &target->capture;
    char text[NUMBER_BYTES];

    print_title(target);
    print_group(&c->total, METRIC_IDENTITY);
    if (c->rss_bytes)
        print_metric("rss", human_bytes(c->rss_bytes, text),
                     "memory of the whole process, whoever asked for it");
    print_rollup(c);
    for (unsigned group = METRIC_LIVE; group < NR_METRIC_GROUPS; group++)
        print_group(&c->total, group);
    print_rates(&c->total);
    print_latency(c);
}

static void show_json(struct target *target)
{
    uint32_t counts[LATENCY_BUCKETS];
    unsigned nr = latency_read(&target->capture, counts);

    json_open(NULL, '{');
    json_title(target);
    if (target->capture.rss_anonymous_bytes) { /* else a snapshot, or the kernel does not say */
        json_number("rss_anonymous", target->capture.rss_anonymous_bytes);
        json_number("rss_huge", target->capture.rss_huge_bytes);
        json_number("rss_swapped", target->capture.swap_bytes);
    }
    json_open("stats", '{');
    for (unsigned i = 0; i < nr_metrics; i++)
        json_number(metrics[i].name, metric_value(&target->capture.total, &metrics[i]));
    json_close('}');
    if (nr) {
        json_open("slow_alloc_ns", '{');
        json_number("p50", latency_quantile(counts, nr, 500));
        json_number("p95", latency_quantile(counts, nr, 950));
        json_number("p99", latency_quantile(counts, nr, 990));
        json_close('}');
    }
    json_close('}');
    json_end();
}

void view_show(struct target *target)
{
    target_read_rollup(target);
    if (output.json)
        show_json(target);
    else
        show_text(target);
}
