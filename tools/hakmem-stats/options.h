/* SPDX-License-Identifier: MIT */
/* options: the effective options of a capture as text: name, value, where it came from. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "capture.h"

/* Calls back once per option, in the library's order. false: not recorded. */
bool options_foreach(const struct capture *capture,
                     void (*callback)(const char *name, const char *value, const char *from,
                                      void *arg),
                     void *arg);

#endif
