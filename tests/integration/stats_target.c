// SPDX-License-Identifier: MIT
/*
 * What the tests of hakmem-stats look at: a program whose call sites are known. Says "ready" when they hold
 * what they should; SIGUSR1 makes hold_more() hold five blocks more, and it says "more".
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NR_HELD    10
#define HELD_BYTES 300000

static void *held[NR_HELD + 5];
static void *small_block;

__attribute__((noinline)) static void hold_runs(void)
{
    for (int i = 0; i < NR_HELD; i++) {
        held[i] = malloc(HELD_BYTES);
        memset(held[i], 1, HELD_BYTES);
    }
}

__attribute__((noinline)) static void hold_more(void)
{
    for (int i = NR_HELD; i < NR_HELD + 5; i++) {
        held[i] = malloc(HELD_BYTES);
        memset(held[i], 1, HELD_BYTES);
    }
}

/* The library notes what one call site does in one go, when another one calls. */
static void say(const char *word)
{
    char *volatile other = malloc(HELD_BYTES);

    free(other);
    puts(word);
    fflush(stdout);
}

int main(void)
{
    sigset_t set;
    int number;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    small_block = malloc(100);
    hold_runs();
    say("ready");
    if (sigwait(&set, &number) == 0)
        hold_more();
    say("more");
    for (;;)
        sigwait(&set, &number);
}
