// SPDX-License-Identifier: MIT
#ifndef TESTS_MODEL_EXCHANGE_H
#define TESTS_MODEL_EXCHANGE_H

#include "model.h"

void exchange(struct worker *w, struct block *mine, uint64_t random);
bool exchange_take_last(struct worker *w, struct block *into);

#endif
