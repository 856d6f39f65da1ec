// SPDX-License-Identifier: MIT
/*
 * policy_file: what was learnt, as text, for the same program's next start.
 *
 *     hakmem-policy 2
 *     build-id 5f3a...          of the main program; "none" if it has none
 *     purge_delay_ms 300        one line per knob, in the order of enum hk_knob
 *     ...
 *     checksum 1b2c...          FNV-1a, 64 bits, of all that stands before
 *
 * Written to NAME.new and renamed, so that a reader sees the old file or the new one. Nothing but exactly this
 * is read: a file that is damaged, cut short, of another program or another version is refused as a whole.
 * System calls only when a program or a user asks for it: at the start, at exit, by call.
 */
#define _GNU_SOURCE
#include "entry/entry_private.h"

#include "acectl/acectl.h"
#include "base/panic.h"
#include "os/os.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <hakmem/hakmem.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_TEXT 1024
#define MAX_BUILD_ID 40 /* bytes */

extern char **environ;

const char *hk_entry_policy_file(void)
{
    static HK_START_CONST const char name[] = "HAKMEM_POLICY_FILE=";

    if (!environ || hk_os_is_secure())
        return NULL;
    for (char **e = environ; *e; e++)
        if (strncmp(*e, name, sizeof name - 1) == 0 && (*e)[sizeof name - 1])
            return *e + sizeof name - 1;
    return NULL;
}

/* ---- build-id ------------------------------------------------------------------------------ */

struct build_id {
    char hex[2 * MAX_BUILD_ID + 1];
};

static void write_hex(char *out, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

static bool find_in_notes(const char *at, const char *end, struct build_id *id)
{
    ElfW(Nhdr) note;

    for (; at + sizeof note <= end; at += sizeof note + hk_align_up(note.n_namesz, 4) +
                                          hk_align_up(note.n_descsz, 4)) {
        const char *desc;
        memcpy(&note, at, sizeof note);
        desc = at + sizeof note + hk_align_up(note.n_namesz, 4);
        if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 || note.n_descsz > MAX_BUILD_ID ||
            desc + note.n_descsz > end || memcmp(at + sizeof note, "GNU", 4) != 0)
            continue;
        write_hex(id->hex, (const unsigned char *)desc, note.n_descsz);
        return true;
    }
    return false;
}

/* The first object that is listed is the program. */
static int find_build_id(struct dl_phdr_info *info, size_t bytes, void *arg)
{
    (void)bytes;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        const char *at = (const char *)info->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_NOTE && find_in_notes(at, at + p->p_memsz, arg))
            break;
    }
    return 1;
}

/* ---- text ---------------------------------------------------------------------------------- */

static uint64_t fnv(const char *text, size_t n)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* The whole file; returns its length. */
static size_t format(char text[MAX_TEXT], const struct hk_arms *arms)
{
    struct build_id id = {"none"};
    size_t n;

    dl_iterate_phdr(find_build_id, &id);
    n = (size_t)snprintf(text, MAX_TEXT, "hakmem-policy 2\nbuild-id %s\n", id.hex);
    for (unsigned k = 0; k < HK_NR_KNOBS; k++)
        n += (size_t)snprintf(text + n, MAX_TEXT - n, "%s %zu\n", hk_acectl_knob_name((enum hk_knob)k),
                              hk_acectl_value((enum hk_knob)k, arms->of[k]));
    return n + (size_t)snprintf(text + n, MAX_TEXT - n, "checksum %016llx\n",
                                (unsigned long long)fnv(text, n));
}

/* The value of the line that starts with `name`, else SIZE_MAX. */
static size_t value_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    size_t value = 0;

    at = at ? at + strlen(name) : NULL;
    if (!at || *at++ != ' ' || *at < '0' || *at > '9')
        return SIZE_MAX;
    for (; *at >= '0' && *at <= '9' && value < SIZE_MAX / 16; at++)
        value = value * 10 + (size_t)(*at - '0');
    return value;
}

/* Reads the numbers, writes the file that has them, and wants to see the same: whatever else stands there, or
 * is missing, is a difference. NULL: it is good. */
static const char *parse(const char *text, size_t n, struct hk_arms *arms)
{
    char again[MAX_TEXT];

    if (n < 16 || memcmp(text, "hakmem-policy 2\n", 16) != 0)
        return "not a policy file of this version";
    for (unsigned k = 0; k < HK_NR_KNOBS; k++) {
        unsigned arm = hk_acectl_arm_of((enum hk_knob)k, value_of(text, hk_acectl_knob_name((enum hk_knob)k)));
        if (arm == HK_ACECTL_ARMS)
            return "policy file is damaged";
        arms->of[k] = (uint8_t)arm;
    }
    if (format(again, arms) == n && memcmp(again, text, n) == 0)
        return NULL;
    return strncmp(strchr(text, '\n'), strchr(again, '\n'), strcspn(again + 16, "\n") + 2) == 0
               ? "policy file is damaged"
               : "policy file of another program";
}

/* ---- files --------------------------------------------------------------------------------- */

/* 0, an error number, or ENOEXEC with *refused set. */
static int read_arms(const char *path, struct hk_arms *arms, const char **refused)
{
    char text[MAX_TEXT + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC), error;
    ssize_t n;

    if (fd < 0)
        return errno;
    n = read(fd, text, MAX_TEXT);
    error = n < 0 ? errno : 0;
    close(fd);
    if (n < 0)
        return error;
    text[n] = '\0';
    *refused = parse(text, (size_t)n, arms);
    return *refused ? ENOEXEC : 0;
}

static void say(const char *what, const char *path)
{
    char text[160];
    size_t n = strlen(what);

    memcpy(text, what, n);
    text[n++] = ':';
    text[n++] = ' ';
    n += strlen(path) < sizeof text - n - 1 ? strlen(path) : sizeof text - n - 1;
    memcpy(text + strlen(what) + 2, path, n - strlen(what) - 2);
    text[n] = '\0';
    hk_warn(text, NULL, NULL);
}

int hk_entry_load_policy(const char *path)
{
    const char *refused = NULL;
    struct hk_arms arms;
    int saved = errno, error = read_arms(path, &arms, &refused);

    if (refused)
        say(refused, path);
    if (error == 0)
        error = hk_entry_set_arms(&arms);
    errno = saved;
    return error;
}

static int write_all(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, text, n);
        if (done < 0)
            return errno;
        text += done;
        n -= (size_t)done;
    }
    return 0;
}

static int save(const char *path, const struct hk_arms *arms)
{
    char text[MAX_TEXT], fresh[PATH_MAX];
    size_t n = format(text, arms), length = strlen(path);
    int fd, error;

    if (length + 5 > sizeof fresh)
        return ENAMETOOLONG;
    memcpy(fresh, path, length);
    memcpy(fresh + length, ".new", 5);
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno;
    error = write_all(fd, text, n);
    if (close(fd) != 0 && error == 0)
        error = errno;
    if (error == 0 && rename(fresh, path) != 0)
        error = errno;
    if (error)
        unlink(fresh);
    return error;
}

HK_EXPORT int hak_policy_save(const char *path)
{
    struct hk_arms arms;
    int saved = errno, error = hk_entry_get_arms(&arms);

    if (error == 0)
        error = save(path, &arms);
    errno = saved;
    return error;
}

HK_EXPORT int hak_policy_load(const char *path)
{
    return hk_entry_load_policy(path);
}
