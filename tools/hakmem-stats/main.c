// SPDX-License-Identifier: MIT
/* hakmem-stats: arguments to commands. hakmem-stats(1) is the manual. */
#include "config.h"

#include "doctor.h"
#include "export.h"
#include "output.h"
#include "run.h"
#include "snapshot.h"
#include "threshold.h"
#include "top.h"
#include "views.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what the command line says ------------------------------------------------------------ */

struct arguments {
    const char *command;
    char **operands;
    int nr_operands;
    const char *file; /* -o */
    const char *exe, *format;
    enum site_order order;
    unsigned limit, count;
    double seconds;
    char sort;
    struct threshold thresholds[MAX_THRESHOLDS];
    unsigned nr_thresholds;
    struct problem problem;
};

enum {
    OPTION_JSON = 256,
    OPTION_BYTES,
    OPTION_COLOR,
    OPTION_NO_COLOR,
    OPTION_FAIL_IF,
    OPTION_EXE,
    OPTION_FORMAT,
    OPTION_SORT,
    OPTION_LIMIT,
    OPTION_COUNT
};

static const struct option long_options[] = {
    {"json", no_argument, NULL, OPTION_JSON},
    {"bytes", no_argument, NULL, OPTION_BYTES},
    {"color", no_argument, NULL, OPTION_COLOR},
    {"no-color", no_argument, NULL, OPTION_NO_COLOR},
    {"fail-if", required_argument, NULL, OPTION_FAIL_IF},
    {"exe", required_argument, NULL, OPTION_EXE},
    {"format", required_argument, NULL, OPTION_FORMAT},
    {"sort", required_argument, NULL, OPTION_SORT},
    {"limit", required_argument, NULL, OPTION_LIMIT},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"output", required_argument, NULL, 'o'},
    {"interval", required_argument, NULL, 'n'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static const char usage_text[] =
    "usage: hakmem-stats COMMAND [options] [arguments]\n"
    "\n"
    "  list                     processes that use libhakmem\n"
    "  show PID                 where memory is, and counters by part\n"
    "  top [-n SECONDS] [PID]   live view; --sort live|rss|slow|kept|pid, --count N\n"
    "  sites PID                call sites; --sort bytes|count|lifetime, --limit N\n"
    "  hist PID                 sizes and times as bars\n"
    "  why PID                  the policy in force, and what a learner chose it by\n"
    "  config PID               options and where each came from\n"
    "  snapshot PID [-o FILE]   keep all of it in a file\n"
    "  diff A B                 what grew between two snapshots (or processes)\n"
    "  export PID --format F    json, ndjson, csv, prometheus, pprof, heap_v2; -o FILE\n"
    "  run [options] -- CMD     run CMD under libhakmem and report\n"
    "  core FILE [--exe EXE] [VIEW]   show, sites, hist, why, config, snapshot or export of a core "
    "dump\n"
    "  doctor [PID]             what gets in the way, and what to change\n"
    "\n"
    "PID may also be a snapshot's path. Everywhere: --json, --bytes (exact numbers), --no-color,\n"
    "--fail-if 'live>2G' (exit status 1), --help, --version.\n"
    "Exit status: 0, 1 threshold breached, 2 usage, 3 no such process or no export, 4 permission,\n"
    "5 another version's layout.\n";

static int wrong(struct arguments *a, const char *what, const char *value)
{
    return problem_set(&a->problem, EXIT_USAGE, "%s: %.100s (hakmem-stats --help)", what, value);
}

static int parse_count(struct arguments *a, const char *text, unsigned *value)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || number > UINT_MAX)
        return wrong(a, "not a number", text);
    *value = (unsigned)number;
    return 0;
}

static int parse_sort(struct arguments *a, const char *text)
{
    static const struct {
        const char *name;
        char top;
        int order;
    } orders[] = {{"bytes", 'l', SITES_BY_BYTES},
                  {"live", 'l', SITES_BY_BYTES},
                  {"count", 'l', SITES_BY_COUNT},
                  {"lifetime", 'l', SITES_BY_LIFETIME},
                  {"rss", 'r', 0},
                  {"slow", 's', 0},
                  {"kept", 'd', 0},
                  {"pid", 'p', 0}};

    for (unsigned i = 0; i < sizeof orders / sizeof *orders; i++)
        if (strcmp(orders[i].name, text) == 0) {
            a->sort = orders[i].top;
            a->order = (enum site_order)orders[i].order;
            return 0;
        }
    return wrong(a, "no such order", text);
}

static int parse_seconds(struct arguments *a, const char *text)
{
    char *end;

    a->seconds = strtod(text, &end);
    if (end == text || *end || !(a->seconds >= 0.05 && a->seconds <= 86400))
        return wrong(a, "not an interval of 0.05 to 86400 seconds", text);
    return 0;
}

static int add_threshold(struct arguments *a, const char *text)
{
    if (a->nr_thresholds == MAX_THRESHOLDS)
        return wrong(a, "too many thresholds", text);
    return threshold_parse(text, &a->thresholds[a->nr_thresholds++], &a->problem);
}

static int take_option(struct arguments *a, int option)
{
    switch (option) {
    case OPTION_JSON:
        return output.json = true, 0;
    case OPTION_BYTES:
        return output.exact = true, 0;
    case OPTION_COLOR:
        return output_choose_color(1), 0;
    case OPTION_NO_COLOR:
        return output_choose_color(0), 0;
    case OPTION_FAIL_IF:
        return add_threshold(a, optarg);
    case OPTION_EXE:
        return a->exe = optarg, 0;
    case OPTION_FORMAT:
        return a->format = optarg, 0;
    case OPTION_SORT:
        return parse_sort(a, optarg);
    case OPTION_LIMIT:
        return parse_count(a, optarg, &a->limit);
    case OPTION_COUNT:
        return parse_count(a, optarg, &a->count);
    case 'o':
        return a->file = optarg, 0;
    case 'n':
        return parse_seconds(a, optarg);
    default:
        return problem_set(&a->problem, EXIT_USAGE, "see hakmem-stats --help");
    }
}

/* ---- commands ------------------------------------------------------------------------------ */

typedef int command_function(struct arguments *a);

static int check_thresholds(struct arguments *a, const struct capture *capture)
{
    int code = 0;

    for (unsigned i = 0; i < a->nr_thresholds && code == 0; i++)
        code = threshold_check(&a->thresholds[i], capture, &a->problem);
    return code;
}

static int no_thresholds(struct arguments *a)
{
    return a->nr_thresholds ? wrong(a, "--fail-if is not for this command", a->command) : 0;
}

static void default_file_name(const struct target *t, char *name, size_t bytes)
{
    snprintf(name, bytes, "hakmem-%llu.snapshot", (unsigned long long)t->capture.root.pid);
}

static int write_snapshot(struct arguments *a, struct target *t)
{
    char name[64];
    int code;

    default_file_name(t, name, sizeof name);
    code = snapshot_write(t, a->file ? a->file : name, &a->problem);
    if (code == 0 && !a->file)
        printf("%s\n", name);
    return code;
}

static int write_export(struct arguments *a, struct target *t)
{
    export_function *function = export_find(a->format ? a->format : "json");
    char temporary[4200];
    int code;

    if (!function)
        return problem_set(&a->problem, EXIT_USAGE, "--format %.40s: expected one of %s", a->format,
                           export_formats);
    if (!a->file)
        return function(t, &a->problem);
    code = problem_of_place(&a->problem, a->file);
    if (code)
        return code;
    /* node_exporter reads the file at any time: it is whole or not there. */
    snprintf(temporary, sizeof temporary, "%s.%d.tmp", a->file, (int)getpid());
    if (!freopen(temporary, "wx", stdout))
        return problem_errno(&a->problem, errno, a->file);
    code = function(t, &a->problem);
    if (code == 0 && (fflush(stdout) != 0 || rename(temporary, a->file) != 0))
        code = problem_errno(&a->problem, errno, a->file);
    if (code != 0)
        unlink(temporary);
    return code;
}

static int do_view(struct arguments *a, const char *view, struct target *t)
{
    int code = 0;

    if (strcmp(view, "show") == 0)
        view_show(t);
    else if (strcmp(view, "sites") == 0)
        view_sites(t, a->order, a->limit);
    else if (strcmp(view, "hist") == 0)
        view_hist(t);
    else if (strcmp(view, "why") == 0)
        view_why(t);
    else if (strcmp(view, "config") == 0)
        view_config(t);
    else if (strcmp(view, "snapshot") == 0)
        code = write_snapshot(a, t);
    else if (strcmp(view, "export") == 0)
        code = write_export(a, t);
    else
        return wrong(a, "no such view", view);
    return code ? code : check_thresholds(a, &t->capture);
}

static int command_view(struct arguments *a)
{
    struct target t;
    int code;

    if (a->nr_operands != 1)
        return wrong(a, "expected one PID or snapshot", a->command);
    if (a->format && !export_find(a->format))
        return problem_set(&a->problem, EXIT_USAGE, "--format %.40s: expected one of %s", a->format,
                           export_formats);
    code = target_open(&t, a->operands[0], true, &a->problem);
    if (code != 0)
        return code;
    code = do_view(a, a->command, &t);
    target_close(&t);
    return code;
}

static int command_core(struct arguments *a)
{
    struct target t;
    int code;

    if (a->nr_operands < 1 || a->nr_operands > 2)
        return wrong(a, "expected a core dump", a->command);
    code = target_open_core(&t, a->operands[0], a->exe, &a->problem);
    if (code != 0)
        return code;
    code = do_view(a, a->nr_operands == 2 ? a->operands[1] : "show", &t);
    target_close(&t);
    return code;
}

static int command_diff(struct arguments *a)
{
    struct target before, after;
    int code;

    if (a->nr_operands != 2)
        return wrong(a, "expected two snapshots", a->command);
    code = target_open(&before, a->operands[0], true, &a->problem);
    if (code != 0)
        return code;
    code = target_open(&after, a->operands[1], true, &a->problem);
    if (code == 0) {
        view_diff(&before, &after, a->limit);
        code = check_thresholds(a, &after.capture);
        target_close(&after);
    }
    target_close(&before);
    return code;
}

static int command_list(struct arguments *a)
{
    return a->nr_operands ? wrong(a, "list takes no argument", a->operands[0])
                          : view_list(a->thresholds, a->nr_thresholds, &a->problem);
}

static int command_top(struct arguments *a)
{
    struct top_options options = {.seconds = a->seconds, .count = a->count, .sort = a->sort};

    if (a->nr_operands > 1)
        return wrong(a, "expected one PID at most", a->command);
    options.process = a->nr_operands ? a->operands[0] : NULL;
    return no_thresholds(a) ? EXIT_USAGE : top(&options, &a->problem);
}

static int command_doctor(struct arguments *a)
{
    unsigned pid = 0;
    int code;

    if (a->nr_operands > 1)
        return wrong(a, "expected one PID at most", a->command);
    code = no_thresholds(a);
    if (code == 0 && a->nr_operands)
        code = parse_count(a, a->operands[0], &pid);
    if (code == 0 && pid > INT_MAX)
        code = wrong(a, "not a process", a->operands[0]);
    return code ? code : doctor((pid_t)pid, &a->problem);
}

static command_function *find_command(const char *name)
{
    static const struct {
        const char *name;
        command_function *function;
    } commands[] = {
        {"list", command_list},   {"show", command_view},     {"top", command_top},
        {"sites", command_view},  {"hist", command_view},     {"why", command_view},
        {"config", command_view}, {"snapshot", command_view}, {"diff", command_diff},
        {"export", command_view}, {"core", command_core},     {"doctor", command_doctor}};

    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].function;
    return NULL;
}

/* ---- main ---------------------------------------------------------------------------------- */

static int finish(int code, const struct problem *problem)
{
    if (code != 0 && problem->text[0])
        fprintf(stderr, "hakmem-stats: %s\n", problem->text);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "hakmem-stats: standard output: %s\n", strerror(errno));
        return code ? code : EXIT_NOTHING;
    }
    return code;
}

#define ROWS_SHOWN 30
#define LIMIT_UNSAID UINT_MAX

int main(int argc, char **argv)
{
    struct arguments a = {.limit = LIMIT_UNSAID, .seconds = 2, .sort = 'l', .order = SITES_BY_BYTES};
    command_function *command;
    int option, code = 0;

    if (argc > 1 && strcmp(argv[1], "run") == 0)
        return run_command(argc - 2, argv + 2);
    (void)signal(SIGCHLD, SIG_DFL); /* who ignores it leaves that to us, and demangle waits for children */
    output_choose_color(-1);
    while (code == 0 && (option = getopt_long(argc, argv, "o:n:hV", long_options, NULL)) != -1) {
        if (option == 'h')
            return fputs(usage_text, stdout) == EOF;
        if (option == 'V')
            return printf("hakmem-stats %s (counters of layout %d)\n", PACKAGE_VERSION,
                          HAK_STATS_ABI) < 0;
        code = take_option(&a, option);
    }
    if (a.limit == LIMIT_UNSAID)
        a.limit = output.json ? 0 : ROWS_SHOWN; /* nobody counts rows in JSON */
    if (code == 0 && optind == argc) {
        fputs(usage_text, stderr);
        return EXIT_USAGE;
    }
    if (code == 0) {
        a.command = argv[optind];
        a.operands = argv + optind + 1;
        a.nr_operands = argc - optind - 1;
        command = find_command(a.command);
        code = command ? command(&a) : wrong(&a, "no such command", a.command);
    }
    return finish(code, &a.problem);
}
