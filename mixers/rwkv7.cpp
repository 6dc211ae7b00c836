// SPDX-License-Identifier: Apache-2.0
#include "mixers/rwkv7.h"

#include <torch/nn/module.h>

#include "core/model/token_shift.h"
#include "kernels/common/checks.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence.h"
#include "kernels/recurrence/recurrence_cost.h"
#include "mixers/linear_mixer.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr double kStrongestDecay = -0.6065306597126334;  // -e^-0.5, the scale of the sigmoid in the public layer

}  // namespace

void Rwkv7::Options::visit(Fields& fields) {
  fields("decay_rank", decay_rank, {1, 8192}, "rank of the projection to the decay");
  fields("a_rank", a_rank, {1, 8192}, "rank of the projection to the step size a");
  fields("gate_rank", gate_rank, {1, 8192}, "rank of the output gate");
}

Rwkv7::Rwkv7(const MixerShape& shape, const Options& options)
    : width_(shape.width),
      heads_(shape.heads),
      head_dim_(shape.head_dim),
      norm_eps_(shape.norm_eps),
      r_proj_(register_module("r_proj", Linear(width_, heads_ * head_dim_))),
      k_proj_(register_module("k_proj", Linear(width_, heads_ * head_dim_))),
      v_proj_(register_module("v_proj", Linear(width_, heads_ * head_dim_))),
      o_proj_(register_module("o_proj", Linear(heads_ * head_dim_, width_))),
      w_a_proj_(register_module("w_a_proj", Linear(width_, options.decay_rank))),
      w_b_proj_(register_module("w_b_proj", Linear(options.decay_rank, heads_ * head_dim_, /*with_bias=*/true))),
      a_a_proj_(register_module("a_a_proj", Linear(width_, options.a_rank))),
      a_b_proj_(register_module("a_b_proj", Linear(options.a_rank, heads_ * head_dim_, true))),
      g_a_proj_(register_module("g_a_proj", Linear(width_, options.gate_rank))),
      g_b_proj_(register_module("g_b_proj", Linear(options.gate_rank, heads_ * head_dim_))) {
  require(head_dim_ <= kernels::kMaxHeadDim, "model.head_dim", fmt::format("{}", head_dim_),
          "must be at most 256, the kernels' limit");
  for (const auto& [name, blend] :
       {std::pair{"x_r", &x_r_}, {"x_w", &x_w_}, {"x_k", &x_k_}, {"x_v", &x_v_}, {"x_a", &x_a_}, {"x_g", &x_g_}}) {
    *blend = register_parameter(name, new_parameter({width_}, 0.5));
  }
  k_k_ = register_parameter("k_k", new_parameter({heads_ * head_dim_}, 0.85));
  k_a_ = register_parameter("k_a", new_parameter({heads_ * head_dim_}, 1));
  r_k_ = register_parameter("r_k", new_parameter({heads_, head_dim_}));
  norm_weight_ = register_parameter("norm_weight", new_parameter({heads_ * head_dim_}, 1));
  norm_bias_ = register_parameter("norm_bias", new_parameter({heads_ * head_dim_}));
}

void Rwkv7::initialise(const at::Generator& generator) {
  r_k_.normal_(0, 0.1, generator);
  // The weight of the preceding token falls from 1 to 0 over the channels; decays range from slow to fast.
  const Tensor ramp = torch::linspace(0, 1, width_, x_r_.options().requires_grad(false));
  for (Tensor* blend : {&x_r_, &x_w_, &x_k_, &x_v_, &x_a_, &x_g_}) blend->copy_(1 - ramp.pow(0.5));
  const Tensor channels = torch::linspace(0, 1, head_dim_, x_r_.options().requires_grad(false)).repeat({heads_});
  w_b_proj_->bias.copy_(-6 + 5 * channels.square());
}

Tensor Rwkv7::mix(const Tensor& x, const Sequences& sequences, State* state) {
  const int64_t B = x.size(0), T = x.size(1);
  const auto wide = kernels::accumulation_type(x.scalar_type());
  const Tensor change = preceding_token(x, sequences, state, "shift") - x;
  const auto blended = [&](const Tensor& share) { return x + change * share; };
  const auto heads = [&](const Tensor& y) { return y.reshape({B, T, heads_, head_dim_}); };

  const Tensor r = heads(r_proj_->forward(blended(x_r_))), v = heads(v_proj_->forward(blended(x_v_)));
  const Tensor raw_k = k_proj_->forward(blended(x_k_)).to(wide);
  const Tensor raw_w = w_b_proj_->forward(torch::tanh(w_a_proj_->forward(blended(x_w_)))).to(wide);
  const Tensor a = torch::sigmoid(a_b_proj_->forward(a_a_proj_->forward(blended(x_a_))).to(wide));
  const Tensor gate = g_b_proj_->forward(torch::sigmoid(g_a_proj_->forward(blended(x_g_))));
  const Tensor direction = kernels::l2norm(heads(raw_k * k_k_));
  const Tensor k = heads(raw_k * (1 + (a - 1) * k_a_));

  kernels::RecurrenceInputs in;
  in.q = r;
  in.k = k;
  in.v = v;
  in.g = heads(kStrongestDecay * torch::sigmoid(raw_w));
  in.a = -direction;
  in.b = direction * heads(a);
  in.scale = 1.0;
  const Tensor o = run_recurrence(in, sequences, state, probe_).to(wide);  // [B, T, H, K]

  const Tensor centred = o - o.mean(-1, /*keepdim=*/true);
  const double eps = norm_eps_ * static_cast<double>(head_dim_);
  const Tensor normed = centred * torch::rsqrt(centred.square().mean(-1, true) + eps);
  const Tensor bonus = (r.to(wide) * k * r_k_).sum(-1, true) * v;
  const Tensor y = normed.reshape({B, T, -1}) * norm_weight_ + norm_bias_ + bonus.reshape({B, T, -1});
  return o_proj_->forward((y * gate).to(x.scalar_type()));
}

void Rwkv7::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  state.tensors["memory"] = empty_memory(sequences, heads_, head_dim_, head_dim_, r_proj_->input_dtype(), device);
  state.tensors["shift"] = no_preceding_token(sequences, width_, r_proj_->input_dtype(), device);
}

double Rwkv7::flops(int64_t tokens) const {
  return static_cast<double>(tokens) * linear_flops(*this) +
         static_cast<double>(heads_) * kernels::recurrence_flops(kernels::Update::dplr, tokens, head_dim_, head_dim_);
}

double Rwkv7::decode_flops(int64_t) const {
  return linear_flops(*this) +
         static_cast<double>(heads_) * kernels::recurrence_step_flops(kernels::Update::dplr, head_dim_, head_dim_);
}

MixerEntry rwkv7_mixer() {
  return mixer_entry<Rwkv7>("rwkv7", "RWKV-7: token shift, delta rule with two vectors, decay per channel",
                            "recurrence/channel/dplr");
}

}  // namespace klab
