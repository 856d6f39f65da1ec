// SPDX-License-Identifier: MIT
#include "maps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAPS_LIMIT_BYTES (256u << 20) /* vm.max_map_count can be large */

static char *grown(char *text, size_t *room)
{
    char *larger = realloc(text, *room *= 2);

    if (!larger)
        free(text);
    return larger;
}

char *read_text_file(const char *path, size_t limit, size_t *bytes)
{
    size_t used = 0, room = 16384;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char *text = fd < 0 ? NULL : malloc(room);
    ssize_t n = 0;

    while (text && used < limit) {
        if (used + 1 == room && !(text = grown(text, &room)))
            break;
        n = read(fd, text + used, room - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    if (text && n < 0) {
        free(text);
        text = NULL;
    }
    if (fd >= 0) {
        int error = errno;
        close(fd);
        errno = error;
    }
    if (text)
        text[used] = '\0';
    if (bytes)
        *bytes = text ? used : 0;
    return text;
}

bool maps_add(struct maps *maps, const struct mapping *mapping)
{
    if (maps->nr == maps->room) {
        size_t room = maps->room ? maps->room * 2 : 64;
        struct mapping *list = realloc(maps->list, room * sizeof *list);
        if (!list)
            return false;
        maps->list = list;
        maps->room = room;
    }
    maps->list[maps->nr] = *mapping;
    maps->list[maps->nr].path = strdup(mapping->path);
    if (!maps->list[maps->nr].path)
        return false;
    maps->nr++;
    return true;
}

static bool cut_deleted(char *path)
{
    static const char suffix[] = " (deleted)";
    size_t length = strlen(path), tail = sizeof suffix - 1;

    if (length <= tail || strcmp(path + length - tail, suffix) != 0)
        return false;
    path[length - tail] = '\0';
    return true;
}

static void parse_line(struct maps *maps, char *line)
{
    struct mapping m = {0};
    char permissions[5];
    int path_at = 0;

    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*x:%*x %" SCNu64 " %n", &m.start,
               &m.end, permissions, &m.offset, &m.inode, &path_at) < 5 ||
        m.start >= m.end)
        return;
    m.readable = permissions[0] == 'r';
    m.writable = permissions[1] == 'w';
    m.executable = permissions[2] == 'x';
    m.path = path_at ? line + path_at : line + strlen(line);
    m.deleted = cut_deleted(m.path);
    maps_add(maps, &m);
}

void maps_parse(struct maps *maps, char *text)
{
    char *rest = text, *line;

    while ((line = strsep(&rest, "\n")) != NULL)
        parse_line(maps, line);
}

int maps_read_process(struct maps *maps, pid_t pid)
{
    char path[64], *text;

    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    text = read_text_file(path, MAPS_LIMIT_BYTES, NULL);
    if (!text)
        return errno;
    maps_parse(maps, text);
    free(text);
    return 0;
}

void maps_free(struct maps *maps)
{
    for (size_t i = 0; i < maps->nr; i++)
        free(maps->list[i].path);
    free(maps->list);
    memset(maps, 0, sizeof *maps);
}

const struct mapping *maps_find(const struct maps *maps, uint64_t address)
{
    size_t low = 0, high = maps->nr;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (address >= maps->list[middle].end)
            low = middle + 1;
        else
            high = middle;
    }
    return low < maps->nr && address >= maps->list[low].start ? &maps->list[low] : NULL;
}
