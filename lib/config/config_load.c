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

struct origin {
    enum option_source source;
    const char *label; /* NULL: the setting shows by itself where it stands */
    unsigned line;     /* of a file; 0: of none */
};

static void put_origin(struct hk_config_line *line, const struct origin *origin)
{
    if (!origin->label)
        return;
    hk_config_put_slice(line, (struct slice){origin->label, hk_min(strlen(origin->label), 80)});
    if (origin->line) {
        hk_config_put(line, ":");
        hk_config_put_number(line, origin->line);
    }
    hk_config_put(line, ": ");
}

/* "origin: ignored "whole": why" */
static void refuse(struct hk_config_draft *draft, const struct origin *origin, struct slice whole,
                   int option, const char *why)
{
    struct hk_config_line line = {.used = 0};
    struct slice quoted = {whole.at, hk_min(whole.length, 160)};

    put_origin(&line, origin);
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

static void refuse_unknown(struct hk_config_draft *draft, const struct origin *origin,
                           struct slice whole, struct slice name)
{
    struct hk_config_line why = {.used = 0};
    int nearest = hk_config_nearest(name);

    hk_config_put(&why, "no such option");
    if (nearest >= 0) {
        hk_config_put(&why, "; did you mean ");
        hk_config_put(&why, hk_config_name((unsigned)nearest));
        hk_config_put(&why, "?");
    }
    refuse(draft, origin, whole, -1, hk_config_line_end(&why));
}

/* `whole` is what is quoted when the setting is refused. */
static void apply(struct hk_config_draft *draft, const struct origin *origin, struct slice whole,
                  struct slice name, struct slice value)
{
    int i = hk_config_find(name);

    if (i < 0) {
        if (!hk_config_is_legacy(name))
            refuse_unknown(draft, origin, whole, name);
        return;
    }
    if (!hk_config_parse((unsigned)i, value, &draft->config)) {
        refuse(draft, origin, whole, i, "accepted: ");
        return;
    }
    draft->source[i] = (uint8_t)origin->source;
    draft->line[i] = (uint16_t)origin->line; /* 32 KiB have fewer */
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

/* O_NONBLOCK: a FIFO must not hang the program. */
int hk_config_open(const char *path)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
}

void hk_config_close(int fd)
{
    syscall(SYS_close, fd);
}

size_t hk_config_read(int fd, char *text, size_t bytes)
{
    for (;;) {
        long n = syscall(SYS_read, fd, text, bytes);
        if (n >= 0)
            return (size_t)n;
        if (errno != EINTR)
            return 0;
    }
}

/* False with errno: not to be read. */
static bool read_file(const char *path, bool trusted_only, struct slice *text)
{
    int fd = hk_config_open(path);
    size_t n = 1;

    *text = (struct slice){file_text, 0};
    if (fd < 0)
        return false;
    if (trusted_only && !is_trusted(fd)) {
        hk_config_close(fd);
        errno = EPERM;
        return false;
    }
    errno = 0;
    while (n > 0 && text->length < sizeof file_text) {
        n = hk_config_read(fd, file_text + text->length, sizeof file_text - text->length);
        text->length += n;
    }
    int error = text->length == 0 ? errno : 0;
    hk_config_close(fd);
    errno = error;
    return error == 0;
}

static void apply_line(struct hk_config_draft *draft, const struct origin *origin, struct slice line)
{
    struct slice comment = line, name, value;

    cut(&comment, '#', &line);
    line = trim(line);
    if (line.length == 0)
        return;
    value = line;
    if (!cut(&value, '=', &name)) {
        refuse(draft, origin, line, -1, "accepted: name = value");
        return;
    }
    apply(draft, origin, line, trim(name), trim(value));
}

static void apply_text(struct hk_config_draft *draft, struct origin origin, struct slice text)
{
    bool full = text.length == sizeof file_text;
    struct slice line;

    for (origin.line = 1; cut(&text, '\n', &line); origin.line++)
        apply_line(draft, &origin, line);
    if (!full) {
        apply_line(draft, &origin, text); /* the last line may lack its newline */
        return;
    }
    origin.line = 0;
    refuse(draft, &origin, hk_config_slice("..."), -1, "the file is longer than 32 KiB");
}

/* Most systems have no such file, and a confined program may not read it: both are silent. */
static void load_system_file(struct hk_config_draft *draft, bool trusted_only)
{
    struct slice text;

    if (read_file(hk_config_file, trusted_only, &text))
        apply_text(draft, (struct origin){SOURCE_FILE, hk_config_file, 0}, text);
}

static const char *read_error(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return "there is no such file";
    case EACCES:
    case EPERM:
        return "no permission to read the file";
    case EISDIR:
        return "this is a directory; accepted: a file of lines name = value";
    case ENXIO: /* open of a socket */
    case ENOTSUP:
        return "this is no regular file; accepted: a file of lines name = value";
    default:
        return "the file cannot be read";
    }
}

/* Not even opened: whoever writes a FIFO would take that for a reader, and some devices act. 0 or errno. */
static int check_kind(const char *path)
{
    struct statx st;

    if (syscall(SYS_statx, AT_FDCWD, path, 0, STATX_TYPE, &st) != 0)
        return errno == ENOSYS ? 0 : errno;
    if ((st.stx_mode & S_IFMT) == S_IFDIR)
        return EISDIR;
    return (st.stx_mode & S_IFMT) == S_IFREG ? 0 : ENOTSUP;
}

/* Somebody asked for this one. Empty is as unset, and so is /dev/null, which people write for "none". */
static void load_conf(struct hk_config_draft *draft, const char *path)
{
    static const struct origin variable = {SOURCE_CONF, "HAKMEM_CONF", 0};
    struct slice text;
    int error;

    if (*path == 0 || strcmp(path, "/dev/null") == 0)
        return;
    error = check_kind(path);
    if (error || !read_file(path, false, &text)) {
        refuse(draft, &variable, hk_config_slice(path), -1, read_error(error ? error : errno));
        return;
    }
    memcpy(hk_config_conf_path, path, hk_min(strlen(path), sizeof hk_config_conf_path - 1));
    apply_text(draft, (struct origin){SOURCE_CONF, path, 0}, text);
}

/*
 * The environment.
 */

/* HAKMEM_<name>=<value> */
static bool is_ours(const char *entry, struct slice *name, struct slice *value)
{
    static HK_START_CONST const char prefix[] = "HAKMEM_";

    if (*entry != *prefix || strncmp(entry, prefix, sizeof prefix - 1) != 0)
        return false; /* the first letter alone for nearly all: this is every process's start */
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

static void load_list(struct hk_config_draft *draft, const struct origin *origin, struct slice rest)
{
    struct slice item, name, value;

    while (rest.length > 0) {
        if (!cut(&rest, ',', &item)) {
            item = rest;
            rest.length = 0;
        }
        value = item;
        if (cut(&value, ':', &name))
            apply(draft, origin, item, name, value);
        else
            refuse(draft, origin, item, -1, "accepted: name:value,name:value");
    }
}

static bool is_option(struct slice name)
{
    return !hk_config_same(name, hk_config_slice("conf")) &&
           !hk_config_same(name, hk_config_slice("options")) &&
           !hk_config_same(name, hk_config_slice("run"));
}

static void load_variables(struct hk_config_draft *draft, char **envp)
{
    static const struct origin origin = {SOURCE_VARIABLE, NULL, 0};
    struct slice name, value;

    for (; envp && *envp; envp++) {
        if (is_ours(*envp, &name, &value) && is_option(name))
            apply(draft, &origin, hk_config_slice(*envp), name, value);
    }
}

bool hk_config_find_run(char **envp, struct hk_config_run *run)
{
    const char *text = find_variable(envp, "run"), *end;

    if (!text || *text < '0' || *text > '9' || text[1] != ';')
        return false;
    run->hops = (char *)(uintptr_t)text;
    run->socket = text + 2;
    end = strchr(run->socket, ';');
    run->options = end ? end + 1 : "";
    end = strchr(run->options, ';');
    run->path = end ? end + 1 : NULL;
    return end != NULL;
}

static void load_run(struct hk_config_draft *draft, char **envp)
{
    static const struct origin origin = {SOURCE_RUN, "hakmem-run", 0};
    struct hk_config_run run;

    if (hk_config_find_run(envp, &run))
        load_list(draft, &origin,
                  (struct slice){run.options, (size_t)(run.path - 1 - run.options)});
}

static void load_all(struct hk_config_draft *draft, char **envp, bool at_secure)
{
    static const struct origin list = {SOURCE_OPTIONS, "HAKMEM_OPTIONS", 0};
    const char *conf = find_variable(envp, "conf");
    const char *options = find_variable(envp, "options");

    load_system_file(draft, at_secure);
    if (conf)
        load_conf(draft, conf);
    if (options)
        load_list(draft, &list, hk_config_slice(options));
    load_variables(draft, envp);
    load_run(draft, envp);
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
