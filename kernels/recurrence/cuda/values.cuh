// SPDX-License-Identifier: Apache-2.0
// Rows of width V (v, o and their gradients) as accumulator tiles, transposed: 16 columns of V by 16 tokens.
#pragma once

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

// Loads a warp's slice of rows, a chunk ahead into one of two buffers in shared memory. (Loads into registers would be
// waited for too early: the compiler has six scoreboards for all loads of a thread.)
template <class Operand>
struct ValueLoads {
  using Element = typename Operand::Element;
  using Copies = RowCopies<sizeof(Element), kSlice, kSlice, kWarp>;
  static constexpr size_t kBytes = 2 * kChunk * kSlice * sizeof(Element);  // per warp

  unsigned char* buffers;
  const unsigned char* next;  // Copies::source() of the chunk that is fetched next
  int64_t step;               // from there to the one after it
  int width;
  bool aligned;

  // From token `start` on chunk by chunk; forwards (direction 1) or backwards (-1).
  __device__ __forceinline__ ValueLoads(const Rows& rows, int64_t row, int64_t start, int direction, int head,
                                        const Slice& slice, int V, bool aligned_, unsigned char* buffers_)
      : buffers(buffers_), width(slice.values ? V - slice.first : 0), aligned(aligned_) {
    next = Copies::source(rows, row, start, head, aligned, lane());
    if (width > 0) next += slice.first * sizeof(Element);
    step = direction * kChunk * rows.token * static_cast<int>(sizeof(Element));
  }

  __device__ __forceinline__ Element* buffer(int chunk) const {
    return reinterpret_cast<Element*>(buffers + chunk % 2 * kBytes / 2);
  }

  // Starts to load the next chunk, of `count` tokens.
  __device__ __forceinline__ void fetch(const Rows& rows, int chunk, int count) {
    if (aligned) {
      Copies::template start<false>(rows, next, count, width, buffer(chunk), lane());
    } else {
      Copies::copy(rows, next, 0, count, width, buffer(chunk), lane());
    }
    copies_commit();
    next += step;
  }

  // Waits for the chunk that was fetched last; its 16 columns of V by 16 tokens.
  __device__ __forceinline__ void tiles(int chunk, Tile (&v)[2]) const {
    copies_wait<0>();
    warp_barrier();
    Operand::tiles(Operand::load_left_across(buffer(chunk), kSlice), v);
  }
};

// Stores a warp's slice of rows, chunk by chunk. In memory two adjacent columns of a token are adjacent, in a tile two
// adjacent tokens of a column: with 16-bit numbers, 8 x 8 matrices are transposed between the lanes, and a lane stores
// pairs of columns.
template <class Operand>
struct ValueStores {
  using Element = typename Operand::Element;
  static constexpr bool kPacked = sizeof(Element) == 2;

  Element* to;  // this lane's first element of the next chunk
  int64_t stride;
  int left;    // columns from there to V
  bool pairs;  // has_paired_rows()

  __device__ __forceinline__ ValueStores(const MutableRows& rows, int64_t row, int64_t start, int head,
                                         const Slice& slice, int V, bool pairs_)
      : stride(rows.token), pairs(pairs_) {
    const int g = lane() / 4, t = lane() % 4, column = slice.first + (kPacked ? 2 * t : g);
    const int token = kPacked ? g : 2 * t;
    to = static_cast<Element*>(rows.data) + rows.offset(row, start + token, head) + column;
    left = slice.values ? V - column : 0;
  }

  // The next chunk, of `count` tokens.
  __device__ __forceinline__ void store(int count, const Tile (&x)[2]) {
    if constexpr (kPacked) {
      uint32_t two[2][2];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int h = 0; h < 2; ++h) two[n][h] = transpose_matrix(Operand::pack(x[n].c[2 * h], x[n].c[2 * h + 1]));
      }
      if (pairs) {
        store_pairs(count, two);
      } else {
        store_halves(count, two);
      }
    } else {
      const int t = lane() % 4;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int token = n * 8 + r % 2, column = r / 2 * 8;
          if (column < left && token + 2 * t < count) to[token * stride + column] = Operand::round(x[n].c[r]);
        }
      }
    }
    to += kChunk * stride;
  }

  // two[n][h] is for token 8 n + g and the columns from 8 h.
  __device__ __forceinline__ void store_pairs(int count, const uint32_t (&two)[2][2]) const {
    const int step = static_cast<int>(stride), g = lane() / 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const bool inside = 8 * h < left && 8 * n + g < count;
        if (inside) *reinterpret_cast<uint32_t*>(to + 8 * n * step + 8 * h) = two[n][h];
      }
    }
  }

  __device__ __forceinline__ void store_halves(int count, const uint32_t (&two)[2][2]) const {
    const int g = lane() / 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        Element* at = to + 8 * n * stride + 8 * h;
        const bool inside = 8 * h < left && 8 * n + g < count;
        if (inside) at[0] = static_cast<Element>(two[n][h]);
        if (inside && 8 * h + 1 < left) at[1] = static_cast<Element>(two[n][h] >> 16);
      }
    }
  }
};

}  // namespace klab::kernels::cuda
