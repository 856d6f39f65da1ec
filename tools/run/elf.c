// SPDX-License-Identifier: MIT
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "elf.h"

#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define MAX_PHDRS 1024
#define MAX_DYNS 1024
#define MAX_CHAIN 65536 /* symbols of one hash bucket */
#define OWN_BITS (sizeof(void *) * 8)
#define OWN_DATA (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB)

/* A native image being read. */
struct image {
    int fd;
    ElfW(Ehdr) header;
    uint64_t dynamic_at, dynamic_bytes; /* file offset; 0 bytes: none */
    bool has_interpreter;
    /* Of the dynamic section; addresses, 0 when absent. */
    uint64_t symtab, strtab, strsz, gnu_hash, hash, soname;
    bool has_soname;
};

static bool read_at(int fd, uint64_t offset, void *to, size_t bytes)
{
    if (offset > INT64_MAX / 2)
        return false;
    return pread(fd, to, bytes, (off_t)offset) == (ssize_t)bytes;
}

static bool read_phdr(const struct image *image, unsigned i, ElfW(Phdr) *phdr)
{
    uint64_t offset = image->header.e_phoff; /* 32 or 64 bits wide in the file */

    return offset <= INT64_MAX / 4 && read_at(image->fd, offset + (uint64_t)i * sizeof *phdr, phdr, sizeof *phdr);
}

/* Address to file offset, for `bytes` from there on. */
static bool locate(const struct image *image, uint64_t address, uint64_t bytes, uint64_t *offset)
{
    for (unsigned i = 0; i < image->header.e_phnum; i++) {
        ElfW(Phdr) phdr;
        if (!read_phdr(image, i, &phdr))
            return false;
        if (phdr.p_type != PT_LOAD || address < phdr.p_vaddr ||
            address - phdr.p_vaddr >= phdr.p_filesz ||
            bytes > phdr.p_filesz - (address - phdr.p_vaddr))
            continue;
        return !__builtin_add_overflow((uint64_t)phdr.p_offset, address - phdr.p_vaddr, offset);
    }
    return false;
}

static bool read_address(const struct image *image, uint64_t address, void *to, size_t bytes)
{
    uint64_t offset;

    return locate(image, address, bytes, &offset) && read_at(image->fd, offset, to, bytes);
}

/* ---- segments ------------------------------------------------------------------------------ */

static const char *read_segments(struct image *image)
{
    if (image->header.e_phnum > MAX_PHDRS)
        return "too many program headers";
    if (image->header.e_phnum && image->header.e_phentsize != sizeof(ElfW(Phdr)))
        return "program headers of a strange size";
    for (unsigned i = 0; i < image->header.e_phnum; i++) {
        ElfW(Phdr) phdr;
        if (!read_phdr(image, i, &phdr))
            return "its program headers lie beyond its end";
        if (phdr.p_type == PT_INTERP)
            image->has_interpreter = true;
        if (phdr.p_type == PT_DYNAMIC) {
            image->dynamic_at = phdr.p_offset;
            image->dynamic_bytes = phdr.p_filesz;
        }
    }
    return NULL;
}

static void note_dynamic(struct image *image, const ElfW(Dyn) *dyn)
{
    switch (dyn->d_tag) {
    case DT_SYMTAB:
        image->symtab = dyn->d_un.d_ptr;
        break;
    case DT_STRTAB:
        image->strtab = dyn->d_un.d_ptr;
        break;
    case DT_STRSZ:
        image->strsz = dyn->d_un.d_val;
        break;
    case DT_GNU_HASH:
        image->gnu_hash = dyn->d_un.d_ptr;
        break;
    case DT_HASH:
        image->hash = dyn->d_un.d_ptr;
        break;
    case DT_SONAME:
        image->soname = dyn->d_un.d_val;
        image->has_soname = true;
        break;
    default:
        break;
    }
}

static const char *read_dynamic(struct image *image)
{
    uint64_t count = image->dynamic_bytes / sizeof(ElfW(Dyn));

    if (image->dynamic_at > INT64_MAX / 4)
        return "its dynamic section lies beyond its end";
    for (uint64_t i = 0; i < count && i < MAX_DYNS; i++) {
        ElfW(Dyn) dyn;
        if (!read_at(image->fd, image->dynamic_at + i * sizeof dyn, &dyn, sizeof dyn))
            return "its dynamic section lies beyond its end";
        if (dyn.d_tag == DT_NULL)
            break;
        note_dynamic(image, &dyn);
    }
    return NULL;
}

/* ---- symbols ------------------------------------------------------------------------------- */

/* Compares with the NUL, if `whole`. */
static bool string_is(const struct image *image, uint64_t index, const char *text, bool whole)
{
    char found[16];
    size_t bytes = strlen(text) + whole;

    return index < image->strsz && bytes <= image->strsz - index && bytes <= sizeof found &&
           image->strtab <= UINT64_MAX - index &&
           read_address(image, image->strtab + index, found, bytes) && memcmp(found, text, bytes) == 0;
}

static bool defines(const struct image *image, uint64_t index, const char *name)
{
    ElfW(Sym) symbol;

    if (index > UINT32_MAX || image->symtab > UINT64_MAX - index * sizeof symbol ||
        !read_address(image, image->symtab + index * sizeof symbol, &symbol, sizeof symbol))
        return false;
    return symbol.st_shndx != SHN_UNDEF && string_is(image, symbol.st_name, name, true);
}

/* The table of DT_GNU_HASH: four words, a Bloom filter, buckets, and chains that end in an odd hash. */
static bool gnu_lookup(const struct image *image, const char *name)
{
    uint32_t head[4], hash = 5381, index, entry;
    uint64_t buckets, chains;

    for (const char *c = name; *c; c++)
        hash = hash * 33 + (unsigned char)*c;
    if (image->gnu_hash > INT64_MAX / 2 || !read_address(image, image->gnu_hash, head, sizeof head) ||
        head[0] == 0)
        return false;
    buckets = image->gnu_hash + sizeof head + (uint64_t)head[2] * sizeof(ElfW(Addr));
    chains = buckets + (uint64_t)head[0] * 4;
    if (!read_address(image, buckets + (uint64_t)(hash % head[0]) * 4, &index, sizeof index) ||
        index < head[1])
        return false;
    for (unsigned steps = 0; steps < MAX_CHAIN; steps++) {
        uint64_t place = (uint64_t)index - head[1] + steps;
        if (!read_address(image, chains + place * 4, &entry, sizeof entry))
            return false;
        if ((entry | 1) == (hash | 1) && defines(image, (uint64_t)index + steps, name))
            return true;
        if (entry & 1)
            return false;
    }
    return false;
}

/* System V's: two counts, buckets, and a chain of indexes for each. */
static bool sysv_lookup(const struct image *image, const char *name)
{
    uint32_t head[2], hash = 0, index;
    uint64_t buckets = image->hash + sizeof head;

    for (const char *c = name; *c; c++) {
        hash = (hash << 4) + (unsigned char)*c;
        hash ^= (hash & 0xf0000000) >> 24;
        hash &= 0x0fffffff;
    }
    if (image->hash > INT64_MAX / 2 || !read_address(image, image->hash, head, sizeof head) ||
        head[0] == 0 ||
        !read_address(image, buckets + (uint64_t)(hash % head[0]) * 4, &index, sizeof index))
        return false;
    for (unsigned steps = 0; index != STN_UNDEF && steps < MAX_CHAIN; steps++) {
        if (defines(image, index, name))
            return true;
        if (!read_address(image, buckets + ((uint64_t)head[0] + index) * 4, &index, sizeof index))
            return false;
    }
    return false;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static const char *read_native(struct image *image, struct elf_facts *facts)
{
    const char *why;

    if (!read_at(image->fd, 0, &image->header, sizeof image->header))
        return "it ends within its header";
    if (image->header.e_type != ET_EXEC && image->header.e_type != ET_DYN)
        return "it is no program";
    why = read_segments(image);
    if (!why)
        why = read_dynamic(image);
    if (why)
        return why;
    /* ld.so, as a command: it asks for no loader, and obeys LD_PRELOAD itself. */
    facts->is_dynamic = image->has_interpreter ||
                        (image->has_soname && (string_is(image, image->soname, "ld-", false) ||
                                               string_is(image, image->soname, "ld.so", false) ||
                                               string_is(image, image->soname, "ld64.so", false)));
    facts->defines_malloc =
        image->has_interpreter &&
        (image->gnu_hash ? gnu_lookup(image, "malloc") : image->hash && sysv_lookup(image, "malloc"));
    return NULL;
}

void elf_read(int fd, struct elf_facts *facts)
{
    struct image image = {.fd = fd};
    unsigned char ident[EI_NIDENT + 4] = {0}; /* with e_type and e_machine */

    *facts = (struct elf_facts){.kind = ELF_NOT};
    if (!read_at(fd, 0, ident, SELFMAG) || memcmp(ident, ELFMAG, SELFMAG) != 0)
        return;
    facts->kind = ELF_BROKEN;
    facts->why = "it ends within its header";
    if (!read_at(fd, 0, ident, sizeof ident))
        return;
    facts->why = "neither 32-bit nor 64-bit, or of no byte order";
    if ((ident[EI_CLASS] != ELFCLASS32 && ident[EI_CLASS] != ELFCLASS64) ||
        (ident[EI_DATA] != ELFDATA2LSB && ident[EI_DATA] != ELFDATA2MSB))
        return;
    facts->bits = ident[EI_CLASS] == ELFCLASS32 ? 32 : 64;
    facts->little_endian = ident[EI_DATA] == ELFDATA2LSB;
    facts->machine = facts->little_endian ? ident[18] | (unsigned)ident[19] << 8
                                          : ident[19] | (unsigned)ident[18] << 8;
    facts->kind = ELF_FOREIGN;
    if (facts->bits != OWN_BITS || ident[EI_DATA] != OWN_DATA)
        return;
    facts->why = read_native(&image, facts);
    facts->kind = facts->why ? ELF_BROKEN : ELF_NATIVE;
}
