// SPDX-License-Identifier: Apache-2.0
// arithmetic: computes the prompt's problem, without the reference answer.
#include <algorithm>
#include <charconv>
#include <optional>

#include "core/base/error.h"
#include "rewards/reward.h"

namespace klab {
namespace {

struct ArithmeticRewardOptions : Configurable {
  std::string result_order = "highest_first";

  void visit(Fields& fields) override {
    fields.choice("result_order", result_order, {"highest_first", "lowest_first"},
                  "order of the digits of results, as in the task");
  }
};

std::optional<int64_t> number_of(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || text.front() == '-' || error != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

// Of the last problem "a + b =" of a prompt.
int64_t result_of(const std::string& prompt) {
  const auto refuse_prompt = [&]() -> int64_t {
    fail("reward arithmetic: the prompt '{}' does not end with a problem such as 12+34=", prompt);
  };
  if (!prompt.ends_with('=')) return refuse_prompt();
  const size_t sign = prompt.find_last_of("+-*");
  if (sign == std::string::npos) return refuse_prompt();
  size_t begin = sign;
  while (begin > 0 && prompt[begin - 1] >= '0' && prompt[begin - 1] <= '9') --begin;
  const std::string_view text = prompt;
  const auto left = number_of(text.substr(begin, sign - begin)),
             right = number_of(text.substr(sign + 1, text.size() - sign - 2));
  if (!left || !right) return refuse_prompt();
  int64_t result = 0;
  const bool overflow = prompt[sign] == '+'   ? __builtin_add_overflow(*left, *right, &result)
                        : prompt[sign] == '-' ? __builtin_sub_overflow(*left, *right, &result)
                                              : __builtin_mul_overflow(*left, *right, &result);
  return overflow ? refuse_prompt() : result;
}

// 1 for the right number without leading zeros, ended by <end>.
double judge(const Attempt& attempt, const ArithmeticRewardOptions& options) {
  const int64_t result = result_of(attempt.text(attempt.prompt));
  std::string said = attempt.text(attempt.answer);
  constexpr std::string_view kEnd = "<end>";
  if (!said.ends_with(kEnd)) return 0;
  said.resize(said.size() - kEnd.size());
  if (options.result_order == "lowest_first") std::reverse(said.begin(), said.end());
  return said == fmt::format("{}", result) ? 1 : 0;
}

}  // namespace

RewardEntry arithmetic_reward() {
  return reward_entry<ArithmeticRewardOptions>("arithmetic", "1 for the right result of the problem, which it computes",
                                               judge);
}

}  // namespace klab
