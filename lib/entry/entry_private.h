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

/* operator delete; size: HK_SIZE_UNSAID if it said none. origin: enum hk_origin. */
void hk_entry_delete(void *p, unsigned origin, size_t size, size_t align, const void *site);

/* No operator new or delete is replaced by another object's, as far as the dynamic linker knows. */
bool hk_entry_operators_are_ours(void);

/* What an aligned block of `size` takes at least; a broken alignment gives `size`. */
HK_INLINE size_t hk_entry_aligned_size(size_t size, size_t align)
{
    return hk_is_pow2(align) ? hk_align_up(size, align) : size;
}

/* Constructor's part: what HAKMEM_RUN asks for, see run.c. */
void hk_entry_obey_run(void);
/* Constructor's part, for option stats_dump. */
void hk_entry_keep_stderr(void);
/* hakmem-run started an ancestor that forked us: its report is not ours to print. */
bool hk_entry_is_child_of_run(void);
/*
 * Samples (sample.c), inside slow sections. attend: heap->sampling.attention is set. alloc: a search is on, or a class is owed one;
 * NULL: not this one, or no memory. passes: a call that is no candidate. freed, resized: p is live and lies in a slab of
 * the sampled heap; what becomes of it is told before it happens.
 */
void hk_entry_sample_attend(struct hk_heap *heap);
void *hk_entry_sample_alloc(struct hk_heap *heap, size_t n, size_t align, bool zero, const void *site);
void hk_entry_sample_passes(struct hk_heap *heap);
void hk_entry_sample_freed(struct hk_heap *heap, const void *p);
void hk_entry_sample_resized(struct hk_heap *heap, const void *p, size_t n, bool moves);

/*
 * Guarded blocks (guard.c), inside slow sections. An allocation of n bytes that stands for so many is counted, and is given
 * a guarded block when one is due. NULL: not this time. counts: every call tells, not only those that are samples.
 */
bool hk_entry_guard_counts(void);
void *hk_entry_guard_alloc(struct hk_heap *heap, size_t n, size_t align, uint64_t bytes, const void *site);
/* Constructor's part, for guard:report. */
void hk_entry_guard_start(void);

/* caller.c: once, in the constructor. */
void hk_entry_caller_start(void);
/* `site`, or when that lies in libc the first return address above `frame`, the caller's frame, that does not.
 * *height: of the stack there. */
const void *hk_entry_caller(const void *site, const void *frame, uint32_t *height);

/* Constructor's part: reads the policy file, gives the learner its ticks. */
void hk_entry_start_learning(void);
/* $HAKMEM_POLICY_FILE, unless the program is more privileged than who started it; NULL: none. */
const char *hk_entry_policy_file(void);
/* 0 or an error number; ENOEXEC was refused with a message. */
int hk_entry_load_policy(const char *path);
/* The current context's lesson; or the start of all lessons to come, frozen. 0, EAGAIN, EINVAL, ENOMEM. */
int hk_entry_get_arms(struct hk_arms *arms);
int hk_entry_set_arms(const struct hk_arms *arms);

/* Who allocates and frees, to the profile: unlike the kernel's number it is the same after fork. */
uint32_t hk_entry_owner_number(const struct hk_heap *heap);
/* What the heap has gathered goes to the site table. */
void hk_entry_tell_sites(struct hk_heap *heap);
/* Gives memory back until keep_bytes stay cached; returns bytes. */
size_t hk_entry_trim(size_t keep_bytes);

#endif
