/* SPDX-License-Identifier: MIT */
/* threshold: --fail-if 'live>2G': a metric, an operator (> >= < <= == !=), a number with K, M, G, T or %. */
#ifndef THRESHOLD_H
#define THRESHOLD_H

#include "capture.h"

#define MAX_THRESHOLDS 16

struct threshold {
    const char *text;
    uint16_t offset; /* in hak_stats_t, or THRESHOLD_RSS */
    char operator[3];
    uint64_t value;
    bool percent_of_mapped;
};
#define THRESHOLD_RSS 0xffffu

/* EXIT_USAGE: the text says what would be accepted. */
int threshold_parse(const char *text, struct threshold *threshold, struct problem *problem);
/* EXIT_BREACHED, with a text that has both numbers; else 0. */
int threshold_check(const struct threshold *threshold, const struct capture *capture,
                    struct problem *problem);

#endif
