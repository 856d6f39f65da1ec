// SPDX-License-Identifier: MIT
/* entry_private: shared by the translation units of entry only. */
#ifndef HK_ENTRY_PRIVATE_H
#define HK_ENTRY_PRIVATE_H

#include "base/base.h"

struct hk_heap;

/*
 * The slow halves, called with the return address of the exported function. Both keep errno, except that
 * a failed allocation sets ENOMEM.
 */
void *hk_entry_alloc(size_t n, size_t align, bool zero, const void *site);
void hk_entry_free(void *p, const void *site);
/* What the heap has gathered goes to the site table. */
void hk_entry_tell_sites(struct hk_heap *heap);
/* Gives memory back until keep_bytes stay cached; returns bytes. */
size_t hk_entry_trim(size_t keep_bytes);

#endif
