// SPDX-License-Identifier: MIT
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

int read_fully(int fd, void *buffer, size_t bytes, uint64_t offset)
{
    char *to = buffer;

    if (offset > INT64_MAX || bytes > INT64_MAX - offset)
        return ENODATA;
    while (bytes > 0) {
        ssize_t n = pread(fd, to, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : ENODATA;
        to += n;
        offset += (size_t)n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* ---- a running process --------------------------------------------------------------------- */

static int read_held_process(const struct source *source, uint64_t address, void *buffer, size_t bytes)
{
    struct iovec to = {buffer, bytes}, from = {(void *)(uintptr_t)address, bytes};
    ssize_t n;

    if (address > UINTPTR_MAX || bytes > UINTPTR_MAX - address)
        return EFAULT;
    n = process_vm_readv(source->pid, &to, 1, &from, 1, 0);
    if (n < 0)
        return errno;
    return (size_t)n == bytes ? 0 : EFAULT;
}

static int read_process(struct source *source, uint64_t address, void *buffer, size_t bytes)
{
    return read_held_process(source, address, buffer, bytes);
}

static void close_nothing(struct source *source)
{
    (void)source;
}

static void read_program_path(struct source *source)
{
    char link[64];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/%d/exe", (int)source->pid);
    n = readlink(link, source->program, sizeof source->program - 1);
    source->program[n > 0 ? n : 0] = '\0';
}

int source_process(struct source *source, pid_t pid, struct problem *problem)
{
    char what[64];
    int error;

    memset(source, 0, sizeof *source);
    source->pid = pid;
    source->fd = -1;
    source->read = read_process;
    source->read_held = read_held_process;
    source->close = close_nothing;
    error = maps_read_process(&source->maps, pid);
    if (error == ENOENT || error == ESRCH)
        return problem_set(problem, EXIT_NOTHING, "process %d: no such process", (int)pid);
    if (error == EACCES || error == EPERM)
        return problem_set(problem, EXIT_PERMISSION,
                           "process %d: may not be looked at (%s)", (int)pid,
                           geteuid() == 0 ? "of more privileges than root has here: a container's, or a security module's"
                                          : "of another user, or with more privileges; root may");
    if (error) {
        snprintf(what, sizeof what, "process %d", (int)pid);
        return problem_errno(problem, error, what);
    }
    read_program_path(source);
    return 0;
}

/* ---- a file -------------------------------------------------------------------------------- */

static int read_file(struct source *source, uint64_t address, void *buffer, size_t bytes)
{
    if (address > source->fd_bytes || bytes > source->fd_bytes - address)
        return ENODATA;
    return read_fully(source->fd, buffer, bytes, address);
}

static void close_file(struct source *source)
{
    close(source->fd);
}

int source_descriptor(struct source *source, int fd, const char *name, struct problem *problem)
{
    struct stat status;

    memset(source, 0, sizeof *source);
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return problem_set(problem, EXIT_NOTHING, "%s: not a regular file", name);
    }
    source->fd = fd;
    source->fd_bytes = (uint64_t)status.st_size;
    source->read = read_file;
    source->close = close_file;
    return 0;
}

int source_file(struct source *source, const char *path, struct problem *problem)
{
    /* O_NONBLOCK: a fifo under the name of a snapshot must not hang us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return problem_errno(problem, errno, path);
    return source_descriptor(source, fd, path, problem);
}

void source_close(struct source *source)
{
    if (source->close)
        source->close(source);
    source->close = NULL;
    maps_free(&source->maps);
}

/* ---- files behind mappings ----------------------------------------------------------------- */

/* Names from another build of a library would be wrong, not missing. The first page has the build's number. */
static bool begins_alike(const struct source *source, int fd, const struct mapping *mapping)
{
    unsigned char here[4096], there[sizeof here];

    if (mapping->offset != 0 || mapping->writable ||
        !source->read_held || source->read_held(source, mapping->start, there, sizeof there) != 0)
        return true;
    return read_fully(fd, here, sizeof here, 0) != 0 || memcmp(here, there, sizeof here) == 0;
}

/* -1 unless it is a regular file. Looked at before it is opened: the name is the process's or the dump's word, and may be
 * that of a device or FIFO here, which to open means something. */
static int open_regular(const char *path, struct stat *status)
{
    int fd = -1, handle = open(path, O_PATH | O_CLOEXEC);
    char again[64];

    if (handle < 0)
        return -1;
    snprintf(again, sizeof again, "/proc/self/fd/%d", handle);
    if (fstat(handle, status) == 0 && S_ISREG(status->st_mode))
        fd = open(again, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    close(handle);
    return fd;
}

static int open_same(const struct source *source, const char *path, const struct mapping *mapping)
{
    struct stat status;
    int fd = open_regular(path, &status);

    if (fd < 0)
        return -1;
    /* Overlay file systems show another device in maps than in stat: the inode has to do. */
    if ((mapping->inode == 0 || (uint64_t)status.st_ino == mapping->inode) && begins_alike(source, fd, mapping))
        return fd;
    close(fd);
    return -1;
}

static int open_of_process(const struct source *source, const struct mapping *mapping)
{
    char path[4200];
    int fd;

    snprintf(path, sizeof path, "/proc/%d/root%s", (int)source->pid, mapping->path);
    fd = open_same(source, path, mapping);
    if (fd < 0) /* chroot: the kernel names the file from our root, not from the process's */
        fd = open_same(source, mapping->path, mapping);
    if (fd >= 0)
        return fd;
    snprintf(path, sizeof path, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)source->pid,
             mapping->start, mapping->end);
    fd = open_same(source, path, mapping);
    if (fd >= 0)
        return fd;
    snprintf(path, sizeof path, "/proc/%d/exe", (int)source->pid);
    return open_same(source, path, mapping);
}

int source_open_mapping(const struct source *source, const struct mapping *mapping)
{
    if (mapping->path[0] != '/')
        return -1;
    if (source->pid != 0)
        return open_of_process(source, mapping);
    if (source->exe && strcmp(mapping->path, source->program) == 0)
        return open_same(source, source->exe, mapping);
    return open_same(source, mapping->path, mapping);
}
