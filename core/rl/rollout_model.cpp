// SPDX-License-Identifier: Apache-2.0
#include "core/rl/rollout_model.h"

#include <torch/nn/module.h>

#include "kernels/linear/linear.h"

namespace klab {
namespace {

Decoder copy_of(const Decoder& model) {
  const ParameterPlace place(model->device(), torch::kFloat);
  return Decoder(model->config(), model->vocabulary());
}

}  // namespace

RolloutModel::RolloutModel(const Decoder& model, const std::string& dtype) : model_(model) {
  if (dtype == "bfloat16") copy_ = std::make_unique<WorkingCopy>(model, torch::kBFloat16);
  if (dtype != "int8") return;
  model_ = copy_of(model);
  auto copies = model_->named_parameters();
  for (const auto& item : model->named_parameters()) copies[item.key()].set_data(item.value());
  auto trained = model->named_modules();
  for (const auto& item : model_->named_modules()) {
    auto* layer = item.value()->as<LinearImpl>();
    if (layer == nullptr || !may_be_int8(item.key() + ".weight")) continue;
    layer->weight.set_requires_grad(false);
    quantised_.emplace_back(trained[item.key()]->as<LinearImpl>()->weight,
                            std::dynamic_pointer_cast<LinearImpl>(item.value()));
  }
}

void RolloutModel::refresh() {
  const torch::NoGradGuard no_grad;
  if (copy_) copy_->refresh();
  for (auto& [weight, layer] : quantised_) {
    const kernels::QuantisedWeight rounded = kernels::quantise(weight.detach());
    layer->weight.set_data(rounded.values);
    layer->scale = rounded.scale;
  }
}

}  // namespace klab
