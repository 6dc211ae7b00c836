// SPDX-License-Identifier: Apache-2.0
// The activations of gated feed-forward layers.
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

namespace klab {

/// The function of gate and up-projection in down(f(gate, up)).
struct Activation {
  std::string name = "silu";
  double situ_beta = 4, situ_linear_beta = 25;

  /// The names: silu (SwiGLU), gelu, gelu_tanh (GeGLU), relu, relu2, sigmoid: their value at the gate times up. situ,
  /// of Kimi K3, is bounded by beta linear_beta:
  ///     beta tanh(gate / beta) sigmoid(gate) * linear_beta tanh(up / linear_beta)
  static const std::vector<std::string>& names();

  /// gate, up [.., D] to [.., D], in their dtype. Differentiable.
  torch::Tensor operator()(const torch::Tensor& gate, const torch::Tensor& up) const;
};

}  // namespace klab
