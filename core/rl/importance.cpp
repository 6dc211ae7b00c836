// SPDX-License-Identifier: Apache-2.0
#include "core/rl/importance.h"

namespace klab {

using torch::Tensor;

Importance truncated_importance(const Tensor& train, const Tensor& rollout, double limit) {
  constexpr double kLargestDifference = 20;
  const torch::NoGradGuard no_grad;
  const Tensor ratio = (train - rollout).clamp(-kLargestDifference, kLargestDifference).exp();
  const Tensor weights = limit > 0 ? ratio.clamp_max(limit) : ratio;
  const Tensor wide = weights.to(torch::kDouble);
  const double sum = wide.sum().item<double>(), squares = wide.square().sum().item<double>();
  const auto tokens = static_cast<double>(weights.numel());
  Importance result;
  result.weights = limit > 0 ? weights : torch::ones_like(ratio);
  result.mean = sum / tokens;
  result.largest_ratio = ratio.max().item<double>();
  result.clipped_share = limit > 0 ? ratio.gt(limit).to(torch::kDouble).mean().item<double>() : 0;
  result.effective_sample_size = sum * sum / (tokens * squares);
  return result;
}

}  // namespace klab
