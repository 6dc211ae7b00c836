// SPDX-License-Identifier: Apache-2.0
// Loads and stores of four adjacent elements of a row, for memory-bound kernels.
//
// A load returns the raw bits, which are converted to float later. So all loads can be in flight before the first value
// is used, even if the dtype or the end of the row selects the kind of load.
#pragma once

#include <type_traits>

#include "kernels/common/cuda/operand.cuh"

namespace klab::kernels::cuda {

struct alignas(16) Quad {
  float x[4];
};

/// Four 16-bit elements as stored in memory.
template <Dtype kDtype>
struct alignas(8) QuadBits {
  using Element = uint16_t;
  using Format = std::conditional_t<kDtype == Dtype::bfloat16, Bfloat16, Float16>;
  uint32_t pairs[2];

  __device__ __forceinline__ void set(int n, Element x) { pairs[n / 2] |= static_cast<uint32_t>(x) << (16 * (n % 2)); }
  __device__ __forceinline__ Element get(int n) const { return static_cast<Element>(pairs[n / 2] >> (16 * (n % 2))); }
  __device__ __forceinline__ Quad widen() const {
    const Two low = Format::unpack(pairs[0]), high = Format::unpack(pairs[1]);
    return {{low.x, low.y, high.x, high.y}};
  }
  static __device__ __forceinline__ QuadBits narrow(const Quad& q) {
    return {{Format::pack(q.x[0], q.x[1]), Format::pack(q.x[2], q.x[3])}};
  }
};

template <>
struct alignas(16) QuadBits<Dtype::float32> {
  using Element = float;
  float x[4];

  __device__ __forceinline__ void set(int n, Element value) { x[n] = value; }
  __device__ __forceinline__ Element get(int n) const { return x[n]; }
  __device__ __forceinline__ Quad widen() const { return {{x[0], x[1], x[2], x[3]}}; }
  static __device__ __forceinline__ QuadBits narrow(const Quad& q) { return {{q.x[0], q.x[1], q.x[2], q.x[3]}}; }
};

/// Elements `at` .. `at` + 3 of a row of `width`, zeros beyond it. `whole`: every quad is inside the row and aligned.
template <Dtype kDtype>
__device__ __forceinline__ QuadBits<kDtype> load_quad(const void* row, int at, int width, bool whole) {
  using Bits = QuadBits<kDtype>;
  const auto* from = static_cast<const typename Bits::Element*>(row) + at;
  Bits bits{};
  if (at >= width) return bits;
  if (whole) return *reinterpret_cast<const Bits*>(from);
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    if (at + n < width) bits.set(n, from[n]);
  }
  return bits;
}

template <Dtype kDtype>
__device__ __forceinline__ void store_quad(void* row, int at, int width, bool whole, const Quad& q) {
  using Bits = QuadBits<kDtype>;
  auto* to = static_cast<typename Bits::Element*>(row) + at;
  if (at >= width) return;
  const Bits bits = Bits::narrow(q);
  if (whole) {
    *reinterpret_cast<Bits*>(to) = bits;
    return;
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    if (at + n < width) to[n] = bits.get(n);
  }
}

/// Pointer to row `row` of rows with stride `step`, in elements.
template <Dtype kDtype>
__device__ __forceinline__ const void* row_of(const void* data, int64_t row, int64_t step) {
  return static_cast<const typename QuadBits<kDtype>::Element*>(data) + row * step;
}
template <Dtype kDtype>
__device__ __forceinline__ void* row_of(void* data, int64_t row, int64_t step) {
  return static_cast<typename QuadBits<kDtype>::Element*>(data) + row * step;
}

/// Whether every quad of these rows can be read with one load. True for absent rows.
inline bool quads_are_whole(const void* data, Dtype dtype, int64_t width, int64_t step) {
  const uintptr_t bytes = dtype == Dtype::float32 ? 16 : 8;
  return data == nullptr || (reinterpret_cast<uintptr_t>(data) % bytes == 0 && width % 4 == 0 && step % 4 == 0);
}

}  // namespace klab::kernels::cuda
