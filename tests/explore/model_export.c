// SPDX-License-Identifier: MIT
/*
 * The file of stats:export: two threads renew it, a reader copies it. lib/export/export_file.c, included whole; what
 * it asks other boxes is a piece: one number that grows with each renewal, in two places of the file.
 */
#include "site/site.h"
#undef HK_SITE_SLOTS
#define HK_SITE_SLOTS 2 /* rows that are no part of this */

#include "export/export_file.c"

#include "engine.h"

#include <stdlib.h>

#define WATCHED (offsetof(struct file, table) + sizeof file->table) /* root and tables */

static uint64_t generation; /* under `renewing` */

/* ---- what export_file.c calls -------------------------------------------------------------- */

struct hak_stats_root hak_stats_root;
const struct hk_export_member hk_export_members[HK_EXPORT_NR_MEMBERS];
struct hak_stats_field hk_export_site_fields[1];
const size_t hk_export_nr_site_fields = 0;
struct hak_stats_field hk_export_evo_fields[HK_EXPORT_EVO_FIELDS];
struct hk_acectl_view hk_acectl_view;
void (*hk_ace_watch)(void);

void hk_export_view(struct hk_view *view, bool resident)
{
    (void)view, (void)resident;
    generation++;
}

size_t hk_config_format(unsigned option, char *buffer, size_t bytes)
{
    (void)option, (void)bytes;
    buffer[0] = 0;
    return 0;
}

const char *hk_config_name(unsigned option)
{
    return &"aaaaaaaa"[option == 0 ? 8 - generation : 8]; /* as long as the generation */
}

const char *hk_config_source(unsigned option)
{
    (void)option;
    return "";
}

uint64_t __wrap_hk_os_boot_ns(void);
uint64_t __wrap_hk_os_boot_ns(void)
{
    return generation;
}

/* ---- model --------------------------------------------------------------------------------- */

static void setup(void)
{
    static uint32_t born = 1;
    struct file *f = calloc(1, sizeof *f);

    if (!f)
        abort();
    file = f;
    alive = &born;
    hk_export_renew();
    explore_ignore(f, sizeof *f);
    explore_ignore(hk_site_slots, sizeof hk_site_slots);
    explore_ignore(&hk_acectl_view, sizeof hk_acectl_view);
    explore_racy(&f->root.updated_ns, sizeof f->root.updated_ns);
    explore_racy(&f->root.sequence, sizeof f->root.sequence);
    explore_racy(&f->table[4].nr_rows, sizeof f->table[4].nr_rows);
}

static void renews(void)
{
    hk_export_renew();
}

static void reads(void)
{
    static struct file copy; /* its beginning */

    for (unsigned i = 0; i < 2; i++)
        if (hk_export_copy(file, &copy, WATCHED))
            explore_assert(copy.table[4].nr_rows == copy.root.updated_ns + 3 * HK_NR_OPTIONS);
}

static void check(void)
{
    explore_assert(generation == 2 || generation == 3);
    explore_assert(file->root.sequence == 2 * generation);
    explore_assert(renewing == 0);
}

const struct explore_model model_export = {
    .name = "export",
    .about = "export_file.c: two renew the file, one copies it",
    .preemptions = 1,
    .old_reads = 2,
    .nr_random = 200,
    .more_preemptions = 3,
    .more_old_reads = 2,
    .setup = setup,
    .thread = {renews, renews, reads},
    .check = check,
    .control = {
        {"renew:fence_full", "SF1: a new row, and the old number"},
        {"renew:store_release", "SF3: an even number before the rows"},
        {"hk_export_copy:load_acquire", "SF4"},
        {"hk_export_copy:fence_full", "SF2: the second look before the rows"},
        {"hk_export_renew:cas_acquire=1", "two renew it at once"},
        {"hk_export_renew:store_release", "SF6"},
    },
};
