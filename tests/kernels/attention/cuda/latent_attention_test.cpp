// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of latent attention, emulated on the host.
#include "kernels/attention/latent_attention.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "kernels/common/cuda/cells.h"

namespace klab {
namespace {

using kernels::Implementation;

TEST(CudaLatentAttention, EveryWorkloadHoldsTheDerivedTolerance) { expect_cells_to_hold("latent_attention"); }

TEST(CudaLatentAttention, BarriersMatter) {
  Workload workload{"a few keys", 1, 2, 3, 1, 40, 32};
  workload.past = 70;
  expect_barriers_to_matter("latent_attention", workload);
}

// The cache is a view of a larger buffer, as in a decoder.
TEST(CudaLatentAttention, ReadsACacheInItsPlace) {
  const EmulatedDevice device;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor room = at::randn({2, 50, 48}).to(dtype), q = at::randn({2, 1, 3, 48}).to(dtype);
    const at::Tensor cache = room.narrow(1, 0, 37);
    const auto read = [&](const at::Tensor& rows) {
      return kernels::latent_attention({q, rows, 40, 0.1}, Implementation::cuda);
    };
    EXPECT_TRUE(at::equal(read(cache), read(cache.clone())));
  }
}

// Large logits: weights are computed relative to the largest one.
TEST(CudaLatentAttention, LargeLogitsDoNotOverflow) {
  const EmulatedDevice device;
  const at::Tensor q = at::full({1, 1, 2, 16}, 100.0), cache = at::randn({1, 300, 16}) * 10;
  const auto on = [&](Implementation implementation) {
    return kernels::latent_attention({q, cache, 16, 1}, implementation);
  };
  EXPECT_TRUE(at::allclose(on(Implementation::cuda), on(Implementation::reference), 1e-4, 1e-4));
}

TEST(CudaLatentAttention, RefusesWhatItCannotTake) {
  const EmulatedDevice device;
  const auto refused = [](const at::Tensor& q, const at::Tensor& cache, int64_t value_dim) {
    EXPECT_THROW(kernels::latent_attention({q, cache, value_dim, 1}, Implementation::cuda), c10::NotImplementedError);
  };
  const at::Tensor q = at::ones({1, 1, 1, 8}), cache = at::ones({1, 2, 8});
  refused(q.to(at::kDouble), cache.to(at::kDouble), 8);
  refused(q, cache.to(at::kHalf), 8);
  refused(q.clone().requires_grad_(), cache, 8);
  refused(at::ones({1, 1, 1, 600}), at::ones({1, 2, 600}), 513);
  refused(at::ones({1, 1, 1, 641}), at::ones({1, 2, 641}), 512);
}

}  // namespace
}  // namespace klab
