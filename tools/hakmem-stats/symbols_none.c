// SPDX-License-Identifier: MIT
/* Built without libdw: modules and offsets are all there is. */
#include "symbols_private.h"

const bool symbols_have_functions = false;

unsigned symbols_find_function(struct symbols *symbols, struct module *module, uint64_t address,
                               struct symbol *symbol, struct frame inlined[MAX_INLINED])
{
    (void)symbols;
    (void)module;
    (void)address;
    (void)symbol;
    (void)inlined;
    return 0;
}

void symbols_end_functions(struct symbols *symbols)
{
    (void)symbols;
}
