// SPDX-License-Identifier: MIT
/* site_private: for the files of this directory only. */
#ifndef HK_SITE_PRIVATE_H
#define HK_SITE_PRIVATE_H

#include "site/site.h"

/*
 * The module that a code address lies in. Sound for an address whose code is running: its module cannot go
 * meanwhile. False: none, or libc does not say without a lock.
 */
bool hk_site_module(const void *address, uint64_t *base, uint8_t build_id[HK_SITE_BUILD_ID]);

/* The slot of a site, a new one if need be (claim) and can be had; NULL: dropped. now_ns may be 0. */
struct hk_site_slot *hk_site_find(const void *site, bool claim, uint64_t now_ns);
/* The slot starts anew for the same site. NULL: somebody else was first. */
struct hk_site_slot *hk_site_renew(struct hk_site_slot *slot, const void *site);
void hk_site_raise_max(uint64_t *max, uint64_t value);

#endif
