// SPDX-License-Identifier: Apache-2.0
#include "mixers/linear_mixer.h"

#include <torch/nn/module.h>

#include "core/model/context_recurrence.h"
#include "kernels/common/checks.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence_cost.h"

namespace klab {
namespace {

using torch::Tensor;

}  // namespace

void LinearOptions::visit(Fields& fields) {
  fields.choice("output_gate", output_gate, {"sigmoid", "swish", "none"},
                "activation of the gate on the normalised output");
  fields("full_rank_gates", full_rank_gates, "one matrix per gate instead of two with the head width as rank");
  fields("short_conv", short_conv, "causal convolution of q, k and v");
  fields("conv_size", conv_size, {2, 64}, "tokens that the convolution spans");
  fields.renamed("conv_taps", "conv_size");
  fields("key_dim", key_dim, {0, kernels::kMaxHeadDim}, "width of a query and key head; 0: model.head_dim");
  fields("value_heads", value_heads, {0, 4096}, "number of value heads, a multiple of model.heads; 0: model.heads");
  fields("value_dim", value_dim, {0, kernels::kMaxHeadDim}, "width of a value head; 0: model.head_dim");
}

LinearMixer::LinearMixer(const MixerShape& shape, const LinearOptions& options, const LinearTraits& traits)
    : width_(shape.width),
      heads_(shape.heads),
      key_dim_(or_default(options.key_dim, shape.head_dim)),
      value_heads_(or_default(options.value_heads, shape.heads)),
      value_dim_(or_default(options.value_dim, shape.head_dim)),
      full_rank_gates_(options.full_rank_gates),
      norm_eps_(shape.norm_eps),
      traits_(traits),
      output_gate_(options.output_gate),
      short_conv_(options.short_conv),
      q_proj_(register_module("q_proj", Linear(shape.width, heads_ * key_dim_))),
      k_proj_(register_module("k_proj", Linear(shape.width, traits.writes * heads_ * key_dim_))),
      v_proj_(register_module("v_proj", Linear(shape.width, traits.writes * value_heads_ * value_dim_))),
      o_proj_(register_module("o_proj", Linear(value_heads_ * value_dim_, shape.width))) {
  require(value_heads_ % heads_ == 0, "value_heads", fmt::format("{}", options.value_heads),
          fmt::format("must be a multiple of the {} heads", heads_));
  require((options.key_dim > 0 && options.value_dim > 0) || shape.head_dim <= kernels::kMaxHeadDim, "model.head_dim",
          fmt::format("{}", shape.head_dim),
          fmt::format("must be at most {}, the kernels' limit", kernels::kMaxHeadDim));
  if (short_conv_) {
    const auto conv = [&](int64_t width) {
      return ShortConv(width, options.conv_size, /*with_bias=*/false, traits_.conv_activated);
    };
    q_conv_ = register_module("q_conv", conv(heads_ * key_dim_));
    k_conv_ = register_module("k_conv", conv(traits.writes * heads_ * key_dim_));
    v_conv_ = register_module("v_conv", conv(traits.writes * value_heads_ * value_dim_));
  }
  const int64_t values = value_heads_ * value_dim_;
  if (output_gate_ != "none" && full_rank_gates_) {
    g_proj_ = register_module("g_proj", Linear(shape.width, values));
  } else if (output_gate_ != "none") {
    g_a_proj_ = register_module("g_a_proj", Linear(shape.width, value_dim_));
    g_b_proj_ = register_module("g_b_proj", Linear(value_dim_, values));
  }
  o_norm_ = register_parameter("o_norm", new_parameter({traits_.norm_over_heads ? values : value_dim_}, 1));
}

Tensor LinearMixer::by_value_head(const Tensor& y) const { return y.view({y.size(0), y.size(1), value_heads_, -1}); }

Tensor LinearMixer::for_value_heads(const Tensor& y) const {
  return value_heads_ == heads_ ? y : y.repeat_interleave(value_heads_ / heads_, 2);
}

Tensor LinearMixer::convolved(const Linear& projection, const ShortConv& conv, const SharedInput& x,
                              const Sequences& sequences, State* state, const std::string& name) const {
  const Tensor projected = x.take(projection);
  if (short_conv_) return conv->forward(projected, sequences, state, name);
  return traits_.activated ? torch::silu(projected) : projected;
}

Tensor LinearMixer::mix(const Tensor& input, const Sequences& sequences, State* state) {
  const int64_t B = input.size(0), T = input.size(1);
  std::vector<Linear> together = gate_projections();
  together.insert(together.end(), {q_proj_, k_proj_, v_proj_, full_rank_gates_ ? g_proj_ : g_a_proj_});
  const SharedInput x(input, together);
  kernels::RecurrenceInputs in;
  in.q = convolved(q_proj_, q_conv_, x, sequences, state, "q_conv").view({B, T, heads_, key_dim_});
  in.writes = traits_.writes;  // per token: the rows of its first write, of its second, ..
  in.k = convolved(k_proj_, k_conv_, x, sequences, state, "k_conv").reshape({B, T * in.writes, heads_, key_dim_});
  const Tensor v = convolved(v_proj_, v_conv_, x, sequences, state, "v_conv");
  in.v = with_first_values(v.reshape({B, T * in.writes, value_heads_, value_dim_}));
  fill_inputs(in, x, sequences, state);
  return output(recur(in, x, sequences, state), x);
}

Tensor LinearMixer::recur(const kernels::RecurrenceInputs& in, const Tensor&, const Sequences& sequences,
                          State* state) const {
  return run_recurrence(in, sequences, state, probe_);
}

Tensor LinearMixer::output(const Tensor& o, const SharedInput& x) const {
  const int64_t B = o.size(0), T = o.size(1), normed = traits_.norm_over_heads ? 1 : value_heads_;
  const auto parts = [&](const Tensor& y) { return y.reshape({B, T, normed, -1}); };  // each with a norm of its own
  Tensor y;
  if (output_gate_ == "none") {
    y = kernels::rms_norm(parts(o), o_norm_, norm_eps_);
  } else {
    const Tensor gate = full_rank_gates_ ? x.take(g_proj_) : g_b_proj_->forward(x.take(g_a_proj_));
    y = kernels::gated_rms_norm(parts(o), o_norm_, parts(gate), output_gate_, norm_eps_);
  }
  return o_proj_->forward(y.reshape({B, T, value_heads_ * value_dim_}));
}

void LinearMixer::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  state.tensors["memory"] = empty_memory(sequences, value_heads_, key_dim_, value_dim_, o_norm_.scalar_type(), device);
  if (!short_conv_) return;
  state.tensors["q_conv"] = q_conv_->initial_state(sequences, device);
  state.tensors["k_conv"] = k_conv_->initial_state(sequences, device);
  state.tensors["v_conv"] = v_conv_->initial_state(sequences, device);
}

double LinearMixer::conv_flops() const {
  return short_conv_ ? q_conv_->flops_per_token() + k_conv_->flops_per_token() + v_conv_->flops_per_token() : 0;
}

double LinearMixer::flops(int64_t tokens) const {
  return static_cast<double>(tokens) * (linear_flops(*this) + conv_flops()) +
         static_cast<double>(value_heads_) *
             kernels::recurrence_flops(traits_.update, tokens * traits_.writes, key_dim_, value_dim_);
}

double LinearMixer::decode_flops(int64_t) const {
  return linear_flops(*this) + conv_flops() +
         static_cast<double>(value_heads_ * traits_.writes) *
             kernels::recurrence_step_flops(traits_.update, key_dim_, value_dim_);
}

void DeltaOptions::visit(Fields& fields) {
  LinearOptions::visit(fields);
  fields("allow_neg_eigval", allow_neg_eigval,
         "double beta, which allows negative eigenvalues of the state transition");
}

void ChannelDecayOptions::visit(Fields& fields) {
  DeltaOptions::visit(fields);
  fields("lower_bound", lower_bound, {-5, 0},
         "smallest log-decay of the bounded gate, in [-5, 0); 0: the softplus gate");
  fields.choice("decay_rank", decay_rank, {"gates", "low", "full"},
                "projection of the decay: like the output gate's (full_rank_gates), two matrices with the head width "
                "as rank, or one");
}

Tensor run_recurrence(kernels::RecurrenceInputs in, const Sequences& sequences, State* state, const MixerProbe* probe,
                      const std::string& memory) {
  in.cu_seqlens = sequences.cu_seqlens;
  if (state != nullptr) {
    in.initial_state = state->tensors.at(memory);
    in.overwrite_state = !torch::GradMode::is_enabled();
  }
  if (sequences.part) return context_recurrence(in, sequences);
  const kernels::RecurrenceOutputs out = kernels::recurrence(in);
  if (probe != nullptr && probe->recurrence) probe->recurrence(in, out.o);
  if (state != nullptr) state->tensors.at(memory) = out.final_state;
  return out.o;
}

Tensor empty_memory(int64_t sequences, int64_t value_heads, int64_t key_dim, int64_t value_dim, torch::ScalarType dtype,
                    const torch::Device& device) {
  return torch::zeros({sequences, value_heads, key_dim, value_dim},
                      torch::TensorOptions(kernels::accumulation_type(dtype)).device(device));
}

}  // namespace klab
