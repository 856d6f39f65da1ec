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

static void print_counts(uint64_t live_blocks, uint64_t live_bytes, uint64_t blocks, uint64_t bytes)
{
    printf("%" PRIu64 ": %" PRIu64 " [%" PRIu64 ": %" PRIu64 "] @", live_blocks, live_bytes, blocks, bytes);
}

static void print_mappings(const struct maps *maps)
{
    printf("\nMAPPED_LIBRARIES:\n");
    for (size_t i = 0; i < maps->nr; i++) {
        const struct mapping *m = &maps->list[i];
        /* pprof takes the mapping that is executable; a core does not say which: all may be. */
        printf("%" PRIx64 "-%" PRIx64 " r%c%cp %08" PRIx64 " 00:00 %" PRIu64 " %s\n", m->start, m->end,
               m->writable ? 'w' : '-', m->executable || m->inode == 0 ? 'x' : '-', m->offset, m->inode, m->path);
    }
}

static uint64_t live_blocks(const struct table *site, uint32_t row)
{
    uint64_t allocs = table_get(site, row, "allocs"), frees = table_get(site, row, "frees");

    return allocs > frees ? allocs - frees : 0;
}

int export_heap_v2(struct target *target, struct problem *problem)
{
    const struct table *site = capture_table(&target->capture, "site");
    uint32_t nr, *rows = sites_sorted(&target->capture, SITES_BY_BYTES, &nr);
    uint64_t blocks = 0;

    if (!site) {
        free(rows);
        return problem_set(problem, EXIT_NOTHING, "call sites: not recorded by this version");
    }
    for (uint32_t i = 0; i < nr; i++)
        blocks += live_blocks(site, rows[i]);
    printf("heap profile: ");
    print_counts(blocks, table_sum(site, "live_bytes"), table_sum(site, "allocs"), table_sum(site, "total_bytes"));
    printf(" heap_v2/1\n");
    for (uint32_t i = 0; i < nr; i++) {
        print_counts(live_blocks(site, rows[i]), table_get(site, rows[i], "live_bytes"),
                     table_get(site, rows[i], "allocs"), table_get(site, rows[i], "total_bytes"));
        printf(" 0x%" PRIx64 "\n", table_get(site, rows[i], "key") - 1);
    }
    print_mappings(&target->source.maps);
    free(rows);
    return 0;
}
