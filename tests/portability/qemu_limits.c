// SPDX-License-Identifier: MIT
//
// A question to qemu-user: does a limit of the address space hold? It does not: up to 7.2 at least it answers
// setrlimit(2) of RLIMIT_AS, RLIMIT_DATA and RLIMIT_STACK with 0 and sets nothing (linux-user/syscall.c), since the
// limit would be its own. Exits with 0 if it holds. Used by cross.sh.
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/resource.h>

int main(void)
{
    const struct rlimit little = {1 << 20, 1 << 20};

    if (setrlimit(RLIMIT_AS, &little) != 0)
        return 2;
    return mmap(0, 16 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}
