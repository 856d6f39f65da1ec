// SPDX-License-Identifier: MIT
/* Sizes and times as bars. */
#include "views.h"

#include "latency.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>

#define BAR_COLUMNS 40

static void print_sizes(const struct capture *c)
{
    uint64_t largest = 0;
    char size[NUMBER_BYTES], bytes[NUMBER_BYTES], live[NUMBER_BYTES], cached[NUMBER_BYTES];

    for (uint32_t i = 0; i < c->nr_classes; i++)
        if (c->classes[i].live * c->classes[i].size > largest)
            largest = c->classes[i].live * c->classes[i].size;
    printf("\n%sLive blocks by size%s\n  %8s %9s %9s %9s\n", bold(), plain(), "size", "blocks",
           "cached", "bytes");
    for (uint32_t i = 0; i < c->nr_classes; i++) {
        const hak_stats_class_t *row = &c->classes[i];
        if (row->slabs == 0)
            continue;
        printf("  %8s %9s %9s %9s  ", human_bytes(row->size, size), human_count(row->live, live),
               human_count(row->cached, cached), human_bytes(row->live * row->size, bytes));
        print_bar(row->live * row->size, largest, BAR_COLUMNS);
        putchar('\n');
    }
    if (c->total.live_big)
        printf("  %8s %9s %9s %9s\n", "larger", "", "", human_bytes(c->total.live_big, bytes));
}

static void print_times(const struct capture *c)
{
    uint32_t counts[LATENCY_BUCKETS], largest = 0;
    unsigned nr = latency_read(c, counts), first = nr, last = 0;
    char ns[NUMBER_BYTES];

    if (nr == 0) {
        print_not_recorded("times of slow allocations");
        return;
    }
    for (unsigned i = 0; i < nr; i++) {
        if (counts[i] && first == nr)
            first = i;
        if (counts[i])
            last = i;
        largest = counts[i] > largest ? counts[i] : largest;
    }
    printf("\n%sTimes of slow allocations, one in 64%s\n", bold(), plain());
    if (first == nr)
        printf("  no samples yet\n");
    for (unsigned i = first; i < nr && i <= last; i++) {
        printf("  <= %8s %9" PRIu32 "  ", human_ns(latency_bucket_end(i), ns), counts[i]);
        print_bar(counts[i], largest, BAR_COLUMNS);
        putchar('\n');
    }
}

/* Lifetimes are kept by call site only: the sites' medians, weighed by their frees. */
static void print_lifetimes(const struct capture *c)
{
    const struct table *site = capture_table(c, "site");
    uint64_t weights[64] = {0}, largest = 0;
    char ns[NUMBER_BYTES], text[NUMBER_BYTES];

    if (!table_field(site, "lifetime_p50_4096ths")) {
        print_not_recorded("\nlifetimes");
        return;
    }
    for (uint32_t i = 0; i < site->nr_rows; i++) {
        struct site row;
        site_read(site, i, &row);
        unsigned log2 = (unsigned)(63 - __builtin_clzll(row.life_p50_ns | 1));
        weights[log2] += row.key && row.has_lifetime ? row.frees : 0;
        largest = weights[log2] > largest ? weights[log2] : largest;
    }
    printf("\n%sLifetimes, by the median of each call site%s\n", bold(), plain());
    if (largest == 0)
        printf("  no samples yet\n");
    for (unsigned i = 0; i < 63; i++)
        if (weights[i]) {
            printf("  <  %8s %9s  ", human_ns((uint64_t)2 << i, ns), human_count(weights[i], text));
            print_bar(weights[i], largest, BAR_COLUMNS);
            putchar('\n');
        }
}

static void hist_json(struct target *target)
{
    const struct capture *c = &target->capture;
    uint32_t counts[LATENCY_BUCKETS];
    unsigned nr = latency_read(c, counts);

    json_open(NULL, '{');
    json_title(target);
    json_open("classes", '[');
    for (uint32_t i = 0; i < c->nr_classes; i++) {
        const hak_stats_class_t *row = &c->classes[i];
        if (row->slabs == 0)
            continue;
        json_open(NULL, '{');
        json_number("size", row->size);
        json_number("slab_bytes", row->slab_bytes);
        json_number("slots", row->slots);
        json_number("slabs", row->slabs);
        json_number("live", row->live);
        json_number("cached", row->cached);
        json_number("parcels", row->parcels);
        json_number("free", row->free);
        json_close('}');
    }
    json_close(']');
    json_open("slow_alloc_ns", '[');
    for (unsigned i = 0; i < nr; i++)
        if (counts[i]) {
            json_open(NULL, '{');
            json_number("up_to", latency_bucket_end(i));
            json_number("count", counts[i]);
            json_close('}');
        }
    json_close(']');
    json_close('}');
    json_end();
}

void view_hist(struct target *target)
{
    if (output.json) {
        hist_json(target);
        return;
    }
    print_title(target);
    print_sizes(&target->capture);
    print_times(&target->capture);
    print_lifetimes(&target->capture);
}
