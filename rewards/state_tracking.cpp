// SPDX-License-Identifier: Apache-2.0
// state_tracking: multiplies the prompt's group elements itself.
#include "tasks/group.h"

#include <algorithm>

#include "core/base/error.h"
#include "rewards/reward.h"

namespace klab {
namespace {

struct StateTrackingRewardOptions : Configurable {
  std::string group = "s3";

  void visit(Fields& fields) override {
    fields.choice("group", group, {"parity", "s3"}, "the group of the task's elements");
  }
};

// The running products of the digits of a prompt "product 2 5 1 =".
std::string products_of(const std::string& prompt, const Group& group) {
  const size_t first = prompt.find_first_of("0123456789");
  if (first == std::string::npos || !prompt.ends_with('=')) {
    fail("reward state_tracking: the prompt '{}' is not of the form: product 2 5 1 =", prompt);
  }
  std::string products;
  int64_t product = 0;
  for (size_t i = first; i + 1 < prompt.size(); ++i) {
    const int64_t element = prompt[i] - '0';
    if (element < 0 || element >= group.order()) {
      fail("reward state_tracking: '{}' in the prompt '{}' is not an element of the group, 0..{}", prompt[i], prompt,
           group.order() - 1);
    }
    product = group.product(product, element);
    products += static_cast<char>('0' + product);
  }
  return products;
}

// The share of right running products from the first on, and of the <end> after them.
double judge(const Attempt& attempt, const StateTrackingRewardOptions& options) {
  const std::string products = products_of(attempt.text(attempt.prompt), make_group(options.group));
  size_t right = 0;
  while (right < products.size() && right < attempt.answer.size() &&
         attempt.name(attempt.answer[right]) == std::string(1, products[right])) {
    ++right;
  }
  const bool ends =
      right == products.size() && attempt.answer.size() == right + 1 && attempt.name(attempt.answer.back()) == "<end>";
  return static_cast<double>(right + (ends ? 1 : 0)) / static_cast<double>(products.size() + 1);
}

}  // namespace

RewardEntry state_tracking_reward() {
  return reward_entry<StateTrackingRewardOptions>("state_tracking",
                                                  "the share of right running products, which it computes", judge);
}

}  // namespace klab
