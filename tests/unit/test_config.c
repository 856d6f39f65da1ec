// SPDX-License-Identifier: MIT
/*
 * Linked with --wrap=hk_os_is_secure, so that a test can be a setuid program.
 * Over 900 lines because all sources of settings share one scaffolding.
 */
#include "config/config.h"

#include "child.h"
#include "os/os.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

static const char *const option_names[] = {
#define X(name, type, field, preset, min, max, words, unit, help) #name,
#include "config/options.def"
};

static const char *const legacy_names[] = {
#define X(name, state, note) #name,
#include "config/legacy.def"
};

static const char *const mode_names[HK_NR_MODES] = {"minimal", "fast", "balanced", "learning",
                                                    "research"};

/*
 * Scaffolding: an environment, a file in the place of /etc/hakmem.conf, another for HAKMEM_CONF.
 */

static bool at_secure;
static char *environment[32];
static char directory[64], file_path[96], conf_path[96], conf_variable[128];

bool __wrap_hk_os_is_secure(void);
bool __wrap_hk_os_is_secure(void)
{
    return at_secure;
}

static void write_file(const char *path, const char *text, size_t bytes)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, bytes, f), bytes);
    fclose(f);
}

static void set_file(const char *text)
{
    write_file(file_path, text, strlen(text));
}

static void set_conf(const char *text)
{
    write_file(conf_path, text, strlen(text));
}

static void set_environment(const char *first, ...)
{
    va_list rest;
    size_t n = 0;

    va_start(rest, first);
    for (const char *s = first; s; s = va_arg(rest, const char *))
        environment[n++] = (char *)(uintptr_t)s;
    va_end(rest);
    environment[n] = NULL;
}

static void load(void)
{
    hk_config_load(environment);
}

static void setup(void)
{
    /* A directory of its own: a test that was killed leaves its files, and process ids come round. */
    snprintf(directory, sizeof directory, "/tmp/hakmem-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(file_path, sizeof file_path, "%s/conf", directory);
    snprintf(conf_path, sizeof conf_path, "%s/user", directory);
    snprintf(conf_variable, sizeof conf_variable, "HAKMEM_CONF=%s", conf_path);
    hk_config_file = file_path;
    environment[0] = NULL;
}

static void teardown(void)
{
    unlink(file_path);
    unlink(conf_path);
    rmdir(directory);
}

/* What hk_config_load prints in a child, and that the child lives. */
static const char *said(void)
{
    static struct child child;

    child = run_child(load);
    ck_assert_msg(child_exited_0(&child), "ended with status %#x: %s", child.status, child.text);
    return child.text;
}

static void silent(void)
{
    ck_assert_str_eq(said(), "");
}

/* One line, and it holds both. */
static void complains(const char *setting, const char *why)
{
    const char *text = said();

    ck_assert_msg(strstr(text, setting) != NULL, "\"%s\" is not in: %s", setting, text);
    ck_assert_msg(strstr(text, why) != NULL, "\"%s\" is not in: %s", why, text);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    load(); /* here too, so that the caller sees the values */
}

static const char *text_of(enum hk_option i)
{
    static char text[512];

    hk_config_format(i, text, sizeof text);
    return text;
}

#define is(i, expected) ck_assert_str_eq(text_of(HK_OPTION_##i), expected)
#define comes_from(i, expected) ck_assert_str_eq(hk_config_source(HK_OPTION_##i), expected)

/*
 * Defaults and modes.
 */

START_TEST(valid_before_load)
{
    ck_assert_uint_eq(hk_config.mode, HK_MODE_BALANCED);
    ck_assert_uint_eq(hk_config.thp, HK_THP_AUTO);
    ck_assert_uint_eq(hk_config.tiny_mag_cap, 2048);
    ck_assert_uint_eq(hk_config.mmap_threshold_bytes, 2 * HK_MIB);
    ck_assert_uint_eq(hk_config.bigcache_bytes, 128 * HK_MIB);
    ck_assert_uint_eq(hk_config.wmax_mid_thousandths, 1250);
    ck_assert_uint_eq(hk_config.cap_large_blocks.of[0], 4);
    ck_assert_uint_eq(hk_config.cap_large_blocks.of[HK_CONFIG_LIST_MAX - 1], 4);
    ck_assert(!hk_config.disable_bigcache);
    comes_from(thp, "default");
}
END_TEST

START_TEST(load_of_nothing_changes_nothing)
{
    struct hk_config before = hk_config;

    silent();
    load();
    ck_assert_mem_eq(&before, &hk_config, sizeof before);
    hk_config_load(NULL);
    ck_assert_mem_eq(&before, &hk_config, sizeof before);
    comes_from(mode, "default");
}
END_TEST

START_TEST(minimal_switches_off)
{
    set_environment("HAKMEM_MODE=minimal", NULL);
    silent();
    load();
    ck_assert_uint_eq(hk_config.mode, HK_MODE_MINIMAL);
    ck_assert(hk_config.disable_bigcache);
    ck_assert(hk_config.disable_batch);
    ck_assert_uint_eq(hk_config.thp, HK_THP_OFF);
    ck_assert_uint_lt(hk_config.tiny_mag_cap, 2048);
    comes_from(mode, "environment");
    comes_from(thp, "mode");
}
END_TEST

START_TEST(modes_and_their_other_names)
{
    set_environment("HAKMEM_MODE=evolving", NULL);
    load();
    is(mode, "learning");
    set_environment("HAKMEM_MODE=Baseline", NULL);
    load();
    is(mode, "minimal");
    set_environment("HAKMEM_MODE=turbo", NULL);
    complains("HAKMEM_MODE=turbo", "minimal/baseline|fast|balanced|learning/evolving|research");
    is(mode, "balanced");
}
END_TEST

/* Display and parser are inverse, and no preset lies outside its own range. */
START_TEST(every_preset_reads_back)
{
    for (int mode = 0; mode < HK_NR_MODES; mode++) {
        char variable[32], text[512];
        snprintf(variable, sizeof variable, "HAKMEM_MODE=%s", mode_names[mode]);
        set_environment(variable, NULL);
        load();
        for (unsigned i = 0; i < HK_NR_OPTIONS; i++) {
            struct hk_config before = hk_config;
            size_t length = hk_config_format(i, text, sizeof text);
            ck_assert_uint_eq(length, strlen(text));
            ck_assert_str_eq(hk_config_name(i), option_names[i]);
            ck_assert_msg(hk_config_set(hk_config_name(i), text) == 0, "%s refuses its preset %s",
                          hk_config_name(i), text);
            ck_assert_mem_eq(&before, &hk_config, sizeof before);
        }
    }
}
END_TEST

START_TEST(format_cuts)
{
    char text[4] = "xxx";

    ck_assert_uint_eq(hk_config_format(HK_OPTION_mode, text, sizeof text), strlen("balanced"));
    ck_assert_str_eq(text, "bal");
    ck_assert_uint_eq(hk_config_format(HK_OPTION_mode, text, 0), strlen("balanced"));
    ck_assert_str_eq(text, "bal");
}
END_TEST

/*
 * Values of each type.
 */

static const struct {
    const char *name, *value, *shown; /* shown: NULL if refused */
} values[] = {
    {"stats_dump", "1", "on"},
    {"stats_dump", "ON", "on"},
    {"stats_dump", "yes", "on"},
    {"stats_dump", "True", "on"},
    {"disable_batch", "0", "off"},
    {"disable_batch", "no", "off"},
    {"stats_dump", "2", NULL},
    {"stats_dump", "", NULL},
    {"stats_dump", "of", NULL},
    {"stats_dump", "off/0", NULL},
    {"thp", "on", "on"},
    {"thp", "aut", NULL},
    {"realloc0", "alloc", "alloc"},
    {"realloc0", "1", NULL},
    {"tiny_mag_cap", "8", "8"},
    {"tiny_mag_cap", "65536", "65536"},
    {"tiny_mag_cap", "7", NULL},
    {"tiny_mag_cap", "65537", NULL},
    {"tiny_mag_cap", "4294967304", NULL},
    {"tiny_mag_cap", "99999999999999999999999", NULL},
    {"tiny_mag_cap", "-1", NULL},
    {"tiny_mag_cap", "+9", NULL},
    {"tiny_mag_cap", "12x", NULL},
    {"tiny_mag_cap", " 12", NULL},
    {"tiny_mag_cap", "0x10", NULL},
    {"mmap_threshold", "64K", "64K"},
    {"mmap_threshold", "65536", "64K"},
    {"mmap_threshold", "100000", "100000"},
    {"mmap_threshold", "3m", "3M"},
    {"mmap_threshold", "16M", "16M"},
    {"mmap_threshold", "16385K", NULL},
    {"mmap_threshold", "65535", NULL},
    {"mmap_threshold", "2MB", NULL},
    {"mmap_threshold", "M", NULL},
    {"mmap_threshold", "2T", NULL},
    {"mmap_threshold", "18014398509481985K", NULL},
    {"bigcache_bytes", "0", "0"},
    {"bigcache_bytes", "2MB", NULL},
    {"bigcache_bytes", "18446744073709551616", NULL},  /* 2^64 */
    {"bigcache_bytes", "20000000000000000000", NULL},  /* mod 2^64 in range */
    {"bigcache_bytes", "18014398509481984K", NULL},    /* 2^64 */
    {"limit", "auto", "auto"},
    {"limit", "none", "none"},
    {"limit", "1M", "1M"},
    {"limit", "1023K", NULL},
    {"limit", "off", NULL},
    {"seed", "18446744073709551615", "18446744073709551615"},
    {"seed", "auto", "auto"},
    {"seed", "18446744073709551616", NULL},
    {"wmax_mid", "1", "1"},
    {"wmax_mid", "1.06", "1.06"},
    {"wmax_mid", "1.500", "1.5"},
    {"wmax_mid", "2.0", "2"},
    {"wmax_mid", "1.0019", "1.001"},
    {"wmax_mid", "4.000", "4"},
    {"wmax_mid", "4.001", NULL},
    {"wmax_mid", "0.999", NULL},
    {"wmax_mid", "1.", NULL},
    {"wmax_mid", ".5", NULL},
    {"wmax_mid", "1.2.3", NULL},
    {"wmax_mid", "18446744073709553", NULL}, /* in thousandths, 1384 + 2^64 */
    {"cap_mid", "7", "7"},
    {"cap_mid", "1,2,3", "1,2,3"},
    {"cap_mid", "1/2/2", "1,2"},
    {"cap_mid", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"},
    {"cap_mid", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", NULL},
    {"cap_mid", "1,,2", NULL},
    {"cap_mid", "1,", NULL},
    {"cap_mid", "1,65536", NULL},
    {"cap_mid", "", NULL},
};

START_TEST(value)
{
    const char *shown = values[_i].shown;
    struct hk_config before = hk_config;
    char variable[128], before_text[512];
    unsigned i = 0;

    while (strcmp(hk_config_name(i), values[_i].name) != 0)
        i++;
    hk_config_format(i, before_text, sizeof before_text);
    snprintf(variable, sizeof variable, "HAKMEM_%s=%s", values[_i].name, values[_i].value);
    set_environment(variable, NULL);
    if (shown) {
        silent();
        load();
        ck_assert_str_eq(text_of(i), shown);
        ck_assert_str_eq(hk_config_source(i), "environment");
    } else {
        complains(variable, "accepted: ");
        ck_assert_str_eq(text_of(i), before_text);
        ck_assert_mem_eq(&before, &hk_config, sizeof before);
        ck_assert_str_eq(hk_config_source(i), "default");
    }
}
END_TEST

START_TEST(short_list_repeats_its_last_number)
{
    set_environment("HAKMEM_CAP_LARGE=9,8,7", NULL);
    load();
    ck_assert_uint_eq(hk_config.cap_large_blocks.of[0], 9);
    ck_assert_uint_eq(hk_config.cap_large_blocks.of[2], 7);
    ck_assert_uint_eq(hk_config.cap_large_blocks.of[HK_CONFIG_LIST_MAX - 1], 7);
}
END_TEST

/*
 * Environment.
 */

START_TEST(names_in_any_case)
{
    set_environment("HAKMEM_THP=off", "HAKMEM_Strict=1", NULL);
    silent();
    load();
    is(thp, "off");
    is(strict, "on");
}
END_TEST

START_TEST(other_variables_are_none_of_ours)
{
    set_environment("PATH=/bin", "HAKMEM=1", "HAKMEMX=1", "hakmem_thp=off", "HAKMEM_WITHOUT_VALUE",
                    "", "=", NULL);
    silent();
}
END_TEST

START_TEST(unknown_variable)
{
    set_environment("HAKMEM_TPH=off", NULL);
    complains("ignored \"HAKMEM_TPH=off\"", "no such option");
}
END_TEST

START_TEST(options_variable)
{
    set_environment("HAKMEM_OPTIONS=thp:off,TINY_MAG_CAP:99,cap_mid:3/2/1,limit:1G", NULL);
    silent();
    load();
    is(thp, "off");
    is(tiny_mag_cap, "99");
    is(cap_mid, "3,2,1");
    is(limit, "1G");
    comes_from(thp, "environment");
    set_environment("HAKMEM_OPTIONS=", NULL);
    silent();
}
END_TEST

START_TEST(bad_item_spares_the_others)
{
    set_environment("HAKMEM_OPTIONS=thp:maybe,tiny_mag_cap:99", NULL);
    complains("HAKMEM_OPTIONS: ignored \"thp:maybe\"", "off|auto|on");
    is(thp, "auto");
    is(tiny_mag_cap, "99");
    set_environment("HAKMEM_OPTIONS=tph:off", NULL);
    complains("\"tph:off\"", "no such option");
    set_environment("HAKMEM_OPTIONS=thp=off", NULL);
    complains("\"thp=off\"", "name:value");
    set_environment("HAKMEM_OPTIONS=thp:off,,stats_dump:1", NULL);
    complains("\"\"", "name:value");
    is(stats_dump, "on");
}
END_TEST

START_TEST(legacy_names_are_silent)
{
    for (size_t i = 0; i < sizeof legacy_names / sizeof *legacy_names; i++) {
        char variable[96], list[96], line[96];
        snprintf(variable, sizeof variable, "HAKMEM_%s=whatever", legacy_names[i]);
        snprintf(list, sizeof list, "HAKMEM_OPTIONS=%s:1", legacy_names[i]);
        snprintf(line, sizeof line, "%s = 1\n", legacy_names[i]);
        set_file(line);
        set_environment(variable, list, "HAKMEM_STRICT=1", NULL);
        silent();
    }
}
END_TEST

START_TEST(a_complaint_stays_one_line)
{
    char variable[600] = "HAKMEM_THP=";

    set_environment("HAKMEM_THP=a\nb\tc\x7f", NULL);
    complains("\"HAKMEM_THP=a?b?c?\"", "off|auto|on");
    memset(variable + strlen(variable), 'x', 580);
    set_environment(variable, NULL);
    complains("xxx...\"", "off|auto|on");
}
END_TEST

/* Each of them, in each of the places: one line that quotes the setting and says what would do. */
START_TEST(every_option_answers_a_bad_value)
{
    char setting[128];

    for (unsigned i = 0; i < HK_NR_OPTIONS; i++) {
        snprintf(setting, sizeof setting, "HAKMEM_%s=no-such-value", option_names[i]);
        set_environment(setting, NULL);
        complains(setting, "\": accepted: ");
        ck_assert_str_eq(hk_config_source(i), "default");
        snprintf(setting, sizeof setting, "HAKMEM_OPTIONS=%s:no-such-value", option_names[i]);
        set_environment(setting, NULL);
        complains("HAKMEM_OPTIONS: ignored \"", "\": accepted: ");
        snprintf(setting, sizeof setting, "%s = no-such-value", option_names[i]);
        set_file(setting);
        set_environment(NULL);
        complains(setting, ":1: ignored \"");
        unlink(file_path);
    }
}
END_TEST

START_TEST(the_nearest_name_is_proposed)
{
    set_environment("HAKMEM_PURGE_DELAY=5", NULL);
    complains("no such option", "; did you mean purge_delay_ms?\n");
    set_environment("HAKMEM_TPH=on", NULL);
    complains("no such option\n", "HAKMEM_TPH=on");
    set_environment("HAKMEM_OPTIONS=strickt:1", NULL);
    complains("\"strickt:1\"", "; did you mean strict?\n");
    set_environment("HAKMEM_SOMETHING_ELSE_ALTOGETHER_THAT_HAS_A_VERY_LONG_NAME=5", NULL);
    complains("no such option\n", "VERY_LONG_NAME");
}
END_TEST

START_TEST(range_is_shown_in_the_unit_of_the_option)
{
    set_environment("HAKMEM_MMAP_THRESHOLD=1", NULL);
    complains("HAKMEM_MMAP_THRESHOLD=1", "accepted: 64K..16M\n");
    set_environment("HAKMEM_WMAX_MID=9", NULL);
    complains("HAKMEM_WMAX_MID=9", "accepted: 1..4\n");
    set_environment("HAKMEM_TINY_REFILL_COUNT=0", NULL);
    complains("HAKMEM_TINY_REFILL_COUNT=0", "accepted: 1..1024\n");
    set_environment("HAKMEM_SEED=0", NULL);
    complains("HAKMEM_SEED=0", "accepted: auto|1..18446744073709551615\n");
    set_environment("HAKMEM_CAP_MID=x", NULL);
    complains("HAKMEM_CAP_MID=x", "accepted: 0..65535, up to 16 of them\n");
}
END_TEST

/*
 * Precedence.
 */

START_TEST(each_source_beats_the_next)
{
    set_file("thp = on\ntiny_mag_cap = 100\ntiny_refill_count = 10\nwmax_mid = 2\nmode = minimal");
    set_conf("tiny_mag_cap = 200\ntiny_refill_count = 20\nwmax_mid = 3\n");
    set_environment("HAKMEM_TINY_REFILL_COUNT=40", conf_variable,
                    "HAKMEM_OPTIONS=wmax_mid:4,tiny_refill_count:30", NULL);
    silent();
    load();
    is(mode, "minimal");
    is(disable_batch, "on");
    comes_from(disable_batch, "mode");
    is(thp, "on"); /* minimal says off */
    comes_from(thp, "file");
    is(tiny_mag_cap, "200");
    comes_from(tiny_mag_cap, "file");
    is(wmax_mid, "4");
    is(tiny_refill_count, "40");
    comes_from(tiny_refill_count, "environment");
    ck_assert_int_eq(hk_config_set("tiny_refill_count", "50"), 0);
    is(tiny_refill_count, "50");
    comes_from(tiny_refill_count, "api");
    comes_from(thp, "file");
}
END_TEST

START_TEST(set)
{
    struct hk_config before = hk_config;

    ck_assert_int_eq(hk_config_set("no_such", "1"), ENOENT);
    ck_assert_int_eq(hk_config_set("site_rules", "1"), ENOENT);
    ck_assert_int_eq(hk_config_set("thp", "maybe"), EINVAL);
    ck_assert_mem_eq(&before, &hk_config, sizeof before);
    ck_assert_int_eq(hk_config_set("THP", "on"), 0);
    ck_assert_int_eq(hk_config_set("mode", "minimal"), 0);
    is(thp, "on");
    is(disable_bigcache, "on");
    comes_from(disable_bigcache, "mode");
}
END_TEST

static const char *origin_of(enum hk_option i)
{
    static char text[256];

    hk_config_origin(i, text, sizeof text);
    return text;
}

START_TEST(origin_names_file_and_line)
{
    char expected[128];

    set_file("# first\n\nthp = on\nmode = fast\n");
    set_conf("wmax_mid = 3\ntiny_mag_cap = 100");
    set_environment("HAKMEM_TINY_REFILL_COUNT=40", conf_variable, "HAKMEM_OPTIONS=wmax_large:4",
                    "HAKMEM_RUN=0;;seed:7;", NULL);
    silent();
    load();
    snprintf(expected, sizeof expected, "%s:3", file_path);
    ck_assert_str_eq(origin_of(HK_OPTION_thp), expected);
    snprintf(expected, sizeof expected, "%s:2", conf_path);
    ck_assert_str_eq(origin_of(HK_OPTION_tiny_mag_cap), expected);
    ck_assert_str_eq(origin_of(HK_OPTION_tiny_refill_count), "HAKMEM_TINY_REFILL_COUNT");
    ck_assert_str_eq(origin_of(HK_OPTION_wmax_large), "HAKMEM_OPTIONS");
    ck_assert_str_eq(origin_of(HK_OPTION_seed), "hakmem-run");
    ck_assert_str_eq(origin_of(HK_OPTION_strict), "mode fast");
    ck_assert_uint_eq(hk_config_origin(HK_OPTION_strict, NULL, 0), strlen("mode fast"));
    set_environment(NULL);
    unlink(file_path);
    load();
    ck_assert_str_eq(origin_of(HK_OPTION_thp), "default");
}
END_TEST

START_TEST(run_beats_the_environment)
{
    struct hk_config_run run;

    set_environment("HAKMEM_THP=off", "HAKMEM_RUN=2;sock;thp:on,cap_mid:1/2;/a b;c", NULL);
    silent();
    load();
    is(thp, "on");
    is(cap_mid, "1,2");
    comes_from(thp, "hakmem-run");
    ck_assert(hk_config_find_run(environment, &run));
    ck_assert_int_eq(*run.hops, '2');
    ck_assert_int_eq(strncmp(run.socket, "sock;", 5), 0);
    ck_assert_str_eq(run.path, "/a b;c");
    set_environment("HAKMEM_RUN=0;sock;thp:maybe;x", NULL);
    complains("hakmem-run: ignored \"thp:maybe\"", "off|auto|on");
    static const char *const broken[] = {"", "x", "0", "0;", "0;a", "0;a;b", ";;;", "00;;;"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char variable[32];
        snprintf(variable, sizeof variable, "HAKMEM_RUN=%s", broken[i]);
        set_environment(variable, NULL);
        ck_assert(!hk_config_find_run(environment, &run));
        silent();
    }
}
END_TEST

START_TEST(loading_again_forgets)
{
    set_environment("HAKMEM_THP=off", NULL);
    load();
    set_environment(NULL);
    load();
    is(thp, "auto");
    comes_from(thp, "default");
}
END_TEST

/*
 * Files.
 */

START_TEST(file_syntax)
{
    set_file("# comment\n"
             "\n"
             "   \t\n"
             "thp=off\n"
             "  tiny_mag_cap\t=  77   # trailing\r\n"
             "#strict = 1\n"
             "cap_mid = 3,2,1\r\n"
             "Stats_Dump = yes"); /* no newline */
    silent();
    load();
    is(thp, "off");
    is(tiny_mag_cap, "77");
    is(strict, "off");
    is(cap_mid, "3,2,1");
    is(stats_dump, "on");
}
END_TEST

START_TEST(bad_lines)
{
    char expected[128];

    set_file("thp = off\nthp\nstats_dump = 1\n");
    snprintf(expected, sizeof expected, "hakmem: %s:2: ignored \"thp\": ", file_path);
    complains(expected, "accepted: name = value");
    is(stats_dump, "on");
    set_file("thp = sometimes # why not\n");
    complains("ignored \"thp = sometimes\"", "off|auto|on");
    set_file("= 3\n");
    complains("ignored \"= 3\"", "no such option");
    set_file("what = 3\n");
    complains("ignored \"what = 3\"", "no such option");
}
END_TEST

START_TEST(zero_bytes_in_a_file)
{
    static const char text[] = "thp = off\0\n\0\nstats_dump = 1\n";

    write_file(file_path, text, sizeof text - 1);
    struct child child = run_child(load);
    ck_assert(child_exited_0(&child));
    load();
    is(thp, "auto");
    is(stats_dump, "on");
}
END_TEST

START_TEST(absent_system_file_is_silent)
{
    silent();
    hk_config_file = "/nonexistent/hakmem.conf";
    silent();
    set_environment("HAKMEM_CONF=", NULL);
    silent();
}
END_TEST

/* Somebody asked for that one: never silence. */
START_TEST(absent_conf_is_told)
{
    set_environment("HAKMEM_CONF=/nonexistent/hakmem.conf", NULL);
    complains("HAKMEM_CONF: ignored \"/nonexistent/hakmem.conf\": ", "no such file");
    set_environment("HAKMEM_CONF=/", NULL);
    complains("HAKMEM_CONF: ignored \"/\": ", "directory");
    set_environment("HAKMEM_CONF=/nonexistent/hakmem.conf", "HAKMEM_STRICT=1", NULL);
    struct child child = run_child(load);
    ck_assert(child_aborted(&child));
}
END_TEST

static void load_as_nobody(void)
{
    if (setuid(65534) != 0)
        _exit(1);
    load();
}

START_TEST(unreadable_conf_is_told)
{
    set_conf("thp = on\n");
    ck_assert_int_eq(chmod(conf_path, 0), 0);
    ck_assert_int_eq(chmod(directory, 0755), 0);
    set_environment(conf_variable, NULL);
    struct child child = run_child(geteuid() == 0 ? load_as_nobody : load);
    ck_assert(child_exited_0(&child));
    ck_assert_msg(strstr(child.text, "no permission") != NULL, "%s", child.text);
}
END_TEST

START_TEST(a_fifo_does_not_hang)
{
    ck_assert_int_eq(mkfifo(conf_path, 0600), 0);
    set_environment(conf_variable, NULL);
    complains(conf_path, "no regular file");
    ck_assert_int_eq(mkfifo(file_path, 0600), 0);
    environment[0] = NULL;
    silent();
}
END_TEST

/* A reader that comes and goes ends who waits in open(2) with SIGPIPE at its first write. */
START_TEST(a_fifo_is_not_opened)
{
    ck_assert_int_eq(mkfifo(conf_path, 0600), 0);
    int reader = open(conf_path, O_RDONLY | O_NONBLOCK), writer = open(conf_path, O_WRONLY | O_NONBLOCK);
    char byte = 0;

    ck_assert(reader >= 0 && writer >= 0);
    ck_assert_int_eq(write(writer, "x", 1), 1);
    set_environment(conf_variable, NULL);
    complains(conf_path, "no regular file");
    ck_assert_int_eq(read(reader, &byte, 1), 1); /* nobody took it */
    ck_assert_int_eq(byte, 'x');
    close(writer);
    close(reader);
}
END_TEST

START_TEST(devices_are_told)
{
    set_environment("HAKMEM_CONF=/dev/zero", NULL);
    complains("/dev/zero", "no regular file");
    set_environment("HAKMEM_CONF=/dev/null", NULL); /* what people write for "none" */
    silent();
}
END_TEST

/* A file of the system's that is one is as absent, but may have no end. */
START_TEST(a_file_without_end_does_not_hang)
{
    hk_config_file = "/dev/zero";
    complains("/dev/zero", "longer than 32 KiB");
}
END_TEST

START_TEST(long_file)
{
    size_t bytes = 40 * 1024;
    char *text = malloc(bytes);

    memset(text, '\n', bytes);
    memcpy(text, "thp = off\n", 10);
    memcpy(text + 39 * 1024, "stats_dump = 1\n", 15);
    write_file(file_path, text, bytes);
    complains(file_path, "longer than 32 KiB");
    is(thp, "off");
    is(stats_dump, "off");
    free(text);
}
END_TEST

/*
 * Privileged programs, strictness, manners.
 */

START_TEST(secure_ignores_the_environment)
{
    set_conf("stats_dump = 1\n");
    set_environment("HAKMEM_THP=off", "HAKMEM_OPTIONS=tiny_mag_cap:99", "HAKMEM_NONSENSE=1",
                    conf_variable, NULL);
    load();
    is(thp, "off");
    is(stats_dump, "on");
    at_secure = true;
    silent();
    load();
    is(thp, "auto");
    is(tiny_mag_cap, "2048");
    is(stats_dump, "off");
}
END_TEST

START_TEST(secure_reads_only_what_root_alone_can_write)
{
    bool root = geteuid() == 0;

    at_secure = true;
    set_file("thp = off\n");
    ck_assert_int_eq(chmod(file_path, 0644), 0);
    load();
    is(thp, root ? "off" : "auto");
    ck_assert_int_eq(chmod(file_path, 0666), 0);
    load();
    is(thp, "auto");
    ck_assert_int_eq(chmod(file_path, 0644), 0);
    if (root)
        ck_assert_int_eq(chown(file_path, 12345, 0), 0);
    load();
    is(thp, "auto");
    at_secure = false;
    load();
    is(thp, "off");
}
END_TEST

START_TEST(strict_aborts_after_the_last_complaint)
{
    set_environment("HAKMEM_STRICT=1", "HAKMEM_THP=a", "HAKMEM_SEED=b", NULL);
    struct child child = run_child(load);
    ck_assert(child_aborted(&child));
    ck_assert_ptr_nonnull(strstr(child.text, "HAKMEM_THP=a"));
    ck_assert_ptr_nonnull(strstr(child.text, "HAKMEM_SEED=b"));
    ck_assert_ptr_nonnull(strstr(child.text, "strict"));
    set_environment("HAKMEM_STRICT=1", "HAKMEM_THP=on", NULL);
    silent();
    set_environment("HAKMEM_STRICT=0", "HAKMEM_THP=a", NULL);
    complains("HAKMEM_THP=a", "accepted");
}
END_TEST

START_TEST(allocates_nothing_and_keeps_errno)
{
    struct mallinfo2 before, after;

    set_file("thp = off\n");
    set_environment("HAKMEM_CONF=/nonexistent", "HAKMEM_TINY_MAG_CAP=99", NULL);
    errno = EBADMSG;
    before = mallinfo2();
    load();
    after = mallinfo2();
    ck_assert_int_eq(errno, EBADMSG);
    ck_assert_uint_eq(before.uordblks, after.uordblks);
}
END_TEST

static uint64_t random_state;

static unsigned pick(unsigned n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(random_state >> 33) % n;
}

/*
 * Garbage: mutated settings never crash, and every value stays one that reads back.
 */

static void make_garbage(char *text, size_t bytes)
{
    static const char *const pieces[] = {
        "HAKMEM_", "OPTIONS", "CONF=", "=",  ":",          ",",    "/", "#",  "\n",   "on",  "auto",
        ".",       "-",       "K",     "64", "9999999999", "1.25", " ", "\t", "\x80", "thp", "cap_mid",
    };
    size_t used = 0;
    const char *piece = pick(4) ? "HAKMEM_" : "";

    for (;;) {
        size_t length = strlen(piece);
        if (used + length >= bytes || pick(8) == 0)
            break;
        memcpy(text + used, piece, length);
        used += length;
        piece = option_names[pick(HK_NR_OPTIONS)];
        if (pick(3))
            piece = pieces[pick(sizeof pieces / sizeof *pieces)];
    }
    text[used] = 0;
}

static void load_garbage(void)
{
    char text[8][128], file[256];

    if (!freopen("/dev/null", "w", stderr))
        _exit(1);
    for (int round = 0; round < 5000; round++) {
        for (int i = 0; i < 8; i++) {
            make_garbage(text[i], sizeof text[i]);
            environment[i] = text[i];
        }
        environment[8] = (char *)"HAKMEM_STRICT=0"; /* the garbage may say 1, and then it would stop us */
        environment[9] = NULL;
        if (round % 16 == 0) {
            make_garbage(file, sizeof file);
            set_file(file);
        }
        load();
        for (unsigned i = 0; i < HK_NR_OPTIONS; i++) {
            char value_text[512];
            struct hk_config before = hk_config;
            hk_config_format(i, value_text, sizeof value_text);
            if (hk_config_set(hk_config_name(i), value_text) != 0 ||
                memcmp(&before, &hk_config, sizeof before) != 0)
                _exit(2);
        }
    }
}

START_TEST(garbage)
{
    const char *seed = getenv("HK_TEST_SEED");

    random_state = seed ? strtoull(seed, NULL, 0) : 1;
    struct child child = run_child(load_garbage);
    ck_assert_msg(child_exited_0(&child), "status %#x; HK_TEST_SEED=%s repeats it", child.status,
                  seed ? seed : "1");
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tc = tcase_create("values");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60); /* a busy machine */
    tcase_add_test(tc, valid_before_load);
    tcase_add_test(tc, load_of_nothing_changes_nothing);
    tcase_add_test(tc, minimal_switches_off);
    tcase_add_test(tc, modes_and_their_other_names);
    tcase_add_test(tc, every_preset_reads_back);
    tcase_add_test(tc, format_cuts);
    tcase_add_loop_test(tc, value, 0, sizeof values / sizeof *values);
    tcase_add_test(tc, short_list_repeats_its_last_number);
    tcase_add_test(tc, set);
    tcase_add_test(tc, loading_again_forgets);
    suite_add_tcase(suite, tc);

    tc = tcase_create("environment");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60); /* a busy machine */
    tcase_add_test(tc, names_in_any_case);
    tcase_add_test(tc, other_variables_are_none_of_ours);
    tcase_add_test(tc, unknown_variable);
    tcase_add_test(tc, options_variable);
    tcase_add_test(tc, bad_item_spares_the_others);
    tcase_add_test(tc, legacy_names_are_silent);
    tcase_add_test(tc, a_complaint_stays_one_line);
    tcase_add_test(tc, every_option_answers_a_bad_value);
    tcase_add_test(tc, the_nearest_name_is_proposed);
    tcase_add_test(tc, range_is_shown_in_the_unit_of_the_option);
    tcase_add_test(tc, origin_names_file_and_line);
    tcase_add_test(tc, run_beats_the_environment);
    tcase_add_test(tc, each_source_beats_the_next);
    suite_add_tcase(suite, tc);

    tc = tcase_create("files");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60); /* a busy machine */
    tcase_add_test(tc, file_syntax);
    tcase_add_test(tc, bad_lines);
    tcase_add_test(tc, zero_bytes_in_a_file);
    tcase_add_test(tc, absent_system_file_is_silent);
    tcase_add_test(tc, absent_conf_is_told);
    tcase_add_test(tc, unreadable_conf_is_told);
    tcase_add_test(tc, a_fifo_does_not_hang);
    tcase_add_test(tc, a_fifo_is_not_opened);
    tcase_add_test(tc, devices_are_told);
    tcase_add_test(tc, a_file_without_end_does_not_hang);
    tcase_add_test(tc, long_file);
    suite_add_tcase(suite, tc);

    tc = tcase_create("manners");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60); /* a busy machine */
    tcase_add_test(tc, secure_ignores_the_environment);
    tcase_add_test(tc, secure_reads_only_what_root_alone_can_write);
    tcase_add_test(tc, strict_aborts_after_the_last_complaint);
    tcase_add_test(tc, allocates_nothing_and_keeps_errno);
    tcase_add_test(tc, garbage);
    suite_add_tcase(suite, tc);
}

int main(void)
{
    Suite *suite = suite_create("config");

    add_tests(suite);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
