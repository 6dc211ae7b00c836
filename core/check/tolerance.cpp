// Where the bounds come from.
//
// A sum of n rounded terms x_1 + .. + x_n carries an error of at most n u sum |x_i|, u the unit roundoff.
// That bound is reached only when all roundings conspire. Treated as independent and of mean zero they give,
// with high probability,
//     lambda sqrt(n) u sum |x_i|,  lambda a small constant                   (Higham and Mary 2019).
// sum |x_i| is not known from outside, but it is of the size of the result where nothing cancels, and of the
// size of its neighbours (RMS(expected)) where something does. Hence, per element,
//     error <= safety u sqrt(n) (|expected_i| + RMS(expected)).
//
// `safety` holds lambda, the handful of roundings around each addition (a product, a decay, an exp of a
// rounded sum), the peak of an error over its typical size (about 5 for 10^6 elements) and, in a backward
// pass, that gradients are differences of larger numbers.
//
// Over a whole tensor the peak falls away and errors average, so the RMS bound has a smaller factor; not so over a
// few numbers, where the peak may be the only one.
//
// A sum whose terms were rounded to a narrower dtype, of unit roundoff v, is off by at most v sum |x_i|, and typically
// by v sqrt(sum x_i^2): by v of its own size, however many terms it has.
//
// Rounding the result to its own dtype adds u' |expected_i| (or half a subnormal step, whichever is larger).
#include "core/check/tolerance.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>

namespace klab {
namespace {

constexpr double kSafety = 4;
constexpr double kPeakOverTypical = 4;
constexpr int64_t kFewElements = 16;

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
  const double operands = arithmetic.operands ? unit_roundoff(*arithmetic.operands) : 0;
  const double typical = kSafety * arithmetic.amplification * unit_roundoff(arithmetic.sums) *
                             std::sqrt(static_cast<double>(arithmetic.terms)) +
                         operands;
  const double rounding = unit_roundoff(arithmetic.result);

  Tolerance tolerance;
  tolerance.of_rms = kPeakOverTypical * typical;
  tolerance.of_element = kPeakOverTypical * typical + rounding;
  tolerance.absolute = smallest_step(arithmetic.result);
  tolerance.relative_rms = (arithmetic.elements < kFewElements ? kPeakOverTypical : 1) * typical + rounding;
  if (arithmetic.sums == at::kFloat && arithmetic.result == at::kFloat) {
    const double field = arithmetic.gradient ? kPublicBackward : kPublicForward;
    tolerance.relative_rms = std::min(tolerance.relative_rms, field / 10);
  }
  tolerance.dtype = arithmetic.result;
  return tolerance;
}

}  // namespace klab
