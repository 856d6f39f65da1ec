/* SPDX-License-Identifier: MIT */
/* doctor: what of the machine, and of a process, gets in the allocator's way, and what to change. */
#ifndef DOCTOR_H
#define DOCTOR_H

#include <sys/types.h>

/* pid 0: the machine alone. Always succeeds; says what it could not look at. */
void doctor(pid_t pid);

#endif
