// SPDX-License-Identifier: MIT
/* site_draw: random distances between samples, in integers. */
#include "site/site_private.h"

#define LN2_16 UINT64_C(45426) /* ln 2 in 2^-16 */

/* Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014: the output mixer. */
uint64_t hk_site_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    *state += *state == 0; /* 0 means not started */
    return hk_site_mix(*state);
}

/* log2(x) in 2^-16 for x >= 1, by repeated squaring of the mantissa: exact to the last bit but one. */
static uint64_t log2_16(uint64_t x)
{
    unsigned whole = 63 - (unsigned)__builtin_clzll(x);
    uint64_t mantissa = whole > 31 ? x >> (whole - 31) : x << (31 - whole); /* [1, 2) in 2^-31 */
    uint64_t log = whole;

    for (int i = 0; i < 16; i++) {
        uint64_t square = mantissa * mantissa >> 31;
        log = log << 1 | square >> 32;
        mantissa = square >> (square >> 32);
    }
    return log;
}

/* -mean * ln(u), u uniform in (0, 1]: 48 random bits, so at most 33 times the mean. */
uint64_t hk_site_interval(uint64_t *state, uint64_t mean)
{
    uint64_t u = (next(state) >> 16) + 1;
    uint64_t minus_ln_16 = ((UINT64_C(48) << 16) - log2_16(u)) * LN2_16 >> 16;
    uint64_t distance = mean / 65536 * minus_ln_16 + ((mean % 65536 * minus_ln_16 + 32768) >> 16);

    return distance ? distance : 1;
}
