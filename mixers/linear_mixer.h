// SPDX-License-Identifier: Apache-2.0
// The common base of mixers on the recurrence family: everything except the decay and the update (section 4 and tables
// 6 and 7 of arXiv 2510.26692).
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "core/model/layers.h"
#include "core/model/mixer_probe.h"
#include "core/model/token_mixer.h"
#include "kernels/common/rows.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Options of every linear mixer; the config keys `model.<mixer>.*`. Every mixer has the defaults of its public layer.
struct LinearOptions : Configurable {
  std::string output_gate = "sigmoid";
  bool full_rank_gates = false;
  bool short_conv = true;
  int64_t conv_size = 4;
  int64_t key_dim = 0;
  int64_t value_heads = 0;
  int64_t value_dim = 0;

  void visit(Fields& fields) override;
};

/// Options of the mixers with the delta rule.
struct DeltaOptions : LinearOptions {
  bool allow_neg_eigval = false;
  void visit(Fields& fields) override;
};

/// Options of the mixers that also have KDA's decay per channel (mixers/gates.h).
struct ChannelDecayOptions : DeltaOptions {
  double lower_bound = 0;
  std::string decay_rank = "gates";
  /// Whether the decay is projected by one matrix.
  bool full_rank_decay() const { return decay_rank == "gates" ? full_rank_gates : decay_rank == "full"; }
  void visit(Fields& fields) override;
};

/// A width or count from the options, where 0 selects the default `otherwise`.
constexpr int64_t or_default(int64_t value, int64_t otherwise) { return value > 0 ? value : otherwise; }

/// The memory of a mixer on the recurrence: [N, heads, key_dim, value_dim], with keys [B, T, key_heads, key_dim].
struct MemoryShape {
  kernels::Update update;
  int64_t key_heads, heads, key_dim, value_dim;
};

/// How a mixer's public layer differs around the recurrence.
struct LinearTraits {
  kernels::Update update;        ///< update of the recurrence, for cost accounting
  bool activated = true;         ///< SiLU on q, k and v even without short convolutions
  bool conv_activated = true;    ///< SiLU after the short convolutions
  bool norm_over_heads = false;  ///< one norm over the concatenated heads
  int64_t writes = 1;            ///< per token, each with a key and a value of its own
};

///     q, k, v = silu(conv(W x))    o = recurrence(q, k, v, ..)    y = W (rms_norm(o) * gate(W_up W_down x))
/// The state is the recurrent state [N, HV, K, V] (`memory`) and the last inputs of the convolutions.
class LinearMixer : public TokenMixer {
 public:
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;

 protected:
  LinearMixer(const MixerShape& shape, const LinearOptions& options, const LinearTraits& traits);

  /// Adds g, beta, a, b, as the mixer needs them, to inputs that already hold q [B, T, H, K], k [B, TW, H, K] and v
  /// [B, TW, HV, V], TW = T * writes. A
  /// mixer with further tensors in its state (see add_state()) updates them here.
  virtual void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                           State* state) const = 0;

  /// The output [B, T, HV, V] of the recurrence on these inputs, by default run_recurrence().
  virtual torch::Tensor recur(const kernels::RecurrenceInputs& in, const torch::Tensor& x, const Sequences& sequences,
                              State* state) const;

  MemoryShape memory_shape() const { return {traits_.update, heads_, value_heads_, key_dim_, value_dim_}; }

  /// The projections of x that fill_inputs() takes, to be computed together with q, k and v.
  virtual std::vector<Linear> gate_projections() const { return {}; }

  torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) final;
  bool has_values() const final { return true; }
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

  /// Views [B, T, HV * n] as [B, T, HV, n].
  torch::Tensor by_value_head(const torch::Tensor& y) const;
  /// Repeats q or k [B, T, H, K] for every value head: [B, T, HV, K].
  torch::Tensor for_value_heads(const torch::Tensor& y) const;

  int64_t width_, heads_, key_dim_, value_heads_, value_dim_;
  bool full_rank_gates_;
  double norm_eps_;

 private:
  torch::Tensor convolved(const Linear& projection, const ShortConv& conv, const SharedInput& x,
                          const Sequences& sequences, State* state, const std::string& name) const;
  torch::Tensor output(const torch::Tensor& o, const SharedInput& x) const;
  double conv_flops() const;

  LinearTraits traits_;
  std::string output_gate_;
  bool short_conv_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  ShortConv q_conv_{nullptr}, k_conv_{nullptr}, v_conv_{nullptr};
  Linear g_proj_{nullptr}, g_a_proj_{nullptr}, g_b_proj_{nullptr};  // full rank, or with rank V
  torch::Tensor o_norm_;                                            // [V] for every head, or [HV * V]
};

/// Runs the recurrence; with a state, from its tensor `memory`, which is then updated. Returns o [B, T, HV, V]. A
/// probe, if not null, observes inputs and output.
torch::Tensor run_recurrence(kernels::RecurrenceInputs in, const Sequences& sequences, State* state,
                             const MixerProbe* probe, const std::string& memory = "memory");

/// A zero recurrent state [N, HV, K, V], float32, or float64 if `dtype`, that of the activations, is.
torch::Tensor empty_memory(int64_t sequences, int64_t value_heads, int64_t key_dim, int64_t value_dim,
                           torch::ScalarType dtype, const torch::Device& device);

}  // namespace klab
