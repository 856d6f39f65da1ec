// SPDX-License-Identifier: MIT
/*
 * fake_clock: the clock that hk_os_now_ns() reads stands still until the test moves it. Linking it
 * is enough; every other clock is the kernel's.
 */
#ifndef TESTS_UNIT_FAKE_CLOCK_H
#define TESTS_UNIT_FAKE_CLOCK_H

#include <stdint.h>

#define FAKE_CLOCK_START_NS UINT64_C(1000000000000)

void fake_clock_advance(uint64_t ns);

#endif
