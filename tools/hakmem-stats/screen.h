/* SPDX-License-Identifier: MIT */
/*
 * screen: where `top` draws: a terminal by ncurses (screen_curses.c, when built in), or lines that follow one
 * another (screen_plain.c).
 */
#ifndef SCREEN_H
#define SCREEN_H

#include <stdbool.h>

struct screen {
    bool (*start)(void);
    void (*begin)(void);
    void (*line)(const char *text, bool strong);
    /* Shows what was drawn and waits; the key that ended the wait, 0 for none, -1 when there is nobody left. */
    int (*wait)(double seconds);
    void (*end)(void);
};

extern const struct screen screen_plain;
/* NULL: not built in. */
extern const struct screen *const screen_curses;

#endif
