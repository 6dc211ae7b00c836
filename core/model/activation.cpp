// SPDX-License-Identifier: Apache-2.0
#include "core/model/activation.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "kernels/swiglu/swiglu.h"

namespace klab {
namespace {

using torch::Tensor;

Tensor situ(const Tensor& gate, const Tensor& up, const Activation& activation) {
  const auto wide = kernels::accumulation_type(gate.scalar_type());
  const auto capped = [](const Tensor& x, double bound) { return bound * torch::tanh(x / bound); };
  const Tensor x = gate.to(wide);
  return (capped(x, activation.situ_beta) * torch::sigmoid(x) * capped(up.to(wide), activation.situ_linear_beta))
      .to(gate.scalar_type());
}

}  // namespace

const std::vector<std::string>& Activation::names() {
  static const std::vector<std::string> all{"silu", "gelu", "gelu_tanh", "relu", "relu2", "sigmoid", "situ"};
  return all;
}

Tensor Activation::operator()(const Tensor& gate, const Tensor& up) const {
  if (name == "silu") return kernels::swiglu(gate, up);
  if (name == "gelu") return torch::gelu(gate) * up;
  if (name == "gelu_tanh") return torch::gelu(gate, "tanh") * up;
  if (name == "relu") return torch::relu(gate) * up;
  if (name == "relu2") return torch::relu(gate).square() * up;
  if (name == "sigmoid") return torch::sigmoid(gate) * up;
  return situ(gate, up, *this);
}

}  // namespace klab
