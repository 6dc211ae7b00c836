// SPDX-License-Identifier: Apache-2.0
// Muon in float64 by another way than the implementation: through singular values.
#pragma once

#include <torch/types.h>

namespace klab {

/// The result of five Newton-Schulz steps on matrix / (|matrix|_F + 1e-7): each step maps the singular values s to
/// 3.4445 s - 4.7750 s^3 + 2.0315 s^5 and leaves the singular vectors.
torch::Tensor by_singular_values(const torch::Tensor& matrix);

/// One matrix with its momentum under Muon (momentum 0.95).
struct ReferenceMuon {
  torch::Tensor weight, momentum = torch::zeros_like(weight);
  void step(const torch::Tensor& gradient, double lr, double decay);
};

}  // namespace klab
