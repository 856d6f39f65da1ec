// SPDX-License-Identifier: MIT
/* Built without libdw: modules and offsets are all there is. */
#include "symbols_private.h"

const bool symbols_have_functions = false;

void symbols_find_function(struct symbols *symbols, struct module *module, uint64_t address,
                           struct symbol *symbol)
{
    (void)symbols;
    (void)module;
    (void)address;
    (void)symbol;
}

void symbols_end_functions(struct symbols *symbols)
{
    (void)symbols;
}
