// Dot products of a few rows of float32 with rows of a weight of any type, the weight read once.
//
// Each dot product is one vector of partial sums along K and one fixed sum over its lanes, whatever the tile that it is
// computed in: so tiles may follow the number of rows, and tasks the number of threads, without changing a bit.
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

constexpr int64_t kStripe = 64;          // rows of the weight whose results are gathered before they go on
constexpr int64_t kGroup = 16;           // rows of x that share one pass over a stripe
constexpr int64_t kSums = kStripe + 16;  // from row to row of the results: sums are stored four at a time
constexpr int64_t kPartFloats = 8192;    // of all rows of x: a part of K that stays in the first-level cache
constexpr int64_t kLeadBytes = 8192;     // how far ahead of its use the weight is asked for, at least
constexpr int64_t kLine = 64;            // of a cache, in bytes
// Of the weight, per task: long streams are read faster, but small matrices are to keep all threads busy too.
constexpr int64_t kLeastTaskBytes = 64 * 1024, kMostTaskBytes = 256 * 1024, kTasksPerThread = 4;

constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// From row to row of a float32 copy of rows of `width`: whole vectors, but no power of two, so that the rows of a tile
// do not share the sets of the first-level cache.
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

// A part of K that a tile covers.
struct Part {
  int64_t length;
  bool first, last;  // of K's parts
};

// Lines of the weight that are needed later, some of which each step of a tile asks for: the processor's own
// prefetching does not keep up with rows that end after one or two thousand bytes.
struct Ahead {
  const char* at = nullptr;
  int64_t lines = 1;             // 1, 2 or 4, of each step over one line of a row
  int64_t apart = 0, shift = 0;  // bytes from one of them to the next, and from step to step
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

// x_r . w_c for kRows rows and kWeights (2 or 4) rows of the weight, over one part of K. Partial sums wait in `carry`
// from part to part; at the last one four numbers are written per row of `out`, those beyond kWeights of no meaning.
// x is zero from K up to whole vectors.
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
  if (k < part.length) {  // through a buffer: nothing beyond the row may be read
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

// A tile for `rows` <= kRows rows of x and four of the weight: the last row of x stands for those that are missing.
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

  // What follows the four rows from n on in the part of `length` from k on; `passes` tiles share the asking.
  Ahead ahead(int64_t n, int64_t k, int64_t length, int64_t passes) const {
    constexpr int64_t kSize = static_cast<int64_t>(sizeof(T));
    const int64_t later = n + round_up((kLeadBytes + length * kSize - 1) / (length * kSize), 4);
    const T* next = at(later, k);
    if (later >= count) next = k + length < K ? at(later - count, k + length) : at(later, 0);
    Ahead ahead{reinterpret_cast<const char*>(next), passes == 1 ? 4 : passes == 2 ? 2 : 1};
    const bool in_one_piece = length == K && step == K;  // in the order of memory, which reads best
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
      for (int64_t c = 0; c < 4; ++c) w[c] = stripe.at(HWY_MIN(n + c, count - 1), k);  // the last row for missing ones
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

// out[r kSums + n] = x_r . weight_(first + n) for n < count <= kStripe and rows <= kGroup; x_r as dot_tile() wants it.
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

// How many of a weight's rows one task takes: whole vectors of results. The cut changes no bit.
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
