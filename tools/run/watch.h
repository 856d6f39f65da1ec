// SPDX-License-Identifier: MIT
/*
 * watch: does the library say that it is there?
 *
 * The library's constructor sends a datagram to an abstract socket (lib/entry/run.c). Nothing that the
 * program inherits has to be open for that, and it works however soon the program ends. A process of its own
 * listens, no child of the program's, with stderr alone kept open, for as long as it takes: milliseconds,
 * when all is well. So hakmem-run itself can become the program by execve, and signals, job control, the
 * process id and the exit status are the program's own.
 */
#ifndef HAKMEM_RUN_WATCH_H
#define HAKMEM_RUN_WATCH_H

#include <stdbool.h>

struct watch {
    int fd;          /* close-on-exec; -1: nobody watches */
    char name[32];   /* of the abstract socket */
};

/* False: no socket can be had. */
bool watch_open(struct watch *watch);
/* From now on the calling process is watched. `program`, `library`: for the message. */
void watch_start(struct watch *watch, const char *program, const char *library, bool verbose);
/* The program could not be executed: no more to be said. */
void watch_cancel(const struct watch *watch);

#endif
