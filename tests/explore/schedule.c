// SPDX-License-Identifier: MIT
#include "schedule.h"

#include "engine_private.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_CHOICES ((size_t)1 << 18)

struct choice {
    uint16_t taken, allowed;
};

static struct choice choices[MAX_CHOICES];
static size_t nr_choices; /* made in this schedule */
static size_t nr_given;   /* of those, prescribed */
static enum schedule_kind kind;
static uint64_t random_state, random_at_start;

enum schedule_kind schedule_kind(void)
{
    return kind;
}

void schedule_exhaustive(void)
{
    kind = SCHEDULE_EXHAUSTIVE;
    nr_given = 0;
}

void schedule_random(uint64_t seed)
{
    kind = SCHEDULE_RANDOM;
    random_state = seed;
    nr_given = 0;
}

void schedule_repeat(void)
{
    kind = SCHEDULE_REPLAY;
    nr_given = nr_choices;
}

bool schedule_replay(const char *text)
{
    kind = SCHEDULE_REPLAY;
    nr_given = 0;
    while (*text) {
        char *end;
        unsigned long taken = strtoul(text, &end, 10), times = 1;
        if (end == text)
            return false;
        if (*end == '*')
            times = strtoul(end + 1, &end, 10);
        for (; times > 0 && nr_given < MAX_CHOICES; times--)
            choices[nr_given++].taken = (uint16_t)taken;
        if (*end && *end != ',')
            return false;
        text = *end ? end + 1 : end;
    }
    return true;
}

void schedule_again(void)
{
    random_state = random_at_start;
    if (kind == SCHEDULE_EXHAUSTIVE)
        nr_given = 0;
}

void schedule_begin(void)
{
    nr_choices = 0;
    random_at_start = random_state;
}

static unsigned fresh(unsigned n, unsigned wish)
{
    return kind == SCHEDULE_RANDOM && wish < n ? wish : 0;
}

unsigned schedule_pick(unsigned n, unsigned allowed, unsigned wish)
{
    struct choice *c = &choices[nr_choices];

    if (n == 1)
        return 0;
    if (nr_choices == MAX_CHOICES)
        explore_fail("a schedule without end");
    if (nr_choices >= nr_given)
        c->taken = (uint16_t)fresh(n, wish);
    else if (kind == SCHEDULE_EXHAUSTIVE && c->taken >= allowed)
        explore_fail("internal: the schedule differs from the one that it repeats");
    c->allowed = (uint16_t)allowed;
    nr_choices++;
    return c->taken < n ? c->taken : 0;
}

bool schedule_next(void)
{
    if (kind == SCHEDULE_RANDOM)
        return true;
    if (kind == SCHEDULE_REPLAY)
        return false;
    while (nr_choices > 0 && choices[nr_choices - 1].taken + 1u >= choices[nr_choices - 1].allowed)
        nr_choices--;
    if (nr_choices == 0)
        return false;
    choices[nr_choices - 1].taken++;
    nr_given = nr_choices;
    return true;
}

/* Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
uint64_t schedule_draw(void)
{
    uint64_t x = random_state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void schedule_print(void)
{
    size_t n = nr_choices;

    while (n > 0 && choices[n - 1].taken == 0) /* what a replay does by itself */
        n--;
    if (n > 3000) {
        printf("(%zu choices)", n);
        return;
    }
    for (size_t i = 0, times; i < n; i += times) {
        for (times = 1; i + times < n && choices[i + times].taken == choices[i].taken; times++)
            ;
        printf("%s%u", i ? "," : "", choices[i].taken);
        if (times > 1)
            printf("*%zu", times);
    }
    if (n == 0)
        printf("0");
}
