// SPDX-License-Identifier: MIT
/*
 * sites: three call sites, three kinds of blocks, and what the library says of them.
 *
 * hak_alloc_cs labels a block with the return address of the call. Blocks above 64 KiB get theirs from
 * plain malloc too; below, an unlabelled call costs too little to afford it.
 */
#include <hakmem/hakmem.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NR_LIVE 4
#define KIB 1024.0
#define MIB 1048576.0
/* A place of its own in the program; the empty statement keeps the call from becoming a jump. */
#define NOINLINE __attribute__((noinline))
#define RETURN_HERE(p) __asm__ volatile("" : "+r"(p))

NOINLINE static void *json_buffer(void)
{
    void *p = hak_alloc_cs(64 * 1024);
    RETURN_HERE(p);
    return p;
}

NOINLINE static void *intermediate_code(void)
{
    void *p = hak_alloc_cs(256 * 1024);
    RETURN_HERE(p);
    return p;
}

NOINLINE static void *machine_memory(void)
{
    void *p = hak_alloc_cs(2 * 1024 * 1024);
    RETURN_HERE(p);
    return p;
}

/* Allocates and frees `count` blocks, a few of them live at a time. */
static void churn(void *(*place)(void), int count)
{
    void *live[NR_LIVE] = {NULL};

    for (int i = 0; i < count; i++) {
        hak_free(live[i % NR_LIVE]);
        live[i % NR_LIVE] = place();
        if (!live[i % NR_LIVE]) {
            fprintf(stderr, "sites: out of memory\n");
            exit(1);
        }
        memset(live[i % NR_LIVE], i, 4096);
    }
    for (int i = 0; i < NR_LIVE; i++)
        hak_free(live[i]);
}

static int print_site(const hak_site_t *site, void *nr_lines)
{
    printf("%#18" PRIxPTR " %8" PRIu64 " %10.1f %12.1f %12.1f  %s\n", (uintptr_t)site->site,
           site->allocs, (double)site->total_bytes / MIB, (double)site->average_bytes / KIB,
           (double)site->max_bytes / KIB, site->purpose);
    ++*(int *)nr_lines;
    return 0;
}

int main(void)
{
    int nr_lines = 0;

    churn(json_buffer, 1000);
    churn(intermediate_code, 100);
    churn(machine_memory, 10);
    printf("Call sites as hak_site_foreach reports them (64 KiB x 1000, 256 KiB x 100, 2 MiB x 10):\n");
    printf("%18s %8s %10s %12s %12s  %s\n", "call site", "allocs", "total MiB", "average KiB",
           "maximum KiB", "purpose");
    hak_site_foreach(print_site, &nr_lines);
    return nr_lines >= 3 ? 0 : 1;
}
