// SPDX-License-Identifier: MIT
/* Processes that export. What belongs to others and may not be read is counted, not shown. */
#include "views.h"

#include "metrics.h"
#include "output.h"
#include "processes.h"

#include <stdio.h>
#include <string.h>

struct listing {
    unsigned nr, nr_denied;
    const struct threshold *thresholds;
    unsigned nr_thresholds;
    struct problem breach; /* code 0: none yet */
};

static void check(struct listing *listing, const struct target *t)
{
    char name[32];

    for (unsigned i = 0; i < listing->nr_thresholds && listing->breach.code == 0; i++)
        if (threshold_check(&listing->thresholds[i], &t->capture, &listing->breach) != 0) {
            snprintf(name, sizeof name, "process %d", (int)t->pid);
            problem_of(&listing->breach, name);
        }
}

/* The learner's state where the library has one. */
static const char *lifecycle(const struct capture *c, char *text, size_t bytes)
{
    const struct table *evo = capture_table(c, "evo");
    const struct hak_stats_field *f = table_field(evo, "state");
    static const char *const names[] = {"off", "learn", "frozen", "canary"};

    if (!f || evo->nr_rows == 0)
        return "-";
    if (f->kind == HAK_KIND_TEXT)
        return clean_text((const char *)table_bytes(evo, 0, f), f->bytes, text, bytes);
    return table_value(evo, 0, f) < 4 ? names[table_value(evo, 0, f)] : "?";
}

static void row(struct target *t, void *arg)
{
    const struct capture *c = &t->capture;
    char live[NUMBER_BYTES], rss[NUMBER_BYTES], state[16];
    struct listing *listing = arg;

    listing->nr++;
    check(listing, t);
    if (output.json) {
        json_open(NULL, '{');
        json_title(t);
        json_text("state", lifecycle(c, state, sizeof state));
        json_number("live", c->total.live);
        json_number("mapped", c->total.mapped);
        json_close('}');
        return;
    }
    printf("%8d  %-16s %-9s %-7s %9s %9s\n", (int)t->pid, c->command, mode_name(c->root.mode),
           lifecycle(c, state, sizeof state), human_bytes(c->total.live, live),
           human_bytes(c->rss_bytes, rss));
}

int view_list(const struct threshold *thresholds, unsigned nr_thresholds, struct problem *problem)
{
    struct listing listing = {.thresholds = thresholds, .nr_thresholds = nr_thresholds};

    if (output.json)
        json_open(NULL, '[');
    else
        printf("%s%8s  %-16s %-9s %-7s %9s %9s%s\n", bold(), "PID", "COMMAND", "MODE", "STATE",
               "LIVE", "RSS", plain());
    listing.nr_denied = processes_foreach(row, &listing);
    if (output.json) {
        json_close(']');
        json_end();
    }
    if (listing.nr_denied)
        fprintf(stderr,
                "hakmem-stats: %u processes may use libhakmem but their memory may not be read\n",
                listing.nr_denied);
    if (listing.nr == 0)
        return problem_set(problem, EXIT_NOTHING, "no process that uses libhakmem");
    *problem = listing.breach;
    return listing.breach.code;
}
