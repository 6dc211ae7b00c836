// SPDX-License-Identifier: Apache-2.0
#include "core/train/working_copy.h"

#include <torch/nn/module.h>

namespace klab {
namespace {

using torch::Tensor;

Decoder copy_of(const Decoder& model, torch::ScalarType dtype) {
  const ParameterPlace place(model->device(), dtype);
  return Decoder(model->config(), model->vocabulary());
}

}  // namespace

WorkingCopy::WorkingCopy(const Decoder& model, torch::ScalarType dtype) : copy_(copy_of(model, dtype)) {
  auto copies = copy_->named_parameters();
  for (const auto& item : model->named_parameters()) {
    Tensor copy = copies[item.key()];
    if (copy.scalar_type() == item.value().scalar_type()) copy.set_data(item.value());
    parameters_.emplace_back(item.value(), copy);
  }
}

void WorkingCopy::refresh() {
  const torch::NoGradGuard no_grad;
  for (auto& [weights, copy] : parameters_) {
    if (copy.scalar_type() != weights.scalar_type()) copy.copy_(weights);
  }
}

}  // namespace klab
