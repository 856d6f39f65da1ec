// SPDX-License-Identifier: MIT
/*
 * elf: what hakmem-run has to know of a program's ELF file.
 *
 * The file may be anything: every offset and count in it is checked, every loop is bounded, and it is read
 * with pread, so that one that shrinks meanwhile is a short read and nothing worse. No state; cannot fail
 * otherwise than by saying ELF_BROKEN.
 */
#ifndef HAKMEM_RUN_ELF_H
#define HAKMEM_RUN_ELF_H

#include <stdbool.h>
#include <stdint.h>

enum elf_kind {
    ELF_NOT,    /* another kind of file */
    ELF_BROKEN, /* begins as ELF, but `why` */
    ELF_FOREIGN,/* of another class or byte order than ours: only the fields up to `machine` are known */
    ELF_NATIVE
};

struct elf_facts {
    enum elf_kind kind;
    const char *why;       /* static string */
    unsigned bits;         /* 32, 64; 0 unknown */
    bool little_endian;
    unsigned machine;      /* EM_* */
    bool is_dynamic;       /* asks for a loader, or is one */
    bool defines_malloc;   /* in its dynamic symbol table */
};

void elf_read(int fd, struct elf_facts *facts);

#endif
