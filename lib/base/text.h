// SPDX-License-Identifier: MIT
/*
 * text: lines of text made on the stack and handed on in pieces, for reports that may not allocate, lock or
 * use stdio. A signal handler may use it when its `write` may.
 *
 * Owner: the caller's struct hk_text. Failure: none that is told; a short write is not retried.
 */
#ifndef HK_TEXT_H
#define HK_TEXT_H

#include "base/base.h"

struct hk_text {
    char text[512];
    size_t used;
    void (*write)(void *arg, const char *text, size_t bytes); /* NULL: write(2) on stderr */
    void *arg;
};

void hk_text_put(struct hk_text *t, const char *s);
void hk_text_char(struct hk_text *t, char c);
void hk_text_number(struct hk_text *t, uint64_t value);
void hk_text_hex(struct hk_text *t, uint64_t value);
/* At least `width` characters, filled with blanks in front. */
void hk_text_padded(struct hk_text *t, uint64_t value, unsigned width);
/* What is left goes out. */
void hk_text_flush(struct hk_text *t);

#endif
