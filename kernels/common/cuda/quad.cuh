// Four neighbouring numbers of a row at once, as kernels that are bound by memory read and write them.
//
// A read gives bits, which are widened later: where the dtype or the end of a row decide about the kind of a read, all
// reads can still be under way before the first number is needed.
#pragma once

#include <type_traits>

#include "kernels/common/cuda/operand.cuh"

namespace klab::kernels::cuda {

struct alignas(16) Quad {
  float x[4];
};

/// Four numbers of 16 bits as they are stored.
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

/// Numbers `at` .. `at` + 3 of a row of `width`, zeros beyond it. `whole`: quads lie inside the row and are aligned.
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

/// Row `row` of rows that are `step` numbers apart.
template <Dtype kDtype>
__device__ __forceinline__ const void* row_of(const void* data, int64_t row, int64_t step) {
  return static_cast<const typename QuadBits<kDtype>::Element*>(data) + row * step;
}
template <Dtype kDtype>
__device__ __forceinline__ void* row_of(void* data, int64_t row, int64_t step) {
  return static_cast<typename QuadBits<kDtype>::Element*>(data) + row * step;
}

/// Whether every quad of these rows can be read at once. Absent rows can.
inline bool quads_are_whole(const void* data, Dtype dtype, int64_t width, int64_t step) {
  const uintptr_t bytes = dtype == Dtype::float32 ? 16 : 8;
  return data == nullptr || (reinterpret_cast<uintptr_t>(data) % bytes == 0 && width % 4 == 0 && step % 4 == 0);
}

}  // namespace klab::kernels::cuda
