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
    bool settable; /* by hak_ctl_set */
};

/* Readers from outside may know the numbers: new ones go to the end. */
enum option_source {
    SOURCE_DEFAULT,
    SOURCE_FILE,     /* hk_config_file */
    SOURCE_VARIABLE, /* HAKMEM_<NAME> */
    SOURCE_API,
    SOURCE_CONF,     /* what HAKMEM_CONF names */
    SOURCE_OPTIONS,  /* HAKMEM_OPTIONS */
    SOURCE_RUN       /* hakmem-run --option */
};

#define CONF_PATH_BYTES 512 /* of HAKMEM_CONF, for display; a longer one is shown cut */


/* A snapshot in the making. */
struct hk_config_draft {
    struct hk_config config;
    uint8_t source[HK_NR_OPTIONS]; /* enum option_source */
    uint16_t line[HK_NR_OPTIONS];  /* of a file, from 1 */
    unsigned nr_refused;           /* settings, each of which was reported */
};

/* A line built on the stack; what does not fit is cut. */
struct hk_config_line {
    char text[384];
    size_t used;
};

/* config.c */
extern char hk_config_conf_path[CONF_PATH_BYTES]; /* written by hk_config_load */
extern const struct option_row hk_config_rows[HK_NR_OPTIONS];
void hk_config_draft_begin(struct hk_config_draft *draft);
/* Fills every option that nobody set from the preset of the mode, and makes the draft effective. */
void hk_config_draft_publish(struct hk_config_draft *draft);
/* An option's index, or -1. */
int hk_config_find(struct slice name);
/* The option that `name` may have been meant for, or -1. */
int hk_config_nearest(struct slice name);
bool hk_config_is_legacy(struct slice name);
/* The i-th of the NUL-terminated strings that follow each other in `strings`. */
const char *hk_config_nth(const char *strings, unsigned i);

/* config_load.c: `path` as the program's; -1 with errno. */
int hk_config_open(const char *path);
/* Bytes read, 0 at the end or after an error. */
size_t hk_config_read(int fd, char *text, size_t bytes);
void hk_config_close(int fd);

/* config_cgroup.c: bytes, or SIZE_MAX. Bounded effort, whatever the files say. */
size_t hk_config_cgroup_limit(void);

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
void hk_config_put_upper(struct hk_config_line *line, const char *text);
void hk_config_put_number(struct hk_config_line *line, uint64_t value);
/* What fits of the line, NUL-terminated; returns its full length. */
size_t hk_config_line_copy(const struct hk_config_line *line, char *text, size_t bytes);
/* One value, in relaxed stores: `config` is being read. */
void hk_config_store_shared(struct hk_config *into, unsigned i, const struct hk_config *from);
/* Ends the line's text with a NUL. */
const char *hk_config_line_end(struct hk_config_line *line);

#endif
