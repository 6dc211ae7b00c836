// SPDX-License-Identifier: Apache-2.0
// Latent attention (MLA).
#pragma once

#include "core/model/attention_mixer.h"
#include "core/model/layers.h"
#include "kernels/attention/attention.h"

namespace klab {

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434) as in Kimi Linear's public code:
///     q = W_q x = [nope | rope] per head     c | k_r = W_kva x     c = rms_norm(c)     k_nope | v = W_kvb c
///     softmax over [nope | rope] . [k_nope | k_r], scale (nope + rope)^-0.5
/// Only c and k_r (shared by all heads) are cached, [N, S, latent + rope]. Few new tokens over a cache use the absorbed
/// form: W_kvb is absorbed into queries and outputs, and all heads read the same latent row. More new tokens use the
/// expanded form, on one block of the cache at a time. Without position encoding (NoPE) the "rope" part is content like
/// the rest; RoPE rotates only that part.
class Mla : public AttentionMixer {
 public:
  struct Options : Configurable {
    int64_t heads = 0;
    int64_t nope_dim = 0;
    int64_t rope_dim = -1;
    int64_t value_dim = 0;
    int64_t kv_lora_rank = 0;
    int64_t q_lora_rank = 0;
    double norm_eps = 1e-6;
    void visit(Fields& fields) override;
  };
  struct RopeOptions : Options {
    double rope_base = 10000;
    void visit(Fields& fields) override;
  };

  Mla(const MixerShape& shape, const Options& options);
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;
  /// Scales the nope part of queries and of keys alike; of the other part, whose key all heads share, queries alone.
  void scale_logits(const torch::Tensor& factors) override;

 protected:
  torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) final;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

  /// The gate's projection, [D] to [H * value_dim], or null.
  virtual Linear output_gate() const { return Linear(nullptr); }

  int64_t rope_dim_;
  double rope_base_ = 0;  // 0: no rotation
  int64_t heads_, value_dim_;

 private:
  torch::Tensor query(const torch::Tensor& x) const;
  kernels::AttentionInputs expand(const torch::Tensor& q, const torch::Tensor& rows) const;
  torch::Tensor over_past(const torch::Tensor& q, const torch::Tensor& rows) const;
  torch::Tensor absorbed(const torch::Tensor& q, const torch::Tensor& rows) const;

  int64_t nope_dim_, latent_;
  Linear q_proj_{nullptr}, q_a_proj_{nullptr}, q_b_proj_{nullptr};
  RmsNorm q_a_norm_{nullptr};
  Linear kv_a_proj_;  // [latent + rope, D], the public kv_a_proj_with_mqa
  RmsNorm kv_a_norm_;
  Linear kv_b_proj_;  // [H * (nope + value), latent]
  Linear o_proj_;
};

/// MLA with rotary position embedding on the shared part.
class RotaryMla : public Mla {
 public:
  using Options = RopeOptions;
  RotaryMla(const MixerShape& shape, const Options& options);
};

}  // namespace klab
