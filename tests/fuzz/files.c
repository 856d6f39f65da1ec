// SPDX-License-Identifier: MIT
/*
 * Files that the option parser reads. The first byte says which: /etc/hakmem.conf, the one that HAKMEM_CONF names, the
 * two that say where the cgroup's limit is, or that limit.
 */
#include "fuzz.h"
#include "settings.h"

#include "config/config.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[96];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    snprintf(root, sizeof root, "%s/group", fuzz_directory());
    mkdir(root, 0700);
    return 0;
}

static void write_file(const char *name, const uint8_t *data, size_t bytes)
{
    char path[160];
    int fd;

    snprintf(path, sizeof path, "%s/%s", root, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
}

/* A limit is none, or at least what keeps the library running. */
static void check_limit(void)
{
    struct hk_config config = hk_config;
    size_t limit;

    config.limit_bytes = HK_LIMIT_AUTO;
    limit = hk_config_limit(&config);
    FUZZ_CHECK(limit == 0 || limit >= HK_MIB);
}

static void read_limit(unsigned which, const char *path, const uint8_t *data, size_t bytes)
{
    static const char groups[] = "0::/job\n4:memory:/old\n";
    char mounts[512];
    struct fuzz_file other;

    snprintf(mounts, sizeof mounts, "25 1 0:22 / %s rw - cgroup2 none rw\n26 1 0:23 / %s rw - cgroup none rw,memory\n",
             root, root);
    fuzz_file_open(&other, which == 2 ? mounts : groups, which == 2 ? strlen(mounts) : sizeof groups - 1);
    hk_config_cgroup_file = which == 2 ? path : other.path;
    hk_config_mounts_file = which == 3 ? path : other.path;
    if (which > 3) {
        struct fuzz_file groups_file;
        fuzz_file_open(&groups_file, which == 4 ? "0::/\n" : "4:memory:/\n", which == 4 ? 5 : 11);
        write_file(which == 4 ? "memory.max" : "memory.limit_in_bytes", data, bytes);
        fuzz_file_close(&other);
        fuzz_file_open(&other, mounts, strlen(mounts));
        hk_config_cgroup_file = groups_file.path;
        hk_config_mounts_file = other.path;
        check_limit();
        fuzz_file_close(&groups_file);
    } else {
        check_limit();
    }
    fuzz_file_close(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    unsigned which = bytes ? data[0] % 6 : 0;
    struct fuzz_file file;
    char entry[64], *envp[] = {which == 1 ? entry : NULL, NULL};

    data += bytes > 0;
    bytes -= bytes > 0;
    fuzz_file_open(&file, data, bytes);
    hk_config_file = which == 0 ? file.path : "/nonexistent/hakmem.conf";
    snprintf(entry, sizeof entry, "HAKMEM_CONF=%s", file.path);
    if (which < 2)
        settings_load(envp);
    else
        read_limit(which, file.path, data, bytes);
    fuzz_file_close(&file);
    return 0;
}
