/* SPDX-License-Identifier: MIT */
/* latency: the histogram of slow allocations' times: four buckets per doubling, 0..3 ns apart. */
#ifndef LATENCY_H
#define LATENCY_H

#include "capture.h"

#define LATENCY_BUCKETS 256u

/* Fills counts; returns how many buckets the capture has, 0: not recorded. */
unsigned latency_read(const struct capture *capture, uint32_t counts[LATENCY_BUCKETS]);
/* Largest time in ns that falls into the bucket. */
uint64_t latency_bucket_end(unsigned bucket);
/* Upper bound of the quantile; 0: no samples. */
uint64_t latency_quantile(const uint32_t counts[LATENCY_BUCKETS], unsigned nr,
                          unsigned thousandths);

#endif
