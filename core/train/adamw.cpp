// SPDX-License-Identifier: Apache-2.0
#include "core/train/adamw.h"

#include <torch/nn/module.h>
#include <torch/nn/utils/clip_grad.h>

namespace klab {

using torch::Tensor;

AdamW::AdamW(const torch::nn::Module& module, const AdamWOptions& options)
    : options_(options), groups_{{options.weight_decay, {}, {}, {}, {}, {}}, {0, {}, {}, {}, {}, {}}} {
  for (const auto& item : module.named_parameters()) {
    const Tensor& parameter = item.value();
    if (!parameter.requires_grad()) continue;  // updated by other rules
    Group& group = groups_[parameter.dim() >= 2 ? 0 : 1];
    group.names.push_back(item.key());
    group.parameters.push_back(parameter);
    group.first_moments.push_back(torch::zeros_like(parameter));
    group.second_moments.push_back(torch::zeros_like(parameter));
    group.steps.push_back(torch::zeros({}, parameter.options().requires_grad(false)));
  }
}

void AdamW::step(double lr) {
  const torch::NoGradGuard no_grad;
  for (Group& group : groups_) {
    // Parameters without a gradient (experts without tokens since the last step) are skipped.
    Group used;
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
    at::_fused_adamw_(used.parameters, gradients, used.first_moments, used.second_moments, {}, used.steps, lr,
                      options_.beta1, options_.beta2, group.weight_decay, options_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

void AdamW::zero_grad() {
  for (Group& group : groups_) {
    for (Tensor& parameter : group.parameters) parameter.mutable_grad().reset();
  }
}

double AdamW::clip_grad_norm(double limit) {
  std::vector<Tensor> parameters;
  for (const Group& group : groups_)
    parameters.insert(parameters.end(), group.parameters.begin(), group.parameters.end());
  return torch::nn::utils::clip_grad_norm_(parameters, limit);
}

std::map<std::string, Tensor> AdamW::state() const {
  std::map<std::string, Tensor> state;
  for (const Group& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      state["first_moment." + group.names[i]] = group.first_moments[i];
      state["second_moment." + group.names[i]] = group.second_moments[i];
      state["step." + group.names[i]] = group.steps[i];
    }
  }
  return state;
}

}  // namespace klab
