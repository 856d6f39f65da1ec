// SPDX-License-Identifier: MIT
#include "screen.h"

#include <locale.h>
#include <ncurses.h>

static int at_line;

static bool start(void)
{
    setlocale(LC_CTYPE, "");
    if (!newterm(NULL, stdout, stdin))
        return false;
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    return true;
}

static void begin(void)
{
    erase();
    at_line = 0;
}

static void line(const char *text, bool strong)
{
    if (at_line >= LINES)
        return;
    if (strong)
        attron(A_BOLD);
    mvaddnstr(at_line++, 0, text, COLS);
    if (strong)
        attroff(A_BOLD);
}

static int wait_key(double seconds)
{
    int key;

    refresh();
    timeout((int)(seconds * 1000));
    key = getch();
    return key == ERR || key == KEY_RESIZE ? 0 : key;
}

static void end(void)
{
    endwin();
}

static const struct screen curses = {start, begin, line, wait_key, end};
const struct screen *const screen_curses = &curses;
