/* SPDX-License-Identifier: MIT */
/*
 * demangle: C++ names as they were written, by the C++ runtime of this machine, which is loaded when the first
 * such name turns up; without it names stay as they are. Names come from files that nobody vouches for, and 60
 * bytes can say megabytes: a long one is given to a child that may use so much memory and time, and no more.
 */
#ifndef DEMANGLE_H
#define DEMANGLE_H

#include <stddef.h>

/* Copies the name, what is longer cut. */
void demangle(const char *name, char *text, size_t bytes);

#endif
