// SPDX-License-Identifier: MIT
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct output output;

void output_choose_color(int wish)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    output.color = wish >= 0
                       ? wish
                       : isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

unsigned output_room(unsigned used)
{
    struct winsize size;
    unsigned columns;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 0;
    columns = size.ws_col;
    while (columns < used + 40)
        columns += size.ws_col;
    return columns - used;
}

const char *bold(void)
{
    return output.color ? "\033[1m" : "";
}

const char *dim(void)
{
    return output.color ? "\033[2m" : "";
}

const char *plain(void)
{
    return output.color ? "\033[0m" : "";
}

/* ---- numbers ------------------------------------------------------------------------------- */

static const char *scaled(uint64_t value, unsigned step, const char *suffixes,
                          char text[NUMBER_BYTES])
{
    double scaled = (double)value;
    unsigned i = 0;

    if (output.exact || value < step) {
        snprintf(text, NUMBER_BYTES, "%" PRIu64, value);
        return text;
    }
    while (scaled >= step && suffixes[i + 1]) {
        scaled /= step;
        i++;
    }
    snprintf(text, NUMBER_BYTES, scaled < 99.95 ? "%.1f%c" : "%.0f%c", scaled, suffixes[i]);
    return text;
}

const char *human_bytes(uint64_t bytes, char text[NUMBER_BYTES])
{
    return scaled(bytes, 1024, " KMGTPE", text);
}

const char *human_count(uint64_t count, char text[NUMBER_BYTES])
{
    return scaled(count, 1000, " kMGTPE", text);
}

const char *human_ns(uint64_t ns, char text[NUMBER_BYTES])
{
    if (output.exact || ns < 1000)
        snprintf(text, NUMBER_BYTES, "%" PRIu64 "ns", ns);
    else if (ns < 1000000)
        snprintf(text, NUMBER_BYTES, "%.1fus", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(text, NUMBER_BYTES, "%.1fms", (double)ns / 1e6);
    else
        snprintf(text, NUMBER_BYTES, "%.1fs", (double)ns / 1e9);
    return text;
}

void print_bar(uint64_t value, uint64_t largest, unsigned width)
{
    unsigned columns = largest ? (unsigned)((double)value / (double)largest * width + 0.5) : 0;

    if (value && columns == 0)
        columns = 1;
    for (unsigned i = 0; i < columns && i < width; i++)
        putchar('#');
}

/* ---- text ---------------------------------------------------------------------------------- */

const char *clean_text(const char *text, size_t bytes, char *clean, size_t clean_bytes)
{
    size_t at = 0;

    for (; at < bytes && text[at] && at + 1 < clean_bytes; at++) {
        unsigned char c = (unsigned char)text[at];
        clean[at] = c >= 32 && c < 127 ? (char)c : '?';
    }
    clean[at] = '\0';
    return clean;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static unsigned json_depth;
static bool json_any[32];

/* What is not ASCII is escaped as if it were Latin-1: names of functions and files are bytes. */
void print_json_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 32 || c > 126)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void json_key(const char *key)
{
    if (json_any[json_depth])
        putchar(',');
    json_any[json_depth] = true;
    if (key) {
        print_json_string(key);
        putchar(':');
    }
}

void json_open(const char *key, char bracket)
{
    json_key(key);
    putchar(bracket);
    if (json_depth + 1 < sizeof json_any / sizeof *json_any)
        json_depth++;
    json_any[json_depth] = false;
}

void json_close(char bracket)
{
    putchar(bracket);
    if (json_depth)
        json_depth--;
}

void json_number(const char *key, uint64_t value)
{
    json_key(key);
    printf("%" PRIu64, value);
}

void json_signed(const char *key, int64_t value)
{
    json_key(key);
    printf("%" PRId64, value);
}

void json_text(const char *key, const char *text)
{
    json_key(key);
    print_json_string(text);
}

void json_bool(const char *key, bool value)
{
    json_key(key);
    fputs(value ? "true" : "false", stdout);
}

void json_end(void)
{
    json_any[0] = false;
    putchar('\n');
}
