// SPDX-License-Identifier: Apache-2.0
// Adjusts the weight of the divergence and the number of minibatches to how far the policy moves.
#pragma once

#include "core/base/json.h"
#include "core/rl/rl_config.h"

namespace klab {

/// What an iteration did to the policy.
struct PolicyChange {
  double kl;             ///< nats per token
  double entropy;        ///< nats per token
  double clipped_share;  ///< the larger one of importance weights and of ratios (grpo)
};

/// Constant unless the config has a `kl_target` (weight) and `most_minibatches`.
struct Controller {
  double kl_weight;
  int64_t minibatches;
  double first_entropy = -1;  ///< of the first iteration; negative before it
  int64_t quiet = 0;          ///< iterations since the number of minibatches last changed

  explicit Controller(const RlConfig& config) : kl_weight(config.kl_weight), minibatches(config.minibatches) {}

  /// weight *= 1 + clip(kl / target - 1, -0.2, 0.2) answers / horizon (Ziegler et al. 2019, arXiv 1909.08593). The
  /// number of minibatches halves when kl > 2 target, the entropy is below half of that of the first iteration, or more
  /// than 5 % are clipped; it doubles after five iterations without that.
  void after_iteration(const PolicyChange& change, const RlConfig& config);

  template <class Self, class Visit>
  static void each_field(Self& self, const Visit& visit) {
    visit("kl_weight", self.kl_weight);
    visit("minibatches", self.minibatches);
    visit("first_entropy", self.first_entropy);
    visit("quiet", self.quiet);
  }
};

}  // namespace klab
