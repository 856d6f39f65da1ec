// SPDX-License-Identifier: MIT
/*
 * The heap profile of gperftools with the mark heap_v2/1: period 1 says that nothing has to be scaled up.
 * The address is that of the call, so that the line is right.
 */
#include "export.h"

#include "views.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_counts(const struct site *site)
{
    printf("%" PRIu64 ": %" PRIu64 " [%" PRIu64 ": %" PRIu64 "] @", site->live_blocks,
           site->live_bytes, site->allocs, site->total_bytes);
}

static void print_mappings(const struct maps *maps)
{
    printf("\nMAPPED_LIBRARIES:\n");
    for (size_t i = 0; i < maps->nr; i++) {
        const struct mapping *m = &maps->list[i];
        /* pprof takes the mapping that is executable; a core does not say which: all may be. */
        printf("%" PRIx64 "-%" PRIx64 " r%c%cp %08" PRIx64 " 00:00 %" PRIu64 " %s\n", m->start,
               m->end, m->writable ? 'w' : '-', m->executable || m->inode == 0 ? 'x' : '-',
               m->offset, m->inode, m->path);
    }
}

/* A line's counts are those of one site, or of all of them. */
static void add_counts(struct site *sum, const struct site *site)
{
    sum->live_blocks += site->live_blocks;
    sum->live_bytes += site->live_bytes;
    sum->allocs += site->allocs;
    sum->total_bytes += site->total_bytes;
}

int export_heap_v2(struct target *target, struct problem *problem)
{
    const struct table *table = capture_table(&target->capture, "site");
    uint32_t nr, *rows = sites_sorted(&target->capture, SITES_BY_BYTES, &nr);
    struct site sum = {0}, site;

    if (!table) {
        free(rows);
        return problem_set(problem, EXIT_NOTHING, "call sites: not recorded by this version");
    }
    for (uint32_t i = 0; i < nr; i++) {
        site_read(table, rows[i], &site);
        add_counts(&sum, &site);
    }
    printf("heap profile: ");
    print_counts(&sum);
    printf(" heap_v2/1\n");
    for (uint32_t i = 0; i < nr; i++) {
        site_read(table, rows[i], &site);
        print_counts(&site);
        printf(" 0x%" PRIx64 "\n", site.key - 1);
    }
    print_mappings(&target->source.maps);
    free(rows);
    return 0;
}
