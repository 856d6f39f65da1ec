// SPDX-License-Identifier: MIT
#include "share/share.h"

#include "sync/atomic.h"

static size_t taken, budget;

bool hk_share_take(size_t bytes)
{
    size_t most = hk_max(HK_SHARE_BYTES, hk_load_relaxed(&budget));

    if (hk_load_relaxed(&taken) + bytes > most)
        return false;
    hk_share_force(bytes);
    return true;
}

void hk_share_force(size_t bytes)
{
    hk_add_relaxed(&taken, bytes);
}

void hk_share_give(size_t bytes)
{
    hk_sub_relaxed(&taken, bytes);
}

size_t hk_share_taken(void)
{
    return hk_load_relaxed(&taken);
}

void hk_share_set_budget(size_t bytes)
{
    hk_store_relaxed(&budget, bytes);
}
