// SPDX-License-Identifier: MIT
#include "config/config_private.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct hk_config) <= UINT16_MAX, "offsets fit option_row");

/* The preset of balanced: valid before hk_config_load, and if it never runs. */
#define INIT_BOOL(v) (v)
#define INIT_ENUM(v) (v)
#define INIT_UINT(v) (v)
#define INIT_WIDE(v) (v)
#define INIT_SIZE(v) (v)
#define INIT_RATIO(v) (v)
#define INIT_LIST(v) {{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}}
_Static_assert(HK_CONFIG_LIST_MAX == 16, "INIT_LIST fills it");
#define EACH(minimal, fast, balanced, learning, research) (balanced)
#define SAME(v) (v)
struct hk_config hk_config = {
#define X(name, type, field, preset, min, max, words, unit, help) .field = INIT_##type(preset),
#include "config/options.def"
};

#define EACH(...) {__VA_ARGS__}
#define SAME(v) {v, v, v, v, v}
HK_START_CONST const struct option_row hk_config_rows[HK_NR_OPTIONS] = {
#define X(name, type, field, preset, min, max, words, unit, help)                                  \
    {OPTION_##type, offsetof(struct hk_config, field), preset, min, max, false},
#define XSET(name, type, field, preset, min, max, words, unit, help)                               \
    {OPTION_##type, offsetof(struct hk_config, field), preset, min, max, true},
#include "config/options.def"
};

static HK_START_CONST const char option_names[] =
#define X(name, type, field, preset, min, max, words, unit, help) #name "\0"
#include "config/options.def"
    ;

static HK_START_CONST const char legacy_names[] =
#define X(name, state, note) #name "\0"
#include "config/legacy.def"
    ;

/* Where each value came from. Written with hk_config, under the same rule; read under the lock. */
static struct {
    uint8_t source[HK_NR_OPTIONS]; /* enum option_source */
    uint16_t line[HK_NR_OPTIONS];  /* of a file */
    const char *by[HK_NR_OPTIONS]; /* SOURCE_API: which function */
} hk_config_global;

struct hk_lock hk_config_lock = HK_LOCK_INIT(HK_RANK_CONFIG);
HK_LARGE_BSS char hk_config_conf_path[CONF_PATH_BYTES];

const char *hk_config_nth(const char *strings, unsigned i)
{
    while (i-- > 0)
        strings += strlen(strings) + 1;
    return strings;
}

const char *hk_config_name(unsigned i)
{
    return hk_config_nth(option_names, i);
}

int hk_config_find(struct slice name)
{
    const char *s = option_names;

    for (int i = 0; i < HK_NR_OPTIONS; i++, s += strlen(s) + 1) {
        if (hk_config_same(name, hk_config_slice(s)))
            return i;
    }
    return -1;
}

bool hk_config_is_legacy(struct slice name)
{
    for (const char *s = legacy_names; *s; s += strlen(s) + 1) {
        if (hk_config_same(name, hk_config_slice(s)))
            return true;
    }
    return false;
}

/*
 * Levenshtein, "Binary codes capable of correcting deletions, insertions and reversals", 1966; one row at
 * a time. Names are short.
 */
#define MAX_NAME 40

static unsigned distance(struct slice a, struct slice b)
{
    unsigned row[MAX_NAME + 1];

    if (a.length > MAX_NAME || b.length > MAX_NAME)
        return MAX_NAME;
    for (unsigned j = 0; j <= b.length; j++)
        row[j] = j;
    for (size_t i = 0; i < a.length; i++) {
        unsigned diagonal = row[0]++;
        for (size_t j = 0; j < b.length; j++) {
            bool same = hk_config_same((struct slice){a.at + i, 1}, (struct slice){b.at + j, 1});
            unsigned changed = diagonal + !same;
            diagonal = row[j + 1];
            row[j + 1] = (unsigned)hk_min(changed, hk_min(row[j], diagonal) + 1);
        }
    }
    return row[b.length];
}

int hk_config_nearest(struct slice name)
{
    unsigned least = (unsigned)hk_min(name.length / 3, 3) + 1; /* further off is no typing error */
    const char *s = option_names;
    int nearest = -1;

    for (int i = 0; i < HK_NR_OPTIONS; i++, s += strlen(s) + 1) {
        unsigned d = distance(name, hk_config_slice(s));
        if (d < least) {
            least = d;
            nearest = i;
        }
    }
    return nearest;
}

void hk_config_draft_begin(struct hk_config_draft *draft)
{
    memset(draft, 0, sizeof *draft);
    hk_config_store(&draft->config, HK_OPTION_mode, HK_MODE_BALANCED);
}

void hk_config_draft_publish(struct hk_config_draft *draft)
{
    unsigned mode = draft->config.mode;

    for (unsigned i = 0; i < HK_NR_OPTIONS; i++) {
        if (draft->source[i] == SOURCE_DEFAULT)
            hk_config_store(&draft->config, i, hk_config_rows[i].preset[mode]);
    }
    hk_config = draft->config;
    memcpy(hk_config_global.source, draft->source, sizeof draft->source);
    memcpy(hk_config_global.line, draft->line, sizeof draft->line);
}

int hk_config_set(const char *name, const char *value)
{
    struct hk_config_draft draft = {.config = hk_config};
    int i = hk_config_find(hk_config_slice(name));

    if (i < 0)
        return ENOENT;
    if (!hk_config_parse((unsigned)i, hk_config_slice(value), &draft.config))
        return EINVAL;
    memcpy(draft.source, hk_config_global.source, sizeof draft.source);
    memcpy(draft.line, hk_config_global.line, sizeof draft.line);
    draft.source[i] = SOURCE_API;
    hk_config_global.by[i] = NULL;
    hk_config_draft_publish(&draft);
    return 0;
}

/*
 * Changes while the program runs.
 */

int hk_config_propose(const char *name, const char *value, struct hk_config_change *change)
{
    int i = hk_config_find(hk_config_slice(name));

    if (i < 0)
        return ENOENT;
    if (!hk_config_rows[i].settable)
        return EPERM;
    change->config = hk_config;
    change->option = (unsigned)i;
    return hk_config_parse((unsigned)i, hk_config_slice(value), &change->config) ? 0 : EINVAL;
}

void hk_config_propose_number(enum hk_option option, uint64_t value, struct hk_config_change *change)
{
    change->config = hk_config;
    change->option = option;
    hk_config_store(&change->config, option, value);
}

void hk_config_commit(const struct hk_config_change *change, const char *by)
{
    hk_config_store_shared(&hk_config, change->option, &change->config);
    hk_config_global.source[change->option] = SOURCE_API;
    hk_config_global.by[change->option] = by;
}

size_t hk_config_limit(const struct hk_config *config)
{
    size_t limit = config->limit_bytes;

    if (limit == HK_LIMIT_NONE)
        return 0;
    if (limit != HK_LIMIT_AUTO)
        return limit;
    limit = hk_config_cgroup_limit();
    /* The rest is for what is not ours: code, stacks, page cache. */
    return limit == SIZE_MAX ? 0 : hk_max(limit - limit / 8, HK_MIB);
}

/*
 * Display.
 */

int hk_config_number(const char *name)
{
    return hk_config_find(hk_config_slice(name));
}

bool hk_config_is_settable(unsigned i)
{
    return hk_config_rows[i].settable;
}

void hk_config_layout(struct hk_config_layout *out)
{
    *out = (struct hk_config_layout){
        .rows = hk_config_rows,
        .row_bytes = sizeof hk_config_rows[0],
        .type_offset = offsetof(struct option_row, type),
        .field_offset = offsetof(struct option_row, offset),
        .names = option_names,
        .words = hk_config_words,
        .names_bytes = sizeof option_names,
        .words_bytes = hk_config_words_bytes(),
        .sources = hk_config_global.source,
    };
}

const char *hk_config_source(unsigned i)
{
    switch (hk_config_global.source[i]) {
    case SOURCE_FILE:
    case SOURCE_CONF:
        return "file";
    case SOURCE_OPTIONS:
    case SOURCE_VARIABLE:
        return "environment";
    case SOURCE_RUN:
        return "hakmem-run";
    case SOURCE_API:
        return "api";
    default:
        return hk_config_global.source[HK_OPTION_mode] == SOURCE_DEFAULT ? "default" : "mode";
    }
}

static void put_mode(struct hk_config_line *line)
{
    if (hk_config_global.source[HK_OPTION_mode] == SOURCE_DEFAULT) {
        hk_config_put(line, "default");
        return;
    }
    hk_config_put(line, "mode ");
    hk_config_put_value(line, HK_OPTION_mode, &hk_config);
}

static void put_file(struct hk_config_line *line, const char *path, unsigned i)
{
    hk_config_put(line, path);
    hk_config_put(line, ":");
    hk_config_put_number(line, hk_config_global.line[i]);
}

size_t hk_config_origin(unsigned i, char *text, size_t bytes)
{
    struct hk_config_line line = {.used = 0};

    switch (hk_config_global.source[i]) {
    case SOURCE_DEFAULT:
        put_mode(&line);
        break;
    case SOURCE_FILE:
        put_file(&line, hk_config_file, i);
        break;
    case SOURCE_CONF:
        put_file(&line, hk_config_conf_path, i);
        break;
    case SOURCE_OPTIONS:
        hk_config_put(&line, "HAKMEM_OPTIONS");
        break;
    case SOURCE_VARIABLE:
        hk_config_put(&line, "HAKMEM_");
        hk_config_put_upper(&line, hk_config_name(i));
        break;
    case SOURCE_API:
        hk_config_put(&line, hk_config_global.by[i] ? hk_config_global.by[i] : "api");
        break;
    default:
        hk_config_put(&line, hk_config_source(i));
    }
    return hk_config_line_copy(&line, text, bytes);
}

size_t hk_config_format(unsigned i, char *text, size_t bytes)
{
    struct hk_config_line line = {.used = 0};

    hk_config_put_value(&line, i, &hk_config);
    return hk_config_line_copy(&line, text, bytes);
}
