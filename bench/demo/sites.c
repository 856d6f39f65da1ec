// SPDX-License-Identifier: MIT
/*
 * sites: call sites, kinds of blocks, and what the library says of them.
 *
 * Three sites are labelled: hak_alloc_cs takes the return address of the call, and every call is counted. The
 * others are plain malloc of small blocks, which cost nothing until one of them is sampled; their numbers are
 * estimates, and the true ones are printed beside them.
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

#define NR_WORDS 200000
#define NR_NODES 100000
#define NR_REQUESTS 300
#define REQUEST_BLOCKS 2000

NOINLINE static void *word(void)
{
    void *p = malloc(40);
    RETURN_HERE(p);
    return p;
}

NOINLINE static void *node(void)
{
    void *p = calloc(1, 200);
    RETURN_HERE(p);
    return p;
}

NOINLINE static void *scratch(void)
{
    void *p = malloc(3000);
    RETURN_HERE(p);
    return p;
}

static void *words[NR_WORDS], *nodes[NR_NODES], *request[REQUEST_BLOCKS];

/* A dictionary that stays, and requests that need much for a short time. */
static void small_blocks(void)
{
    for (int i = 0; i < NR_WORDS; i++)
        words[i] = word();
    for (int i = 0; i < NR_NODES; i++)
        nodes[i] = node();
    for (int r = 0; r < NR_REQUESTS; r++) {
        for (int i = 0; i < REQUEST_BLOCKS; i++)
            request[i] = scratch();
        for (int i = 0; i < REQUEST_BLOCKS; i++)
            free(request[i]);
    }
    for (int i = 0; i < NR_NODES; i += 2)
        free(nodes[i]);
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

/* A site is a return address; hakmem-stats names those of any program by its debugging information, we know our own: the
 * function that begins last before it. */
static const char *name_of(const hak_site_t *site)
{
    static const struct {
        const char *name;
        void *(*function)(void);
    } known[] = {{"json_buffer", json_buffer}, {"intermediate_code", intermediate_code}, {"machine_memory", machine_memory},
                 {"word", word}, {"node", node}, {"scratch", scratch}};
    const char *name = "?";
    uintptr_t nearest = 0;

    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        uintptr_t start = (uintptr_t)known[i].function;
        if (start <= (uintptr_t)site->site && start > nearest) {
            nearest = start;
            name = known[i].name;
        }
    }
    return name;
}

/* The labelled ones first. */
static int print_site(const hak_site_t *site, void *nr_lines)
{
    if (site->average_bytes < 64 * 1024)
        return 0;
    printf("%18s %8" PRIu64 " %10.1f %12.1f %12.1f  %s\n", name_of(site), site->allocs, (double)site->total_bytes / MIB,
           (double)site->average_bytes / KIB, (double)site->max_bytes / KIB, site->purpose);
    ++*(int *)nr_lines;
    return 0;
}

static int print_sample(const hak_site_t *site, void *nr_lines)
{
    if (site->samples == 0 || site->average_bytes >= 64 * 1024)
        return 0;
    printf("%18s %8" PRIu64 " %10.1f %10.1f %8" PRIu64 " %8" PRIu64 " %10.1f  %s\n", name_of(site), site->allocs, (double)site->total_bytes / MIB, (double)site->live_bytes / MIB,
           site->size_p50, site->samples, (double)site->lifetime_p50_ns / 1e6, site->purpose);
    ++*(int *)nr_lines;
    return 0;
}

int main(void)
{
    int nr_lines = 0, nr_samples = 0;

    churn(json_buffer, 1000);
    churn(intermediate_code, 100);
    churn(machine_memory, 10);
    printf("Who allocates what: call sites of a program, as it asks for them itself (hak_site_foreach).\n"
           "Labelled calls are all counted (64 KiB x 1000, 256 KiB x 100, 2 MiB x 10):\n");
    printf("%18s %8s %10s %12s %12s  %s\n", "call site", "allocs", "total MiB", "average KiB",
           "maximum KiB", "purpose");
    hak_site_foreach(print_site, &nr_lines);
    small_blocks();
    printf("\nSmall blocks are estimated from a sample of them. True: word 40 B x %d, all stay; node 200 B x %d,\n"
           "half stay; scratch 3000 B x %d, freed in bursts of %d:\n",
           NR_WORDS, NR_NODES, NR_REQUESTS * REQUEST_BLOCKS, REQUEST_BLOCKS);
    printf("%18s %8s %10s %10s %8s %8s %10s  %s\n", "call site", "allocs", "total MiB", "live MiB", "p50 size",
           "samples", "life, ms", "purpose");
    hak_site_foreach(print_sample, &nr_samples);
    return nr_lines >= 3 && nr_samples >= 3 ? 0 : 1;
}
