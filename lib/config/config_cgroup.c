// SPDX-License-Identifier: MIT
/*
 * The memory limit of the control group, version 1 or 2: cgroups(7).
 *
 *   /proc/self/cgroup       5:cpu,memory:/a/b     version 1, the hierarchy with the memory controller
 *                           0::/a/b               version 2
 *   /proc/self/mountinfo    ... ROOT MOUNT ... - TYPE SOURCE OPTIONS     where that hierarchy is mounted
 *   MOUNT/(/a/b less ROOT)/memory.limit_in_bytes or memory.max
 *
 * and the same in every group above it, since the least of them holds. A container may show its own group
 * as ROOT, and then the mount point itself is the group.
 */
#include "config/config_private.h"

#include <string.h>

#define PATH_BYTES 1024
#define MAX_BYTES_READ (1024 * HK_KIB) /* of mountinfo: thousands of mounts */
#define UNLIMITED (SIZE_MAX / 4)       /* version 1 says so with a huge number */

const char *hk_config_cgroup_file = "/proc/self/cgroup";
const char *hk_config_mounts_file = "/proc/self/mountinfo";

struct group {
    bool is_v2;
    char path[PATH_BYTES];  /* of the group, in its hierarchy */
    char mount[PATH_BYTES]; /* where the hierarchy is seen; "" while unknown */
    char root[PATH_BYTES];  /* which of its groups is seen there */
};

/* ---- lines --------------------------------------------------------------------------------- */

typedef void (*line_fn)(struct slice line, struct group *group);

/* A line longer than the buffer comes in pieces; what cannot be opened has no lines. */
static void each_line(const char *path, line_fn call, struct group *group)
{
    char text[2 * PATH_BYTES];
    size_t used = 0, total = 0, n;
    int fd = hk_config_open(path);

    if (fd < 0)
        return;
    while (total < MAX_BYTES_READ && (n = hk_config_read(fd, text + used, sizeof text - used)) > 0) {
        char *start = text, *end;
        total += n;
        used += n;
        while ((end = memchr(start, '\n', used)) || used == sizeof text) {
            size_t length = end ? (size_t)(end - start) : used;
            call((struct slice){start, length}, group);
            start += length + (end != NULL);
            used -= length + (end != NULL);
        }
        memmove(text, start, used);
    }
    hk_config_close(fd);
}

static struct slice take_until(struct slice *s, char mark)
{
    struct slice word = {s->at, 0};

    while (word.length < s->length && s->at[word.length] != mark)
        word.length++;
    s->at += word.length + (word.length < s->length);
    s->length -= word.length + (word.length < s->length);
    return word;
}

static bool is(struct slice s, const char *text)
{
    return s.length == strlen(text) && memcmp(s.at, text, s.length) == 0;
}

static bool lists(struct slice s, const char *wanted)
{
    while (s.length > 0) {
        if (is(take_until(&s, ','), wanted))
            return true;
    }
    return false;
}

/* False: too long, `to` is empty. */
static bool copy(char *to, struct slice s)
{
    bool fits = s.length < PATH_BYTES;

    memcpy(to, s.at, fits ? s.length : 0);
    to[fits ? s.length : 0] = 0;
    return fits;
}

/* ---- which group, and where ---------------------------------------------------------------- */

/* Version 1 has the memory controller wherever it is listed; else it is with version 2. */
static void read_group(struct slice line, struct group *group)
{
    struct slice number = take_until(&line, ':');
    struct slice controllers = take_until(&line, ':');

    if (lists(controllers, "memory"))
        group->is_v2 = !copy(group->path, line);
    else if (is(number, "0") && controllers.length == 0 && !group->path[0])
        group->is_v2 = copy(group->path, line);
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s; to++) {
        bool octal = s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
                     s[3] >= '0' && s[3] <= '7';
        *to = octal ? (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0')) : *s;
        s += octal ? 4 : 1;
    }
    *to = 0;
}

/* "36 35 0:30 ROOT MOUNT rw,relatime shared:1 - cgroup2 cgroup2 rw,memory" */
static void read_mount(struct slice line, struct group *group)
{
    struct slice root, mount, type;

    for (int i = 0; i < 3; i++)
        (void)take_until(&line, ' ');
    root = take_until(&line, ' ');
    mount = take_until(&line, ' ');
    while (line.length > 0 && !is(take_until(&line, ' '), "-"))
        ;
    type = take_until(&line, ' ');
    (void)take_until(&line, ' '); /* source */
    if (group->mount[0] || !is(type, group->is_v2 ? "cgroup2" : "cgroup") ||
        !(group->is_v2 || lists(line, "memory")))
        return;
    if (!copy(group->root, root) || !copy(group->mount, mount))
        group->mount[0] = 0;
    unescape(group->root);
    unescape(group->mount);
}

/* ---- the limit ----------------------------------------------------------------------------- */

/* "max" and what is no number are no limit. */
static size_t read_limit(const char *path)
{
    char text[32];
    size_t limit = 0, n;
    int fd = hk_config_open(path);

    if (fd < 0)
        return SIZE_MAX;
    n = hk_config_read(fd, text, sizeof text);
    hk_config_close(fd);
    for (size_t i = 0; i < n && text[i] != '\n'; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(limit, (size_t)10, &limit) ||
            __builtin_add_overflow(limit, (size_t)(text[i] - '0'), &limit))
            return SIZE_MAX;
    }
    return n == 0 || limit > UNLIMITED ? SIZE_MAX : limit;
}

/* The group's path as seen from the mount: below its root, or the mount itself. */
static const char *below_root(const struct group *group)
{
    size_t length = strlen(group->root);

    if (length == 1)
        length = 0; /* "/" */
    if (strncmp(group->path, group->root, length) != 0 ||
        (group->path[length] && group->path[length] != '/') || strstr(group->path, "/.."))
        return "";
    return group->path + length;
}

static size_t least_limit_upward(const struct group *group)
{
    const char *file = group->is_v2 ? "/memory.max" : "/memory.limit_in_bytes";
    const char *below = below_root(group);
    size_t mount_length = strlen(group->mount), length = mount_length + strlen(below);
    char path[2 * PATH_BYTES + 32];
    size_t least = SIZE_MAX;

    memcpy(path, group->mount, mount_length);
    memcpy(path + mount_length, below, length - mount_length);
    for (;;) {
        memcpy(path + length, file, strlen(file) + 1);
        least = hk_min(least, read_limit(path));
        if (length <= mount_length)
            return least;
        do
            length--;
        while (length > mount_length && path[length] != '/');
    }
}

size_t hk_config_cgroup_limit(void)
{
    struct group group;

    group.is_v2 = false;
    group.path[0] = group.mount[0] = group.root[0] = 0;
    each_line(hk_config_cgroup_file, read_group, &group);
    if (!group.path[0])
        return SIZE_MAX;
    each_line(hk_config_mounts_file, read_mount, &group);
    return group.mount[0] ? least_limit_upward(&group) : SIZE_MAX;
}
