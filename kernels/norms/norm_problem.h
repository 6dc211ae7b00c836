// SPDX-License-Identifier: Apache-2.0
// The arguments of the norm kernels of all devices.
#pragma once

#include <cstdint>

#include "kernels/common/rows.h"

namespace klab::kernels {

enum class GateActivation : uint8_t { none, sigmoid, swish };

/// y = x / sqrt(m(x) + eps) * weight * activation(gate), with m the mean of the squares of a row, or their sum.
/// x and gate are [rows, D] with row stride `batch`.
struct NormProblem {
  int64_t rows, D;
  Rows x;
  const float* weight;  ///< [D]; on CUDA null means ones
  Rows gate;            ///< absent with GateActivation::none
  GateActivation activation;
  float eps;
  bool mean = true;  ///< false, on CUDA only: m is the sum (the L2 norm)
};

struct NormGradients {
  MutableRows x, gate;  ///< gate may be absent
  float* weight;        ///< CPU: [ceil(rows / cpu::kNormRows), D], which the caller sums. CUDA: [D], or null
};

}  // namespace klab::kernels
