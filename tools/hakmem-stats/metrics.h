/* SPDX-License-Identifier: MIT */
/*
 * metrics: the members of hak_stats_t by name, each with its kind, group and one line of glossary. Every
 * view, format and threshold walks this one list.
 */
#ifndef METRICS_H
#define METRICS_H

#include "capture.h"

enum metric_group {
    METRIC_IDENTITY,
    METRIC_LIVE,
    METRIC_CACHED,
    METRIC_REFILL,
    METRIC_REMOTE,
    METRIC_RUNS,
    METRIC_BIG,
    METRIC_KERNEL,
    METRIC_PROCESS,
    NR_METRIC_GROUPS
};

struct metric {
    const char *name;
    uint16_t offset; /* in hak_stats_t */
    uint8_t kind;    /* enum hak_stats_kind */
    uint8_t group;
    const char *help;
};

extern const struct metric metrics[];
extern const unsigned nr_metrics;
extern const char *const metric_group_titles[NR_METRIC_GROUPS];

uint64_t metric_value(const hak_stats_t *total, const struct metric *metric);
void metric_set(hak_stats_t *total, const struct metric *metric, uint64_t value);
const struct metric *metric_find(const char *name);
bool metric_is_bytes(const struct metric *metric);
bool metric_is_counter(const struct metric *metric);

/* "balanced"; "?" for a number without a name. */
const char *mode_name(uint64_t mode);

#endif
