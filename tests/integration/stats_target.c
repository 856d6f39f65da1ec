// SPDX-License-Identifier: MIT
/*
 * What the tests of hakmem-stats look at: a program whose call sites are known. Says "ready" when they hold
 * what they should; SIGUSR1 makes hold_more() hold five blocks more, and it says "more". With the argument "many" it
 * holds so many that the library does not tell its table of all of them; with "last", one of another site after that.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NR_HELD    10
#define HELD_BYTES 300000
#ifndef NR_MANY
#define NR_MANY 500
#endif
#define MANY_BYTES 100000
#define LAST_BYTES 111111

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

static void *volatile many[NR_MANY], *volatile last;

__attribute__((noinline)) static void hold_many(void)
{
    for (int i = 0; i < NR_MANY; i++)
        many[i] = malloc(MANY_BYTES);
}

__attribute__((noinline)) static void hold_last(void)
{
    last = malloc(LAST_BYTES);
}

int main(int argc, char **argv)
{
    sigset_t set;
    int number;

    if (argc > 1) {
        hold_many();
        if (strcmp(argv[1], "last") == 0)
            hold_last();
        puts("ready");
        fflush(stdout);
        pause();
    }

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
