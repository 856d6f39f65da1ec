/* SPDX-License-Identifier: MIT */
/* doctor: what of the machine, and of a process, gets in the allocator's way, and what to change. */
#ifndef DOCTOR_H
#define DOCTOR_H

#include "problem.h"

#include <sys/types.h>

/* pid 0: the machine alone. Says what it could not look at; EXIT_NOTHING: there is no such process. */
int doctor(pid_t pid, struct problem *problem);

#endif
