// SPDX-License-Identifier: MIT
/* export_private: shared by the files of export only. */
#ifndef HK_EXPORT_PRIVATE_H
#define HK_EXPORT_PRIVATE_H

#include "export/export.h"

/* Members of hak_stats_t in order, for text, JSON and the file: X(member, kind) */
struct hk_export_member {
    char name[24];
    uint16_t offset;
    uint8_t kind; /* enum hak_stats_kind */
    uint8_t group; /* enum hk_export_group */
};

enum hk_export_group {
    GROUP_IDENTITY,
    GROUP_RESIDENT,
    GROUP_LIVE,
    GROUP_CACHED,
    GROUP_REFILL,
    GROUP_REMOTE,
    GROUP_RUNS,
    GROUP_BIG,
    GROUP_KERNEL,
    GROUP_PROCESS,
    NR_PRINTED_GROUPS,
    GROUP_ROOT = NR_PRINTED_GROUPS /* in the first line */
};

#define HK_EXPORT_NR_MEMBERS (sizeof(hak_stats_t) / sizeof(uint64_t))
extern const struct hk_export_member hk_export_members[HK_EXPORT_NR_MEMBERS];

/* A field of the type ROW, under a name of its own. */
#define HK_FIELD(name, member, kind) HK_FIELD_OF(name, ROW, member, kind)
#define HK_FIELD_OF(name, row, member, kind)                                                       \
    {name, offsetof(row, member), sizeof(((row *)NULL)->member), HAK_KIND_##kind, 0}

/* export_root.c: whatever the site table keeps. */
extern struct hak_stats_field hk_export_site_fields[];
extern const size_t hk_export_nr_site_fields;

#define HK_EXPORT_EVO_FIELDS 25
extern struct hak_stats_field hk_export_evo_fields[HK_EXPORT_EVO_FIELDS]; /* of struct hk_acectl_view */

/* export_file.c */
void hk_export_file_start(void);
void hk_export_file_child(void);

#endif
