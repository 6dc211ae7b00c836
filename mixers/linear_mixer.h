// What the mixers on the recurrence family have in common: all but the decay and the update (section 4 and tables 6 and
// 7 of arXiv 2510.26692).
#pragma once

#include <torch/types.h>

#include <string>

#include "core/model/layers.h"
#include "core/model/mixer_probe.h"
#include "core/model/token_mixer.h"
#include "kernels/common/rows.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Options of every linear mixer; the config keys `model.<mixer>.*`. A mixer sets the defaults of its public layer.
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

/// Options of those among them with KDA's decay per channel (mixers/gates.h).
struct ChannelDecayOptions : DeltaOptions {
  double lower_bound = 0;
  void visit(Fields& fields) override;
};

/// A width or count of the options, where 0 stands for another.
constexpr int64_t or_default(int64_t value, int64_t otherwise) { return value > 0 ? value : otherwise; }

/// What a mixer's public layer does around its recurrence.
struct LinearTraits {
  kernels::Update update;        ///< the kernel, for accounting
  bool activated = true;         ///< without a short convolution, SiLU on q, k and v all the same
  bool conv_activated = true;    ///< SiLU after the short convolutions
  bool norm_over_heads = false;  ///< one norm over all heads' outputs, and no gate
};

///     q, k, v = silu(conv(W x))    o = recurrence(q, k, v, ..)    y = W (rms_norm(o) * gate(W_up W_down x))
/// The state is the recurrent memory [N, HV, K, V] and the convolutions' last inputs.
class LinearMixer : public TokenMixer {
 public:
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;

 protected:
  LinearMixer(const MixerShape& shape, const LinearOptions& options, const LinearTraits& traits);

  /// Completes what q [B, T, H, K], k and v [B, T, HV, V] are already in: decay, beta, vectors of the update.
  virtual void fill_inputs(kernels::RecurrenceInputs& in, const torch::Tensor& x, const Sequences& sequences,
                           const State* state) const = 0;

  torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) final;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const final;

  /// [B, T, HV * n] as [B, T, HV, n].
  torch::Tensor by_value_head(const torch::Tensor& y) const;
  /// q or k [B, T, H, K] for each value head, [B, T, HV, K].
  torch::Tensor for_value_heads(const torch::Tensor& y) const;

  int64_t width_, heads_, key_dim_, value_heads_, value_dim_;
  bool full_rank_gates_;
  double norm_eps_;

 private:
  torch::Tensor convolved(const Linear& projection, const ShortConv& conv, const torch::Tensor& x,
                          const Sequences& sequences, State* state, const std::string& name) const;
  torch::Tensor output(const torch::Tensor& o, const torch::Tensor& x) const;
  double conv_flops() const;

  LinearTraits traits_;
  std::string output_gate_;
  bool short_conv_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  ShortConv q_conv_{nullptr}, k_conv_{nullptr}, v_conv_{nullptr};
  Linear g_proj_{nullptr}, g_a_proj_{nullptr}, g_b_proj_{nullptr};  // of full rank, or through the head width
  torch::Tensor o_norm_;                                            // [V] for every head, or [HV * V]
};

/// Runs the recurrence from the tensor `memory` of the state, if there is one, and leaves it there. What went in and
/// came out is shown to `probe`, unless that is null.
torch::Tensor run_recurrence(kernels::RecurrenceInputs in, const Sequences& sequences, State* state,
                             const MixerProbe* probe);

/// A memory of zeros [N, HV, K, V], float32, or float64 for a model in float64 (`like` is one of its parameters).
torch::Tensor empty_memory(int64_t sequences, int64_t value_heads, int64_t key_dim, int64_t value_dim,
                           const torch::Tensor& like, const torch::Device& device);

}  // namespace klab
