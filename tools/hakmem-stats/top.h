/* SPDX-License-Identifier: MIT */
/* top: a live view of one process or of all, with rates between two looks. Nothing is stopped meanwhile. */
#ifndef TOP_H
#define TOP_H

#include "problem.h"

struct top_options {
    const char *process; /* NULL: all */
    double seconds;      /* between looks */
    unsigned count;      /* looks; 0: until q */
    char sort;           /* l live, r RSS, s slow calls, d dirty, p pid */
};

int top(const struct top_options *options, struct problem *problem);

#endif
