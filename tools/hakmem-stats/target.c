// SPDX-License-Identifier: MIT
#include "target.h"

#include "locate.h"
#include "output.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* ---- around the counters ------------------------------------------------------------------- */

static void read_command(struct target *t)
{
    char path[64], *text;
    size_t bytes;

    snprintf(path, sizeof path, "/proc/%d/comm", (int)t->pid);
    text = read_text_file(path, 4096, &bytes);
    if (!text)
        return;
    text[strcspn(text, "\n")] = '\0';
    clean_text(text, bytes, t->capture.command, sizeof t->capture.command);
    free(text);
}

static void read_rss(struct target *t)
{
    char path[64], *text;
    unsigned long pages;

    snprintf(path, sizeof path, "/proc/%d/statm", (int)t->pid);
    text = read_text_file(path, 4096, NULL);
    if (text && sscanf(text, "%*u %lu", &pages) == 1)
        t->capture.rss_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    free(text);
}

static uint64_t rollup_bytes(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

void target_read_rollup(struct target *t)
{
    char path[64], *text;

    if (!t->pid)
        return;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)t->pid);
    text = read_text_file(path, 65536, NULL);
    if (text) {
        t->capture.rss_anonymous_bytes = rollup_bytes(text, "\nAnonymous:");
        t->capture.rss_huge_bytes = rollup_bytes(text, "\nAnonHugePages:");
        t->capture.swap_bytes = rollup_bytes(text, "\nSwap:");
    }
    free(text);
}

/* A snapshot carries what it was told of its process. */
static void take_recorded(struct capture *c)
{
    const struct table *process = capture_table(c, "process");
    const struct hak_stats_field *command = table_field(process, "command");

    if (!process || process->nr_rows == 0)
        return;
    c->rss_bytes = table_get(process, 0, "rss");
    c->taken_ns = table_get(process, 0, "taken_ns");
    if (command)
        clean_text((const char *)table_bytes(process, 0, command), command->bytes, c->command,
                   sizeof c->command);
}

static int finish(struct target *t, struct problem *problem)
{
    int code = capture_read(&t->source, t->root, &t->capture, problem);

    if (code != 0) {
        capture_free(&t->capture);
        return code;
    }
    if (t->pid) {
        read_command(t);
        read_rss(t);
    } else {
        take_recorded(&t->capture);
    }
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Memory may not be read: the copy in a file, if the process keeps one. Its addresses keep their maps. */
static int open_export_file(struct target *t, struct problem *problem)
{
    struct maps maps = t->source.maps;
    struct problem ignored;
    int fd = locate_export_file(t->pid);

    if (fd < 0)
        return problem->code;
    if (source_descriptor(&t->source, fd, "hakmem-stats memfd", &ignored) != 0)
        return problem->code;
    t->source.maps = maps;
    t->from_export_file = true;
    t->root = 0;
    return 0;
}

static int open_process(struct target *t, const char *name, bool thorough, struct problem *problem)
{
    unsigned long pid = strtoul(name, NULL, 10);
    int code;

    if (pid == 0 || pid > INT_MAX)
        return problem_set(problem, EXIT_NOTHING, "process %.20s: no such process", name);
    t->pid = (pid_t)pid;
    code = source_process(&t->source, t->pid, problem);
    if (code != 0)
        return code;
    code = locate_root(&t->source, thorough, &t->root, problem);
    t->memory_denied = code == EXIT_PERMISSION;
    return code == EXIT_PERMISSION ? open_export_file(t, problem) : code;
}

int target_open(struct target *target, const char *name, bool thorough, struct problem *problem)
{
    char process[32];
    int code;

    memset(target, 0, sizeof *target);
    code = is_number(name) ? open_process(target, name, thorough, problem)
                           : source_file(&target->source, name, problem);
    if (code == 0)
        code = finish(target, problem);
    if (code != 0) {
        source_close(&target->source);
        snprintf(process, sizeof process, "process %.20s", name);
        problem_of(problem, is_number(name) ? process : name);
    }
    return code;
}

int target_open_core(struct target *target, const char *path, const char *exe,
                     struct problem *problem)
{
    int code;

    memset(target, 0, sizeof *target);
    code = source_core(&target->source, path, exe, problem);
    if (code != 0)
        return code;
    code = locate_root(&target->source, true, &target->root, problem);
    if (code == 0)
        code = finish(target, problem);
    if (code != 0) {
        source_close(&target->source);
        return problem_of(problem, path);
    }
    const char *base = strrchr(target->source.program, '/');
    clean_text(base ? base + 1 : target->source.program, sizeof target->source.program / 2,
               target->capture.command, sizeof target->capture.command);
    return 0;
}

int target_again(struct target *target, struct problem *problem)
{
    capture_free(&target->capture);
    return finish(target, problem);
}

void target_close(struct target *target)
{
    symbols_close(target->symbols);
    capture_free(&target->capture);
    source_close(&target->source);
}

/* ---- symbols ------------------------------------------------------------------------------- */

static void copy_field(const struct table *t, uint32_t row, const char *name, char *to,
                       size_t bytes)
{
    const struct hak_stats_field *f = table_field(t, name);

    if (f)
        clean_text((const char *)table_bytes(t, row, f), f->bytes, to, bytes);
}

/* Rows are in the order of sites. */
static uint32_t first_of_site(const struct table *t, uint32_t site)
{
    uint32_t low = 0, high = t->nr_rows;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (table_get(t, middle, "site") < site)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static unsigned recorded_inlined(const struct table *t, uint32_t row, struct frame inlined[MAX_INLINED])
{
    unsigned nr = 0;

    for (uint32_t i = t ? first_of_site(t, row) : 0; t && i < t->nr_rows && nr < MAX_INLINED; i++) {
        struct frame *f = &inlined[nr];
        if (table_get(t, i, "site") != row)
            break;
        nr++;
        memset(f, 0, sizeof *f);
        copy_field(t, i, "function", f->function, sizeof f->function);
        copy_field(t, i, "file", f->file, sizeof f->file);
        f->line = (uint32_t)table_get(t, i, "line");
    }
    return nr;
}

static unsigned recorded_symbol(const struct capture *c, uint32_t row, struct symbol *symbol,
                                struct frame inlined[MAX_INLINED])
{
    const struct table *t = capture_table(c, "site.symbol");
    unsigned nr;

    memset(symbol, 0, sizeof *symbol);
    if (!t || row >= t->nr_rows)
        return 0;
    copy_field(t, row, "function", symbol->function, sizeof symbol->function);
    copy_field(t, row, "file", symbol->file, sizeof symbol->file);
    copy_field(t, row, "module", symbol->module, sizeof symbol->module);
    symbol->line = (uint32_t)table_get(t, row, "line");
    symbol->offset = table_get(t, row, "offset");
    nr = recorded_inlined(capture_table(c, "site.inlined"), row, inlined);
    symbol_choose_inner(symbol, inlined, nr);
    return nr;
}

unsigned target_frames(struct target *target, uint32_t row, struct symbol *symbol, struct frame inlined[MAX_INLINED])
{
    if (target->source.maps.nr == 0)
        return recorded_symbol(&target->capture, row, symbol, inlined);
    if (!target->symbols)
        target->symbols = symbols_open(&target->source);
    return symbols_find(target->symbols, table_get(capture_table(&target->capture, "site"), row, "key"), symbol, inlined);
}

void target_symbol(struct target *target, uint32_t row, struct symbol *symbol)
{
    struct frame inlined[MAX_INLINED];

    (void)target_frames(target, row, symbol, inlined);
}
