// SPDX-License-Identifier: MIT
/* site_module: address -> module, without a lock and without allocating. */
#include "site/site_private.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

/* glibc 2.35 and later: _dl_find_object takes no lock. dladdr does, and a dlopen that calls malloc holds it. */
#ifdef DLFO_STRUCT_HAS_EH_DBASE
extern __typeof(_dl_find_object) _dl_find_object __attribute__((weak));

static const ElfW(Ehdr) *header_of(const void *address)
{
    struct dl_find_object found;

    if (!_dl_find_object || _dl_find_object((void *)address, &found) != 0)
        return NULL;
    return found.dlfo_map_start;
}
#else
static const ElfW(Ehdr) *header_of(const void *address)
{
    (void)address;
    return NULL;
}
#endif

static const ElfW(Phdr) *phdr_of(const ElfW(Ehdr) *header)
{
    return (const ElfW(Phdr) *)((const char *)header + header->e_phoff);
}

/* The lowest segment's address as linked: where the header lies is base + that. */
static ElfW(Addr) linked_start(const ElfW(Ehdr) *header)
{
    const ElfW(Phdr) *phdr = phdr_of(header);

    for (unsigned i = 0; i < header->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD)
            return phdr[i].p_vaddr - phdr[i].p_offset;
    return 0;
}

/* The notes of a segment: {name bytes, value bytes, type}, name, value, each padded to 4. */
static void find_build_id(const char *note, size_t bytes, uint8_t *build_id)
{
    while (bytes >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) head;
        size_t name_bytes, value_bytes;

        memcpy(&head, note, sizeof head);
        name_bytes = hk_align_up(head.n_namesz, 4);
        value_bytes = hk_align_up(head.n_descsz, 4);
        if (name_bytes + value_bytes > bytes - sizeof head)
            return;
        if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && memcmp(note + sizeof head, "GNU", 4) == 0) {
            memcpy(build_id, note + sizeof head + name_bytes, hk_min(head.n_descsz, HK_SITE_BUILD_ID));
            return;
        }
        note += sizeof head + name_bytes + value_bytes;
        bytes -= sizeof head + name_bytes + value_bytes;
    }
}

/* The program headers lie in the first page, behind the header, in what any linker makes. */
bool hk_site_module(const void *address, uint64_t *base, uint8_t build_id[HK_SITE_BUILD_ID])
{
    const ElfW(Ehdr) *header = header_of(address);
    const ElfW(Phdr) *phdr;
    ElfW(Addr) bias;

    memset(build_id, 0, HK_SITE_BUILD_ID);
    if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phoff + header->e_phnum * sizeof *phdr > 4096)
        return false;
    phdr = phdr_of(header);
    bias = (ElfW(Addr))header - linked_start(header);
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (phdr[i].p_type == PT_NOTE && phdr[i].p_filesz)
            find_build_id((const char *)(bias + phdr[i].p_vaddr), phdr[i].p_filesz, build_id);
    *base = (uintptr_t)bias;
    return true;
}
