// SPDX-License-Identifier: Apache-2.0
// The products with the state in the recurrence, all on one register tile.
//
// A state [K, V] is stored in panels of kPanel (two vectors of) columns, [V / kPanel][K][kPanel]: a panel fits the L1
// cache and is contiguous. (Rows of a whole row-major state would be a power of two apart and map to a few cache sets.)
// Rows of tokens have the fixed stride kStride, a compile-time constant and not a power of two either.
#if defined(KLAB_KERNELS_CPU_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KLAB_KERNELS_CPU_TILES_INL_H_
#undef KLAB_KERNELS_CPU_TILES_INL_H_
#else
#define KLAB_KERNELS_CPU_TILES_INL_H_
#endif

#include "kernels/common/cpu/simd-inl.h"
#include "kernels/common/rows.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kStride = kMaxHeadDim + 16;
constexpr int64_t kPanel = 2 * kLanes;
/// Rows of a tile: as many as possible while one row of the other operand still fits in registers.
constexpr int kTileRows = HWY_TARGET == HWY_AVX2 ? 4 : 8;

// acc[r][c] += sum over i < depth of a[r kARow + i kADepth] b[i b_step + c kLanes ..].
template <int64_t kARow, int64_t kADepth, int kRows, int kVecs>
HWY_INLINE void multiply_add(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t b_step, int64_t depth,
                             Vec (&acc)[kRows][kVecs]) {
  for (int64_t i = 0; i < depth; ++i) {
    Vec row[kVecs];
    HWY_UNROLL(4)
    for (int c = 0; c < kVecs; ++c) row[c] = load(b + c * kLanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const Vec x = broadcast(a[r * kARow]);
      HWY_UNROLL(4)
      for (int c = 0; c < kVecs; ++c) acc[r][c] = hn::MulAdd(x, row[c], acc[r][c]);
    }
    a += kADepth;
    b += b_step;
  }
}

template <int kRows, int kVecs>
HWY_INLINE void clear(Vec (&acc)[kRows][kVecs]) {
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int c = 0; c < kVecs; ++c) acc[r][c] = zero();
  }
}

template <int kRows, int kVecs>
HWY_INLINE void store_tile(const Vec (&acc)[kRows][kVecs], float* out, int64_t step) {
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int c = 0; c < kVecs; ++c) store(acc[r][c], out + r * step + c * kLanes);
  }
}

// y = x S: rows x [count, K] and y [count, V] with stride kStride. The result of a row does not depend on other rows.
// `between` is called once per tile, for example to prefetch.
template <typename Between>
HWY_INLINE void read_state(const float* x, int64_t count, const float* state, int64_t K, int64_t V, float* y,
                           Between&& between) {
  for (int64_t column = 0; column < V; column += kPanel) {
    for (int64_t row = 0; row < count; row += kTileRows) {
      between();
      Vec acc[kTileRows][2];
      clear(acc);
      multiply_add<kStride, 1>(x + row * kStride, state + column * K, kPanel, K, acc);
      store_tile(acc, y + row * kStride + column, kStride);
    }
  }
}

// to = diag(decay) from + x^T y: rows x [count, K] and y [count, V] with stride kStride. `from` may alias `to`.
inline void write_state(const float* decay, const float* x, const float* y, int64_t count, int64_t K, int64_t V,
                        const float* from, float* to) {
  for (int64_t column = 0; column < V; column += kPanel) {
    for (int64_t k = 0; k < K; k += kTileRows) {
      const int64_t tile = column * K + k * kPanel;
      Vec acc[kTileRows][2];
      HWY_UNROLL(8)
      for (int r = 0; r < kTileRows; ++r) {
        const Vec factor = broadcast(decay[k + r]);
        acc[r][0] = hn::Mul(factor, load(from + tile + r * kPanel));
        acc[r][1] = hn::Mul(factor, load(from + tile + r * kPanel + kLanes));
      }
      multiply_add<1, kStride>(x + k, y + column, kStride, count, acc);
      store_tile(acc, to + tile, kPanel);
    }
  }
}

// out = S z: z [V, kCount] and out [K, kCount] with stride kCount. Reads along V, the other dimension of the state.
template <int64_t kCount>
inline void read_state_across(const float* state, const float* z, int64_t K, int64_t V, float* out) {
  constexpr int kVecs = kCount >= 2 * kLanes ? 2 : 1;
  for (int64_t k = 0; k < K; k += kTileRows) {
    for (int64_t token = 0; token < kCount; token += kVecs * kLanes) {
      Vec acc[kTileRows][kVecs];
      clear(acc);
      for (int64_t column = 0; column < V; column += kPanel) {
        multiply_add<kPanel, 1>(state + column * K + k * kPanel, z + column * kCount + token, kCount, kPanel, acc);
      }
      store_tile(acc, out + k * kCount + token, kCount);
    }
  }
}

// out = x z: x [count, V] with stride kStride, z [V, kCount], out [count, kCount] with stride kCount.
template <int64_t kCount>
inline void multiply_rows(const float* x, int64_t count, const float* z, int64_t V, float* out) {
  constexpr int kVecs = kCount >= 2 * kLanes ? 2 : 1;
  for (int64_t row = 0; row < count; row += kTileRows) {
    for (int64_t token = 0; token < kCount; token += kVecs * kLanes) {
      Vec acc[kTileRows][kVecs];
      clear(acc);
      multiply_add<kStride, 1>(x + row * kStride, z + token, kCount, V, acc);
      store_tile(acc, out + row * kCount + token, kCount);
    }
  }
}

// to[c][r] = from[r][c] for r < rows and c < columns, both multiples of 4, in 4 x 4 blocks.
inline void transpose(const float* HWY_RESTRICT from, int64_t from_step, int64_t rows, int64_t columns,
                      float* HWY_RESTRICT to, int64_t to_step) {
  const hn::Full128<float> d;
  const hn::Repartition<double, decltype(d)> pairs;
  const auto wide = [&](Vec128 x) { return hn::BitCast(pairs, x); };
  for (int64_t r = 0; r < rows; r += 4) {
    for (int64_t c = 0; c < columns; c += 4) {
      const float* in = from + r * from_step + c;
      const Vec128 x0 = hn::LoadU(d, in), x1 = hn::LoadU(d, in + from_step), x2 = hn::LoadU(d, in + 2 * from_step),
                   x3 = hn::LoadU(d, in + 3 * from_step);
      const Vec128 low01 = hn::InterleaveLower(d, x0, x1), high01 = hn::InterleaveUpper(d, x0, x1);
      const Vec128 low23 = hn::InterleaveLower(d, x2, x3), high23 = hn::InterleaveUpper(d, x2, x3);
      float* out = to + c * to_step + r;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, wide(low01), wide(low23))), d, out);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, wide(low01), wide(low23))), d, out + to_step);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, wide(high01), wide(high23))), d, out + 2 * to_step);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, wide(high01), wide(high23))), d, out + 3 * to_step);
    }
  }
}

// Convert between a row-major state [K, V] with row stride `step` and panels of padded K and V, with zero padding.
inline void load_state(const float* from, int64_t step, int64_t K, int64_t V, int64_t padded_K, int64_t padded_V,
                       float* state) {
  std::memset(state, 0, static_cast<size_t>(padded_K * padded_V) * sizeof(float));
  if (from == nullptr) return;
  for (int64_t column = 0; column < V; column += kPanel) {
    const int64_t width = HWY_MIN(kPanel, V - column);
    for (int64_t k = 0; k < K; ++k) {
      std::memcpy(state + column * padded_K + k * kPanel, from + k * step + column,
                  static_cast<size_t>(width) * sizeof(float));
    }
  }
}

inline void store_state(const float* state, int64_t step, int64_t K, int64_t V, int64_t padded_K, float* to) {
  for (int64_t column = 0; column < V; column += kPanel) {
    const int64_t width = HWY_MIN(kPanel, V - column);
    for (int64_t k = 0; k < K; ++k) {
      std::memcpy(to + k * step + column, state + column * padded_K + k * kPanel,
                  static_cast<size_t>(width) * sizeof(float));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif
