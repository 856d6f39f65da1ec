// SPDX-License-Identifier: MIT
/*
 * export: the counters of all boxes as one view: as a struct, as text, as JSON, and where other processes
 * find them (hakmem/stats.h). It counts nothing itself and changes nothing in the boxes it reads.
 *
 *   export_view.c   the sums, in this process
 *   export_text.c   what people and programs read of them
 *   export_root.c   hak_stats_root: where the counters lie, for process_vm_readv and core dumps
 *   export_file.c   option stats:export: a copy in a sealed file, renewed by slow paths
 *
 * State: hak_stats_root and the file's mapping; both written by the constructor, by the child of a fork and,
 * the mapping, by whoever renews it. Threads: any; the view of a process that is not at rest is as torn as the
 * counters are. Locks: none, but where it is asked what is in memory; the file is renewed by one thread at a
 * time, others pass. Allocates nothing. Failure: none; without memory for the file there is no file.
 */
#ifndef HK_EXPORT_H
#define HK_EXPORT_H

#include "l25/l25.h"
#include "size/size.h"

#include <hakmem/hakmem.h>

#define HK_VIEW_CLASSES (HK_NR_CLASSES + HK_L25_NR_CLASSES)

struct hk_view {
    hak_stats_t total;
    hak_stats_class_t class[HK_VIEW_CLASSES]; /* size classes, then runs */
};

/* `resident` takes system calls (mincore) and locks; else that field is 0 and this is async-signal-safe. */
void hk_export_view(struct hk_view *view, bool resident);

/* write NULL: standard error. resident: as above. */
void hk_export_print(hak_write_t *write, void *arg, bool resident);
void hk_export_json(hak_write_t *write, void *arg);

/* "0.1.0" */
const char *hk_export_version(void);
/* Constructor's part. */
void hk_export_start(void);
/* Slow paths call it when they have looked at the clock; nothing without stats:export. */
void hk_export_renew(void);
/* What a reader of the file does: a copy that no renewal touched meanwhile; false: try again. */
bool hk_export_copy(const void *view, void *copy, size_t bytes);

#endif
