// SPDX-License-Identifier: Apache-2.0
#include "core/check/compare.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

namespace klab {
namespace {

using at::Tensor;

Comparison failed(const std::string& why) {
  Comparison result;
  result.ratio = std::numeric_limits<double>::infinity();
  result.message = why;
  return result;
}

// Tensors on external memory (from_blob) may overlap without sharing a storage object.
bool share_memory(const Tensor& x, const Tensor& y) {
  if (x.device() != y.device() || x.storage().nbytes() == 0 || y.storage().nbytes() == 0) return false;
  const auto* x_begin = static_cast<const char*>(x.storage().data());
  const auto* y_begin = static_cast<const char*>(y.storage().data());
  return x_begin < y_begin + y.storage().nbytes() && y_begin < x_begin + x.storage().nbytes();
}

bool dtype_fits(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance) {
  if (tolerance.dtype && actual.scalar_type() != *tolerance.dtype) return false;
  if (actual.is_complex() || actual.is_floating_point() != expected.is_floating_point()) return false;
  return at::promote_types(actual.scalar_type(), expected.scalar_type()) == expected.scalar_type();
}

std::vector<int64_t> unravel(int64_t flat, at::IntArrayRef shape) {
  std::vector<int64_t> index(shape.size());
  for (size_t d = shape.size(); d-- > 0; flat /= shape[d]) index[d] = flat % shape[d];
  return index;
}

// "1.5 2.5 [3.5] 4.5": the element and up to two on either side in memory order.
std::string around(const Tensor& flat, int64_t at) {
  std::ostringstream out;
  out.precision(9);
  for (int64_t i = std::max<int64_t>(0, at - 2); i < std::min(flat.numel(), at + 3); ++i) {
    const double value = flat[i].item<double>();
    if (i == at) out << " [" << value << "]";
    if (i != at) out << " " << value;
  }
  return out.str();
}

// Both flat, float64, on the CPU, not empty.
struct Values {
  Tensor actual, expected;
  at::IntArrayRef shape;
};

void locate(Comparison& result, const Values& values, int64_t flat) {
  result.index = unravel(flat, values.shape);
  result.actual = values.actual[flat].item<double>();
  result.expected = values.expected[flat].item<double>();
}

std::string describe(const Comparison& result, const Values& values, int64_t flat, const std::string& finding) {
  std::ostringstream out;
  out << finding << " at " << at::IntArrayRef(result.index) << " of " << values.shape << "\n  actual  "
      << around(values.actual, flat) << "\n  expected" << around(values.expected, flat);
  return out.str();
}

Comparison non_finite(const Values& values) {
  const Tensor bad = ~(at::isfinite(values.actual) & at::isfinite(values.expected));
  const int64_t flat = bad.to(at::kByte).argmax().item<int64_t>();
  Comparison result = failed("");
  locate(result, values, flat);
  result.error = result.relative_rms = std::numeric_limits<double>::infinity();
  std::ostringstream finding;
  finding << bad.sum().item<int64_t>() << " elements are NaN or infinite in actual or expected, the first";
  result.message = describe(result, values, flat, finding.str());
  return result;
}

double share(double error, double allowed) {
  if (error == 0) return 0;
  return allowed > 0 ? error / allowed : std::numeric_limits<double>::infinity();
}

// Scaled by the largest element, because squares of very large or very small numbers leave the range of float64.
double root_mean_square(const Tensor& x) {
  const double largest = x.abs().max().item<double>();
  return largest == 0 ? 0 : largest * (x / largest).square().mean().sqrt().item<double>();
}

Comparison measure(const Values& values, const Tolerance& tolerance) {
  const Tensor difference = (values.actual - values.expected).abs();
  const double rms = root_mean_square(values.expected);
  const Tensor allowed = tolerance.of_element * values.expected.abs() + (tolerance.of_rms * rms + tolerance.absolute);
  const double difference_rms = root_mean_square(difference);
  const double allowed_rms = tolerance.relative_rms * rms + tolerance.absolute;
  const bool exact = allowed.max().item<double>() == 0;
  const int64_t flat = (exact ? difference : difference / allowed.clamp_min(1e-300)).argmax().item<int64_t>();

  Comparison result;
  locate(result, values, flat);
  result.error = difference[flat].item<double>();
  result.allowed = allowed[flat].item<double>();
  result.relative_rms = share(difference_rms, rms);
  const bool rms_bounded = tolerance.relative_rms != std::numeric_limits<double>::infinity();
  result.ratio = std::max(share(result.error, result.allowed), rms_bounded ? share(difference_rms, allowed_rms) : 0);
  // The negation makes NaN fail.
  const int64_t beyond = (~(difference <= allowed)).sum().item<int64_t>();
  const bool rms_holds = !rms_bounded || difference_rms <= allowed_rms;
  result.pass = beyond == 0 && rms_holds;

  std::ostringstream finding;
  finding << beyond << " of " << difference.numel() << " elements are beyond the tolerance, relative RMS error "
          << result.relative_rms << (rms_holds ? "" : " (beyond the tolerance too)") << " of " << tolerance.relative_rms
          << " allowed; worst error " << result.error << " of " << result.allowed;
  result.message = describe(result, values, flat, finding.str());
  return result;
}

}  // namespace

Comparison compare(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance) {
  if (!actual.defined() || !expected.defined()) {
    return failed(std::string(actual.defined() ? "expected" : "actual") + " is undefined");
  }
  if (share_memory(actual, expected)) return failed("actual and expected share memory: nothing would be compared");
  if (actual.sizes() != expected.sizes()) {
    return failed(c10::str("actual has shape ", actual.sizes(), ", expected ", expected.sizes()));
  }
  if (!dtype_fits(actual, expected, tolerance)) {
    std::string promised = tolerance.dtype ? c10::str(" (", *tolerance.dtype, " is promised)") : std::string();
    return failed(c10::str("actual has dtype ", actual.scalar_type(), promised, ", expected ", expected.scalar_type()));
  }
  if (actual.numel() == 0) {
    Comparison result;
    result.pass = true;
    result.message = "both are empty";
    return result;
  }
  const auto flat = [](const Tensor& x) { return x.detach().to(at::kCPU, at::kDouble).reshape({-1}); };
  const Values values{flat(actual), flat(expected), actual.sizes()};
  const bool finite = (at::isfinite(values.actual) & at::isfinite(values.expected)).all().item<bool>();
  return finite ? measure(values, tolerance) : non_finite(values);
}

}  // namespace klab
