// SPDX-License-Identifier: Apache-2.0
#include "core/train/optimizer.h"

#include <torch/nn/module.h>

#include "core/model/layers.h"

namespace klab {

std::vector<TrainedParameter> trained_parameters(const torch::nn::Module& module) {
  std::vector<TrainedParameter> trained;
  for (const auto& [name, tensor] : own_parameters(module)) {
    if (tensor.requires_grad()) trained.push_back({name, tensor});
  }
  return trained;
}

}  // namespace klab
