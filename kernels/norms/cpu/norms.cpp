// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norms/cpu/norms.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/simd-inl.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/norms/cpu/norms.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Zero-padded float32 rows, in one block of scratch memory.
struct Space {
  int64_t padded;
  float *weight, *x, *gate, *y, *d_weight;
  explicit Space(int64_t D) : padded((D + kLanes - 1) / kLanes * kLanes) {
    const int64_t step = (padded + 31) / 32 * 32;
    weight = static_cast<float*>(scratch(static_cast<size_t>(5 * step) * sizeof(float)));
    x = weight + step;
    gate = x + step;
    y = gate + step;
    d_weight = y + step;
  }
};

HWY_INLINE Vec activate(GateActivation activation, Vec gate) {
  const Vec s = sigmoid(gate);
  return activation == GateActivation::swish ? hn::Mul(gate, s) : s;
}

// 1 / sqrt(mean(x^2) + eps).
HWY_INLINE float scale_of(const NormProblem& p, const Space& space) {
  Vec squares = zero();
  for (int64_t d = 0; d < space.padded; d += kLanes) {
    squares = hn::MulAdd(load(space.x + d), load(space.x + d), squares);
  }
  return 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(p.D) + p.eps);
}

HWY_INLINE void load_weight(const NormProblem& p, Space& space) {
  std::memset(space.weight, 0, static_cast<size_t>(space.padded) * sizeof(float));
  std::memcpy(space.weight, p.weight, static_cast<size_t>(p.D) * sizeof(float));
}

HWY_INLINE void load_rows(const NormProblem& p, int64_t row, Space& space) {
  load_row(p.x, p.x.offset(row, 0, 0), p.D, space.padded, space.x);
  if (p.gate) load_row(p.gate, p.gate.offset(row, 0, 0), p.D, space.padded, space.gate);
}

void forward_rows(const NormProblem& p, int64_t first, int64_t last, const MutableRows& y) {
  Space space(p.D);
  load_weight(p, space);
  for (int64_t row = first; row < last; ++row) {
    load_rows(p, row, space);
    const Vec scale = broadcast(scale_of(p, space));
    for (int64_t d = 0; d < space.padded; d += kLanes) {
      Vec result = hn::Mul(hn::Mul(load(space.x + d), scale), load(space.weight + d));
      if (p.gate) result = hn::Mul(result, activate(p.activation, load(space.gate + d)));
      store(result, space.y + d);
    }
    store_row(space.y, p.D, y, y.offset(row, 0, 0));
  }
}

void backward_rows(const NormProblem& p, int64_t first, int64_t last, const Rows& d_y, const NormGradients& out,
                   float* d_weight) {
  Space space(p.D);
  load_weight(p, space);
  std::memset(space.d_weight, 0, static_cast<size_t>(space.padded) * sizeof(float));
  const Vec one = broadcast(1.0f);
  for (int64_t row = first; row < last; ++row) {
    load_rows(p, row, space);
    load_row(d_y, d_y.offset(row, 0, 0), p.D, space.padded, space.y);
    const Vec scale = broadcast(scale_of(p, space));
    Vec along = zero();  // dot product of the normalised x and its gradient
    for (int64_t d = 0; d < space.padded; d += kLanes) {
      const Vec normed = hn::Mul(load(space.x + d), scale), weight = load(space.weight + d);
      Vec gradient = load(space.y + d);
      if (p.gate) {
        const Vec z = load(space.gate + d), s = sigmoid(z);
        const bool swish = p.activation == GateActivation::swish;
        const Vec slope = swish ? hn::Mul(s, hn::MulAdd(z, hn::Sub(one, s), one)) : hn::Mul(s, hn::Sub(one, s));
        store(hn::Mul(hn::Mul(gradient, hn::Mul(normed, weight)), slope), space.gate + d);
        gradient = hn::Mul(gradient, swish ? hn::Mul(z, s) : s);
      }
      store(hn::MulAdd(gradient, normed, load(space.d_weight + d)), space.d_weight + d);
      gradient = hn::Mul(gradient, weight);
      along = hn::MulAdd(gradient, normed, along);
      store(gradient, space.y + d);
    }
    const Vec mean = broadcast(sum(along) / static_cast<float>(p.D));
    for (int64_t d = 0; d < space.padded; d += kLanes) {
      const Vec normed = hn::Mul(load(space.x + d), scale);
      store(hn::Mul(scale, hn::NegMulAdd(normed, mean, load(space.y + d))), space.y + d);
    }
    store_row(space.y, p.D, out.x, out.x.offset(row, 0, 0));
    if (out.gate) store_row(space.gate, p.D, out.gate, out.gate.offset(row, 0, 0));
  }
  std::memcpy(d_weight, space.d_weight, static_cast<size_t>(p.D) * sizeof(float));
}

}  // namespace

void gated_rms_norm_forward(const NormProblem& p, const MutableRows& y) {
  run_tasks((p.rows + kNormRows - 1) / kNormRows,
            [&](int64_t i) { forward_rows(p, i * kNormRows, HWY_MIN((i + 1) * kNormRows, p.rows), y); });
}

void gated_rms_norm_backward(const NormProblem& p, const Rows& d_y, const NormGradients& out) {
  run_tasks((p.rows + kNormRows - 1) / kNormRows, [&](int64_t i) {
    backward_rows(p, i * kNormRows, HWY_MIN((i + 1) * kNormRows, p.rows), d_y, out, out.weight + i * p.D);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(gated_rms_norm_forward);
HWY_EXPORT(gated_rms_norm_backward);

void gated_rms_norm_forward(const NormProblem& problem, const MutableRows& y) {
  HWY_DYNAMIC_DISPATCH(gated_rms_norm_forward)(problem, y);
}

void gated_rms_norm_backward(const NormProblem& problem, const Rows& d_y, const NormGradients& gradients) {
  HWY_DYNAMIC_DISPATCH(gated_rms_norm_backward)(problem, d_y, gradients);
}

}  // namespace klab::kernels::cpu
#endif
