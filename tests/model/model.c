// SPDX-License-Identifier: MIT
//
// The model test's door: options, threads, and the line at the end. See model.h.
#include "exchange.h"
#include "model.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct options opt = {
    .seed = 1,
    .ops = 1000000,
    .threads = 1,
    .max_size = (uint64_t)64 << 20,
    .max_live = (uint64_t)192 << 20,
    .slots = 4096,
    .shrink_seconds = 60,
};
size_t page_size;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t finished = PTHREAD_COND_INITIALIZER;
static volatile sig_atomic_t stopped; // --seconds: time is up
static unsigned nr_finished; // workers done with their stream; protected by lock
static uint64_t nr_born;     // threads started; protected by lock

static const char usage[] =
    "usage: model [--seed N] [--ops N] [--threads N] [--max-size BYTES] [--max-live BYTES] "
    "[--slots N]\n"
    "             [--strict | --lenient] [--oom-ok] [--realloc0-alloc] [--shrink] "
    "[--shrink-seconds N] [--seconds N] [--quiet]\n"
    "             [--break overlap|content|zero|align|usable|errno|realloc]\n"
    "N takes K, M, G (1000) and Ki, Mi, Gi (1024). Exit: 0 all answers right, 1 one was wrong, 2 "
    "usage.\n";

static void play_one(struct worker *w)
{
    struct op op;

    next_op(w, &op);
    w->current = &op;
    if (op.kind == OP_EXCHANGE)
        exchange(w, &w->slot[op.slot], mix(op.n ^ w->rng));
    else
        play(w, &op);
    w->current = NULL;
}

static bool goes_on(const struct worker *w)
{
    return w->n < w->limit && !stopped;
}

static void on_alarm(int number)
{
    (void)number;
    stopped = 1;
}

static bool start_thread(struct worker *w);

// One life: plays until its end, then either another thread goes on with the same worker, or the
// worker is done.
static void *live(void *argument)
{
    struct worker *w = argument;

    set_reporting(w);
    do {
        w->life_ends = w->n + ((uint64_t)1 << (12 + mix(w->rng) % 8));
        while (goes_on(w) && w->n < w->life_ends)
            play_one(w);
        if (goes_on(w) && start_thread(w))
            return NULL;
    } while (goes_on(w));
    pthread_mutex_lock(&lock);
    nr_finished++;
    pthread_cond_signal(&finished);
    pthread_mutex_unlock(&lock);
    return NULL;
}

// False: no memory for a thread, where that is legal.
static bool start_thread(struct worker *w)
{
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    int rc = pthread_create(&thread, &attr, live, w);
    pthread_attr_destroy(&attr);
    if (rc != 0 && opt.oom_ok)
        return false;
    if (rc != 0)
        fail(w, "pthread_create", "expected 0, actual %d", rc);
    pthread_mutex_lock(&lock);
    nr_born++;
    pthread_mutex_unlock(&lock);
    return true;
}

static void run_threads(struct worker *workers)
{
    for (unsigned i = 0; i < opt.threads; i++)
        if (!start_thread(&workers[i]))
            fail(&workers[i], "pthread_create", "expected a thread, actual none");
    pthread_mutex_lock(&lock);
    while (nr_finished < opt.threads)
        pthread_cond_wait(&finished, &lock);
    pthread_mutex_unlock(&lock);
}

// What is left is checked and freed too, from this thread: most of it was allocated by threads that
// are gone.
static void drain_all(struct worker *workers)
{
    for (unsigned i = 0; i < opt.threads; i++)
        drain(&workers[i]);
    while (exchange_take_last(&workers[0], &workers[0].slot[0]))
        drain(&workers[0]);
}

static double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run(void)
{
    struct worker *workers = map_memory(opt.threads * sizeof *workers, false);

    for (unsigned i = 0; i < opt.threads; i++)
        worker_init(&workers[i], i, opt.ops / opt.threads + (i < opt.ops % opt.threads));
    double start = seconds_now();
    if (opt.threads == 1) {
        set_reporting(&workers[0]);
        while (goes_on(&workers[0]))
            play_one(&workers[0]);
    } else {
        run_threads(workers);
    }
    drain_all(workers);
    double seconds = seconds_now() - start;
    uint64_t played = 0;
    for (unsigned i = 0; i < opt.threads; i++)
        played += workers[i].n;
    if (!opt.quiet)
        say("model: ok: seed %" PRIu64 ", %" PRIu64 " operations, %u threads (%" PRIu64
            " started), %.2f s, %.2f M operations/s\n",
            opt.seed, played, opt.threads, nr_born, seconds, (double)played / seconds / 1e6);
    return 0;
}

static uint64_t number(const char *text)
{
    char *end;

    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    uint64_t unit = 1000;
    if (end == text || errno != 0)
        goto bad;
    if (*end == 'e') {
        for (unsigned long e = strtoul(end + 1, &end, 10); e > 0; e--)
            value *= 10;
        return value;
    }
    if (*end != '\0' && end[1] == 'i')
        unit = 1024;
    switch (*end) {
    case '\0':
        return value;
    case 'G':
        value *= unit;
        __attribute__((fallthrough));
    case 'M':
        value *= unit;
        __attribute__((fallthrough));
    case 'K':
        return value * unit;
    default:
        break;
    }
bad:
    say("model: not a number: %s\n", text);
    _exit(2);
}

static enum fault fault_named(const char *name)
{
    static const char *const names[] = {"none",  "overlap", "content", "zero",
                                        "align", "usable",  "errno",   "realloc"};

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum fault)i;
    say("model: no such fault: %s\n%s", name, usage);
    _exit(2);
}

enum {
    SEED,
    OPS,
    THREADS,
    MAX_SIZE,
    MAX_LIVE,
    SLOTS,
    STRICT,
    LENIENT,
    OOM_OK,
    REALLOC0_ALLOC,
    SHRINK,
    SHRINK_SECONDS,
    SECONDS,
    QUIET,
    BREAK,
    HELP
};

static const struct option long_options[] = {
    {"seed", required_argument, NULL, SEED},
    {"ops", required_argument, NULL, OPS},
    {"threads", required_argument, NULL, THREADS},
    {"max-size", required_argument, NULL, MAX_SIZE},
    {"max-live", required_argument, NULL, MAX_LIVE},
    {"slots", required_argument, NULL, SLOTS},
    {"strict", no_argument, NULL, STRICT},
    {"lenient", no_argument, NULL, LENIENT},
    {"oom-ok", no_argument, NULL, OOM_OK},
    {"realloc0-alloc", no_argument, NULL, REALLOC0_ALLOC},
    {"shrink", no_argument, NULL, SHRINK},
    {"shrink-seconds", required_argument, NULL, SHRINK_SECONDS},
    {"seconds", required_argument, NULL, SECONDS},
    {"quiet", no_argument, NULL, QUIET},
    {"break", required_argument, NULL, BREAK},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

static void apply(int option, const char *value)
{
    switch (option) {
    case SEED:
        opt.seed = number(value);
        break;
    case OPS:
        opt.ops = number(value);
        break;
    case THREADS:
        opt.threads = (unsigned)number(value);
        break;
    case MAX_SIZE:
        opt.max_size = number(value);
        break;
    case MAX_LIVE:
        opt.max_live = number(value);
        break;
    case SLOTS:
        opt.slots = (uint32_t)number(value);
        break;
    case STRICT:
    case LENIENT:
        opt.strict = option == STRICT;
        break;
    case OOM_OK:
        opt.oom_ok = true;
        break;
    case REALLOC0_ALLOC:
        opt.realloc0_alloc = true;
        break;
    case SHRINK:
        opt.shrink = true;
        break;
    case SHRINK_SECONDS:
        opt.shrink_seconds = (unsigned)number(value);
        break;
    case SECONDS: // the alarm interrupts whatever is going on
        signal(SIGALRM, on_alarm);
        alarm((unsigned)number(value));
        break;
    case QUIET:
        opt.quiet = true;
        break;
    case BREAK:
        opt.fault = fault_named(value);
        break;
    default:
        say("%s", usage);
        _exit(option == HELP ? 0 : 2);
    }
}

int main(int argc, char **argv)
{
    int option;

    page_size = (size_t)sysconf(_SC_PAGESIZE);
    opt.strict = api_is_hakmem();
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        apply(option, optarg);
    if (optind != argc || opt.threads == 0 || opt.slots == 0 ||
        (opt.slots & (opt.slots - 1)) != 0 || (opt.shrink && opt.threads != 1)) {
        say("model: --slots is a power of two, --threads at least 1, --shrink wants one thread\n%s",
            usage);
        return 2;
    }
    api_init();
    shadow_init();
    catch_signals();
    return opt.shrink ? shrink_run() : run();
}
