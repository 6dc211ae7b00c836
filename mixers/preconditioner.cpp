// SPDX-License-Identifier: Apache-2.0
#include "mixers/preconditioner.h"

#include <torch/nn/module.h>

#include <cmath>

#include "kernels/common/checks.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence_cost.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr double kEps = 1e-6;
constexpr double kFirstCenter = -0.2;

}  // namespace

PreconditionerImpl::PreconditionerImpl(int64_t width, int64_t heads, int64_t key_dim, double squash)
    : heads_(heads),
      key_dim_(key_dim),
      squash_(squash),
      beta_(*this, width, heads, /*allow_neg_eigval=*/false),
      decay_(*this, width, heads),
      center_(register_parameter("center", new_wide_parameter({heads}, kFirstCenter))) {}

// A is a recurrence with one key channel, whose key is beta and whose values are k^2.
Tensor PreconditionerImpl::scales(const Tensor& k, const Tensor& x, const Sequences& sequences, State* state) const {
  kernels::RecurrenceInputs in;
  in.k = beta_.value(x).to(k.scalar_type()).unsqueeze(-1);  // [B, T, H, 1]
  in.q = torch::ones_like(in.k);
  in.v = k.square();
  in.g = decay_.value(x);
  in.scale = 1;
  const Tensor A = run_recurrence(in, sequences, state, /*probe=*/nullptr, "preconditioner");
  const Tensor beyond = torch::log(A + kEps) - center_.unsqueeze(-1);
  return torch::exp(-std::log(squash_) * beyond / (1 + beyond.abs()));
}

void PreconditionerImpl::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  state.tensors["preconditioner"] = empty_memory(sequences, heads_, 1, key_dim_, center_.scalar_type(), device);
}

double PreconditionerImpl::flops(int64_t tokens) const {
  return static_cast<double>(heads_) * kernels::recurrence_flops(kernels::Update::accumulate, tokens, 1, key_dim_);
}

double PreconditionerImpl::decode_flops() const {
  return static_cast<double>(heads_) * kernels::recurrence_step_flops(kernels::Update::accumulate, 1, key_dim_);
}

PreconditionedMixer::PreconditionedMixer(const MixerShape& shape, const DeltaOptions& options, double squash)
    : LinearMixer(shape, options, {kernels::Update::dplr}),
      beta_(*this, width_, value_heads_, options.allow_neg_eigval),
      preconditioner_(register_module("preconditioner", Preconditioner(width_, heads_, key_dim_, squash))) {}

void PreconditionedMixer::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                                      State* state) const {
  const auto wide = kernels::accumulation_type(x.tensor().scalar_type());
  const Tensor unit = kernels::l2norm(in.k.to(wide)), k = for_value_heads(unit);  // [B, T, HV, K]
  const Tensor scales = for_value_heads(preconditioner_->scales(unit, x, sequences, state));
  const Tensor g = log_decay(x);
  in.q = for_value_heads(kernels::l2norm(in.q.to(wide)));
  in.g = g;
  in.k = beta_.value(x).unsqueeze(-1) * scales * k;
  in.a = torch::exp(g.dim() == 3 ? g.unsqueeze(-1) : g) * k;
  in.b = -in.k;
}

void PreconditionedMixer::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  LinearMixer::add_state(state, sequences, device);
  preconditioner_->add_state(state, sequences, device);
}

double PreconditionedMixer::flops(int64_t tokens) const {
  return LinearMixer::flops(tokens) + preconditioner_->flops(tokens);
}

double PreconditionedMixer::decode_flops(int64_t tokens) const {
  return LinearMixer::decode_flops(tokens) + preconditioner_->decode_flops();
}

}  // namespace klab
