// SPDX-License-Identifier: Apache-2.0
// A verifiable reward: a function that judges answers, and its config.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/base/config.h"
#include "core/base/registry.h"
#include "core/rl/answer.h"

namespace klab {

/// A registry entry.
struct RewardEntry {
  std::string name;
  std::string summary;
  /// The reward's own options (config keys `reward.<name>.*`), with their defaults.
  AnyConfig options;
  /// `options` has the type of the entry's. The function may be called by several threads.
  std::function<RewardFunction(const AnyConfig& options)> make;
};

/// The options of a reward without any.
struct NoRewardOptions : Configurable {
  void visit(Fields&) override {}
};

/// The entry of a function double(const Attempt&), or double(const Attempt&, const Options&).
template <class Options = NoRewardOptions, class Function>
RewardEntry reward_entry(std::string name, std::string summary, Function function) {
  return {std::move(name), std::move(summary), AnyConfig(Options()), [=](const AnyConfig& options) -> RewardFunction {
            if constexpr (std::is_invocable_v<Function, const Attempt&>) {
              return function;
            } else {
              return [function, given = options.as<Options>()](const Attempt& attempt) {
                return function(attempt, given);
              };
            }
          }};
}

/// All rewards.
const Registry<RewardEntry>& rewards();

/// The config keys `reward.*`.
struct RewardConfig : Configurable {
  std::string name = "exact";

  /// Throws UsageError for an unknown reward.
  void visit(Fields& fields) override;
  RewardFunction make() const;

 private:
  std::optional<AnyConfig> options_;  // of the reward options_for_; reset to the defaults when the name changes
  std::string options_for_;
};

}  // namespace klab
