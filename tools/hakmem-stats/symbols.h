/* SPDX-License-Identifier: MIT */
/*
 * symbols: what an address is called: function, file and line by libdw where it was built in, module and
 * offset always. Files are opened as the process sees them (containers, deleted files).
 *
 * Of a call in inlined functions, the function is the real one that all of it was inlined into, with the line there;
 * the inlined ones are had apart. A line in a header of the C++ library, which is what the address itself has, says
 * nothing of who allocated.
 */
#ifndef SYMBOLS_H
#define SYMBOLS_H

#include "source.h"

#include <limits.h>

#define SYMBOL_NAME_BYTES 1000 /* of templates; what is longer is cut */
#define SYMBOL_TEXT_BYTES 1600

#define MAX_INLINED 12 /* of deeper nests, the outer ones are left out */

/* An inlined function, and the line in it that was being executed. */
struct frame {
    char function[SYMBOL_NAME_BYTES];
    char file[160];
    uint32_t line;
};

struct symbol {
    char function[SYMBOL_NAME_BYTES]; /* "" if unknown; C++ as it was written */
    char file[160];
    char module[160]; /* path; "" if the address is in no file */
    uint64_t offset;  /* in the file's own addresses */
    uint32_t line;
    char inner[300]; /* "name (file:line)" of the innermost inlined function that is not a system header's; "" */
};

struct symbols;

/* NULL without memory. `source` must outlive it. */
struct symbols *symbols_open(const struct source *source);
/* `address` is a return address: the call before it is looked up. Returns the number of `inlined` functions, innermost
 * first. */
unsigned symbols_find(struct symbols *symbols, uint64_t address, struct symbol *symbol,
                      struct frame inlined[MAX_INLINED]);
/* Fills symbol->inner. */
void symbol_choose_inner(struct symbol *symbol, const struct frame *inlined, unsigned nr);
/* Files that addresses lie in and that cannot be had, in no order: why the i-th has no names; NULL: no more. symbols may be
 * NULL. */
const char *symbols_missing(const struct symbols *symbols, unsigned i, const char **path);
void symbols_close(struct symbols *symbols);
extern const bool symbols_have_functions;

/* "main (app.c:12)", "main (app.c:12) > inlined (app.c:3)", or "libx.so+0x123", or "0x123", in printable characters. SYMBOL_WHOLE columns: a function of C++ with
 * its parameters; else without, and of more columns than these (0: any number) what was inlined is left out, then the name loses
 * its end, so that file and line are seen. */
#define SYMBOL_WHOLE UINT_MAX
const char *symbol_text(const struct symbol *symbol, uint64_t address, unsigned columns, char text[SYMBOL_TEXT_BYTES]);

#endif
