// SPDX-License-Identifier: MIT
//
// Little memory: every request gets a block or NULL with ENOMEM, and the heap stays usable.
#include "harness.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB          ((size_t)1024)
#define MIB          (1024 * KIB)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void limit(int resource, size_t bytes)
{
    struct rlimit to = {bytes, bytes};

    if (setrlimit(resource, &to) != 0)
        abort();
}

// Runs a program under a limit of its address space; returns its status.
static int run_limited(size_t bytes, const char *const *argv)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        alarm(10);
        limit(RLIMIT_AS, bytes);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(126);
    }
    waitpid(child, &status, 0);
    return status;
}

static int start_in_32_mib(void)
{
    static const char *const programs[][5] = {
        {"/bin/true", NULL},
        {"/bin/echo", "hello", NULL},
        {"/bin/sh", "-c", "x=$(echo a b c); test \"$x\" = 'a b c'", NULL},
        {"/bin/ls", "-l", "/", NULL},
        {"/bin/bash", "-c", "for i in 1 2 3; do x=$x$i; done; test $x = 123", NULL},
    };

    for (size_t i = 0; i < COUNT(programs); i++)
        if (access(programs[i][0], X_OK) == 0)
            CHECK_MSG(run_limited(32 * MIB, programs[i]) == 0, "%s", programs[i][0]);
    return PASS;
}

// Below what a program needs it may fail to start, but not by a signal: the loader says so with
// 127, libc by itself.
static int start_in_less(void)
{
    static const char *const program[] = {"/bin/true", NULL};

    for (size_t bytes = 2 * MIB; bytes < 40 * MIB; bytes += 512 * KIB) {
        int status = run_limited(bytes, program);
        CHECK_MSG(!WIFSIGNALED(status) || WTERMSIG(status) == SIGKILL ||
                      WTERMSIG(status) == SIGSEGV,
                  "%zu KiB: status %#x", bytes / KIB, (unsigned)status);
        // A SIGSEGV before the library is mapped is the kernel's or the loader's: only there may it
        // happen.
        CHECK_MSG(!WIFSIGNALED(status) || bytes < 6 * MIB, "%zu KiB: status %#x", bytes / KIB,
                  (unsigned)status);
        CHECK_MSG(bytes < 32 * MIB || status == 0, "%zu KiB: status %#x", bytes / KIB,
                  (unsigned)status);
    }
    return PASS;
}

struct link {
    struct link *next;
    size_t size;
    unsigned char byte;
};

// Takes blocks of size(i) until there are none; checks and frees all; returns their number, or -1
// when one was wrong.
static long exhaust(size_t (*size_of)(unsigned), unsigned most)
{
    struct link *first = NULL;
    long count = 0;

    for (unsigned i = 0; i < most; i++) {
        size_t size = size_of(i) + sizeof(struct link);
        errno = 0;
        struct link *block = i % 3 == 0 ? hide(calloc(1, size)) : hide(malloc(size));
        if (block == NULL) {
            if (errno != ENOMEM)
                return -1;
            break;
        }
        *block = (struct link){first, size, (unsigned char)i};
        ((unsigned char *)block)[size - 1] = block->byte;
        first = block;
        count++;
    }
    while (first != NULL) {
        struct link *next = first->next;
        if (((unsigned char *)first)[first->size - 1] != first->byte &&
            first->size > sizeof(struct link))
            return -1;
        free(first);
        first = next;
    }
    return count;
}

static size_t size_small(unsigned i)
{
    return 1 + i % 200;
}

static size_t size_page(unsigned i)
{
    return 3000 + i % 5000;
}

static size_t size_medium(unsigned i)
{
    return 40 * KIB + i % 7 * 10 * KIB;
}

static size_t size_big(unsigned i)
{
    return 600 * KIB + i % 5 * 500 * KIB;
}

static size_t size_mixed(unsigned i)
{
    uint64_t state = i;
    uint64_t r = random_next(&state);

    return r % ((size_t)1 << (4 + (r >> 32) % 17));
}

static size_t (*const size_functions[])(unsigned) = {size_small, size_page, size_medium, size_big,
                                                     size_mixed};

// In a child with `spare` bytes of address space beyond what it has: out of memory, all freed, and
// again.
static int out_of_memory(int resource, size_t spare)
{
    size_t base = proc_bytes("/proc/self/status", resource == RLIMIT_AS ? "VmSize:" : "VmData:");

    limit(resource, base + spare);
    for (unsigned k = 0; k < COUNT(size_functions); k++) {
        long first = exhaust(size_functions[k], 10000000);
        if (first < 0)
            return 10 + (int)k;
        // The same again must not find less than half: what was freed is usable. Of a few blocks, one: there it depends on which
        // of them took the last slab.
        long second = exhaust(size_functions[k], 10000000);
        if (second < (first < 50 ? first > 0 : first / 2))
            return 20 + (int)k;
        if (hide(malloc(SIZE_MAX / 2)) != NULL)
            return 30;
    }
    return 0;
}

static int sweep(int resource, size_t from, size_t to, size_t step)
{
    for (size_t spare = from; spare <= to; spare += step) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(out_of_memory(resource, spare));
        }
        waitpid(child, &status, 0);
        CHECK_MSG(status == 0, "%zu KiB to spare: status %#x", spare / KIB, (unsigned)status);
    }
    return PASS;
}

static int out_of_address_space(void)
{
    return sweep(RLIMIT_AS, 0, 8 * MIB, 92 * KIB);
}

static int out_of_much_address_space(void)
{
    return sweep(RLIMIT_AS, 16 * MIB, 128 * MIB, 37 * MIB + 4 * KIB);
}

static int out_of_data(void)
{
    return sweep(RLIMIT_DATA, 0, 4 * MIB, 260 * KIB);
}

// The block that cannot grow is kept, to the byte.
static int realloc_without_memory(void)
{
    size_t size = 3 * MIB;
    unsigned char *p = hide(malloc(size));

    for (size_t i = 0; i < size; i++)
        p[i] = (unsigned char)(i * 11);
    limit(RLIMIT_AS, proc_bytes("/proc/self/status", "VmSize:") + 2 * MIB);
    errno = 0;
    CHECK(hide(realloc(hide(p), 200 * MIB)) == NULL);
    CHECK_EQ(ENOMEM, errno);
    for (size_t i = 0; i < size; i++)
        CHECK_EQ((unsigned char)(i * 11), p[i]);
    p = hide(realloc(p, 1000));
    CHECK(p != NULL);
    for (size_t i = 0; i < 1000; i++)
        CHECK_EQ((unsigned char)(i * 11), p[i]);
    free(p);
    return PASS;
}

// Room for the difference, not for old and new side by side. The wall keeps it from growing in place.
static int realloc_with_little_room(void)
{
    size_t size = 100 * MIB, step = 512 * KIB;
    unsigned char *wall = hide(malloc(size)), *p = hide(malloc(size));

    CHECK(wall != NULL && p != NULL);
    for (size_t i = 0; i < size; i += 1024)
        p[i] = (unsigned char)(i >> 10);
    limit(RLIMIT_AS, proc_bytes("/proc/self/status", "VmSize:") + 60 * MIB);
    for (size_t n = size; n <= 140 * MIB; n += step) {
        p = hide(realloc(p, n));
        CHECK_MSG(p != NULL, "%zu KiB", n / KIB);
        for (size_t i = 0; i < size; i += 64 * KIB)
            CHECK_EQ((unsigned char)(i >> 10), p[i]);
    }
    free(wall);
    free(p);
    return PASS;
}

// A slab is larger than a few blocks of its class, and aligned: where none fits a block alone does.
static int growth_without_room_for_slabs(void)
{
    size_t size = 64;
    char *p = hide(malloc(size));

    limit(RLIMIT_AS, proc_bytes("/proc/self/status", "VmSize:") + MIB);
    for (;;) {
        char *q = hide(realloc(hide(p), size * 3 / 2));
        if (q == NULL)
            break;
        p = q;
        size = size * 3 / 2;
        p[size - 1] = 1;
    }
    printf("# %zu bytes in the last MiB\n", size);
    CHECK_MSG(size > 128 * KIB, "%zu bytes", size);
    free(p);
    return PASS;
}

static void *exhaust_in_thread(void *wrong)
{
    for (unsigned round = 0; round < 20; round++)
        if (exhaust(size_mixed, 1000000) < 0)
            *(volatile bool *)wrong = true;
    return NULL;
}

static int threads_without_memory(void)
{
    pthread_t thread[4];
    bool wrong = false;

    for (unsigned i = 0; i < COUNT(thread); i++)
        if (pthread_create(&thread[i], NULL, exhaust_in_thread, &wrong) != 0)
            abort();
    limit(RLIMIT_AS, proc_bytes("/proc/self/status", "VmSize:") + 8 * MIB);
    for (unsigned i = 0; i < COUNT(thread); i++)
        pthread_join(thread[i], NULL);
    CHECK(!wrong);
    return PASS;
}

// A thread that is born when nothing is left, not even for what the library keeps per thread.
static void *first_calls_without_memory(void *unused)
{
    (void)unused;
    void *p = hide(malloc(100));
    free(p);
    p = hide(malloc(100000));
    free(p);
    return NULL;
}

static int thread_born_without_memory(void)
{
    static struct link *first;
    struct link *block;
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setstack(
        &attr, mmap(NULL, 256 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        256 * KIB);
    limit(RLIMIT_AS, proc_bytes("/proc/self/status", "VmSize:") + 4 * MIB);
    for (size_t size = MIB; size >= sizeof *block; size /= 2)
        while ((block = hide(malloc(size))) != NULL) {
            block->next = first;
            first = block;
        }
    int rc = pthread_create(&thread, &attr, first_calls_without_memory, NULL);
    if (rc == 0)
        pthread_join(thread, NULL);
    while (first != NULL) {
        block = first->next;
        free(first);
        first = block;
    }
    CHECK(rc == 0 || rc == EAGAIN || rc == ENOMEM);
    CHECK_EQ(0, pthread_create(&thread, &attr, first_calls_without_memory, NULL));
    pthread_join(thread, NULL);
    return PASS;
}

static int aligned_without_memory(void)
{
    limit(RLIMIT_AS, proc_bytes("/proc/self/status", "VmSize:") + 32 * MIB);
    for (unsigned shift = 4; shift < 40; shift++) {
        void *p = NULL;
        int rc = posix_memalign(&p, (size_t)1 << shift, 100);
        CHECK_MSG(rc == 0 || rc == ENOMEM, "alignment 2^%u: %d", shift, rc);
        CHECK_MSG(rc == 0 || shift >= 20, "alignment 2^%u: %d", shift, rc);
        free(p);
        errno = 0;
        p = hide(aligned_alloc((size_t)1 << shift, 3 * MIB));
        CHECK(p != NULL || errno == ENOMEM);
        free(p);
    }
    void *p = hide(malloc(4 * MIB));
    CHECK(p != NULL);
    free(p);
    return PASS;
}

// More blocks than the kernel allows mappings, every second one freed: no mapping per block may be
// left over.
static int many_mappings(void)
{
    static void *block[60000];
    char line[512];
    unsigned nr_mappings = 0;

    for (unsigned i = 0; i < COUNT(block); i++) {
        block[i] = hide(malloc(200 * KIB));
        CHECK_MSG(block[i] != NULL, "block %u", i);
        *(char *)block[i] = 1;
    }
    for (unsigned i = 0; i < COUNT(block); i += 2)
        free(block[i]);
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        nr_mappings++;
    fclose(maps);
    printf("# %u mappings\n", nr_mappings);
    CHECK(nr_mappings < 60000);
    for (unsigned i = 0; i < COUNT(block); i += 2)
        CHECK((block[i] = hide(malloc(100 * KIB))) != NULL);
    for (unsigned i = 0; i < COUNT(block); i++)
        free(block[i]);
    return PASS;
}

// The kernel refuses to split a mapping once there are too many: the library must live with munmap
// that fails.
static int no_mappings_left(void)
{
    static char *filler[70000];
    static void *block[64];
    unsigned nr_filler = 0, nr_blocks = 0;

    for (; nr_blocks < COUNT(block); nr_blocks++)
        memset(block[nr_blocks] = hide(malloc(3 * MIB)), 1, 100);
    // Neighbours with different protection do not merge.
    for (; nr_filler < COUNT(filler); nr_filler++) {
        int protection = nr_filler % 2 != 0 ? PROT_READ : PROT_NONE;
        filler[nr_filler] = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (filler[nr_filler] == MAP_FAILED)
            break;
    }
    for (unsigned i = 0; i < COUNT(block); i += 2)
        free(block[i]);
    long got = 0;
    for (unsigned k = 0; k < COUNT(size_functions); k++) {
        long n = exhaust(size_functions[k], 300);
        CHECK(n >= 0);
        got += n;
    }
    for (unsigned i = 1; i < COUNT(block); i += 2)
        free(block[i]);
    for (unsigned i = 0; i < nr_filler; i++)
        munmap(filler[i], 4096);
    printf("# %u mappings of the test, %ld blocks beside them\n", nr_filler, got);
    CHECK(nr_filler == COUNT(filler) || nr_filler > 1000);
    CHECK(exhaust(size_big, 100) == 100);
    return PASS;
}

// Strict accounting. It is the whole machine's setting, so only on request.
static int strict_overcommit(void)
{
    static const char file[] = "/proc/sys/vm/overcommit_memory";
    char before = '0';
    int result = FAIL, fd = open(file, O_RDWR);

    if (getenv("HK_TEST_OVERCOMMIT") == NULL)
        return skip("changes the machine's setting; HK_TEST_OVERCOMMIT=1 allows it");
    if (fd < 0 || pread(fd, &before, 1, 0) != 1 || pwrite(fd, "2", 1, 0) != 1)
        return skip("cannot write overcommit_memory");
    static const char *const program[] = {"/bin/sh", "-c", "x=$(echo a); test $x = a", NULL};
    if (run_limited(RLIM_INFINITY, program) == 0 && exhaust(size_mixed, 3000) == 3000 &&
        exhaust(size_small, 100000) == 100000)
        result = PASS;
    if (pwrite(fd, &before, 1, 0) != 1)
        printf("# overcommit_memory could not be restored to %c\n", before);
    close(fd);
    return result;
}

static const struct test_case cases[] = {
    {"programs start in 32 MiB of address space", start_in_32_mib, 20},
    {"or fail to start without a signal", start_in_less, 40},
    {"out of address space at every point", out_of_address_space, 60},
    {"out of more address space", out_of_much_address_space, 60},
    {"out of data", out_of_data, 60},
    {"realloc without memory", realloc_without_memory, 0},
    {"realloc with room for the difference alone", realloc_with_little_room, 0},
    {"a growing block in the last MiB", growth_without_room_for_slabs, 0},
    {"threads without memory", threads_without_memory, 30},
    {"a thread is born without memory", thread_born_without_memory, 0},
    {"aligned without memory", aligned_without_memory, 0},
    {"many blocks, few mappings", many_mappings, 20},
    {"no mappings left", no_mappings_left, 20},
    {"strict overcommit", strict_overcommit, 20},
};

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, COUNT(cases));
}
