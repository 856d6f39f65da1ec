// SPDX-License-Identifier: MIT
#include "threshold.h"

#include "metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const char *text, struct problem *problem)
{
    return problem_set(problem, EXIT_USAGE,
                       "--fail-if '%.80s': expected METRIC OP NUMBER, as in 'live>2G', "
                       "'cached>10%%', 'rss>=500M'; "
                       "metrics are rss and the names that `show` prints",
                       text);
}

static bool parse_number(const char *text, struct threshold *t)
{
    static const char suffixes[] = "KMGT";
    char *end;
    const char *suffix;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    t->value = strtoull(text, &end, 10);
    if (errno)
        return false;
    if (*end == '%' && !end[1]) {
        t->percent_of_mapped = true;
        return true;
    }
    suffix = *end ? strchr(suffixes, *end) : NULL;
    if (*end && (!suffix || end[1]))
        return false;
    if (suffix) {
        unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);
        if (t->value > UINT64_MAX >> shift)
            return false;
        t->value <<= shift;
    }
    return true;
}

int threshold_parse(const char *text, struct threshold *t, struct problem *problem)
{
    size_t name_bytes = strcspn(text, "<>=! "), operator_bytes;
    const char *operator= text + name_bytes + strspn(text + name_bytes, " ");
    char name[32];
    const struct metric *metric;

    memset(t, 0, sizeof *t);
    t->text = text;
    operator_bytes = strspn(operator, "<>=!");
    if (name_bytes == 0 || name_bytes >= sizeof name || operator_bytes == 0 || operator_bytes > 2)
        return refuse(text, problem);
    memcpy(name, text, name_bytes);
    name[name_bytes] = '\0';
    memcpy(t->operator, operator, operator_bytes);
    metric = metric_find(name);
    if (!metric && strcmp(name, "rss") != 0)
        return refuse(text, problem);
    t->offset = metric ? metric->offset : THRESHOLD_RSS;
    if (!strstr("> >= < <= == !=", t->operator) || strcmp(t->operator, "=") == 0 ||
        strcmp(t->operator, "!") == 0)
        return refuse(text, problem);
    operator+= operator_bytes;
    return parse_number(operator+ strspn(operator, " "), t) ? 0 : refuse(text, problem);
}

static bool holds(uint64_t actual, const char *operator, uint64_t value)
{
    bool equal = actual == value;

    switch (operator[0]) {
    case '>':
        return actual > value || (equal && operator[1]);
    case '<':
        return actual < value || (equal && operator[1]);
    case '=':
        return equal;
    default:
        return !equal;
    }
}

int threshold_check(const struct threshold *t, const struct capture *capture,
                    struct problem *problem)
{
    uint64_t actual = capture->rss_bytes, value = t->value;

    if (t->offset != THRESHOLD_RSS)
        memcpy(&actual, (const char *)&capture->total + t->offset, sizeof actual);
    if (t->percent_of_mapped)
        value = capture->total.mapped / 100 * value + capture->total.mapped % 100 * value / 100;
    if (!holds(actual, t->operator, value))
        return 0;
    return problem_set(problem, EXIT_BREACHED,
                       "threshold '%.80s' breached: %" PRIu64 " %s %" PRIu64, t->text, actual,
                       t->operator, value);
}
