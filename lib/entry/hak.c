// SPDX-License-Identifier: MIT
/* hak: what the library offers beyond the malloc family. Contracts in <hakmem/hakmem.h>. */
#include "entry/entry_private.h"

#include "ace/ace.h"
#include "heap/heap_inline.h"
#include "os/os.h"
#include "secure/secure.h"
#include "site/site.h"
#include "thread/thread.h"

#include <errno.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define CALLER() __builtin_return_address(0)
#define STRING(x) #x
#define VERSION(a, b, c) STRING(a) "." STRING(b) "." STRING(c)

HK_EXPORT const char *hak_version(void)
{
    return VERSION(HAKMEM_VERSION_MAJOR, HAKMEM_VERSION_MINOR, HAKMEM_VERSION_PATCH);
}

HK_EXPORT void *hak_zalloc(size_t size)
{
    return hk_entry_alloc(size, 16, true, CALLER());
}

HK_EXPORT size_t hak_usable_size(const void *ptr)
{
    return malloc_usable_size((void *)ptr);
}

HK_EXPORT size_t hak_good_size(size_t size)
{
    return hk_ace_good_size(size);
}

HK_EXPORT int hak_expand(void *ptr, size_t size)
{
    int done = 0;

    if (ptr && hk_thread_enter()) {
        done = hk_config.secure ? hk_secure_resize(ptr, size ? size : 1, CALLER())
                                : hk_ace_resize(hk_thread_heap(), ptr, size ? size : 1, CALLER());
        hk_thread_leave();
    }
    return done;
}

/* ---- call sites ---------------------------------------------------------------------------- */

static void *alloc_for(size_t size, const void *site)
{
    void *p = hk_heap_alloc_fast(size);

    if (!p && size > HK_FAST_MAX) /* counted by hk_entry_alloc */
        hk_site_label(site);
    if (!p)
        p = hk_entry_alloc(size, 16, false, site);
    if (p && size <= HK_FAST_MAX)
        hk_site_note_label(site, size);
    return p;
}

static void free_for(void *ptr, size_t size, const void *site)
{
    if (ptr)
        hk_site_note_free(site, size);
    if (!hk_heap_free_fast(ptr))
        hk_entry_free(ptr, site);
}

HK_EXPORT void *hak_alloc_cs(size_t size)
{
    return alloc_for(size, CALLER());
}

HK_EXPORT void hak_free_cs(void *ptr, size_t size)
{
    free_for(ptr, size, CALLER());
}

HK_EXPORT void *hak_alloc_at(size_t size, const void *site)
{
    return alloc_for(size, site);
}

HK_EXPORT void hak_free_at(void *ptr, size_t size, const void *site)
{
    free_for(ptr, size, site);
}

/* Other threads' last few hundred calls may be missing. */
static void tell_own_sites(void)
{
    if (hk_thread_enter()) {
        hk_entry_tell_sites(hk_thread_heap());
        hk_thread_leave();
    }
}

static hak_site_t as_public(const struct hk_site_slot *slot)
{
    /* A labelled site's calls are all counted. */
    uint64_t estimated = slot->labelled ? 0 : UINT64_MAX, half = UINT64_C(1) << (HK_SITE_COUNT_BITS - 1);
    hak_site_t site = {
        .site = slot->site,
        .allocs = slot->nr_allocs + (((slot->est_allocs + half) >> HK_SITE_COUNT_BITS) & estimated),
        .frees = slot->nr_frees + (((slot->est_frees + half) >> HK_SITE_COUNT_BITS) & estimated),
        .total_bytes = slot->total_bytes + (slot->est_bytes & estimated),
        .live_bytes = slot->live_bytes + (slot->est_live_bytes & estimated),
        .max_bytes = slot->max_bytes,
        .purpose = hk_site_purpose_name(hk_site_infer(slot, hk_os_now_ns())),
        .samples = slot->nr_samples,
        .samples_ended = slot->nr_ended,
        .samples_grown = slot->nr_grown,
        .samples_handed = slot->nr_handed,
        .size_p50 = hk_p2_get(&slot->size_p50),
        .size_p99 = hk_p2_get(&slot->size_p99),
        .lifetime_p50_ns = hk_p2_get(&slot->lifetime_p50),
        .lifetime_p99_ns = hk_p2_get(&slot->lifetime_p99),
        .call_paths = hk_site_paths(slot),
        .module = (const void *)(uintptr_t)slot->base,
    };

    site.frees = hk_min(site.frees, site.allocs); /* the one may be estimated, the other exact */
    site.average_bytes = site.allocs ? site.total_bytes / site.allocs : 0;
    if (slot->size_p50.count == 0) { /* large blocks, and no samples */
        site.size_p50 = site.average_bytes;
        site.size_p99 = site.max_bytes;
    }
    memcpy(site.build_id, slot->build_id, sizeof site.build_id);
    return site;
}

HK_EXPORT int hak_site_foreach(int (*callback)(const hak_site_t *site, void *arg), void *arg)
{
    tell_own_sites();
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++) {
        struct hk_site_slot slot;
        if (!hk_site_read(i, &slot))
            continue;
        hak_site_t site = as_public(&slot);
        int answer = callback(&site, arg);
        if (answer)
            return answer;
    }
    return 0;
}

HK_EXPORT const char *hak_site_purpose(const void *site)
{
    tell_own_sites();
    for (unsigned i = 0; i < HK_SITE_SLOTS; i++) {
        struct hk_site_slot slot;
        if (hk_site_read(i, &slot) && slot.site == site)
            return hk_site_purpose_name(hk_site_infer(&slot, hk_os_now_ns()));
    }
    return "unknown";
}

/* ---- memory -------------------------------------------------------------------------------- */

HK_EXPORT size_t hak_trim(size_t keep_bytes)
{
    return hk_entry_trim(keep_bytes);
}

HK_EXPORT size_t hak_purge(void)
{
    return hak_trim(0);
}

HK_EXPORT void hak_thread_idle(void)
{
    int saved = errno;
    struct hk_heap *heap;

    if (!hk_thread_enter())
        return;
    heap = hk_thread_heap();
    if (heap) {
        hk_heap_flush_all(heap);
        hk_l25_flush(&heap->l25);
    }
    hk_thread_leave();
    errno = saved;
}
