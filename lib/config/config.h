// SPDX-License-Identifier: MIT
/*
 * config: environment and files, read once, into one snapshot of plain values.
 *
 * Precedence: API > hakmem-run > environment > $HAKMEM_CONF > /etc/hakmem.conf > preset of the mode.
 * Within the environment HAKMEM_<NAME> wins over HAKMEM_OPTIONS. Options are listed in options.def.
 * Does not act on any value: whoever needs one reads its field.
 *
 * State: hk_config and the sources, valid (preset balanced) before anything ran.
 * Threads: hk_config_load writes under the caller's init guard, before any second thread can see
 * the heap. After that a field changes only by hk_config_commit, with hk_config_lock held, in one relaxed
 * store per number; its readers load it relaxed. The functions for display want the lock as well.
 * Locks: hk_config_lock is the caller's to take, before any other. Does not allocate, and uses neither
 * stdio nor getenv: environ is walked, files are read with bare system calls. errno is preserved.
 * Failure: a setting that is refused leaves the default and prints one line; with `strict` the
 * program aborts once all settings have been read. /etc/hakmem.conf that cannot be read is no file; a file
 * that HAKMEM_CONF names and that cannot be read is a refused setting.
 */
#ifndef HK_CONFIG_H
#define HK_CONFIG_H

#include "sync/lock.h"

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
enum hk_deepbind { HK_DEEPBIND_DROP, HK_DEEPBIND_KEEP };
enum hk_guard { HK_GUARD_OFF, HK_GUARD_ON, HK_GUARD_REPORT };
enum hk_realloc0 { HK_REALLOC0_FREE, HK_REALLOC0_ALLOC };
/* Values of limit_bytes that are words. */
enum hk_limit { HK_LIMIT_NONE, HK_LIMIT_AUTO };

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

enum hk_stats_option { HK_STATS_OFF, HK_STATS_COUNTERS, HK_STATS_EXPORT };

enum hk_option {
#define X(name, type, field, preset, min, max, words, unit, help) HK_OPTION_##name,
#include "config/options.def"
    HK_NR_OPTIONS
};

extern struct hk_config hk_config;

#define HK_GUARD_EXACT_BYTES (16 * HK_KIB)
/* Every allocation is counted by guard. */
HK_INLINE bool hk_config_is_exact(const struct hk_config *config)
{
    return config->secure ||
           (config->guard != HK_GUARD_OFF && config->guard_rate_bytes < HK_GUARD_EXACT_BYTES);
}

/* Every malloc and free takes the slow path. */
HK_INLINE bool hk_config_is_slow(const struct hk_config *config)
{
    return config->safe_free || hk_config_is_exact(config);
}

extern struct hk_lock hk_config_lock;
/* Written by tests only: "/etc/hakmem.conf", "/proc/self/cgroup", "/proc/self/mountinfo". */
extern const char *hk_config_file, *hk_config_cgroup_file, *hk_config_mounts_file;

/* `envp` as environ; NULL: libc has not set it yet, only the file counts. */
void hk_config_load(char **envp);
/* 0, ENOENT (no such option) or EINVAL; prints nothing. Before any reader: setting `mode` moves all
 * defaults. */
int hk_config_set(const char *name, const char *value);

/*
 * A change while the program runs, in two steps: propose says what the options would be, commit makes it so.
 * Between them the caller does what may fail. Lock held from the first to the second.
 */
struct hk_config_change {
    struct hk_config config; /* with the new value */
    unsigned option;         /* the one that differs */
};
/* 0, ENOENT (no such option), EPERM (read at the start only) or EINVAL; prints nothing. */
int hk_config_propose(const char *name, const char *value, struct hk_config_change *change);
/* The same for a number that is not text: no range is checked. */
void hk_config_propose_number(enum hk_option option, uint64_t value, struct hk_config_change *change);
/* `by`: the function of the program's that asked; a static string. */
void hk_config_commit(const struct hk_config_change *change, const char *by);

/*
 * What `limit` means in bytes, 0 for no limit. With auto this reads the cgroup's limit (v1, v2): three or
 * more files, so only when the option is set, at the start or by hak_ctl_set; never later on, when a
 * seccomp filter may kill the program for it.
 */
size_t hk_config_limit(const struct hk_config *config);
/* Where the option table and the sources lie, for readers from outside (hakmem/stats.h). */
struct hk_config_layout {
    const void *rows; /* HK_NR_OPTIONS of row_bytes */
    size_t row_bytes, type_offset, field_offset;
    const char *names, *words; /* one NUL-terminated string per option */
    size_t names_bytes, words_bytes;
    const uint8_t *sources; /* one per option */
};
void hk_config_layout(struct hk_config_layout *out);

/* For display; i < HK_NR_OPTIONS. */
const char *hk_config_name(unsigned i);
/* -1: no such option. */
int hk_config_number(const char *name);
bool hk_config_is_settable(unsigned i);
/* "default", "mode", "file", "environment", "hakmem-run" or "api". */
const char *hk_config_source(unsigned i);
/* The same in full: "mode minimal", "/etc/hakmem.conf:3", "HAKMEM_THP", "HAKMEM_OPTIONS", "hak_ctl_set". */
size_t hk_config_origin(unsigned i, char *text, size_t bytes);
/* The value as the parser would read it back, cut to `bytes` - 1 characters; both return the full length. */
size_t hk_config_format(unsigned i, char *text, size_t bytes);

/*
 * HAKMEM_RUN, by which hakmem-run speaks to the library: "hops;socket;options;path". Not part of the
 * interface: both come from one package. False: there is none, or it is not of that form.
 */
struct hk_config_run {
    char *hops;          /* one digit: so many exec until the program itself runs; in environ */
    const char *socket;  /* abstract name; ends at ';' */
    const char *options; /* name:value,...; ends at ';' */
    const char *path;    /* the entry of LD_PRELOAD; ends in NUL */
};
bool hk_config_find_run(char **envp, struct hk_config_run *run);

#endif
