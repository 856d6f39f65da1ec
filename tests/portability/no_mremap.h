// SPDX-License-Identifier: MIT
//
// For a machine whose mremap(2) destroys memory (qemu_mremap.c): the library and its tests call a number that no kernel
// knows. Put in front of every source by cross.sh.
#include <sys/syscall.h>
#undef SYS_mremap
#define SYS_mremap 0xffff
