// SPDX-License-Identifier: Apache-2.0
#include "core/inspect/decay.h"

#include <torch/nn/module.h>

#include <cmath>

#include "core/base/error.h"

namespace klab {
namespace {

using torch::Tensor;

// Log-decays [tokens, HV, C]; for a mixer without decay zeros with C = 1.
Tensor log_decay(const kernels::RecurrenceInputs& given) {
  const kernels::RecurrenceInputs in = kernels::activated(given);
  const int64_t tokens = in.v.size(0) * in.v.size(1), HV = in.v.size(2);
  if (!in.g.defined()) return torch::zeros({tokens, HV, 1}, torch::kDouble);
  return in.g.reshape({tokens, HV, -1}).to(torch::kCPU, torch::kDouble);
}

}  // namespace

void DecayMeter::add(const kernels::RecurrenceInputs& in) {
  const torch::NoGradGuard no_grad;
  const Tensor g = log_decay(in);
  const Tensor reset = g.to(torch::kFloat).exp().eq(0);
  const Tensor sum = g.masked_fill(reset, 0).sum(0), resets = reset.sum(0);
  if (tokens_ > 0 && sum.sizes() != sum_.sizes()) {
    refuse("decays of {} heads x {} channels cannot be added to those of {} x {}", sum.size(0), sum.size(1),
           sum_.size(0), sum_.size(1));
  }
  sum_ = tokens_ > 0 ? sum_ + sum : sum;
  resets_ = tokens_ > 0 ? resets_ + resets : resets;
  tokens_ += g.size(0);
}

Decays DecayMeter::decays() const {
  if (tokens_ == 0) fail("there are no half-lives: no tokens were added");
  const Tensor steps = tokens_ - resets_;
  const Tensor mean = sum_ / steps.clamp_min(1);
  const Tensor half_life = (std::log(2.0) / mean.abs()).masked_fill(steps.eq(0), 0);
  return {mean, resets_.to(torch::kDouble) / static_cast<double>(tokens_), half_life};
}

}  // namespace klab
