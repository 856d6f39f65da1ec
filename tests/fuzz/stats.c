// SPDX-License-Identifier: MIT
/*
 * hakmem-stats reads a hostile file: a snapshot, or a core dump (first byte, bit 7). The low bits of that byte say which
 * view, the second byte how it is printed. Any view ends; what was accepted can be kept as a snapshot, which is
 * accepted too.
 */
#include "fuzz.h"

#include "export.h"
#include "output.h"
#include "snapshot.h"
#include "threshold.h"
#include "views.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char kept_path[96];

/* A copy whose writer died in it is waited for, 200 times a millisecond: not here. */
int nanosleep(const struct timespec *wish, struct timespec *rest)
{
    (void)wish;
    (void)rest;
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_hush();
    snprintf(kept_path, sizeof kept_path, "%s/kept", fuzz_directory());
    return 0;
}

static void keep(struct target *target)
{
    struct problem problem = {0};
    struct target again;

    FUZZ_CHECK(snapshot_write(target, kept_path, &problem) == 0);
    if (target_open(&again, kept_path, true, &problem) != 0) {
        fprintf(stderr, "the snapshot is refused: %s\n", problem.text);
        FUZZ_CHECK(!"accepted, then refused");
    }
    FUZZ_CHECK(again.capture.total.mapped == target->capture.total.mapped);
    view_diff(target, &again, 10);
    target_close(&again);
}

static void convert(struct target *target, unsigned which)
{
    static const char *const formats[] = {"json", "ndjson", "csv", "prometheus", "pprof", "heap_v2"};
    struct problem problem = {0};

    export_find(formats[which % 6])(target, &problem);
}

static void check_threshold(struct target *target, const uint8_t *data, size_t bytes)
{
    struct threshold threshold;
    struct problem problem = {0};
    char text[64] = "";

    memcpy(text, data, bytes < sizeof text - 1 ? bytes : sizeof text - 1);
    if (threshold_parse(text, &threshold, &problem) == 0)
        threshold_check(&threshold, &target->capture, &problem);
}

static void show(struct target *target, unsigned view, unsigned how)
{
    switch (view & 7) {
    case 0:
        view_show(target);
        break;
    case 1:
        view_sites(target, (enum site_order)(how % 3), 1 + how % 40);
        break;
    case 2:
        view_hist(target);
        break;
    case 3:
        view_why(target);
        break;
    case 4:
        view_config(target);
        break;
    case 5:
    case 6:
        convert(target, how >> 2);
        break;
    default:
        keep(target);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct problem problem = {0};
    struct target target;
    struct fuzz_file file;
    unsigned view, how;
    int code;

    if (bytes < 2)
        return 0;
    view = data[0];
    how = data[1];
    output.json = how & 1;
    output.exact = how & 2;
    output.color = how & 4;
    fuzz_file_open(&file, data + 2, bytes - 2);
    code = view & 0x80 ? target_open_core(&target, file.path, NULL, &problem)
                       : target_open(&target, file.path, view & 0x40, &problem);
    FUZZ_CHECK(code == 0 || problem.text[0]);
    if (code == 0) {
        show(&target, view, how);
        check_threshold(&target, data + 2, bytes - 2);
        target_close(&target);
    }
    fuzz_file_close(&file);
    return 0;
}
