// SPDX-License-Identifier: Apache-2.0
#include "core/train/working_copy.h"

#include <torch/nn/module.h>

#include "core/model/layers.h"

namespace klab {
namespace {

using torch::Tensor;

Decoder copy_of(const Decoder& model, torch::ScalarType dtype) {
  const ParameterPlace place(model->device(), dtype);
  return Decoder(model->config(), model->vocabulary(), model->expert_ranks());
}

}  // namespace

WorkingCopy::WorkingCopy(const Decoder& model, torch::ScalarType dtype) : copy_(copy_of(model, dtype)) {
  auto copies = copy_->named_parameters();
  for (const auto& [name, weights] : own_parameters(*model)) {
    Tensor copy = copies[name];
    if (copy.scalar_type() == weights.scalar_type()) copy.set_data(weights);
    parameters_.emplace_back(weights, copy);
  }
}

void WorkingCopy::refresh() {
  const torch::NoGradGuard no_grad;
  for (auto& [weights, copy] : parameters_) {
    if (copy.scalar_type() != weights.scalar_type() && has_memory(weights)) copy.copy_(weights);
  }
}

}  // namespace klab
