// SPDX-License-Identifier: Apache-2.0
#include "core/rl/policy_loss.h"

#include <algorithm>

namespace klab {

using torch::Tensor;

namespace {

// [tokens] to the sums over the tokens of each answer, [S].
Tensor sums(const Tensor& x, const PolicyTokens& tokens) {
  return torch::zeros({tokens.advantage.size(0)}, x.options()).index_add(0, tokens.answer, x);
}

}  // namespace

PolicyLoss mirror_descent_loss(const PolicyTokens& tokens, double tau) {
  const Tensor weighted = tokens.weights * tokens.log_probs;
  const Tensor value = tokens.log_probs.detach();
  // Has the value of log pi, and the gradient of w log pi.
  const Tensor log_probs = weighted - weighted.detach() + value;
  const Tensor l = sums(log_probs - tokens.before, tokens);
  return {(0.5 * tau * (tokens.advantage / tau - l).square()).mean()};
}

PolicyLoss clipped_loss(const PolicyTokens& tokens, double clip, double beta) {
  const Tensor difference = tokens.log_probs - tokens.before;
  const Tensor ratio = difference.exp(), limited = ratio.clamp(1 - clip, 1 + clip);
  const Tensor advantage = tokens.advantage.index_select(0, tokens.answer);
  const Tensor gain = torch::minimum(ratio * advantage, limited * advantage);
  Tensor loss = -tokens.weights * gain;
  if (beta > 0) loss = loss + beta * ((-difference).exp() - 1 + difference);
  const Tensor lengths = sums(torch::ones_like(tokens.before), tokens);
  const double clipped = (limited * advantage).lt(ratio * advantage).to(torch::kDouble).mean().item<double>();
  return {(sums(loss, tokens) / lengths).mean(), clipped};
}

PolicyLoss policy_loss(const PolicyTokens& tokens, const RlConfig& config, double kl_weight) {
  return config.loss == "grpo" ? clipped_loss(tokens, config.clip, kl_weight) : mirror_descent_loss(tokens, kl_weight);
}

Tensor advantages(const Tensor& rewards, const RlConfig& config) {
  constexpr double kLeastDeviation = 1e-4;
  const auto samples = static_cast<double>(rewards.size(1));
  Tensor advantage = rewards - rewards.mean(1, /*keepdim=*/true);
  // r - (sum - r) / (k - 1) = (r - mean) k / (k - 1)
  if (config.baseline == "leave_one_out") advantage = advantage * (samples / (samples - 1));
  if (config.loss == "grpo" && config.scale_by_deviation) {
    advantage = advantage / (rewards.std(1, /*unbiased=*/true, /*keepdim=*/true) + kLeastDeviation);
  }
  return advantage;
}

std::vector<double> length_rewards(const std::vector<int64_t>& lengths, const std::vector<bool>& right) {
  const auto [shortest, longest] = std::minmax_element(lengths.begin(), lengths.end());
  std::vector<double> rewards(lengths.size(), 0);
  if (*shortest == *longest) return rewards;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const double x = 0.5 - static_cast<double>(lengths[i] - *shortest) / static_cast<double>(*longest - *shortest);
    rewards[i] = right[i] ? x : std::min(0.0, x);
  }
  return rewards;
}

double divergence(const Tensor& before, const Tensor& now) {
  const Tensor difference = now.to(torch::kDouble) - before.to(torch::kDouble);
  return (difference.exp() - 1 - difference).mean().item<double>();
}

}  // namespace klab
