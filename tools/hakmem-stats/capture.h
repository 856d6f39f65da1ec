/* SPDX-License-Identifier: MIT */
/*
 * capture: what hak_stats_root leads to, copied once and checked, so that every view works on memory of our
 * own. The tables keep the names of hakmem/stats.h; chains are flattened, nested rows lie one parent's after
 * the other's. A table or field that is missing reads as "not recorded".
 *
 * Everything read is bounded: tables, fields, rows, bytes, chains (their length, and loops). What is out of
 * bounds makes the capture fail with EXIT_VERSION and a text that names the table.
 */
#ifndef CAPTURE_H
#define CAPTURE_H

#include "source.h"

#include <hakmem/hakmem.h>

struct table {
    char name[sizeof((struct hak_stats_table *)NULL)->name + 1];
    uint32_t flags;
    uint32_t nr_rows; /* a blob: bytes */
    uint32_t row_bytes;
    uint32_t nr_fields;
    uint32_t rows_per_parent;
    struct hak_stats_field *fields; /* names are NUL-terminated here */
    unsigned char *rows;
};

struct capture {
    struct hak_stats_root root; /* version is NUL-terminated */
    struct table *tables;
    uint32_t nr_tables;
    hak_stats_t total; /* totals.c */
    hak_stats_class_t *classes;
    uint32_t nr_classes;
    bool torn;          /* the identity is off by more than moves while one reads */
    uint64_t rss_bytes; /* of the process; 0: unknown */
    /* Of rss_bytes, as the kernel counts them (smaps_rollup); taken when `show` asks. 0: none, or unknown. */
    uint64_t rss_anonymous_bytes, rss_huge_bytes, swap_bytes;
    uint64_t taken_ns;  /* CLOCK_REALTIME */
    char command[32];   /* comm; "" if unknown */
};

/* `root`: address of the root (0 in a file). */
int capture_read(struct source *source, uint64_t root, struct capture *capture,
                 struct problem *problem);
void capture_free(struct capture *capture);

const struct table *capture_table(const struct capture *capture, const char *name);
/* NULL: the table (which may be NULL) has no such field. */
const struct hak_stats_field *table_field(const struct table *table, const char *name);
/* The value of an integer field, 0 for a field of another width. */
uint64_t table_value(const struct table *table, uint32_t row, const struct hak_stats_field *field);
/* Writes an integer field of our copy. */
void table_put(const struct table *table, uint32_t row, const char *name, uint64_t value);
/* By name; 0 when there is none. */
uint64_t table_get(const struct table *table, uint32_t row, const char *name);
/* Over all rows. */
uint64_t table_sum(const struct table *table, const char *name);
/* The bytes of a field, for arrays and text. */
const unsigned char *table_bytes(const struct table *table, uint32_t row,
                                 const struct hak_stats_field *field);

#endif
