// SPDX-License-Identifier: Apache-2.0
// Quantisation to int8 in one pass over the rows, without intermediate tensors, because a checkpoint has many weights.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/common/checks.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/linear/linear.h"

namespace klab::kernels {
namespace {

using at::Tensor;

constexpr int64_t kRowsPerTask = 32;
constexpr float kMost = 127;
constexpr uint32_t kInfinity = 0x7F800000;  // bits of infinity; those of NaN are larger

struct RowResult {
  float scale = 1;
  double squared_error = 0, squared_sum = 0;
  bool finite = true;
};

// The bits of the largest magnitude. Bits of non-negative floats have the same order as the floats.
uint32_t largest_bits(const float* w, int64_t K) {
  uint32_t most = 0;
  for (int64_t k = 0; k < K; ++k) most = std::max(most, std::bit_cast<uint32_t>(w[k]) & 0x7FFFFFFFU);
  return most;
}

// Rounds to the nearest integer, ties to even, for |x| < 2^22: x + 1.5 * 2^23 has no fractional bits.
float rounded(float x) {
  constexpr float kShift = 12582912.0F;
  return (x + kShift) - kShift;
}

RowResult quantise_row(const float* w, int64_t K, int8_t* to) {
  RowResult row;
  const uint32_t most = largest_bits(w, K);
  row.finite = most < kInfinity;
  if (!row.finite) return row;
  // The kernels flush denormals to zero, so the scale must not be denormal.
  if (most > 0) row.scale = std::max(std::bit_cast<float>(most) / kMost, std::numeric_limits<float>::min());
  for (int64_t k = 0; k < K; ++k) {
    const float q = std::min(kMost, std::max(-kMost, rounded(w[k] / row.scale)));
    to[k] = static_cast<int8_t>(q);
    const double error = static_cast<double>(w[k]) - static_cast<double>(q) * static_cast<double>(row.scale);
    row.squared_error += error * error;
    row.squared_sum += static_cast<double>(w[k]) * static_cast<double>(w[k]);
  }
  return row;
}

}  // namespace

QuantisedWeight quantise(const Tensor& weight) {
  constexpr const char* kName = "quantise";
  TORCH_CHECK_VALUE(weight.defined(), kName, ": weight is missing");
  check_tensor(kName, "weight", weight, {-1, -1}, weight);
  TORCH_CHECK_VALUE(weight.is_cpu(), kName, ": weight is on ", weight.device(), ", but must be on the CPU");
  const Tensor plain = with_plain_rows(weight.detach());
  const int64_t N = plain.size(0), K = plain.size(1);
  QuantisedWeight result{at::empty({N, K}, at::kChar), at::empty({N}, at::kFloat)};
  std::vector<RowResult> rows(static_cast<size_t>(N));
  auto* values = result.values.mutable_data_ptr<int8_t>();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, plain.scalar_type(), kName, [&] {
    const auto* data = plain.const_data_ptr<scalar_t>();
    cpu::run_tasks((N + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task) {
      auto* row = static_cast<float*>(cpu::scratch(static_cast<size_t>(K) * sizeof(float)));
      for (int64_t n = task * kRowsPerTask; n < std::min(N, (task + 1) * kRowsPerTask); ++n) {
        for (int64_t k = 0; k < K; ++k) row[k] = static_cast<float>(data[n * plain.stride(0) + k]);
        rows[static_cast<size_t>(n)] = quantise_row(row, K, values + n * K);
      }
    });
  });
  for (int64_t n = 0; n < N; ++n) {
    const RowResult& row = rows[static_cast<size_t>(n)];
    TORCH_CHECK_VALUE(row.finite, kName, ": weight has a number that is not finite in float32, in row ", n);
    result.scale.mutable_data_ptr<float>()[n] = row.scale;
    result.squared_error += row.squared_error;
    result.squared_sum += row.squared_sum;
  }
  return result;
}

}  // namespace klab::kernels
