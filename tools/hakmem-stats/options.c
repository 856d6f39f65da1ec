// SPDX-License-Identifier: MIT
#include "options.h"

#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_BOOL, TYPE_ENUM, TYPE_UINT, TYPE_WIDE, TYPE_SIZE, TYPE_RATIO, TYPE_LIST, NR_TYPES };
#define LIST_NUMBERS 16

typedef void option_callback(const char *name, const char *value, const char *from, void *arg);

/* The i-th NUL-terminated string of a blob; "" when it has none. */
static const char *blob_string(const struct table *blob, uint32_t i)
{
    const char *at = blob ? (const char *)blob->rows : NULL, *end = at + (blob ? blob->nr_rows : 0);

    while (at && at < end) {
        const char *stop = memchr(at, '\0', (size_t)(end - at));
        if (!stop)
            return "";
        if (i-- == 0)
            return at;
        at = stop + 1;
    }
    return "";
}

/* Word `number` of "off/0|on/1", its first spelling. */
static bool word(const char *words, uint64_t number, char *text, size_t bytes)
{
    while (*words && number > 0) {
        words += strcspn(words, "|");
        words += *words == '|';
        number--;
    }
    if (!*words)
        return false;
    snprintf(text, bytes, "%.*s", (int)strcspn(words, "|/"), words);
    return true;
}

static uint64_t number_at(const struct table *config, uint64_t offset, unsigned bytes)
{
    struct hak_stats_field f = {.offset = (uint32_t)offset, .bytes = (uint16_t)bytes};

    return offset + bytes <= config->nr_rows ? table_value(config, 0, &f) : 0;
}

static void list_text(const struct table *config, uint64_t offset, char *text, size_t bytes)
{
    uint64_t numbers[LIST_NUMBERS];
    unsigned last = LIST_NUMBERS - 1;
    size_t used = 0;

    for (unsigned i = 0; i < LIST_NUMBERS; i++)
        numbers[i] = number_at(config, offset + 4 * i, 4);
    while (last > 0 && numbers[last] == numbers[last - 1]) /* the last one stands for the rest */
        last--;
    for (unsigned i = 0; i <= last && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%" PRIu64, i ? "," : "", numbers[i]);
}

static void option_text(const struct table *config, uint64_t type, uint64_t offset,
                        const char *words, char *text, size_t bytes)
{
    static const unsigned widths[NR_TYPES] = {1, 4, 4, 8, sizeof(void *), 4, 4};
    uint64_t value = number_at(config, offset, widths[type]);

    if (type == TYPE_LIST)
        list_text(config, offset, text, bytes);
    else if (word(words, value, text, bytes))
        return;
    else if (type == TYPE_RATIO)
        snprintf(text, bytes, "%" PRIu64 ".%03" PRIu64, value / 1000, value % 1000);
    else
        snprintf(text, bytes, "%" PRIu64, value);
}

static const char *source_name(uint64_t number)
{
    static const char *const names[] = {"default",     "file",           "environment", "api",
                                        "HAKMEM_CONF", "HAKMEM_OPTIONS", "hakmem-run"};

    return number < sizeof names / sizeof *names ? names[number] : "?";
}

static bool from_config(const struct capture *c, option_callback *callback, void *arg)
{
    const struct table *config = capture_table(c, "config"), *option = capture_table(c, "option");
    const struct table *names = capture_table(c, "option.names"),
                       *words = capture_table(c, "option.words");
    char name[64], value[256];

    if (!config || !config->rows || !option || !names)
        return false;
    for (uint32_t i = 0; i < option->nr_rows; i++) {
        uint64_t type = table_get(option, i, "type");
        const char *raw = blob_string(names, i);
        if (type >= NR_TYPES || !*raw)
            continue;
        option_text(config, type, table_get(option, i, "offset"), blob_string(words, i), value,
                    sizeof value);
        clean_text(raw, strlen(raw), name, sizeof name);
        callback(name, value,
                 source_name(table_get(capture_table(c, "option.source"), i, "source")), arg);
    }
    return true;
}

/* Lines "name value source", as in a file. */
static bool from_text(const struct table *blob, option_callback *callback, void *arg)
{
    char *text = blob && blob->rows ? malloc(blob->nr_rows + 1) : NULL, *rest = text, *line;

    if (!text)
        return false;
    clean_text("", 0, text, 1);
    memcpy(text, blob->rows, blob->nr_rows);
    text[blob->nr_rows] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        char name[64], value[256], from[32];
        if (sscanf(line, "%63s %255s %31s", name, value, from) == 3)
            callback(name, value, from, arg);
    }
    free(text);
    return true;
}

bool options_foreach(const struct capture *capture, option_callback *callback, void *arg)
{
    return from_config(capture, callback, arg) ||
           from_text(capture_table(capture, "option.text"), callback, arg);
}
