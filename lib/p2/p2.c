// SPDX-License-Identifier: MIT
#include "p2/p2.h"

#include "base/panic.h"

#define HALF (HK_P2_ONE / 2)
#define HALF_A_UNIT (UINT64_C(1) << (HK_P2_FRACTION_BITS - 1))

void hk_p2_init(struct hk_p2 *p2, unsigned quantile)
{
    *p2 = (struct hk_p2){.above_median = (int32_t)quantile - (int32_t)HALF};
}

/* The first five values are kept sorted. */
static void insert(struct hk_p2 *p2, uint64_t height)
{
    unsigned i = p2->count++;

    for (; i > 0 && p2->height[i - 1] > height; i--)
        p2->height[i] = p2->height[i - 1];
    p2->height[i] = height;
    for (i = 0; p2->count == HK_P2_MARKERS && i < HK_P2_MARKERS; i++)
        p2->position[i] = i;
}

/* Ranks above the value move up; a value beyond an end becomes that end. */
static void count_value(struct hk_p2 *p2, uint64_t height)
{
    unsigned i = 1;

    if (height < p2->height[0])
        p2->height[0] = height;
    if (height > p2->height[4])
        p2->height[4] = height;
    while (i < 4 && height >= p2->height[i])
        i++;
    for (; i < HK_P2_MARKERS; i++)
        p2->position[i]++;
    p2->count++;
}

/* a * k / m rounded, for k <= m < 2^31: no product overflows. */
static uint64_t scaled(uint64_t a, uint32_t k, uint32_t m)
{
    return a / m * k + (a % m * k + m / 2) / m;
}

/*
 * What the parabola through the marker and its neighbours says of the rank one further: towards the
 * neighbour at distance `near` (in ranks; `rise` in height) and away from the one at `far` (`fall`).
 */
static uint64_t parabolic_step(uint64_t rise, uint32_t near, uint64_t fall, uint32_t far)
{
    uint64_t slope = scaled(rise, 1, near), back = scaled(fall, 1, far);

    return scaled(slope, far + 1, near + far) + scaled(back, near - 1, near + far);
}

/* Marker i moves one rank up or down. Heights stay sorted: a step never passes the neighbour. */
static void move(struct hk_p2 *p2, unsigned i, bool up)
{
    unsigned to = up ? i + 1 : i - 1, from = up ? i - 1 : i + 1;
    uint32_t near = up ? p2->position[to] - p2->position[i] : p2->position[i] - p2->position[to];
    uint32_t far = up ? p2->position[i] - p2->position[from] : p2->position[from] - p2->position[i];
    uint64_t rise = up ? p2->height[to] - p2->height[i] : p2->height[i] - p2->height[to];
    uint64_t fall = up ? p2->height[i] - p2->height[from] : p2->height[from] - p2->height[i];
    uint64_t step = parabolic_step(rise, near, fall, far);

    if (step >= rise)
        step = scaled(rise, 1, near);
    p2->height[i] += up ? step : -step;
    p2->position[i] += up ? 1 : UINT32_MAX;
}

/* Ranks as they should be, times 2 * HK_P2_ONE. */
static uint64_t ideal(const struct hk_p2 *p2, unsigned i)
{
    uint64_t q = (uint64_t)((int32_t)HALF + p2->above_median);
    const uint64_t share[HK_P2_MARKERS] = {0, q, 2 * q, HK_P2_ONE + q, 2 * HK_P2_ONE};

    return share[i] * (p2->count - 1);
}

/* Ranks that do not ascend are those of a writer that a fork lost half way: then nothing moves until they have faded. */
static void adjust(struct hk_p2 *p2, unsigned i)
{
    uint64_t wanted = ideal(p2, i), have = (uint64_t)p2->position[i] * 2 * HK_P2_ONE;
    uint32_t above = p2->position[i + 1] - p2->position[i], below = p2->position[i] - p2->position[i - 1];

    if (HK_UNLIKELY(above - 1 >= HK_P2_WINDOW || below - 1 >= HK_P2_WINDOW))
        return;
    if (wanted >= have + 2 * HK_P2_ONE && above > 1)
        move(p2, i, true);
    else if (wanted + 2 * HK_P2_ONE <= have && below > 1)
        move(p2, i, false);
}

/* Half the past, the ranks still apart. */
static void fade(struct hk_p2 *p2)
{
    p2->count /= 2;
    for (unsigned i = 0; i < 4; i++)
        p2->position[i] = (uint32_t)hk_max(p2->position[i] / 2, i ? p2->position[i - 1] + 1 : 0);
    p2->position[4] = p2->count - 1;
    for (unsigned i = 4; i-- > 0;)
        p2->position[i] = (uint32_t)hk_min(p2->position[i], p2->position[i + 1] - 1);
}

void hk_p2_add(struct hk_p2 *p2, uint64_t value)
{
    uint64_t height = (value < HK_P2_MAX ? value : HK_P2_MAX) << HK_P2_FRACTION_BITS;

    if (p2->count < HK_P2_MARKERS) {
        insert(p2, height);
        return;
    }
    count_value(p2, height);
    for (unsigned i = 1; i < 4; i++)
        adjust(p2, i);
    if (p2->count >= HK_P2_WINDOW)
        fade(p2);
}

/*
 * Where the rank sought rounds to an end (few values, an outer quantile), that end is exact and marker 2 a
 * guess. With five values all are known.
 */
uint64_t hk_p2_get(const struct hk_p2 *p2)
{
    uint64_t rank;
    unsigned marker = 2;

    if (p2->count == 0)
        return 0;
    rank = (ideal(p2, 2) + HK_P2_ONE) / (2 * HK_P2_ONE);
    if (p2->count <= HK_P2_MARKERS)
        marker = (unsigned)rank;
    else if (rank == 0 || rank == p2->count - 1)
        marker = rank ? 4 : 0;
    return (p2->height[marker] + HALF_A_UNIT) >> HK_P2_FRACTION_BITS;
}

void hk_p2_check(const struct hk_p2 *p2)
{
    unsigned nr = p2->count < HK_P2_MARKERS ? p2->count : HK_P2_MARKERS;

    for (unsigned i = 1; i < nr; i++)
        if (p2->height[i] < p2->height[i - 1])
            hk_panic_internal("p2: heights", p2);
    if (nr < HK_P2_MARKERS)
        return;
    for (unsigned i = 1; i < HK_P2_MARKERS; i++)
        if (p2->position[i] <= p2->position[i - 1])
            hk_panic_internal("p2: ranks", p2);
    if (p2->position[4] != p2->count - 1)
        hk_panic_internal("p2: count", p2);
}
