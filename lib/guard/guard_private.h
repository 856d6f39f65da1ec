// SPDX-License-Identifier: MIT
/* guard_private: for the files of this directory only. */
#ifndef HK_GUARD_PRIVATE_H
#define HK_GUARD_PRIVATE_H

#include "guard/guard.h"

/* A region that nobody may touch, made at its first use. */
struct hk_guard_region {
    uint32_t init;  /* CAS acquire GI1, store release GI2 */
    uint32_t word;  /* for the page map; constant */
    char *base;     /* constant once it is there */
};

/* False: no memory, or another thread is at it; a later call tries again. */
bool hk_guard_have_region(struct hk_guard_region *region, size_t bytes);
bool hk_guard_region_is_there(const struct hk_guard_region *region);
/* In a fork child: one half made is lost, and tried again. */
void hk_guard_region_fork_child(struct hk_guard_region *region);
void hk_guard_empty_fork_child(void);

#endif
