// SPDX-License-Identifier: MIT
/*
 * site: who allocates what, and for what. A bounded table from call site (a return address, or a label the
 * program gives) to numbers of three kinds, fed by entry, never by a fast path:
 *
 *   exact      labelled calls, and every allocation above 64 KiB, where a hash is nothing against the page faults
 *   estimated  blocks up to 64 KiB: each sample stands for a number of bytes that refills took from slabs
 *              (entry/sample.c), and so for bytes / size blocks; unbiased for what passed through refills.
 *              Of larger ones what became of them: a sample stands for some of the calls that are counted
 *              exactly (entry/large.c), for itself alone as long as they come at a moderate rate
 *   observed   of the samples themselves: sizes, lifetimes, who freed them, did they grow by realloc
 *
 * A live sample has a record, found by its address when it is freed: 16 segments of 1024, the next one used
 * when eight probes in those before it find no place. Beyond that a sample is dropped and counted.
 *
 * Open addressing, 256 slots, at most 8 probes. When no slot is found, the one that was idle longest goes,
 * if that is at least HK_SITE_IDLE_NS and it holds no label; otherwise the event is counted as dropped. A key is
 * never NULL again once set. An event that meets a slot in the moment it changes hands may be booked to the
 * new site: one event, in a table of estimates.
 *
 * Modules come and go (dlclose): a slot remembers the module of its address by build-id, and when another one
 * lies there now, the slot starts anew for it. base and build_id make a report independent of where the
 * system put the module: offset = site - base.
 *
 * Readers (hak_site_foreach, a tool looking at our memory): every field is a plain number that is written whole,
 * relaxed; fields are not consistent with each other. The quantiles have one writer at a time (`busy`, taken by
 * trying: who does not get it leaves them alone) and a reader may see one half-way, which P2 survives.
 *
 * Locks: none that wait. Failure: hk_site_note drops and counts. After fork the child calls
 * hk_site_fork_child, alone, because another thread may have been inside.
 */
#ifndef HK_SITE_H
#define HK_SITE_H

#include "p2/p2.h"
#include "sync/atomic.h"

#define HK_SITE_SLOTS 256
#define HK_SITE_PROBES 8
#define HK_SITE_IDLE_NS UINT64_C(10000000000)
#define HK_SITE_COUNT_BITS 8 /* fraction of an estimated count */
#define HK_SITE_BUILD_ID 20
#define HK_SITE_SHORT_NS UINT64_C(10000000)  /* a block that lives less is short-lived: two ticks of the clock */
#define HK_SITE_LONG_NS UINT64_C(1000000000) /* and this is long */

enum hk_site_purpose {
    HK_PURPOSE_UNKNOWN,
    HK_PURPOSE_SMALL_FREQUENT,
    HK_PURPOSE_MEDIUM,
    HK_PURPOSE_LARGE_INFREQUENT,
    HK_PURPOSE_SHORT_LIVED,
    HK_PURPOSE_LONG_LIVED,
    HK_PURPOSE_HAND_OFF,
    HK_PURPOSE_GROWS,
    HK_NR_PURPOSES
};

/* Fixed width; read by others in place, so fields are added at the end only. */
struct hk_site_slot {
    const void *site;   /* key; NULL: free */
    /* Exact. */
    uint64_t nr_allocs;
    uint64_t nr_frees;  /* of blocks freed through a labelled call */
    uint64_t total_bytes;
    uint64_t live_bytes; /* of a labelled site; else 0 */
    uint64_t max_bytes; /* largest request, sampled ones included */
    /* Estimated; not for a labelled site, whose calls are all counted. Bytes as asked for. */
    uint64_t est_allocs; /* in 2^-HK_SITE_COUNT_BITS; without those of nr_allocs, as est_bytes */
    uint64_t est_frees;  /* the same, with them */
    uint64_t est_bytes;
    uint64_t est_live_bytes;
    /* Observed: samples. */
    uint64_t nr_samples;
    uint64_t nr_ended;  /* freed, or moved by realloc */
    uint64_t nr_grown;  /* of those: grew by realloc, in place or moving, at least once */
    uint64_t nr_handed; /* freed by another thread */
    uint64_t nr_brief;  /* lived less than HK_SITE_SHORT_NS */
    uint64_t nr_long;   /* lived HK_SITE_LONG_NS or more */
    uint64_t born_ms;   /* sum of the births of those alive, for their mean age */
    uint64_t last_ns;   /* the last event that knew the time */
    uint64_t paths;     /* one bit per call path seen: {return address, stack height} hashed */
    uint64_t base;      /* of the module that the site lies in; 0: none known */
    uint8_t build_id[HK_SITE_BUILD_ID]; /* the module's; zeros: it has none */
    uint32_t purpose;   /* enum hk_site_purpose, as of the last sample */
    uint32_t labelled;  /* 1: the program gave the label */
    uint32_t busy;      /* the quantiles have a writer. CAS acquire L1, store release L2 */
    struct hk_p2 size_p50, size_p99;       /* bytes asked for; of samples, so by bytes rather than by calls */
    struct hk_p2 lifetime_p50, lifetime_p99; /* ns, of samples that ended */
};

extern struct hk_site_slot hk_site_slots[HK_SITE_SLOTS];

/* One sampled block. */
struct hk_site_sample {
    const void *site;
    uint64_t now_ns;
    uint64_t weight_bytes; /* what it stands for, in bytes of blocks; 0: for itself alone */
    size_t bytes;          /* asked for */
    size_t block_bytes;    /* what a block of its class takes */
    uint32_t nr_calls;     /* that it stands for and hk_site_note_allocs counts; 0: as weight_bytes says */
    uint32_t thread;       /* allocating */
    uint32_t height;       /* of the stack, at the call */
};

/* A sample between two addresses. */
struct hk_site_life {
    const void *site;
    uint64_t serial;       /* of the sample, never 0 */
    uint64_t born_ns;
    uint64_t weight_bytes;
    size_t bytes;
    size_t block_bytes;
    uint32_t nr_calls;
    uint32_t thread;
    bool grown;
};

/* n blocks above 64 KiB, bytes together, the largest max_bytes. now_ns: 0 if not known. */
void hk_site_note_allocs(const void *site, unsigned n, size_t bytes, size_t max_bytes, uint64_t now_ns);
/* One block of a site that the program labels: counted exactly, whatever samples say. */
void hk_site_note_label(const void *site, size_t bytes);
/* The same before one that hk_site_note_allocs will hear of. */
void hk_site_label(const void *site);
/* Of a labelled site. */
void hk_site_note_free(const void *site, size_t bytes);

/* p lives until hk_site_sample_freed. Its serial number; 0: no room, the sample counts for nothing. */
uint64_t hk_site_sample(const struct hk_site_sample *sample, const void *p);
/* The sample, of a block that was at p, stands for so much more, whether it still lives or not. */
void hk_site_sample_weigh(const void *site, const void *p, uint64_t serial, uint32_t nr_calls, uint64_t bytes);
/*
 * Nothing happens when p has no record. Returns what the sample stood for, in bytes of blocks, where these stay with the thread
 * that allocated them, which is `thread`; 0: they do not, or it stood for calls.
 */
uint64_t hk_site_sample_freed(const void *p, uint32_t thread, uint64_t now_ns);
/* realloc: now of `bytes`, at the same place (0 is returned), or (ended) copied elsewhere (the same). */
uint64_t hk_site_sample_resized(const void *p, size_t bytes, bool ended, uint32_t thread, uint64_t now_ns);

/*
 * Around a realloc that may move the block before anybody can be told: lift takes the sample at p away, false: there is
 * none; lay puts it at q, now of `bytes`. Or it ends.
 */
bool hk_site_sample_lift(const void *p, struct hk_site_life *life);
void hk_site_sample_lay(const void *q, const struct hk_site_life *life, size_t bytes, uint64_t now_ns);
void hk_site_sample_end(const struct hk_site_life *life, uint32_t thread, uint64_t now_ns);

/* Slot i < HK_SITE_SLOTS as a copy; false: free. */
bool hk_site_read(unsigned i, struct hk_site_slot *out);
uint64_t hk_site_dropped(void);         /* events without a slot */
uint64_t hk_site_dropped_samples(void); /* samples without a record */
uint64_t hk_site_nr_samples(void);      /* with one, ever */
unsigned hk_site_nr_large(void);        /* with one now, and nr_calls */
/* HK_PURPOSE_UNKNOWN until the 10th observation. now_ns: for the age of those that live. */
enum hk_site_purpose hk_site_infer(const struct hk_site_slot *slot, uint64_t now_ns);
/* Static string. */
const char *hk_site_purpose_name(enum hk_site_purpose purpose);
unsigned hk_site_paths(const struct hk_site_slot *slot);

/* Distance to the next sample: exponential with this mean (>= 1), at least 1. Advances *state, never 0. */
uint64_t hk_site_interval(uint64_t *state, uint64_t mean);
/* A bijection that looks random. */
uint64_t hk_site_mix(uint64_t x);

/* In a fork child, alone. */
void hk_site_fork_child(void);

#endif
