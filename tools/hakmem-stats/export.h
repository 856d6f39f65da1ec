/* SPDX-License-Identifier: MIT */
/*
 * export: a capture in the formats of other tools. json: everything as one object; ndjson: one object per
 * metric, class and site; csv: kind,name,value; prometheus: text file for node_exporter; pprof: gzipped
 * profile.proto; heap_v2: the text that jeprof and google-pprof read.
 */
#ifndef EXPORT_H
#define EXPORT_H

#include "target.h"

typedef int export_function(struct target *target, struct problem *problem);

/* NULL: there is no such format. */
export_function *export_find(const char *format);
extern const char export_formats[];

int export_pprof(struct target *target, struct problem *problem);
int export_heap_v2(struct target *target, struct problem *problem);

/* gzip_zlib.c or gzip_none.c: writes the bytes to stdout, compressed where that was built in. */
bool gzip_write(const unsigned char *data, size_t bytes);

#endif
