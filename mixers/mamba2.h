// SPDX-License-Identifier: Apache-2.0
// Mamba2.
#pragma once

#include "core/model/layers.h"
#include "core/model/token_mixer.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// Mamba2 (Dao and Gu 2024): one input projection to [z, x, B, C, dt], convolution with bias and SiLU on x, B and C,
///     dt = softplus(dt + dt_bias)   g = -exp(A_log) dt   S = e^g S + B (dt x)^T   y = S^T C + D x
///     out = W rms_norm(y * silu(z))
/// on the recurrence with scalar decay and accumulate update: q = C, k = B, shared by the heads of a group; v = dt x.
class Mamba2 : public TokenMixer {
 public:
  struct Options : Configurable {
    int64_t state = 0;
    int64_t groups = 1;
    void visit(Fields& fields) override;
  };

  Mamba2(const MixerShape& shape, const Options& options);

  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;
  void initialise(const at::Generator& generator) override;

 protected:
  torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

  /// The output [B, T, H, head_dim] of the recurrence on these inputs, by default run_recurrence().
  virtual torch::Tensor recur(const kernels::RecurrenceInputs& in, const torch::Tensor& x, const Sequences& sequences,
                              State* state) const;

  MemoryShape memory_shape() const { return {kernels::Update::accumulate, groups_, heads_, state_dim_, head_dim_}; }

 private:
  int64_t heads_, head_dim_, state_dim_, groups_;
  double norm_eps_;
  Linear in_proj_, out_proj_;
  ShortConv conv_;
  torch::Tensor A_log_, dt_bias_, D_;  // [H]
  torch::Tensor norm_;                 // [H * head_dim]
};

}  // namespace klab
