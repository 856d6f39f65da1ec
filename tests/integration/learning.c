// SPDX-License-Identifier: MIT
// Learning as a program sees it: hak_evo_*, hak_policy_*, the policy file, modes and switches.
#include "harness.h"

#include <hakmem/hakmem.h>
#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// The interface, out of the preloaded library.
static struct {
    const char *(*state)(void);
    int (*freeze)(void), (*learn)(void);
    int (*get)(hak_policy_t *, size_t);
    int (*save)(const char *), (*load)(const char *);
    int (*set)(const char *, const char *);
    struct hak_stats_root *root;
} hak;

static bool resolve(void)
{
    static const struct {
        const char *name;
        void *at;
    } table[] = {
        {"hak_evo_state", &hak.state}, {"hak_evo_freeze", &hak.freeze}, {"hak_evo_learn", &hak.learn},
        {"hak_ctl_set", &hak.set}, {"hak_stats_root", &hak.root},
        {"hak_policy_get", &hak.get}, {"hak_policy_save", &hak.save}, {"hak_policy_load", &hak.load},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        void *symbol = dlsym(RTLD_DEFAULT, table[i].name);
        if (!symbol)
            return false;
        memcpy(table[i].at, &symbol, sizeof symbol);
    }
    return true;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Buffers of 5 to 25 MB: what a larger cache pays for.
static void use_buffers(double seconds)
{
    static uint64_t state = 1;
    char *held[4] = {NULL};

    for (double end = now() + seconds; now() < end;) {
        char **slot = &held[random_next(&state) % 4];
        size_t n = 5000000 + random_next(&state) % 20000000;
        free(*slot);
        *slot = malloc(n);
        for (size_t i = 0; *slot && i < n; i += 4096)
            (*slot)[i] = 1;
    }
    for (int i = 0; i < 4; i++)
        free(held[i]);
}

// False: it did not become so in time. The time is this process's own, which a busy machine does not use up.
#define LIMIT_S 60
static bool use_buffers_until(bool (*is_so)(void))
{
    for (double end = cpu_time() + LIMIT_S; !is_so();) {
        if (cpu_time() > end)
            return false;
        use_buffers(0.1);
    }
    return true;
}

static int set_while_it_learns(void), switch_off_while_it_learns(void);

static uint64_t trials(void)
{
    hak_policy_t p;
    return hak.get(&p, sizeof p) == 0 ? p.trials : 0;
}

static uint64_t wanted_trials;

static bool has_tried(void)
{
    return trials() >= wanted_trials;
}

static bool use_buffers_for_trials(unsigned more)
{
    wanted_trials = trials() + more;
    return use_buffers_until(has_tried);
}

// ---- in a process of their own, with an environment: "state", "learn SECONDS", "try", ... ----

static int answer(char **argv)
{
    hak_policy_t p;

    if (!resolve())
        return 1;
    if (strcmp(argv[1], "state") == 0)
        printf("%s\n", hak.state());
    if (strcmp(argv[1], "learn") == 0) {
        use_buffers(atof(argv[2]));
        printf("%llu\n", (unsigned long long)trials());
    }
    if (strcmp(argv[1], "try") == 0)
        printf(use_buffers_for_trials(1) ? "tried\n" : "tried nothing\n");
    if (strcmp(argv[1], "set") == 0 || strcmp(argv[1], "switch") == 0) {
        bool stays = (argv[1][1] == 'e' ? set_while_it_learns() : switch_off_while_it_learns()) == PASS;
        printf(stays ? "stays\n" : "is lost\n");
    }
    if (strcmp(argv[1], "policy") == 0 && hak.get(&p, sizeof p) == 0)
        printf("%zu %zu %zu %zu %s\n", p.purge_delay_ms, p.purge_cap_bytes >> 20, p.mmap_threshold_bytes >> 10,
               p.wmax_large_thousandths, hak.state());
    return 0;
}

#define WAIT_S 600 // for a child on a busy machine; its own limit is LIMIT_S

// setting: NAME=value
static const struct run *ask(struct run *run, const char *setting, const char *what, const char *how)
{
    const char *argv[] = {"learning", what, how, NULL};
    char name[64];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(setting, "="), setting);
    setenv(name, strchr(setting, '=') + 1, 1);
    *run = (struct run){.argv = argv, .timeout_s = WAIT_S};
    run_program(run);
    unsetenv(name);
    run->argv = NULL;
    return run;
}

static int each_mode_starts_as_it_says(void)
{
    static const char *const table[][2] = {
        {"HAKMEM_MODE=minimal", "off\n"}, {"HAKMEM_MODE=fast", "frozen\n"}, {"HAKMEM_MODE=balanced", "frozen\n"},
        {"HAKMEM_MODE=learning", "learn\n"}, {"HAKMEM_MODE=research", "learn\n"}, {"HAKMEM_LEARN=learn", "learn\n"},
        {"HAKMEM_OPTIONS=mode:learning,disable_elo:on", "off\n"},
        {"HAKMEM_OPTIONS=mode:learning,learn:off", "off\n"},
    };
    struct run run;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        CHECK_MSG(strcmp(ask(&run, table[i][0], "state", NULL)->out, table[i][1]) == 0, "%s: %s", table[i][0], run.out);
    return PASS;
}

// The counters prove that a switch is obeyed.
static int what_is_off_tries_nothing(void)
{
    static const char *const off[] = {"HAKMEM_MODE=minimal", "HAKMEM_MODE=fast", "HAKMEM_MODE=balanced",
                                      "HAKMEM_OPTIONS=mode:learning,learn_window_ms:100,disable_elo:on"};
    static const char *const on[] = {"HAKMEM_OPTIONS=mode:learning,learn_window_ms:100",
                                     "HAKMEM_OPTIONS=mode:learning,learn_window_ms:100,learner:elo"};
    struct run run;

    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        CHECK_MSG(strcmp(ask(&run, off[i], "learn", "1.5")->out, "0\n") == 0, "%s: %s", off[i], run.out);
    for (size_t i = 0; i < sizeof on / sizeof *on; i++)
        CHECK_MSG(strcmp(ask(&run, on[i], "try", NULL)->out, "tried\n") == 0, "%s: %s", on[i], run.out);
    return PASS;
}

static int the_program_may_say_so_too(void)
{
    hak_policy_t before, after = {.trials = 77};

    CHECK(resolve());
    CHECK(strcmp(hak.state(), "frozen") == 0);
    CHECK_EQ(0, hak.get(&before, sizeof before));
    CHECK_EQ(300, before.purge_delay_ms);
    CHECK_EQ(0, hak.get(&after, sizeof after.purge_delay_ms)); // an older caller's struct
    CHECK_EQ(77, after.trials);
    errno = 5;
    CHECK_EQ(0, hak.learn());
    CHECK(strcmp(hak.state(), "learn") == 0);
    CHECK(use_buffers_for_trials(1));
    CHECK_EQ(0, hak.freeze());
    CHECK(strcmp(hak.state(), "frozen") == 0);
    uint64_t done = trials();
    use_buffers(1);
    CHECK_EQ(done, trials());
    return PASS;
}

// ---- files ----

static char directory[] = "/tmp/hakmem-learning.XXXXXX", path[128];

static int write_file(const char *text, size_t n)
{
    FILE *f = fopen(path, "w");
    return f && fwrite(text, 1, n, f) == n && fclose(f) == 0 ? 0 : 1;
}

static size_t read_file(char *text, size_t room)
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, room - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    return n;
}

static int make_directory(void)
{
    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof path, "%s/policy", directory);
    return 0;
}

static void remove_directory(void)
{
    unlink(path);
    rmdir(directory);
}

static uint64_t fnv(const char *text, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash;
}

// A good file with other values: the test's own idea of the format.
static size_t edit(char *text, size_t room, const char *old, const char *new)
{
    char *at = strstr(text, old), tail[1024];
    if (!at)
        return 0;
    snprintf(tail, sizeof tail, "%s", at + strlen(old));
    snprintf(at, room - (size_t)(at - text), "%s%s", new, tail);
    at = strstr(text, "checksum ");
    snprintf(at, room - (size_t)(at - text), "checksum %016llx\n", (unsigned long long)fnv(text, (size_t)(at - text)));
    return strlen(text);
}

static int load_says(int error)
{
    CHECK_EQ(error, hak.load(path));
    return PASS;
}

static int files_of_all_kinds(void)
{
    char good[1024], text[2048];
    struct run run;
    char setting[160];
    size_t n;

    CHECK(resolve() && make_directory() == 0);
    CHECK_EQ(ENOENT, hak.load(path));
    CHECK_EQ(0, hak.save(path));
    n = read_file(good, sizeof good);
    CHECK_MSG(n > 100 && strstr(good, "\npurge_delay_ms 300\n") && strstr(good, "\nbuild-id "), "%s", good);
    CHECK_EQ(0, hak.load(path));

    // Cut short anywhere, or with any byte changed: refused.
    for (size_t i = 0; i < n; i++) {
        CHECK(write_file(good, i) == 0 && load_says(ENOEXEC) == PASS);
        memcpy(text, good, n);
        text[i] ^= 1;
        CHECK(write_file(text, n) == 0 && load_says(ENOEXEC) == PASS);
    }
    // Longer, of another program, with a number that is no arm: refused though the sum is right.
    snprintf(text, sizeof text, "%s\n", good);
    CHECK(write_file(text, n + 1) == 0 && load_says(ENOEXEC) == PASS);
    strcpy(text, good);
    n = edit(text, sizeof text, "build-id ", "build-id 00");
    CHECK(n && write_file(text, n) == 0 && load_says(ENOEXEC) == PASS);
    strcpy(text, good);
    n = edit(text, sizeof text, "purge_delay_ms 300", "purge_delay_ms 301");
    CHECK(n && write_file(text, n) == 0 && load_says(ENOEXEC) == PASS);

    // Another lesson of this program: the next start has it, frozen.
    strcpy(text, good);
    n = edit(text, sizeof text, "purge_delay_ms 300", "purge_delay_ms 4000");
    CHECK(n && write_file(text, n) == 0 && load_says(0) == PASS);
    snprintf(setting, sizeof setting, "HAKMEM_POLICY_FILE=%s", path);
    CHECK_MSG(strcmp(ask(&run, setting, "policy", NULL)->out, "4000 32 2048 1250 frozen\n") == 0, "%s", run.out);
    CHECK_EQ(0, run.err_size);

    // A damaged one: one message, and the mode's own values.
    CHECK(write_file(text, n - 1) == 0);
    CHECK_MSG(strcmp(ask(&run, setting, "policy", NULL)->out, "300 32 2048 1250 frozen\n") == 0, "%s", run.out);
    CHECK_MSG(strstr(run.err, "policy file") && strchr(run.err, '\n') == run.err + run.err_size - 1, "%s", run.err);
    remove_directory();
    return PASS;
}

static bool is_there(const char *file)
{
    struct stat st;
    return lstat(file, &st) == 0;
}

// The old file stays as it was, and nothing is left behind.
static int save_fails_whole(int error, const char *old, size_t n)
{
    char text[1024], fresh[sizeof path + 8];

    snprintf(fresh, sizeof fresh, "%s.new", path);
    errno = EBADMSG;
    CHECK_EQ(error, hak.save(path));
    CHECK_EQ(EBADMSG, errno);
    CHECK(!is_there(fresh));
    CHECK(read_file(text, sizeof text) == n && memcmp(text, old, n) == 0);
    return PASS;
}

static int no_room_for_a_file(const char *good, size_t n)
{
    struct rlimit before, none;

    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    none = (struct rlimit){.rlim_cur = 10, .rlim_max = before.rlim_max}; // the first write ends short, the second fails
    CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
    int verdict = save_fails_whole(EFBIG, good, n);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    return verdict;
}

static int files_that_cannot_be_had(void)
{
    char good[1024], setting[400], other[PATH_MAX + 8];
    struct run run;
    size_t n;

    CHECK(resolve() && make_directory() == 0);
    CHECK_EQ(0, hak.save(path));
    n = read_file(good, sizeof good);
    CHECK(n > 100 && no_room_for_a_file(good, n) == PASS);

    snprintf(other, sizeof other, "%s/nowhere/policy", directory);
    CHECK_EQ(ENOENT, hak.save(other));
    CHECK_EQ(EISDIR, hak.load(directory));
    memset(other, '/', sizeof other);
    other[PATH_MAX - 4] = '\0'; // with ".new" behind it too long
    CHECK_EQ(ENAMETOOLONG, hak.save(other));

    // In the place of a directory: the new file is taken back.
    CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
    CHECK(hak.save(path) != 0);
    snprintf(other, sizeof other, "%s.new", path);
    CHECK(!is_there(other));
    CHECK(rmdir(path) == 0);

    // At start, damaged and with a long name: one line, cut.
    int length = snprintf(setting, sizeof setting, "HAKMEM_POLICY_FILE=%s", directory);
    while (length < 300)
        length += snprintf(setting + length, sizeof setting - (size_t)length, "/.");
    strcpy(setting + length, "/policy");
    CHECK(write_file(good, n - 1) == 0);
    CHECK(ask(&run, setting, "state", NULL)->out_size > 0);
    CHECK_MSG(strstr(run.err, "policy file is damaged: /tmp/") && strchr(run.err, '\n') == run.err + run.err_size - 1, "%s", run.err);
    CHECK(run.err_size < 200);

    // And what is not there, or empty: nothing is said.
    remove_directory();
    ask(&run, setting, "state", NULL);
    CHECK_EQ(0, run.err_size);
    ask(&run, "HAKMEM_POLICY_FILE=", "state", NULL);
    CHECK_EQ(0, run.err_size);
    return PASS;
}

static int what_was_learnt_is_saved_at_exit(void)
{
    char setting[200], text[1024];
    struct run run;
    struct stat st;

    CHECK(make_directory() == 0);
    snprintf(setting, sizeof setting, "HAKMEM_POLICY_FILE=%s", path);
    ask(&run, setting, "learn", "0.1");
    CHECK(stat(path, &st) != 0); // balanced does not learn, so there is nothing to save
    setenv("HAKMEM_MODE", "learning", 1);
    setenv("HAKMEM_LEARN_WINDOW_MS", "100", 1);
    ask(&run, setting, "try", NULL);
    unsetenv("HAKMEM_MODE");
    unsetenv("HAKMEM_LEARN_WINDOW_MS");
    CHECK_MSG(strcmp(run.out, "tried\n") == 0, "%s", run.out);
    CHECK_MSG(read_file(text, sizeof text) > 0, "%s", run.err);
    remove_directory();
    return PASS;
}

// The user's word stands, whatever is learnt.
static int an_option_is_let_alone(void)
{
    struct run run;
    static const char *const settings[] = {
        "HAKMEM_OPTIONS=mode:learning,learner:random,learn_window_ms:100,purge_delay_ms:77,purge_cap_bytes:24M,"
        "mmap_threshold:768K,wmax_large:1.3"};

    setenv("HK_USE_FIRST", "1", 1);
    ask(&run, settings[0], "policy", NULL);
    unsetenv("HK_USE_FIRST");
    CHECK_MSG(strcmp(run.out, "77 24 768 1300 learn\n") == 0, "%s", run.out);
    return PASS;
}

static const char *differs(const hak_policy_t *expected)
{
    static char text[128];
    hak_policy_t p;

    if (hak.get(&p, sizeof p) == 0 && p.purge_delay_ms == expected->purge_delay_ms &&
        p.purge_cap_bytes == expected->purge_cap_bytes && p.mmap_threshold_bytes == expected->mmap_threshold_bytes &&
        p.wmax_large_thousandths == expected->wmax_large_thousandths)
        return NULL;
    snprintf(text, sizeof text, "%zu %zu %zu %zu", p.purge_delay_ms, p.purge_cap_bytes, p.mmap_threshold_bytes,
             p.wmax_large_thousandths);
    return text;
}

static bool all_have_moved(void)
{
    static bool moved[2];
    hak_policy_t p;

    if (hak.get(&p, sizeof p) != 0)
        return false;
    moved[0] |= p.purge_delay_ms != 300;
    moved[1] |= p.purge_cap_bytes != 32u << 20;
    return moved[0] && moved[1];
}

// In a process whose learner takes other settings ten times a second.
static int set_while_it_learns(void)
{
    hak_policy_t expected = {.purge_delay_ms = 77, .purge_cap_bytes = 24000000, .mmap_threshold_bytes = 700000};
    char wmax[8];

    CHECK(use_buffers_until(all_have_moved)); // what is not set moves: the negative control
    CHECK_EQ(0, hak.set("purge_delay_ms", "77"));
    CHECK_EQ(1, mallopt(M_TRIM_THRESHOLD, 24000000));
    CHECK_EQ(1, mallopt(M_MMAP_THRESHOLD, 700000));
    for (int i = 0; i < 20; i++) {
        snprintf(wmax, sizeof wmax, "1.%d", i % 5 + 3);
        expected.wmax_large_thousandths = 1300 + 100 * (size_t)(i % 5);
        CHECK_EQ(0, hak.set("wmax_large", wmax));
        CHECK_MSG(!differs(&expected), "%s", differs(&expected));
        CHECK(use_buffers_for_trials(1));
        CHECK_MSG(!differs(&expected), "after a while %s", differs(&expected));
    }
    return PASS;
}

// Nothing but switches that a knob follows from: the delay is none while the batch is off.
static int switch_off_while_it_learns(void)
{
    hak_policy_t p;

    CHECK(use_buffers_for_trials(3));
    CHECK_EQ(0, hak.set("disable_batch", "on"));
    for (int i = 0; i < 15; i++) {
        CHECK_EQ(0, hak.get(&p, sizeof p));
        CHECK_EQ(0, p.purge_delay_ms);
        CHECK(use_buffers_for_trials(1));
    }
    return PASS;
}

static int what_the_program_sets_stays(void)
{
    static const char learner[] = "HAKMEM_OPTIONS=mode:learning,learner:random,learn_window_ms:100";
    struct run run;

    CHECK_MSG(strcmp(ask(&run, learner, "set", NULL)->out, "stays\n") == 0, "%s%s", run.out, run.err);
    CHECK_MSG(strcmp(ask(&run, learner, "switch", NULL)->out, "stays\n") == 0, "%s%s", run.out, run.err);
    return PASS;
}

static uint64_t shown(const char *name)
{
    const struct hak_stats_table *t = (const struct hak_stats_table *)(uintptr_t)hak.root->tables;

    for (unsigned i = 0; i < hak.root->nr_tables; i++) {
        const struct hak_stats_field *f = (const struct hak_stats_field *)(uintptr_t)t[i].fields;
        for (unsigned k = 0; strcmp(t[i].name, "evo") == 0 && k < t[i].nr_fields; k++)
            if (strcmp(f[k].name, name) == 0)
                return *(const uint64_t *)(uintptr_t)(t[i].rows + f[k].offset);
    }
    return UINT64_MAX;
}

// Of those that a trial of the first knobs can be of.
static uint64_t pulls(void)
{
    return shown("purge_cap_bytes.n0") + shown("purge_cap_bytes.n1") + shown("purge_cap_bytes.n2") +
           shown("purge_cap_bytes.n3") + shown("purge_delay_ns.n0") + shown("purge_delay_ns.n1") +
           shown("purge_delay_ns.n2");
}

static bool has_pulled(void)
{
    return pulls() > 0;
}

// What hakmem-stats reads is what the program is told.
static int the_table_shows_it(void)
{
    hak_policy_t p;

    CHECK(resolve());
    CHECK_EQ(2, shown("state")); // frozen
    CHECK_EQ(0, hak.learn());
    CHECK_EQ(1, shown("state"));
    CHECK_EQ(1, shown("purge_delay_ns.learns"));
    CHECK(use_buffers_until(has_pulled)); // the first trial is over
    CHECK_EQ(0, hak.freeze());
    CHECK_EQ(2, shown("state"));
    CHECK_EQ(0, hak.get(&p, sizeof p));
    CHECK(p.trials > 0);
    CHECK_EQ(p.trials, shown("trials"));
    CHECK(shown("windows") + shown("shifts") >= p.trials); // a change of habits ends a trial before its window
    CHECK_EQ(p.last_cost, shown("cost_ns_per_mib"));
    CHECK_EQ(p.purge_delay_ms, shown("purge_delay_ns") / 1000000);
    CHECK_EQ(p.purge_cap_bytes, shown("purge_cap_bytes"));
    CHECK(pulls() > 0);
    CHECK_EQ(0, hak.set("purge_delay_ms", "300"));
    CHECK_EQ(0, hak.learn());
    use_buffers(1.5);
    CHECK_EQ(0, hak.freeze());
    CHECK_EQ(0, shown("purge_delay_ns.learns")); // the user's now
    return PASS;
}

static int a_fork_child_goes_on(void)
{
    int status;

    CHECK(resolve());
    CHECK_EQ(0, hak.learn());
    use_buffers(0.5);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            use_buffers(0.15);
            _exit(strcmp(hak.state(), "learn") == 0 ? 0 : 1);
        }
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
        CHECK_EQ(0, status);
    }
    return PASS;
}

static bool is_question(const char *word)
{
    static const char *const words[] = {"state", "learn", "try", "policy", "set", "switch"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"each mode starts as it says", each_mode_starts_as_it_says, WAIT_S},
        {"what is off tries nothing, what is on does", what_is_off_tries_nothing, WAIT_S},
        {"a program may freeze and learn", the_program_may_say_so_too, WAIT_S},
        {"policy files: good, cut, damaged, foreign", files_of_all_kinds, WAIT_S},
        {"policy files that cannot be had", files_that_cannot_be_had, WAIT_S},
        {"what was learnt is saved at exit", what_was_learnt_is_saved_at_exit, WAIT_S},
        {"an option that was set is let alone", an_option_is_let_alone, WAIT_S},
        {"what the program sets stays", what_the_program_sets_stays, WAIT_S},
        {"the table shows it", the_table_shows_it, WAIT_S},
        {"a fork child goes on", a_fork_child_goes_on, WAIT_S},
    };

    harness_preload(argv);
    if (argc > 1 && is_question(argv[1])) {
        if (getenv("HK_USE_FIRST") && !(resolve() && use_buffers_for_trials(5)))
            return 1;
        return answer(argv);
    }
    return harness_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
