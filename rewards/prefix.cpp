// SPDX-License-Identifier: Apache-2.0
// prefix: the share of the reference answer with which the answer begins. What follows it does not count, so that this
// is the reward for tasks without an end token.
#include <algorithm>

#include "rewards/reward.h"

namespace klab {

RewardEntry prefix_reward() {
  return reward_entry("prefix", "the share of the reference that the answer begins with", [](const Attempt& attempt) {
    const auto [answer, reference] =
        std::mismatch(attempt.answer.begin(), attempt.answer.end(), attempt.reference.begin(), attempt.reference.end());
    return static_cast<double>(reference - attempt.reference.begin()) / static_cast<double>(attempt.reference.size());
  });
}

}  // namespace klab
