// SPDX-License-Identifier: Apache-2.0
// A task multiplies a range of the weight's rows with all rows of x, in groups of kGroup rows.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/cpu/products.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/linear/cpu/products-inl.h"
#include "kernels/linear/cpu/products.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// The rows of x as padded float32, in place or as a copy.
struct Floats {
  const float* data;
  int64_t step;
};

// Uses this thread's scratch memory, so the tasks must not call scratch().
Floats floats_of(const ProductProblem& p) {
  const int64_t K = p.weight.K, step = row_step(K);
  if (p.rows == 1 && p.x.dtype == Dtype::float32 && K % kLanes == 0) return {static_cast<const float*>(p.x.data), 0};
  float* copy = static_cast<float*>(scratch(static_cast<size_t>(p.rows * step) * sizeof(float)));
  for (int64_t r = 0; r < p.rows; ++r) load_row(p.x, p.x.offset(r, 0, 0), K, round_up(K, kLanes), copy + r * step);
  return {copy, step};
}

void multiply(const ProductProblem& p, const Floats& x, int64_t first, int64_t count) {
  HWY_ALIGN float sums[kGroup * kSums];
  const float* rows[kGroup];
  for (int64_t row = 0; row < p.rows; row += kGroup) {
    const int64_t some = HWY_MIN(kGroup, p.rows - row);
    for (int64_t r = 0; r < some; ++r) rows[r] = x.data + (row + r) * x.step;
    dots(p.weight, first, count, rows, some, sums);
    for (int64_t r = 0; r < some; ++r) store_row(sums + r * kSums, count, p.y, p.y.offset(row + r, 0, 0) + first);
  }
}

}  // namespace

void product(const ProductProblem& p) {
  const Floats x = floats_of(p);
  const int64_t per_task = rows_per_task(p.weight), N = p.weight.N;
  run_tasks((N + per_task - 1) / per_task, [&](int64_t task) {
    const int64_t end = HWY_MIN((task + 1) * per_task, N);
    for (int64_t n = task * per_task; n < end; n += kStripe) multiply(p, x, n, HWY_MIN(kStripe, end - n));
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(product);

void product(const ProductProblem& problem) { HWY_DYNAMIC_DISPATCH(product)(problem); }

}  // namespace klab::kernels::cpu
#endif
