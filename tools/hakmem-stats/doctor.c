// SPDX-License-Identifier: MIT
#include "doctor.h"

#include "maps.h"
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_LIMIT (1u << 20)

static void finding(const char *what, bool good, const char *state, const char *advice)
{
    if (output.json) {
        json_open(NULL, '{');
        json_text("check", what);
        json_bool("ok", good);
        json_text("state", state);
        json_text("advice", good ? "" : advice);
        json_close('}');
        return;
    }
    printf("%s%-5s%s %-18s %s\n", good ? "" : bold(), good ? "ok" : "note", plain(), what, state);
    if (!good)
        printf("      %s\n", advice);
}

/* First line of a file; "" if it cannot be read. */
static void first_line(const char *path, char *line, size_t bytes)
{
    char *text = read_text_file(path, TEXT_LIMIT, NULL);

    snprintf(line, bytes, "%.*s", text ? (int)strcspn(text, "\n") : 0, text ? text : "");
    clean_text(line, bytes, line, bytes);
    free(text);
}

/* ---- the machine --------------------------------------------------------------------------- */

static void check_huge_pages(void)
{
    char line[128];

    first_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof line);
    finding("huge pages", !strstr(line, "[always]"), line[0] ? line : "unknown",
            "[always] makes other mappings of the program resident 2 MiB at a time; libhakmem "
            "refuses them for its "
            "own (HAKMEM_THP=off). For the rest: echo madvise > "
            "/sys/kernel/mm/transparent_hugepage/enabled");
}

static void check_overcommit(void)
{
    char line[64];

    first_line("/proc/sys/vm/overcommit_memory", line, sizeof line);
    finding("overcommit", line[0] != '2', line[0] ? line : "unknown",
            "2 counts reserved address space as used: regions are taken in small pieces and malloc "
            "may fail early; "
            "raise vm.overcommit_ratio, or set vm.overcommit_memory=0");
}

static uint64_t number_in(const char *path)
{
    char line[64];

    first_line(path, line, sizeof line);
    return strtoull(line, NULL, 10);
}

static void check_map_count(size_t nr_mappings)
{
    uint64_t most = number_in("/proc/sys/vm/max_map_count");
    char state[96];

    snprintf(state, sizeof state, "limit %" PRIu64 ", in use %zu", most, nr_mappings);
    finding("map count", most == 0 || (most >= 65530 && nr_mappings < most / 2), state,
            "purging splits mappings; near the limit memory is kept instead of given back. "
            "sysctl vm.max_map_count=262144");
}

static void check_preload_file(void)
{
    char *text = read_text_file("/etc/ld.so.preload", TEXT_LIMIT, NULL);

    finding("/etc/ld.so.preload", !text || text[strspn(text, " \n\t")] == '\0',
            text ? "has entries" : "none",
            "it loads into every program, set-user-ID ones included; prefer hakmem-run or a "
            "systemd drop-in, and keep "
            "a rescue shell open while you edit it");
    free(text);
}

static void check_yama(void)
{
    char line[32];

    first_line("/proc/sys/kernel/yama/ptrace_scope", line, sizeof line);
    finding("ptrace_scope", line[0] == '\0' || line[0] == '0' || geteuid() == 0,
            line[0] ? line : "not there",
            "other processes' memory may not be read without root; start them with "
            "HAKMEM_STATS=export");
}

/* ---- a process ----------------------------------------------------------------------------- */

static void check_other_allocators(const struct maps *maps)
{
    static const char *const names[] = {
        "libjemalloc", "libtcmalloc",        "libmimalloc", "libsnmalloc", "librpmalloc",
        "libscudo",    "libhardened_malloc", "libasan",     "libtsan",     "libmsan"};
    char found[256] = "none";

    for (size_t i = 0; i < maps->nr; i++)
        for (unsigned n = 0; n < sizeof names / sizeof *names; n++) {
            const char *base = strrchr(maps->list[i].path, '/');
            if (base && strncmp(base + 1, names[n], strlen(names[n])) == 0)
                clean_text(base + 1, sizeof found, found, sizeof found);
        }
    finding("other allocators", strcmp(found, "none") == 0, found,
            "which one serves malloc depends on the order of loading, and memory of one must not "
            "be freed by the "
            "other; link or preload one of them");
}

/* An upgrade puts another file in its place; the process goes on with the old one. */
static void check_library_file(const struct mapping *m)
{
    char state[300];

    clean_text(m->path, strlen(m->path), state, sizeof state);
    if (m->deleted)
        snprintf(state, sizeof state, "%.255s: deleted or replaced since", m->path);
    finding("library's file", !m->deleted, state,
            "the process keeps the libhakmem that it loaded until it is started anew; hakmem-stats reads it all the same");
}

static void check_library(const struct maps *maps)
{
    const struct mapping *library = NULL;
    unsigned nr = 0;
    char found[256] = "none", last[256] = "";

    for (size_t i = 0; i < maps->nr; i++) {
        const char *base = strrchr(maps->list[i].path, '/');
        if (!base || strncmp(base + 1, "libhakmem", 9) != 0 ||
            strcmp(last, maps->list[i].path) == 0)
            continue;
        snprintf(last, sizeof last, "%.255s", maps->list[i].path);
        clean_text(maps->list[i].path, sizeof found, found, sizeof found);
        library = &maps->list[i];
        nr++;
    }
    finding("libhakmem", nr <= 1, found,
            "it is loaded twice: memory of one copy must not be freed by the other");
    if (library)
        check_library_file(library);
}

/* Value of a variable of the process's environment at its start; NULL: none or not readable. */
static char *variable(pid_t pid, const char *name)
{
    char path[64], *text, *value = NULL;
    size_t bytes, length = strlen(name);

    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    text = read_text_file(path, TEXT_LIMIT, &bytes);
    for (size_t at = 0; text && at < bytes && !value; at += strlen(text + at) + 1)
        if (strncmp(text + at, name, length) == 0 && text[at + length] == '=')
            value = strdup(text + at + length + 1);
    free(text);
    return value;
}

static void check_preload(pid_t pid)
{
    char *value = variable(pid, "LD_PRELOAD"), state[200];
    const char *ours = value ? strstr(value, "libhakmem") : NULL;
    size_t before = ours ? strcspn(value, " :") : 0;

    clean_text(value ? value : "not set", 199, state, sizeof state);
    finding("LD_PRELOAD", !ours || ours < value + before, state,
            "another library comes before libhakmem; if it defines malloc, that one is used");
    free(value);
}

/* memory.max of the cgroup (v2) or memory.limit_in_bytes (v1); 0: none. */
static uint64_t cgroup_limit(pid_t pid)
{
    char path[64], file[700], *text, *rest, *line;
    uint64_t limit = 0;

    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    text = read_text_file(path, TEXT_LIMIT, NULL);
    for (rest = text; limit == 0 && (line = strsep(&rest, "\n")) != NULL;) {
        if (strncmp(line, "0::", 3) == 0)
            snprintf(file, sizeof file, "/sys/fs/cgroup%.500s/memory.max", line + 3);
        else if (strstr(line, ":memory:"))
            snprintf(file, sizeof file, "/sys/fs/cgroup/memory%.500s/memory.limit_in_bytes",
                     strstr(line, ":memory:") + 8);
        else
            continue;
        limit = number_in(file);
    }
    free(text);
    return limit > UINT64_MAX / 4 ? 0 : limit;
}

static void check_cgroup(pid_t pid)
{
    uint64_t limit = cgroup_limit(pid);
    char number[NUMBER_BYTES], state[80], *set = pid ? variable(pid, "HAKMEM_LIMIT") : NULL;

    snprintf(state, sizeof state, limit ? "limit %s" : "%s",
             limit ? human_bytes(limit, number) : "no limit");
    finding("cgroup memory", limit == 0 || limit >= (64u << 20) || set, state,
            "up to 32 MiB may be kept for reuse; in a group this small set HAKMEM_LIMIT, or "
            "HAKMEM_PURGE_CAP_BYTES");
    free(set);
}

static void check_address_space(pid_t pid)
{
    char path[64], *text, *line;
    unsigned long long limit;

    snprintf(path, sizeof path, "/proc/%d/limits", (int)pid);
    text = read_text_file(path, TEXT_LIMIT, NULL);
    line = text ? strstr(text, "Max address space") : NULL;
    bool limited = line && sscanf(line, "Max address space %llu", &limit) == 1;
    finding("address space", !limited || limit >= (1ull << 30), limited ? "limited" : "unlimited",
            "below 1 GiB (ulimit -v) regions are taken in small pieces, and big blocks fail before "
            "memory is short");
    free(text);
}

static void check_process(pid_t pid)
{
    struct maps maps = {0};
    int error = maps_read_process(&maps, pid);

    if (error) {
        finding("process", false, strerror(error),
                "its mappings cannot be read: run as its user or as root");
    } else {
        check_library(&maps);
        check_other_allocators(&maps);
        check_map_count(maps.nr);
    }
    check_preload(pid);
    check_address_space(pid);
    maps_free(&maps);
}

int doctor(pid_t pid, struct problem *problem)
{
    if (pid && kill(pid, 0) != 0 && errno == ESRCH)
        return problem_set(problem, EXIT_NOTHING, "process %d: no such process", (int)pid);
    if (output.json)
        json_open(NULL, '[');
    check_huge_pages();
    check_overcommit();
    if (pid == 0)
        check_map_count(0);
    check_cgroup(pid ? pid : getpid());
    check_preload_file();
    check_yama();
    if (pid)
        check_process(pid);
    if (output.json) {
        json_close(']');
        json_end();
    }
    return 0;
}
