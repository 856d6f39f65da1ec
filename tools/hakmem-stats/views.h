/* SPDX-License-Identifier: MIT */
/*
 * views: one function a view. Each writes text, or one JSON object when output.json is set, and says "not
 * recorded by this version" where the capture lacks what it shows.
 */
#ifndef VIEWS_H
#define VIEWS_H

#include "sites.h"
#include "target.h"
#include "threshold.h"

void view_show(struct target *target);
void view_hist(struct target *target);
void view_sites(struct target *target, enum site_order order, unsigned limit);
void view_why(struct target *target);
void view_config(struct target *target);
/* A row per process. Returns an exit status: the first threshold that one of them breaches. */
int view_list(const struct threshold *thresholds, unsigned nr_thresholds, struct problem *problem);
/* What grew from a to b. */
void view_diff(struct target *a, struct target *b, unsigned limit);

/* "process 12 (python3), libhakmem 0.1.0, mode balanced" and notes on what to trust. */
void print_title(const struct target *target);
/* Members that every JSON object of a view opens with. */
void json_title(const struct target *target);
void print_not_recorded(const char *what);
/* Members of a call site, into an object that is open. */
void json_site(struct target *target, const struct table *table, uint32_t row);

#endif
