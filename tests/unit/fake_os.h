// SPDX-License-Identifier: MIT
/*
 * fake_os: a scripted kernel behind hk_os_calls, for unit tests of any box.
 *
 * Mappings come out of one arena, at rising addresses that are never used again, so that an access
 * to memory that was given back faults. Memory is real: a box may read and write what it mapped. The
 * fake counts every call, refuses those that the test names, and knows the state of each page.
 *
 * Guard pages, which madvise makes and removes, are calls of a kind of their own, known to any kernel.
 *
 * A call on pages that are not mapped is a bug of the box: it counts as a violation and fails.
 * One thread at a time. Install it first, before the box under test maps anything.
 */
#ifndef TESTS_UNIT_FAKE_OS_H
#define TESTS_UNIT_FAKE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fake_call { FAKE_MAP, FAKE_UNMAP, FAKE_REMAP, FAKE_ADVISE, FAKE_GUARD, FAKE_PROTECT, FAKE_NR_CALLS };

/* Puts the fake in place of the kernel; a second call starts afresh. */
void fake_os_install(void);
/* Puts the kernel back. */
void fake_os_remove(void);

/* Fails the nth call of this kind from now (1: the next), and only that one, with `error`. */
void fake_os_fail(enum fake_call call, unsigned nth, int error);
/* Fails every call of this kind until fake_os_fail_all(call, 0). */
void fake_os_fail_all(enum fake_call call, int error);
/* The next mapping starts `skew` bytes (page multiple) after a multiple of `align` (power of two). */
void fake_os_place(size_t align, size_t skew);

unsigned fake_os_calls(enum fake_call call); /* since install, refused ones included */
int fake_os_last_advice(void);
unsigned fake_os_violations(void);

size_t fake_os_mapped_bytes(void);
size_t fake_os_guarded_bytes(void);
/* Is every page of the range mapped? Is none of them? */
bool fake_os_all_mapped(const void *base, size_t bytes);
/* Is it a guard page, or one without access? */
bool fake_os_is_guarded(const void *page);
bool fake_os_none_mapped(const void *base, size_t bytes);

#endif
