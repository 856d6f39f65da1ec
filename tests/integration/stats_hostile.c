// SPDX-License-Identifier: MIT
/*
 * A process whose counters lie: it exports a hak_stats_root of its own, bends one field at a time and runs
 * hakmem-stats on itself. Every view ends with the status that the case expects, never by a signal; then
 * random bytes are bent, where any of the documented statuses will do. Prints TAP.
 *
 *   stats_hostile PROGRAM [SEED [ROUNDS]]
 */
#include <hakmem/hakmem.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLASSES 3

/* ---- counters that hold together ----------------------------------------------------------- */

struct slabs { void **bottom; uint64_t nr_slabs, nr_free; };
struct heap { struct heap *next; uint64_t id, refills, l25, untold[4]; struct slabs slabs[CLASSES]; void **cursor[CLASSES]; };
struct parcel { struct parcel *next; uint32_t count; uint64_t bytes; uint8_t classes[8]; };
struct size { uint64_t size, slab_mask, slots; };
struct site { uint64_t key, allocs, frees, total_bytes, live_bytes, max_bytes, est[4], p50, purpose; };
struct option { uint8_t type; uint16_t offset; };
struct knob { char name[8]; uint64_t trials; };

struct memory {
    struct hak_stats_table tables[14];
    struct hak_stats_field os[1], size[3], heap[7], slabs[3], magazine[1], parcel[3], site[12], policy[1], option[2], knob[2],
        source[1], latency[1];
    uint64_t os_mapped;
    struct size sizes[CLASSES];
    struct heap *first_heap, heaps[2];
    struct parcel *first_parcel, parcels[2];
    struct site sites[4];
    uint64_t *policy_now, policy_row;
    struct option options[2];
    struct knob knobs[2];
    uint8_t sources[2];
    char config[64], names[16], words[16];
    uint32_t buckets[128];
    void *slots[16];
};

enum { OS, SIZE, HEAP, SLABS, MAGAZINE, PARCEL, SITE, POLICY, CONFIG, OPTION, SOURCE, NAMES, WORDS, KNOB };

struct hak_stats_root hak_stats_root;
static struct memory m;
#define ROOT hak_stats_root

static struct hak_stats_field field(const char *name, size_t offset, size_t bytes)
{
    struct hak_stats_field f = {.offset = (uint32_t)offset, .bytes = (uint16_t)bytes};

    memcpy(f.name, name, strlen(name));
    return f;
}

static void table(int i, const char *name, const void *rows, size_t nr, size_t row_bytes, void *fields, size_t nr_fields)
{
    struct hak_stats_table t = {.rows = (uintptr_t)rows, .nr_rows = (uint32_t)nr, .row_bytes = (uint32_t)row_bytes,
                                .fields = (uintptr_t)fields, .nr_fields = (uint32_t)nr_fields};

    memcpy(t.name, name, strlen(name));
    m.tables[i] = t;
}

static void fill_heap_tables(void)
{
    table(HEAP, "heap", &m.first_heap, 0, sizeof(struct heap), m.heap, 7);
    m.tables[HEAP].flags = HAK_STATS_CHAINED;
    m.tables[HEAP].next = offsetof(struct heap, next);
    table(SLABS, "heap.slabs", (void *)offsetof(struct heap, slabs), CLASSES, sizeof(struct slabs), m.slabs, 3);
    m.tables[SLABS].flags = HAK_STATS_NESTED;
    m.tables[SLABS].parent = HEAP;
    table(MAGAZINE, "heap.magazine", (void *)offsetof(struct heap, cursor), CLASSES, sizeof(void *), m.magazine, 1);
    m.tables[MAGAZINE].flags = HAK_STATS_NESTED;
    m.tables[MAGAZINE].parent = HEAP;
    table(PARCEL, "parcel", &m.first_parcel, 0, sizeof(struct parcel), m.parcel, 3);
    m.tables[PARCEL].flags = HAK_STATS_CHAINED;
    m.tables[PARCEL].next = offsetof(struct parcel, next);
}

static void fill_tables(void)
{
    table(OS, "os", &m.os_mapped, 1, 8, m.os, 1);
    table(SIZE, "size", m.sizes, CLASSES, sizeof *m.sizes, m.size, 3);
    fill_heap_tables();
    table(SITE, "site", m.sites, 4, sizeof *m.sites, m.site, 12);
    table(POLICY, "policy", &m.policy_now, 1, 8, m.policy, 1);
    m.tables[POLICY].flags = HAK_STATS_INDIRECT;
    table(CONFIG, "config", m.config, sizeof m.config, 0, NULL, 0);
    table(OPTION, "option", m.options, 2, sizeof *m.options, m.option, 2);
    table(SOURCE, "option.source", m.sources, 2, 1, m.source, 1);
    table(NAMES, "option.names", m.names, sizeof m.names, 0, NULL, 0);
    table(WORDS, "option.words", m.words, sizeof m.words, 0, NULL, 0);
    table(KNOB, "knob", m.knobs, 2, sizeof *m.knobs, m.knob, 2);
    m.tables[CONFIG].flags = m.tables[NAMES].flags = m.tables[WORDS].flags = HAK_STATS_BLOB;
}

static void fill_fields(void)
{
    static const char *const site_names[] = {"key", "allocs", "frees", "total_bytes", "live_bytes", "max_bytes",
                                             "est_allocs_256ths", "est_frees_256ths", "est_bytes", "est_live_bytes",
                                             "lifetime_p50_4096ths", "purpose"};

    m.os[0] = field("mapped", 0, 8);
    m.size[0] = field("size", 0, 8);
    m.size[1] = field("slab_mask", 8, 8);
    m.size[2] = field("slots", 16, 8);
    m.heap[0] = field("id", offsetof(struct heap, id), 8);
    m.heap[1] = field("refills", offsetof(struct heap, refills), 8);
    m.heap[2] = field("l25_granules", offsetof(struct heap, l25), 8);
    m.heap[3] = field("untold_site", offsetof(struct heap, untold[0]), 8);
    m.heap[4] = field("untold_allocs", offsetof(struct heap, untold[1]), 8);
    m.heap[5] = field("untold_bytes", offsetof(struct heap, untold[2]), 8);
    m.heap[6] = field("untold_max_bytes", offsetof(struct heap, untold[3]), 8);
    m.slabs[0] = field("bottom", 0, 8);
    m.slabs[1] = field("nr_slabs", 8, 8);
    m.slabs[2] = field("nr_free", 16, 8);
    m.magazine[0] = field("cursor", 0, 8);
    m.parcel[0] = field("count", offsetof(struct parcel, count), 4);
    m.parcel[1] = field("bytes", offsetof(struct parcel, bytes), 8);
    m.parcel[2] = field("classes", offsetof(struct parcel, classes), 8);
    for (int i = 0; i < 12; i++)
        m.site[i] = field(site_names[i], 8 * (size_t)i, 8);
    m.policy[0] = field("big_threshold", 0, 8);
    m.option[0] = field("type", offsetof(struct option, type), 1);
    m.option[1] = field("offset", offsetof(struct option, offset), 2);
    m.source[0] = field("source", 0, 1);
    m.knob[0] = field("name", 0, 8);
    m.knob[0].kind = HAK_KIND_TEXT;
    m.knob[1] = field("trials", 8, 8);
}

static void fill_rows(void)
{
    m.os_mapped = 1 << 20;
    for (uint64_t i = 0; i < CLASSES; i++)
        m.sizes[i] = (struct size){16 * (i + 1), 16383, 16384 / (16 * (i + 1))};
    m.first_heap = &m.heaps[0];
    m.heaps[0].next = &m.heaps[1];
    for (int h = 0; h < 2; h++)
        for (int c = 0; c < CLASSES; c++) {
            m.heaps[h].slabs[c] = (struct slabs){m.slots, 2, 10};
            m.heaps[h].cursor[c] = m.slots + 5;
        }
    m.first_parcel = &m.parcels[0];
    m.parcels[0] = (struct parcel){&m.parcels[1], 3, 96, {0, 1, 2}};
    for (uint64_t i = 0; i < 3; i++)
        m.sites[i] = (struct site){(uintptr_t)&fill_rows + i, 10, 2, 1000 * i, 800 * i, 500,
                                  {256 * 7, 256 * 3, 70, 40}, 4096 * 9, 5};
    m.policy_now = &m.policy_row;
    m.knobs[1] = (struct knob){"purge", 12};
    m.options[1] = (struct option){1, 4};
    memcpy(m.names, "thp\0mode\0", 9);
    memcpy(m.words, "off|on\0min|max\0", 15);
}

static void fill(void)
{
    memset(&m, 0, sizeof m);
    memset(&ROOT, 0, sizeof ROOT);
    memcpy(ROOT.magic, HAK_STATS_MAGIC, 8);
    ROOT.byte_order = HAK_STATS_BYTE_ORDER;
    ROOT.abi = HAK_STATS_ABI;
    ROOT.word_bytes = sizeof(void *);
    ROOT.root_bytes = sizeof ROOT;
    ROOT.nr_tables = sizeof m.tables / sizeof *m.tables;
    ROOT.self = (uintptr_t)&ROOT;
    ROOT.tables = (uintptr_t)m.tables;
    ROOT.pid = (uint64_t)getpid();
    ROOT.mode = 2;
    memcpy(ROOT.version, "9.9.9", 6);
    fill_tables();
    fill_fields();
    fill_rows();
}

/* ---- lies ---------------------------------------------------------------------------------- */

#define WILD 0x123456789abcull
#define LIE(name, statement) static void name(void) { statement; }
LIE(no_lie, (void)0)
LIE(bad_magic, ROOT.magic[3] = 'X')
LIE(asleep, ROOT.self = 0)
LIE(elsewhere, ROOT.self += 8)
LIE(byte_order, ROOT.byte_order = 0x04030201)
LIE(words, ROOT.word_bytes = 4)
LIE(abi_newer, ROOT.abi = HAK_STATS_ABI + 1)
LIE(abi_older, ROOT.abi = 0)
LIE(root_small, ROOT.root_bytes = 16)
LIE(root_larger, ROOT.root_bytes = 512)
LIE(root_huge, ROOT.root_bytes = UINT32_MAX)
LIE(no_tables, ROOT.nr_tables = 0)
LIE(many_tables, ROOT.nr_tables = UINT32_MAX)
LIE(more_tables, ROOT.nr_tables = 200)
LIE(null_tables, ROOT.tables = 0)
LIE(wild_tables, ROOT.tables = WILD)
LIE(last_tables, ROOT.tables = UINT64_MAX - 8)
LIE(file_flag, ROOT.flags = HAK_STATS_FILE)
LIE(odd_mode, ROOT.mode = UINT32_MAX)
LIE(long_version, memset(ROOT.version, 'v', sizeof ROOT.version))
LIE(escape_version, memcpy(ROOT.version, "\033[31m\n", 7))
LIE(long_name, memset(m.tables[OS].name, 'n', sizeof m.tables[OS].name))
LIE(no_name, m.tables[SITE].name[0] = '\0')
LIE(new_flags, m.tables[OS].flags = 64)
LIE(two_shapes, m.tables[HEAP].flags = HAK_STATS_CHAINED | HAK_STATS_NESTED)
LIE(row_none, m.tables[SIZE].row_bytes = 0)
LIE(row_huge, m.tables[SIZE].row_bytes = UINT32_MAX)
LIE(rows_huge, m.tables[SIZE].nr_rows = UINT32_MAX)
LIE(rows_many, m.tables[SIZE].nr_rows = 100000)
LIE(rows_wild, m.tables[SIZE].rows = WILD)
LIE(rows_last, m.tables[SIZE].rows = UINT64_MAX)
LIE(rows_null, m.tables[SITE].rows = 0)
LIE(fields_many, m.tables[OS].nr_fields = UINT32_MAX)
LIE(fields_wild, m.tables[OS].fields = WILD)
LIE(field_far, m.size[1].offset = UINT32_MAX)
LIE(field_over, m.size[2].offset = 17)
LIE(field_none, m.size[0].bytes = 0)
LIE(field_wide, m.size[0].bytes = UINT16_MAX)
LIE(field_odd, m.size[0].bytes = 3)
LIE(field_name, memset(m.size[0].name, 'f', sizeof m.size[0].name))
LIE(field_kind, m.site[0].kind = 255)
LIE(field_escape, memcpy(m.policy[0].name, "\033[31m", 6))
LIE(loop_one, m.heaps[0].next = &m.heaps[0])
LIE(loop_two, m.heaps[1].next = &m.heaps[0])
LIE(loop_parcel, m.parcels[1].next = &m.parcels[0])
LIE(chain_wild, m.heaps[1].next = (void *)(uintptr_t)WILD)
LIE(chain_odd, m.heaps[1].next = (void *)((char *)&m.heaps[0] + 1))
LIE(chain_null, m.first_heap = NULL)
LIE(head_wild, m.tables[HEAP].rows = WILD)
LIE(link_far, m.tables[HEAP].next = UINT32_MAX)
LIE(link_over, m.tables[HEAP].next = sizeof(struct heap) - 4)
LIE(parent_later, m.tables[SLABS].parent = PARCEL)
LIE(parent_self, m.tables[SLABS].parent = SLABS)
LIE(parent_far, m.tables[SLABS].parent = UINT32_MAX)
LIE(nested_far, m.tables[SLABS].rows = UINT64_MAX)
LIE(nested_many, m.tables[SLABS].nr_rows = UINT32_MAX)
LIE(nested_plain, m.tables[SLABS].flags = 0; m.tables[SLABS].rows = (uintptr_t)m.heaps[0].slabs)
LIE(nested_more, m.tables[SLABS].nr_rows = CLASSES + 2)
LIE(fewer_sizes, m.tables[SIZE].nr_rows = CLASSES - 1)
LIE(parcel_count, m.parcels[0].count = UINT32_MAX)
LIE(parcel_class, memset(m.parcels[0].classes, 255, 8))
LIE(cursor_wild, m.heaps[0].cursor[0] = (void *)(uintptr_t)UINT64_MAX)
LIE(counts_huge, memset(m.heaps[0].slabs, 255, sizeof m.heaps[0].slabs))
LIE(untold_huge, memset(m.heaps[0].untold, 255, sizeof m.heaps[0].untold))
LIE(untold_known, memset(m.heaps[0].untold, 255, sizeof m.heaps[0].untold); m.heaps[0].untold[0] = m.sites[1].key)
LIE(untold_narrow, m.site[1].bytes = 2; m.heaps[0].untold[0] = m.sites[1].key; m.heaps[0].untold[1] = 1)
LIE(sites_huge, memset(m.sites, 255, sizeof m.sites))
LIE(policy_wild, m.policy_now = (void *)(uintptr_t)WILD)
LIE(policy_null, m.policy_now = NULL)
LIE(option_type, m.options[0].type = 255)
LIE(option_offset, m.options[1].offset = 65535)
LIE(option_enum, memset(m.config, 255, sizeof m.config))
LIE(names_open, memset(m.names, 'n', sizeof m.names))
LIE(words_open, memset(m.words, '|', sizeof m.words))
LIE(sources_odd, memset(m.sources, 255, sizeof m.sources))
LIE(blob_huge, m.tables[CONFIG].nr_rows = UINT32_MAX)
LIE(blob_wild, m.tables[NAMES].rows = WILD)
LIE(only_needed, ROOT.nr_tables = SLABS)
LIE(without_heap, ROOT.nr_tables = HEAP)

static const struct {
    const char *name;
    void (*lie)(void);
    int status;
} cases[] = {
#define CASE(name, status) {#name, name, status}
    CASE(no_lie, 0), CASE(bad_magic, 3), CASE(asleep, 3), CASE(elsewhere, 3), CASE(byte_order, 5), CASE(words, 5),
    CASE(abi_newer, 5), CASE(abi_older, 5), CASE(root_small, 5), CASE(root_larger, 0), CASE(root_huge, 5),
    CASE(no_tables, 5), CASE(many_tables, 5), CASE(more_tables, 5), CASE(null_tables, 5), CASE(wild_tables, 5),
    CASE(last_tables, 5), CASE(file_flag, 5), CASE(odd_mode, 0), CASE(long_version, 0), CASE(escape_version, 0),
    CASE(long_name, 5), CASE(no_name, 5), CASE(new_flags, 5), CASE(two_shapes, 5), CASE(row_none, 5),
    CASE(row_huge, 5), CASE(rows_huge, 5), CASE(rows_many, 5), CASE(rows_wild, 5), CASE(rows_last, 5),
    CASE(rows_null, 0), CASE(fields_many, 5), CASE(fields_wild, 5), CASE(field_far, 5), CASE(field_over, 5),
    CASE(field_none, 5), CASE(field_wide, 5), CASE(field_odd, 0), CASE(field_name, 0), CASE(field_kind, 0),
    CASE(field_escape, 0), CASE(loop_one, 5), CASE(loop_two, 5), CASE(loop_parcel, 5), CASE(chain_wild, 5),
    CASE(chain_odd, 5), CASE(chain_null, 0), CASE(head_wild, 5), CASE(link_far, 5), CASE(link_over, 5),
    CASE(parent_later, 5), CASE(parent_self, 5), CASE(parent_far, 5), CASE(nested_far, 5), CASE(nested_many, 5),
    CASE(nested_plain, 0), CASE(nested_more, 5), CASE(fewer_sizes, 0), CASE(parcel_count, 0), CASE(parcel_class, 0),
    CASE(cursor_wild, 0), CASE(counts_huge, 0), CASE(sites_huge, 0), CASE(untold_huge, 0), CASE(untold_known, 0), CASE(untold_narrow, 0), CASE(policy_wild, 5), CASE(policy_null, 0),
    CASE(option_type, 0), CASE(option_offset, 0), CASE(option_enum, 0), CASE(names_open, 0), CASE(words_open, 0),
    CASE(sources_odd, 0), CASE(blob_huge, 5), CASE(blob_wild, 5), CASE(only_needed, 0), CASE(without_heap, 5),
};

/* ---- running the program on ourselves ------------------------------------------------------ */

static char output_text[1 << 20];

/* Exit status, or 256 + signal. What it printed is in output_text. */
static int run(const char *program, const char *view, bool json)
{
    char pid[16];
    size_t used = 0;
    ssize_t n;
    int ends[2], status = 0;
    pid_t child;

    snprintf(pid, sizeof pid, "%d", (int)getpid());
    fflush(stdout);
    if (pipe(ends) != 0)
        return 98;
    child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        alarm(20);
        execl(program, program, view, pid, json ? "--json" : (char *)NULL, (char *)NULL);
        _exit(97);
    }
    close(ends[1]);
    while ((n = read(ends[0], output_text + used, sizeof output_text - 1 - used)) > 0)
        used += (size_t)n;
    output_text[used] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static const char *const views[] = {"show", "sites", "hist", "why", "config", "export"};
#define NR_VIEWS (sizeof views / sizeof *views)

static void complain(const char *view, int status)
{
    printf("# %s: status %d\n# ", view, status);
    for (const char *c = output_text; *c && c < output_text + 1500; c++)
        printf(*c == '\n' ? "\n# " : "%c", *c);
    puts("");
}

static bool one_case(const char *program, unsigned i)
{
    bool good = true;

    for (unsigned v = 0; v < NR_VIEWS && good; v++) {
        fill();
        cases[i].lie();
        int status = run(program, views[v], v % 2);
        /* Refused with a sentence; shown without what moves a terminal's cursor. */
        good = status == cases[i].status && !strchr(output_text, '\033') &&
               (status == 0 || strncmp(output_text, "hakmem-stats: ", 14) == 0);
        if (!good)
            complain(views[v], status);
    }
    return good;
}

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void bend(void)
{
    static const unsigned char values[] = {0, 1, 127, 128, 255};
    unsigned nr = 1 + (unsigned)(next_random() % 4);

    for (unsigned i = 0; i < nr; i++) {
        unsigned char *what = next_random() % 4 ? (unsigned char *)&m : (unsigned char *)&ROOT;
        size_t bytes = what == (unsigned char *)&m ? offsetof(struct memory, slots) : sizeof ROOT;
        what[next_random() % bytes] = next_random() % 2 ? values[next_random() % 5] : (unsigned char)next_random();
    }
}

static bool random_cases(const char *program, uint64_t seed, unsigned rounds)
{
    random_state = seed * 2654435761u + 88172645463325252u;
    for (unsigned i = 0; i < rounds; i++) {
        fill();
        bend();
        unsigned v = (unsigned)(next_random() % NR_VIEWS);
        int status = run(program, views[v], next_random() % 2);
        if (status != 0 && status != 3 && status != 5) {
            printf("# seed %llu, round %u\n", (unsigned long long)seed, i);
            complain(views[v], status);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    unsigned nr = sizeof cases / sizeof *cases, failed = 0;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    unsigned rounds = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 200;

    if (argc < 2)
        return 2;
    for (unsigned i = 0; i < nr; i++) {
        bool good = one_case(argv[1], i);
        failed += !good;
        printf("%sok %u - counters that lie: %s\n", good ? "" : "not ", i + 1, cases[i].name);
    }
    fill();
    bool good = run(argv[1], "sites", true) == 0 &&
                strstr(output_text, "\"allocs\":17,\"frees\":5,\"live_blocks\":12,\"total_bytes\":2070,\"live_bytes\":1640") &&
                strstr(output_text, "\"lifetime_p50_ns\":9") && strstr(output_text, "long-lived");
    if (!good)
        complain("sites", 0);
    failed += !good;
    printf("%sok %u - exact and estimated counts are added up\n", good ? "" : "not ", ++nr);
    fill();
    good = run(argv[1], "why", false) == 0 && strstr(output_text, "name purge  trials 12");
    if (!good)
        complain("why", 0);
    failed += !good;
    printf("%sok %u - a table that nobody knows is shown as it describes itself\n", good ? "" : "not ", ++nr);
    good = random_cases(argv[1], seed, rounds);
    failed += !good;
    printf("%sok %u - %u bent at random, seed %llu\n1..%u\n", good ? "" : "not ", nr + 1, rounds,
           (unsigned long long)seed, nr + 1);
    return failed != 0;
}
