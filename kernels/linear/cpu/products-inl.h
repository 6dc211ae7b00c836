// SPDX-License-Identifier: Apache-2.0
// Dot products of a few float32 rows with the rows of a weight of any type. The weight is read once.
//
// Every dot product accumulates along K into one vector and then reduces its lanes in a fixed order, in every tile
// shape. So the tile shape may depend on the number of rows, and the tasks on the number of threads, without changing
// a bit of the results.
#if defined(KLAB_KERNELS_CPU_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KLAB_KERNELS_CPU_PRODUCTS_INL_H_
#undef KLAB_KERNELS_CPU_PRODUCTS_INL_H_
#else
#define KLAB_KERNELS_CPU_PRODUCTS_INL_H_
#endif

#include "kernels/common/cpu/simd-inl.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/linear/cpu/products.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kStripe = 64;          // weight rows (a stripe) whose results are buffered together
constexpr int64_t kGroup = 16;           // rows of x that share one pass over a stripe
constexpr int64_t kSums = kStripe + 16;  // row stride of the result buffer: sums are stored four at a time
constexpr int64_t kPartFloats = 8192;    // floats of x, over all rows, in one block of K: they stay in the L1 cache
constexpr int64_t kLeadBytes = 8192;     // minimum prefetch distance on the weight
constexpr int64_t kLine = 64;            // cache line in bytes
// Bytes of the weight per task: long streams read faster, but small matrices must still give every thread work.
constexpr int64_t kLeastTaskBytes = 64 * 1024, kMostTaskBytes = 256 * 1024, kTasksPerThread = 4;

constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Row stride of a float32 copy of rows of `width`: whole vectors, but not a power of two, so that the rows of a tile do
// not map to the same L1 cache sets.
constexpr int64_t row_step(int64_t width) { return round_up(width, 32) + 16; }

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

HWY_INLINE Vec load_weights(const float* p) { return hn::LoadU(kFloats, p); }
HWY_INLINE Vec load_weights(const BFloat16* p) { return widen(reinterpret_cast<const uint16_t*>(p), Dtype::bfloat16); }
HWY_INLINE Vec load_weights(const Float16* p) { return widen(reinterpret_cast<const uint16_t*>(p), Dtype::float16); }
HWY_INLINE Vec load_weights(const int8_t* p) {
  const hn::Rebind<int8_t, decltype(kFloats)> bytes;
  const hn::RebindToSigned<decltype(kFloats)> integers;
  return hn::ConvertTo(kFloats, hn::PromoteTo(integers, hn::LoadU(bytes, p)));
}

HWY_INLINE int64_t bytes_of(WeightType type) {
  return type == WeightType::float32 ? 4 : type == WeightType::int8 ? 1 : 2;
}

// The block of K that a tile covers.
struct Part {
  int64_t length;
  bool first, last;  // whether it is the first or the last block of K
};

// Software prefetch of the weight, a few cache lines per step of a tile: the hardware prefetcher does not keep up with
// rows that end after one or two thousand bytes.
struct Ahead {
  const char* at = nullptr;
  int64_t lines = 1;             // 1, 2 or 4 lines prefetched per step; a step covers one line of a row
  int64_t apart = 0, shift = 0;  // bytes between these lines, and from step to step
  HWY_INLINE void step() {
    __builtin_prefetch(at);
    if (lines > 1) __builtin_prefetch(at + apart);
    if (lines > 2) {
      __builtin_prefetch(at + 2 * apart);
      __builtin_prefetch(at + 3 * apart);
    }
    at += shift;
  }
};

// x_r . w_c for kRows rows of x and kWeights (2 or 4) rows of the weight, over one block of K. `carry` holds the
// partial sums between blocks. The last block writes four elements per row of `out`; those beyond kWeights are
// meaningless. x is zero-padded from K to a whole number of vectors.
template <int kRows, int kWeights, class T>
HWY_INLINE void dot_tile(const float* const* HWY_RESTRICT x, const T* const* HWY_RESTRICT w, const Part& part,
                         Ahead& ahead, float* HWY_RESTRICT carry, float* const* HWY_RESTRICT out) {
  Vec acc[kRows][kWeights];
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int c = 0; c < kWeights; ++c) acc[r][c] = part.first ? zero() : load(carry + (r * kWeights + c) * kLanes);
  }
  const auto add = [&](int64_t k, const Vec(&weights)[kWeights]) {
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const Vec row = hn::LoadU(kFloats, x[r] + k);
      HWY_UNROLL(4)
      for (int c = 0; c < kWeights; ++c) acc[r][c] = hn::MulAdd(row, weights[c], acc[r][c]);
    }
  };
  const auto step = [&](int64_t k) {
    Vec weights[kWeights];
    HWY_UNROLL(4)
    for (int c = 0; c < kWeights; ++c) weights[c] = load_weights(w[c] + k);
    add(k, weights);
  };
  constexpr int64_t kStep = HWY_MAX(kLanes, kLine / static_cast<int64_t>(sizeof(T)));
  int64_t k = 0;
  for (; k + kStep <= part.length; k += kStep) {
    ahead.step();
    HWY_UNROLL(8)
    for (int64_t i = 0; i < kStep; i += kLanes) step(k + i);
  }
  for (; k + kLanes <= part.length; k += kLanes) step(k);
  if (k < part.length) {  // through a buffer, so as not to read beyond the row
    Vec weights[kWeights];
    for (int c = 0; c < kWeights; ++c) {
      HWY_ALIGN T rest[kLanes] = {};
      std::memcpy(rest, w[c] + k, static_cast<size_t>(part.length - k) * sizeof(T));
      weights[c] = load_weights(rest);
    }
    add(k, weights);
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    if (part.last) {
      store_sums(acc[r][0], acc[r][1], kWeights > 2 ? acc[r][kWeights > 2 ? 2 : 0] : zero(),
                 kWeights > 2 ? acc[r][kWeights > 2 ? 3 : 0] : zero(), out[r]);
    } else {
      HWY_UNROLL(4)
      for (int c = 0; c < kWeights; ++c) store(acc[r][c], carry + (r * kWeights + c) * kLanes);
    }
  }
}

// A tile of `rows` <= kRows rows of x and four rows of the weight. The last row of x is repeated up to kRows.
template <int kRows, int kWeights, class T>
HWY_INLINE void dots_of_rows(const float* const* x, int64_t rows, int64_t k, const T* const* w, const Part& part,
                             Ahead& ahead, float* carry, float* out) {
  const float* from[kRows];
  float* to[kRows];
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = HWY_MIN(r, rows - 1);
    from[r] = x[row] + k;
    to[r] = out + row * kSums;
  }
  for (int c = 0; c < 4; c += kWeights) {
    dot_tile<kRows, kWeights>(from, w + c, part, ahead, carry + c * kRows * kLanes, to);
    for (int r = 0; r < kRows; ++r) to[r] += kWeights;
  }
}

// A stripe of a weight: rows [first, first + count).
template <class T>
struct Stripe {
  const T* data;
  int64_t K, step, count;
  Stripe(const WeightMatrix& weight, int64_t first, int64_t rows)
      : data(static_cast<const T*>(weight.data) + first * weight.step), K(weight.K), step(weight.step), count(rows) {}

  const T* at(int64_t n, int64_t k) const { return data + n * step + k; }

  // The prefetch for the rows after [n, n + 4) in the block [k, k + length) of K; `passes` tiles divide it among them.
  Ahead ahead(int64_t n, int64_t k, int64_t length, int64_t passes) const {
    constexpr int64_t kSize = static_cast<int64_t>(sizeof(T));
    const int64_t later = n + round_up((kLeadBytes + length * kSize - 1) / (length * kSize), 4);
    const T* next = at(later, k);
    if (later >= count) next = k + length < K ? at(later - count, k + length) : at(later, 0);
    Ahead ahead{reinterpret_cast<const char*>(next), passes == 1 ? 4 : passes == 2 ? 2 : 1};
    const bool in_one_piece = length == K && step == K;  // contiguous in memory, which reads fastest
    ahead.apart = in_one_piece ? kLine : step * kSize;
    ahead.shift = in_one_piece ? kLine * ahead.lines : kLine;
    return ahead;
  }
};

template <class T>
HWY_NOINLINE void dots_of_type(const WeightMatrix& weight, int64_t first, int64_t count, const float* const* x,
                               int64_t rows, float* out) {
  constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON;
  constexpr int64_t kMost = 4;
  HWY_ALIGN float carry[kStripe * kGroup * kLanes];
  const Stripe<T> stripe(weight, first, count);
  const int64_t K = weight.K, part_length = kPartFloats / rows / 64 * 64;
  for (int64_t k = 0; k < K; k += part_length) {
    const Part part{HWY_MIN(part_length, K - k), k == 0, k + part_length >= K};
    for (int64_t n = 0; n < count; n += 4) {
      const T* w[4];
      for (int64_t c = 0; c < 4; ++c) w[c] = stripe.at(HWY_MIN(n + c, count - 1), k);  // repeats the last row
      const Ahead all_ahead = stripe.ahead(n, k, part.length, (rows + kMost - 1) / kMost);
      for (int64_t row = 0; row < rows; row += kMost) {
        const int64_t some = HWY_MIN(kMost, rows - row);
        Ahead ahead = all_ahead;
        ahead.at += row / kMost * ahead.lines *
                    (ahead.apart == kLine ? part.length * static_cast<int64_t>(sizeof(T)) : ahead.apart);
        float* to = out + row * kSums + n;
        float* kept = carry + (n * kGroup + row * 4) * kLanes;
        if (some == 1) {
          dots_of_rows<1, 4>(x + row, some, k, w, part, ahead, kept, to);
        } else if (some == 2) {
          dots_of_rows<2, 4>(x + row, some, k, w, part, ahead, kept, to);
        } else {
          dots_of_rows<kMost, kManyRegisters ? 4 : 2>(x + row, some, k, w, part, ahead, kept, to);
        }
      }
    }
  }
}

// out[r kSums + n] = x_r . weight_(first + n) for n < count <= kStripe and rows <= kGroup; x_r padded as in dot_tile().
inline void dots(const WeightMatrix& weight, int64_t first, int64_t count, const float* const* x, int64_t rows,
                 float* out) {
  switch (weight.type) {
    case WeightType::float32: dots_of_type<float>(weight, first, count, x, rows, out); break;
    case WeightType::bfloat16: dots_of_type<BFloat16>(weight, first, count, x, rows, out); break;
    case WeightType::float16: dots_of_type<Float16>(weight, first, count, x, rows, out); break;
    case WeightType::int8: dots_of_type<int8_t>(weight, first, count, x, rows, out); break;
  }
  if (weight.scale == nullptr) return;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < count; ++n) out[r * kSums + n] *= weight.scale[first + n];
  }
}

// Weight rows per task, a multiple of 16. The split does not change a bit of the results.
inline int64_t rows_per_task(const WeightMatrix& weight) {
  const int64_t row_bytes = HWY_MAX(1, weight.K * bytes_of(weight.type));
  const int64_t share = weight.N * row_bytes / (kTasksPerThread * threads());
  const int64_t bytes = HWY_MIN(HWY_MAX(share, kLeastTaskBytes), kMostTaskBytes);
  return HWY_MAX(16, bytes / row_bytes / 16 * 16);
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif
