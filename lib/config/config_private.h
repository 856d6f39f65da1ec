// SPDX-License-Identifier: MIT
/* config, inside: the option table, text in and out. */
#ifndef HK_CONFIG_PRIVATE_H
#define HK_CONFIG_PRIVATE_H

#include "config/config.h"

/* Text that need not end in a NUL: a piece of the environment or of a file. */
struct slice {
    const char *at;
    size_t length;
};

enum option_type {
    OPTION_BOOL,
    OPTION_ENUM,
    OPTION_UINT,
    OPTION_WIDE,
    OPTION_SIZE,
    OPTION_RATIO,
    OPTION_LIST
};

/* No pointers, so that the table needs no relocation and stays shared between processes. */
struct option_row {
    uint8_t type;    /* enum option_type */
    uint16_t offset; /* of the field in struct hk_config */
    uint64_t preset[HK_NR_MODES];
    uint64_t min;
    uint64_t max;
};

enum option_source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_API };

/* A snapshot in the making. */
struct hk_config_draft {
    struct hk_config config;
    uint8_t source[HK_NR_OPTIONS]; /* enum option_source */
    unsigned nr_refused;           /* settings, each of which was reported */
};

/* A line built on the stack; what does not fit is cut. */
struct hk_config_line {
    char text[384];
    size_t used;
};

/* config.c */
extern const struct option_row hk_config_rows[HK_NR_OPTIONS];
void hk_config_draft_begin(struct hk_config_draft *draft);
/* Fills every option that nobody set from the preset of the mode, and makes the draft effective. */
void hk_config_draft_publish(struct hk_config_draft *draft);
/* An option's index, or -1. */
int hk_config_find(struct slice name);
bool hk_config_is_legacy(struct slice name);
/* The i-th of the NUL-terminated strings that follow each other in `strings`. */
const char *hk_config_nth(const char *strings, unsigned i);

/* config_text.c */
bool hk_config_same(struct slice a, struct slice b); /* whatever the case */
struct slice hk_config_slice(const char *text);
/* False: not a value of this option, `into` is unchanged. */
bool hk_config_parse(unsigned i, struct slice text, struct hk_config *into);
void hk_config_store(struct hk_config *into, unsigned i, uint64_t value);
extern const char hk_config_words[]; /* one string per option */
size_t hk_config_words_bytes(void);
void hk_config_put(struct hk_config_line *line, const char *text);
void hk_config_put_slice(struct hk_config_line *line, struct slice text);
void hk_config_put_value(struct hk_config_line *line, unsigned i, const struct hk_config *from);
void hk_config_put_range(struct hk_config_line *line, unsigned i);
/* Ends the line's text with a NUL. */
const char *hk_config_line_end(struct hk_config_line *line);

#endif
