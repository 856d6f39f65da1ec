// SPDX-License-Identifier: MIT
/*
 * A core dump as a source: PT_LOAD segments for the memory, the NT_FILE note for the names of files. What
 * the kernel left out because it can be read from a file (constant data) is read from that file.
 */
#include "source.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <unistd.h>

#define NOTES_LIMIT_BYTES (64u << 20)

struct core {
    ElfW(Phdr) * segments;
    unsigned nr;
};

/* Bytes that the dump leaves to the mapped file. */
static int read_mapped_file(struct source *source, uint64_t address, void *buffer, size_t bytes)
{
    const struct mapping *m = maps_find(&source->maps, address);
    int fd, error;

    if (!m || bytes > m->end - address || (fd = source_open_mapping(source, m)) < 0)
        return EFAULT;
    error = read_fully(fd, buffer, bytes, m->offset + (address - m->start));
    close(fd);
    return error;
}

/* The segment that holds the address and how many of the bytes are as it is: in the dump, or left to the file. */
static const ElfW(Phdr) * find_piece(const struct core *core, uint64_t address, size_t *bytes)
{
    for (unsigned i = 0; i < core->nr; i++) {
        const ElfW(Phdr) *s = &core->segments[i];
        uint64_t at = address - s->p_vaddr, rest;
        if (s->p_type != PT_LOAD || address < s->p_vaddr || at >= s->p_memsz)
            continue;
        rest = at < s->p_filesz ? s->p_filesz - at : s->p_memsz - at;
        if (rest < *bytes)
            *bytes = (size_t)rest;
        return s;
    }
    return NULL;
}

static int read_dumped(const struct source *source, uint64_t address, void *buffer, size_t bytes)
{
    size_t n = bytes;
    const ElfW(Phdr) *s = find_piece(source->private, address, &n);

    if (!s || n < bytes || address - s->p_vaddr >= s->p_filesz)
        return EFAULT;
    return read_fully(source->fd, buffer, bytes, s->p_offset + (address - s->p_vaddr));
}

/* A range may lie in several segments: variables that begin in the file's data and end in zeros. */
static int read_core(struct source *source, uint64_t address, void *buffer, size_t bytes)
{
    const struct core *core = source->private;
    size_t n;

    for (; bytes > 0; address += n, buffer = (char *)buffer + n, bytes -= n) {
        const ElfW(Phdr) *s = find_piece(core, address, (n = bytes, &n));
        bool dumped = s && address - s->p_vaddr < s->p_filesz;
        int error = dumped ? read_fully(source->fd, buffer, n, s->p_offset + (address - s->p_vaddr))
                           : read_mapped_file(source, address, buffer, n);
        if (error)
            return error;
    }
    return 0;
}

static void close_core(struct source *source)
{
    struct core *core = source->private;

    free(core->segments);
    free(core);
    close(source->fd);
}

/* ---- notes --------------------------------------------------------------------------------- */

/* The longs "count, page size, count x {start, end, offset in pages}", then as many names. */
static void add_files(struct source *source, const char *note, size_t bytes)
{
    unsigned long head[2], row[3];
    const char *name, *end = note + bytes;

    if (bytes < sizeof head)
        return;
    memcpy(head, note, sizeof head);
    if (head[0] > (bytes - sizeof head) / sizeof row)
        return;
    name = note + sizeof head + head[0] * sizeof row;
    for (unsigned long i = 0; i < head[0]; i++) {
        const char *stop = memchr(name, '\0', (size_t)(end - name));
        struct mapping m = {.readable = true};
        if (!stop)
            return;
        memcpy(row, note + sizeof head + i * sizeof row, sizeof row);
        m.start = row[0];
        m.end = row[1];
        m.offset = (uint64_t)row[2] * head[1];
        m.path = (char *)name;
        if (m.start < m.end)
            maps_add(&source->maps, &m);
        name = stop + 1;
    }
}

static void take_process(struct source *source, const char *note, size_t bytes)
{
    struct elf_prpsinfo info;

    if (bytes < sizeof info || source->program[0])
        return;
    memcpy(&info, note, sizeof info);
    memcpy(source->program, info.pr_fname, sizeof info.pr_fname);
    source->program[sizeof info.pr_fname] = '\0';
}

static void read_notes(struct source *source, const ElfW(Phdr) * segment)
{
    size_t bytes = segment->p_filesz, at = 0;
    char *notes = bytes <= NOTES_LIMIT_BYTES ? malloc(bytes + 1) : NULL;

    if (!notes || read_fully(source->fd, notes, bytes, segment->p_offset) != 0)
        bytes = 0;
    while (at + sizeof(ElfW(Nhdr)) <= bytes) {
        ElfW(Nhdr) n;
        uint64_t name_bytes, body_bytes;
        memcpy(&n, notes + at, sizeof n);
        at += sizeof n;
        name_bytes = ((uint64_t)n.n_namesz + 3) & ~(uint64_t)3;
        body_bytes = ((uint64_t)n.n_descsz + 3) & ~(uint64_t)3;
        if (name_bytes + body_bytes > bytes - at)
            break;
        at += name_bytes;
        if (n.n_type == NT_FILE)
            add_files(source, notes + at, n.n_descsz);
        if (n.n_type == NT_PRPSINFO)
            take_process(source, notes + at, n.n_descsz);
        at += body_bytes;
    }
    free(notes);
}

/* ---- opening ------------------------------------------------------------------------------- */

static int compare_mappings(const void *a, const void *b)
{
    const struct mapping *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

/* NT_FILE names files, PT_LOAD says what is writable and what is anonymous. */
static void add_segments(struct source *source, const struct core *core)
{
    size_t nr_files = source->maps.nr;

    for (unsigned i = 0; i < core->nr; i++) {
        const ElfW(Phdr) *s = &core->segments[i];
        struct mapping m = {.start = s->p_vaddr,
                            .end = s->p_vaddr + s->p_memsz,
                            .path = (char *)"",
                            .readable = true,
                            .writable = (s->p_flags & PF_W) != 0};
        bool named = false;
        if (s->p_type != PT_LOAD || m.start >= m.end)
            continue;
        for (size_t f = 0; f < nr_files; f++)
            if (source->maps.list[f].start < m.end && m.start < source->maps.list[f].end) {
                named = true;
                source->maps.list[f].writable |= m.writable;
            }
        if (!named)
            maps_add(&source->maps, &m);
    }
    if (source->maps.nr)
        qsort(source->maps.list, source->maps.nr, sizeof *source->maps.list, compare_mappings);
}

static bool read_core_header(int fd, ElfW(Ehdr) * header)
{
    return read_fully(fd, header, sizeof *header, 0) == 0 &&
           memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_type == ET_CORE;
}

static int read_segments(struct source *source, const char *path, struct core *core,
                         struct problem *problem)
{
    ElfW(Ehdr) header;

    if (!read_core_header(source->fd, &header))
        return problem_set(problem, EXIT_NOTHING, "%s: not a core dump", path);
    if (header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
        return problem_set(problem, EXIT_VERSION, "%s: a dump of a program of another word size",
                           path);
    if (header.e_phentsize != sizeof *core->segments || header.e_phnum == 0)
        return problem_set(problem, EXIT_NOTHING, "%s: damaged ELF header", path);
    core->nr = header.e_phnum;
    core->segments = malloc(core->nr * sizeof *core->segments);
    if (!core->segments || read_fully(source->fd, core->segments, core->nr * sizeof *core->segments,
                                      header.e_phoff) != 0)
        return problem_set(problem, EXIT_NOTHING, "%s: truncated core dump", path);
    return 0;
}

/* The program is what holds the first mapping whose file is called as the process was. */
static void name_program(struct source *source)
{
    for (size_t i = 0; i < source->maps.nr; i++) {
        const char *path = source->maps.list[i].path, *base = strrchr(path, '/');
        if (base && source->program[0] &&
            strncmp(base + 1, source->program, strlen(source->program)) == 0) {
            strncpy(source->program, path, sizeof source->program - 1);
            return;
        }
    }
}

int source_core(struct source *source, const char *path, const char *exe, struct problem *problem)
{
    struct core *core = calloc(1, sizeof *core);
    int code = core ? source_file(source, path, problem) : problem_errno(problem, ENOMEM, path);

    if (code == 0)
        code = read_segments(source, path, core, problem);
    else if (core)
        source->fd = -1;
    if (code != 0) {
        if (core && source->fd >= 0)
            source_close(source);
        if (core)
            free(core->segments);
        free(core);
        return code;
    }
    source->private = core;
    source->exe = exe;
    source->read = read_core;
    source->read_held = read_dumped;
    source->close = close_core;
    for (unsigned i = 0; i < core->nr; i++)
        if (core->segments[i].p_type == PT_NOTE)
            read_notes(source, &core->segments[i]);
    for (unsigned i = 0; i < core->nr; i++)
        source->is_cut |= core->segments[i].p_filesz > 0 &&
                          core->segments[i].p_offset + core->segments[i].p_filesz > source->fd_bytes;
    add_segments(source, core);
    name_program(source);
    return 0;
}
