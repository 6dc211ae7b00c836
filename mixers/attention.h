// SPDX-License-Identifier: Apache-2.0
// Softmax attention.
#pragma once

#include "core/model/attention_mixer.h"
#include "core/model/layers.h"

namespace klab {

/// Causal softmax attention, optionally with fewer key and value heads than query heads (grouped-query attention,
/// Ainslie et al. 2023), without position embedding (NoPE) or with a rotary one. Caches k and v [N, S, kv_heads,
/// head_dim] of every token; with a window only those of its tokens, as tensors [N, window, kv_heads * head_dim].
class Attention : public AttentionMixer {
 public:
  struct Options : Configurable {
    int64_t kv_heads = 0;
    void visit(Fields& fields) override;
  };
  struct RopeOptions : Options {
    double rope_base = 10000;
    void visit(Fields& fields) override;
  };

  Attention(const MixerShape& shape, const Options& options);
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;
  /// Scales queries and keys of a head alike, or, where query heads share keys, queries alone.
  void scale_logits(const torch::Tensor& factors) override;
  bool can_scale_logits() const override { return !q_norm_; }

 protected:
  /// What the layers of other models add.
  struct Variant {
    double rope_base = 0;      ///< of the rotary embedding; 0: none
    int64_t rope_dim = 0;      ///< the first channels of a head, which are rotated
    int64_t window = 0;        ///< a query attends to this many latest tokens; 0: all
    bool qk_norm = false;      ///< an RMS norm over each query and key head
    bool output_gate = false;  ///< the output times the sigmoid of a gate, whose projection is part of q_proj
  };
  Attention(const MixerShape& shape, const Options& options, const Variant& variant);

  torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) final;
  bool has_values() const final { return true; }
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

  /// The log of a forget gate, [B, T, H], or an undefined tensor for none.
  virtual torch::Tensor log_forget(const torch::Tensor&) const { return {}; }

  int64_t heads_, kv_heads_, head_dim_;

 private:
  double attention_flops(int64_t tokens, int64_t past) const;
  torch::Tensor rotated(const torch::Tensor& x, const torch::Tensor& at) const;
  torch::Tensor over_spans(const kernels::AttentionInputs& in, const Sequences& sequences, State* state);
  torch::Tensor over_windows(const kernels::AttentionInputs& in, const Sequences& sequences, State* state);
  torch::Tensor attend_to_all_ranks(const kernels::AttentionInputs& in, const Sequences& sequences, int64_t first);

  Variant variant_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  RmsNorm q_norm_{nullptr}, k_norm_{nullptr};
};

/// Attention with rotary position embedding.
class RotaryAttention : public Attention {
 public:
  using Options = RopeOptions;
  RotaryAttention(const MixerShape& shape, const Options& options);
};

}  // namespace klab
