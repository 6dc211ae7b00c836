// SPDX-License-Identifier: Apache-2.0
#include "core/train/adamw.h"

#include <torch/nn/module.h>

#include <algorithm>

namespace klab {

using torch::Tensor;

AdamW::AdamW(const torch::nn::Module& module, const AdamWOptions& options)
    : AdamW(trained_parameters(module), options) {}

AdamW::AdamW(const std::vector<TrainedParameter>& parameters, const AdamWOptions& options) : options_(options) {
  for (const TrainedParameter& parameter : parameters) {
    Group& group = group_of(parameter);
    group.names.push_back(parameter.name);
    group.parameters.push_back(parameter.tensor);
    group.first_moments.push_back(torch::zeros_like(parameter.tensor));
    group.second_moments.push_back(torch::zeros_like(parameter.tensor));
    group.steps.push_back(torch::zeros({}, parameter.tensor.options().requires_grad(false)));
  }
}

AdamW::Group& AdamW::group_of(const TrainedParameter& parameter) {
  const double weight_decay = parameter.tensor.dim() >= 2 ? options_.weight_decay : 0;
  const auto found = std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) {
    return group.weight_decay == weight_decay && group.lr_factor == parameter.lr_factor;
  });
  return found != groups_.end() ? *found : groups_.emplace_back(Group{weight_decay, parameter.lr_factor});
}

void AdamW::update(double lr) {
  for (const Group& group : groups_) {
    Group used{group.weight_decay, group.lr_factor};
    std::vector<Tensor> gradients;
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      if (!group.parameters[i].grad().defined()) continue;
      gradients.push_back(group.parameters[i].grad());
      used.parameters.push_back(group.parameters[i]);
      used.first_moments.push_back(group.first_moments[i]);
      used.second_moments.push_back(group.second_moments[i]);
      used.steps.push_back(group.steps[i]);
    }
    if (gradients.empty()) continue;
    at::_foreach_add_(used.steps, 1);
    at::_fused_adamw_(used.parameters, gradients, used.first_moments, used.second_moments, {}, used.steps,
                      lr * group.lr_factor, options_.beta1, options_.beta2, group.weight_decay, options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

std::map<std::string, Tensor> AdamW::state() const {
  std::map<std::string, Tensor> state;
  for (const Group& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      state["adamw.first_moment." + group.names[i]] = group.first_moments[i];
      state["adamw.second_moment." + group.names[i]] = group.second_moments[i];
      state["adamw.step." + group.names[i]] = group.steps[i];
    }
  }
  return state;
}

}  // namespace klab
