#include "mixers/gated_delta.h"

#include <torch/torch.h>

#include "kernels/norms.h"
#include "kernels/recurrence_cost.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kConvTaps = 4;
constexpr double kNormEps = 1e-5;

}  // namespace

void GatedDeltaOptions::visit(Fields& fields) {
  fields.choice("output_gate", output_gate, {"sigmoid", "swish", "none"}, "gate on the normed output");
  fields("short_conv", short_conv, "causal convolution of width 4 before q, k and v");
  fields("allow_neg_eigval", allow_neg_eigval, "double beta, so that a step can flip the sign of a memory");
  fields("value_heads", value_heads, "value heads, a multiple of model.heads; 0: model.heads");
  fields("value_dim", value_dim, "width of a value head; 0: model.head_dim");
}

GatedDeltaMixer::GatedDeltaMixer(const MixerShape& shape, const GatedDeltaOptions& options)
    : heads_(shape.heads),
      key_dim_(shape.head_dim),
      value_heads_(options.value_heads > 0 ? options.value_heads : shape.heads),
      value_dim_(options.value_dim > 0 ? options.value_dim : shape.head_dim),
      output_gate_(options.output_gate),
      short_conv_(options.short_conv),
      allow_neg_eigval_(options.allow_neg_eigval),
      q_proj_(register_module("q_proj", Linear(shape.width, heads_ * key_dim_))),
      k_proj_(register_module("k_proj", Linear(shape.width, heads_ * key_dim_))),
      v_proj_(register_module("v_proj", Linear(shape.width, value_heads_ * value_dim_))),
      b_proj_(register_module("b_proj", Linear(shape.width, value_heads_))),
      o_proj_(register_module("o_proj", Linear(value_heads_ * value_dim_, shape.width))) {
  require(options.value_heads >= 0 && value_heads_ % heads_ == 0, "value_heads", fmt::format("{}", options.value_heads),
          fmt::format("must be a multiple of model.heads = {}", heads_));
  require(options.value_dim >= 0 && value_dim_ <= 256, "value_dim", fmt::format("{}", options.value_dim),
          "must lie in 0..256");
  if (short_conv_) {
    q_conv_ = register_module("q_conv", ShortConv(heads_ * key_dim_, kConvTaps, /*with_bias=*/false));
    k_conv_ = register_module("k_conv", ShortConv(heads_ * key_dim_, kConvTaps, false));
    v_conv_ = register_module("v_conv", ShortConv(value_heads_ * value_dim_, kConvTaps, false));
  }
  if (output_gate_ != "none") {
    g_a_proj_ = register_module("g_a_proj", Linear(shape.width, value_dim_));
    g_b_proj_ = register_module("g_b_proj", Linear(value_dim_, value_heads_ * value_dim_));
  }
  o_norm_ = register_parameter("o_norm", torch::ones({value_dim_}));
}

Tensor GatedDeltaMixer::convolved(const Linear& projection, const ShortConv& conv, const Tensor& x,
                                  const Sequences& sequences, State* state, const std::string& name) const {
  const Tensor projected = projection->forward(x);
  return short_conv_ ? conv->forward(projected, sequences, state, name) : torch::silu(projected);
}

Tensor GatedDeltaMixer::forward(const Tensor& x, const Sequences& sequences, State* state) {
  const int64_t B = x.size(0), T = x.size(1);
  const auto heads = [&](const Tensor& y, int64_t count) { return y.view({B, T, count, -1}); };

  kernels::RecurrenceInputs in;
  in.q = heads(convolved(q_proj_, q_conv_, x, sequences, state, "q_conv"), heads_);
  in.k = heads(convolved(k_proj_, k_conv_, x, sequences, state, "k_conv"), heads_);
  in.v = heads(convolved(v_proj_, v_conv_, x, sequences, state, "v_conv"), value_heads_);
  in.g = raw_decay(x);
  in.gate = gate();
  in.beta = b_proj_->forward(x);
  in.qk_l2norm = in.beta_sigmoid = true;
  in.allow_neg_eigval = allow_neg_eigval_;
  in.cu_seqlens = sequences.cu_seqlens;
  if (state != nullptr) {
    in.initial_state = state->tensors.at("memory");
    in.overwrite_state = !torch::GradMode::is_enabled();
  }
  const kernels::RecurrenceOutputs out = kernels::recurrence(in);
  if (state != nullptr) state->tensors.at("memory") = out.final_state;

  const Tensor o =
      output_gate_ == "none"
          ? kernels::rms_norm(out.o, o_norm_, kNormEps)
          : kernels::gated_rms_norm(out.o, o_norm_, heads(g_b_proj_->forward(g_a_proj_->forward(x)), value_heads_),
                                    output_gate_, kNormEps);
  return o_proj_->forward(o.reshape({B, T, value_heads_ * value_dim_}));
}

State GatedDeltaMixer::initial_state(int64_t sequences, const torch::Device& device) const {
  State state;
  state.tensors["memory"] =
      torch::zeros({sequences, value_heads_, key_dim_, value_dim_}, torch::TensorOptions(torch::kFloat).device(device));
  if (short_conv_) {
    state.tensors["q_conv"] = q_conv_->initial_state(sequences, device);
    state.tensors["k_conv"] = k_conv_->initial_state(sequences, device);
    state.tensors["v_conv"] = v_conv_->initial_state(sequences, device);
  }
  return state;
}

int64_t GatedDeltaMixer::state_bytes(int64_t) const { return initial_state(1, torch::kCPU).bytes(); }

double GatedDeltaMixer::conv_flops() const {
  return short_conv_ ? q_conv_->flops_per_token() + k_conv_->flops_per_token() + v_conv_->flops_per_token() : 0;
}

double GatedDeltaMixer::flops(int64_t tokens) const {
  return static_cast<double>(tokens) * (linear_flops(*this) + conv_flops()) +
         static_cast<double>(value_heads_) *
             kernels::recurrence_flops(kernels::Update::delta, tokens, key_dim_, value_dim_);
}

double GatedDeltaMixer::decode_flops(int64_t) const {
  return linear_flops(*this) + conv_flops() +
         static_cast<double>(value_heads_) *
             kernels::recurrence_step_flops(kernels::Update::delta, key_dim_, value_dim_);
}

}  // namespace klab
