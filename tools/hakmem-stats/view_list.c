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
};

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

int view_list(struct problem *problem)
{
    struct listing listing = {0};

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
    return 0;
}
