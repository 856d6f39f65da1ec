// SPDX-License-Identifier: MIT
#include "settings.h"

#include "fuzz.h"

#include "base/panic.h"
#include "config/config_private.h" /* the ranges */

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 400

static jmp_buf stopped;

/* strict: instead of the abort. */
static void on_stop(void)
{
    longjmp(stopped, 1);
}

static bool is_number(unsigned i)
{
    return hk_config_rows[i].type >= OPTION_UINT && hk_config_rows[i].type <= OPTION_SIZE;
}

/* "12K" is 12288; words (limit = auto) are not numbers. */
static void check_range(unsigned i, const char *text)
{
    static const char units[] = "KMGTPE";
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;

    if (*text < '0' || *text > '9')
        return;
    value <<= unit ? 10 * (unit - units + 1) : 0;
    FUZZ_CHECK(value >= hk_config_rows[i].min && value <= hk_config_rows[i].max);
}

/* As above; thousandths. */
static void check_ratio(unsigned i, const char *text)
{
    FUZZ_CHECK((uint64_t)(strtod(text, NULL) * 1000 + 0.5) >= hk_config_rows[i].min);
    FUZZ_CHECK((uint64_t)(strtod(text, NULL) * 1000 + 0.5) <= hk_config_rows[i].max);
}

/* The text of every value is one that the parser takes, and means that value. */
static void check_option(unsigned i)
{
    char before[TEXT_BYTES], after[TEXT_BYTES], origin[16];
    size_t n = hk_config_format(i, before, sizeof before);

    FUZZ_CHECK(n > 0 && n == strlen(before));
    if (is_number(i))
        check_range(i, before);
    if (hk_config_rows[i].type == OPTION_RATIO)
        check_ratio(i, before);
    FUZZ_CHECK(hk_config_set(hk_config_name(i), before) == 0);
    FUZZ_CHECK(hk_config_format(i, after, sizeof after) == n && strcmp(before, after) == 0);
    FUZZ_CHECK(hk_config_origin(i, origin, sizeof origin) > 0 && strlen(origin) < sizeof origin);
    FUZZ_CHECK(hk_config_source(i)[0]);
}

void settings_load(char **envp)
{
    void (*hook)(void) = hk_panic_hook;
    struct hk_config_run run;
    char origin[TEXT_BYTES];

    hk_panic_hook = on_stop;
    if (setjmp(stopped) == 0)
        hk_config_load(envp);
    hk_panic_hook = hook;
    if (hk_config_find_run(envp, &run))
        FUZZ_CHECK(run.hops < run.socket && run.socket < run.options && run.options < run.path);
    FUZZ_CHECK(hk_config.mode < HK_NR_MODES && hk_config.thp <= HK_THP_ON);
    for (unsigned i = 0; i < HK_NR_OPTIONS; i++)
        FUZZ_CHECK(hk_config_origin(i, origin, sizeof origin) > 0);
    /* The mode first: setting it moves all that nobody has set. */
    for (unsigned i = 0; i < HK_NR_OPTIONS; i++)
        check_option(i);
}
