// SPDX-License-Identifier: MIT
/* Functions and lines by libdwfl, a module reported when its first address is asked for. */
#include "symbols_private.h"

#include "demangle.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ---- units --------------------------------------------------------------------------------- */

/* The compilation unit that holds the address. clang writes no index of addresses: then each one is asked. */
static Dwarf_Die *find_unit(Dwfl_Module *module, uint64_t address, Dwarf_Addr *bias)
{
    Dwarf_Die *unit = dwfl_module_addrdie(module, address, bias);

    if (unit)
        return unit;
    while ((unit = dwfl_module_nextcu(module, unit, bias)) != NULL)
        if (dwarf_haspc(unit, address - *bias) > 0)
            return unit;
    return NULL;
}

/* What the unit says of its functions, which may be in a file of its own (-gsplit-dwarf); *room holds it. */
static Dwarf_Die *whole_unit(Dwarf_Die *unit, Dwarf_Die *room)
{
    uint8_t type = 0;

    if (dwarf_cu_info(unit->cu, NULL, &type, NULL, room, NULL, NULL, NULL) == 0 && type == DW_UT_skeleton &&
        dwarf_tag(room) != DW_TAG_invalid)
        return room;
    return unit;
}

/* ---- inlined functions --------------------------------------------------------------------- */

/* All that lies around the address, innermost first, in a list to be freed. */
static int find_scopes(Dwarf_Die *unit, Dwarf_Addr address, Dwarf_Die **scopes)
{
    Dwarf_Die *at = NULL;
    int nr = dwarf_getscopes(unit, address, &at);

    /* Beyond an inlined function that list goes on where it was written, not where it was inlined. */
    if (nr > 0)
        nr = dwarf_getscopes_die(&at[0], scopes);
    free(at);
    return nr;
}

static void copy_inlined_name(Dwarf_Die *function, char name[SYMBOL_NAME_BYTES])
{
    Dwarf_Attribute attribute;
    const char *linkage = dwarf_formstring(dwarf_attr_integrate(function, DW_AT_linkage_name, &attribute));

    if (!linkage)
        linkage = dwarf_formstring(dwarf_attr_integrate(function, DW_AT_name, &attribute));
    demangle(linkage ? linkage : "", name, SYMBOL_NAME_BYTES);
}

/* Where an inlined function was called. */
static void read_call_place(Dwarf_Die *function, Dwarf_Files *files, struct frame *place)
{
    Dwarf_Attribute attribute;
    Dwarf_Word number;
    const char *file;

    if (files && dwarf_formudata(dwarf_attr(function, DW_AT_call_file, &attribute), &number) == 0 &&
        (file = dwarf_filesrc(files, number, NULL, NULL)) != NULL)
        snprintf(place->file, sizeof place->file, "%.159s", file);
    if (dwarf_formudata(dwarf_attr(function, DW_AT_call_line, &attribute), &number) == 0)
        place->line = (uint32_t)number;
}

/* `place` comes as the line of the address and becomes that of the real function. */
static unsigned read_inlined(Dwarf_Die *unit, Dwarf_Addr address, struct frame *place, struct frame inlined[MAX_INLINED])
{
    Dwarf_Die *scopes = NULL;
    Dwarf_Files *files = NULL;
    int nr_scopes = find_scopes(unit, address, &scopes);
    unsigned nr = 0;

    if (dwarf_getsrcfiles(unit, &files, NULL) != 0)
        files = NULL;
    for (int i = 0; i < nr_scopes && dwarf_tag(&scopes[i]) != DW_TAG_subprogram; i++) {
        if (dwarf_tag(&scopes[i]) != DW_TAG_inlined_subroutine)
            continue;
        if (nr < MAX_INLINED) {
            inlined[nr] = *place;
            copy_inlined_name(&scopes[i], inlined[nr++].function);
        }
        read_call_place(&scopes[i], files, place);
    }
    free(scopes);
    return nr;
}

/* ---- an address ---------------------------------------------------------------------------- */

static bool read_line(Dwarf_Die *unit, Dwarf_Addr address, struct frame *place)
{
    Dwarf_Line *line = dwarf_getsrc_die(unit, address);
    const char *file = line ? dwarf_linesrc(line, NULL, NULL) : NULL;
    int number = 0;

    if (!file)
        return false;
    snprintf(place->file, sizeof place->file, "%.159s", file);
    place->line = dwarf_lineno(line, &number) == 0 && number > 0 ? (uint32_t)number : 0;
    return true;
}

static unsigned find_lines(Dwfl_Module *module, uint64_t address, struct symbol *symbol,
                           struct frame inlined[MAX_INLINED])
{
    struct frame place = {.line = 0};
    Dwarf_Addr bias = 0;
    Dwarf_Die *unit = find_unit(module, address, &bias), room;
    unsigned nr;

    if (!unit || !read_line(unit, address - bias, &place))
        return 0;
    nr = read_inlined(whole_unit(unit, &room), address - bias, &place, inlined);
    memcpy(symbol->file, place.file, sizeof symbol->file);
    symbol->line = place.line;
    return nr;
}

unsigned symbols_find_function(struct symbols *symbols, struct module *module, uint64_t address,
                               struct symbol *symbol, struct frame inlined[MAX_INLINED])
{
    const char *name;

    if (!module->tried) {
        module->tried = true;
        module->debug = report(symbols, module);
    }
    if (!module->debug)
        return 0;
    name = dwfl_module_addrname(module->debug, address);
    if (name)
        demangle(name, symbol->function, sizeof symbol->function);
    return find_lines(module->debug, address, symbol, inlined);
}

void symbols_end_functions(struct symbols *symbols)
{
    if (symbols->debug)
        dwfl_end(symbols->debug);
}
