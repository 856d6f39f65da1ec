// SPDX-License-Identifier: MIT
/* Where settings come from: the environment, and two files. */
#include "config/config_private.h"

#include "base/panic.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *hk_config_file = "/etc/hakmem.conf";

/* Static, because the first allocation may come from a thread with a small stack. Pages that no
 * file fills are never touched. */
static HK_LARGE_BSS char file_text[32 * 1024];

/*
 * One setting.
 */

/* "origin: ignored "whole": why", with the origin of a setting that does not show it by itself. */
static void refuse(struct hk_config_draft *draft, const char *origin, struct slice whole,
                   int option, const char *why)
{
    struct hk_config_line line = {.used = 0};
    struct slice quoted = {whole.at, hk_min(whole.length, 160)};

    if (origin) {
        hk_config_put_slice(&line, (struct slice){origin, hk_min(strlen(origin), 80)});
        hk_config_put(&line, ": ");
    }
    hk_config_put(&line, "ignored \"");
    hk_config_put_slice(&line, quoted);
    hk_config_put(&line, quoted.length < whole.length ? "...\": " : "\": ");
    hk_config_put(&line, why);
    if (option >= 0)
        hk_config_put_range(&line, (unsigned)option);
    hk_warn(hk_config_line_end(&line), NULL, NULL);
    draft->nr_refused++;
}

static struct slice trim(struct slice s)
{
    while (s.length > 0 && strchr(" \t\r", s.at[0]) && s.at[0])
        s = (struct slice){s.at + 1, s.length - 1};
    while (s.length > 0 && strchr(" \t\r", s.at[s.length - 1]) && s.at[s.length - 1])
        s.length--;
    return s;
}

/* Cuts `s` at the first `mark`: what stood before it. False: there is none and `s` is unchanged. */
static bool cut(struct slice *s, char mark, struct slice *before)
{
    const char *at = memchr(s->at, mark, s->length);

    if (!at)
        return false;
    *before = (struct slice){s->at, (size_t)(at - s->at)};
    *s = (struct slice){at + 1, s->length - before->length - 1};
    return true;
}

/* `whole` is what is quoted when the setting is refused. */
static void apply(struct hk_config_draft *draft, const char *origin, struct slice whole,
                  struct slice name, struct slice value, enum option_source source)
{
    int i = hk_config_find(name);

    if (i < 0) {
        if (!hk_config_is_legacy(name))
            refuse(draft, origin, whole, -1, "no such option");
        return;
    }
    if (!hk_config_parse((unsigned)i, value, &draft->config)) {
        refuse(draft, origin, whole, i, "accepted: ");
        return;
    }
    draft->source[i] = (uint8_t)source;
}

/*
 * Files.
 */

/* Only root can have written it. statx: the one stat whose layout no libc hides. */
static bool is_trusted(int fd)
{
    struct statx st;

    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_UID | STATX_MODE, &st) != 0)
        return false;
    return st.stx_uid == 0 && (st.stx_mode & 022) == 0;
}

static struct slice read_all(int fd)
{
    size_t used = 0;

    while (used < sizeof file_text) {
        long n = syscall(SYS_read, fd, file_text + used, sizeof file_text - used);
        if (n == -1 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    return (struct slice){file_text, used};
}

/* O_NONBLOCK: a FIFO must not hang the program. */
static struct slice read_file(const char *path, bool trusted_only)
{
    struct slice text = {file_text, 0};
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);

    if (fd < 0)
        return text;
    if (!trusted_only || is_trusted((int)fd))
        text = read_all((int)fd);
    syscall(SYS_close, fd);
    return text;
}

static void apply_line(struct hk_config_draft *draft, const char *path, struct slice line)
{
    struct slice comment = line, name, value;

    cut(&comment, '#', &line);
    line = trim(line);
    if (line.length == 0)
        return;
    value = line;
    if (!cut(&value, '=', &name)) {
        refuse(draft, path, line, -1, "accepted: name = value");
        return;
    }
    apply(draft, path, line, trim(name), trim(value), SOURCE_FILE);
}

static void load_file(struct hk_config_draft *draft, const char *path, bool trusted_only)
{
    struct slice text = read_file(path, trusted_only);
    bool full = text.length == sizeof file_text;
    struct slice line;

    while (cut(&text, '\n', &line))
        apply_line(draft, path, line);
    if (full)
        refuse(draft, path, hk_config_slice("..."), -1, "the file is longer than 32 KiB");
    else
        apply_line(draft, path, text); /* the last line may lack its newline */
}

/*
 * The environment.
 */

/* HAKMEM_<name>=<value> */
static bool is_ours(const char *entry, struct slice *name, struct slice *value)
{
    static const char prefix[] = "HAKMEM_";

    if (strncmp(entry, prefix, sizeof prefix - 1) != 0)
        return false;
    *value = hk_config_slice(entry + sizeof prefix - 1);
    return cut(value, '=', name);
}

/* The value of HAKMEM_<wanted>, NUL-terminated as all of the environment, or NULL. */
static const char *find_variable(char **envp, const char *wanted)
{
    struct slice name, value;

    for (; envp && *envp; envp++) {
        if (is_ours(*envp, &name, &value) && hk_config_same(name, hk_config_slice(wanted)))
            return value.at;
    }
    return NULL;
}

static void load_list(struct hk_config_draft *draft, const char *text)
{
    static const char origin[] = "HAKMEM_OPTIONS";
    struct slice rest = hk_config_slice(text), item, name, value;

    while (rest.length > 0) {
        if (!cut(&rest, ',', &item)) {
            item = rest;
            rest.length = 0;
        }
        value = item;
        if (cut(&value, ':', &name))
            apply(draft, origin, item, name, value, SOURCE_ENVIRONMENT);
        else
            refuse(draft, origin, item, -1, "accepted: name:value,name:value");
    }
}

static void load_variables(struct hk_config_draft *draft, char **envp)
{
    struct slice name, value;

    for (; envp && *envp; envp++) {
        if (!is_ours(*envp, &name, &value))
            continue;
        if (hk_config_same(name, hk_config_slice("conf")) ||
            hk_config_same(name, hk_config_slice("options")))
            continue;
        apply(draft, NULL, hk_config_slice(*envp), name, value, SOURCE_ENVIRONMENT);
    }
}

static void load_all(struct hk_config_draft *draft, char **envp, bool at_secure)
{
    const char *conf = find_variable(envp, "conf");
    const char *options = find_variable(envp, "options");

    load_file(draft, hk_config_file, at_secure);
    if (conf)
        load_file(draft, conf, false);
    if (options)
        load_list(draft, options);
    load_variables(draft, envp);
}

static _Noreturn void stop(void)
{
    hk_warn("strict: stopped because of the settings above", NULL, NULL);
    if (hk_panic_hook)
        hk_panic_hook();
    abort();
}

void hk_config_load(char **envp)
{
    struct hk_config_draft draft;
    bool at_secure = hk_os_is_secure();
    int saved = errno;

    hk_config_draft_begin(&draft);
    load_all(&draft, at_secure ? NULL : envp, at_secure);
    hk_config_draft_publish(&draft);
    if (draft.config.strict && draft.nr_refused > 0)
        stop();
    errno = saved;
}
