// SPDX-License-Identifier: MIT
/* Before everything else, by -include: what a compiler or a distribution would put between us and memcpy, and loops
 * that need fewer turns where a turn is a choice. */
#undef _FORTIFY_SOURCE
#define SPINS 2
#define FORK_WAITS 1
