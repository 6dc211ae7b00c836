// SPDX-License-Identifier: Apache-2.0
// Rows of width V (v, o and their gradients) as accumulator tiles, transposed: 16 columns of V by 16 tokens.
//
// In memory two adjacent columns of a token are adjacent, in a tile two adjacent tokens of a column are. With 16-bit
// numbers a lane therefore moves pairs of columns, and 8 x 8 matrices are transposed between the lanes.
#pragma once

#include <type_traits>

#include "kernels/common/cuda/operand.cuh"
#include "kernels/recurrence/cuda/chunk.cuh"
#include "kernels/recurrence/cuda/forward_plan.h"

namespace klab::kernels::cuda {

// A warp's kSlice columns, from `first`. `values`: they are columns of V, else columns of K in a part's affine map
// (forward pass).
struct Slice {
  int first;
  bool values;
};

// A lane's place in rows of width V [tokens, V] of one head, for a warp's slice.
template <class Operand, class AnyRows>
struct ValueColumns {
  using Element = typename Operand::Element;
  static constexpr bool kPacked = sizeof(Element) == 2;

  decltype(AnyRows::data) data;  // the lane's first element of the sequence's token 0
  int64_t stride;
  int left;    // columns from there to V, none of them for slices of K
  bool pairs;  // whether two adjacent columns can be moved together

  __device__ __forceinline__ ValueColumns(const AnyRows& rows, int64_t row, int64_t start, int head,
                                          const Slice& slice, int V)
      : stride(rows.token) {
    const int g = lane() / 4, t = lane() % 4, column = slice.first + (kPacked ? 2 * t : g);
    const int token = kPacked ? g : 2 * t;
    data = static_cast<decltype(element(0))>(rows.data) + rows.offset(row, start + token, head) + column;
    left = slice.values ? V - column : 0;
    const int64_t all = static_cast<int64_t>(reinterpret_cast<uintptr_t>(rows.data)) / 2 | rows.token | rows.head |
                        rows.batch | V;
    pairs = all % 2 == 0;
  }

  // Element (i, column) relative to the lane's own, in memory.
  __device__ __forceinline__ auto element(int64_t token, int column = 0) const {
    if constexpr (std::is_const_v<std::remove_pointer_t<decltype(AnyRows::data)>>) {
      return static_cast<const Element*>(data) + token * stride + column;
    } else {
      return static_cast<Element*>(data) + token * stride + column;
    }
  }
};

// A chunk's rows as they lie in memory. Loaded a chunk ahead: nothing waits for the loads before tiles().
template <class Operand>
struct ValueRows {
  using Element = typename Operand::Element;
  using Columns = ValueColumns<Operand, Rows>;
  static constexpr bool kPacked = Columns::kPacked;
  // 16 bits: [tokens 8 n + g][columns 8 h + 2t, 8 h + 2t + 1]; float: the elements of the two tiles.
  uint32_t bits[2][kPacked ? 2 : 4];

  // Rows of `count` tokens from token `first` of the sequence.
  __device__ __forceinline__ void load(const Columns& from, int first, int count) {
    const Element* const at = from.element(first);
    if constexpr (kPacked) {
      const int g = lane() / 4;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const Element* x = at + 8 * n * from.stride;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const bool inside = 8 * h < from.left && 8 * n + g < count;
          if (from.pairs) {
            bits[n][h] = inside ? *reinterpret_cast<const uint32_t*>(x + 8 * h) : 0;
          } else {
            const uint32_t high = inside && 8 * h + 1 < from.left ? x[8 * h + 1] : 0;
            bits[n][h] = inside ? x[8 * h] | high << 16 : 0;
          }
        }
      }
    } else {
      const int t = lane() % 4;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int token = n * 8 + r % 2, column = r / 2 * 8;
          const bool inside = column < from.left && token + 2 * t < count;
          bits[n][r] = inside ? as_bits(at[token * from.stride + column]) : 0;
        }
      }
    }
  }

  __device__ __forceinline__ void tiles(Tile (&v)[2]) const {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      if constexpr (kPacked) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const Two two = Operand::unpack(transpose_matrix(bits[n][h]));
          v[n].c[2 * h] = two.x;
          v[n].c[2 * h + 1] = two.y;
        }
      } else {
#pragma unroll
        for (int r = 0; r < 4; ++r) v[n].c[r] = as_float(bits[n][r]);
      }
    }
  }
};

// Rows of `count` tokens from token `first` of the sequence.
template <class Operand>
__device__ __forceinline__ void store_values(const ValueColumns<Operand, MutableRows>& to, int first, int count,
                                             const Tile (&x)[2]) {
  using Element = typename Operand::Element;
  Element* const at = to.element(first);
  if constexpr (sizeof(Element) == 2) {
    const int g = lane() / 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      Element* into = at + 8 * n * to.stride;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint32_t two = transpose_matrix(Operand::pack(x[n].c[2 * h], x[n].c[2 * h + 1]));
        const bool inside = 8 * h < to.left && 8 * n + g < count;
        if (to.pairs) {
          if (inside) *reinterpret_cast<uint32_t*>(into + 8 * h) = two;
        } else {
          if (inside) into[8 * h] = static_cast<Element>(two);
          if (inside && 8 * h + 1 < to.left) into[8 * h + 1] = static_cast<Element>(two >> 16);
        }
      }
    }
  } else {
    const int t = lane() % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int token = n * 8 + r % 2, column = r / 2 * 8;
        if (column < to.left && token + 2 * t < count) at[token * to.stride + column] = Operand::round(x[n].c[r]);
      }
    }
  }
}

}  // namespace klab::kernels::cuda
