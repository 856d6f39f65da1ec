// SPDX-License-Identifier: MIT
//
// The driver: runs every case in a process of its own and compares its end and its sentence. `death
// "NAME" SEED` runs one case in this process, for a debugger; `death --list` names the cases of misuse.
// HK_DEATH_SHARE=3/7 runs every seventh, from the fourth on.
#include "death.h"

#include <ctype.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CASE_TIMEOUT_S 10

static const struct suite *const suites[] = {
    &double_free_suite, &invalid_free_suite, &invalid_realloc_suite,
    &overflow_suite,    &robust_suite,       &harmless_suite,
};
static const char *const families[] = {
    "double free", "invalid free", "invalid realloc", "overflow and use after free", "robustness", "no misuse",
};

// --- for the cases ---

void about(const volatile void *pointer, const volatile void *block, size_t size)
{
    char text[128];
    int length = snprintf(text, sizeof text, "pointer %#" PRIxPTR " block %#" PRIxPTR " size %zu\n",
                          (uintptr_t)pointer, (uintptr_t)block, size);

    if (write(STDOUT_FILENO, text, (size_t)length) != length)
        _exit(125);
}

void skip_case(const char *why)
{
    printf("SKIP %s\n", why);
    fflush(stdout);
    _exit(SKIP);
}

void *take(size_t size)
{
    unsigned char *p = hide(malloc(size));

    if (p == NULL)
        skip_case("no memory");
    if (size != 0)
        p[0] = p[size - 1] = 0x5a;
    return p;
}

void free_it(void *p)
{
    free(hide(p));
}

struct start {
    void (*fn)(void *);
    void *argument;
};

static void *start_thread(void *start_)
{
    struct start *start = start_;

    start->fn(start->argument);
    return NULL;
}

void in_thread(void (*fn)(void *), void *argument)
{
    struct start start = {fn, argument};
    pthread_t thread;

    if (pthread_create(&thread, NULL, start_thread, &start) != 0)
        skip_case("no thread");
    pthread_join(thread, NULL);
}

void *function_named(const char *name)
{
    void *function = dlsym(RTLD_DEFAULT, name);

    if (function == NULL)
        skip_case("no such function here");
    return function;
}

// --- the driver ---

static const char *first_words(enum sentence sentence, bool second_choice)
{
    switch (sentence) {
    case DOUBLE_FREE:
        return "hakmem: double free: ";
    case DOUBLE_FREE_OR_UNKNOWN:
        return second_choice ? "hakmem: invalid free: unknown pointer: " : "hakmem: double free: ";
    case FREE_UNKNOWN:
        return "hakmem: invalid free: unknown pointer: ";
    case FREE_INTERIOR:
        return "hakmem: invalid free: interior pointer: ";
    case FREE_MISALIGNED:
        return "hakmem: invalid free: misaligned pointer: ";
    case REALLOC_FREED:
        return "hakmem: invalid realloc: freed pointer: ";
    case REALLOC_FREED_OR_UNKNOWN:
        return second_choice ? "hakmem: invalid realloc: unknown pointer: "
                             : "hakmem: invalid realloc: freed pointer: ";
    case REALLOC_UNKNOWN:
        return "hakmem: invalid realloc: unknown pointer: ";
    case REALLOC_INTERIOR:
        return "hakmem: invalid realloc: interior pointer: ";
    case REALLOC_MISALIGNED:
        return "hakmem: invalid realloc: misaligned pointer: ";
    default:
        return "hakmem: ";
    }
}

static bool take_number(const char **text, const char *words, int base, uintmax_t *value)
{
    char *end;

    if (strncmp(*text, words, strlen(words)) != 0)
        return false;
    *value = strtoumax(*text + strlen(words), &end, base);
    if (end == *text + strlen(words))
        return false;
    *text = end;
    return true;
}

struct facts {
    uintmax_t pointer, block, size;
};

// Behind the sentence: nothing, or the events that option tiny_trace_ring prints. The last may be cut off.
static bool is_trace(const char *text)
{
    static const char words[] = "hakmem: trace ";

    while (*text != '\0') {
        const char *end = strchr(text, '\n');
        if (end != NULL && strncmp(text, words, sizeof words - 1) != 0)
            return false;
        if (end == NULL)
            return strncmp(text, words, strnlen(text, sizeof words - 1)) == 0;
        text = end + 1;
    }
    return true;
}

// The tail after the first words: the pointer always, block, size and owner where the library knows
// them.
static bool tail_matches(const char *text, const struct facts *facts, char *why, size_t room)
{
    uintmax_t pointer, block, size, owner;

    if (!take_number(&text, "pointer ", 16, &pointer) || pointer != facts->pointer) {
        snprintf(why, room, "expected pointer %#jx", facts->pointer);
        return false;
    }
    if (take_number(&text, ", block ", 16, &block)) {
        if (facts->block != 0 && block != facts->block) {
            snprintf(why, room, "expected block %#jx", facts->block);
            return false;
        }
        if (!take_number(&text, ", size ", 10, &size) || size < facts->size) {
            snprintf(why, room, "expected a size of at least %ju", facts->size);
            return false;
        }
    }
    take_number(&text, ", owner thread ", 10, &owner);
    // More may follow (the call site), but on the same line.
    if ((*text != '\n' && *text != ',') || strchr(text, '\n') == NULL ||
        !is_trace(strchr(text, '\n') + 1)) {
        snprintf(why, room, "expected one line and no other words");
        return false;
    }
    return true;
}

static bool sentence_matches(const struct death *c, const struct run *run, char *why, size_t room)
{
    struct facts facts = {0, 0, 0};

    if (c->sentence == ABORT_WITHOUT_TEXT || c->sentence == SILENT_ABORT_OR_PIPE)
        return true;
    // The last line of stdout counts: a case may say more than once what it is about.
    for (const char *at = run->out; (at = strstr(at, "pointer ")) != NULL; at++)
        sscanf(at, "pointer %jx block %jx size %ju", &facts.pointer, &facts.block, &facts.size);
    bool second = strncmp(run->err, first_words(c->sentence, false),
                          strlen(first_words(c->sentence, false))) != 0;
    const char *words = first_words(c->sentence, second);
    if (strncmp(run->err, words, strlen(words)) != 0) {
        snprintf(why, room, "expected \"%s\"", first_words(c->sentence, false));
        return false;
    }
    if (c->sentence == ANY_SENTENCE || c->sentence == ABORT_OR_LIVE)
        return strchr(run->err, '\n') != NULL;
    return tail_matches(run->err + strlen(words), &facts, why, room);
}

static bool end_matches(const struct death *c, const struct run *run, char *why, size_t room)
{
    int status = run->status;

    if (run->timed_out) {
        snprintf(why, room, "expected an end, actual a hang");
        return false;
    }
    bool lives = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (c->sentence == NOTHING || (c->sentence == ABORT_OR_LIVE && lives)) {
        snprintf(why, room, "expected exit 0 and silence, actual status %#x", (unsigned)status);
        return lives && run->err_size == 0;
    }
    if (c->sentence == SILENT_ABORT_OR_PIPE && WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE)
        return true;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        snprintf(why, room, "expected SIGABRT, actual status %#x", (unsigned)status);
        return false;
    }
    return sentence_matches(c, run, why, room);
}

static struct totals {
    unsigned points, failures, second_choices;
} totals;

static void report(const struct death *c, const struct run *run, uint64_t seed, bool good,
                   const char *why)
{
    printf("%sok %u - %s", good ? "" : "not ", ++totals.points, c->name);
    if (c->seeds > 1)
        printf(", seed %" PRIu64, seed);
    printf("\n");
    if (good)
        return;
    totals.failures++;
    printf("# %s\n# stdout: %.*s\n# stderr: %.*s\n", why, (int)strcspn(run->out, "\n"), run->out,
           (int)strcspn(run->err, "\n"), run->err);
}

static void run_case(const struct death *c, uint64_t seed, char *program)
{
    static struct run run;
    char seed_text[24], why[128] = "";
    const char *argv[] = {program, c->name, seed_text, NULL};

    snprintf(seed_text, sizeof seed_text, "%" PRIu64, seed);
    run.argv = argv;
    run.timeout_s = CASE_TIMEOUT_S;
    run_program(&run);
    if (!run.timed_out && WIFEXITED(run.status) && WEXITSTATUS(run.status) == SKIP) {
        const char *said = strstr(run.out, "SKIP ");
        printf("ok %u - %s # SKIP %.*s\n", ++totals.points, c->name,
               said != NULL ? (int)strcspn(said + 5, "\n") : 0, said != NULL ? said + 5 : "");
        return;
    }
    bool good = end_matches(c, &run, why, sizeof why);
    bool may_be_unmapped =
        c->sentence == DOUBLE_FREE_OR_UNKNOWN || c->sentence == REALLOC_FREED_OR_UNKNOWN;
    if (good && may_be_unmapped && strstr(run.err, "unknown") != NULL)
        totals.second_choices++;
    report(c, &run, seed, good, why);
}

static int run_one_here(const char *name, uint64_t seed)
{
    for (size_t s = 0; s < COUNT(suites); s++)
        for (size_t i = 0; i < suites[s]->count; i++) {
            const struct death *c = &suites[s]->cases[i];
            if (strcmp(c->name, name) == 0) {
                c->run(c, seed);
                return 0;
            }
        }
    printf("no such case: %s\n", name);
    return 2;
}

// FAMILY <tab> NAME: what misuses the heap, for a comparison of allocators.
static int list_misuse(void)
{
    for (size_t s = 0; s < COUNT(suites); s++)
        for (size_t i = 0; i < suites[s]->count; i++)
            if (suites[s] != &robust_suite && suites[s]->cases[i].sentence != NOTHING)
                printf("%s\t%s\n", families[s], suites[s]->cases[i].name);
    return 0;
}

// HK_DEATH_SHARE=FIRST/EVERY: one run in EVERY, from number FIRST on.
struct share {
    unsigned first, every;
};

static struct share share_asked_for(void)
{
    const char *text = getenv("HK_DEATH_SHARE");
    struct share share = {0, 1};

    if (text != NULL && (sscanf(text, "%u/%u", &share.first, &share.every) != 2 || share.first >= share.every)) {
        printf("Bail out! HK_DEATH_SHARE=%s\n", text);
        exit(99);
    }
    return share;
}

int main(int argc, char **argv)
{
    struct rlimit no_core = {0, 0};
    const struct share share = share_asked_for();
    unsigned planned = 0, nr = 0;

    harness_preload(argv);
    setrlimit(RLIMIT_CORE, &no_core);
    if (argc > 1 && strcmp(argv[1], "--list") == 0)
        return list_misuse();
    if (argc > 1)
        return run_one_here(argv[1], argc > 2 ? strtoull(argv[2], NULL, 0) : 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t s = 0; s < COUNT(suites); s++)
        for (size_t i = 0; i < suites[s]->count; i++)
            planned += suites[s]->cases[i].seeds > 1 ? suites[s]->cases[i].seeds : 1;
    printf("1..%u\n", share.first < planned ? 1 + (planned - share.first - 1) / share.every : 0);
    for (size_t s = 0; s < COUNT(suites); s++)
        for (size_t i = 0; i < suites[s]->count; i++) {
            const struct death *c = &suites[s]->cases[i];
            for (uint64_t seed = 1; seed <= (c->seeds > 1 ? c->seeds : 1); seed++, nr++)
                if (nr % share.every == share.first)
                    run_case(c, seed, argv[0]);
        }
    printf("# %u of %u failed; %u big blocks were reported as unknown, not as freed\n",
           totals.failures, totals.points, totals.second_choices);
    return totals.failures == 0 ? 0 : 1;
}
