/* SPDX-License-Identifier: MIT */
/* run: hands over to hakmem-run --report, which preloads, runs and reports. Returns only on failure. */
#ifndef RUN_H
#define RUN_H

/* argv: what stood behind "run". The answer is an exit status, 127 when there is no hakmem-run. */
int run_command(int argc, char **argv);

#endif
