// SPDX-License-Identifier: MIT
/*
 * profile.proto of github.com/google/pprof, encoded by hand: one sample and location per call site, a
 * line and function for each function that is inlined there, and for the one that they are inlined into; mappings are
 * the files of the sites. Numbers of fields stand beside each call.
 */
#include "export.h"

#include "views.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    unsigned char *data;
    size_t nr, room;
    bool failed;
};

struct profile {
    struct bytes message;
    char **strings;
    uint32_t nr_strings;
    uint64_t nr_functions;
    unsigned char *naming; /* of each mapping, enum naming bits */
};

enum naming { NAMED = 1, NAMELESS = 2 };

/* ---- wire format --------------------------------------------------------------------------- */

static void put(struct bytes *b, const void *data, size_t nr)
{
    if (b->nr + nr > b->room) {
        size_t room = (b->nr + nr) * 2;
        unsigned char *larger = realloc(b->data, room);
        if (!larger) {
            b->failed = true;
            return;
        }
        b->data = larger;
        b->room = room;
    }
    if (nr)
        memcpy(b->data + b->nr, data, nr);
    b->nr += nr;
}

static void put_varint(struct bytes *b, uint64_t value)
{
    unsigned char text[10];
    size_t nr = 0;

    do {
        text[nr++] = (unsigned char)((value & 127) | (value > 127 ? 128 : 0));
        value >>= 7;
    } while (value);
    put(b, text, nr);
}

static void put_number(struct bytes *b, unsigned field, uint64_t value)
{
    put_varint(b, field << 3);
    put_varint(b, value);
}

static void put_block(struct bytes *b, unsigned field, const void *data, size_t nr)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, nr);
    put(b, data, nr);
}

/* Ends a message within a message. */
static void put_message(struct bytes *b, unsigned field, struct bytes *message)
{
    put_block(b, field, message->data, message->nr);
    b->failed |= message->failed;
    free(message->data);
    memset(message, 0, sizeof *message);
}

/* Index in the string table, where "" is 0. */
static uint64_t string(struct profile *p, const char *text)
{
    for (uint32_t i = 0; i < p->nr_strings; i++)
        if (strcmp(p->strings[i], text) == 0)
            return i;
    char **strings = realloc(p->strings, (p->nr_strings + 1) * sizeof *strings);
    char *copy = strings ? strdup(text) : NULL;
    if (strings)
        p->strings = strings;
    if (!copy) {
        p->message.failed = true;
        return 0;
    }
    p->strings[p->nr_strings] = copy;
    return p->nr_strings++;
}

/* ---- parts --------------------------------------------------------------------------------- */

static void put_type(struct profile *p, unsigned field, const char *type, const char *unit)
{
    struct bytes m = {0};

    put_number(&m, 1, string(p, type));
    put_number(&m, 2, string(p, unit));
    put_message(&p->message, field, &m);
}

static void put_sample(struct profile *p, const struct site *site, uint64_t id)
{
    struct bytes m = {0}, ids = {0}, values = {0};

    put_varint(&ids, id);
    put_message(&m, 1, &ids); /* location_id */
    put_varint(&values, site->allocs);
    put_varint(&values, site->total_bytes);
    put_varint(&values, site->live_blocks);
    put_varint(&values, site->live_bytes);
    put_message(&m, 2, &values); /* value, in the order of sample_type */
    put_message(&p->message, 2, &m);
}

/* Number of the mapping of a site, from 1; 0: none. */
static uint64_t mapping_number(const struct maps *maps, uint64_t address)
{
    const struct mapping *m = maps_find(maps, address);

    return m && m->path[0] == '/' ? (uint64_t)(m - maps->list) + 1 : 0;
}

/* A line of the location, and its function, which is beside it in the message of all. */
static void put_line(struct profile *p, struct bytes *location, const char *function, const char *file, uint32_t number)
{
    struct bytes line = {0}, m = {0};
    uint64_t id = ++p->nr_functions;

    put_number(&line, 1, id); /* function_id */
    put_number(&line, 2, number);
    put_message(location, 4, &line);
    put_number(&m, 1, id);
    put_number(&m, 2, string(p, function));
    put_number(&m, 3, string(p, function));
    put_number(&m, 4, string(p, file));
    put_message(&p->message, 5, &m);
}

static void put_location(struct profile *p, struct target *target, uint32_t row, uint64_t id, uint64_t key)
{
    uint64_t mapping = mapping_number(&target->source.maps, key - 1);
    struct frame inlined[MAX_INLINED];
    struct symbol symbol;
    unsigned nr = target_frames(target, row, &symbol, inlined);
    struct bytes m = {0};

    put_number(&m, 1, id);
    put_number(&m, 2, mapping);
    put_number(&m, 3, key - 1);
    for (unsigned i = 0; i < nr; i++)
        put_line(p, &m, inlined[i].function, inlined[i].file, inlined[i].line);
    if (symbol.function[0])
        put_line(p, &m, symbol.function, symbol.file, symbol.line);
    put_message(&p->message, 4, &m);
    if (mapping && p->naming)
        p->naming[mapping - 1] |= symbol.function[0] ? NAMED : NAMELESS;
}

static void put_mappings(struct profile *p, const struct maps *maps)
{
    for (size_t i = 0; i < maps->nr; i++) {
        const struct mapping *map = &maps->list[i];
        struct bytes m = {0};
        if (map->path[0] != '/')
            continue;
        put_number(&m, 1, i + 1);
        put_number(&m, 2, map->start);
        put_number(&m, 3, map->end);
        put_number(&m, 4, map->offset);
        put_number(&m, 5, string(p, map->path));
        for (unsigned has = 7; has <= 10; has++) /* functions, filenames, line_numbers, inline_frames: pprof */
            if (p->naming && p->naming[i] == NAMED) /* need not look for them again */
                put_number(&m, has, 1);
        put_message(&p->message, 3, &m);
    }
}

static void put_sites(struct profile *p, struct target *target, const struct table *table)
{
    uint32_t nr, *rows = sites_sorted(&target->capture, SITES_BY_BYTES, &nr);

    for (uint32_t i = 0; i < nr; i++) {
        struct site site;
        site_read(table, rows[i], &site);
        put_sample(p, &site, i + 1);
        put_location(p, target, rows[i], i + 1, site.key);
    }
    free(rows);
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void put_profile(struct profile *p, struct target *target, const struct table *site)
{
    string(p, "");
    put_type(p, 1, "alloc_objects", "count");
    put_type(p, 1, "alloc_space", "bytes");
    put_type(p, 1, "inuse_objects", "count");
    put_type(p, 1, "inuse_space", "bytes");
    p->naming = calloc(target->source.maps.nr + 1, 1);
    put_sites(p, target, site);
    put_mappings(p, &target->source.maps);
    free(p->naming);
    put_type(p, 11, "space", "bytes");                     /* period_type */
    put_number(&p->message, 12, 1);                        /* period */
    put_number(&p->message, 14, string(p, "inuse_space")); /* default_sample_type */
    put_number(&p->message, 9, target->capture.taken_ns);
    for (uint32_t i = 0; i < p->nr_strings; i++)
        put_block(&p->message, 6, p->strings[i], strlen(p->strings[i]));
}

int export_pprof(struct target *target, struct problem *problem)
{
    const struct table *site = capture_table(&target->capture, "site");
    struct profile p = {0};
    bool done;

    if (!site)
        return problem_set(problem, EXIT_NOTHING, "call sites: not recorded by this version");
    put_profile(&p, target, site);
    done = !p.message.failed && gzip_write(p.message.data, p.message.nr);
    for (uint32_t i = 0; i < p.nr_strings; i++)
        free(p.strings[i]);
    free(p.strings);
    free(p.message.data);
    return done ? 0 : problem_errno(problem, ENOMEM, "pprof");
}
