// SPDX-License-Identifier: MIT
/*
 * The policy file. What is taken is, written again, the same to the byte; all else is refused and changes nothing.
 * With an odd first byte the right checksum is put behind the text, or nothing but a checksum would ever be learnt
 * here. Linked without a build-id, so that the corpus fits any build.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_BYTES 2048

static char saved_path[96];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    snprintf(saved_path, sizeof saved_path, "%s/policy", fuzz_directory());
    return 0;
}

static size_t saved(char *text, size_t bytes)
{
    ssize_t n;
    int fd;

    FUZZ_CHECK(hak_policy_save(saved_path) == 0);
    fd = open(saved_path, O_RDONLY | O_CLOEXEC);
    n = read(fd, text, bytes);
    close(fd);
    FUZZ_CHECK(n > 0);
    return (size_t)n;
}

static size_t add_checksum(char *text, size_t n)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return n + (size_t)sprintf(text + n, "checksum %016llx\n", (unsigned long long)hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char text[MAX_BYTES + 64], before[MAX_BYTES], after[MAX_BYTES];
    bool sum = bytes && (data[0] & 1);
    size_t n = bytes ? bytes - 1 : 0, nr_before = saved(before, sizeof before), nr_after;
    struct fuzz_file file;
    int error;

    n = n < MAX_BYTES ? n : MAX_BYTES;
    memcpy(text, data + (bytes > 0), n);
    n = sum ? add_checksum(text, n) : n;
    fuzz_file_open(&file, text, n);
    error = hak_policy_load(file.path);
    fuzz_file_close(&file);
    FUZZ_CHECK(error == 0 || error == ENOEXEC);
    nr_after = saved(after, sizeof after);
    FUZZ_CHECK(error == 0 ? nr_after == n && memcmp(after, text, n) == 0
                          : nr_after == nr_before && memcmp(after, before, nr_after) == 0);
    return 0;
}
