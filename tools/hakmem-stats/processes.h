/* SPDX-License-Identifier: MIT */
/* processes: every process of /proc that exports counters. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include "target.h"

/* Calls back for each, with the target open. Returns how many have the library but may not be read. */
unsigned processes_foreach(void (*callback)(struct target *target, void *arg), void *arg);

#endif
