/* SPDX-License-Identifier: MIT */
/*
 * symbols: what an address is called: function, file and line by libdw where it was built in, module and
 * offset always. Files are opened as the process sees them (containers, deleted files).
 */
#ifndef SYMBOLS_H
#define SYMBOLS_H

#include "source.h"

#include <limits.h>

#define SYMBOL_NAME_BYTES 1000 /* of templates; what is longer is cut */
#define SYMBOL_TEXT_BYTES 1400

struct symbol {
    char function[SYMBOL_NAME_BYTES]; /* "" if unknown; C++ as it was written */
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

/* "main (app.c:12)", or "libx.so+0x123", or "0x123", in printable characters. SYMBOL_WHOLE columns: a function of C++ with
 * its parameters; else without, and of more columns than these (0: any number) the name loses its end, so that
 * file and line are seen. */
#define SYMBOL_WHOLE UINT_MAX
const char *symbol_text(const struct symbol *symbol, uint64_t address, unsigned columns, char text[SYMBOL_TEXT_BYTES]);

#endif
