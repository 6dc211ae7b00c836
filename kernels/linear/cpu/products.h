// SPDX-License-Identifier: Apache-2.0
// CPU kernel for the product of a few rows with a weight (decode), bound by the memory bandwidth of reading the weight.
#pragma once

#include <cstdint>

#include "kernels/common/rows.h"

namespace klab::kernels::cpu {

enum class WeightType : uint8_t { float32, bfloat16, float16, int8 };

/// A weight [N, K] whose rows are contiguous; no alignment is required, as in a memory-mapped file.
struct WeightMatrix {
  const void* data = nullptr;
  const float* scale = nullptr;  ///< [N], int8 weights only: row n is scale[n] times its integers
  int64_t N = 0, K = 0;
  int64_t step = 0;  ///< row stride in elements
  WeightType type = WeightType::float32;
};

struct ProductProblem {
  int64_t rows = 0;
  Rows x;  ///< [rows, K], row stride `batch`
  WeightMatrix weight;
  MutableRows y;  ///< [rows, N], row stride `batch`
};

/// y = x weight^T, accumulated in float32, denormals flushed to zero. The bits of a row of y depend only on that row of
/// x and the weight, not on the other rows or the number of threads.
void product(const ProductProblem& problem);

}  // namespace klab::kernels::cpu
