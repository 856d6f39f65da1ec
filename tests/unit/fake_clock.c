// SPDX-License-Identifier: MIT
#include "fake_clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns = FAKE_CLOCK_START_NS;

void fake_clock_advance(uint64_t ns)
{
    now_ns += ns;
}

/* In place of libc's. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
    if (clock != CLOCK_MONOTONIC_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, t);
    t->tv_sec = (time_t)(now_ns / 1000000000);
    t->tv_nsec = (long)(now_ns % 1000000000);
    return 0;
}
