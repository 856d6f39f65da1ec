// SPDX-License-Identifier: MIT
//
// A question to qemu-user: does memory outlive an mremap(2) that is refused, and what lies behind a range one that
// shrinks it? Neither does on 32-bit machines (7.2: linux-user/mmap.c reserves the old range again, or the pages behind
// it, though the kernel moved nothing). Exits with 0 if it does; else it is killed, or says 1. Used by cross.sh.
#define _GNU_SOURCE
#include <sys/mman.h>

int main(void)
{
    const unsigned piece = 1 << 16;
    char *p = mmap(0, 4 * piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return 2;
    p[0] = p[2 * piece] = 7;
    if (mremap(p, 2 * piece, piece, 0) != p || p[2 * piece] != 7)
        return 1;
    if (mremap(p, 2 * piece, 8 * piece, MREMAP_MAYMOVE) != MAP_FAILED) /* there is a hole in it */
        return 1;
    return p[0] != 7;
}
