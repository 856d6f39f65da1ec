// SPDX-License-Identifier: MIT
#include "engine.h"

extern const struct explore_model model_remote, model_policy, model_birth, model_exit, model_steal, model_depot;
extern const struct explore_model model_trace, model_export, model_lock, model_fork, model_fork_inside;
extern const struct explore_model model_big, model_kill, model_run, model_run_kill, model_site, model_kept;
extern const struct explore_model model_home, model_moved, model_spared;

const struct explore_model *const explore_models[] = {
    &model_remote, &model_policy, &model_birth, &model_exit, &model_steal, &model_depot, &model_trace,
    &model_export, &model_lock, &model_fork, &model_fork_inside, &model_big, &model_kill, &model_run,
    &model_run_kill, &model_site, &model_kept, &model_home, &model_moved, &model_spared,
    NULL,
};
