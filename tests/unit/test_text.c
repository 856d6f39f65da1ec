// SPDX-License-Identifier: MIT
#include "base/text.h"

#include "support.h"

#include <errno.h>

struct sink {
    char text[8192];
    size_t used;
    unsigned nr_pieces;
};

static struct sink sink;

static void setup(void)
{
    memset(&sink, 0, sizeof sink);
}

static void teardown(void)
{
}

static void take(void *arg, const char *text, size_t bytes)
{
    struct sink *s = arg;

    ck_assert_uint_gt(bytes, 0);
    memcpy(s->text + s->used, text, bytes);
    s->used += bytes;
    s->nr_pieces++;
    errno = EBADMSG; /* a callback may do anything to errno */
}

static struct hk_text new_text(void)
{
    return (struct hk_text){.used = 0, .write = take, .arg = &sink};
}

START_TEST(numbers)
{
    struct hk_text t = new_text();

    hk_text_number(&t, 0);
    hk_text_put(&t, " ");
    hk_text_number(&t, UINT64_MAX);
    hk_text_put(&t, " ");
    hk_text_hex(&t, UINT64_C(0xfedcba9876543210));
    hk_text_padded(&t, 42, 5);
    hk_text_padded(&t, 123456, 3);
    hk_text_flush(&t);
    ck_assert_str_eq(sink.text, "0 18446744073709551615 0xfedcba9876543210   42123456");
    ck_assert_uint_eq(sink.nr_pieces, 1);
}
END_TEST

START_TEST(long_texts_leave_in_pieces)
{
    struct hk_text t = new_text();
    char wanted[4000];

    for (size_t i = 0; i < sizeof wanted; i++) {
        wanted[i] = (char)('a' + i % 26);
        hk_text_char(&t, wanted[i]);
    }
    hk_text_flush(&t);
    ck_assert_uint_eq(sink.used, sizeof wanted);
    ck_assert_int_eq(memcmp(sink.text, wanted, sizeof wanted), 0);
    ck_assert_uint_eq(sink.nr_pieces, (sizeof wanted + sizeof t.text - 1) / sizeof t.text);
    hk_text_flush(&t); /* nothing is left */
    ck_assert_uint_eq(sink.used, sizeof wanted);
}
END_TEST

START_TEST(errno_stays)
{
    struct hk_text t = new_text();

    errno = 4711;
    hk_text_put(&t, "x");
    hk_text_flush(&t);
    ck_assert_int_eq(errno, 4711);
}
END_TEST

static void say_something(void)
{
    struct hk_text t = {.used = 0};

    hk_text_put(&t, "to stderr ");
    hk_text_number(&t, 7);
    hk_text_flush(&t);
}

START_TEST(stderr_without_a_callback)
{
    struct child child = run_child(say_something);

    ck_assert_str_eq(child.text, "to stderr 7");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("text");
    TCase *tc = new_case(suite, "text", setup, teardown);

    tcase_add_test(tc, numbers);
    tcase_add_test(tc, long_texts_leave_in_pieces);
    tcase_add_test(tc, errno_stays);
    tcase_add_test(tc, stderr_without_a_callback);
    return run_suite(suite);
}
