// Products of few rows with a weight, bound by reading the weight: what a decoded token costs.
#pragma once

#include <cstdint>

#include "kernels/common/rows.h"

namespace klab::kernels::cpu {

enum class WeightType : uint8_t { float32, bfloat16, float16, int8 };

/// A weight [N, K] whose rows are contiguous, at any address, as in a mapped file.
struct WeightMatrix {
  const void* data = nullptr;
  const float* scale = nullptr;  ///< [N], of int8 weights alone: row n stands for scale[n] times its integers
  int64_t N = 0, K = 0;
  int64_t step = 0;  ///< from row to row, in elements
  WeightType type = WeightType::float32;
};

struct ProductProblem {
  int64_t rows = 0;
  Rows x;  ///< [rows, K], by `batch`
  WeightMatrix weight;
  MutableRows y;  ///< [rows, N], by `batch`
};

/// y = x weight^T with sums in float32; denormals count as zero. A row's bits depend on that row and the weight alone:
/// neither on the rows beside it nor on the number of threads.
void product(const ProductProblem& problem);

}  // namespace klab::kernels::cpu
