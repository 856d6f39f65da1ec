// SPDX-License-Identifier: MIT
#include "capture.h"

#include "sites.h"
#include "totals.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_TABLES      256u
#define MAX_FIELDS      1024u
#define MAX_ROW_BYTES   (4u << 20)
#define MAX_TABLE_BYTES (256u << 20)
#define MAX_CHAIN       1000000u
#define FILE_RETRIES    200 /* a copy takes the writer microseconds; we wait 1 ms between looks */

struct reading {
    struct source *source;
    const struct hak_stats_table *raw;
    struct capture *capture;
    struct problem *problem;
};

static int damaged(struct reading *r, const char *table, const char *what)
{
    return problem_set(r->problem, EXIT_VERSION, "damaged counters: table %s: %s", table, what);
}

static int unreadable(struct reading *r, const char *table, int error)
{
    return problem_set(r->problem, EXIT_VERSION, "damaged counters: table %s: cannot be read (%s)",
                       table, strerror(error));
}

/* ---- the root ------------------------------------------------------------------------------ */

static int check_root(struct hak_stats_root *root, bool is_file, struct problem *problem)
{
    if (memcmp(root->magic, HAK_STATS_MAGIC, sizeof root->magic) != 0)
        return problem_set(problem, is_file ? EXIT_NOTHING : EXIT_VERSION,
                           "no counters of libhakmem here");
    if (root->byte_order != HAK_STATS_BYTE_ORDER)
        return problem_set(problem, EXIT_VERSION, "counters of another byte order (0x%08x)",
                           root->byte_order);
    if (root->abi != HAK_STATS_ABI)
        return problem_set(
            problem, EXIT_VERSION,
            "counters of layout %u, this hakmem-stats knows %u: take the one of that libhakmem",
            root->abi, HAK_STATS_ABI);
    if (root->word_bytes != sizeof(void *))
        return problem_set(problem, EXIT_VERSION, "counters of a program with words of %u bytes",
                           root->word_bytes);
    if (root->root_bytes < sizeof *root || root->root_bytes > 65536)
        return problem_set(problem, EXIT_VERSION, "damaged counters: root of %u bytes",
                           root->root_bytes);
    if (root->nr_tables == 0 || root->nr_tables > MAX_TABLES)
        return problem_set(problem, EXIT_VERSION, "damaged counters: %u tables", root->nr_tables);
    if (((root->flags & HAK_STATS_FILE) != 0) != is_file)
        return problem_set(problem, EXIT_VERSION, "damaged counters: flags %u", root->flags);
    root->version[sizeof root->version - 1] = '\0';
    return 0;
}

/* ---- fields -------------------------------------------------------------------------------- */

static int check_fields(struct reading *r, const struct table *t)
{
    for (uint32_t i = 0; i < t->nr_fields; i++) {
        struct hak_stats_field *f = &t->fields[i];
        f->name[sizeof f->name - 1] = '\0';
        if (f->bytes == 0 || f->bytes > t->row_bytes || f->offset > t->row_bytes - f->bytes)
            return damaged(r, t->name, "a field leaves its row");
    }
    return 0;
}

static int read_fields(struct reading *r, const struct hak_stats_table *raw, struct table *t)
{
    int error;

    if (raw->nr_fields > MAX_FIELDS)
        return damaged(r, t->name, "too many fields");
    t->nr_fields = raw->nr_fields;
    if (t->nr_fields == 0)
        return 0;
    t->fields = calloc(t->nr_fields, sizeof *t->fields);
    if (!t->fields)
        return damaged(r, t->name, "no memory");
    error = r->source->read(r->source, raw->fields, t->fields, t->nr_fields * sizeof *t->fields);
    return error ? unreadable(r, t->name, error) : check_fields(r, t);
}

/* ---- rows ---------------------------------------------------------------------------------- */

static int read_word(struct reading *r, uint64_t address, uint64_t *value)
{
    uintptr_t word = 0;
    int error = r->source->read(r->source, address, &word, sizeof word);

    *value = word;
    return error;
}

static int read_plain(struct reading *r, uint64_t from, struct table *t)
{
    uint64_t bytes = (uint64_t)t->nr_rows * t->row_bytes;
    int error;

    if (bytes > MAX_TABLE_BYTES)
        return damaged(r, t->name, "too large");
    if (bytes == 0 || from == 0)
        return (t->nr_rows = 0);
    t->rows = malloc(bytes);
    if (!t->rows)
        return damaged(r, t->name, "no memory");
    error = r->source->read(r->source, from, t->rows, bytes);
    return error ? unreadable(r, t->name, error) : 0;
}

static int grow_rows(struct table *t, uint32_t *room)
{
    if (t->nr_rows < *room)
        return 0;
    uint32_t wanted = *room ? *room * 2 : 8;
    unsigned char *rows = (uint64_t)wanted * t->row_bytes > MAX_TABLE_BYTES * 2ull
                              ? NULL
                              : realloc(t->rows, (size_t)wanted * t->row_bytes);
    if (!rows)
        return -1;
    t->rows = rows;
    *room = wanted;
    return 0;
}

/* Rows are only ever added at the head, so a walk sees a whole chain. Brent: a saved row that is renewed at
 * each power of two meets any loop. */
static int read_chain(struct reading *r, const struct hak_stats_table *raw, struct table *t)
{
    uint64_t at, saved = 0;
    uint32_t room = 0;
    int error = raw->rows ? read_word(r, raw->rows, &at) : (at = 0, 0);

    if (error)
        return unreadable(r, t->name, error);
    if (raw->next > t->row_bytes - sizeof(uintptr_t))
        return damaged(r, t->name, "the link leaves its row");
    while (at != 0) {
        uintptr_t next;
        if (at == saved)
            return damaged(r, t->name, "the chain loops");
        if ((t->nr_rows & (t->nr_rows - 1)) == 0)
            saved = at;
        if (t->nr_rows == MAX_CHAIN || grow_rows(t, &room) != 0)
            return damaged(r, t->name, "the chain is too long");
        unsigned char *row = t->rows + (size_t)t->nr_rows * t->row_bytes;
        error = r->source->read(r->source, at, row, t->row_bytes);
        if (error)
            return unreadable(r, t->name, error);
        memcpy(&next, row + raw->next, sizeof next);
        t->nr_rows++;
        at = next;
    }
    return 0;
}

/* Out of the parent's rows, which are here already. */
static int read_nested(struct reading *r, const struct hak_stats_table *raw, struct table *t)
{
    const struct table *parent;
    uint64_t bytes = (uint64_t)t->nr_rows * t->row_bytes;

    if (raw->parent >= (uint32_t)(t - r->capture->tables))
        return damaged(r, t->name, "its parent comes later");
    parent = &r->capture->tables[raw->parent];
    if (bytes > parent->row_bytes || raw->rows > parent->row_bytes - bytes)
        return damaged(r, t->name, "leaves its parent's row");
    if (parent->nr_rows * bytes > MAX_TABLE_BYTES)
        return damaged(r, t->name, "too large");
    t->rows_per_parent = t->nr_rows;
    t->nr_rows *= parent->nr_rows;
    if (parent->nr_rows == 0 || bytes == 0)
        return 0;
    t->rows = malloc(parent->nr_rows * bytes);
    if (!t->rows)
        return damaged(r, t->name, "no memory");
    for (uint32_t i = 0; i < parent->nr_rows; i++)
        memcpy(t->rows + i * bytes, parent->rows + (size_t)i * parent->row_bytes + raw->rows,
               bytes);
    return 0;
}

static int read_rows(struct reading *r, const struct hak_stats_table *raw, struct table *t)
{
    uint64_t from = raw->rows;
    int error = 0;

    if (raw->flags & HAK_STATS_CHAINED)
        return read_chain(r, raw, t);
    if (raw->flags & HAK_STATS_NESTED)
        return read_nested(r, raw, t);
    if ((raw->flags & HAK_STATS_INDIRECT) && from)
        error = read_word(r, raw->rows, &from);
    return error ? unreadable(r, t->name, error) : read_plain(r, from, t);
}

#define KNOWN_FLAGS (HAK_STATS_CHAINED | HAK_STATS_NESTED | HAK_STATS_INDIRECT | HAK_STATS_BLOB)

static int check_table(struct reading *r, const struct hak_stats_table *raw, const struct table *t)
{
    uint32_t shape = raw->flags & (HAK_STATS_CHAINED | HAK_STATS_NESTED | HAK_STATS_INDIRECT);

    if (memchr(raw->name, '\0', sizeof raw->name) == raw->name)
        return damaged(r, "without a name", "refused");
    if ((raw->flags & ~(uint32_t)KNOWN_FLAGS) || (shape & (shape - 1)))
        return damaged(r, t->name, "flags that this program does not know");
    if (t->row_bytes == 0 || t->row_bytes > MAX_ROW_BYTES)
        return damaged(r, t->name, "row size out of range");
    if ((raw->flags & HAK_STATS_CHAINED) && t->row_bytes < sizeof(uintptr_t))
        return damaged(r, t->name, "no room for a link");
    return 0;
}

static int read_table(struct reading *r, const struct hak_stats_table *raw, struct table *t)
{
    bool blob = (raw->flags & HAK_STATS_BLOB) != 0;
    int code;

    memcpy(t->name, raw->name, sizeof raw->name);
    t->flags = raw->flags;
    t->row_bytes = blob ? 1 : raw->row_bytes;
    t->nr_rows = raw->flags & HAK_STATS_CHAINED ? 0 : raw->nr_rows;
    code = check_table(r, raw, t);
    if (code == 0 && !blob)
        code = read_fields(r, raw, t);
    return code ? code : read_rows(r, raw, t);
}

static int read_tables(struct reading *r)
{
    struct capture *c = r->capture;
    struct hak_stats_table *raw = calloc(c->root.nr_tables, sizeof *raw);
    int error, code = 0;

    c->tables = calloc(c->root.nr_tables, sizeof *c->tables);
    if (!raw || !c->tables) {
        free(raw);
        return damaged(r, "list", "no memory");
    }
    error = r->source->read(r->source, c->root.tables, raw, c->root.nr_tables * sizeof *raw);
    if (error)
        code = unreadable(r, "list", error);
    r->raw = raw;
    for (uint32_t i = 0; code == 0 && i < c->root.nr_tables; i++) {
        code = read_table(r, &raw[i], &c->tables[i]);
        c->nr_tables = i + 1;
    }
    free(raw);
    return code;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static uint64_t real_time_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int read_once(struct source *source, uint64_t address, struct capture *c,
                     struct problem *problem)
{
    struct reading r = {.source = source, .capture = c, .problem = problem};
    int error;

    memset(c, 0, sizeof *c);
    error = source->read(source, address, &c->root, sizeof c->root);
    if (error)
        return problem_set(problem, source->pid ? EXIT_NOTHING : EXIT_VERSION,
                           "the counters cannot be read: %s", strerror(error));
    error = check_root(&c->root, source->pid == 0 && !source->private, problem);
    if (error || (c->root.sequence & 1))
        return error;
    return read_tables(&r);
}

/* A file is whole when its sequence is even and the same before and after. */
static bool is_whole(struct source *source, uint64_t address, const struct capture *c)
{
    struct hak_stats_root after;

    if (!(c->root.flags & HAK_STATS_FILE))
        return true;
    return !(c->root.sequence & 1) && source->read(source, address, &after, sizeof after) == 0 &&
           after.sequence == c->root.sequence;
}

int capture_read(struct source *source, uint64_t root, struct capture *capture,
                 struct problem *problem)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int code;

    for (int attempt = 0; attempt < FILE_RETRIES; attempt++) {
        code = read_once(source, root, capture, problem);
        if (is_whole(source, root, capture)) {
            capture->taken_ns = real_time_ns();
            if (code == 0)
                sites_add_untold(capture);
            return code ? code : totals_compute(capture, problem);
        }
        capture_free(capture);
        nanosleep(&pause, NULL);
    }
    return problem_set(problem, EXIT_VERSION,
                       "the copy of the counters is never whole (its writer died in it)");
}

void capture_free(struct capture *capture)
{
    for (uint32_t i = 0; capture->tables && i < capture->root.nr_tables; i++) {
        free(capture->tables[i].fields);
        free(capture->tables[i].rows);
    }
    free(capture->tables);
    free(capture->classes);
    memset(capture, 0, sizeof *capture);
}

/* ---- access -------------------------------------------------------------------------------- */

const struct table *capture_table(const struct capture *capture, const char *name)
{
    for (uint32_t i = 0; i < capture->nr_tables; i++)
        if (strcmp(capture->tables[i].name, name) == 0)
            return &capture->tables[i];
    return NULL;
}

const struct hak_stats_field *table_field(const struct table *table, const char *name)
{
    for (uint32_t i = 0; table && i < table->nr_fields; i++)
        if (strcmp(table->fields[i].name, name) == 0)
            return &table->fields[i];
    return NULL;
}

const unsigned char *table_bytes(const struct table *table, uint32_t row,
                                 const struct hak_stats_field *field)
{
    return table->rows + (size_t)row * table->row_bytes + field->offset;
}

uint64_t table_value(const struct table *table, uint32_t row, const struct hak_stats_field *field)
{
    const unsigned char *at = table_bytes(table, row, field);
    uint8_t b1;
    uint16_t b2;
    uint32_t b4;
    uint64_t b8;

    switch (field->bytes) {
    case 1:
        return memcpy(&b1, at, 1), b1;
    case 2:
        return memcpy(&b2, at, 2), b2;
    case 4:
        return memcpy(&b4, at, 4), b4;
    case 8:
        return memcpy(&b8, at, 8), b8;
    default:
        return 0;
    }
}

void table_put(const struct table *table, uint32_t row, const char *name, uint64_t value)
{
    const struct hak_stats_field *field = table_field(table, name);
    unsigned char *at = field && row < table->nr_rows ? table->rows + (size_t)row * table->row_bytes + field->offset : NULL;
    uint32_t b4 = (uint32_t)value;

    if (at && field->bytes == sizeof value)
        memcpy(at, &value, sizeof value);
    else if (at && field->bytes == sizeof b4)
        memcpy(at, &b4, sizeof b4);
}

uint64_t table_get(const struct table *table, uint32_t row, const char *name)
{
    const struct hak_stats_field *field = table_field(table, name);

    return field && row < table->nr_rows ? table_value(table, row, field) : 0;
}

uint64_t table_sum(const struct table *table, const char *name)
{
    const struct hak_stats_field *field = table_field(table, name);
    uint64_t sum = 0;

    for (uint32_t row = 0; field && row < table->nr_rows; row++)
        sum += table_value(table, row, field);
    return sum;
}
