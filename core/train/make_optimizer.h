// SPDX-License-Identifier: Apache-2.0
// The optimiser of a config.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <string>

#include "core/train/optimizer.h"
#include "core/train/train_config.h"

namespace klab {

/// The optimiser `train.optimizer` of the parameters of `module` that require gradients and that it `updates`, by their
/// names, with `train.lr_factors`.
/// Throws UsageError for an entry of these that matches no parameter, and if the optimiser needs to know a parameter's
/// role and cannot tell it.
std::unique_ptr<Optimizer> make_optimizer(
    const torch::nn::Module& module, const TrainConfig& config,
    const std::function<bool(const std::string&)>& updates = [](const std::string&) { return true; });

}  // namespace klab
