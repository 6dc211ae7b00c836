// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/swiglu/cpu/swiglu.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/simd-inl.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/swiglu/cpu/swiglu.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kBlock = 512;      // elements that are converted to float32 at a time: they stay in the L1 cache
constexpr int64_t kTask = 64 << 10;  // elements per task

// Calls work(first, width, padded) for blocks of adjacent elements.
template <typename Work>
void for_blocks(int64_t count, const Work& work) {
  run_tasks((count + kTask - 1) / kTask, [&](int64_t i) {
    const int64_t end = HWY_MIN((i + 1) * kTask, count);
    for (int64_t first = i * kTask; first < end; first += kBlock) {
      const int64_t width = HWY_MIN(kBlock, end - first);
      work(first, width, (width + kLanes - 1) / kLanes * kLanes);
    }
  });
}

// Prefetches the block after the one at element `first`, and the lines of a result, while this block is computed.
HWY_INLINE void prefetch_next(const Rows& rows, int64_t first) { prefetch_row(rows, first + kBlock, kBlock); }

HWY_INLINE void prefetch_result(const MutableRows& rows, int64_t first, int64_t width) {
  const char* to = static_cast<const char*>(rows.data) + first * bytes_of(rows.dtype);
  for (int64_t byte = 0; byte < width * bytes_of(rows.dtype); byte += 64) __builtin_prefetch(to + byte, /*write=*/1);
}

}  // namespace

void swiglu_forward(const SwigluProblem& p, const MutableRows& y) {
  for_blocks(p.count, [&](int64_t first, int64_t width, int64_t padded) {
    HWY_ALIGN_MAX float gate[kBlock], up[kBlock];
    prefetch_next(p.gate, first);
    prefetch_next(p.up, first);
    prefetch_result(y, first, width);
    load_row(p.gate, first, width, padded, gate);
    load_row(p.up, first, width, padded, up);
    for (int64_t i = 0; i < padded; i += kLanes) {
      const Vec z = load(gate + i);
      store(hn::Mul(hn::Mul(z, sigmoid(z)), load(up + i)), up + i);
    }
    store_row(up, width, y, first);
  });
}

void swiglu_backward(const SwigluProblem& p, const Rows& d_y, const MutableRows& d_gate, const MutableRows& d_up) {
  for_blocks(p.count, [&](int64_t first, int64_t width, int64_t padded) {
    HWY_ALIGN_MAX float gate[kBlock], up[kBlock], gradient[kBlock];
    prefetch_next(p.gate, first);
    prefetch_next(p.up, first);
    prefetch_next(d_y, first);
    prefetch_result(d_gate, first, width);
    prefetch_result(d_up, first, width);
    load_row(p.gate, first, width, padded, gate);
    load_row(p.up, first, width, padded, up);
    load_row(d_y, first, width, padded, gradient);
    const Vec one = broadcast(1.0f);
    for (int64_t i = 0; i < padded; i += kLanes) {
      const Vec z = load(gate + i), s = sigmoid(z), g = load(gradient + i);
      const Vec slope = hn::Mul(s, hn::MulAdd(z, hn::Sub(one, s), one));  // (z s)' = s (1 + z (1 - s))
      store(hn::Mul(hn::Mul(g, load(up + i)), slope), gate + i);
      store(hn::Mul(g, hn::Mul(z, s)), up + i);
    }
    store_row(gate, width, d_gate, first);
    store_row(up, width, d_up, first);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(swiglu_forward);
HWY_EXPORT(swiglu_backward);

void swiglu_forward(const SwigluProblem& problem, const MutableRows& y) {
  HWY_DYNAMIC_DISPATCH(swiglu_forward)(problem, y);
}

void swiglu_backward(const SwigluProblem& problem, const Rows& d_y, const MutableRows& d_gate,
                     const MutableRows& d_up) {
  HWY_DYNAMIC_DISPATCH(swiglu_backward)(problem, d_y, d_gate, d_up);
}

}  // namespace klab::kernels::cpu
#endif
