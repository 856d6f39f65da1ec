/* SPDX-License-Identifier: MIT */
/*
 * output: numbers for people, and JSON. Everything goes to standard output, in one piece at the end; text
 * that came from a process is stripped of control characters.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct output {
    bool json;
    bool exact; /* --bytes: no unit suffixes */
    bool color;
};

extern struct output output;

/* Color only on a terminal, without NO_COLOR and unless told otherwise (-1 auto, 0, 1). */
void output_choose_color(int wish);
/* Columns that are left on a terminal's line after `used` ones; 0: no terminal, any number. Where few are left, those of the
 * next line count, too. */
unsigned output_room(unsigned used);
/* Escape sequences, "" without color. */
const char *bold(void);
const char *dim(void);
const char *plain(void);

#define NUMBER_BYTES 32
/* "1.5G"; with output.exact "1610612736". */
const char *human_bytes(uint64_t bytes, char text[NUMBER_BYTES]);
/* "12.3k"; with output.exact all digits. */
const char *human_count(uint64_t count, char text[NUMBER_BYTES]);
/* "1.2ms" */
const char *human_ns(uint64_t ns, char text[NUMBER_BYTES]);
/* A bar of `width` columns at most; value 0 is empty, else one column at least. */
void print_bar(uint64_t value, uint64_t largest, unsigned width);
/* Copies, with what is not printable ASCII or UTF-8 replaced by '?'. */
const char *clean_text(const char *text, size_t bytes, char *clean, size_t clean_bytes);

/* One object or array within the other; a key is NULL inside an array and for the outermost. */
void json_open(const char *key, char bracket);
void json_close(char bracket);
void json_number(const char *key, uint64_t value);
void json_signed(const char *key, int64_t value);
void json_text(const char *key, const char *text);
void json_bool(const char *key, bool value);
/* A line's end, when the outermost is closed. */
void json_end(void);
void print_json_string(const char *text);

#endif
