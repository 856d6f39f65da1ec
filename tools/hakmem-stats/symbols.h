/* SPDX-License-Identifier: MIT */
/*
 * symbols: what an address is called: function, file and line by libdw where it was built in, module and
 * offset always. Files are opened as the process sees them (containers, deleted files).
 */
#ifndef SYMBOLS_H
#define SYMBOLS_H

#include "source.h"

struct symbol {
    char function[160]; /* "" if unknown */
    char file[160];
    char module[160]; /* path; "" if the address is in no file */
    uint64_t offset;  /* in the file's own addresses */
    uint32_t line;
};

struct symbols;

/* NULL without memory. `source` must outlive it. */
struct symbols *symbols_open(const struct source *source);
/* `address` is a return address: the call before it is looked up. */
void symbols_find(struct symbols *symbols, uint64_t address, struct symbol *symbol);
void symbols_close(struct symbols *symbols);
extern const bool symbols_have_functions;

/* "main (app.c:12)", or "libx.so+0x123", or "0x123". */
const char *symbol_text(const struct symbol *symbol, uint64_t address, char *text, size_t bytes);

#endif
