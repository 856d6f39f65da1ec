// SPDX-License-Identifier: MIT
#include "base/fixed.h"

#define LN_2_Q32 UINT64_C(2977044472) /* ln 2 * 2^32 */

/* Digit by digit, two bits of n per bit of the root. */
uint32_t hk_fixed_isqrt(uint64_t n)
{
    uint64_t root = 0, bit = UINT64_C(1) << 62;

    while (bit > n)
        bit >>= 2;
    for (; bit; bit >>= 2) {
        if (n >= root + bit) {
            n -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (uint32_t)root;
}

/* log2 by squaring the mantissa: each square that reaches 2 is a bit of the fraction. */
uint32_t hk_fixed_ln(uint32_t n)
{
    unsigned whole = 31 - (unsigned)__builtin_clz(n);
    uint64_t mantissa = (uint64_t)n << (31 - whole); /* [1, 2) with 31 bits behind the point */
    uint64_t log2 = (uint64_t)whole << 24;

    for (uint64_t bit = UINT64_C(1) << 23; bit; bit >>= 1) {
        mantissa = mantissa * mantissa >> 31;
        if (mantissa >> 32) {
            mantissa >>= 1;
            log2 |= bit;
        }
    }
    return (uint32_t)(log2 * LN_2_Q32 >> 40);
}

/* The fraction by Taylor: 2^f = e^(f ln 2), 8 terms. */
uint32_t hk_fixed_exp2(int32_t x)
{
    int32_t whole = x >> HK_FIXED_SHIFT; /* rounds down: gcc and clang shift arithmetically */
    uint64_t y = (uint64_t)(x & 0xffff) * LN_2_Q32 >> 16; /* f ln 2, 32 bits behind the point */
    uint64_t term = UINT64_C(1) << 32, sum = term;

    if (whole < -17)
        return 0;
    for (unsigned i = 1; i <= 8; i++) {
        term = (term >> 4) * (y >> 4) / i >> 24;
        sum += term;
    }
    return (uint32_t)(sum >> (16 - whole));
}
