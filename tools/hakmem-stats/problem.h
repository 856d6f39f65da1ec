/* SPDX-License-Identifier: MIT */
/*
 * problem: why a command ends with which exit status. A function that can fail takes a struct problem, fills
 * it once and returns its code; 0 is success. Exit statuses are part of hakmem-stats(1).
 */
#ifndef PROBLEM_H
#define PROBLEM_H

enum {
    EXIT_BREACHED = 1, /* a threshold of --fail-if */
    EXIT_USAGE = 2,
    EXIT_NOTHING = 3, /* no such process, or it exports nothing; a file that cannot be read */
    EXIT_PERMISSION = 4,
    EXIT_VERSION = 5 /* the layout is not one that this program knows, or is damaged */
};

struct problem {
    int code;
    char text[320];
};

__attribute__((format(printf, 3, 4))) int problem_set(struct problem *problem, int code,
                                                      const char *format, ...);
/* EACCES and EPERM: EXIT_PERMISSION, others EXIT_NOTHING; the text ends in strerror(error). */
int problem_errno(struct problem *problem, int error, const char *what);
/* A new file may take the place of what is at path: nothing, or a regular file; a device, say, it must not. */
int problem_of_place(struct problem *problem, const char *path);
/* Puts "what: " in front of the text, unless that begins so already. Returns the code. */
int problem_of(struct problem *problem, const char *what);

#endif
