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
const struct option_row hk_config_rows[HK_NR_OPTIONS] = {
#define X(name, type, field, preset, min, max, words, unit, help)                                  \
    {OPTION_##type, offsetof(struct hk_config, field), preset, min, max},
#include "config/options.def"
};

static const char option_names[] =
#define X(name, type, field, preset, min, max, words, unit, help) #name "\0"
#include "config/options.def"
    ;

static const char legacy_names[] =
#define X(name, state, note) #name "\0"
#include "config/legacy.def"
    ;

/* Where each value came from. Written with hk_config, under the same rule. */
static uint8_t hk_config_global_source[HK_NR_OPTIONS];

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
    memcpy(hk_config_global_source, draft->source, sizeof draft->source);
}

int hk_config_set(const char *name, const char *value)
{
    struct hk_config_draft draft = {.config = hk_config};
    int i = hk_config_find(hk_config_slice(name));

    if (i < 0)
        return ENOENT;
    if (!hk_config_parse((unsigned)i, hk_config_slice(value), &draft.config))
        return EINVAL;
    memcpy(draft.source, hk_config_global_source, sizeof draft.source);
    draft.source[i] = SOURCE_API;
    hk_config_draft_publish(&draft);
    return 0;
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
        .sources = hk_config_global_source,
    };
}

const char *hk_config_source(unsigned i)
{
    switch (hk_config_global_source[i]) {
    case SOURCE_FILE:
        return "file";
    case SOURCE_ENVIRONMENT:
        return "environment";
    case SOURCE_API:
        return "api";
    default:
        return hk_config_global_source[HK_OPTION_mode] == SOURCE_DEFAULT ? "default" : "mode";
    }
}

size_t hk_config_format(unsigned i, char *text, size_t bytes)
{
    struct hk_config_line line = {.used = 0};

    if (bytes == 0)
        return 0;
    hk_config_put_value(&line, i, &hk_config);

    size_t length = hk_min(line.used, bytes - 1);
    memcpy(text, line.text, length);
    text[length] = 0;
    return length;
}
