/* SPDX-License-Identifier: MIT */
/*
 * hakmem: a memory allocator. The public interface; the only header to include.
 *
 * Programs need none of this: linked or preloaded, the library serves malloc and the C++ operators.
 * hak_malloc and its kin are the same functions under names that cannot be interposed by accident.
 * Sizes are bytes. Unless said otherwise: thread-safe, may be called before any constructor and after any
 * destructor, and errno is set to ENOMEM on failure and left alone on success.
 */
#ifndef HAKMEM_HAKMEM_H
#define HAKMEM_HAKMEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HAKMEM_VERSION_MAJOR 0
#define HAKMEM_VERSION_MINOR 1
#define HAKMEM_VERSION_PATCH 0

#if defined(__GNUC__) || defined(__clang__)
#define HAK_ATTR(list) __attribute__(list)
#else
#define HAK_ATTR(list)
#endif

/* "0.1.0": of the library that is running, not of this header. */
const char *hak_version(void);

/* ---- allocation: ISO C and POSIX semantics ---- */

void *hak_malloc(size_t size) HAK_ATTR((malloc, alloc_size(1), warn_unused_result));
void *hak_calloc(size_t count, size_t size) HAK_ATTR((malloc, alloc_size(1, 2), warn_unused_result));
void *hak_realloc(void *ptr, size_t size) HAK_ATTR((alloc_size(2), warn_unused_result));
/* Preserves errno (POSIX.1-2024). A pointer that is not a live block ends the program with a message. */
void hak_free(void *ptr);
/* alignment: any power of two, else EINVAL; size need not be a multiple (C23). */
void *hak_aligned_alloc(size_t alignment, size_t size)
    HAK_ATTR((malloc, alloc_size(2), warn_unused_result));
/* The size is a hint (C23 free_sized). */
void hak_free_sized(void *ptr, size_t size);
/* Zeroed memory. */
void *hak_zalloc(size_t size) HAK_ATTR((malloc, alloc_size(1), warn_unused_result));
/* Bytes of the block that may be written; constant while it is live; 0 for NULL. */
size_t hak_usable_size(const void *ptr);
/* What a block of `size` takes: ask for as many, and no byte is wasted. hak_usable_size may say less of a block of
 * `size` that is guarded (option guard). */
size_t hak_good_size(size_t size);
/* Grows or shrinks the block without moving it: 1; or changes nothing: 0. */
int hak_expand(void *ptr, size_t size);

/* ---- call sites ---- */

/* The address a site report names; any const void * will do as a label. */
#if defined(__GNUC__) || defined(__clang__)
#define HAK_CALLSITE() ((const void *)__builtin_return_address(0))
#else
#define HAK_CALLSITE() ((const void *)0)
#endif

/* The caller's own return address is the label. */
void *hak_alloc_cs(size_t size) HAK_ATTR((malloc, alloc_size(1), warn_unused_result));
/* size: as asked for. Counts the free for the site that allocated through `site`, see hak_free_at. */
void hak_free_cs(void *ptr, size_t size);
/* The label is given, for wrappers such as xmalloc. */
void *hak_alloc_at(size_t size, const void *site) HAK_ATTR((malloc, alloc_size(1), warn_unused_result));
void hak_free_at(void *ptr, size_t size, const void *site);

/* One call site as seen so far. Versioned by size: new members are added at the end only. */
typedef struct hak_site {
    const void *site;
    uint64_t allocs;
    uint64_t frees;       /* known to the site table */
    uint64_t total_bytes; /* asked for */
    uint64_t live_bytes;
    uint64_t average_bytes;
    uint64_t max_bytes;
    const char *purpose;  /* static string */
    /* Labelled calls and blocks above 64 KiB are counted; what is above includes estimates for the others, from
     * this many samples. What follows is of samples alone, and 0 without any. */
    uint64_t samples;
    uint64_t samples_ended;   /* freed, or moved by realloc */
    uint64_t samples_grown;   /* by realloc */
    uint64_t samples_handed;  /* freed by another thread than allocated */
    uint64_t size_p50;        /* bytes asked for; half of the bytes are in blocks up to this */
    uint64_t size_p99;
    uint64_t lifetime_p50_ns; /* of those that ended */
    uint64_t lifetime_p99_ns;
    uint64_t call_paths;      /* about how many ways lead to the site, up to 255 */
    const void *module;       /* site - module is the same in every run; NULL: no module known */
    uint8_t build_id[20];     /* the module's GNU build-id; zeros: none */
} hak_site_t;

/*
 * Calls `callback` for each known site: labelled ones, those of blocks above 64 KiB, and what samples found
 * (options prof and prof_sample). Stops when it answers non-zero and returns that, else 0. The callback may
 * allocate.
 */
int hak_site_foreach(int (*callback)(const hak_site_t *site, void *arg), void *arg);
/* Purpose inferred for a site: a static string, "unknown" until the 10th observation. */
const char *hak_site_purpose(const void *site);

/* ---- memory ---- */

/* Returns cached memory to the system until at most keep_bytes stay; returns the bytes given back. */
size_t hak_trim(size_t keep_bytes);
/* The same with keep_bytes 0. */
size_t hak_purge(void);
/*
 * Soft limit: cached memory is given back as live and cached memory together near `bytes`; requests are never
 * refused for it. 0: no limit. Returns 0, EINVAL (less than 1 MiB), or as hak_ctl_set.
 */
int hak_limit_set(size_t bytes);
/* The calling thread will be idle: gives its cached blocks back. */
void hak_thread_idle(void);

/* ---- options: hakmem.conf(5) lists them ---- */

/*
 * All return 0 or an error number, leave errno alone and are not for signal handlers (EAGAIN, if one
 * interrupted the allocator). Upper and lower case of a name are the same.
 *
 * The value of an option as a setting would spell it, NUL-terminated. *bytes: the room at `value`; on return
 * what the whole text needs. ENOENT: no such option; ERANGE: no room, the text is cut.
 */
int hak_ctl_get(const char *name, char *value, size_t *bytes);
/* The same for where the value came from: "default", "mode fast", "/etc/hakmem.conf:3", "HAKMEM_THP". */
int hak_ctl_source(const char *name, char *source, size_t *bytes);
/* The name of option number `index`, a static string; NULL beyond the last. */
const char *hak_ctl_name(unsigned index);
/* ENOENT: no such option; EPERM: it is read at the start only; EINVAL: not a value of it; ENOMEM. */
int hak_ctl_set(const char *name, const char *value);

/* ---- learning: hak_policy(3) ---- */

/* The numbers in force that may be learnt, and how far learning has come. New members are added at the end. */
typedef struct hak_policy {
    size_t purge_delay_ms;         /* free memory is kept this long */
    size_t purge_cap_bytes;        /* cached memory that is kept whatever the size of the heap */
    size_t mmap_threshold_bytes;
    size_t wmax_large_thousandths; /* largest block / request */
    uint64_t trials;               /* windows that something was tried in */
    uint64_t changes;              /* settings adopted */
    uint64_t shifts;               /* changes of the program's habits seen */
    uint64_t broken_off;           /* trials that did harm */
    uint64_t last_cost;            /* of the last window, in ns per MiB handed out */
} hak_policy_t;

/* "off", "learn", "frozen" or "canary": static strings. */
const char *hak_evo_state(void);
/*
 * Error numbers, errno is left alone; EAGAIN in a signal handler that interrupted the allocator.
 * Keeps what has been learnt and watches nothing any more; or learns from now on.
 */
int hak_evo_freeze(void);
int hak_evo_learn(void);
/* Fills the first `bytes` of *policy: sizeof *policy as the caller knows it. */
int hak_policy_get(hak_policy_t *policy, size_t bytes);
/* Writes what was learnt; and starts from it, frozen. Error numbers of open, write and rename; ENOEXEC with a line
 * on stderr: the file is damaged or of another program. */
int hak_policy_save(const char *path);
int hak_policy_load(const char *path);

#ifdef __cplusplus
}
#endif

#include <hakmem/stats.h>

#endif
