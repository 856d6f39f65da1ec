// SPDX-License-Identifier: MIT
#include "export/export.h"

#include "ace/ace.h"
#include "config/config.h"
#include "os/os.h"
#include "thread/thread.h"

#include "fake_os.h"
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define SITE ((const void *)0x401234)
#define NR_SLOTS 600

bool __wrap_hk_os_is_secure(void);

static bool secure;

bool __wrap_hk_os_is_secure(void)
{
    return secure;
}

static struct hk_heap *heap[2];
static void *block[NR_SLOTS];

static void setup(void)
{
    fake_os_install();
    fake_os_place(HK_REGION_BYTES, 0);
    set_policy();
    hk_ace_init();
    heap[0] = hk_heap_adopt();
    heap[1] = hk_heap_adopt();
}

static void teardown(void)
{
    hk_ace_check(heap[0]);
    hk_ace_check(heap[1]);
    fake_os_remove();
}

/* ---- the sum ------------------------------------------------------------------------------- */

/* The kernel, the counter beside the system calls, and the parts agree. */
static void must_add_up(unsigned step)
{
    static struct hk_view view;
    const hak_stats_t *t = &view.total;

    hk_export_view(&view, false);
    uint64_t sum = t->live + t->cached + t->slab_free + t->dirty + t->purged + t->metadata;
    if (t->mapped != fake_os_mapped_bytes() || t->mapped != sum)
        ck_abort_msg("step %u: kernel %zu, mapped %ju, sum %ju: live %ju, cached %ju, slab_free %ju, dirty %ju, "
                     "purged %ju, metadata %ju",
                     step, fake_os_mapped_bytes(), (uintmax_t)t->mapped, (uintmax_t)sum, (uintmax_t)t->live,
                     (uintmax_t)t->cached, (uintmax_t)t->slab_free, (uintmax_t)t->dirty,
                     (uintmax_t)t->purged, (uintmax_t)t->metadata);
    for (unsigned c = 0; c < HK_VIEW_CLASSES; c++) {
        const hak_stats_class_t *row = &view.class[c];
        if (row->slabs * row->slots != row->live + row->cached + row->parcels + row->free)
            ck_abort_msg("step %u: class %u of %ju bytes", step, c, (uintmax_t)row->size);
    }
}

static size_t any_size(void)
{
    static const size_t most[] = {100, 2000, 30000, 200000, 1500000, 8000000};

    return 1 + below(most[below(6)]);
}

/* Allocates with one heap, frees with either, resizes, purges; the sum holds after each step. */
static void play(unsigned nr_steps)
{
    for (unsigned step = 0; step < nr_steps; step++) {
        struct hk_heap *self = heap[below(2)];
        void **p = &block[below(NR_SLOTS)];

        if (one_in(200)) {
            hk_ace_purge(self);
        } else if (*p && one_in(4)) {
            void *q = hk_ace_realloc(self, *p, any_size(), SITE);
            *p = q ? q : *p;
        } else if (*p) {
            hk_ace_free(self, *p, SITE);
            *p = NULL;
        } else {
            *p = hk_ace_alloc(self, any_size(), one_in(9) ? (size_t)64 << below(9) : 16, false, SITE);
        }
        must_add_up(step);
    }
}

START_TEST(adds_up_after_every_step)
{
    start_random((unsigned)_i);
    play(3000);
}
END_TEST

/* munmap and madvise fail now and then: what cannot be given back is still somewhere in the sum. */
START_TEST(adds_up_when_the_kernel_refuses)
{
    start_random(100 + (unsigned)_i);
    for (unsigned round = 0; round < 8; round++) {
        fake_os_fail_all(FAKE_UNMAP, round % 2 ? ENOMEM : 0);
        fake_os_fail_all(FAKE_ADVISE, round % 3 == 1 ? EINVAL : 0);
        fake_os_fail_all(FAKE_REMAP, round % 4 == 2 ? ENOMEM : 0);
        play(300);
    }
    fake_os_fail_all(FAKE_UNMAP, 0);
    fake_os_fail_all(FAKE_ADVISE, 0);
    fake_os_fail_all(FAKE_REMAP, 0);
}
END_TEST

START_TEST(adds_up_when_there_is_no_memory)
{
    start_random(7);
    play(200);
    fake_os_fail_all(FAKE_MAP, ENOMEM);
    play(600);
    fake_os_fail_all(FAKE_MAP, 0);
    play(200);
}
END_TEST

START_TEST(adds_up_across_parking)
{
    start_random(9);
    play(1000);
    hk_l25_flush(&heap[1]->l25);
    hk_heap_park(heap[1]);
    must_add_up(1);
    heap[1] = hk_heap_adopt();
    play(1000);
    for (unsigned i = 0; i < NR_SLOTS; i++)
        hk_ace_free(heap[0], block[i], SITE);
    hk_ace_purge(heap[0]);
    hk_ace_purge(heap[1]);
    must_add_up(2);
}
END_TEST

START_TEST(loose_blocks_are_live)
{
    static struct hk_view before, with;

    hk_export_view(&before, false);
    void *p = hk_ace_loose_alloc(100, 16);
    ck_assert_ptr_nonnull(p);
    must_add_up(0);
    hk_export_view(&with, false);
    ck_assert_uint_eq(with.total.live_big, before.total.live_big + HK_GRANULE);
    ck_assert(hk_ace_loose_free(p));
    must_add_up(1);
    hk_export_view(&with, false);
    ck_assert_uint_eq(with.total.live_big, before.total.live_big);
}
END_TEST

/* ---- negative control ---------------------------------------------------------------------- */

static void lose_a_block(void)
{
    heap[0]->slabs[5].nr_free++; /* a free block more than there is */
    hk_heap_check(heap[0]);
}

START_TEST(a_wrong_count_is_found)
{
    block[0] = hk_ace_alloc(heap[0], 100, 16, false, SITE);
    must_panic(lose_a_block, "free blocks do not add up");
}
END_TEST

/* ---- root and file ------------------------------------------------------------------------- */

static unsigned nr_files(char path[64])
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char link[300], target[64] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%s", e->d_name);
        if (readlink(link, target, sizeof target - 1) > 0 && strstr(target, "memfd:hakmem-stats")) {
            snprintf(path, 64, "/proc/self/fd/%.20s", e->d_name);
            n++;
        }
    }
    closedir(dir);
    return n;
}

static void start_with(enum hk_stats_option option, bool is_secure)
{
    set_policy();
    hk_config.stats = option;
    secure = is_secure;
    hk_export_start();
}

static const struct hak_stats_table *table_named(const char *name)
{
    const struct hak_stats_table *tables = (const struct hak_stats_table *)(uintptr_t)hak_stats_root.tables;

    for (unsigned i = 0; i < hak_stats_root.nr_tables; i++)
        if (strcmp(tables[i].name, name) == 0)
            return &tables[i];
    ck_abort_msg("no table %s", name);
}

START_TEST(root_is_found)
{
    char path[64];

    ck_assert_uint_eq(hak_stats_root.self, 0);
    start_with(HK_STATS_COUNTERS, false);
    ck_assert_uint_eq(hak_stats_root.self, (uintptr_t)&hak_stats_root);
    ck_assert_int_eq(memcmp(hak_stats_root.magic, HAK_STATS_MAGIC, 8), 0);
    ck_assert_uint_eq(hak_stats_root.pid, (uint64_t)getpid());
    ck_assert_uint_gt(hak_stats_root.start_ns, 0);
    ck_assert_uint_eq(table_named("size")->rows, (uintptr_t)hk_size_class);
    ck_assert_uint_eq(table_named("size")->nr_rows, HK_NR_CLASSES);
    ck_assert_uint_eq(nr_files(path), 0);
}
END_TEST

/* Every table is placed, has fields unless it is a blob, and no field reaches beyond its row. */
START_TEST(tables_are_whole)
{
    start_with(HK_STATS_COUNTERS, false);
    const struct hak_stats_table *tables = (const struct hak_stats_table *)(uintptr_t)hak_stats_root.tables;
    for (unsigned i = 0; i < hak_stats_root.nr_tables; i++) {
        const struct hak_stats_table *t = &tables[i];
        const struct hak_stats_field *f = (const struct hak_stats_field *)(uintptr_t)t->fields;

        ck_assert(t->name[0] && t->name[sizeof t->name - 1] == 0);
        ck_assert_msg(t->rows || t->flags & HAK_STATS_NESTED, "%s lies nowhere", t->name);
        ck_assert_msg(!t->nr_fields == !!(t->flags & HAK_STATS_BLOB), "%s", t->name);
        ck_assert_msg((t->nr_rows == 0) == !!(t->flags & HAK_STATS_CHAINED), "%s", t->name);
        for (unsigned k = 0; k < t->nr_fields; k++)
            ck_assert_msg(f[k].name[0] && f[k].bytes && f[k].offset + f[k].bytes <= t->row_bytes, "%s.%s",
                          t->name, f[k].name);
    }
}
END_TEST

START_TEST(off_is_not_found)
{
    start_with(HK_STATS_OFF, false);
    ck_assert_uint_eq(hak_stats_root.self, 0);
}
END_TEST

START_TEST(privileged_programs_have_no_file)
{
    char path[64];

    start_with(HK_STATS_EXPORT, true);
    ck_assert_uint_eq(nr_files(path), 0);
    ck_assert_ptr_null(hk_ace_watch);
}
END_TEST

START_TEST(a_file_is_a_copy)
{
    static char copy[256 * 1024];
    struct hak_stats_root *root = (struct hak_stats_root *)copy;
    char path[64];

    start_with(HK_STATS_EXPORT, false);
    ck_assert_uint_eq(nr_files(path), 1);
    ck_assert_ptr_nonnull(hk_ace_watch);
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    size_t bytes = fread(copy, 1, sizeof copy, file);
    fclose(file);
    ck_assert_uint_gt(bytes, 4096);
    ck_assert_uint_eq(root->flags, HAK_STATS_FILE);
    ck_assert_uint_eq(root->self, 0);
    ck_assert_uint_eq(root->sequence % 2, 0);
    ck_assert_uint_gt(root->sequence, 0);
    struct hak_stats_table *t = (struct hak_stats_table *)(copy + root->tables);
    for (unsigned i = 0; i < root->nr_tables; i++)
        ck_assert_uint_le(t[i].rows + (t[i].flags & HAK_STATS_BLOB ? t[i].nr_rows : t[i].nr_rows * t[i].row_bytes),
                          bytes);
    int fd = open(path, O_RDWR); /* root may; the seals bind root too */
    ck_assert(fd < 0 || write(fd, "x", 1) == -1);
    ck_assert(fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    ck_assert(fd < 0 || ftruncate(fd, 0) == -1);
}
END_TEST

/* A reader that meets an odd or a changed number tries again. */
START_TEST(a_copy_notices_a_writer)
{
    struct hak_stats_root view = {.sequence = 4}, copy;

    ck_assert(hk_export_copy(&view, &copy, sizeof copy));
    ck_assert_uint_eq(copy.sequence, 4);
    view.sequence = 5;
    ck_assert(!hk_export_copy(&view, &copy, sizeof copy));
}
END_TEST

static void no_setup(void)
{
}

int main(void)
{
    Suite *suite = suite_create("export");
    TCase *sums = new_case(suite, "sums", setup, teardown);
    TCase *root = new_case(suite, "root", no_setup, no_setup);

    tcase_add_loop_test(sums, adds_up_after_every_step, 0, 4);
    tcase_add_loop_test(sums, adds_up_when_the_kernel_refuses, 0, 3);
    tcase_add_test(sums, adds_up_when_there_is_no_memory);
    tcase_add_test(sums, adds_up_across_parking);
    tcase_add_test(sums, loose_blocks_are_live);
    tcase_add_test(sums, a_wrong_count_is_found);
    tcase_add_test(root, root_is_found);
    tcase_add_test(root, tables_are_whole);
    tcase_add_test(root, off_is_not_found);
    tcase_add_test(root, privileged_programs_have_no_file);
    tcase_add_test(root, a_file_is_a_copy);
    tcase_add_test(root, a_copy_notices_a_writer);
    return run_suite(suite);
}
