// How far a computed tensor may lie from the exact one. The only place where such numbers are made.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <limits>
#include <optional>

namespace klab {

/// What compare() allows. Element i may differ by
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

/// How a tensor came about, as far as rounding is concerned.
struct Arithmetic {
  at::ScalarType sums;    ///< the dtype in which products are formed and added
  at::ScalarType result;  ///< the dtype that the result was rounded to at the end
  int64_t terms = 1;      ///< the longest chain of dependent additions
  /// How much larger the relative error of an intermediate comes out: z where the result is exp(-z).
  double amplification = 1;
  bool gradient = false;  ///< computed by a backward pass
  /// How many numbers the result has: a few of them do not average their errors.
  int64_t elements = std::numeric_limits<int64_t>::max();
  /// The dtype that intermediates are rounded to before they are multiplied; absent: that of the sums.
  std::optional<at::ScalarType> operands{};
};

/// The rounding error that `arithmetic` has to be granted; the derivation stands in tolerance.cpp. The
/// result's dtype is part of the promise. Float32 sums are also held to a tenth of the bounds that the
/// field's own tests use.
Tolerance derived_tolerance(const Arithmetic& arithmetic);

}  // namespace klab
