// SPDX-License-Identifier: Apache-2.0
#include "core/train/optimizer.h"

#include <torch/nn/module.h>
#include <torch/nn/utils/clip_grad.h>

namespace klab {

std::vector<TrainedParameter> trained_parameters(const torch::nn::Module& module) {
  std::vector<TrainedParameter> trained;
  for (const auto& item : module.named_parameters()) {
    if (item.value().requires_grad()) trained.push_back({item.key(), item.value()});
  }
  return trained;
}

Optimizer::Optimizer(const std::vector<TrainedParameter>& parameters) {
  for (const bool matrices : {true, false}) {
    for (const TrainedParameter& parameter : parameters) {
      if ((parameter.tensor.dim() >= 2) == matrices) parameters_.push_back(parameter.tensor);
    }
  }
}

void Optimizer::zero_grad() {
  for (torch::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
}

double Optimizer::clip_grad_norm(double limit) { return torch::nn::utils::clip_grad_norm_(parameters_, limit); }

}  // namespace klab
