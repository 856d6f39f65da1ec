// SPDX-License-Identifier: MIT
#include "problem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int problem_set(struct problem *problem, int code, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(problem->text, sizeof problem->text, format, list);
    va_end(list);
    problem->code = code;
    return code;
}

int problem_errno(struct problem *problem, int error, const char *what)
{
    int code = error == EACCES || error == EPERM ? EXIT_PERMISSION : EXIT_NOTHING;

    return problem_set(problem, code, "%s: %s", what, strerror(error));
}

int problem_of_place(struct problem *problem, const char *path)
{
    struct stat st;

    if (lstat(path, &st) != 0 || S_ISREG(st.st_mode))
        return 0;
    return problem_set(problem, EXIT_NOTHING, "%.150s: is there and not a regular file: not replaced", path);
}

int problem_of(struct problem *problem, const char *what)
{
    struct problem before = *problem;
    size_t bytes = strlen(what);

    if (strncmp(before.text, what, bytes) == 0 && before.text[bytes] == ':')
        return problem->code;
    return problem_set(problem, before.code, "%.150s: %s", what, before.text);
}
