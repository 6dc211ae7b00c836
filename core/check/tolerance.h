// SPDX-License-Identifier: Apache-2.0
// The allowed difference between a computed tensor and the exact one. All tolerances are derived here.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <limits>
#include <optional>

namespace klab {

/// The tolerance of compare(). Element i may differ by
///     of_element |expected_i| + of_rms RMS(expected) + absolute,
/// and the RMS of the difference by relative_rms RMS(expected) + absolute. The default allows nothing.
struct Tolerance {
  double of_element = 0;
  double of_rms = 0;
  double absolute = 0;
  double relative_rms = std::numeric_limits<double>::infinity();
  /// The dtype that `actual` must have. Absent: that of `expected` or a narrower one.
  std::optional<at::ScalarType> dtype{};
};

/// Half the distance from 1 to the next number: the largest relative error of one rounding to nearest.
double unit_roundoff(at::ScalarType dtype);

/// The properties of a computation that determine its rounding error.
struct Arithmetic {
  at::ScalarType sums;    ///< the dtype of products and sums
  at::ScalarType result;  ///< the dtype that the result is rounded to
  int64_t terms = 1;      ///< the longest chain of dependent additions
  /// The factor by which the relative error of an intermediate value grows in the result: z for exp(-z).
  double amplification = 1;
  bool gradient = false;  ///< computed by a backward pass
  /// The dtype that the operands of products are rounded to, if it is narrower than `sums` (tensor cores).
  std::optional<at::ScalarType> operands{};
  /// The number of elements of the result: over few elements errors do not average.
  int64_t elements = std::numeric_limits<int64_t>::max();
};

/// The tolerance for the rounding errors of `arithmetic`, derived in tolerance.cpp. It includes the result's dtype. For
/// float32 sums the RMS tolerance is at most a tenth of the bounds in the tests of published implementations.
Tolerance derived_tolerance(const Arithmetic& arithmetic);

}  // namespace klab
