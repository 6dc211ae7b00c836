// SPDX-License-Identifier: Apache-2.0
// The feed-forward part of a layer: a gated one (SwiGLU), or a mixture of gated experts.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/model/activation.h"
#include "core/model/layers.h"
#include "core/parallel/rank_group.h"

namespace klab {

namespace kernels {
struct ExpertWeights;
class ExpertTable;
}  // namespace kernels

class FeedForward : public torch::nn::Module {
 public:
  /// [B, T, D] to [B, T, D]. `sequences` and `state` are those of the layer's mixer.
  virtual torch::Tensor forward(const torch::Tensor& x, const Sequences& sequences, State* state) = 0;

  /// Adds the tensors of its convolutions, if it has any, to a layer's state.
  virtual void add_state(State&, int64_t /*sequences*/, const torch::Device&) const {}

  /// FLOPs of one token, and the parameters that one token uses.
  virtual double flops() const = 0;
  virtual int64_t activated_parameters() const = 0;

  /// Called after every optimiser step, on all ranks of the step.
  virtual void after_step(RankGroup& /*ranks*/) {}

  /// The parameters of routed experts, which can be spread over ranks.
  virtual std::vector<std::string> expert_parameters() const { return {}; }
};

/// down(activation(gate(x), up(x))); with `silu` it is SwiGLU. `convolved` adds to gate(x) and up(x) their causal
/// convolution over four tokens (Canon layer D, Allen-Zhu 2025).
class GatedMlp : public FeedForward {
 public:
  GatedMlp(int64_t width, int64_t hidden, Activation activation, bool convolved = false);
  torch::Tensor forward(const torch::Tensor& x, const Sequences& sequences, State* state) override;
  torch::Tensor forward(const torch::Tensor& x);  ///< [.., D] to [.., D], without convolution
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;
  double flops() const override;
  int64_t activated_parameters() const override;

  kernels::ExpertWeights weights() const;

 private:
  Activation activation_;
  Linear gate_proj_, up_proj_, down_proj_;
  ShortConv gate_canon_{nullptr}, up_canon_{nullptr};
};

/// The config keys `model.moe.*`.
struct MoeConfig : Configurable {
  int64_t experts = 0;
  int64_t experts_per_token = 8;
  int64_t expert_width = 0;
  int64_t shared_experts = 1;
  int64_t shared_width = 0;
  bool shared_gate = false;
  std::string router = "sigmoid";
  int64_t groups = 1;
  int64_t groups_per_token = 1;
  bool renormalise = true;
  double scaling = 2.446;
  double bias_update = 1e-3;
  bool biased_weights = false;
  int64_t latent_width = 0;
  bool latent_norm = true;

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
/// With the router `softmax` (Qwen3-Next) s = softmax(W x), and there is no bias: training does not balance the load.
/// `shared_gate` multiplies the output of the shared experts by sigmoid(w . x).
///
/// With a latent width the routed experts (not the router and the shared experts) work on a projection of x, and their
/// sum is normalised and projected back (Kimi K3): up(rms_norm(sum over e of s_e expert_e(down(x)))).
///
/// Expert parallelism: `ranks` share the experts, each has E / ranks that follow each other. Every forward and backward
/// pass is then an operation of all of them: rows of tokens are exchanged before and after the experts. Parameters of
/// other ranks' experts are on the meta device. Throws UsageError unless the number of ranks divides E.
class MixtureOfExperts : public FeedForward {
 public:
  /// `norm_eps`: of the norm of a latent sum.
  MixtureOfExperts(int64_t width, int64_t expert_width, const MoeConfig& config,
                   std::shared_ptr<RankGroup> ranks = nullptr, Activation activation = {}, double norm_eps = 1e-5);
  torch::Tensor forward(const torch::Tensor& x, const Sequences& sequences, State* state) override;
  torch::Tensor forward(const torch::Tensor& x) { return forward(x, {}, nullptr); }
  double flops() const override;
  int64_t activated_parameters() const override;
  void after_step(RankGroup& ranks) override;
  std::vector<std::string> expert_parameters() const override;

  Routing route(const torch::Tensor& x) const;  ///< x [n, D]

 private:
  torch::Tensor routed(const torch::Tensor& x, const Routing& routing);
  torch::Tensor by_expert(const torch::Tensor& x, const Routing& routing);
  torch::Tensor run_experts(const torch::Tensor& rows, const torch::Tensor& counts);
  torch::Tensor run_spread_experts(const torch::Tensor& rows, const torch::Tensor& counts);
  const kernels::ExpertTable& table();
  bool by_kernel() const;             // its experts now, without gradients
  bool shares_kernel() const;         // whether the kernel adds the shared experts
  int64_t absent_parameters() const;  // parameters of the experts that a token does not use

  int64_t own_experts() const { return ranks_ ? config_.experts / ranks_->size() : config_.experts; }
  int64_t first_expert() const { return ranks_ ? ranks_->rank() * own_experts() : 0; }

  MoeConfig config_;
  Activation activation_;
  std::shared_ptr<RankGroup> ranks_;  // null or several
  Linear router_;
  Linear down_proj_{nullptr}, up_proj_{nullptr};  // to the latent and back
  RmsNorm latent_norm_{nullptr};
  Linear shared_gate_{nullptr};    // [1, D]
  torch::Tensor correction_bias_;  // [E], changed only by after_step(); undefined: none
  torch::Tensor load_;             // [E], tokens per expert since the last step; undefined: none
  std::vector<std::shared_ptr<GatedMlp>> experts_;
  std::shared_ptr<GatedMlp> shared_;
  std::shared_ptr<kernels::ExpertTable> table_;  // for the weights' addresses when it was built
  const void* table_of_ = nullptr;
};

}  // namespace klab
