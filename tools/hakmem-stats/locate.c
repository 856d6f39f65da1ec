// SPDX-License-Identifier: MIT
#include "locate.h"

#include "elf_file.h"

#include <hakmem/hakmem.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCAN_LIMIT_BYTES (64u << 20) /* of writable data of one file: .data is some MB at most */

enum verdict { NO_ROOT, ROOT_ASLEEP, ROOT_FOUND };

struct search {
    struct source *source;
    uint64_t root;
    enum verdict verdict;
    int denied; /* errno of a refused read, or 0 */
};

/* Is this the root of a library that has started? A copy relocation leaves a twin whose self is elsewhere. */
static bool accept(struct search *s, uint64_t address)
{
    struct hak_stats_root root;
    int error = s->source->read(s->source, address, &root, sizeof root);

    if (error == EPERM || error == EACCES)
        s->denied = error;
    if (error || memcmp(root.magic, HAK_STATS_MAGIC, sizeof root.magic) != 0)
        return false;
    if (root.self == 0 && s->verdict == NO_ROOT)
        s->verdict = ROOT_ASLEEP;
    /* Another byte order or word size puts self elsewhere: let the capture say so. */
    if (root.self != address && root.byte_order == HAK_STATS_BYTE_ORDER &&
        root.word_bytes == sizeof(void *))
        return false;
    s->root = address;
    s->verdict = ROOT_FOUND;
    return true;
}

static bool by_symbol(struct search *s, const struct mapping *m)
{
    uint64_t value, bias;
    bool found = false;
    int fd = source_open_mapping(s->source, m);

    if (fd < 0)
        return false;
    if (elf_symbol(fd, "hak_stats_root", &value) && elf_bias(fd, m->start, m->offset, &bias))
        found = accept(s, bias + value);
    close(fd);
    return found;
}

static bool by_magic(struct search *s, const struct mapping *m)
{
    uint64_t bytes = m->end - m->start;
    unsigned char *data;
    bool found = false;

    if (!m->writable || bytes < sizeof(struct hak_stats_root) || bytes > SCAN_LIMIT_BYTES)
        return false;
    data = malloc(bytes);
    if (data && s->source->read(s->source, m->start, data, bytes) == 0)
        for (uint64_t at = 0; !found && at + sizeof(struct hak_stats_root) <= bytes; at += 8)
            if (memcmp(data + at, HAK_STATS_MAGIC, 8) == 0)
                found = accept(s, m->start + at);
    free(data);
    return found;
}

static bool same_file(const struct mapping *a, const struct mapping *b)
{
    return a->inode == b->inode && strcmp(a->path, b->path) == 0;
}

/* All about the file whose first mapping this is. */
static bool in_file(struct search *s, const struct mapping *first)
{
    const struct maps *maps = &s->source->maps;

    if (by_symbol(s, first))
        return true;
    for (const struct mapping *m = first; m < maps->list + maps->nr && s->verdict != ROOT_ASLEEP;
         m++)
        if (same_file(m, first) && by_magic(s, m))
            return true;
    return false;
}

static bool named_like_us(const struct source *source, const struct mapping *m)
{
    const char *name = strrchr(m->path, '/');

    (void)source;
    return name && strstr(name, "hakmem");
}

static bool is_program(const struct source *source, const struct mapping *m)
{
    return strncmp(source->program, m->path, strlen(m->path)) == 0 && m->path[0] == '/';
}

static bool is_other(const struct source *source, const struct mapping *m)
{
    return !named_like_us(source, m) && !is_program(source, m);
}

static bool in_files(struct search *s, bool (*which)(const struct source *, const struct mapping *))
{
    const struct maps *maps = &s->source->maps;

    for (size_t i = 0; i < maps->nr; i++) {
        const struct mapping *m = &maps->list[i];
        bool again = i > 0 && same_file(m, m - 1);
        if (m->path[0] == '/' && m->offset == 0 && !again && which(s->source, m) && in_file(s, m))
            return true;
    }
    return false;
}

/* A core without its files: every writable segment. */
static bool anywhere(struct search *s)
{
    const struct maps *maps = &s->source->maps;

    for (size_t i = 0; i < maps->nr; i++)
        if (by_magic(s, &maps->list[i]))
            return true;
    return false;
}

int locate_root(struct source *source, bool thorough, uint64_t *root, struct problem *problem)
{
    struct search s = {.source = source};

    if (in_files(&s, named_like_us) || in_files(&s, is_program) ||
        (thorough && in_files(&s, is_other)) || (thorough && source->pid == 0 && anywhere(&s))) {
        *root = s.root;
        return 0;
    }
    if (s.denied)
        return problem_set(
            problem, EXIT_PERMISSION,
            "process %d: its memory may not be read (another user, or Yama ptrace_scope; root may, "
            "and so may its user with HAKMEM_STATS=export)",
            (int)source->pid);
    if (s.verdict == ROOT_ASLEEP)
        return problem_set(
            problem, EXIT_NOTHING,
            "libhakmem is there, but has not started or has its counters off (option stats)");
    if (source->pid)
        return problem_set(problem, EXIT_NOTHING, "process %d: does not use libhakmem",
                           (int)source->pid);
    return problem_set(problem, EXIT_NOTHING, "no libhakmem in this core dump%s",
                       source->is_cut ? ", of which the end is missing (ulimit -c, or no room on the disk)" : "");
}

int locate_export_file(pid_t pid)
{
    static const char target[] = "/memfd:hakmem-stats";
    char path[64], link[300], name[sizeof target];
    const struct dirent *entry;
    int fd = -1;
    DIR *directory;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    directory = opendir(path);
    while (directory && fd < 0 && (entry = readdir(directory)) != NULL) {
        snprintf(link, sizeof link, "%.40s/%.200s", path, entry->d_name);
        memset(name, 0, sizeof name);
        if (readlink(link, name, sizeof name - 1) == (ssize_t)sizeof target - 1 &&
            strcmp(name, target) == 0)
            fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
    if (directory)
        closedir(directory);
    return fd;
}
