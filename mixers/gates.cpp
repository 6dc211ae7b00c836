// SPDX-License-Identifier: Apache-2.0
#include "mixers/gates.h"

#include <fmt/format.h>
#include <torch/nn/module.h>

#include <cmath>

#include "core/base/config.h"
#include "kernels/common/checks.h"
#include "kernels/kda_gate/kda_gate.h"

namespace klab {
namespace {

using torch::Tensor;

}  // namespace

void draw_A_log(const Tensor& A_log, const at::Generator& generator) { A_log.uniform_(1, 16, generator).log_(); }

void draw_dt_bias(const Tensor& dt_bias, const at::Generator& generator) {
  const Tensor dt = dt_bias.uniform_(std::log(1e-3), std::log(1e-1), generator).exp();
  dt_bias.copy_(dt + torch::log(-torch::expm1(-dt)));  // softplus of this is dt
}

Beta::Beta(torch::nn::Module& owner, int64_t width, int64_t heads, bool allow_neg_eigval)
    : allow_neg_eigval_(allow_neg_eigval), b_proj_(owner.register_module("b_proj", Linear(width, heads))) {}

void Beta::give_to(kernels::RecurrenceInputs& in, const SharedInput& x) const {
  in.beta = x.take(b_proj_).reshape({in.v.size(0), in.v.size(1), in.v.size(2)});  // a row per write
  in.beta_sigmoid = true;
  in.allow_neg_eigval = allow_neg_eigval_;
}

Tensor Beta::value(const Tensor& x) const {
  const Tensor raw = b_proj_->forward(x);
  const Tensor beta = torch::sigmoid(raw.to(kernels::accumulation_type(raw.scalar_type())));
  return allow_neg_eigval_ ? 2 * beta : beta;
}

HeadDecay::HeadDecay(torch::nn::Module& owner, int64_t width, int64_t heads)
    : a_proj_(owner.register_module("a_proj", Linear(width, heads))),
      A_log_(owner.register_parameter("A_log", new_wide_parameter({heads}))),
      dt_bias_(owner.register_parameter("dt_bias", new_wide_parameter({heads}))) {}

void HeadDecay::give_to(kernels::RecurrenceInputs& in, const SharedInput& x) const {
  in.g = x.take(a_proj_);
  in.gate = kernels::RecurrenceGate{A_log_, dt_bias_};
}

Tensor HeadDecay::value(const Tensor& x) const { return kernels::kda_gate(a_proj_->forward(x), A_log_, dt_bias_); }

void HeadDecay::initialise(const at::Generator& generator) {
  draw_A_log(A_log_, generator);
  draw_dt_bias(dt_bias_, generator);
}

ChannelDecay::ChannelDecay(torch::nn::Module& owner, int64_t width, int64_t heads, int64_t K, bool full_rank,
                           double lower_bound)
    : heads_(heads), lower_bound_(lower_bound == 0 ? std::nullopt : std::optional<double>(lower_bound)) {
  if (full_rank) {
    f_proj_ = owner.register_module("f_proj", Linear(width, heads * K));
  } else {
    f_a_proj_ = owner.register_module("f_a_proj", Linear(width, K));
    f_b_proj_ = owner.register_module("f_b_proj", Linear(K, heads * K));
  }
  A_log_ = owner.register_parameter("A_log", new_wide_parameter({heads}));
  dt_bias_ = owner.register_parameter("dt_bias", new_wide_parameter({heads * K}));
}

Tensor ChannelDecay::raw(const SharedInput& x) const {
  const Tensor first = x.take(projection()), y = f_proj_ ? first : f_b_proj_->forward(first);
  return y.view({y.size(0), y.size(1), heads_, -1});
}

void ChannelDecay::give_to(kernels::RecurrenceInputs& in, const SharedInput& x) const {
  in.g = raw(x);
  in.gate = kernels::RecurrenceGate{A_log_, dt_bias_, lower_bound_};
}

Tensor ChannelDecay::value(const Tensor& x) const {
  return kernels::kda_gate(raw({x, {}}), A_log_, dt_bias_, lower_bound_);
}

void ChannelDecay::initialise(const at::Generator& generator) {
  draw_A_log(A_log_, generator);
  draw_dt_bias(dt_bias_, generator);
}

}  // namespace klab
