// SPDX-License-Identifier: Apache-2.0
#include "core/train/muon_reference.h"

#include <torch/nn/module.h>

namespace klab {

using torch::Tensor;

Tensor by_singular_values(const Tensor& matrix) {
  const Tensor x = matrix.detach().to(torch::kDouble);
  const auto [u, s, vh] = torch::linalg_svd(x / (x.square().sum().sqrt() + 1e-7), /*full_matrices=*/false);
  Tensor values = s;
  for (int step = 0; step < 5; ++step) {
    values = 3.4445 * values - 4.7750 * values.pow(3) + 2.0315 * values.pow(5);
  }
  return torch::matmul(u * values, vh);
}

void ReferenceMuon::step(const Tensor& gradient, double lr, double decay) {
  const Tensor g = gradient.to(torch::kDouble);
  momentum = 0.95 * momentum + g;
  const auto longer = static_cast<double>(std::max(weight.size(0), weight.size(1)));
  weight = weight * (1 - lr * decay) - lr * 0.2 * std::sqrt(longer) * by_singular_values(g + 0.95 * momentum);
}

}  // namespace klab
