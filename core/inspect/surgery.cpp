// SPDX-License-Identifier: Apache-2.0
#include "core/inspect/surgery.h"

#include <torch/nn/module.h>

namespace klab {
namespace {

using torch::Tensor;

// x / divisor, and x where the divisor is 0.
Tensor over(const Tensor& x, const Tensor& divisor) { return x / divisor.masked_fill(divisor.eq(0), 1); }

Tensor products(const Tensor& x, const Tensor& y) { return (x * y).sum(-1, /*keepdim=*/true); }

}  // namespace

Tensor values_under(const Tensor& S, const Tensor& keys) { return over(keys.matmul(S), products(keys, keys)); }

Tensor overwritten_state(const Tensor& S, const Tensor& key, const Tensor& value) {
  const Tensor row = key.unsqueeze(-2);  // [.., 1, K]
  return S + row.transpose(-1, -2).matmul(value.unsqueeze(-2) - values_under(S, row));
}

Tensor erased_state(const Tensor& S, const Tensor& key) {
  std::vector<int64_t> shape = key.sizes().vec();
  shape.back() = S.size(-1);
  return overwritten_state(S, key, torch::zeros(shape, S.options()));
}

Tensor relative_change(const Tensor& before, const Tensor& after) {
  const auto length = [](const Tensor& x) { return x.flatten(-2).norm(2, -1); };
  const Tensor change = length(after - before);
  return (change / length(before)).masked_fill(change.eq(0), 0);
}

Tensor key_overlap(const Tensor& key, const Tensor& others) {
  const Tensor one = key.unsqueeze(-2);
  const Tensor squares = over(products(one, others).square(), products(one, one) * products(others, others));
  return squares.flatten(-2).mean(-1).sqrt();
}

}  // namespace klab
