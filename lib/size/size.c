// SPDX-License-Identifier: MIT
#include "size/size.h"

#include "base/panic.h"

struct hk_size_class hk_size_class[HK_NR_CLASSES];

#define TABLE_LAST (HK_FAST_MAX / 16 - 1)
#define MIN_CONST(a, b) ((a) < (b) ? (a) : (b))

HK_START_TABLE const uint16_t hk_class_offset[HK_FAST_MAX / 16] = {
#define X(c, below, bytes) [(below) / 16 ... MIN_CONST((bytes) / 16 - 1, TABLE_LAST)] = (HK_FIRST_RECORD + (c)) << HK_CLASS_RECORD_SHIFT,
#include "size/size_classes.def"
#undef X
};

static HK_START_CONST const uint32_t class_bytes[HK_NR_CLASSES] = {
#define X(c, below, bytes) [c] = (bytes),
#include "size/size_classes.def"
#undef X
    [80] = 4096, [81] = 8192, [82] = 16384, [83] = 32768, [84] = 65536,
};

/*
 * Small slabs where blocks are small: a survivor pins less memory. From 4 KiB up large enough that the 64
 * bytes of colour per block walk through all sets of a first-level cache within one slab (63 blocks of
 * 4160 bytes: 64 different lines), and never fewer than seven blocks.
 */
static unsigned slab_shift(size_t bytes)
{
    if (bytes <= 1024)
        return 14;
    if (bytes <= 2048)
        return 15;
    if (bytes < 4096)
        return 16;
    return bytes <= 16448 ? 18 : 19;
}

/*
 * With M = ceil(2^64/d) + k let e = M*d - 2^64, so e <= d + k*d. For x = q*d + r the low half of x*M is
 * q*e + r*M as long as that stays below 2^64. Both "r = 0 => q*e < M" and "r > 0 => M <= q*e + r*M <
 * 2^64" hold when (nr_slots + 1) * e < M. With k <= M / (4 * slab bytes) the left side is at most
 * (slab bytes + d) * (k + 1), below M for every class; hk_size_init() checks it.
 */
static uint64_t keyed_reciprocal(const struct hk_size_class *sc, uint64_t key)
{
    uint64_t d = sc->size;
    uint64_t ceiling = UINT64_MAX / d + 1;
    uint64_t room = ceiling / (4 * ((uint64_t)sc->slab_mask + 1));
    uint64_t magic = ceiling + key % room;
    uint64_t e = magic * d; /* mod 2^64 */

    if (e >= magic / (sc->nr_slots + 1u))
        hk_panic_internal("size class reciprocal", sc);
    return magic;
}

void hk_size_init(uint64_t key)
{
    for (unsigned c = 0; c < HK_NR_CLASSES; c++) {
        struct hk_size_class *sc = &hk_size_class[c];

        sc->size = class_bytes[c];
        sc->slab_shift = (uint8_t)slab_shift(sc->size);
        sc->slab_mask = (UINT32_C(1) << sc->slab_shift) - 1;
        sc->nr_slots = (uint16_t)((sc->slab_mask + 1) / sc->size);
        sc->magic = keyed_reciprocal(sc, key);
        key = key * UINT64_C(6364136223846793005) + 1; /* Knuth's MMIX step: another k per class */
    }
}

unsigned hk_size_to_aligned_class(size_t n, size_t align)
{
    size_t need = hk_max(hk_align_up(hk_max(n, 1), align), align);

    if (need > HK_FAST_MAX)
        return HK_NR_CLASSES;
    for (unsigned c = hk_size_to_class(need); c < HK_NR_SIZED_CLASSES; c++) {
        if ((class_bytes[c] & (align - 1)) == 0 && class_bytes[c] <= 2 * need)
            return c;
        if (class_bytes[c] > 4096)
            break;
    }
    for (unsigned c = HK_FIRST_ALIGNED_CLASS; c < HK_NR_CLASSES; c++)
        if (class_bytes[c] >= need && (class_bytes[c] & (align - 1)) == 0)
            return c;
    return HK_NR_CLASSES;
}
