// SPDX-License-Identifier: MIT
/* The part that every build has. symbols_dw.c or symbols_none.c knows about functions. */
#include "symbols_private.h"

#include "elf_file.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first mapping of the file says how far the file was moved. */
static const struct mapping *first_of_file(const struct maps *maps, const struct mapping *m)
{
    for (size_t i = 0; i < maps->nr; i++)
        if (strcmp(maps->list[i].path, m->path) == 0)
            return &maps->list[i];
    return m;
}

static struct module *add_module(struct symbols *symbols, const struct mapping *m)
{
    const struct mapping *first = first_of_file(&symbols->source->maps, m);
    struct module *module = calloc(1, sizeof *module);

    if (!module)
        return NULL;
    module->first = first;
    module->fd = source_open_mapping(symbols->source, first);
    module->bias = first->start - first->offset;
    if (module->fd >= 0)
        (void)elf_bias(module->fd, first->start, first->offset, &module->bias);
    module->next = symbols->modules;
    symbols->modules = module;
    return module;
}

static struct module *module_of(struct symbols *symbols, const struct mapping *m)
{
    for (struct module *module = symbols->modules; module; module = module->next)
        if (strcmp(module->first->path, m->path) == 0)
            return module;
    return add_module(symbols, m);
}

struct symbols *symbols_open(const struct source *source)
{
    struct symbols *symbols = calloc(1, sizeof *symbols);

    if (symbols)
        symbols->source = source;
    return symbols;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* What a name of C++ is without its last parameters, and what comes after them; all of it where there are none. */
static size_t without_parameters(const char *name)
{
    const char *end = strrchr(name, ')');
    size_t at = end ? (size_t)(end - name) + 1 : 0;
    unsigned depth = 0;

    if (!end || (end[1] && end[1] != ' ' && end[1] != '&')) /* " const", " [clone .cold]" */
        return strlen(name);
    while (at > 0) {
        at--;
        depth += name[at] == ')';
        depth -= name[at] == '(';
        if (depth == 0)
            break;
    }
    if (at >= 8 && strncmp(name + at - 8, "operator", 8) == 0)
        return strlen(name); /* "()" is its name */
    return depth == 0 && at > 0 ? at : strlen(name);
}

/* Of the C and C++ libraries, of compilers: not what an allocation is for. */
static bool is_system_file(const char *file)
{
    return strncmp(file, "/usr/include/", 13) == 0 || strncmp(file, "/usr/lib/", 9) == 0 ||
           strncmp(file, "/rustc/", 7) == 0 || strstr(file, "/include/c++/") != NULL;
}

void symbol_choose_inner(struct symbol *symbol, const struct frame *inlined, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        const struct frame *f = &inlined[i];
        if (f->file[0] == '\0' || f->function[0] == '\0' || is_system_file(f->file))
            continue;
        size_t length = without_parameters(f->function);
        if (length == without_parameters(symbol->function) && strncmp(f->function, symbol->function, length) == 0)
            continue; /* inlined into itself: nothing new */
        snprintf(symbol->inner, sizeof symbol->inner, "%.*s (%.80s:%u)", length < 200 ? (int)length : 200, f->function,
                 base_name(f->file), f->line);
        return;
    }
}

unsigned symbols_find(struct symbols *symbols, uint64_t address, struct symbol *symbol,
                      struct frame inlined[MAX_INLINED])
{
    const struct mapping *m = symbols ? maps_find(&symbols->source->maps, address - 1) : NULL;
    struct module *module;
    unsigned nr;

    memset(symbol, 0, sizeof *symbol);
    if (!m || m->path[0] != '/' || !(module = module_of(symbols, m)))
        return 0;
    snprintf(symbol->module, sizeof symbol->module, "%.159s", m->path);
    symbol->offset = address - module->bias;
    nr = symbols_find_function(symbols, module, address - 1, symbol, inlined);
    symbol_choose_inner(symbol, inlined, nr);
    return nr;
}

static const char *why_missing(const struct symbols *symbols, const struct mapping *m)
{
    if (m->deleted)
        return "was deleted or replaced since the process loaded it";
    return symbols->source->pid ? "cannot be opened" : "is not here, or not the one that the process had";
}

const char *symbols_missing(const struct symbols *symbols, unsigned i, const char **path)
{
    for (const struct module *module = symbols ? symbols->modules : NULL; module; module = module->next)
        if (module->fd < 0 && i-- == 0) {
            *path = module->first->path;
            return why_missing(symbols, module->first);
        }
    return NULL;
}

void symbols_close(struct symbols *symbols)
{
    struct module *next;

    if (!symbols)
        return;
    symbols_end_functions(symbols);
    for (struct module *module = symbols->modules; module; module = next) {
        next = module->next;
        if (module->fd >= 0)
            close(module->fd);
        free(module);
    }
    free(symbols);
}

/* "name (place)" in so many columns: the name gives way, with "..." in place of its end. */
static void join(const char *name, const char *place, unsigned columns, char text[SYMBOL_TEXT_BYTES])
{
    size_t room = columns > strlen(place) + 3 ? columns - strlen(place) - 3 : 0;

    if (columns == 0 || columns == SYMBOL_WHOLE || strlen(name) <= room)
        snprintf(text, SYMBOL_TEXT_BYTES, "%s (%s)", name, place);
    else if (room > 3 && room < SYMBOL_NAME_BYTES)
        snprintf(text, SYMBOL_TEXT_BYTES, "%.*s... (%s)", (int)room - 3, name, place);
    else
        snprintf(text, SYMBOL_TEXT_BYTES, "%.*s", (int)columns, name);
}

const char *symbol_text(const struct symbol *symbol, uint64_t address, unsigned columns, char text[SYMBOL_TEXT_BYTES])
{
    char place[200], name[SYMBOL_NAME_BYTES], inner[sizeof symbol->inner + 3] = "";
    size_t length = columns == SYMBOL_WHOLE ? strlen(symbol->function) : without_parameters(symbol->function);

    if (symbol->function[0] && symbol->file[0])
        snprintf(place, sizeof place, "%s:%u", base_name(symbol->file), symbol->line);
    else
        snprintf(place, sizeof place, "%s", base_name(symbol->module));
    snprintf(name, sizeof name, "%.*s", (int)length, symbol->function);
    if (symbol->inner[0])
        snprintf(inner, sizeof inner, " > %s", symbol->inner);
    if (columns && columns != SYMBOL_WHOLE && strlen(name) + strlen(place) + strlen(inner) + 3 > columns)
        inner[0] = '\0';
    if (name[0]) {
        join(name, place, columns, text);
        strcat(text, inner); /* SYMBOL_TEXT_BYTES hold all three */
    } else if (symbol->module[0]) {
        snprintf(text, SYMBOL_TEXT_BYTES, "%s+0x%" PRIx64, place, symbol->offset);
    } else {
        snprintf(text, SYMBOL_TEXT_BYTES, "0x%" PRIx64, address);
    }
    return clean_text(text, SYMBOL_TEXT_BYTES, text, SYMBOL_TEXT_BYTES);
}
