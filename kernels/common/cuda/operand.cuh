// SPDX-License-Identifier: Apache-2.0
// Tensor core products, as one policy class per operand format.
//
// A policy has: Element, the type in shared memory; Left and Right, fragments of a 16 x 16 left and a 16 x 8 right
// operand; pack(), for two adjacent elements of a row; loads from rows in shared memory; multiply(). Accumulators are
// float. Two adjacent 16 x 8 accumulator tiles can be used as a left operand without any data exchange between lanes,
// so a state held in accumulators stays in registers from product to product.
#pragma once

#include "kernels/common/cuda/platform.cuh"
#include "kernels/common/rows.h"

namespace klab::kernels::cuda {

constexpr int kWarp = 32;
/// Padding of rows in shared memory, in elements, which avoids bank conflicts.
constexpr int kRowPadding = 8;

/// A 16 x 8 accumulator. Lane l, with g = l / 4 and t = l % 4, holds the elements (g, 2t), (g, 2t + 1), (g + 8, 2t),
/// (g + 8, 2t + 1).
struct Tile {
  float c[4];
};

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x % kWarp); }

/// Two adjacent elements.
struct alignas(8) Two {
  float x, y;
};

struct alignas(16) Four {
  float x[4];
};

/// Reads adjacent floats, 16 bytes at a time; `from` must be aligned to 16 bytes.
template <int kCount>
__device__ __forceinline__ void load_floats(const float* from, float (&to)[kCount]) {
  static_assert(kCount % 4 == 0);
#pragma unroll
  for (int n = 0; n < kCount; n += 4) {
    const Four four = *reinterpret_cast<const Four*>(from + n);
#pragma unroll
    for (int m = 0; m < 4; ++m) to[n + m] = four.x[m];
  }
}

// --- 16 bits --------------------------------------------------------------------------------------------------------

struct Bfloat16 {
  static constexpr Dtype kDtype = Dtype::bfloat16;
  static __device__ __forceinline__ uint32_t pack(float x, float y) { return pack_bfloat16(x, y); }
  static __device__ __forceinline__ Two unpack(uint32_t p) { return {as_float(p << 16), as_float(p & 0xffff0000u)}; }
  static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_bfloat16(c, a, b);
  }
};

struct Float16 {
  static constexpr Dtype kDtype = Dtype::float16;
  static __device__ __forceinline__ uint32_t pack(float x, float y) { return pack_float16(x, y); }
  static __device__ __forceinline__ Two unpack(uint32_t p) {
    return {float16_to_float(static_cast<uint16_t>(p)), float16_to_float(static_cast<uint16_t>(p >> 16))};
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_float16(c, a, b);
  }
};

template <class Format>
struct HalfOperand {
  static constexpr Dtype kDtype = Format::kDtype;
  using Element = uint16_t;
  using Packed = uint32_t;
  struct Left {
    uint32_t r[4];
  };
  struct Right {
    uint32_t r[2];
  };

  static __device__ __forceinline__ Packed pack(float x, float y) { return Format::pack(x, y); }
  static __device__ __forceinline__ Two unpack(Packed p) { return Format::unpack(p); }
  static __device__ __forceinline__ Element round(float x) { return static_cast<Element>(Format::pack(x, 0.0f)); }
  static __device__ __forceinline__ float widen(Element x) { return Format::unpack(x).x; }

  /// A left operand from its columns 0..7 and 8..15.
  static __device__ __forceinline__ Left left(const Tile& low, const Tile& high) {
    return {
        {pack(low.c[0], low.c[1]), pack(low.c[2], low.c[3]), pack(high.c[0], high.c[1]), pack(high.c[2], high.c[3])}};
  }
  /// The inverse of left(): the two tiles of an operand.
  static __device__ __forceinline__ void tiles(const Left& a, Tile (&to)[2]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const Two two = unpack(a.r[r]);
      to[r / 2].c[r % 2 * 2] = two.x;
      to[r / 2].c[r % 2 * 2 + 1] = two.y;
    }
  }
  /// A left operand stored [m][k].
  static __device__ __forceinline__ Left load_left(const Element* from, int stride) {
    Left a;
    load_matrices(a.r, from + (lane() % 16) * stride + (lane() / 16) * 8);
    return a;
  }
  /// A left operand stored [k][m].
  static __device__ __forceinline__ Left load_left_across(const Element* from, int stride) {
    Left a;
    load_matrices_transposed(a.r, from + (lane() / 16 * 8 + lane() % 8) * stride + (lane() / 8 % 2) * 8);
    return a;
  }
  /// Two right operands, columns 0..7 and 8..15, stored [n][k].
  static __device__ __forceinline__ void load_right(Right (&b)[2], const Element* from, int stride) {
    uint32_t r[4];
    load_matrices(r, from + (lane() / 16 * 8 + lane() % 8) * stride + (lane() / 8 % 2) * 8);
    b[0] = {{r[0], r[1]}};
    b[1] = {{r[2], r[3]}};
  }
  /// Two right operands of columns 0..7, rows 0..15 and 16..31, stored [n][k].
  static __device__ __forceinline__ void load_right_deep(Right (&b)[2], const Element* from, int stride) {
    uint32_t r[4];
    load_matrices(r, from + (lane() % 8) * stride + (lane() / 8) * 8);
    b[0] = {{r[0], r[1]}};
    b[1] = {{r[2], r[3]}};
  }
  /// Two right operands, columns 0..7 and 8..15, stored [k][n].
  static __device__ __forceinline__ void load_right_across(Right (&b)[2], const Element* from, int stride) {
    uint32_t r[4];
    load_matrices_transposed(r, from + (lane() % 16) * stride + (lane() / 16) * 8);
    b[0] = {{r[0], r[1]}};
    b[1] = {{r[2], r[3]}};
  }
  static __device__ __forceinline__ void multiply(Tile& c, const Left& a, const Right& b) {
    Format::multiply(c.c, a.r, b.r);
  }
};

// --- Float32 ---

/// Float32 products by splitting each number into two TF32 numbers, with three TF32 products each: accurate to about 22
/// bits. Tensor cores truncate the sums of their products, so each product of 16 terms is added to the accumulator by a
/// separate addition, rounded to nearest: over thousands of tokens truncation errors, all of one sign, would add up.
/// The order of the terms along k does not matter, so k is permuted to the layout of a Tile: index 2t where the
/// instruction expects t, and 2t + 1 where it expects t + 4.
struct SplitFloat32 {
  static constexpr Dtype kDtype = Dtype::float32;
  using Element = float;
  using Packed = Two;
  struct Left {
    float v[2][4];
  };
  struct Right {
    float v[2][2];
  };

  static __device__ __forceinline__ Packed pack(float x, float y) { return {x, y}; }
  static __device__ __forceinline__ Two unpack(Packed p) { return p; }
  static __device__ __forceinline__ Element round(float x) { return x; }
  static __device__ __forceinline__ float widen(Element x) { return x; }

  static __device__ __forceinline__ Left left(const Tile& low, const Tile& high) {
    return {{{low.c[0], low.c[2], low.c[1], low.c[3]}, {high.c[0], high.c[2], high.c[1], high.c[3]}}};
  }
  static __device__ __forceinline__ void tiles(const Left& a, Tile (&to)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) to[h] = {{a.v[h][0], a.v[h][2], a.v[h][1], a.v[h][3]}};
  }
  static __device__ __forceinline__ Left load_left(const Element* from, int stride) {
    Left a;
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int r = 0; r < 4; ++r) a.v[h][r] = from[(g + r % 2 * 8) * stride + h * 8 + 2 * t + r / 2];
    }
    return a;
  }
  static __device__ __forceinline__ Left load_left_across(const Element* from, int stride) {
    Left a;
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int r = 0; r < 4; ++r) a.v[h][r] = from[(h * 8 + 2 * t + r / 2) * stride + g + r % 2 * 8];
    }
    return a;
  }
  static __device__ __forceinline__ void load_right(Right (&b)[2], const Element* from, int stride) {
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int r = 0; r < 2; ++r) b[n].v[h][r] = from[(n * 8 + g) * stride + h * 8 + 2 * t + r];
      }
    }
  }
  static __device__ __forceinline__ void load_right_deep(Right (&b)[2], const Element* from, int stride) {
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int r = 0; r < 2; ++r) b[n].v[h][r] = from[g * stride + n * 16 + h * 8 + 2 * t + r];
      }
    }
  }
  static __device__ __forceinline__ void load_right_across(Right (&b)[2], const Element* from, int stride) {
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int r = 0; r < 2; ++r) b[n].v[h][r] = from[(h * 8 + 2 * t + r) * stride + n * 8 + g];
      }
    }
  }
  static __device__ __forceinline__ void multiply(Tile& c, const Left& a, const Right& b) {
    float sums[4] = {};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float a_high[4], a_low[4], b_high[2], b_low[2];
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        a_high[r] = round_to_tf32(a.v[h][r]);
        a_low[r] = round_to_tf32(a.v[h][r] - a_high[r]);
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        b_high[r] = round_to_tf32(b.v[h][r]);
        b_low[r] = round_to_tf32(b.v[h][r] - b_high[r]);
      }
      multiply_tf32(sums, a_low, b_high);
      multiply_tf32(sums, a_high, b_low);
      multiply_tf32(sums, a_high, b_high);
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) c.c[r] += sums[r];
  }
};

// --- Global memory ---

__device__ __forceinline__ float load_number(const void* data, Dtype dtype, int64_t at) {
  switch (dtype) {
    case Dtype::float32: return static_cast<const float*>(data)[at];
    case Dtype::bfloat16: return as_float(static_cast<uint32_t>(static_cast<const uint16_t*>(data)[at]) << 16);
    default: return float16_to_float(static_cast<const uint16_t*>(data)[at]);
  }
}

/// A number's bits, for number_of(): a load that nothing has to wait for yet.
__device__ __forceinline__ uint32_t load_bits(const void* data, Dtype dtype, int64_t at) {
  if (dtype == Dtype::float32) return static_cast<const uint32_t*>(data)[at];
  return static_cast<const uint16_t*>(data)[at];
}
__device__ __forceinline__ float number_of(uint32_t bits, Dtype dtype) {
  if (dtype == Dtype::float32) return as_float(bits);
  return dtype == Dtype::bfloat16 ? as_float(bits << 16) : float16_to_float(static_cast<uint16_t>(bits));
}

__device__ __forceinline__ void store_number(void* data, Dtype dtype, int64_t at, float x) {
  switch (dtype) {
    case Dtype::float32: static_cast<float*>(data)[at] = x; break;
    case Dtype::bfloat16: static_cast<uint16_t*>(data)[at] = static_cast<uint16_t>(pack_bfloat16(x, 0.0f)); break;
    default: static_cast<uint16_t*>(data)[at] = static_cast<uint16_t>(pack_float16(x, 0.0f));
  }
}

/// Two adjacent elements of a row; `at` must be even and the row aligned to two elements.
__device__ __forceinline__ Two load_two(const void* data, Dtype dtype, int64_t at) {
  switch (dtype) {
    case Dtype::float32: {
      const float* from = static_cast<const float*>(data) + at;
      return {from[0], from[1]};
    }
    case Dtype::bfloat16:
      return Bfloat16::unpack(*reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(data) + at));
    default: return Float16::unpack(*reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(data) + at));
  }
}

__device__ __forceinline__ void store_two(void* data, Dtype dtype, int64_t at, Two x) {
  switch (dtype) {
    case Dtype::float32: {
      float* to = static_cast<float*>(data) + at;
      to[0] = x.x;
      to[1] = x.y;
      break;
    }
    case Dtype::bfloat16:
      *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(data) + at) = pack_bfloat16(x.x, x.y);
      break;
    default: *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(data) + at) = pack_float16(x.x, x.y);
  }
}

}  // namespace klab::kernels::cuda
