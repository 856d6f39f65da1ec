// SPDX-License-Identifier: MIT
/* Values of options as text: the parser, and its inverse for display. */
#include "config/config_private.h"

#include "sync/atomic.h"

#include <string.h>

HK_START_CONST const char hk_config_words[] =
#define X(name, type, field, preset, min, max, words, unit, help) words "\0"
#include "config/options.def"
    ;

/* Decimal digits of an unsigned integer: more would overflow. */
#define MAX_DIGITS 20

/* Powers of 1024. */
static const char size_suffixes[] = "KMG";

size_t hk_config_words_bytes(void)
{
    return sizeof hk_config_words;
}

static const char *words_of(unsigned i)
{
    return hk_config_nth(hk_config_words, i);
}

struct slice hk_config_slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; /* ASCII, whatever the locale */
}

bool hk_config_same(struct slice a, struct slice b)
{
    if (a.length != b.length)
        return false;
    for (size_t i = 0; i < a.length; i++) {
        if (upper(a.at[i]) != upper(b.at[i]))
            return false;
    }
    return true;
}

/*
 * Parsing: take_* consume the front of a slice; parse_* want all of it.
 */

static void skip(struct slice *s, size_t n)
{
    s->at += n;
    s->length -= n;
}

static bool is_digit(struct slice s)
{
    return s.length > 0 && s.at[0] >= '0' && s.at[0] <= '9';
}

static bool take_number(struct slice *s, uint64_t *value)
{
    uint64_t v = 0;

    if (!is_digit(*s))
        return false;
    for (; is_digit(*s); skip(s, 1)) {
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(s->at[0] - '0'), &v))
            return false;
    }
    *value = v;
    return true;
}

/* "off/no|on/yes": the index of the group that holds `text`. */
static bool parse_word(const char *words, struct slice text, uint64_t *value)
{
    uint64_t group = 0;
    const char *start = words;

    if (text.length == 0)
        return false;
    for (const char *p = words;; p++) {
        if (*p && *p != '/' && *p != '|')
            continue;
        if (hk_config_same(text, (struct slice){start, (size_t)(p - start)})) {
            *value = group;
            return true;
        }
        if (!*p)
            return false;
        group += *p == '|';
        start = p + 1;
    }
}

static bool parse_number(struct slice s, uint64_t *value)
{
    return take_number(&s, value) && s.length == 0;
}

static bool parse_size(struct slice s, uint64_t *value)
{
    unsigned shift = 0;

    if (!take_number(&s, value))
        return false;
    if (s.length == 1) {
        const char *suffix = memchr(size_suffixes, upper(s.at[0]), sizeof size_suffixes - 1);
        if (!suffix)
            return false;
        shift = 10 * (unsigned)(suffix - size_suffixes + 1);
        skip(&s, 1);
    }
    if (s.length != 0 || *value > SIZE_MAX >> shift)
        return false;
    *value <<= shift;
    return true;
}

/* "1.25" is 1250. Digits after the third count for nothing. */
static bool parse_ratio(struct slice s, uint64_t *value)
{
    if (!take_number(&s, value) || *value > UINT32_MAX)
        return false;
    *value *= 1000;
    if (s.length == 0)
        return true;
    if (s.at[0] != '.' || s.length == 1)
        return false;
    skip(&s, 1);
    for (uint64_t weight = 100; is_digit(s); skip(&s, 1), weight /= 10)
        *value += weight * (uint64_t)(s.at[0] - '0');
    return s.length == 0;
}

static bool in_range(unsigned i, uint64_t value)
{
    return value >= hk_config_rows[i].min && value <= hk_config_rows[i].max;
}

static struct slice take_item(struct slice *list)
{
    struct slice item = {list->at, 0};

    while (item.length < list->length && item.at[item.length] != ',' && item.at[item.length] != '/')
        item.length++;
    skip(list, item.length);
    return item;
}

static bool parse_list(unsigned i, struct slice text, struct hk_config_list *list)
{
    for (unsigned n = 0; n < HK_CONFIG_LIST_MAX; n++) {
        uint64_t value;
        if (!parse_number(take_item(&text), &value) || !in_range(i, value))
            return false;
        for (unsigned rest = n; rest < HK_CONFIG_LIST_MAX; rest++)
            list->of[rest] = (uint32_t)value;
        if (text.length == 0)
            return true;
        skip(&text, 1); /* the separator */
    }
    return false; /* too many */
}

static bool parse_scalar(unsigned i, struct slice text, uint64_t *value)
{
    if (parse_word(words_of(i), text, value))
        return true;
    switch (hk_config_rows[i].type) {
    case OPTION_UINT:
    case OPTION_WIDE:
        return parse_number(text, value) && in_range(i, *value);
    case OPTION_SIZE:
        return parse_size(text, value) && in_range(i, *value);
    case OPTION_RATIO:
        return parse_ratio(text, value) && in_range(i, *value);
    default:
        return false;
    }
}

bool hk_config_parse(unsigned i, struct slice text, struct hk_config *into)
{
    uint64_t value;

    if (hk_config_rows[i].type == OPTION_LIST) {
        struct hk_config_list list;
        if (!parse_list(i, text, &list))
            return false;
        memcpy((char *)into + hk_config_rows[i].offset, &list, sizeof list);
        return true;
    }
    if (!parse_scalar(i, text, &value))
        return false;
    hk_config_store(into, i, value);
    return true;
}

/*
 * Fields, reached by offset.
 */

static size_t field_bytes(unsigned i)
{
    switch (hk_config_rows[i].type) {
    case OPTION_BOOL:
        return sizeof(HK_FIELD_BOOL);
    case OPTION_WIDE:
        return sizeof(HK_FIELD_WIDE);
    case OPTION_SIZE:
        return sizeof(HK_FIELD_SIZE);
    default:
        return sizeof(uint32_t);
    }
}

/* For a LIST all numbers. A field is 1, 4 or 8 bytes wide; all values fit. */
void hk_config_store(struct hk_config *into, unsigned i, uint64_t value)
{
    char *field = (char *)into + hk_config_rows[i].offset;
    bool flag = value != 0;
    uint32_t narrow = (uint32_t)value;
    unsigned copies = hk_config_rows[i].type == OPTION_LIST ? HK_CONFIG_LIST_MAX : 1;

    switch (field_bytes(i)) {
    case sizeof flag:
        memcpy(field, &flag, sizeof flag);
        break;
    case sizeof narrow:
        for (unsigned n = 0; n < copies; n++)
            memcpy(field + n * sizeof narrow, &narrow, sizeof narrow);
        break;
    default:
        memcpy(field, &value, sizeof value);
    }
}

void hk_config_store_shared(struct hk_config *into, unsigned i, const struct hk_config *from)
{
    size_t offset = hk_config_rows[i].offset;
    char *to = (char *)into + offset;
    const char *value = (const char *)from + offset;
    unsigned copies = hk_config_rows[i].type == OPTION_LIST ? HK_CONFIG_LIST_MAX : 1;

    switch (field_bytes(i)) {
    case sizeof(bool):
        hk_store_relaxed((bool *)to, *(const bool *)value);
        break;
    case sizeof(uint32_t):
        for (unsigned n = 0; n < copies; n++)
            hk_store_relaxed((uint32_t *)(void *)to + n, ((const uint32_t *)(const void *)value)[n]);
        break;
    default:
        hk_store_relaxed((uint64_t *)(void *)to, *(const uint64_t *)(const void *)value);
    }
}

static uint64_t load(const struct hk_config *from, unsigned i, unsigned item)
{
    const char *field = (const char *)from + hk_config_rows[i].offset;
    bool flag;
    uint32_t narrow;
    uint64_t wide;

    switch (field_bytes(i)) {
    case sizeof flag:
        memcpy(&flag, field, sizeof flag);
        return flag;
    case sizeof narrow:
        memcpy(&narrow, field + item * sizeof narrow, sizeof narrow);
        return narrow;
    default:
        memcpy(&wide, field, sizeof wide);
        return wide;
    }
}

/*
 * Display.
 */

void hk_config_put_slice(struct hk_config_line *line, struct slice text)
{
    for (size_t i = 0; i < text.length && line->used < sizeof line->text - 1; i++) {
        unsigned char c = (unsigned char)text.at[i];
        line->text[line->used++] = c < ' ' || c == 0x7f ? '?' : (char)c; /* stays one line */
    }
}

void hk_config_put(struct hk_config_line *line, const char *text)
{
    hk_config_put_slice(line, hk_config_slice(text));
}

void hk_config_put_upper(struct hk_config_line *line, const char *text)
{
    for (; *text; text++) {
        char c = upper(*text);
        hk_config_put_slice(line, (struct slice){&c, 1});
    }
}

size_t hk_config_line_copy(const struct hk_config_line *line, char *text, size_t bytes)
{
    size_t length;

    if (bytes == 0)
        return line->used;
    length = hk_min(line->used, bytes - 1);
    memcpy(text, line->text, length);
    text[length] = 0;
    return line->used;
}

const char *hk_config_line_end(struct hk_config_line *line)
{
    line->text[line->used] = 0;
    return line->text;
}

void hk_config_put_number(struct hk_config_line *line, uint64_t value)
{
    char digits[MAX_DIGITS];
    size_t n = sizeof digits;

    do {
        digits[--n] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    hk_config_put_slice(line, (struct slice){digits + n, sizeof digits - n});
}

static void put_size(struct hk_config_line *line, uint64_t value)
{
    unsigned n = 0;

    while (n < sizeof size_suffixes - 1 && value != 0 && value % 1024 == 0) {
        value /= 1024;
        n++;
    }
    hk_config_put_number(line, value);
    if (n > 0)
        hk_config_put_slice(line, (struct slice){&size_suffixes[n - 1], 1});
}

/* 1250 is "1.25". */
static void put_ratio(struct hk_config_line *line, uint64_t value)
{
    hk_config_put_number(line, value / 1000);
    value %= 1000;
    if (value == 0)
        return;
    hk_config_put(line, ".");
    for (unsigned weight = 100; value; weight /= 10) {
        hk_config_put_number(line, value / weight);
        value %= weight;
    }
}

static void put_scalar(struct hk_config_line *line, unsigned i, uint64_t value)
{
    switch (hk_config_rows[i].type) {
    case OPTION_SIZE:
        put_size(line, value);
        break;
    case OPTION_RATIO:
        put_ratio(line, value);
        break;
    default:
        hk_config_put_number(line, value);
    }
}

/* The first spelling of word number `value`; false: there is no such word. */
static bool put_word(struct hk_config_line *line, const char *words, uint64_t value)
{
    if (!*words)
        return false;
    for (; value > 0; value--) {
        words = strchr(words, '|');
        if (!words)
            return false;
        words++;
    }
    hk_config_put_slice(line, (struct slice){words, strcspn(words, "/|")});
    return true;
}

static void put_list(struct hk_config_line *line, unsigned i, const struct hk_config *from)
{
    unsigned last = HK_CONFIG_LIST_MAX - 1;

    while (last > 0 && load(from, i, last) == load(from, i, last - 1))
        last--;
    for (unsigned n = 0; n <= last; n++) {
        if (n > 0)
            hk_config_put(line, ",");
        hk_config_put_number(line, load(from, i, n));
    }
}

void hk_config_put_value(struct hk_config_line *line, unsigned i, const struct hk_config *from)
{
    if (hk_config_rows[i].type == OPTION_LIST) {
        put_list(line, i, from);
        return;
    }

    uint64_t value = load(from, i, 0);
    if (!put_word(line, words_of(i), value))
        put_scalar(line, i, value);
}

void hk_config_put_range(struct hk_config_line *line, unsigned i)
{
    const struct option_row *row = &hk_config_rows[i];

    hk_config_put(line, words_of(i));
    if (row->type == OPTION_BOOL || row->type == OPTION_ENUM)
        return;
    if (*words_of(i))
        hk_config_put(line, "|");
    put_scalar(line, i, row->min);
    hk_config_put(line, "..");
    put_scalar(line, i, row->max);
    if (row->type == OPTION_LIST) {
        hk_config_put(line, ", up to ");
        hk_config_put_number(line, HK_CONFIG_LIST_MAX);
        hk_config_put(line, " of them");
    }
}
