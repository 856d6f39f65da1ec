// SPDX-License-Identifier: MIT
/*
 * p2: one quantile of a stream in constant memory, without keeping or sorting values: the P-square
 * algorithm (Jain and Chlamtac, "The P2 algorithm for dynamic calculation of quantiles and histograms
 * without storing observations", CACM 28(10), 1985), in integers.
 *
 *   height    min .... (min+q)/2 .... quantile .... (q+max)/2 .... max
 *   position   0         p/2             p           (1+p)/2        1      of count - 1
 *
 * Five markers follow five ranks. A value moves the ranks above it by one; a marker whose rank is one off
 * moves towards its neighbour along the parabola through the three of them, or along the line when the
 * parabola would pass a neighbour. Up to five values, and while the rank sought is the first or the last,
 * the answer is exact; then on smooth distributions within 2 % once a few thousand values are in.
 *
 * The past fades: when the count reaches HK_P2_WINDOW all ranks are halved, so that the estimate follows
 * a program that changes. That also bounds every product below.
 *
 * Owner, threads: whoever holds the struct; one writer at a time. The struct is plain data of fixed width
 * and may be copied, and a copy taken while the writer works gives a wrong number, nothing worse; so does going on with one, as a
 * fork child may.
 * A struct of zeros is valid and estimates the median. Failure: none. Locks: none.
 *
 * Invariants (hk_p2_check): heights ascend, positions ascend strictly, position[4] == count - 1.
 */
#ifndef HK_P2_H
#define HK_P2_H

#include "base/base.h"

#define HK_P2_MARKERS 5
#define HK_P2_WINDOW (UINT32_C(1) << 17)
#define HK_P2_FRACTION_BITS 12 /* of a height: small values move by less than one */
#define HK_P2_MAX (UINT64_MAX >> 1 >> HK_P2_FRACTION_BITS) /* larger values count as this: 26 days in ns */
#define HK_P2_ONE UINT32_C(10000)

struct hk_p2 {
    uint64_t height[HK_P2_MARKERS];   /* value << HK_P2_FRACTION_BITS; sorted, once count values are in */
    uint32_t position[HK_P2_MARKERS]; /* rank of the height, from 0; unused before the fifth value */
    uint32_t count;                   /* values seen, halved with the ranks */
    int32_t above_median;             /* quantile sought less a half, in 1/HK_P2_ONE */
    uint32_t unused;
};

/* quantile: 100 .. 9990 of HK_P2_ONE. */
void hk_p2_init(struct hk_p2 *p2, unsigned quantile);
void hk_p2_add(struct hk_p2 *p2, uint64_t value);
/* The estimate, 0 before the first value. */
uint64_t hk_p2_get(const struct hk_p2 *p2);
void hk_p2_check(const struct hk_p2 *p2);

#endif
