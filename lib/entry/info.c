// SPDX-License-Identifier: MIT
/* info: what a program may ask about the heap: glibc's introspection functions and hak_stats_*, all of them
 * over one view. */
#include "entry/entry_private.h"

#include "ace/ace.h"
#include "config/config.h"
#include "entry/malloc_h.h"
#include "export/export.h"
#include "os/os.h"
#include "stats/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <hakmem/hakmem.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- hak_stats ----------------------------------------------------------------------------- */

static size_t known(size_t asked, size_t bytes)
{
    return asked < bytes ? asked : bytes;
}

/* A member that this library does not know is 0. */
static int give(void *to, size_t asked, const void *from, size_t bytes)
{
    if (!to)
        return EINVAL;
    memcpy(to, from, known(asked, bytes));
    if (asked > bytes)
        memset((char *)to + bytes, 0, asked - bytes);
    return 0;
}

HK_EXPORT int hak_stats_get(hak_stats_t *stats, size_t size)
{
    struct hk_view view;

    hk_export_view(&view, size > offsetof(hak_stats_t, resident));
    return give(stats, size, &view.total, sizeof view.total);
}

HK_EXPORT int hak_stats_class_foreach(hak_stats_visit_t *callback, void *arg)
{
    struct hk_view view;

    hk_export_view(&view, false);
    for (unsigned c = 0; c < HK_VIEW_CLASSES; c++) {
        int answer = view.class[c].slabs ? callback(&view.class[c], arg) : 0;
        if (answer)
            return answer;
    }
    return 0;
}

HK_EXPORT void hak_stats_print(hak_write_t *callback, void *arg)
{
    hk_export_print(callback, arg, true);
}

HK_EXPORT void hak_stats_json(hak_write_t *callback, void *arg)
{
    hk_export_json(callback, arg);
}

/* ---- hak_kpi ------------------------------------------------------------------------------- */

/* Second number of /proc/self/statm, in pages; 0: cannot be read. */
static uint64_t resident_bytes(void)
{
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    const char *at = n > 0 ? strchr(text, ' ') : NULL;
    uint64_t pages = 0;

    if (fd >= 0)
        (void)close(fd);
    for (at = at ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
        pages = pages * 10 + (uint64_t)(*at - '0');
    return pages * hk_os_page_bytes();
}

HK_EXPORT int hak_kpi_get(hak_kpi_t *kpi, size_t size)
{
    static uint64_t first_resident; /* relaxed; 0: not asked yet */
    uint64_t nobody = 0, samples;
    int saved = errno;
    struct rusage usage;
    hak_kpi_t all = {
        .slow_alloc_p50_ns = hk_latency_quantile(500, &samples),
        .slow_alloc_p95_ns = hk_latency_quantile(950, &samples),
        .slow_alloc_p99_ns = hk_latency_quantile(990, &samples),
    };

    all.slow_alloc_samples = samples;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        all.soft_faults = (uint64_t)usage.ru_minflt;
        all.hard_faults = (uint64_t)usage.ru_majflt;
    }
    all.resident = resident_bytes();
    (void)hk_cas_relaxed(&first_resident, &nobody, all.resident);
    all.resident_delta = (int64_t)(all.resident - hk_load_relaxed(&first_resident));
    errno = saved;
    return give(kpi, size, &all, sizeof all);
}

/* ---- glibc's ------------------------------------------------------------------------------- */

/* Without questions to the kernel: these are called often, and under filters. */
static void view_quickly(struct hk_view *view)
{
    hk_export_view(view, false);
}

/*
 * As glibc means them: arena, memory of the small and mid-sized blocks; hblkhd, of big ones;
 * uordblks, in use, of both; fordblks, free; keepcost, what malloc_trim(0) can give back at least.
 * arena + hblkhd == uordblks + fordblks == what is mapped without metadata.
 */
HK_EXPORT struct mallinfo2 mallinfo2(void)
{
    struct hk_view view;
    const hak_stats_t *t = &view.total;
    uint64_t user, big;

    view_quickly(&view);
    user = t->mapped > t->metadata ? t->mapped - t->metadata : 0;
    big = t->live_big + t->cached_big + t->pending;
    return (struct mallinfo2){
        .arena = (size_t)(user > big ? user - big : 0),
        .ordblks = (size_t)t->regions,
        .hblks = (size_t)hk_load_relaxed(&hk_ace_counters.nr_live),
        .hblkhd = (size_t)big,
        .uordblks = (size_t)t->live,
        .fordblks = (size_t)(user > t->live ? user - t->live : 0),
        .keepcost = (size_t)(t->dirty + t->cached_big),
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
        .hblks = saturate(wide.hblks),
        .hblkhd = saturate(wide.hblkhd),
        .uordblks = saturate(wide.uordblks),
        .fordblks = saturate(wide.fordblks),
        .keepcost = saturate(wide.keepcost),
    };
}

HK_EXPORT void malloc_stats(void)
{
    hk_export_print(NULL, NULL, false);
}

static void put_sizes(FILE *stream, const struct hk_view *view)
{
    fprintf(stream, "<sizes>\n");
    for (unsigned c = 0; c < HK_VIEW_CLASSES; c++) {
        const hak_stats_class_t *row = &view->class[c];
        uint64_t idle = row->cached + row->parcels + row->free;
        uint64_t from = c && view->class[c - 1].size < row->size ? view->class[c - 1].size + 1 : row->size;
        if (idle)
            fprintf(stream, "<size from=\"%llu\" to=\"%llu\" total=\"%llu\" count=\"%llu\"/>\n",
                    (unsigned long long)from, (unsigned long long)row->size,
                    (unsigned long long)(idle * row->size), (unsigned long long)idle);
    }
    fprintf(stream, "</sizes>\n");
}

static void put_total(FILE *stream, const char *type, uint64_t count, uint64_t bytes)
{
    fprintf(stream, "<total type=\"%s\" count=\"%llu\" size=\"%llu\"/>\n", type, (unsigned long long)count,
            (unsigned long long)bytes);
}

static void put_size(FILE *stream, const char *element, const char *type, uint64_t bytes)
{
    fprintf(stream, "<%s type=\"%s\" size=\"%llu\"/>\n", element, type, (unsigned long long)bytes);
}

/* Everything but big blocks; `elements` as in glibc's arenas and in its totals. */
static void put_arena(FILE *stream, const struct hk_view *view)
{
    const hak_stats_t *t = &view->total;
    uint64_t kept = t->cached_magazines + t->cached_parcels + t->cached_runs;
    uint64_t system = t->mapped - hk_min(t->mapped, t->metadata + t->live_big + t->cached_big + t->pending);

    put_total(stream, "fast", 0, kept);
    put_total(stream, "rest", t->regions, t->slab_free + t->dirty - t->pending + t->purged);
    put_size(stream, "system", "current", system);
    put_size(stream, "system", "max", system); /* no high-water mark is kept */
    put_size(stream, "aspace", "total", system);
    put_size(stream, "aspace", "mprotect", system);
}

/* The format of glibc's version 1; "fast" is what is cached, "rest" what is free otherwise, "mmap" the big
 * blocks. */
HK_EXPORT int malloc_info(int options, FILE *stream)
{
    struct hk_view view;

    if (options != 0)
        return EINVAL;
    view_quickly(&view);
    fprintf(stream, "<malloc version=\"1\">\n<heap nr=\"0\">\n");
    put_sizes(stream, &view);
    put_arena(stream, &view);
    fprintf(stream, "</heap>\n");
    put_arena(stream, &view);
    put_total(stream, "mmap", hk_load_relaxed(&hk_ace_counters.nr_live), view.total.live_big);
    fprintf(stream, "</malloc>\n");
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

static void write_at_exit(void *arg, const char *text, size_t bytes)
{
    (void)arg;
    if (write(stderr_at_exit(), text, bytes) < 0)
        return; /* nobody to tell */
}

static __attribute__((destructor)) void dump_at_exit(void)
{
    if (!hk_load_relaxed(&hk_config.stats_dump) || hk_entry_is_child_of_run())
        return;
    hk_export_print(write_at_exit, NULL, false); /* write(2) alone: the program may be in a sandbox by now */
}
