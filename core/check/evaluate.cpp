// SPDX-License-Identifier: Apache-2.0
#include "core/check/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/check/inputs.h"

namespace klab {

using at::Tensor;

NamedTensors loss_weights(const NamedTensors& outputs, at::ScalarType dtype, uint64_t seed) {
  at::Generator generator = seeded_generator(seed);
  NamedTensors weights;
  for (const auto& [name, tensor] : outputs) {
    weights.push_back({name, normal(tensor.sizes(), generator).to(dtype).to(at::kDouble)});
  }
  return weights;
}

NamedTensors forward(const NamedFunction& function, const NamedTensors& inputs) {
  const at::NoGradGuard no_grad;
  return function(inputs);
}

NamedTensors forward_and_backward(const NamedFunction& function, const NamedTensors& inputs,
                                  const NamedTensors& weights) {
  NamedTensors leaves;
  for (const auto& [name, tensor] : inputs) {
    leaves.push_back({name, tensor.detach().requires_grad_(tensor.is_floating_point())});
  }
  NamedTensors results = function(leaves);
  Tensor loss = at::zeros({}, at::kDouble);
  for (NamedTensor& result : results) {
    const Tensor weight = find(weights, result.name);
    TORCH_CHECK_VALUE(weight.defined(), "the definition has no output '", result.name, "'");
    loss = loss + (result.tensor.to(at::kCPU, at::kDouble) * weight).sum();
    result.tensor = result.tensor.detach();
  }
  if (loss.requires_grad()) loss.backward();
  for (const auto& [name, leaf] : leaves) {
    if (!leaf.requires_grad()) continue;
    results.push_back({"d_" + name, leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf)});
  }
  return results;
}

}  // namespace klab
