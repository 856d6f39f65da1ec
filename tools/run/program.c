// SPDX-License-Identifier: MIT
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_DEPTH 5       /* of #! lines, as the kernel's */
#define LINE_BYTES 256    /* of a #! line that the kernel looks at */
#define MAX_WORDS 64      /* of env -S */
#define MAX_EXECS 9       /* one digit in HAKMEM_RUN */

struct search {
    const char *library;
    const struct elf_facts *library_facts;
    struct program *program;
    unsigned depth;
};

static int follow(struct search *search, const char *path, char *const *args);

/* ---- PATH ---------------------------------------------------------------------------------- */

/* 0 or errno, as execve would say. */
static int executable(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0)
        return EACCES;
    return 0;
}

static int copy_path(char *to, const char *directory, size_t length, const char *name)
{
    const char *slash = length ? "/" : ""; /* an empty entry is the current directory */
    int n = snprintf(to, PATH_MAX, "%.*s%s%s", (int)length, directory, slash, name);

    return n < 0 || n >= PATH_MAX ? ENAMETOOLONG : 0;
}

/* As execvp: 0 or errno. */
static int search_path(const char *name, char *found)
{
    const char *list = getenv("PATH");
    int result = ENOENT;

    if (!*name)
        return ENOENT;
    if (strchr(name, '/')) {
        int error = copy_path(found, "", 0, name);
        return error ? error : executable(found);
    }
    if (strlen(name) > NAME_MAX)
        return ENAMETOOLONG;
    if (!list)
        list = "/bin:/usr/bin";
    for (;; list++) {
        size_t length = strcspn(list, ":");
        int error = length > PATH_MAX ? ENAMETOOLONG : copy_path(found, list, length, name);
        if (!error)
            error = executable(found);
        if (!error)
            return 0;
        if (error == EACCES)
            result = EACCES; /* unless a later one will do */
        list += length;
        if (!*list)
            return result;
    }
}

static int status_of(int error)
{
    return error == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN; /* as env(1) */
}

/* ---- env ----------------------------------------------------------------------------------- */

static bool is_env(const char *path)
{
    const char *slash = strrchr(path, '/');

    return strcmp(slash ? slash + 1 : path, "env") == 0;
}

static bool takes_word(const char *option)
{
    static const char *const options[] = {"-u", "--unset", "-C", "--chdir"};

    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (strcmp(option, options[i]) == 0)
            return true;
    return false;
}

/* -i, -u LD_PRELOAD: then the library does not get past env. */
static bool clears_preload(const char *option, const char *next)
{
    if (strcmp(option, "-u") == 0 || strcmp(option, "--unset") == 0)
        return next && strcmp(next, "LD_PRELOAD") == 0;
    return strcmp(option, "-") == 0 || strcmp(option, "-i") == 0 ||
           strcmp(option, "--ignore-environment") == 0 || strcmp(option, "-uLD_PRELOAD") == 0 ||
           strcmp(option, "--unset=LD_PRELOAD") == 0;
}

static char *const *follow_words(char *const *args, char *buffer, size_t bytes, char **words);

/* The command among env's arguments (without its own name), or NULL. */
static char *const *env_command(char *const *args, char *buffer, size_t bytes, char **words)
{
    for (; *args; args++) {
        const char *a = *args;
        if (strncmp(a, "-S", 2) == 0 || strncmp(a, "--split-string", 14) == 0)
            return follow_words(args, buffer, bytes, words);
        if (strcmp(a, "--") == 0) {
            args++;
            break;
        }
        if (clears_preload(a, args[1]))
            say("warning: env %s takes LD_PRELOAD away: the library will not be loaded", a);
        if (takes_word(a) && args[1])
            args++;
        else if (*a != '-')
            break;
    }
    while (*args && strchr(*args, '='))
        args++;
    return *args ? args : NULL;
}

/* -S "a b c" d: a, b, c, d are the arguments. Blanks alone part them: quotes in a program's name are rare,
 * and then the program goes unchecked. */
static char *const *follow_words(char *const *args, char *buffer, size_t bytes, char **words)
{
    const char *text = *args + 2;
    size_t n = 0;
    char *save = NULL;

    if (strncmp(*args, "--split-string", 14) == 0)
        text = *args + 14 + (*(*args + 14) == '=');
    if (!*text && args[1])
        text = *++args;
    if ((size_t)snprintf(buffer, bytes, "%s", text) >= bytes)
        return NULL;
    for (char *word = strtok_r(buffer, " \t", &save); word && n < MAX_WORDS;
         word = strtok_r(NULL, " \t", &save))
        words[n++] = word;
    while (*++args && n < MAX_WORDS)
        words[n++] = *args;
    words[n] = NULL;
    for (size_t i = 0; i < n; i++)
        if (strncmp(words[i], "-S", 2) == 0)
            return NULL; /* within itself */
    return env_command(words, buffer, 0, words);
}

/* env will exec its command, and the library has to come along once more. What env will not find is for
 * env to say. */
static int follow_env(struct search *search, char *const *args)
{
    char buffer[LINE_BYTES + PATH_MAX], found[PATH_MAX], *words[MAX_WORDS + 1];
    char *const *command = env_command(args, buffer, sizeof buffer, words);

    if (!command)
        return 0;
    if (++search->program->nr_execs > MAX_EXECS) {
        say("%s: env within env, too often", *command);
        return STATUS_REFUSED;
    }
    if (search_path(*command, found) != 0)
        return 0;
    search->depth++;
    return follow(search, found, command);
}

/* ---- scripts ------------------------------------------------------------------------------- */

/* "#! /bin/interpreter one argument": the last is NULL when there is none. */
static bool parse_line(char *line, char **interpreter, char **argument)
{
    size_t length = strcspn(line, "\n");

    line[length] = 0;
    while (length > 2 && strchr(" \t", line[length - 1]))
        line[--length] = 0;
    *interpreter = line + 2 + strspn(line + 2, " \t");
    *argument = *interpreter + strcspn(*interpreter, " \t");
    if (**argument) {
        *(*argument)++ = 0;
        *argument += strspn(*argument, " \t");
    } else {
        *argument = NULL;
    }
    return **interpreter != 0;
}

static int follow_script(struct search *search, const char *path, char *line)
{
    char script[PATH_MAX], *interpreter, *argument;
    int error;

    if (!parse_line(line, &interpreter, &argument)) {
        say("%s: its #! line names no interpreter", path);
        return STATUS_CANNOT_RUN;
    }
    error = executable(interpreter);
    if (error) {
        say("%s: its interpreter %s: %s", path, interpreter, strerror(error));
        return status_of(error);
    }
    if (++search->depth > MAX_DEPTH) {
        say("%s: %s", path, strerror(ELOOP));
        return STATUS_CANNOT_RUN;
    }
    snprintf(script, sizeof script, "%s", path);
    char *const args[] = {interpreter, argument ? argument : script, argument ? script : NULL, NULL};
    return follow(search, interpreter, args);
}

/* ---- programs ------------------------------------------------------------------------------ */

static const char *machine_name(unsigned machine)
{
    static const struct {
        unsigned number;
        const char *name;
    } names[] = {{3, "i386"},     {8, "MIPS"},      {20, "PowerPC"},  {21, "PowerPC64"}, {22, "S390"},
                 {40, "ARM"},     {43, "SPARC V9"}, {62, "x86-64"},   {183, "AArch64"},  {243, "RISC-V"},
                 {258, "LoongArch"}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == machine)
            return names[i].name;
    return "unknown machine";
}

/* Privileges that execve would add make the loader drop LD_PRELOAD. */
static const char *privilege(int fd)
{
    struct stat st;
    char caps[64];

    if (fstat(fd, &st) != 0)
        return NULL;
    if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
        return "a set-user-ID program";
    if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid())
        return "a set-group-ID program";
    if (getuid() != 0 && fgetxattr(fd, "security.capability", caps, sizeof caps) > 0)
        return "a program with file capabilities";
    return NULL;
}

static int check_elf(const struct search *search, const char *path, int fd, const struct elf_facts *elf)
{
    const struct elf_facts *library = search->library_facts;
    const char *why = privilege(fd);

    if (elf->kind == ELF_BROKEN) {
        say("%s: not a proper ELF file: %s", path, elf->why);
        return STATUS_CANNOT_RUN;
    }
    if (elf->bits != library->bits || elf->machine != library->machine ||
        elf->little_endian != library->little_endian) {
        say("%s is a %u-bit program (%s), but %s is for %u bits (%s)", path, elf->bits,
            machine_name(elf->machine), search->library, library->bits, machine_name(library->machine));
        return STATUS_REFUSED;
    }
    if (!elf->is_dynamic) {
        say("%s is statically linked: nothing can be preloaded into it; link it with libhakmem.a instead",
            path);
        return STATUS_REFUSED;
    }
    if (why) {
        say("%s is %s: the loader preloads nothing into it", path, why);
        return STATUS_REFUSED;
    }
    if (elf->defines_malloc)
        say("warning: %s defines malloc itself and will use its own", path);
    return 0;
}

static int check_file(struct search *search, const char *path, int fd, char *const *args)
{
    char line[LINE_BYTES + 1];
    struct elf_facts elf;
    ssize_t n = pread(fd, line, LINE_BYTES, 0);
    int status;

    line[n > 0 ? n : 0] = 0;
    if (strncmp(line, "#!", 2) == 0)
        return follow_script(search, path, line);
    elf_read(fd, &elf);
    if (elf.kind == ELF_NOT) { /* the kernel may know it by binfmt_misc; else the shell runs it, as execvp */
        search->program->is_script |= search->depth == 0;
        return search->depth == 0 ? (search->depth++, follow(search, "/bin/sh", args)) : 0;
    }
    status = check_elf(search, path, fd, &elf);
    snprintf(search->program->final, sizeof search->program->final, "%s", path);
    if (status == 0 && is_env(path))
        return follow_env(search, args + 1);
    return status;
}

/* args: as the program will get them. */
static int follow(struct search *search, const char *path, char *const *args)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), status;

    if (search->depth > MAX_DEPTH + MAX_EXECS) {
        say("%s: %s", path, strerror(ELOOP));
        status = STATUS_CANNOT_RUN;
    } else if (fd < 0) {
        status = 0; /* executable but not readable: nothing to check */
    } else {
        status = check_file(search, path, fd, args);
    }
    if (fd >= 0)
        close(fd);
    return status;
}

int program_find(char **argv, const char *library, const struct elf_facts *library_facts,
                 struct program *program)
{
    struct search search = {library, library_facts, program, 0};
    int error;

    memset(program, 0, sizeof *program);
    error = search_path(argv[0], program->path);
    if (error) {
        say("%s: %s", *argv[0] ? argv[0] : "\"\"",
            error == ENOENT && !strchr(argv[0], '/') ? "command not found" : strerror(error));
        return status_of(error);
    }
    snprintf(program->final, sizeof program->final, "%s", program->path);
    return follow(&search, program->path, argv);
}
