// SPDX-License-Identifier: Apache-2.0
// RWKV-7.
#pragma once

#include "core/model/layers.h"
#include "core/model/token_mixer.h"

namespace klab {

/// The time mixing of RWKV-7 (Peng et al. 2025, arXiv 2503.14456). Every projection has its own interpolation of a
/// token and its predecessor (token shift); then, per head,
///     w = -0.6065 sigmoid(lora(x_w))    a = sigmoid(lora(x_a))    kk = l2norm(k * k_k)    k = k (1 + (a - 1) k_a)
///     S = Diag(e^w) S + (kk * a) (-kk^T S_prev) + k v^T           o = S^T r, unscaled
///     y = W (group_norm(o) + (r . (k * r_k)) v) * lora(x_g)
/// The interpolation of values with those of the first layer is omitted: a mixer has no access to other layers. The
/// state is the recurrent state [N, H, K, V] and the input of the last token.
class Rwkv7 : public TokenMixer {
 public:
  struct Options : Configurable {
    int64_t decay_rank = 64;
    int64_t a_rank = 64;
    int64_t gate_rank = 128;
    void visit(Fields& fields) override;
  };

  Rwkv7(const MixerShape& shape, const Options& options);
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;
  void initialise(const at::Generator& generator) override;

 protected:
  torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

 private:
  int64_t width_, heads_, head_dim_;
  double norm_eps_;
  torch::Tensor x_r_, x_w_, x_k_, x_v_, x_a_, x_g_;  // [D], weight of the preceding token
  Linear r_proj_, k_proj_, v_proj_, o_proj_;
  Linear w_a_proj_, w_b_proj_, a_a_proj_, a_b_proj_, g_a_proj_, g_b_proj_;
  torch::Tensor k_k_, k_a_;                // [H * K]
  torch::Tensor r_k_;                      // [H, K]
  torch::Tensor norm_weight_, norm_bias_;  // [H * K]
};

}  // namespace klab
