// SPDX-License-Identifier: Apache-2.0
#include "core/train/weight_average.h"

#include <torch/nn/module.h>

#include "core/model/layers.h"

namespace klab {

using torch::Tensor;

WeightAverage::WeightAverage(const torch::nn::Module& module, double decay) : decay_(decay) {
  for (const auto& [name, tensor] : own_parameters(module)) {
    names_.push_back(name);
    parameters_.push_back(tensor);
    averages_.push_back(tensor.detach().clone());
  }
}

void WeightAverage::restart() {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].copy_(parameters_[i]);
}

void WeightAverage::update() {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].lerp_(parameters_[i], 1 - decay_);
}

void WeightAverage::swap() {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) {
    const Tensor parameter = parameters_[i].clone();
    parameters_[i].copy_(averages_[i]);
    averages_[i].copy_(parameter);
  }
}

std::map<std::string, Tensor> WeightAverage::state() const {
  std::map<std::string, Tensor> state;
  for (size_t i = 0; i < names_.size(); ++i) state["ema." + names_[i]] = averages_[i];
  return state;
}

}  // namespace klab
