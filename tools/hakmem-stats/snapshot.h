/* SPDX-License-Identifier: MIT */
/*
 * snapshot: a capture as a file, in the layout of HAK_STATS_FILE, so that one reader serves both. Beside
 * "stats", "class", "site", "latency", "policy", "option.text" and the learner's tables it holds "process"
 * (command, rss, taken_ns) and "site.symbol": what addresses were called while they could be asked.
 */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "target.h"

/* Written beside `path` and renamed, so that there is a whole file or none. */
int snapshot_write(struct target *target, const char *path, struct problem *problem);

#endif
