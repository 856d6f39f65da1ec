// SPDX-License-Identifier: MIT
#include "base/text.h"

#include <errno.h>
#include <unistd.h>

void hk_text_flush(struct hk_text *t)
{
    int saved = errno;

    if (t->used && t->write)
        t->write(t->arg, t->text, t->used);
    else if (t->used && write(STDERR_FILENO, t->text, t->used) < 0)
        t->used = 0;
    t->used = 0;
    errno = saved;
}

void hk_text_char(struct hk_text *t, char c)
{
    if (t->used == sizeof t->text)
        hk_text_flush(t);
    t->text[t->used++] = c;
}

void hk_text_put(struct hk_text *t, const char *s)
{
    while (*s)
        hk_text_char(t, *s++);
}

/* Digits of value, from the end of `digits` on; returns where they begin. */
static const char *format(char digits[24], uint64_t value, unsigned base)
{
    char *at = digits + 23;

    *at = 0;
    do {
        *--at = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    return at;
}

void hk_text_number(struct hk_text *t, uint64_t value)
{
    char digits[24];

    hk_text_put(t, format(digits, value, 10));
}

void hk_text_hex(struct hk_text *t, uint64_t value)
{
    char digits[24];

    hk_text_put(t, "0x");
    hk_text_put(t, format(digits, value, 16));
}

void hk_text_padded(struct hk_text *t, uint64_t value, unsigned width)
{
    char digits[24];
    const char *at = format(digits, value, 10);

    for (size_t length = (size_t)(digits + 23 - at); length < width; length++)
        hk_text_char(t, ' ');
    hk_text_put(t, at);
}
