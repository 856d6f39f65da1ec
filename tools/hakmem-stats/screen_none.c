// SPDX-License-Identifier: MIT
#include "screen.h"

#include <stddef.h>

const struct screen *const screen_curses = NULL;
