// SPDX-License-Identifier: Apache-2.0
// exact: 1 for the reference answer, token by token and with its end token, else 0.
#include "rewards/reward.h"

namespace klab {

RewardEntry exact_reward() {
  return reward_entry("exact", "1 for the reference answer, else 0",
                      [](const Attempt& attempt) { return attempt.answer == attempt.reference ? 1.0 : 0.0; });
}

}  // namespace klab
