// SPDX-License-Identifier: Apache-2.0
// Derivation of the bounds.
//
// A sum of n rounded terms x_1 + .. + x_n has an error of at most n u sum |x_i|, with u the unit roundoff. This bound
// is reached only if all rounding errors have the same sign. If they are independent with mean zero, the error is, with
// high probability, at most
//     lambda sqrt(n) u sum |x_i|,  lambda a small constant                   (Higham and Mary 2019).
// sum |x_i| is not known, but it is of the order of the result without cancellation, and of the order of the other
// elements (RMS(expected)) with cancellation. Hence, per element,
//     error <= safety u sqrt(n) (|expected_i| + RMS(expected)).
//
// `safety` covers lambda, the few roundings for each addition (a product, a decay, an exp of a rounded sum) and that
// gradients are differences of larger numbers. The largest of N independent errors is about sqrt(2 ln N) times the
// typical one: 4 times for 3,000 elements, 5.3 times for 10^6.
//
// Over a whole tensor the errors average, so the RMS bound has a smaller factor, except for tensors of few elements,
// where the largest error may dominate.
//
// Operands of products that are rounded to a narrower dtype, with unit roundoff u_f, have independent errors: a sum of
// products has a relative error of about u_f from each kind of operand, for any number of terms. A forward pass has a
// few kinds (rows, values, states, pairs, inverses), whose errors add in quadrature; a backward pass has twice as many,
// and gradients are differences of larger numbers. A tensor of a single element, a sum of many terms of either sign,
// may be much smaller than its terms suggest, so its relative error may be larger.
//
// Rounding the result to its own dtype adds u' |expected_i| (or half a subnormal step, if that is larger).
#include "core/check/tolerance.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace klab {
namespace {

constexpr double kSafety = 4;
constexpr double kLeastPeak = 4;  // largest error over typical error
constexpr int64_t kFewElements = 16;
constexpr double kFactorsForward = 2, kFactorsBackward = 6;  // in u_f
constexpr double kLikelyOverSingle = 4;

// The public matrix passes 5e-3 for outputs and 1e-2 for gradients, relative to the RMS.
constexpr double kPublicForward = 5e-3, kPublicBackward = 1e-2;

template <class T>
constexpr double kHalfStep = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;

double smallest_step(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble: return std::numeric_limits<double>::denorm_min();
    case at::kFloat: return std::numeric_limits<float>::denorm_min();
    case at::kBFloat16: return static_cast<double>(std::numeric_limits<c10::BFloat16>::denorm_min());
    case at::kHalf: return static_cast<double>(std::numeric_limits<c10::Half>::denorm_min());
    default: TORCH_CHECK_VALUE(false, "smallest_step: ", dtype, " is not a floating dtype of this project");
  }
}

double peak_over_typical(int64_t elements) {
  if (elements == std::numeric_limits<int64_t>::max()) return kLeastPeak;  // not known
  return std::max(kLeastPeak, std::sqrt(2 * std::log(static_cast<double>(std::max<int64_t>(elements, 1)))));
}

}  // namespace

double unit_roundoff(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble: return kHalfStep<double>;
    case at::kFloat: return kHalfStep<float>;
    case at::kBFloat16: return static_cast<double>(std::numeric_limits<c10::BFloat16>::epsilon()) / 2;
    case at::kHalf: return static_cast<double>(std::numeric_limits<c10::Half>::epsilon()) / 2;
    default: TORCH_CHECK_VALUE(false, "unit_roundoff: ", dtype, " is not a floating dtype of this project");
  }
}

Tolerance derived_tolerance(const Arithmetic& arithmetic) {
  TORCH_CHECK_VALUE(arithmetic.terms >= 1, "derived_tolerance: terms = ", arithmetic.terms, " must be at least 1");
  double typical = kSafety * arithmetic.amplification * unit_roundoff(arithmetic.sums) *
                   std::sqrt(static_cast<double>(arithmetic.terms));
  if (arithmetic.operands) {
    typical += (arithmetic.gradient ? kFactorsBackward : kFactorsForward) * unit_roundoff(*arithmetic.operands) *
               (arithmetic.elements == 1 ? kLikelyOverSingle : 1);
  }
  const double rounding = unit_roundoff(arithmetic.result), peak = peak_over_typical(arithmetic.elements);

  Tolerance tolerance;
  tolerance.of_rms = peak * typical;
  tolerance.of_element = peak * typical + rounding;
  tolerance.absolute = smallest_step(arithmetic.result);
  tolerance.relative_rms = (arithmetic.elements < kFewElements ? kLeastPeak : 1) * typical + rounding;
  if (arithmetic.sums == at::kFloat && arithmetic.result == at::kFloat && !arithmetic.operands) {
    const double field = arithmetic.gradient ? kPublicBackward : kPublicForward;
    tolerance.relative_rms = std::min(tolerance.relative_rms, field / 10);
  }
  tolerance.dtype = arithmetic.result;
  return tolerance;
}

}  // namespace klab
