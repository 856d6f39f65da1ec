/* SPDX-License-Identifier: MIT */
/* symbols_private: between symbols.c and the one of symbols_dw.c, symbols_none.c that is built. */
#ifndef SYMBOLS_PRIVATE_H
#define SYMBOLS_PRIVATE_H

#include "symbols.h"

struct module {
    struct module *next;
    const struct mapping *first;
    int fd; /* -1: the file cannot be opened */
    uint64_t bias;
    void *debug; /* of symbols_dw.c */
    bool tried;
};

struct symbols {
    const struct source *source;
    struct module *modules;
    void *debug; /* of symbols_dw.c */
};

/* Fills function, file and line if it can. Returns the number of inlined functions. */
unsigned symbols_find_function(struct symbols *symbols, struct module *module, uint64_t address,
                               struct symbol *symbol, struct frame inlined[MAX_INLINED]);
void symbols_end_functions(struct symbols *symbols);

#endif
