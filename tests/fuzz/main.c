// SPDX-License-Identifier: MIT
/*
 * The engine of the plain programs: plays the files named as arguments, or those in the directories named, and says
 * how many. Compiled by afl-clang-fast without arguments it is AFL++'s persistent loop.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BYTES (1u << 20)

#ifdef __AFL_FUZZ_TESTCASE_LEN
__AFL_FUZZ_INIT()
static void play_for_afl(void)
{
    const uint8_t *data = __AFL_FUZZ_TESTCASE_BUF;

    while (__AFL_LOOP(20000))
        LLVMFuzzerTestOneInput(data, (size_t)__AFL_FUZZ_TESTCASE_LEN);
}
#else
static void play_for_afl(void)
{
}
#endif

static uint8_t text[MAX_BYTES];

/* A copy of just that length, so that a sanitizer sees what reads past its end. */
static unsigned play_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    uint8_t *copy;

    if (fd >= 0)
        close(fd);
    if (n < 0 || !(copy = malloc((size_t)n + (n == 0))))
        fuzz_fail(__FILE__, __LINE__, path);
    memcpy(copy, text, (size_t)n);
    LLVMFuzzerTestOneInput(copy, (size_t)n);
    free(copy);
    return 1;
}

static unsigned play_directory(const char *path)
{
    struct dirent **list;
    int nr = scandir(path, &list, NULL, alphasort);
    unsigned played = 0;
    char name[4200];

    for (int i = 0; i < nr; i++) {
        snprintf(name, sizeof name, "%s/%s", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.')
            played += play_file(name);
        free(list[i]);
    }
    if (nr >= 0)
        free(list);
    return played;
}

int main(int argc, char **argv)
{
    struct stat status;
    unsigned played = 0;

    LLVMFuzzerInitialize(&argc, &argv);
    if (argc < 2)
        play_for_afl();
    for (int i = 1; i < argc; i++)
        played += stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode) ? play_directory(argv[i])
                                                                         : play_file(argv[i]);
    fprintf(stderr, "played %u inputs\n", played);
    return 0;
}
