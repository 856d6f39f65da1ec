// SPDX-License-Identifier: MIT
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char directory[64];

void fuzz_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: FAIL: %s\n", file, line, what);
    abort();
}

void fuzz_file_open(struct fuzz_file *file, const void *data, size_t bytes)
{
    file->fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (file->fd < 0 || (bytes && write(file->fd, data, bytes) != (ssize_t)bytes))
        fuzz_fail(__FILE__, __LINE__, "no file in memory");
    snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->fd);
}

void fuzz_file_close(struct fuzz_file *file)
{
    close(file->fd);
}

static void remove_directory(void)
{
    char command[96];

    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", directory);
}

const char *fuzz_directory(void)
{
    if (directory[0])
        return directory;
    strcpy(directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm/hakmem-fuzz.XXXXXX" : "/tmp/hakmem-fuzz.XXXXXX");
    if (!mkdtemp(directory))
        fuzz_fail(__FILE__, __LINE__, "no directory");
    atexit(remove_directory);
    return directory;
}

void fuzz_hush(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (null < 0 || dup2(null, STDOUT_FILENO) < 0)
        fuzz_fail(__FILE__, __LINE__, "no /dev/null");
    close(null);
}
