// SPDX-License-Identifier: MIT
#include "output.h"
#include "screen.h"

#include <stdio.h>
#include <time.h>

static bool start(void)
{
    return true;
}

static void nothing(void)
{
}

static void line(const char *text, bool strong)
{
    (void)strong;
    puts(text);
}

static int wait_plain(double seconds)
{
    struct timespec pause = {.tv_sec = (time_t)seconds};

    pause.tv_nsec = (long)((seconds - (double)pause.tv_sec) * 1e9);
    if (!output.json)
        puts("");
    if (fflush(stdout) != 0)
        return -1;
    nanosleep(&pause, NULL);
    return 0;
}

const struct screen screen_plain = {start, nothing, line, wait_plain, nothing};
