// SPDX-License-Identifier: MIT
/*
 * Option stats:export. A file of one size:
 *
 *   | root | tables | fields | rows of "stats" (1) | of "class" | of "heap" | of "site", "evo" | options as text |
 *
 * Its description is written once; rows are renewed between two steps of root.sequence, at most every 20 ms, by
 * whichever slow path comes by. A process that rests shows the state of its last slow path: updated_ns.
 *
 * Processes: the file is its maker's. A child of fork gets memory of its own in its place (atfork); a child of
 * _Fork or clone finds that the page `alive`, which the kernel wipes for it, is zero, and writes nothing.
 */
#include "export/export_private.h"

#include "ace/ace.h"
#include "acectl/acectl.h"
#include "config/config.h"
#include "os/os.h"
#include "site/site.h"

#include <string.h>

#define NR_HEAP_ROWS 128 /* later heaps are in the sums only */
#define OPTIONS_BYTES 4096
#define NR_TABLES 6
#define CLASS_FIELDS 8
#define HEAP_FIELDS 9
#define SITE_FIELDS_MAX 64

/* One heap, in numbers of one width. */
struct heap_row {
    uint64_t id, thread_id, state, depot, refills, flushes, slabs_acquired, slabs_retired, remote_frees;
};

struct file {
    struct hak_stats_root root;
    struct hak_stats_table table[NR_TABLES];
    struct hak_stats_field stats_field[HK_EXPORT_NR_MEMBERS];
    struct hak_stats_field class_field[CLASS_FIELDS];
    struct hak_stats_field heap_field[HEAP_FIELDS];
    struct hak_stats_field site_field[SITE_FIELDS_MAX];
    struct hak_stats_field evo_field[HK_EXPORT_EVO_FIELDS];
    hak_stats_t stats;
    hak_stats_class_t class[HK_VIEW_CLASSES];
    struct heap_row heap[NR_HEAP_ROWS];
    struct hk_site_slot site[HK_SITE_SLOTS];
    struct hk_acectl_view evo;
    char options[OPTIONS_BYTES]; /* "name value source\n" ... */
};

static struct file *file;       /* NULL: none, or not ours */
static uint32_t *alive;         /* 1; 0 in a process that was not told of its birth */
static uint32_t renewing;       /* one at a time: CAS acquire SF5, release SF6 */

static size_t file_bytes(void)
{
    return hk_align_up(sizeof(struct file), hk_os_page_bytes());
}

/* ---- description --------------------------------------------------------------------------- */

#define ROW hak_stats_class_t
static const struct hak_stats_field class_fields[] = {
    HK_FIELD("size", size, NUMBER),     HK_FIELD("slab_bytes", slab_bytes, NUMBER),
    HK_FIELD("slots", slots, NUMBER),   HK_FIELD("slabs", slabs, GAUGE),
    HK_FIELD("live", live, GAUGE),      HK_FIELD("cached", cached, GAUGE),
    HK_FIELD("parcels", parcels, GAUGE), HK_FIELD("free", free, GAUGE),
};
#undef ROW

#define ROW struct heap_row
static const struct hak_stats_field heap_fields[] = {
    HK_FIELD("id", id, NUMBER),
    HK_FIELD("thread_id", thread_id, NUMBER),
    HK_FIELD("state", state, ENUM),
    HK_FIELD("depot", depot, ENUM),
    HK_FIELD("refills", refills, COUNTER),
    HK_FIELD("flushes", flushes, COUNTER),
    HK_FIELD("slabs_acquired", slabs_acquired, COUNTER),
    HK_FIELD("slabs_retired", slabs_retired, COUNTER),
    HK_FIELD("remote_frees", remote_frees, COUNTER),
};
#undef ROW

static void describe_stats(struct file *f)
{
    for (size_t i = 0; i < HK_EXPORT_NR_MEMBERS; i++) {
        const struct hk_export_member *m = &hk_export_members[i];
        struct hak_stats_field *field = &f->stats_field[i];
        memcpy(field->name, m->name, sizeof field->name);
        field->offset = m->offset;
        field->bytes = sizeof(uint64_t);
        field->kind = m->kind;
    }
}

static void describe_table(struct hak_stats_table *t, const char *name, size_t rows, size_t nr_rows,
                           size_t row_bytes, size_t fields, size_t nr_fields)
{
    memcpy(t->name, name, hk_min(strlen(name), sizeof t->name - 1));
    t->rows = rows;
    t->nr_rows = (uint32_t)nr_rows;
    t->row_bytes = (uint32_t)row_bytes;
    t->fields = fields;
    t->nr_fields = (uint32_t)nr_fields;
}

#define AT(member) offsetof(struct file, member)
#define NR(array) (sizeof(array) / sizeof *(array))
_Static_assert(NR(class_fields) == CLASS_FIELDS && NR(heap_fields) == HEAP_FIELDS, "all of them");

static void describe_tables(struct file *f)
{
    size_t nr_site_fields = hk_min(hk_export_nr_site_fields, SITE_FIELDS_MAX);

    memcpy(f->class_field, class_fields, sizeof class_fields);
    memcpy(f->heap_field, heap_fields, sizeof heap_fields);
    memcpy(f->evo_field, hk_export_evo_fields, sizeof f->evo_field);
    memcpy(f->site_field, hk_export_site_fields, nr_site_fields * sizeof f->site_field[0]);
    describe_table(&f->table[0], "stats", AT(stats), 1, sizeof f->stats, AT(stats_field), NR(f->stats_field));
    describe_table(&f->table[1], "class", AT(class), NR(f->class), sizeof f->class[0], AT(class_field),
                   NR(f->class_field));
    describe_table(&f->table[2], "heap", AT(heap), 0, sizeof f->heap[0], AT(heap_field), NR(f->heap_field));
    describe_table(&f->table[3], "site", AT(site), NR(f->site), sizeof f->site[0], AT(site_field),
                   nr_site_fields);
    describe_table(&f->table[5], "evo", AT(evo), 1, sizeof f->evo, AT(evo_field), NR(f->evo_field));
    describe_table(&f->table[4], "option.text", AT(options), 0, 1, 0, 0);
    f->table[4].flags = HAK_STATS_BLOB;
}

/* ---- rows ---------------------------------------------------------------------------------- */

static size_t append(char *text, size_t used, const char *s)
{
    while (*s && used < OPTIONS_BYTES)
        text[used++] = *s++;
    return used;
}

static void fill_options(struct file *f)
{
    size_t used = 0;

    for (unsigned i = 0; i < HK_NR_OPTIONS; i++) {
        char value[256];
        (void)hk_config_format(i, value, sizeof value);
        used = append(f->options, used, hk_config_name(i));
        used = append(f->options, used, " ");
        used = append(f->options, used, value);
        used = append(f->options, used, " ");
        used = append(f->options, used, hk_config_source(i));
        used = append(f->options, used, "\n");
    }
    f->table[4].nr_rows = (uint32_t)used;
}

static void fill_heaps(struct file *f)
{
    uint32_t n = 0;

    for (const struct hk_heap *h = hk_heap_first(); h && n < NR_HEAP_ROWS; h = h->next_ever, n++)
        f->heap[n] = (struct heap_row){
            .id = h->id,
            .thread_id = hk_load_relaxed(&h->thread_id),
            .state = hk_load_relaxed(&h->state),
            .depot = h->depot,
            .refills = hk_load_relaxed(&h->stats.nr_refills),
            .flushes = hk_load_relaxed(&h->stats.nr_flushes),
            .slabs_acquired = hk_load_relaxed(&h->stats.nr_slabs_acquired),
            .slabs_retired = hk_load_relaxed(&h->stats.nr_slabs_retired),
            .remote_frees = hk_load_relaxed(&h->stats.nr_remote_frees),
        };
    f->table[2].nr_rows = n;
}

static void fill_evo(struct file *f)
{
    for (size_t i = 0; i < sizeof f->evo / sizeof(uint64_t); i++)
        ((uint64_t *)&f->evo)[i] = hk_load_relaxed((const uint64_t *)&hk_acectl_view + i);
}

static void fill(struct file *f)
{
    static HK_LARGE_BSS struct hk_view view; /* too large for some stacks; `renewing` guards it */

    hk_export_view(&view, false);
    f->stats = view.total;
    memcpy(f->class, view.class, sizeof f->class);
    fill_heaps(f);
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++)
        if (!hk_site_read(i, &f->site[i]))
            memset(&f->site[i], 0, sizeof f->site[i]);
    fill_evo(f);
    fill_options(f);
    f->root.updated_ns = hk_os_boot_ns();
}

static void renew(struct file *f)
{
    hk_store_relaxed(&f->root.sequence, f->root.sequence + 1);
    hk_fence_full(); /* SF1 fence, pairs with SF2: the odd number before the rows */
    fill(f);
    hk_store_release(&f->root.sequence, f->root.sequence + 1); /* SF3 release, pairs with SF4: the rows */
}

bool hk_export_copy(const void *view, void *copy, size_t bytes)
{
    const struct hak_stats_root *root = view;
    uint32_t before = hk_load_acquire(&root->sequence); /* SF4 acquire, pairs with SF3 */

    memcpy(copy, view, bytes);
    hk_fence_full(); /* SF2 fence, pairs with SF1: the rows before the second look */
    return before % 2 == 0 && hk_load_relaxed(&root->sequence) == before;
}

void hk_export_renew(void)
{
    uint32_t nobody = 0;

    if (!file || hk_load_relaxed(alive) != 1)
        return;
    if (!hk_cas_acquire(&renewing, &nobody, 1u)) /* SF5 acquire, pairs with SF6 */
        return;
    renew(file);
    hk_store_release(&renewing, 0u); /* SF6 release, pairs with SF5 */
}

/* ---- life ---------------------------------------------------------------------------------- */

/* A page that is zero in whoever was born without our being told. */
static bool make_alive(void)
{
    size_t page = hk_os_page_bytes();
    uint32_t *p = hk_os_reserve(page, page);

    if (p && !hk_os_wipe_on_fork(p, page)) {
        hk_os_abandon(p, page);
        p = NULL;
    }
    if (!p)
        return false;
    hk_add_relaxed(&hk_os_counters.shared_bytes, page);
    hk_store_relaxed(p, 1u);
    alive = p;
    return true;
}

void hk_export_file_start(void)
{
    void *view;

    if (!make_alive() || hk_os_share("hakmem-stats", file_bytes(), &view) < 0)
        return;
    file = view;
    file->root = hak_stats_root;
    file->root.self = 0;
    file->root.flags = HAK_STATS_FILE;
    file->root.tables = AT(table);
    file->root.nr_tables = NR_TABLES;
    describe_stats(file);
    describe_tables(file);
    hk_ace_watch = hk_export_renew;
    hk_export_renew();
}

/* The file stays the parent's. What was its mapping here is memory of the child's own, so that nothing that
 * it does reaches the parent's; nobody reads it, so nothing is written. */
void hk_export_file_child(void)
{
    struct file *was = file;

    if (!was)
        return;
    file = NULL;
    hk_ace_watch = NULL;
    (void)hk_os_unshare(was, file_bytes());
}
