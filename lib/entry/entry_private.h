// SPDX-License-Identifier: MIT
/* entry_private: shared by the translation units of entry only. */
#ifndef HK_ENTRY_PRIVATE_H
#define HK_ENTRY_PRIVATE_H

#include "base/base.h"

struct hk_heap;
struct hk_arms;

/*
 * The slow halves, called with the return address of the exported function. Both keep errno, except that
 * a failed allocation sets ENOMEM.
 */
void *hk_entry_alloc(size_t n, size_t align, bool zero, const void *site);
void hk_entry_free(void *p, const void *site);
/* The size is a hint: one that does not fit the block is counted, then the block is freed. */
void hk_entry_free_sized(void *p, size_t size, const void *site);
size_t hk_entry_size_mismatches(void);

/* What an aligned block of `size` takes at least; a broken alignment gives `size`. */
HK_INLINE size_t hk_entry_aligned_size(size_t size, size_t align)
{
    return hk_is_pow2(align) ? hk_align_up(size, align) : size;
}

/* Constructor's part: reads the policy file, gives the learner its ticks. */
void hk_entry_start_learning(void);
/* $HAKMEM_POLICY_FILE, unless the program is more privileged than who started it; NULL: none. */
const char *hk_entry_policy_file(void);
/* 0 or an error number; ENOEXEC was refused with a message. */
int hk_entry_load_policy(const char *path);
/* The current context's lesson; or the start of all lessons to come, frozen. 0, EAGAIN, EINVAL, ENOMEM. */
int hk_entry_get_arms(struct hk_arms *arms);
int hk_entry_set_arms(const struct hk_arms *arms);

/* What the heap has gathered goes to the site table. */
void hk_entry_tell_sites(struct hk_heap *heap);
/* Gives memory back until keep_bytes stay cached; returns bytes. */
size_t hk_entry_trim(size_t keep_bytes);

#endif
