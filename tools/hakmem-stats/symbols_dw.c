// SPDX-License-Identifier: MIT
/* Functions and lines by libdwfl, a module reported when its first address is asked for. */
#include "symbols_private.h"

#include "demangle.h"

#include <elfutils/libdwfl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const bool symbols_have_functions = true;

static char *debuginfo_path; /* NULL: the default search, which ends on this machine */
static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .debuginfo_path = &debuginfo_path,
};

static Dwfl_Module *report(struct symbols *symbols, struct module *module)
{
    int fd;

    if (!symbols->debug)
        symbols->debug = dwfl_begin(&callbacks);
    fd = symbols->debug && module->fd >= 0 ? dup(module->fd) : -1;
    if (fd < 0)
        return NULL;
    dwfl_report_begin_add(symbols->debug);
    Dwfl_Module *found = dwfl_report_elf(symbols->debug, module->first->path, module->first->path,
                                         fd, module->bias, true);
    if (!found)
        close(fd);
    dwfl_report_end(symbols->debug, NULL, NULL);
    return found;
}

void symbols_find_function(struct symbols *symbols, struct module *module, uint64_t address,
                           struct symbol *symbol)
{
    const char *name, *file;
    Dwfl_Line *line;
    int number = 0;

    if (!module->tried) {
        module->tried = true;
        module->debug = report(symbols, module);
    }
    if (!module->debug)
        return;
    name = dwfl_module_addrname(module->debug, address);
    if (name)
        demangle(name, symbol->function, sizeof symbol->function);
    line = dwfl_module_getsrc(module->debug, address);
    file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    if (file)
        snprintf(symbol->file, sizeof symbol->file, "%.159s", file);
    symbol->line = file && number > 0 ? (uint32_t)number : 0;
}

void symbols_end_functions(struct symbols *symbols)
{
    if (symbols->debug)
        dwfl_end(symbols->debug);
}
