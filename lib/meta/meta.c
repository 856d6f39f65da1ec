// SPDX-License-Identifier: MIT
#include "meta/meta.h"

#include "base/panic.h"
#include "os/os.h"
#include "sync/atomic.h"

#include <string.h>

#define STEP ((size_t)64)
#define NR_STEPS 16 /* 64, 128, ... 1024 */
#define NR_LISTS (NR_STEPS + 6) /* then 2 KiB ... 64 KiB */
#define FIRST_CHUNK (64 * HK_KIB)
#define CHUNK (256 * HK_KIB)

struct free_object {
    struct free_object *next;
};

static HK_LARGE_BSS struct {
    struct free_object *free[NR_LISTS]; /* by list_of() */
    char *bump, *end;                   /* unused rest of the newest chunk */
    size_t mapped_bytes;                /* written under the lock, read relaxed by counters */
} meta;

struct hk_lock hk_meta_lock = HK_LOCK_INIT(HK_RANK_META);

static unsigned list_of(size_t bytes)
{
    if (bytes <= NR_STEPS * STEP)
        return (unsigned)((bytes + STEP - 1) / STEP) - 1;
    return NR_STEPS + hk_log2_floor(bytes - 1) - 10;
}

static size_t list_bytes(unsigned list)
{
    return list < NR_STEPS ? (list + 1) * STEP : (size_t)2048 << (list - NR_STEPS);
}

/* What is left of the old chunk is dropped: at most one descriptor's worth. */
static bool new_chunk_locked(size_t bytes)
{
    size_t chunk = meta.mapped_bytes ? CHUNK : FIRST_CHUNK;
    char *p;

    if (chunk < bytes)
        chunk = bytes;
    p = hk_os_reserve(chunk, hk_os_page_bytes());
    if (!p && chunk > FIRST_CHUNK) {
        chunk = hk_align_up(bytes, hk_os_page_bytes()); /* nearly out of address space */
        p = hk_os_reserve(chunk, hk_os_page_bytes());
    }
    if (!p)
        return false;
    meta.bump = p;
    meta.end = p + chunk;
    hk_store_relaxed(&meta.mapped_bytes, meta.mapped_bytes + chunk);
    return true;
}

void *hk_meta_alloc(size_t bytes)
{
    unsigned list = list_of(bytes);
    size_t size = list_bytes(list);
    struct free_object *object;

    hk_lock(&hk_meta_lock);
    object = meta.free[list];
    if (object) {
        meta.free[list] = object->next;
    } else if ((size_t)(meta.end - meta.bump) >= size || new_chunk_locked(size)) {
        object = (struct free_object *)meta.bump;
        meta.bump += size;
    }
    hk_unlock(&hk_meta_lock);
    if (object)
        memset(object, 0, size);
    return object;
}

void hk_meta_free(void *memory, size_t bytes)
{
    struct free_object *object = memory;
    unsigned list = list_of(bytes);

    hk_lock(&hk_meta_lock);
    object->next = meta.free[list];
    meta.free[list] = object;
    hk_unlock(&hk_meta_lock);
}

size_t hk_meta_mapped_bytes(void)
{
    return hk_load_relaxed(&meta.mapped_bytes);
}

const size_t *hk_meta_mapped_field(void)
{
    return &meta.mapped_bytes;
}

size_t hk_meta_touched_bytes(void)
{
    size_t bytes;

    hk_lock(&hk_meta_lock);
    bytes = meta.mapped_bytes - (size_t)(meta.end - meta.bump);
    hk_unlock(&hk_meta_lock);
    return bytes;
}

void hk_meta_forget(void)
{
    for (unsigned i = 0; i < NR_LISTS; i++)
        meta.free[i] = NULL;
    meta.bump = meta.end = NULL;
}

void hk_meta_check(void)
{
    if (meta.bump > meta.end)
        hk_panic_internal("meta: bump beyond its chunk", meta.bump);
}
