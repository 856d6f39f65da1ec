// SPDX-License-Identifier: MIT
/*
 * config: environment and files, read once, into one snapshot of plain values.
 *
 * Precedence: hk_config_set > environment > $HAKMEM_CONF > /etc/hakmem.conf > preset of the mode.
 * Within the environment HAKMEM_<NAME> wins over HAKMEM_OPTIONS. Options are listed in options.def.
 * Does not act on any value: whoever needs one reads its field.
 *
 * State: hk_config and the sources, valid (preset balanced) before anything ran.
 * Threads: hk_config_load writes under the caller's init guard, before any second thread can see
 * the heap; after that the fields only change by hk_config_set, whose caller answers for its readers.
 * Locks: none. Does not allocate, and uses neither stdio nor getenv: environ is walked, files are
 * read with bare system calls. errno is preserved.
 * Failure: a setting that is refused leaves the default and prints one line; with `strict` the
 * program aborts once all settings have been read. A file that cannot be read is no file.
 */
#ifndef HK_CONFIG_H
#define HK_CONFIG_H

#include "base/base.h"

/* Values of the ENUM options, in the order of their words in options.def. */
enum hk_mode {
    HK_MODE_MINIMAL,
    HK_MODE_FAST,
    HK_MODE_BALANCED,
    HK_MODE_LEARNING,
    HK_MODE_RESEARCH,
    HK_NR_MODES
};
enum hk_thp { HK_THP_OFF, HK_THP_AUTO, HK_THP_ON };
enum hk_learn { HK_LEARN_OFF, HK_LEARN_FROZEN, HK_LEARN_CANARY, HK_LEARN_LEARN };
enum hk_learner { HK_LEARNER_UCB1, HK_LEARNER_ELO, HK_LEARNER_RANDOM };
enum hk_realloc0 { HK_REALLOC0_FREE, HK_REALLOC0_ALLOC };
/* Values of limit_bytes that are words. */
enum hk_limit { HK_LIMIT_AUTO, HK_LIMIT_NONE };

#define HK_CONFIG_LIST_MAX 16

/* One number per size class; always full: a shorter setting repeats its last number. */
struct hk_config_list {
    uint32_t of[HK_CONFIG_LIST_MAX];
};

#define HK_FIELD_BOOL bool
#define HK_FIELD_ENUM uint32_t
#define HK_FIELD_UINT uint32_t
#define HK_FIELD_WIDE uint64_t
#define HK_FIELD_SIZE size_t
#define HK_FIELD_RATIO uint32_t /* thousandths */
#define HK_FIELD_LIST struct hk_config_list

struct hk_config {
#define X(name, type, field, preset, min, max, words, unit, help) HK_FIELD_##type field;
#include "config/options.def"
};

enum hk_option {
#define X(name, type, field, preset, min, max, words, unit, help) HK_OPTION_##name,
#include "config/options.def"
    HK_NR_OPTIONS
};

extern struct hk_config hk_config;
extern const char *hk_config_file; /* "/etc/hakmem.conf"; written by tests only */

/* `envp` as environ; NULL: libc has not set it yet, only the file counts. */
void hk_config_load(char **envp);
/* 0, ENOENT (no such option) or EINVAL; prints nothing. Setting `mode` moves all defaults. */
int hk_config_set(const char *name, const char *value);

/* For display; i < HK_NR_OPTIONS. */
const char *hk_config_name(unsigned i);
/* "default", "mode", "file", "environment" or "api". */
const char *hk_config_source(unsigned i);
/* The value as the parser would read it back, cut to `bytes` - 1 characters; returns its length. */
size_t hk_config_format(unsigned i, char *text, size_t bytes);

#endif
