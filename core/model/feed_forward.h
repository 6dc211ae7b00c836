// SPDX-License-Identifier: Apache-2.0
// The feed-forward part of a layer: SwiGLU, or a mixture of SwiGLU experts.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/model/layers.h"
#include "core/parallel/rank_group.h"

namespace klab {

namespace kernels {
struct ExpertWeights;
class ExpertTable;
}  // namespace kernels

class FeedForward : public torch::nn::Module {
 public:
  /// [.., D] to [.., D].
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;

  /// FLOPs of one token, and the parameters that one token uses.
  virtual double flops() const = 0;
  virtual int64_t activated_parameters() const = 0;

  /// Called after every optimiser step, on all ranks of the step.
  virtual void after_step(RankGroup& /*ranks*/) {}

  /// The parameters of routed experts, which can be spread over ranks.
  virtual std::vector<std::string> expert_parameters() const { return {}; }
};

/// SwiGLU: down(silu(gate(x)) * up(x)).
class SwiGlu : public FeedForward {
 public:
  SwiGlu(int64_t width, int64_t hidden);
  torch::Tensor forward(const torch::Tensor& x) override;
  double flops() const override { return linear_flops(*this); }
  int64_t activated_parameters() const override;

  kernels::ExpertWeights weights() const;

 private:
  Linear gate_proj_, up_proj_, down_proj_;
};

/// The config keys `model.moe.*`.
struct MoeConfig : Configurable {
  int64_t experts = 0;
  int64_t experts_per_token = 8;
  int64_t expert_width = 0;
  int64_t shared_experts = 1;
  int64_t groups = 1;
  int64_t groups_per_token = 1;
  bool renormalise = true;
  double scaling = 2.446;
  double bias_update = 1e-3;
  bool biased_weights = false;

  void visit(Fields& fields) override;
  void validate() const override;
};

/// The selected experts of every token, and their weights.
struct Routing {
  torch::Tensor experts;  ///< [n, experts_per_token] int64
  torch::Tensor weights;  ///< [n, experts_per_token], float32 or wider; differentiable
};

/// Mixture of experts as in the Kimi Linear 48B model (arXiv 2510.26692; the router is DeepSeek-V3's, arXiv
/// 2412.19437):
///     s = sigmoid(W x)      choice = s + bias      top groups by the sum of their two best choices, then top-k experts
///     y = scaling sum over selected e of s_e / (sum of selected s) expert_e(x) + shared(x)
/// The bias affects only the selection. During training, after_step() raises it by `bias_update` for experts with less
/// than the mean load since the last step and lowers it for the others (Wang et al. 2024), so that no balancing loss is
/// needed. Tokens are gathered by expert, and each expert with tokens runs once.
///
/// Expert parallelism: `ranks` share the experts, each has E / ranks that follow each other. Every forward and backward
/// pass is then an operation of all of them: rows of tokens are exchanged before and after the experts. Parameters of
/// other ranks' experts are on the meta device. Throws UsageError unless the number of ranks divides E.
class MixtureOfExperts : public FeedForward {
 public:
  MixtureOfExperts(int64_t width, int64_t expert_width, const MoeConfig& config,
                   std::shared_ptr<RankGroup> ranks = nullptr);
  torch::Tensor forward(const torch::Tensor& x) override;
  double flops() const override;
  int64_t activated_parameters() const override;
  void after_step(RankGroup& ranks) override;
  std::vector<std::string> expert_parameters() const override;

  Routing route(const torch::Tensor& x) const;  ///< x [n, D]

 private:
  torch::Tensor by_expert(const torch::Tensor& x, const Routing& routing);
  torch::Tensor run_experts(const torch::Tensor& rows, const torch::Tensor& counts);
  torch::Tensor run_spread_experts(const torch::Tensor& rows, const torch::Tensor& counts);
  const kernels::ExpertTable& table();
  int64_t absent_parameters() const;  // parameters of the experts that a token does not use

  int64_t own_experts() const { return ranks_ ? config_.experts / ranks_->size() : config_.experts; }
  int64_t first_expert() const { return ranks_ ? ranks_->rank() * own_experts() : 0; }

  MoeConfig config_;
  std::shared_ptr<RankGroup> ranks_;  // null or several
  Linear router_;
  torch::Tensor correction_bias_;  // [E], changed only by after_step()
  torch::Tensor load_;             // [E], tokens per expert since the last step; undefined: none
  std::vector<std::shared_ptr<SwiGlu>> experts_;
  std::shared_ptr<SwiGlu> shared_;
  std::shared_ptr<kernels::ExpertTable> table_;  // for the weights' addresses when it was built
  const void* table_of_ = nullptr;
};

}  // namespace klab
