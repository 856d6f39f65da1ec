// SPDX-License-Identifier: MIT
#include "snapshot.h"

#include "metrics.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SNAPSHOT_TABLES 200

struct symbol_row {
    char function[SYMBOL_NAME_BYTES], file[160], module[160];
    uint64_t offset;
    uint32_t line, unused;
};

struct inlined_row {
    uint32_t site; /* row */
    struct frame frame;
};

struct process_row {
    char command[32];
    uint64_t rss, taken_ns;
};

/* The file as it grows in memory. */
struct image {
    char *data;
    size_t bytes, room;
    bool failed;
    struct hak_stats_table tables[MAX_SNAPSHOT_TABLES];
    uint32_t nr_tables;
};

/* ---- building blocks ----------------------------------------------------------------------- */

static uint64_t append(struct image *image, const void *data, size_t bytes)
{
    size_t at = (image->bytes + 7) & ~(size_t)7, room = image->room ? image->room : 65536;

    while (room < at + bytes)
        room *= 2;
    if (room != image->room) {
        char *larger = realloc(image->data, room);
        if (!larger) {
            image->failed = true;
            return 0;
        }
        memset(larger + image->room, 0, room - image->room);
        image->data = larger;
        image->room = room;
    }
    if (bytes)
        memcpy(image->data + at, data, bytes);
    image->bytes = at + bytes;
    return at;
}

static void add_table(struct image *image, const char *name, const void *rows, uint32_t nr_rows,
                      uint32_t row_bytes, const struct hak_stats_field *fields, uint32_t nr_fields)
{
    struct hak_stats_table *t = &image->tables[image->nr_tables];

    if (image->nr_tables == MAX_SNAPSHOT_TABLES || row_bytes == 0)
        return;
    image->nr_tables++;
    memset(t, 0, sizeof *t);
    memcpy(t->name, name, strnlen(name, sizeof t->name));
    t->rows = append(image, rows, (size_t)nr_rows * row_bytes);
    t->fields = append(image, fields, nr_fields * sizeof *fields);
    t->nr_rows = nr_rows;
    t->row_bytes = row_bytes;
    t->nr_fields = nr_fields;
    t->flags = nr_fields ? 0 : HAK_STATS_BLOB;
}

static struct hak_stats_field field(const char *name, size_t offset, size_t bytes, unsigned kind)
{
    struct hak_stats_field f = {
        .offset = (uint32_t)offset, .bytes = (uint16_t)bytes, .kind = (uint8_t)kind};

    memcpy(f.name, name, strnlen(name, sizeof f.name - 1));
    return f;
}

/* ---- tables -------------------------------------------------------------------------------- */

static void add_stats(struct image *image, const struct capture *c)
{
    struct hak_stats_field fields[128];
    uint32_t nr = 0;

    for (unsigned i = 0; i < nr_metrics && nr < 127; i++)
        fields[nr++] = field(metrics[i].name, metrics[i].offset, 8, metrics[i].kind);
    fields[nr++] = field("resident", offsetof(hak_stats_t, resident), 8, HAK_KIND_BYTES);
    add_table(image, "stats", &c->total, 1, sizeof c->total, fields, nr);
}

#define CLASS_FIELD(member) field(#member, offsetof(hak_stats_class_t, member), 8, HAK_KIND_GAUGE)

static void add_classes(struct image *image, const struct capture *c)
{
    const struct hak_stats_field fields[] = {
        CLASS_FIELD(size), CLASS_FIELD(slab_bytes), CLASS_FIELD(slots),   CLASS_FIELD(slabs),
        CLASS_FIELD(live), CLASS_FIELD(cached),     CLASS_FIELD(parcels), CLASS_FIELD(free)};

    add_table(image, "class", c->classes, c->nr_classes, sizeof *c->classes, fields,
              sizeof fields / sizeof *fields);
}

static void add_process(struct image *image, const struct capture *c)
{
    struct process_row row = {.rss = c->rss_bytes, .taken_ns = c->taken_ns};
    const struct hak_stats_field fields[] = {
        field("command", offsetof(struct process_row, command), sizeof row.command, HAK_KIND_TEXT),
        field("rss", offsetof(struct process_row, rss), 8, HAK_KIND_BYTES),
        field("taken_ns", offsetof(struct process_row, taken_ns), 8, HAK_KIND_NS)};

    memcpy(row.command, c->command, sizeof row.command);
    add_table(image, "process", &row, 1, sizeof row, fields, 3);
}

struct inlined_rows {
    struct inlined_row *list; /* in the order of sites */
    uint32_t nr;
};

static void keep_inlined(struct inlined_rows *rows, uint32_t site, const struct frame *frames, unsigned nr)
{
    struct inlined_row *list = nr ? realloc(rows->list, (rows->nr + nr) * sizeof *list) : NULL;

    if (!list)
        return;
    rows->list = list;
    for (unsigned i = 0; i < nr; i++)
        list[rows->nr++] = (struct inlined_row){site, frames[i]};
}

static void fill_symbol(struct target *target, uint32_t row, struct symbol_row *to, struct inlined_rows *inlined)
{
    struct frame frames[MAX_INLINED];
    struct symbol symbol;
    unsigned nr;

    if (table_get(capture_table(&target->capture, "site"), row, "key") == 0)
        return;
    nr = target_frames(target, row, &symbol, frames);
    keep_inlined(inlined, row, frames, nr);
    memcpy(to->function, symbol.function, sizeof to->function);
    memcpy(to->file, symbol.file, sizeof to->file);
    memcpy(to->module, symbol.module, sizeof to->module);
    to->offset = symbol.offset;
    to->line = symbol.line;
}

static void add_inlined(struct image *image, const struct inlined_rows *rows)
{
    const struct inlined_row *row = rows->list;
    const struct hak_stats_field fields[] = {
        field("site", offsetof(struct inlined_row, site), 4, HAK_KIND_NUMBER),
        field("function", offsetof(struct inlined_row, frame.function), sizeof row->frame.function, HAK_KIND_TEXT),
        field("file", offsetof(struct inlined_row, frame.file), sizeof row->frame.file, HAK_KIND_TEXT),
        field("line", offsetof(struct inlined_row, frame.line), 4, HAK_KIND_NUMBER)};

    if (rows->nr)
        add_table(image, "site.inlined", row, rows->nr, sizeof *row, fields, 4);
}

static void add_symbols(struct image *image, struct target *target)
{
    const struct table *site = capture_table(&target->capture, "site");
    uint32_t nr = site ? site->nr_rows : 0;
    struct symbol_row *rows = calloc(nr + 1, sizeof *rows);
    struct inlined_rows inlined = {0};
    const struct hak_stats_field fields[] = {
        field("function", offsetof(struct symbol_row, function), sizeof rows->function,
              HAK_KIND_TEXT),
        field("file", offsetof(struct symbol_row, file), sizeof rows->file, HAK_KIND_TEXT),
        field("module", offsetof(struct symbol_row, module), sizeof rows->module, HAK_KIND_TEXT),
        field("offset", offsetof(struct symbol_row, offset), 8, HAK_KIND_NUMBER),
        field("line", offsetof(struct symbol_row, line), 4, HAK_KIND_NUMBER)};

    for (uint32_t i = 0; rows && i < nr; i++)
        fill_symbol(target, i, &rows[i], &inlined);
    if (rows)
        add_table(image, "site.symbol", rows, nr, sizeof *rows, fields, 5);
    add_inlined(image, &inlined);
    free(inlined.list);
    free(rows);
}

struct lines {
    char *text;
    size_t bytes;
};

static void add_line(const char *name, const char *value, const char *from, void *arg)
{
    struct lines *lines = arg;
    size_t more = strlen(name) + strlen(value) + strlen(from) + 3;
    char *text = realloc(lines->text, lines->bytes + more + 1);

    if (!text)
        return;
    lines->text = text;
    lines->bytes += (size_t)sprintf(text + lines->bytes, "%s %s %s\n", name, value, from);
}

static void add_options(struct image *image, const struct capture *c)
{
    struct lines lines = {0};

    if (options_foreach(c, add_line, &lines) && lines.text)
        add_table(image, "option.text", lines.text, (uint32_t)lines.bytes, 1, NULL, 0);
    free(lines.text);
}

/* What lies in the capture and no other table of the snapshot holds; nesting is resolved there. */
static bool is_copied(const struct table *t)
{
    static const char *const left_out[] = {
        "stats",  "class",         "process",      "site.symbol",  "site.inlined", "option.text",
        "config", "option",        "option.source", "option.names", "option.words", "heap.slabs",
        "heap.magazine", "heap.runs", "parcel",    "size",         "trace"};

    for (unsigned i = 0; i < sizeof left_out / sizeof *left_out; i++)
        if (strcmp(left_out[i], t->name) == 0)
            return false;
    return t->nr_fields > 0;
}

static void add_copies(struct image *image, const struct capture *c)
{
    for (uint32_t i = 0; i < c->nr_tables; i++) {
        const struct table *t = &c->tables[i];
        /* A heap's row is large and its fields are few: the sums are in "stats". */
        if (is_copied(t) && strcmp(t->name, "heap") != 0)
            add_table(image, t->name, t->rows, t->nr_rows, t->row_bytes, t->fields, t->nr_fields);
    }
}

static void add_root(struct image *image, const struct capture *c)
{
    struct hak_stats_root root = c->root;

    root.flags = HAK_STATS_FILE;
    root.root_bytes = sizeof root;
    root.nr_tables = image->nr_tables;
    root.self = 0;
    root.sequence = 2;
    root.updated_ns = c->taken_ns;
    root.tables = append(image, image->tables, image->nr_tables * sizeof *image->tables);
    if (!image->failed)
        memcpy(image->data, &root, sizeof root);
}

/* ---- the file ------------------------------------------------------------------------------ */

static int write_image(const struct image *image, const char *path, struct problem *problem)
{
    char temporary[4200];
    int fd, error = 0;
    size_t done = 0;

    if (problem_of_place(problem, path) != 0)
        return problem->code;
    snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid());
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return problem_errno(problem, errno, path);
    while (done < image->bytes && error == 0) {
        ssize_t n = write(fd, image->data + done, image->bytes - done);
        if (n < 0 && errno != EINTR)
            error = errno;
        done += n > 0 ? (size_t)n : 0;
    }
    if (close(fd) != 0 && error == 0)
        error = errno;
    if (error == 0 && rename(temporary, path) != 0)
        error = errno;
    if (error == 0)
        return 0;
    unlink(temporary);
    return problem_errno(problem, error, path);
}

int snapshot_write(struct target *target, const char *path, struct problem *problem)
{
    struct image *image = calloc(1, sizeof *image);
    static const struct hak_stats_root empty;
    int code;

    if (!image)
        return problem_errno(problem, ENOMEM, path);
    append(image, &empty, sizeof empty);
    add_stats(image, &target->capture);
    add_classes(image, &target->capture);
    add_process(image, &target->capture);
    add_symbols(image, target);
    add_options(image, &target->capture);
    add_copies(image, &target->capture);
    add_root(image, &target->capture);
    code = image->failed ? problem_errno(problem, ENOMEM, path) : write_image(image, path, problem);
    free(image->data);
    free(image);
    return code;
}
