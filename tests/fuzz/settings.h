/* SPDX-License-Identifier: MIT */
/* settings: what the harnesses of the option parser share: a load that survives `strict`, and what must hold after. */
#ifndef TESTS_FUZZ_SETTINGS_H
#define TESTS_FUZZ_SETTINGS_H

/* hk_config_load(envp), and again with what was loaded written back: the options must be the same. */
void settings_load(char **envp);

#endif
