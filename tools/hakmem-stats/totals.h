/* SPDX-License-Identifier: MIT */
/*
 * totals: the sums over heaps, classes and parcels that hakmem/stats.h describes, made from a capture of live
 * counters; or taken from the tables "stats" and "class" where a file has them.
 */
#ifndef TOTALS_H
#define TOTALS_H

#include "capture.h"

/* Fills total, classes and torn. EXIT_VERSION: the tables do not fit together. */
int totals_compute(struct capture *capture, struct problem *problem);

#endif
