// SPDX-License-Identifier: MIT
/*
 * hakmem-run: runs a command under libhakmem. hakmem-run(1) has the promises.
 *
 * It becomes the command by execve, after a look at what the command is (program.c) and with somebody left
 * behind who listens whether the library arrives (watch.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "elf.h"
#include "program.h"
#include "watch.h"

#include <hakmem/hakmem.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SONAME "libhakmem.so.0"
#define OPTIONS_BYTES 4096
#define STRING(x) #x
#define VERSION(a, b, c) STRING(a) "." STRING(b) "." STRING(c)

struct request {
    char options[OPTIONS_BYTES]; /* name:value,... */
    size_t used;
    bool inherit, verbose;
};

/* One write, so that lines of several processes do not mix. No stdio: stderr may be anything. */
void say(const char *format, ...)
{
    char line[2 * PATH_MAX + 512];
    va_list rest;
    size_t n = (size_t)snprintf(line, sizeof line, "hakmem-run: ");

    va_start(rest, format);
    n += (size_t)vsnprintf(line + n, sizeof line - n, format, rest);
    va_end(rest);
    if (n > sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nobody to tell */
}

/* ---- the library --------------------------------------------------------------------------- */

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* directory/relative/libhakmem.so.0, if it is there: `found` is its path without detours. */
static bool try_library(const char *directory, const char *relative, char *found)
{
    char path[2 * PATH_MAX], *real;
    char *slash;

    if ((size_t)snprintf(path, sizeof path, "%s%s/" SONAME, directory, relative) >= sizeof path ||
        !is_file(path))
        return false;
    /* The directory's own name; the library keeps its soname, which is a link. */
    slash = strrchr(path, '/');
    *slash = 0;
    real = realpath(path, NULL);
    if (!real || (size_t)snprintf(found, PATH_MAX, "%s/" SONAME, real) >= PATH_MAX) {
        free(real);
        return false;
    }
    free(real);
    return true;
}

/* In the tree where it was built; as installed, wherever the tree of the prefix has been moved; as
 * configured. */
static bool find_library(char *found)
{
    static const char prefix[] = HK_PREFIX, libdir[] = HK_LIBDIR;
    char self[PATH_MAX], relative[PATH_MAX] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    if (n > 0) {
        self[n] = 0;
        slash = strrchr(self, '/');
        *slash = 0;
        if (try_library(self, "/../.libs", found))
            return true;
        if (strncmp(libdir, prefix, sizeof prefix - 1) == 0)
            snprintf(relative, sizeof relative, "/..%s", libdir + sizeof prefix - 1);
        if (*relative && try_library(self, relative, found))
            return true;
    }
    return try_library(libdir, "", found);
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The loader's cache names every library that it finds without being told where. It says /lib for /usr/lib where
 * the one is a link to the other. */
static bool is_in_cache(const char *path)
{
    const char *merged = strncmp(path, "/usr/lib", 8) == 0 && is_same_file(path, path + 4) ? path + 4 : path;
    int fd = open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC);
    struct stat st;
    char *text = NULL;
    bool found = false;

    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size < 64 << 20)
        text = malloc((size_t)st.st_size);
    if (text && read(fd, text, (size_t)st.st_size) == st.st_size)
        found = memmem(text, (size_t)st.st_size, path, strlen(path) + 1) != NULL ||
                memmem(text, (size_t)st.st_size, merged, strlen(merged) + 1) != NULL;
    free(text);
    close(fd);
    return found;
}

static bool read_library(const char *path, struct elf_facts *facts)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        say("%s: %s", path, strerror(errno));
        return false;
    }
    elf_read(fd, facts);
    close(fd);
    if (facts->kind == ELF_NATIVE || facts->kind == ELF_FOREIGN)
        return true;
    say("%s: not a library: %s", path, facts->kind == ELF_NOT ? "no ELF file" : facts->why);
    return false;
}

/* ---- options ------------------------------------------------------------------------------- */

static const char usage_text[] =
    "Usage: hakmem-run [--mode MODE] [--option NAME:VALUE]... [--inherit] [--report] [--verbose]\n"
    "                  [--] COMMAND [ARGUMENT]...\n"
    "Run COMMAND with libhakmem as its malloc.\n"
    "\n"
    "  -m, --mode MODE          minimal, fast, balanced, learning or research\n"
    "  -o, --option NAME:VALUE  an option of hakmem.conf(5); may be repeated\n"
    "  -i, --inherit            programs that COMMAND starts get the library as well\n"
    "  -r, --report             print the allocator's counters on stderr when COMMAND exits\n"
    "  -v, --verbose            say what is done, on stderr\n"
    "      --help, --version\n"
    "\n"
    "The exit status is COMMAND's; 125: hakmem-run failed; 126: COMMAND cannot be run;\n"
    "127: COMMAND was not found.\n";

/* The list is parted by commas; inside a value a slash does as well. */
static bool add_option(struct request *request, const char *name, const char *value)
{
    size_t room = sizeof request->options - request->used;
    int n = snprintf(request->options + request->used, room, "%s%s:%s", request->used ? "," : "", name,
                     value);
    char *start = request->options + request->used + (request->used != 0);

    if (n < 0 || (size_t)n >= room) {
        say("too many options");
        return false;
    }
    request->used += (size_t)n;
    for (; *start; start++)
        if (*start == ',')
            *start = '/';
    return true;
}

static bool add_setting(struct request *request, char *setting)
{
    char *colon = strchr(setting, ':');

    if (!colon || colon == setting || strpbrk(setting, ";\n")) {
        say("--option %s: expected NAME:VALUE", setting);
        return false;
    }
    *colon = 0;
    return add_option(request, setting, colon + 1);
}

static bool add_mode(struct request *request, const char *mode)
{
    if (*mode && !strpbrk(mode, ";,:\n"))
        return add_option(request, "mode", mode);
    say("--mode %s: expected minimal, fast, balanced, learning or research", mode);
    return false;
}

static _Noreturn void print_and_exit(const char *text)
{
    bool good = fputs(text, stdout) >= 0 && fflush(stdout) == 0;

    if (!good)
        say("standard output: %s", strerror(errno));
    exit(good ? 0 : STATUS_REFUSED);
}

static bool refuse_option(int what, const char *word)
{
    say("%s: %s; see hakmem-run --help", word, what == ':' ? "its argument is missing" : "no such option");
    return false;
}

/* False: it has been said what is wrong. */
static bool parse(int argc, char **argv, struct request *request)
{
    static const struct option options[] = {
        {"mode", required_argument, NULL, 'm'},   {"option", required_argument, NULL, 'o'},
        {"inherit", no_argument, NULL, 'i'},      {"report", no_argument, NULL, 'r'},
        {"verbose", no_argument, NULL, 'v'},      {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0},
    };
    bool good = true;
    int c;

    opterr = 0; /* said here, under our name and not that of the path */
    while (good && (c = getopt_long(argc, argv, "+:m:o:irv", options, NULL)) != -1) {
        if (c == 'm')
            good = add_mode(request, optarg);
        else if (c == 'o')
            good = add_setting(request, optarg);
        else if (c == 'i')
            request->inherit = true;
        else if (c == 'r')
            good = add_option(request, "stats_dump", "on");
        else if (c == 'v')
            request->verbose = true;
        else if (c == 'h')
            print_and_exit(usage_text);
        else if (c == 'V')
            print_and_exit("hakmem-run (libhakmem) " VERSION(HAKMEM_VERSION_MAJOR, HAKMEM_VERSION_MINOR,
                                                             HAKMEM_VERSION_PATCH) "\n");
        else
            good = refuse_option(c, argv[optind - 1]);
    }
    if (good && optind == argc) {
        say("no command; see hakmem-run --help");
        good = false;
    }
    return good;
}

/* ---- running ------------------------------------------------------------------------------- */

/* Descriptors of ours must not become 0, 1 or 2. These are closed again by the exec. */
static void fill_standard_streams(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static bool set_environment(const struct request *request, const struct program *program,
                            const struct watch *watch, const char *item)
{
    const char *old = getenv("LD_PRELOAD");
    char *preload = NULL, *run = NULL;
    bool good = asprintf(&preload, "%s%s%s", item, old && *old ? ":" : "", old ? old : "") >= 0 &&
                asprintf(&run, "%u;%s;%s;%s", program->nr_execs, watch->fd < 0 ? "" : watch->name,
                         request->options, request->inherit ? "" : item) >= 0 &&
                setenv("LD_PRELOAD", preload, 1) == 0 && setenv("HAKMEM_RUN", run, 1) == 0;

    if (good && request->verbose)
        say("LD_PRELOAD=%s", preload);
    free(preload);
    free(run);
    return good;
}

/* As execvp does with what the kernel does not know. Returns only on failure. */
static void execute_by_shell(const char *path, char **argv)
{
    static char shell[] = "/bin/sh";
    size_t argc = 0;
    char **shell_argv;

    while (argv[argc])
        argc++;
    shell_argv = calloc(argc + 2, sizeof *shell_argv);
    if (!shell_argv)
        return;
    shell_argv[0] = shell;
    shell_argv[1] = strdup(path);
    memcpy(shell_argv + 2, argv + 1, argc * sizeof *argv); /* with the NULL */
    if (shell_argv[1])
        execv(shell, shell_argv);
}

static int execute(const struct program *program, char **argv)
{
    execv(program->path, argv);
    if (errno == ENOEXEC && program->is_script)
        execute_by_shell(program->path, argv);
    say("%s: %s", program->path, strerror(errno));
    return errno == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
}

static int run(const struct request *request, char **argv)
{
    char library[PATH_MAX];
    const char *item = library;
    struct elf_facts facts;
    struct program program;
    struct watch watch = {.fd = -1};
    int status;

    if (!find_library(library)) {
        say("%s: not found in %s, nor beside hakmem-run", SONAME, HK_LIBDIR);
        return STATUS_REFUSED;
    }
    if (is_in_cache(library))
        item = SONAME; /* no architecture's path: a child of another one finds its own */
    if (strpbrk(item, ": \t\n;")) {
        say("%s: a path with a colon or a blank cannot be preloaded", library);
        return STATUS_REFUSED;
    }
    if (!read_library(library, &facts))
        return STATUS_REFUSED;
    status = program_find(argv, library, &facts, &program);
    if (status)
        return status;
    /* Process 1 would be the parent of the one that watches. */
    if (getpid() != 1 && !watch_open(&watch))
        say("warning: no socket (%s): it will not be noticed if the library is not loaded", strerror(errno));
    if (!set_environment(request, &program, &watch, item)) {
        say("%s", strerror(ENOMEM));
        return STATUS_REFUSED;
    }
    if (request->verbose)
        say("%s comes down to %s", argv[0], program.final);
    watch_start(&watch, program.final, library, request->verbose);
    status = execute(&program, argv);
    watch_cancel(&watch);
    return status;
}

int main(int argc, char **argv)
{
    struct request request = {.used = 0};

    fill_standard_streams();
    /* So that hakmem-stats may look without a right to trace; an --option comes after it and wins. */
    if (!getenv("HAKMEM_STATS"))
        (void)add_option(&request, "stats", "export");
    if (!parse(argc, argv, &request))
        return STATUS_REFUSED;
    return run(&request, argv + optind);
}
