// What the norm kernels of all devices compute.
#pragma once

#include <cstdint>

#include "kernels/common/rows.h"

namespace klab::kernels {

enum class GateActivation : uint8_t { none, sigmoid, swish };

/// y = x / sqrt(m(x) + eps) * weight * activation(gate), with m the mean of the squares of a row, or their sum.
/// Rows of D numbers, one after another (`batch` is their step).
struct NormProblem {
  int64_t rows, D;
  Rows x;
  const float* weight;  ///< [D]; CUDA: or null for ones
  Rows gate;            ///< absent with GateActivation::none
  GateActivation activation;
  float eps;
  bool mean = true;  ///< CUDA: false takes the sum, as the L2 norm does
};

struct NormGradients {
  MutableRows x, gate;  ///< gate may be absent
  float* weight;        ///< CPU: [ceil(rows / cpu::kNormRows), D], which the caller adds up. CUDA: [D], or null
};

}  // namespace klab::kernels
