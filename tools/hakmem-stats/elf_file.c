// SPDX-License-Identifier: MIT
#include "elf_file.h"

#include "source.h"

#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TABLE_LIMIT_BYTES (512u << 20) /* symbol tables of the largest browsers are below 200 MB */

#if UINTPTR_MAX == UINT64_MAX
#    define OUR_CLASS         ELFCLASS64
#    define SYMBOL_TYPE(info) ELF64_ST_TYPE(info)
#else
#    define OUR_CLASS         ELFCLASS32
#    define SYMBOL_TYPE(info) ELF32_ST_TYPE(info)
#endif

static bool read_header(int fd, ElfW(Ehdr) * header)
{
    const uint16_t one = 1;
    const unsigned char ours = *(const unsigned char *)&one ? ELFDATA2LSB : ELFDATA2MSB;

    return read_fully(fd, header, sizeof *header, 0) == 0 &&
           memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == OUR_CLASS && header->e_ident[EI_DATA] == ours;
}

/* malloc'd copy of a table, or NULL. */
static void *read_table(int fd, uint64_t offset, uint64_t bytes)
{
    void *table;

    if (bytes == 0 || bytes > TABLE_LIMIT_BYTES || !(table = malloc(bytes)))
        return NULL;
    if (read_fully(fd, table, bytes, offset) == 0)
        return table;
    free(table);
    return NULL;
}

/* NUL-terminated name of a symbol, or NULL when it leaves its table. */
static bool name_is(const char *strings, uint64_t strings_bytes, uint32_t at, const char *name)
{
    size_t bytes = strlen(name) + 1;

    return at < strings_bytes && bytes <= strings_bytes - at &&
           memcmp(strings + at, name, bytes) == 0;
}

static bool search(const ElfW(Sym) * symbols, size_t nr, const char *strings,
                   uint64_t strings_bytes, const char *name, uint64_t *value)
{
    for (size_t i = 0; i < nr; i++) {
        unsigned type = SYMBOL_TYPE(symbols[i].st_info);
        if (symbols[i].st_shndx == SHN_UNDEF || (type != STT_OBJECT && type != STT_NOTYPE) ||
            !name_is(strings, strings_bytes, symbols[i].st_name, name))
            continue;
        *value = symbols[i].st_value;
        return true;
    }
    return false;
}

static bool search_section(int fd, const ElfW(Shdr) * sections, unsigned nr, unsigned i,
                           const char *name, uint64_t *value)
{
    bool found = false;
    ElfW(Sym) *symbols = NULL;
    char *strings = NULL;

    if (sections[i].sh_entsize != sizeof *symbols || sections[i].sh_link >= nr)
        return false;
    symbols = read_table(fd, sections[i].sh_offset, sections[i].sh_size);
    if (symbols)
        strings = read_table(fd, sections[sections[i].sh_link].sh_offset,
                             sections[sections[i].sh_link].sh_size);
    if (strings)
        found = search(symbols, sections[i].sh_size / sizeof *symbols, strings,
                       sections[sections[i].sh_link].sh_size, name, value);
    free(strings);
    free(symbols);
    return found;
}

bool elf_symbol(int fd, const char *name, uint64_t *value)
{
    static const unsigned types[] = {SHT_DYNSYM, SHT_SYMTAB};
    ElfW(Ehdr) header;
    ElfW(Shdr) * sections;
    bool found = false;

    if (!read_header(fd, &header) || header.e_shentsize != sizeof *sections)
        return false;
    sections = read_table(fd, header.e_shoff, (uint64_t)header.e_shnum * sizeof *sections);
    for (unsigned t = 0; sections && !found && t < 2; t++)
        for (unsigned i = 0; !found && i < header.e_shnum; i++)
            if (sections[i].sh_type == types[t])
                found = search_section(fd, sections, header.e_shnum, i, name, value);
    free(sections);
    return found;
}

bool elf_bias(int fd, uint64_t start, uint64_t offset, uint64_t *bias)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    ElfW(Ehdr) header;
    ElfW(Phdr) * segments;
    bool found = false;

    if (!read_header(fd, &header) || header.e_phentsize != sizeof *segments)
        return false;
    segments = read_table(fd, header.e_phoff, (uint64_t)header.e_phnum * sizeof *segments);
    for (unsigned i = 0; segments && !found && i < header.e_phnum; i++) {
        const ElfW(Phdr) *s = &segments[i];
        uint64_t first = s->p_offset & ~(page - 1);
        if (s->p_type != PT_LOAD || offset < first || offset >= s->p_offset + s->p_filesz)
            continue;
        *bias = start - ((s->p_vaddr & ~(uint64_t)(page - 1)) + (offset - first));
        found = true;
    }
    free(segments);
    return found;
}
