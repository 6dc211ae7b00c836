// What KDA and Gated DeltaNet have in common: everything but the decay (section 4 of arXiv 2510.26692).
#pragma once

#include <torch/types.h>

#include <string>

#include "core/model/layers.h"
#include "core/model/token_mixer.h"
#include "kernels/recurrence.h"

namespace klab {

/// Options of every gated delta mixer; the config keys `model.<mixer>.*`.
struct GatedDeltaOptions : Configurable {
  std::string output_gate = "sigmoid";
  bool short_conv = true;
  bool allow_neg_eigval = false;
  int64_t value_heads = 0;
  int64_t value_dim = 0;

  void visit(Fields& fields) override;
};

///     q, k = l2norm(silu(conv(W x)))    v = silu(conv(W x))    beta = sigmoid(W x), doubled for negative eigenvalues
///     o = recurrence(q, k, v, g, beta)  y = W (rms_norm(o) * gate(W_up W_down x))
/// The state is the recurrent memory [N, HV, K, V] and the convolutions' last inputs.
class GatedDeltaMixer : public TokenMixer {
 public:
  GatedDeltaMixer(const MixerShape& shape, const GatedDeltaOptions& options);

  torch::Tensor forward(const torch::Tensor& x, const Sequences& sequences, State* state) final;
  State initial_state(int64_t sequences, const torch::Device& device) const final;
  int64_t state_bytes(int64_t tokens) const final;
  double flops(int64_t tokens) const final;
  double decode_flops(int64_t tokens) const final;

 protected:
  /// The raw decay from x [B, T, D]: [B, T, HV, K] per channel or [B, T, HV] per head.
  virtual torch::Tensor raw_decay(const torch::Tensor& x) const = 0;
  /// What makes the log-decay of it.
  virtual kernels::RecurrenceGate gate() const = 0;

  int64_t heads_, key_dim_, value_heads_, value_dim_;

 private:
  torch::Tensor convolved(const Linear& projection, const ShortConv& conv, const torch::Tensor& x,
                          const Sequences& sequences, State* state, const std::string& name) const;
  double conv_flops() const;

  std::string output_gate_;
  bool short_conv_;
  bool allow_neg_eigval_;
  Linear q_proj_, k_proj_, v_proj_, b_proj_, o_proj_;
  ShortConv q_conv_{nullptr}, k_conv_{nullptr}, v_conv_{nullptr};
  Linear g_a_proj_{nullptr}, g_b_proj_{nullptr};
  torch::Tensor o_norm_;  // [V], shared by all heads
};

}  // namespace klab
