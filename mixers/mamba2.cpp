// SPDX-License-Identifier: Apache-2.0
#include "mixers/mamba2.h"

#include <torch/nn/module.h>

#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence_cost.h"
#include "mixers/gates.h"
#include "mixers/linear_mixer.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kConvTaps = 4;

}  // namespace

void Mamba2::Options::visit(Fields& fields) {
  fields("state", state, {0, kernels::kMaxHeadDim}, "width of B and C (keys and queries); 0: model.head_dim");
  fields("groups", groups, {1, 4096}, "number of groups of heads that share B and C; must divide model.heads");
}

Mamba2::Mamba2(const MixerShape& shape, const Options& options)
    : heads_(shape.heads),
      head_dim_(shape.head_dim),
      state_dim_(or_default(options.state, shape.head_dim)),
      groups_(options.groups),
      norm_eps_(shape.norm_eps),
      in_proj_(
          register_module("in_proj", Linear(shape.width, 2 * heads_ * head_dim_ + 2 * groups_ * state_dim_ + heads_))),
      out_proj_(register_module("out_proj", Linear(heads_ * head_dim_, shape.width))),
      conv_(register_module("conv",
                            ShortConv(heads_ * head_dim_ + 2 * groups_ * state_dim_, kConvTaps, /*with_bias=*/true))),
      A_log_(register_parameter("A_log", new_wide_parameter({heads_}))),
      dt_bias_(register_parameter("dt_bias", new_wide_parameter({heads_}))),
      D_(register_parameter("D", new_wide_parameter({heads_}, 1))),
      norm_(register_parameter("norm", new_parameter({heads_ * head_dim_}, 1))) {
  require(heads_ % groups_ == 0, "groups", fmt::format("{}", groups_),
          fmt::format("must divide model.heads = {}", heads_));
  require(head_dim_ <= kernels::kMaxHeadDim, "model.head_dim", fmt::format("{}", head_dim_),
          "must be at most 256, the kernels' limit");
}

void Mamba2::initialise(const at::Generator& generator) {
  draw_A_log(A_log_, generator);
  draw_dt_bias(dt_bias_, generator);
}

Tensor Mamba2::mix(const Tensor& x, const Sequences& sequences, State* state) {
  const int64_t B = x.size(0), T = x.size(1), inner = heads_ * head_dim_, shared = groups_ * state_dim_;
  const std::vector<Tensor> parts = in_proj_->forward(x).split_with_sizes({inner, inner + 2 * shared, heads_}, -1);
  const Tensor &z = parts[0], &xBC = parts[1], &raw_dt = parts[2];
  const std::vector<Tensor> mixed =
      conv_->forward(xBC, sequences, state, "conv").split_with_sizes({inner, shared, shared}, -1);
  const Tensor input = mixed[0].reshape({B, T, heads_, head_dim_});

  const Tensor dt = torch::softplus(raw_dt + dt_bias_);  // [B, T, H]
  kernels::RecurrenceInputs in;
  in.k = mixed[1].reshape({B, T, groups_, state_dim_});
  in.q = mixed[2].reshape({B, T, groups_, state_dim_});
  in.v = input * dt.unsqueeze(-1);
  in.g = -dt * torch::exp(A_log_);
  in.scale = 1.0;
  const Tensor o = recur(in, x, sequences, state);

  // The norm is over each group of heads.
  const auto by_group = [&](const Tensor& y) { return y.reshape({B, T, groups_, inner / groups_}); };
  const Tensor ones = torch::ones({inner / groups_}, x.options().requires_grad(false));
  const Tensor normed =
      kernels::rms_norm_of_gated(by_group(o + D_.unsqueeze(-1) * input), ones, by_group(z), norm_eps_);
  return out_proj_->forward((normed.reshape({B, T, inner}) * norm_).to(x.scalar_type()));
}

Tensor Mamba2::recur(const kernels::RecurrenceInputs& in, const Tensor&, const Sequences& sequences,
                     State* state) const {
  return run_recurrence(in, sequences, state, probe_);
}

void Mamba2::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  state.tensors["memory"] = empty_memory(sequences, heads_, state_dim_, head_dim_, in_proj_->input_dtype(), device);
  state.tensors["conv"] = conv_->initial_state(sequences, device);
}

double Mamba2::flops(int64_t tokens) const {
  return static_cast<double>(tokens) * (linear_flops(*this) + conv_->flops_per_token()) +
         static_cast<double>(heads_) *
             kernels::recurrence_flops(kernels::Update::accumulate, tokens, state_dim_, head_dim_);
}

double Mamba2::decode_flops(int64_t) const {
  return linear_flops(*this) + conv_->flops_per_token() +
         static_cast<double>(heads_) *
             kernels::recurrence_step_flops(kernels::Update::accumulate, state_dim_, head_dim_);
}

MixerEntry mamba2_mixer() {
  return mixer_entry<Mamba2>("mamba2", "Mamba2: accumulates, one decay per head", "recurrence/scalar/accumulate");
}

}  // namespace klab
