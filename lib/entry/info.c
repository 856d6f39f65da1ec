// SPDX-License-Identifier: MIT
/* info: glibc's introspection functions with true numbers. */
#include "entry/entry_private.h"

#include "ace/ace.h"
#include "bigcache/bigcache.h"
#include "config/config.h"
#include "meta/meta.h"
#include "pagemap/pagemap.h"
#include "span/span.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * arena     bytes mapped for slabs and runs      hblkhd    bytes in mappings of their own, live
 * uordblks  bytes handed out by both, magazines and slack included
 * fordblks  bytes cached or dirty                keepcost  what malloc_trim(0) would give back at least
 */
HK_EXPORT struct mallinfo2 mallinfo2(void)
{
    struct hk_span_stats span;
    size_t big_live = hk_ace_live_bytes(), cached = hk_ace_cached_bytes();

    hk_span_stats(&span);
    big_live -= big_live < span.used_bytes ? big_live : span.used_bytes;
    return (struct mallinfo2){
        .arena = span.mapped_bytes,
        .ordblks = span.nr_regions,
        .hblkhd = big_live,
        .uordblks = span.used_bytes + big_live,
        .fordblks = span.mapped_bytes - span.used_bytes + hk_bigcache_bytes(),
        .keepcost = cached,
    };
}

static int saturate(size_t n)
{
    return n > INT_MAX ? INT_MAX : (int)n;
}

HK_EXPORT struct mallinfo mallinfo(void)
{
    struct mallinfo2 wide = mallinfo2();

    return (struct mallinfo){
        .arena = saturate(wide.arena),
        .ordblks = saturate(wide.ordblks),
        .hblkhd = saturate(wide.hblkhd),
        .uordblks = saturate(wide.uordblks),
        .fordblks = saturate(wide.fordblks),
        .keepcost = saturate(wide.keepcost),
    };
}

struct totals {
    size_t refills, flushes, slabs_acquired, slabs_retired, remote, parcels, nr_heaps;
};

static struct totals sum_heaps(void)
{
    struct totals t = {0};

    for (const struct hk_heap *h = hk_heap_first(); h; h = h->next_ever) {
        t.nr_heaps++;
        t.refills += hk_load_relaxed(&h->stats.nr_refills);
        t.flushes += hk_load_relaxed(&h->stats.nr_flushes);
        t.slabs_acquired += hk_load_relaxed(&h->stats.nr_slabs_acquired);
        t.slabs_retired += hk_load_relaxed(&h->stats.nr_slabs_retired);
        t.remote += hk_load_relaxed(&h->stats.nr_remote_frees);
        t.parcels += hk_load_relaxed(&h->stats.nr_parcels_sent);
    }
    return t;
}

static void format_stats(char *text, size_t bytes)
{
    struct hk_span_stats span;
    struct totals t = sum_heaps();

    hk_span_stats(&span);
    snprintf(text, bytes,
            "hakmem: mapped %zu, used %zu, dirty %zu, regions %zu, purged %zu in %zu calls\n"
            "hakmem: big live %zu, big cached %zu, metadata %zu\n"
            "hakmem: heaps %zu, refills %zu, flushes %zu, slabs %zu made %zu retired, remote frees %zu in "
            "%zu parcels, sized frees that did not fit %zu\n",
            span.mapped_bytes, span.used_bytes, span.dirty_bytes, span.nr_regions, span.nr_purged_bytes,
            span.nr_purges, hk_ace_live_bytes() - span.used_bytes, hk_bigcache_bytes(),
            hk_meta_mapped_bytes() + hk_pagemap_mapped_bytes(), t.nr_heaps, t.refills, t.flushes,
            t.slabs_acquired, t.slabs_retired, t.remote, t.parcels, hk_entry_size_mismatches());
}

HK_EXPORT void malloc_stats(void)
{
    char text[1024];
    int saved = errno;

    format_stats(text, sizeof text);
    fputs(text, stderr);
    errno = saved;
}

HK_EXPORT int malloc_info(int options, FILE *stream)
{
    struct hk_span_stats span;

    if (options != 0)
        return EINVAL;
    hk_span_stats(&span);
    fprintf(stream,
            "<malloc version=\"hakmem-1\">\n"
            "<system type=\"current\" size=\"%zu\"/>\n"
            "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n"
            "<total type=\"used\" size=\"%zu\"/>\n"
            "<total type=\"cached\" size=\"%zu\"/>\n"
            "</malloc>\n",
            span.mapped_bytes + hk_ace_live_bytes() - span.used_bytes, span.nr_regions,
            span.mapped_bytes - span.used_bytes, hk_ace_live_bytes(), hk_ace_cached_bytes());
    return 0;
}

/*
 * Option stats_dump. Destructors run after the program's atexit handlers, the heap stays usable; but many
 * programs have closed stderr by then, to see whether it was written. So a copy is kept from the start, far
 * from the numbers that programs count on.
 */
static struct {
    int fd;
    struct stat is; /* the program may have closed it and opened something else */
} kept_stderr = {.fd = -1};

void hk_entry_keep_stderr(void)
{
    static const int from[] = {1000, 200, 30};
    int saved = errno, fd = -1;

    if (!hk_config.stats_dump)
        return;
    for (unsigned i = 0; i < sizeof from / sizeof *from && fd < 0; i++)
        fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, from[i]);
    if (fd >= 0 && fstat(fd, &kept_stderr.is) == 0)
        kept_stderr.fd = fd;
    errno = saved;
}

static int stderr_at_exit(void)
{
    struct stat is;

    if (fstat(STDERR_FILENO, &is) == 0 || kept_stderr.fd < 0 || fstat(kept_stderr.fd, &is) != 0 ||
        is.st_dev != kept_stderr.is.st_dev || is.st_ino != kept_stderr.is.st_ino)
        return STDERR_FILENO;
    return kept_stderr.fd;
}

static __attribute__((destructor)) void dump_at_exit(void)
{
    char text[1024];

    if (!hk_load_relaxed(&hk_config.stats_dump) || hk_entry_is_child_of_run())
        return;
    format_stats(text, sizeof text);
    if (write(stderr_at_exit(), text, strlen(text)) < 0)
        return; /* nobody to tell */
}
