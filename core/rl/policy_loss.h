// SPDX-License-Identifier: Apache-2.0
// Losses of a policy on sampled answers.
#pragma once

#include <torch/types.h>

#include <vector>

#include "core/rl/rl_config.h"

namespace klab {

/// The tokens of S answers, in the order of the answers.
struct PolicyTokens {
  torch::Tensor log_probs;  ///< [tokens] float32, differentiable: of the policy that is trained
  torch::Tensor before;     ///< [tokens] float32: of the policy at the beginning of the iteration, without gradient
  torch::Tensor weights;    ///< [tokens] float32: importance weights, without gradient
  torch::Tensor answer;     ///< [tokens] int64: the answer of each token, 0..S-1
  torch::Tensor advantage;  ///< [S] float32
};

struct PolicyLoss {
  torch::Tensor mean;        ///< over answers, differentiable
  double clipped_share = 0;  ///< grpo: of tokens without gradient, because their ratio was clipped
};

/// The policy step of Kimi k1.5 (arXiv 2501.12599, equation 3): tau/2 (A/tau - l)^2 for an answer of advantage A and
/// l = sum over its tokens of log pi - log pi_before. The gradient of a token's log pi is multiplied by its weight.
PolicyLoss mirror_descent_loss(const PolicyTokens& tokens, double tau);

/// PPO's clipped ratio with GRPO's means (arXiv 2402.03300): the mean over an answer's tokens of
/// -w min(r A, clip(r, 1 - clip, 1 + clip) A) + beta (exp(-d) - 1 + d), with r = exp(d), d = log pi - log pi_before.
PolicyLoss clipped_loss(const PolicyTokens& tokens, double clip, double beta);

/// The loss of the config.
PolicyLoss policy_loss(const PolicyTokens& tokens, const RlConfig& config, double kl_weight);

/// The advantages [groups, samples] of rewards of that shape: the reward minus the mean of the group (`mean`) or of its
/// other answers (`leave_one_out`). For loss grpo with scale_by_deviation, divided by the group's standard deviation
/// plus 1e-4.
torch::Tensor advantages(const torch::Tensor& rewards, const RlConfig& config);

/// The reward for short answers of a group (Kimi k1.5, section 2.3.3): with x = 1/2 - (length - shortest) / (longest -
/// shortest), x for a right answer and min(0, x) for a wrong one; 0 if all have the same length.
std::vector<double> length_rewards(const std::vector<int64_t>& lengths, const std::vector<bool>& right);

/// The divergence KL(before || now) in nats per token, estimated from tokens that `before` has drawn: the mean of
/// exp(d) - 1 - d with d = log now - log before, which is never negative (Schulman 2020).
double divergence(const torch::Tensor& before, const torch::Tensor& now);

}  // namespace klab
