// SPDX-License-Identifier: Apache-2.0
// The comparison of tensors that all checks and tests use.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/check/tolerance.h"

namespace klab {

/// The result of compare(). The worst element is the one with the largest ratio of error to allowed error.
struct Comparison {
  bool pass = false;
  double error = 0;            ///< |actual - expected| at the worst element
  double allowed = 0;          ///< allowed error at the worst element
  std::vector<int64_t> index;  ///< of the worst element; of the first non-finite one if there is any
  double actual = 0;           ///< the values there
  double expected = 0;
  double relative_rms = 0;  ///< RMS(actual - expected) / RMS(expected)
  double ratio = 0;         ///< the larger of error / allowed, per element and by RMS; above 1 fails
  std::string message;      ///< description of the result, with the neighbours of the worst element
};

/// Compares in float64. Fails, in this order, for: an undefined tensor; shared memory (a tensor would be compared with
/// itself); different shapes; a dtype that the tolerance does not allow; NaN or infinity in either tensor, even in
/// both; any element or the RMS beyond the tolerance. Empty tensors of the same shape are equal.
Comparison compare(const at::Tensor& actual, const at::Tensor& expected, const Tolerance& tolerance = {});

}  // namespace klab
