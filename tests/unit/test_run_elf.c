// SPDX-License-Identifier: MIT
/* hakmem-run's reader of ELF files, on files made to harm it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "../../tools/run/elf.h"

#include "child.h"

#include <check.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <sys/mman.h>

/* Larger than can be walked in time, and sparse. */
#define FILE_BYTES (sizeof(off_t) == 8 && sizeof(size_t) == 8 ? (off_t)((uint64_t)1 << 40) : (off_t)0x7fff0000)

static unsigned char *original; /* this program */
static size_t original_bytes;

static void setup(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    ssize_t n;

    original_bytes = (size_t)lseek(fd, 0, SEEK_END);
    original = malloc(original_bytes);
    ck_assert_ptr_nonnull(original);
    n = pread(fd, original, original_bytes, 0);
    ck_assert_int_eq(n, (ssize_t)original_bytes);
    close(fd);
}

static struct elf_facts read_bytes(const void *bytes, size_t size)
{
    struct elf_facts facts;
    int fd = memfd_create("elf", 0);

    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
        abort();
    elf_read(fd, &facts);
    close(fd);
    return facts;
}

START_TEST(itself)
{
    struct elf_facts facts = read_bytes(original, original_bytes);

    ck_assert_int_eq(facts.kind, ELF_NATIVE);
    ck_assert_uint_eq(facts.bits, sizeof(void *) * 8);
    ck_assert(facts.is_dynamic);
    ck_assert(facts.defines_malloc == UNDER_TSAN);
}
END_TEST

/* A file cut anywhere is ELF_NOT, broken, or has said all before the cut. */
START_TEST(cut)
{
    for (size_t n = 0; n < 4096 && n < original_bytes; n++) {
        struct elf_facts facts = read_bytes(original, n);
        if (n < SELFMAG)
            ck_assert_int_eq(facts.kind, ELF_NOT);
        else if (n < sizeof(ElfW(Ehdr)))
            ck_assert_int_eq(facts.kind, ELF_BROKEN);
        ck_assert(facts.kind != ELF_BROKEN || facts.why);
    }
}
END_TEST

/* The places that are read: the header, the program headers, the dynamic section and its tables. */
static size_t pick_place(const ElfW(Ehdr) *header, unsigned what)
{
    const ElfW(Phdr) *phdr = (const void *)(original + header->e_phoff);
    size_t dynamic = 0;

    for (unsigned i = 0; i < header->e_phnum; i++)
        if (phdr[i].p_type == PT_DYNAMIC)
            dynamic = phdr[i].p_offset;
    switch (what % 4) {
    case 0:
        return (size_t)rand() % sizeof *header;
    case 1:
        return header->e_phoff + (size_t)rand() % (header->e_phnum * sizeof *phdr);
    case 2:
        return dynamic + (size_t)rand() % 512;
    default:
        return (size_t)rand() % 8192; /* hash, symbols, strings */
    }
}

/* The low `bytes` (1 to 8) of a value, as this machine has them in memory. */
static void put(int fd, uint64_t value, size_t bytes, size_t place)
{
    const unsigned char *low = (const unsigned char *)&value;

    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
        low += sizeof value - bytes;
    if (pwrite(fd, low, bytes, (off_t)place) != (ssize_t)bytes)
        abort();
}

static void mutate(void)
{
    static const uint64_t values[] = {0, 1, 2, 7, 0xff, 0xffff, 0x7fffffff, 0xffffffff, 0x100000000,
                                      INT64_MAX, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    int fd = memfd_create("elf", 0);
    unsigned kinds[4] = {0};
    ElfW(Ehdr) header;

    memcpy(&header, original, sizeof header);
    if (fd < 0 || write(fd, original, original_bytes) != (ssize_t)original_bytes)
        abort();
    for (int round = 0; round < 50000; round++) {
        size_t place[4], nr = 1 + (size_t)rand() % 4;
        struct elf_facts facts;
        for (size_t n = 0; n < nr; n++) {
            uint64_t value = values[(size_t)rand() % (sizeof values / sizeof *values)];
            place[n] = pick_place(&header, (unsigned)rand()) & ~(size_t)(rand() % 2 ? 7 : 0);
            ck_assert_uint_le(place[n], original_bytes - 8);
            put(fd, value, (size_t)1 << rand() % 4, place[n]);
        }
        elf_read(fd, &facts);
        kinds[facts.kind]++;
        for (size_t n = 0; n < nr; n++)
            if (pwrite(fd, original + place[n], 8, (off_t)place[n]) != 8)
                abort();
    }
    close(fd);
    /* All ways out were taken, or this has tested little. */
    if (!kinds[ELF_NOT] || !kinds[ELF_BROKEN] || !kinds[ELF_FOREIGN] || kinds[ELF_NATIVE] < 1000)
        _exit(3);
}

START_TEST(mutated)
{
    const char *seed = getenv("HK_TEST_SEED");

    srand(seed ? (unsigned)strtoul(seed, NULL, 0) : 1);
    struct child child = run_child(mutate);
    ck_assert_msg(child_exited_0(&child), "status %#x; HK_TEST_SEED=%s repeats it", child.status,
                  seed ? seed : "1");
}
END_TEST

/* A hash chain without end in a file of holes: the walk is bounded. */
START_TEST(endless_chain)
{
    struct {
        ElfW(Ehdr) header;
        ElfW(Phdr) phdr[3];
        ElfW(Dyn) dyn[4];
        uint32_t hash[5];
    } file = {.header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, sizeof(void *) == 8 ? 2 : 1,
                                     __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 1 : 2, 1},
                         .e_type = ET_DYN,
                         .e_phoff = sizeof(ElfW(Ehdr)),
                         .e_phentsize = sizeof(ElfW(Phdr)),
                         .e_phnum = 3}};
    size_t dyn_at = (size_t)((char *)file.dyn - (char *)&file);
    size_t hash_at = (size_t)((char *)file.hash - (char *)&file);
    struct elf_facts facts;
    int fd = memfd_create("elf", 0);

    file.phdr[0] = (ElfW(Phdr)){.p_type = PT_LOAD, .p_filesz = FILE_BYTES};
    file.phdr[1] = (ElfW(Phdr)){.p_type = PT_DYNAMIC, .p_offset = dyn_at, .p_filesz = sizeof file.dyn};
    file.phdr[2] = (ElfW(Phdr)){.p_type = PT_INTERP};
    file.dyn[0] = (ElfW(Dyn)){.d_tag = DT_GNU_HASH, .d_un.d_ptr = hash_at};
    file.dyn[1] = (ElfW(Dyn)){.d_tag = DT_SYMTAB, .d_un.d_ptr = 1 << 20};
    file.dyn[2] = (ElfW(Dyn)){.d_tag = DT_STRTAB, .d_un.d_ptr = 2 << 20};
    file.hash[0] = 1; /* one bucket, no Bloom filter, all chain words even */
    ck_assert_int_eq(write(fd, &file, sizeof file), sizeof file);
    ck_assert_int_eq(ftruncate(fd, FILE_BYTES), 0);
    elf_read(fd, &facts);
    ck_assert_int_eq(facts.kind, ELF_NATIVE);
    ck_assert(facts.is_dynamic && !facts.defines_malloc);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_elf");
    TCase *tc = tcase_create("files");

    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, itself);
    tcase_add_test(tc, cut);
    tcase_add_test(tc, mutated);
    tcase_add_test(tc, endless_chain);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
