// SPDX-License-Identifier: Apache-2.0
// Momentum DeltaNet.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// The delta rule with momentum (arXiv 2605.05838): a second matrix M per head collects the corrections,
///     M = mu M - eta k (v - alpha S^T k)^T    S = alpha S - beta M    o = S^T (q - D k)
/// with mu = max(exp(-exp(Mu_log) softplus(m + mu_bias)), e^-2), eta = 1 + tanh(e / sqrt(width)), and, for
/// r = (eta exp(log_factor))^2, beta = r / (1 + r) sigmoid(b) and alpha = e^g / (1 + r), which keeps S bounded. The
/// state is [N, HV, 2 K, V], S above M.
class MomentumDeltaNet : public LinearMixer {
 public:
  using Options = DeltaOptions;

  MomentumDeltaNet(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override;
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;
  torch::Tensor recur(const kernels::RecurrenceInputs& in, const torch::Tensor& x, const Sequences& sequences,
                      State* state) const override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

 private:
  Beta beta_;
  HeadDecay decay_;
  Linear m_proj_, e_proj_;
  torch::Tensor Mu_log_, mu_bias_, log_factor_;  // [HV]
  torch::Tensor D_log_;                          // [H]
};

}  // namespace klab
