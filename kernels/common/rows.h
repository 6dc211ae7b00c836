// SPDX-License-Identifier: Apache-2.0
// Strided rows of numbers in any of the dtypes that the kernels take.
#pragma once

#include <cstdint>

namespace klab::kernels {

/// The largest K and V (head dimensions of keys and values) that the recurrence supports.
constexpr int64_t kMaxHeadDim = 256;

enum class Dtype : uint8_t { float32, bfloat16, float16 };

/// Rows of a tensor [batch, token, head, width] whose last dimension is contiguous; strides in elements.
struct Rows {
  const void* data = nullptr;
  int64_t batch = 0, token = 0, head = 0;
  Dtype dtype = Dtype::float32;

  constexpr explicit operator bool() const { return data != nullptr; }
  constexpr int64_t offset(int64_t b, int64_t t, int64_t h) const { return b * batch + t * token + h * head; }
};

struct MutableRows {
  void* data = nullptr;
  int64_t batch = 0, token = 0, head = 0;
  Dtype dtype = Dtype::float32;

  constexpr explicit operator bool() const { return data != nullptr; }
  constexpr int64_t offset(int64_t b, int64_t t, int64_t h) const { return b * batch + t * token + h * head; }
};

}  // namespace klab::kernels
