// SPDX-License-Identifier: Apache-2.0
#include "core/train/optimizer.h"

#include <torch/nn/module.h>

namespace klab {

std::vector<TrainedParameter> trained_parameters(const torch::nn::Module& module) {
  std::vector<TrainedParameter> trained;
  for (const auto& item : module.named_parameters()) {
    if (item.value().requires_grad()) trained.push_back({item.key(), item.value()});
  }
  return trained;
}

}  // namespace klab
