// SPDX-License-Identifier: MIT
#include "latency.h"

#include <string.h>

unsigned latency_read(const struct capture *capture, uint32_t counts[LATENCY_BUCKETS])
{
    const struct table *t = capture_table(capture, "latency");
    const struct hak_stats_field *f = table_field(t, "buckets");
    unsigned nr = f && t->nr_rows ? f->bytes / 4u : 0;

    if (nr > LATENCY_BUCKETS)
        nr = LATENCY_BUCKETS;
    if (nr)
        memcpy(counts, table_bytes(t, 0, f), nr * 4u);
    return nr;
}

uint64_t latency_bucket_end(unsigned bucket)
{
    unsigned log2 = bucket / 4 + 1;

    if (bucket < 4)
        return bucket;
    if (log2 > 63)
        return UINT64_MAX;
    return ((uint64_t)1 << log2) + ((uint64_t)(bucket % 4 + 1) << (log2 - 2)) - 1;
}

uint64_t latency_quantile(const uint32_t counts[LATENCY_BUCKETS], unsigned nr, unsigned thousandths)
{
    uint64_t total = 0, below = 0;

    for (unsigned i = 0; i < nr; i++)
        total += counts[i];
    for (unsigned i = 0; i < nr && total; i++) {
        below += counts[i];
        if (below * 1000 >= total * thousandths)
            return latency_bucket_end(i);
    }
    return 0;
}
