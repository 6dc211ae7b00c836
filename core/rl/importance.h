// SPDX-License-Identifier: Apache-2.0
// Importance weights for answers that another implementation of the policy has sampled.
#pragma once

#include <torch/types.h>

namespace klab {

struct Importance {
  torch::Tensor weights;  ///< [tokens] float32, without gradient
  double mean = 1;
  double largest_ratio = 1;          ///< before truncation
  double clipped_share = 0;          ///< of tokens whose ratio exceeds the limit
  double effective_sample_size = 1;  ///< (sum w)^2 / (tokens sum w^2), in (0, 1]
};

/// Truncated importance sampling: min(pi_train / pi_rollout, limit) for every token, from log-probabilities [tokens]
/// float32 of the two. The difference of logarithms is limited to +-20. A limit of 0: all weights are 1, and the other
/// numbers are those of the ratios.
Importance truncated_importance(const torch::Tensor& train, const torch::Tensor& rollout, double limit);

}  // namespace klab
