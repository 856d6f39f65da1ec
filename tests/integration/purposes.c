// SPDX-License-Identifier: MIT
//
// What the library thinks blocks are for, against what they are for: small programs whose sites have a known
// purpose run under the settings that ship, and the confusion matrix is printed. Nine in ten must be right.
#include "harness.h"

#include "hakmem/hakmem.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define NOINLINE __attribute__((noinline))
#define STEP_MS 40

enum purpose { UNKNOWN, SMALL, MEDIUM, LARGE, SHORT, LONG, HAND_OFF, GROWS, NR_PURPOSES };

static const char *const names[NR_PURPOSES] = {
    "unknown",     "small-frequent", "medium",   "large-infrequent",
    "short-lived", "long-lived",     "hand-off", "grows-by-realloc",
};

// ---- sites -------------------------------------------------------------------------------------

// A place of its own in the program. The function's address, and not much more, is below the site's.
#define SITE(name)                                                                                 \
    NOINLINE static void *name(void *old, size_t size)                                             \
    {                                                                                              \
        return hide(old != NULL ? realloc(old, size) : malloc(size));                              \
    }
SITE(site_a)
SITE(site_b)
SITE(site_c)

typedef void *site_fn(void *old, size_t size);

static uint64_t seed = 88172645463325252u;

static size_t between(size_t low, size_t high)
{
    return low + random_next(&seed) % (high - low + 1);
}

static void *make(site_fn *site, size_t low, size_t high)
{
    size_t size = between(low, high);
    char *p = site(NULL, size);

    p[0] = p[size - 1] = 1;
    return p;
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void wait_until(uint64_t ms)
{
    while (now_ms() < ms) {
        struct timespec t = {0, 1000000};
        nanosleep(&t, NULL);
    }
}

// ---- programs ----------------------------------------------------------------------------------

// Generations of blocks, each freed two steps after it was made: 80 ms and more.
static void generations(site_fn *site, size_t nr, size_t low, size_t high)
{
    void **block[3] = {NULL};

    for (size_t step = 0; step < 12; step++) {
        uint64_t start = now_ms();
        void ***slot = &block[step % 3];
        for (size_t i = 0; *slot != NULL && i < nr; i++)
            free((*slot)[i]);
        free(*slot);
        *slot = malloc(nr * sizeof(void *));
        for (size_t i = 0; i < nr; i++)
            (*slot)[i] = make(site, low, high);
        wait_until(start + STEP_MS);
    }
}

static void records(void)
{
    generations(site_a, 30000, 40, 200);
}

static void sessions(void)
{
    generations(site_a, 3000, 500, 4000);
    generations(site_b, 20000, 100, 100);
}

static void pages(void) // below 64 KiB: by samples
{
    generations(site_a, 60, 40 * KIB, 60 * KIB);
}

static void frames(void) // above 64 KiB: counted
{
    generations(site_a, 3, 100 * KIB, 700 * KIB);
}

static void images(void)
{
    generations(site_a, 2, 2 * MIB, 5 * MIB);
}

// Trees made and torn down at once.
static void trees(site_fn *site, int nr_trees, size_t nr_nodes)
{
    void **node = malloc(nr_nodes * sizeof *node);

    for (int t = 0; t < nr_trees; t++) {
        for (size_t i = 0; i < nr_nodes; i++)
            node[i] = make(site, 16, 120);
        for (size_t i = 0; i < nr_nodes; i++)
            free(node[i]);
    }
    free(node);
}

static void parser(void)
{
    trees(site_a, 120, 16000);
}

// All of it stays within the magazines: no slow path, nothing to be seen.
static void small_parser(void)
{
    trees(site_a, 100, 2000);
}

// What is kept and what is borrowed come from the same sizes, in turns: A keeps, B borrows.
static void interpreter(void)
{
    uint64_t start = now_ms();
    static void *kept[250000];

    for (size_t i = 0; i < COUNT(kept); i++) {
        void *borrowed[4];
        for (size_t j = 0; j < COUNT(borrowed); j++)
            borrowed[j] = make(site_b, 100, 160);
        kept[i] = make(site_a, 100, 160);
        for (size_t j = 0; j < COUNT(borrowed); j++)
            free(borrowed[j]);
    }
    wait_until(start + 2500);
    trees(site_c, 60, 16000);
}

static void symbol_table(void)
{
    uint64_t start = now_ms();
    static void *kept[100000];

    for (size_t i = 0; i < COUNT(kept); i++)
        kept[i] = make(site_a, 24, 300);
    wait_until(start + 1500);
    for (size_t i = 0; i < COUNT(kept) / 2; i++)
        free(kept[i]);
}

// Pairs that never leave the magazine; now and then something else takes a slow path.
static void borrower(void)
{
    uint64_t end = now_ms() + 4000;

    while (now_ms() < end) {
        for (int i = 0; i < 2000; i++)
            free(make(site_a, 64, 64));
        for (int i = 0; i < 10; i++)
            free(hide(malloc(100 * KIB + (size_t)i * 16 * KIB)));
    }
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void *slot[64];
    unsigned head, tail;
    bool over;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *consume(void *arg)
{
    pthread_mutex_lock(&queue.lock);
    while (!queue.over || queue.head != queue.tail) {
        while (queue.head == queue.tail && !queue.over)
            pthread_cond_wait(&queue.changed, &queue.lock);
        if (queue.head != queue.tail) {
            free(queue.slot[queue.tail++ % COUNT(queue.slot)]);
            pthread_cond_signal(&queue.changed);
        }
    }
    pthread_mutex_unlock(&queue.lock);
    return arg;
}

static void pipeline_of(site_fn *site, int nr, size_t low, size_t high)
{
    pthread_t thread;

    queue.over = false;
    pthread_create(&thread, NULL, consume, NULL);
    for (int i = 0; i < nr; i++) {
        void *message = make(site, low, high);
        pthread_mutex_lock(&queue.lock);
        while (queue.head - queue.tail == COUNT(queue.slot))
            pthread_cond_wait(&queue.changed, &queue.lock);
        queue.slot[queue.head++ % COUNT(queue.slot)] = message;
        pthread_cond_signal(&queue.changed);
        pthread_mutex_unlock(&queue.lock);
    }
    pthread_mutex_lock(&queue.lock);
    queue.over = true;
    pthread_cond_signal(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    pthread_join(thread, NULL);
}

static void pipeline(void)
{
    pipeline_of(site_a, 60000, 100, 1000);
}

static void file_server(void)
{
    pipeline_of(site_a, 4000, 8 * KIB, 30 * KIB);
    generations(site_b, 15000, 60, 300);
}

// Strings that grow, many at a time so that they are in each other's way.
static void builder(void)
{
    static void *text[2000];

    for (int round = 0; round < 8; round++) {
        for (size_t size = 32; size <= 8 * KIB; size *= 2)
            for (size_t i = 0; i < COUNT(text); i++)
                text[i] = site_a(text[i], size + i % 16);
        for (size_t i = 0; i < COUNT(text); i++) {
            free(text[i]);
            text[i] = NULL;
        }
    }
}

static void vectors(void)
{
    static void *vector[400];

    for (int round = 0; round < 20; round++) {
        for (size_t size = 256; size <= 48 * KIB; size += size / 2)
            for (size_t i = 0; i < COUNT(vector); i++)
                vector[i] = site_a(vector[i], size);
        for (size_t i = 0; i < COUNT(vector); i++) {
            free(vector[i]);
            vector[i] = NULL;
        }
        trees(site_b, 4, 16000);
    }
}

static void uploads(void) // above 64 KiB, as the next three
{
    pipeline_of(site_a, 1000, 100 * KIB, 900 * KIB);
}

static void scratch(void)
{
    for (int i = 0; i < 4000; i++)
        free(make(site_a, 80 * KIB, 400 * KIB));
}

static void archive(void)
{
    uint64_t start = now_ms();
    static void *kept[60];

    for (size_t i = 0; i < COUNT(kept); i++) {
        void *borrowed = make(site_b, 200 * KIB, 900 * KIB);
        kept[i] = make(site_a, 200 * KIB, 900 * KIB);
        free(borrowed);
    }
    wait_until(start + 1500);
    for (size_t i = 0; i < COUNT(kept); i++)
        free(kept[i]);
}

static void journals(void)
{
    for (int round = 0; round < 20; round++) {
        void *journal = NULL;
        for (size_t size = 100 * KIB; size <= 6 * MIB; size *= 2)
            journal = site_a(journal, size);
        free(journal);
    }
}

// Called too rarely for a judgement.
static void start_up(void)
{
    static void *kept[5];

    for (size_t i = 0; i < COUNT(kept); i++)
        kept[i] = make(site_a, 200 * KIB, 300 * KIB);
    for (size_t i = 0; i < COUNT(kept); i++)
        kept[i] = make(site_b, 3 * MIB, 3 * MIB);
    generations(site_c, 30000, 30, 100);
}

static const struct program {
    const char *name;
    void (*run)(void);
    enum purpose a, b, c; // of the sites; NR_PURPOSES: not used
} programs[] = {
    {"records", records, SMALL, NR_PURPOSES, NR_PURPOSES},
    {"sessions", sessions, SMALL, SMALL, NR_PURPOSES},
    {"pages", pages, MEDIUM, NR_PURPOSES, NR_PURPOSES},
    {"frames", frames, MEDIUM, NR_PURPOSES, NR_PURPOSES},
    {"images", images, LARGE, NR_PURPOSES, NR_PURPOSES},
    {"parser", parser, SHORT, NR_PURPOSES, NR_PURPOSES},
    {"small parser", small_parser, SHORT, NR_PURPOSES, NR_PURPOSES},
    {"interpreter", interpreter, LONG, SHORT, SHORT},
    {"symbol table", symbol_table, LONG, NR_PURPOSES, NR_PURPOSES},
    {"borrower", borrower, SHORT, NR_PURPOSES, NR_PURPOSES},
    {"pipeline", pipeline, HAND_OFF, NR_PURPOSES, NR_PURPOSES},
    {"file server", file_server, HAND_OFF, SMALL, NR_PURPOSES},
    {"builder", builder, GROWS, NR_PURPOSES, NR_PURPOSES},
    {"vectors", vectors, GROWS, SHORT, NR_PURPOSES},
    {"uploads", uploads, HAND_OFF, NR_PURPOSES, NR_PURPOSES},
    {"scratch", scratch, SHORT, NR_PURPOSES, NR_PURPOSES},
    {"archive", archive, LONG, SHORT, NR_PURPOSES},
    {"journals", journals, GROWS, NR_PURPOSES, NR_PURPOSES},
    {"start-up", start_up, UNKNOWN, UNKNOWN, SMALL},
};

// ---- judgement ---------------------------------------------------------------------------------

// A function has two calls: realloc and malloc. The one with more bytes speaks for it.
struct verdict {
    uint64_t bytes, samples;
    uint32_t purpose;
};

static site_fn *const functions[3] = {site_a, site_b, site_c};

static int judge(const hak_site_t *site, void *arg)
{
    struct verdict *verdict = arg;

    for (int i = 0; i < 3; i++) {
        uintptr_t start = (uintptr_t)functions[i], at = (uintptr_t)site->site;
        if (at < start || at - start > 128)
            continue;
        for (int j = 0; j < 3; j++) // the nearest function below
            if ((uintptr_t)functions[j] > start && (uintptr_t)functions[j] < at)
                goto next;
        if (site->total_bytes >= verdict[i].bytes) {
            verdict[i].bytes = site->total_bytes;
            verdict[i].samples = site->samples;
            for (uint32_t p = 0; p < NR_PURPOSES; p++)
                if (strcmp(names[p], site->purpose) == 0)
                    verdict[i].purpose = p;
        }
    next:;
    }
    return 0;
}

// In a process of its own; false: it failed.
static bool run_and_judge(const struct program *program, struct verdict verdict[3])
{
    int ends[2], status = 0;

    if (pipe(ends) != 0)
        return false;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        void *symbol = dlsym(RTLD_DEFAULT, "hak_site_foreach");
        int (*foreach)(int (*)(const hak_site_t *, void *), void *);
        memcpy(&foreach, &symbol, sizeof foreach);
        program->run();
        if (symbol != NULL)
            foreach(judge, verdict);
        _exit(symbol == NULL || write(ends[1], verdict, 3 * sizeof *verdict) < 0);
    }
    close(ends[1]);
    bool got = read(ends[0], verdict, 3 * sizeof *verdict) == (ssize_t)(3 * sizeof *verdict);
    close(ends[0]);
    return waitpid(child, &status, 0) == child && got && status == 0;
}

static int matrix[NR_PURPOSES][NR_PURPOSES]; // [truth][inferred]

static void print_matrix(void)
{
    printf("# %-17s", "truth \\ inferred");
    for (int p = 0; p < NR_PURPOSES; p++)
        printf(" %-7.7s", names[p]);
    printf(" recall\n");
    for (int t = 0; t < NR_PURPOSES; t++) {
        int sum = 0;
        printf("# %-17s", names[t]);
        for (int p = 0; p < NR_PURPOSES; p++) {
            printf(" %-7d", matrix[t][p]);
            sum += matrix[t][p];
        }
        printf(" %d/%d\n", matrix[t][t], sum);
    }
}

static int confusion_matrix(void)
{
    int right = 0, all = 0;

    for (size_t i = 0; i < COUNT(programs); i++) {
        const enum purpose truth[3] = {programs[i].a, programs[i].b, programs[i].c};
        struct verdict verdict[3] = {{0, 0, UNKNOWN}};
        CHECK_MSG(run_and_judge(&programs[i], verdict), "%s", programs[i].name);
        for (int s = 0; s < 3; s++) {
            if (truth[s] == NR_PURPOSES)
                continue;
            all++;
            right += verdict[s].purpose == truth[s];
            matrix[truth[s]][verdict[s].purpose]++;
            printf("# %-13s %c  %-17s %-17s %4llu samples %8llu KiB%s\n", programs[i].name, 'a' + s,
                   names[truth[s]], names[verdict[s].purpose], (unsigned long long)verdict[s].samples,
                   (unsigned long long)verdict[s].bytes / 1024,
                   verdict[s].purpose == truth[s] ? "" : "  <--");
        }
    }
    print_matrix();
    printf("# accuracy %d of %d\n", right, all);
    for (int t = 0; t < NR_PURPOSES; t++)
        CHECK_MSG(matrix[t][t] > 0, "no %s site was recognised", names[t]);
    CHECK(right * 10 >= all * 9);
    return PASS;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"purposes inferred, against the truth", confusion_matrix, 120},
    };

    return harness_main(argc, argv, cases, COUNT(cases));
}
