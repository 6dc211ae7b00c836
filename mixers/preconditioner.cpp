// SPDX-License-Identifier: Apache-2.0
#include "mixers/preconditioner.h"

#include <torch/nn/module.h>

#include <cmath>

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

void visit_squash(Fields& fields, double& squash) {
  fields("squash", squash, {1, 2}, "bound of the preconditioner: it scales keys by 1 / squash to squash");
}

void fill_preconditioned(kernels::RecurrenceInputs& in, const Tensor& q, const Tensor& k, const Tensor& scales,
                         const Tensor& g, const Tensor& beta) {
  in.q = q;
  in.g = g;
  in.k = beta.unsqueeze(-1) * scales * k;
  in.a = torch::exp(g.dim() == 3 ? g.unsqueeze(-1) : g) * k;
  in.b = -in.k;
}

}  // namespace klab
