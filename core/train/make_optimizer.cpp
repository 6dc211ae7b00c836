// SPDX-License-Identifier: Apache-2.0
#include "core/train/make_optimizer.h"

#include <torch/nn/module.h>

#include "core/train/lr_factors.h"
#include "core/train/muon.h"

namespace klab {

std::unique_ptr<Optimizer> make_optimizer(const torch::nn::Module& module, const TrainConfig& config,
                                          const std::function<bool(const std::string&)>& updates) {
  std::vector<TrainedParameter> parameters = trained_parameters(module);
  apply_lr_factors(lr_factors_of(config.lr_factors), parameters);
  std::erase_if(parameters, [&](const TrainedParameter& one) { return !updates(one.name); });
  if (config.optimizer == "adamw") return std::make_unique<AdamW>(parameters, config.adamw);
  const MuonOptions options{config.momentum, config.adamw.weight_decay};
  return std::make_unique<Muon>(parameters, parameter_roles(module), options, config.adamw);
}

}  // namespace klab
