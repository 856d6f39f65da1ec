// SPDX-License-Identifier: MIT
#include "base/panic.h"

#include "child.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>

static void panic_with_all(void)
{
    hk_panic(&(struct hk_diag){
        .what = "double free",
        .ptr = (void *)0x1010,
        .block = (void *)0x1000,
        .size = 48,
        .owner = 4711,
        .caller = (void *)0xabcdef,
    });
}

static void panic_with_pointer_only(void)
{
    hk_panic(&(struct hk_diag){.what = "invalid free", .ptr = NULL});
}

static void panic_with_long_text(void)
{
    char what[2000];

    memset(what, 'x', sizeof what);
    what[sizeof what - 1] = 0;
    hk_panic(&(struct hk_diag){.what = what, .ptr = (void *)1});
}

static void panic_internally(void)
{
    hk_panic_internal("a == b", (void *)0x20);
}

static void panic_internally_nowhere(void)
{
    hk_panic_internal("a == b", NULL);
}

static void warn(void)
{
    errno = EBADMSG;
    hk_warn("first ", "\"second\"", " third");
    hk_warn("alone", NULL, NULL);
    if (errno != EBADMSG)
        _exit(1);
}

static void hook(void)
{
    static const char text[] = "hook\n";

    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(1);
}

static void panic_with_hook(void)
{
    hk_panic_hook = hook;
    panic_with_pointer_only();
}

static void panic_internally_with_hook(void)
{
    hk_panic_hook = hook;
    panic_internally_nowhere();
}

/* A SIGABRT handler sees a signal that abort raised, after the text. */
static void on_abort(int signal)
{
    (void)signal;
    hook();
}

static void panic_with_handler(void)
{
    signal(SIGABRT, on_abort);
    panic_with_pointer_only();
}

static void panic_without_stderr(void)
{
    close(STDERR_FILENO);
    panic_with_pointer_only();
}

static void expect_abort(void (*function)(void), const char *text)
{
    struct child child = run_child(function);

    ck_assert_str_eq(child.text, text);
    ck_assert_msg(child_aborted(&child), "ended with status %#x, not by abort", child.status);
}

START_TEST(names_everything_it_knows)
{
    expect_abort(panic_with_all, "hakmem: double free: pointer 0x1010, block 0x1000, size 48, "
                                 "owner thread 4711, called from 0xabcdef\n");
}
END_TEST

START_TEST(leaves_out_what_it_does_not_know)
{
    expect_abort(panic_with_pointer_only, "hakmem: invalid free: pointer 0x0\n");
}
END_TEST

START_TEST(internal)
{
    expect_abort(panic_internally, "hakmem: heap corrupted: a == b: at 0x20\n");
    expect_abort(panic_internally_nowhere, "hakmem: heap corrupted: a == b\n");
}
END_TEST

START_TEST(cuts_long_text)
{
    struct child child = run_child(panic_with_long_text);

    ck_assert_uint_le(strlen(child.text), 512);
    ck_assert_int_eq(child.text[strlen(child.text) - 1], '\n');
    ck_assert(child_aborted(&child));
}
END_TEST

START_TEST(hook_runs_after_the_text)
{
    expect_abort(panic_with_hook, "hakmem: invalid free: pointer 0x0\nhook\n");
    expect_abort(panic_internally_with_hook, "hakmem: heap corrupted: a == b\nhook\n");
}
END_TEST

START_TEST(aborts_under_a_handler)
{
    expect_abort(panic_with_handler, "hakmem: invalid free: pointer 0x0\nhook\n");
}
END_TEST

START_TEST(aborts_without_stderr)
{
    expect_abort(panic_without_stderr, "");
}
END_TEST

START_TEST(warn_goes_on)
{
    struct child child = run_child(warn);

    ck_assert_str_eq(child.text, "hakmem: first \"second\" third\nhakmem: alone\n");
    ck_assert_msg(child_exited_0(&child), "status %#x: aborted or touched errno", child.status);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("panic");
    TCase *tc = tcase_create("panic");

    tcase_add_test(tc, names_everything_it_knows);
    tcase_add_test(tc, leaves_out_what_it_does_not_know);
    tcase_add_test(tc, internal);
    tcase_add_test(tc, cuts_long_text);
    tcase_add_test(tc, hook_runs_after_the_text);
    tcase_add_test(tc, aborts_under_a_handler);
    tcase_add_test(tc, aborts_without_stderr);
    tcase_add_test(tc, warn_goes_on);
    suite_add_tcase(suite, tc);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
