// SPDX-License-Identifier: Apache-2.0
// The list of rewards. To add one: write rewards/NAME.cpp, which defines `RewardEntry NAME_reward()`, and add one line
// X(NAME) here.
#include "core/base/text.h"
#include "rewards/reward.h"

#define KLAB_REWARDS(X) \
  X(exact)              \
  X(prefix)             \
  X(arithmetic)         \
  X(state_tracking)

namespace klab {

#define KLAB_DECLARE_REWARD(name) RewardEntry name##_reward();
KLAB_REWARDS(KLAB_DECLARE_REWARD)
#undef KLAB_DECLARE_REWARD

const Registry<RewardEntry>& rewards() {
#define KLAB_LIST_REWARD(name) name##_reward(),
  static const Registry<RewardEntry> registry("reward", {KLAB_REWARDS(KLAB_LIST_REWARD)});
#undef KLAB_LIST_REWARD
  return registry;
}

void RewardConfig::visit(Fields& fields) {
  fields("name", name, "how answers are judged: " + join(rewards().names()));
  if (!options_ || options_for_ != name) {
    options_ = rewards().at(name).options;
    options_for_ = name;
  }
  fields.group(name, options_->get());
}

RewardFunction RewardConfig::make() const {
  const RewardEntry& entry = rewards().at(name);
  return entry.make(options_ && options_for_ == name ? *options_ : entry.options);
}

}  // namespace klab
