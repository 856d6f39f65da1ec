// SPDX-License-Identifier: MIT
#include "policy/policy.h"

struct hk_policy hk_policy_builtin;
const struct hk_policy *hk_policy_current = &hk_policy_builtin;

void hk_policy_publish(const struct hk_policy *policy)
{
    hk_store_release(&hk_policy_current, policy); /* P1 release, pairs with P2: publishes the fields */
}
