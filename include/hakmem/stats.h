/* SPDX-License-Identifier: MIT */
/*
 * stats: the counters of the running library, for the program itself and for others that look in.
 * Included by <hakmem/hakmem.h>.
 *
 * The first half are functions. The second half describes the counters where they lie in memory, so that
 * another process (process_vm_readv, or a core dump) can read them without a call, a file descriptor or a
 * pause. See hak_stats(3).
 */
#ifndef HAKMEM_HAKMEM_H
#error "include <hakmem/hakmem.h>"
#endif
#ifndef HAKMEM_STATS_H
#define HAKMEM_STATS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Counters of the process. Versioned by size: members are added at the end only. At rest, to the byte,
 *
 *   mapped == live + cached + slab_free + dirty + purged + metadata
 *
 * While other threads allocate, each number is right by itself, and the sum is off by what moves meanwhile.
 */
typedef struct hak_stats {
    /* The identity, bytes. */
    uint64_t mapped;    /* address space taken from the kernel, counted where it is mapped and unmapped */
    uint64_t live;      /* blocks of the program, rounded up to their class: what was asked for + the rest */
    uint64_t cached;    /* free blocks kept for the next call: magazines, parcels, runs, big blocks */
    uint64_t slab_free; /* free blocks in slabs, and the tails that no block fits in */
    uint64_t dirty;     /* free memory that the kernel will get */
    uint64_t purged;    /* free address space without content */
    uint64_t metadata;  /* page map, descriptors, heaps */

    uint64_t resident;  /* of mapped: pages that are in memory (mincore; user memory and metadata) */

    /* live, apart */
    uint64_t live_small;  /* up to 64 KiB: slabs */
    uint64_t live_runs;   /* up to the mapping threshold */
    uint64_t live_big;    /* from there up */
    uint64_t live_blocks; /* number of blocks of all three kinds */
    /* cached, apart */
    uint64_t cached_magazines;
    uint64_t cached_parcels; /* freed by another thread, on the way to their heap */
    uint64_t cached_runs;
    uint64_t cached_big;
    uint64_t slab_tails;  /* of slab_free: what no block can use */
    uint64_t pending;     /* of dirty: mappings that wait for their munmap */

    /* Refill: a magazine was empty. Where blocks came from, in the order of the look. */
    uint64_t refill_popped;   /* the magazine was not empty: fast paths were off */
    uint64_t refill_drained;  /* other threads' frees had come home */
    uint64_t refill_larger;   /* W_MAX: a cached block of a larger class */
    uint64_t refill_current;  /* the slab in use */
    uint64_t refill_partial;  /* another slab of the heap with room */
    uint64_t refill_depot;    /* a slab that an idle class published */
    uint64_t refill_parked;   /* a slab that another thread left or could spare */
    uint64_t refill_new;      /* a new slab */
    uint64_t refill_single;   /* no magazine, or a heap that nobody owns: one block */
    uint64_t refill_failed;   /* no memory */
    uint64_t refills;         /* magazines filled from slabs: misses of tiny and pool together */
    uint64_t refills_mid;     /* of these: of pool, blocks above 1 KiB */
    uint64_t flushes;         /* magazines that were full when a block was freed */
    uint64_t idle_flushes;    /* magazines emptied because nobody used them */
    uint64_t magazines_grown;
    uint64_t magazines_shrunk;
    uint64_t slabs_acquired;
    uint64_t slabs_retired;
    uint64_t slabs_published; /* given up by idle classes */

    /* Frees of other threads' blocks. */
    uint64_t remote_frees;
    uint64_t parcels_sent;
    uint64_t parcels_drained;
    uint64_t remote_forwarded; /* the slab had changed hands meanwhile */
    uint64_t remote_lost;      /* blocks leaked: no memory to note what a handler freed, or in a fork child */

    /* Runs: above 64 KiB, below the mapping threshold. */
    uint64_t run_hits_cache;   /* the thread's own cache */
    uint64_t run_hits_shard;   /* the shared one */
    uint64_t run_hits_larger;  /* of both: W_MAX, a run of a larger class */
    uint64_t run_misses;       /* a new run */
    uint64_t run_bundled;      /* runs made ahead at a miss */
    uint64_t run_released;     /* runs given up to the span */

    /* Big blocks: the cache of those whose site asks for one size again and again. */
    uint64_t big_hits_site;
    uint64_t big_hits_shared;
    uint64_t big_hits_part;
    uint64_t big_misses;
    uint64_t big_puts;
    uint64_t big_evictions_age;
    uint64_t big_evictions_budget;

    /* The way back to the kernel. */
    uint64_t purge_calls;
    uint64_t purged_bytes_total;
    uint64_t regions;
    uint64_t regions_unmapped;
    uint64_t batch_queued;
    uint64_t batch_immediate;
    uint64_t batch_flushes;
    uint64_t batch_unmaps;
    uint64_t batch_refused;

    uint64_t heaps;           /* ever made; they are reused */
    uint64_t heaps_active;    /* with a thread */
    uint64_t size_mismatches; /* sized frees whose size did not fit the block */
    uint64_t pid;
    uint64_t start_ns;        /* CLOCK_BOOTTIME when the library started */
    uint64_t mode;            /* 0 minimal, 1 fast, 2 balanced, 3 learning, 4 research */
    uint64_t guard_samples;   /* guarded blocks, ever (option guard) */
    uint64_t guard_live;      /* of these: live; their pages count in live_big */
    uint64_t guard_refused;   /* had no slot, or no memory */
    uint64_t huge_bytes;      /* of dense regions that may be made of huge pages (option thp: auto) */
    uint64_t huge_promoted;   /* regions, ever */
    uint64_t huge_demoted;    /* of these: not dense any more, or unmapped */
} hak_stats_t;

/* 0; or EINVAL: stats is NULL. Fills the first `size` bytes; what this library does not know is 0. */
int hak_stats_get(hak_stats_t *stats, size_t size);

/* One size class. In live + cached + parcels + free == slabs * slots, in blocks. */
typedef struct hak_stats_class {
    uint64_t size;      /* bytes of a block */
    uint64_t slab_bytes;
    uint64_t slots;     /* blocks per slab */
    uint64_t slabs;
    uint64_t live;      /* blocks */
    uint64_t cached;    /* in magazines */
    uint64_t parcels;   /* freed by another thread, on their way */
    uint64_t free;      /* in slabs */
} hak_stats_class_t;

/* Calls `callback` for each class that has a slab or a run (slots 1): size classes, those for aligned
 * requests, runs. Stops when it answers non-zero and returns that, else 0. */
typedef int hak_stats_visit_t(const hak_stats_class_t *row, void *arg);
int hak_stats_class_foreach(hak_stats_visit_t *callback, void *arg);

/* Takes a piece of text, not NUL-terminated. */
typedef void hak_write_t(void *arg, const char *text, size_t bytes);

/* Text for people; callback NULL: to standard error. Allocates nothing. */
void hak_stats_print(hak_write_t *callback, void *arg);
/* The same numbers as one JSON object (RFC 8259). */
void hak_stats_json(hak_write_t *callback, void *arg);

/* What the program feels of the allocator. Versioned by size. */
typedef struct hak_kpi {
    /* Of calls that left the fast path, one in 63 is timed if it allocates; a hit of the fast path takes a few ns and
     * is not among them. Upper bounds of the bucket, four buckets per doubling. 0: no samples. */
    uint64_t slow_alloc_p50_ns;
    uint64_t slow_alloc_p95_ns;
    uint64_t slow_alloc_p99_ns;
    uint64_t slow_alloc_samples;
    uint64_t soft_faults;     /* of the process since its start: getrusage */
    uint64_t hard_faults;
    uint64_t resident;        /* bytes: the process's RSS now; 0 if /proc cannot be read */
    int64_t resident_delta;   /* against the first call of hak_kpi_get in this process */
} hak_kpi_t;

/* 0; or EINVAL: kpi is NULL. Fills the first `size` bytes. Reads /proc/self/statm. */
int hak_kpi_get(hak_kpi_t *kpi, size_t size);

/* ---- the counters in memory --------------------------------------------------------------------- */

/*
 * The exported data symbol hak_stats_root leads to tables; a table is rows of fields that its own
 * description names and places. A reader looks for the table and the field it wants and takes none for
 * granted: a name that is missing is a number that this library does not keep. All of it may be torn,
 * stale or, in a damaged process, nonsense: bound every count and every chain.
 *
 * Reading: 1. hak_stats_root, from the symbol table of the library's or the (static) program's ELF file; in
 * a stripped static program scan its data for the magic and accept a candidate whose `self` is its own
 * address. 2. magic, byte_order, word_bytes, abi. 3. tables[]. 4. fields and rows of each.
 * Integers are in the byte order of the process. Addresses stored in a row are `bytes` of their field wide.
 * pid differs from that of the process: it was forked by _Fork, clone or vfork, and the values are those
 * that it inherited and went on with. In a core dump, constant data (options, field names excepted) may be
 * left to the ELF file: what lies in no segment of the core is read there.
 */
#define HAK_STATS_MAGIC "HAKSTATS" /* 8 bytes, no NUL */
#define HAK_STATS_ABI 1            /* changes when a reader written for the old one would go wrong */
#define HAK_STATS_BYTE_ORDER 0x01020304u

struct hak_stats_root {
    char magic[8];
    uint32_t byte_order;   /* HAK_STATS_BYTE_ORDER, as the process sees it */
    uint16_t abi;          /* HAK_STATS_ABI */
    uint8_t word_bytes;    /* sizeof(void *) */
    uint8_t flags;         /* HAK_STATS_FILE */
    uint32_t root_bytes;   /* sizeof(struct hak_stats_root) */
    uint32_t nr_tables;
    uint64_t self;         /* address of this struct; 0 before the library has started */
    uint64_t tables;       /* address of struct hak_stats_table[nr_tables] */
    uint64_t pid;          /* in its own pid namespace */
    uint64_t start_ns;     /* CLOCK_BOOTTIME */
    uint64_t updated_ns;   /* HAK_STATS_FILE: CLOCK_BOOTTIME of the copy; else 0 */
    uint32_t sequence;     /* HAK_STATS_FILE: odd while the copy is being written; read before and after */
    uint32_t mode;         /* 0 minimal, 1 fast, 2 balanced, 3 learning, 4 research */
    char version[16];      /* of the library, NUL-terminated */
    uint64_t reserved[5];
};

/*
 * HAK_STATS_FILE: not the live counters but a copy in a file (option stats:export; a memfd named
 * hakmem-stats, /proc/PID/fd), renewed by slow paths at most every 20 ms: see updated_ns. The root lies at
 * offset 0, self is 0, and every address in root and tables is an offset in the file. A pid that is not the
 * process's: the file is that of the parent. Tables are then neither chained nor nested nor indirect: stats[1]
 * (the members of hak_stats_t, resident 0), class[] (those of hak_stats_class_t), heap[], site[], evo[1] and
 * option.text (BLOB of lines "name value source").
 */
#define HAK_STATS_FILE 1

struct hak_stats_table {
    char name[16];         /* NUL-terminated */
    uint64_t rows;         /* address; see flags */
    uint64_t fields;       /* address of struct hak_stats_field[nr_fields] */
    uint32_t nr_rows;      /* HAK_STATS_CHAINED: 0; HAK_STATS_BLOB: bytes */
    uint32_t row_bytes;    /* from one row to the next */
    uint32_t nr_fields;
    uint32_t flags;
    uint32_t next;         /* HAK_STATS_CHAINED: offset in a row of the address of the next row; 0 ends */
    uint32_t parent;       /* HAK_STATS_NESTED: number of the table in whose every row this one lies */
    uint64_t reserved;
};

#define HAK_STATS_CHAINED 1  /* rows: address of the address of the first row */
#define HAK_STATS_NESTED 2   /* rows: offset of the first row in the parent's row */
#define HAK_STATS_INDIRECT 4 /* rows: address of the address of the first row */
#define HAK_STATS_BLOB 8     /* rows: nr_rows bytes, no fields */

struct hak_stats_field {
    char name[24];         /* NUL-terminated */
    uint32_t offset;       /* in the row */
    uint16_t bytes;        /* 1, 2, 4, 8: an integer; others: an array of bytes */
    uint8_t kind;          /* enum hak_stats_kind */
    uint8_t reserved;
};

enum hak_stats_kind {
    HAK_KIND_NUMBER = 0,   /* constant, or a number that means itself (an id, a state) */
    HAK_KIND_COUNTER = 1,  /* only grows; wraps */
    HAK_KIND_GAUGE = 2,    /* now */
    HAK_KIND_BYTES = 3,    /* a gauge in bytes */
    HAK_KIND_BYTES_TOTAL = 4, /* a counter in bytes */
    HAK_KIND_NS = 5,
    HAK_KIND_ADDRESS = 6,
    HAK_KIND_TEXT = 7,     /* characters, NUL-terminated unless full */
    HAK_KIND_ARRAY = 8,    /* one byte each */
    HAK_KIND_TEXT_ADDRESS = 9, /* address of a NUL-terminated text */
    HAK_KIND_ENUM = 10
};

/*
 * Tables of ABI 1. [n]: n rows. Sums over heaps are the reader's.
 *
 *   os[1]        mapped lost shared                            bytes
 *   meta[1]      mapped
 *   pagemap[1]   nr_leaves; leaf_bytes = 2 * word_bytes * 32768
 *   span[1]      mapped used dirty nr_regions nr_purges purged_total nr_unmaps huge nr_promoted nr_demoted
 *   arena[1]     mapped used dirty clean busy lost nr_maps nr_unmaps nr_purges purged_total nr_mixed
 *                nr_borrowed                                   runs and most big blocks; bytes to lost
 *   big[1]       live arena nr_live loose emergency size_mismatches guards; bytes but nr_live and the last two;
 *                arena: of the arena, live or in bigcache
 *   bigcache[1]  hits_site hits_shared hits_part misses puts evictions_age evictions_budget bytes
 *   batch[1]     queued immediate flushes unmaps refused lost pending
 *   heaps[1]     chunks nr_heaps nr_active                     chunks: bytes
 *   size[]       size slab_mask slots                          size classes
 *   heap*        id thread_id state depot, l25_granules, counters as in struct hak_stats
 *     heap.slabs[]      of each heap: bottom (address) nr_slabs nr_free nr_gaps
 *     heap.magazine[]   of each heap: cursor (address)
 *     heap.runs[]       of each heap: count, cached runs per run class
 *   parcel*      count bytes classes (array of size class numbers, the first `count` count)
 *   run[]        run classes: nr_runs nr_granules; a granule is 16 KiB
 *   run.class[]  granules of a run of the class
 *   shard[]      cached_granules counts (array: cached runs per run class)
 *   runs[1]      counters as in struct hak_stats, run_*
 *   site[]       call sites: key allocs frees total_bytes live_bytes max_bytes, and what the table has more
 *   policy[1]    INDIRECT: the snapshot in force
 *   evo[1]       the learner, hak_policy(3): state (0 off, 1 learn, 2 frozen, 3 canary) context contexts windows
 *                trials adopted broken_off shifts recalled, costs; per knob its value, .learns (0: the user's),
 *                .arm and .n0 .. .n3, trials of each arm that are remembered
 *   config       BLOB; option[]: type offset; option.source[]: source; option.names, option.words: BLOBs of NUL-terminated
 *                strings, one per option, in the order of option[]. type 0 bool, 1 enum: the value (1 byte;
 *                4 bytes) is the number of a word in words ("off/0|on/1"); 2 uint (4 bytes), 3 wide (8), 4
 *                size (word_bytes), 5 ratio (4, thousandths), 6 list (16 of 4). source 0 default, 1 file,
 *                2 environment, 3 api, 4 HAKMEM_CONF, 5 HAKMEM_OPTIONS, 6 hakmem-run. offset: in config.
 *   latency[1]   buckets: 4-byte counts in an array, see hak_kpi
 *   trace[]      ring of slow-path events (option tiny_trace_ring): number time_ns thread_id what class
 *                value; number 0: none
 *   guard[1]     mapped live (bytes) nr_live nr_samples nr_refused
 *   guard.slot[] state (0 never used, 1 changing, 2 live, 3 freed) bytes start, addresses; alloc_site free_site:
 *                return addresses; alloc_thread free_thread: kernel's ids, 0 unknown
 *
 * With those the identity is, over all heaps h and classes c, with granule = 16384:
 *
 *   magazines(h,c) = bottom ? (cursor - bottom) / word_bytes - 1 - nr_gaps : 0
 *   slab_free  = sum nr_free(h,c) * size(c) + nr_slabs(h,c) * (slab_mask(c) + 1 - slots(c) * size(c))
 *   in_parcels = sum over parcels with count > 0 of bytes
 *   small      = sum (nr_slabs * slots - nr_free - magazines) * size  - in_parcels
 *   runs       = arena.used - big.arena, of which cached_runs = granule *
 *                (sum heap.l25_granules + sum shard.cached_granules)
 *   live       = small + runs - cached_runs + big.live + big.loose + big.emergency + guard.live
 *   cached     = magazines in bytes + in_parcels + cached_runs + bigcache.bytes
 *   dirty      = span.dirty + arena.dirty + batch.pending
 *   purged     = span.mapped - span.used - span.dirty + arena.mapped - arena.used - arena.dirty +
 *                batch.lost + os.lost + guard.mapped - guard.live
 *   metadata   = meta.mapped + pagemap.nr_leaves * leaf_bytes + heaps.chunks + os.shared
 *   os.mapped == live + cached + slab_free + dirty + purged + metadata
 */
extern struct hak_stats_root hak_stats_root;

#ifdef __cplusplus
}
#endif

#endif
