// SPDX-License-Identifier: MIT
/*
 * fixed: numbers with 16 bits behind the point, for the learners. Pure functions; no state, no failure.
 * Errors against the exact values, over the whole range: ln and exp2 3/65536 (exp2: relative), sqrt 1/65536.
 */
#ifndef HK_FIXED_H
#define HK_FIXED_H

#include "base/base.h"

#define HK_FIXED_SHIFT 16
#define HK_FIXED_ONE (UINT32_C(1) << HK_FIXED_SHIFT)

/* floor(sqrt(n)) of an integer. */
uint32_t hk_fixed_isqrt(uint64_t n);
/* sqrt(x), x below 2^32. */
HK_INLINE uint32_t hk_fixed_sqrt(uint32_t x)
{
    return hk_fixed_isqrt((uint64_t)x << HK_FIXED_SHIFT);
}
/* Natural logarithm of an integer n >= 1. */
uint32_t hk_fixed_ln(uint32_t n);
/* 2^x for x in (-infinity, 15): 0 below -17. */
uint32_t hk_fixed_exp2(int32_t x);

#endif
