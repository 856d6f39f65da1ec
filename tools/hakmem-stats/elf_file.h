/* SPDX-License-Identifier: MIT */
/*
 * elf_file: what we need to know of an ELF file of our own word size: the value of one symbol and where
 * the file is loaded. Reads by pread and bounds everything; a file that lies is a file without the symbol.
 */
#ifndef ELF_FILE_H
#define ELF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Value of a defined data symbol of .dynsym or, failing that, .symtab. */
bool elf_symbol(int fd, const char *name, uint64_t *value);
/* What to add to the file's addresses, given that the file's bytes at `offset` are mapped at `start`. */
bool elf_bias(int fd, uint64_t start, uint64_t offset, uint64_t *bias);

#endif
