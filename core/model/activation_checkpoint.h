// SPDX-License-Identifier: Apache-2.0
// Activation checkpointing: activations are computed twice instead of being kept for the backward pass.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <vector>

namespace klab {

/// From defined tensors to defined tensors.
using TensorsFunction = std::function<std::vector<torch::Tensor>(const std::vector<torch::Tensor>&)>;

/// forward(x) with the same gradients of x and of the parameters of `module`, to the bit, but of all that the backward
/// pass needs, only x is kept: the backward pass computes forward(x) again (Chen et al. 2016, arXiv 1604.06174).
/// `forward` must give the same result every time and may use parameters of `module` only; it runs twice, both times
/// with gradients enabled.
std::vector<torch::Tensor> checkpointed(const torch::nn::Module& module, const TensorsFunction& forward,
                                        const std::vector<torch::Tensor>& x);

}  // namespace klab
