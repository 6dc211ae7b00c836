// SPDX-License-Identifier: Apache-2.0
// A block sums 32 columns. Each warp sums a subset of the parts, then the first warp sums the results of all warps.
#include "kernels/common/cuda/sum.h"

#include "kernels/common/cuda/operand.cuh"

namespace klab::kernels::cuda {
namespace {

constexpr int kSumWarps = 16;

__global__ void __launch_bounds__(kSumWarps* kWarp)
    sum_kernel(const float* parts, int64_t count, int64_t width, float* sum) {
  float* shares = reinterpret_cast<float*>(shared_memory());  // [kSumWarps, kWarp]
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane();
  float share = 0.0f;
  if (column < width) {
#pragma unroll 4
    for (int64_t part = warp; part < count; part += kSumWarps) share += parts[part * width + column];
  }
  shares[threadIdx.x] = share;
  block_barrier();
  if (warp > 0 || column >= width) return;
  for (int other = 1; other < kSumWarps; ++other) share += shares[other * kWarp + lane()];
  sum[column] = share;
}

}  // namespace

void sum_parts(const float* parts, int64_t count, int64_t width, float* sum, void* stream) {
  if (width == 0) return;
  const auto blocks = static_cast<unsigned>((width + kWarp - 1) / kWarp);
  launch(sum_kernel, dim3(blocks), kSumWarps * kWarp, kSumWarps * kWarp * sizeof(float), static_cast<Stream>(stream),
         parts, count, width, sum);
}

bool kernels_have_code() { return has_code(sum_kernel); }

}  // namespace klab::kernels::cuda
