// SPDX-License-Identifier: Apache-2.0
// Float32 vectors: loads and stores of rows in any dtype, elementary functions, horizontal sums.
//
// Included once per instruction set (Highway's foreach_target.h), hence the toggled guard.
#if defined(KLAB_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KLAB_KERNELS_CPU_SIMD_INL_H_
#undef KLAB_KERNELS_CPU_SIMD_INL_H_
#else
#define KLAB_KERNELS_CPU_SIMD_INL_H_
#endif

#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/common/rows.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::ScalableTag<float> kFloats;
using Vec = hn::Vec<decltype(kFloats)>;
using Vec128 = hn::Vec<hn::Full128<float>>;
constexpr int64_t kLanes = hn::MaxLanes(kFloats);
/// Vectors that a loop can hold per row without spilling registers.
constexpr int kRowVecs = HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON ? 8 : 4;

HWY_INLINE Vec load(const float* p) { return hn::Load(kFloats, p); }
HWY_INLINE void store(Vec x, float* p) { hn::Store(x, kFloats, p); }
HWY_INLINE Vec broadcast(float x) { return hn::Set(kFloats, x); }
HWY_INLINE Vec zero() { return hn::Zero(kFloats); }

// --- Elementary functions ---------------------------------------------------------------------------------------

// e^x for x that do not overflow; 0 for -infinity; NaN for NaN.
HWY_INLINE Vec exp(Vec x) { return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(kFloats, x)); }

// 1 / (1 + e^-x), computed from e^-|x|, so that it neither overflows nor loses precision for large |x|.
HWY_INLINE Vec sigmoid(Vec x) {
  const Vec small = exp(hn::Neg(hn::Abs(x)));
  const Vec one = broadcast(1.0f);
  return hn::Div(hn::IfThenElse(hn::Ge(x, zero()), one, small), hn::Add(one, small));
}

// log(1 + e^x).
HWY_INLINE Vec softplus(Vec x) { return hn::Add(hn::Max(x, zero()), hn::Log1p(kFloats, exp(hn::Neg(hn::Abs(x))))); }

// --- Sums over lanes --------------------------------------------------------------------------------------------

HWY_INLINE Vec128 sum_of_blocks(hn::Vec<hn::Full128<float>> x) { return x; }
#if HWY_MAX_BYTES >= 32
HWY_INLINE Vec128 sum_of_blocks(hn::Vec<hn::Full256<float>> x) {
  const hn::Full128<float> half;
  return hn::Add(hn::LowerHalf(half, x), hn::UpperHalf(half, x));
}
#endif
#if HWY_MAX_BYTES >= 64
HWY_INLINE Vec128 sum_of_blocks(hn::Vec<hn::Full512<float>> x) {
  const hn::Full256<float> half;
  return sum_of_blocks(hn::Add(hn::LowerHalf(half, x), hn::UpperHalf(half, x)));
}
#endif

// Stores the sums over the lanes of a, b, c, d in out[0..4), for a third of the cost of four separate sums.
HWY_INLINE void store_sums(Vec a, Vec b, Vec c, Vec d, float* out) {
  const hn::Repartition<double, decltype(kFloats)> pairs;
  const Vec ab = hn::Add(hn::InterleaveLower(kFloats, a, b), hn::InterleaveUpper(kFloats, a, b));
  const Vec cd = hn::Add(hn::InterleaveLower(kFloats, c, d), hn::InterleaveUpper(kFloats, c, d));
  const Vec low = hn::BitCast(kFloats, hn::InterleaveLower(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd)));
  const Vec high = hn::BitCast(kFloats, hn::InterleaveUpper(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd)));
  hn::StoreU(sum_of_blocks(hn::Add(low, high)), hn::Full128<float>(), out);
}

HWY_INLINE float sum(Vec x) { return hn::GetLane(hn::SumOfLanes(kFloats, x)); }

// --- Rows in other dtypes ---------------------------------------------------------------------------------------

constexpr hn::Rebind<uint16_t, decltype(kFloats)> kHalves;

HWY_INLINE Vec widen(const uint16_t* p, Dtype dtype) {
  const hn::Rebind<hwy::float16_t, decltype(kFloats)> float16;
  const hn::RebindToUnsigned<decltype(kFloats)> bits;
  const auto half = hn::LoadU(kHalves, p);
  if (dtype == Dtype::float16) return hn::PromoteTo(kFloats, hn::BitCast(float16, half));
  return hn::BitCast(kFloats, hn::ShiftLeft<16>(hn::PromoteTo(bits, half)));
}

// To float16, to nearest, ties to even. On SSSE3, which has no such instruction, Highway's conversion would truncate.
HWY_INLINE hn::Vec<decltype(kHalves)> to_float16(Vec x) {
#if HWY_TARGET == HWY_SSSE3
  const hn::RebindToSigned<decltype(kFloats)> d;
  const auto constant = [&](int32_t value) { return hn::Set(d, value); };
  const auto sign = hn::And(hn::BitCast(d, x), constant(INT32_MIN));
  const auto magnitude = hn::Xor(hn::BitCast(d, x), sign);
  // Normal numbers: change the exponent bias and round off 13 bits; a carry out of the mantissa into the exponent is
  // correct.
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), constant(1));
  const auto normal = hn::ShiftRight<13>(hn::Add(hn::Add(magnitude, constant(((15 - 127) * (1 << 23)) + 0xFFF)), odd));
  // Subnormal numbers: adding 0.5 leaves the rounded result in the low bits of the mantissa.
  const auto subnormal = hn::Sub(hn::BitCast(d, hn::Add(hn::BitCast(kFloats, magnitude), broadcast(0.5f))),
                                 hn::BitCast(d, broadcast(0.5f)));
  const auto special = hn::IfThenElse(hn::Gt(magnitude, constant(0x7F800000)), constant(0x7E00), constant(0x7C00));
  auto result = hn::IfThenElse(hn::Lt(magnitude, constant(0x38800000)), subnormal, normal);
  result = hn::IfThenElse(hn::Lt(magnitude, constant(0x47800000)), result, special);
  const hn::RebindToUnsigned<decltype(kFloats)> bits;
  result = hn::Or(result, hn::BitCast(d, hn::ShiftRight<16>(hn::BitCast(bits, sign))));
  return hn::DemoteTo(kHalves, result);
#else
  const hn::Rebind<hwy::float16_t, decltype(kFloats)> float16;
  return hn::BitCast(kHalves, hn::DemoteTo(float16, x));
#endif
}

// Stores x in a 16-bit dtype, rounded to nearest, ties to even; NaN stays NaN.
HWY_INLINE void narrow(Vec x, Dtype dtype, uint16_t* p) {
  if (dtype == Dtype::float16) return hn::StoreU(to_float16(x), kHalves, p);
  const hn::RebindToUnsigned<decltype(kFloats)> unsigned_bits;
  const hn::RebindToSigned<decltype(kFloats)> signed_bits;
  const auto bits = hn::BitCast(unsigned_bits, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(unsigned_bits, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(unsigned_bits, 0x7FFF))));
  const auto quiet_nan = hn::Set(unsigned_bits, 0x7FC0);
  const auto result = hn::IfThenElse(hn::RebindMask(unsigned_bits, hn::IsNaN(x)), quiet_nan, rounded);
  hn::StoreU(hn::DemoteTo(kHalves, hn::BitCast(signed_bits, result)), kHalves, p);
}

HWY_INLINE int64_t bytes_of(Dtype dtype) { return dtype == Dtype::float32 ? 4 : 2; }

// Loads the row of `width` elements at element `offset` as floats, zero-padded to `padded` (a multiple of kLanes).
HWY_INLINE void load_row(const Rows& rows, int64_t offset, int64_t width, int64_t padded, float* HWY_RESTRICT to) {
  const char* from = static_cast<const char*>(rows.data) + offset * bytes_of(rows.dtype);
  const bool wide = rows.dtype == Dtype::float32;
  int64_t i = 0;
  if (wide) {
    for (; i + kLanes <= width; i += kLanes) {
      store(hn::LoadU(kFloats, reinterpret_cast<const float*>(from) + i), to + i);
    }
  } else {
    for (; i + kLanes <= width; i += kLanes) {
      store(widen(reinterpret_cast<const uint16_t*>(from) + i, rows.dtype), to + i);
    }
  }
  if (i < width) {  // through a buffer, so as not to read beyond the row
    HWY_ALIGN float rest[kLanes] = {};
    std::memcpy(rest, from + i * bytes_of(rows.dtype), static_cast<size_t>((width - i) * bytes_of(rows.dtype)));
    store(wide ? load(rest) : widen(reinterpret_cast<const uint16_t*>(rest), rows.dtype), to + i);
    i += kLanes;
  }
  for (; i < padded; i += kLanes) store(zero(), to + i);
}

HWY_INLINE void store_row(const float* HWY_RESTRICT from, int64_t width, const MutableRows& rows, int64_t offset) {
  char* to = static_cast<char*>(rows.data) + offset * bytes_of(rows.dtype);
  const bool wide = rows.dtype == Dtype::float32;
  int64_t i = 0;
  if (wide) {
    for (; i + kLanes <= width; i += kLanes) hn::StoreU(load(from + i), kFloats, reinterpret_cast<float*>(to) + i);
  } else {
    for (; i + kLanes <= width; i += kLanes) {
      narrow(load(from + i), rows.dtype, reinterpret_cast<uint16_t*>(to) + i);
    }
  }
  if (i < width) {
    HWY_ALIGN float rest[kLanes];
    if (wide) {
      store(load(from + i), rest);
    } else {
      narrow(load(from + i), rows.dtype, reinterpret_cast<uint16_t*>(rest));
    }
    std::memcpy(to + i * bytes_of(rows.dtype), rest, static_cast<size_t>((width - i) * bytes_of(rows.dtype)));
  }
}

HWY_INLINE float load_one(const Rows& rows, int64_t offset) {
  HWY_ALIGN float x[kLanes];
  load_row(rows, offset, 1, kLanes, x);
  return x[0];
}

HWY_INLINE void store_one(float x, const MutableRows& rows, int64_t offset) {
  HWY_ALIGN float row[kLanes] = {x};
  store_row(row, 1, rows, offset);
}

HWY_INLINE void prefetch_row(const Rows& rows, int64_t offset, int64_t width) {
  const char* from = static_cast<const char*>(rows.data) + offset * bytes_of(rows.dtype);
  for (int64_t byte = 0; byte < width * bytes_of(rows.dtype); byte += 64) hwy::Prefetch(from + byte);
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif
