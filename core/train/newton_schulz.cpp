// SPDX-License-Identifier: Apache-2.0
#include "core/train/newton_schulz.h"

#include <utility>

namespace klab {
namespace {

using torch::Tensor;

constexpr int kSteps = 5;
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kSmallestNorm = 1e-7;

// out = b A + c A A.
void quadratic(const Tensor& gram, Tensor& out) { at::baddbmm_out(out, gram, gram, gram, kB, kC); }

Tensor empty_gram(const Tensor& x) { return at::empty({x.size(0), x.size(1), x.size(1)}, x.options()); }

Tensor by_matrix(Tensor x) {
  Tensor gram = empty_gram(x), factor = at::empty_like(gram), next = at::empty_like(x);
  for (int step = 0; step < kSteps; ++step) {
    at::bmm_out(gram, x, x.mT());
    quadratic(gram, factor);
    at::baddbmm_out(next, x, factor, x, /*beta=*/kA);
    std::swap(x, next);
  }
  return x;
}

Tensor by_gram(const Tensor& x) {
  Tensor gram = empty_gram(x), factor = at::empty_like(gram), product = at::empty_like(gram), spare;
  at::bmm_out(gram, x, x.mT());
  for (int step = 0; step < kSteps; ++step) {
    quadratic(gram, factor);
    factor.diagonal(0, 1, 2).add_(kA);
    if (step == 0) {
      product.copy_(factor);
      spare = at::empty_like(gram);
    } else {
      at::bmm_out(spare, factor, product);
      std::swap(spare, product);
    }
    if (step + 1 == kSteps) break;
    at::bmm_out(spare, factor, gram);
    at::bmm_out(gram, spare, factor);
  }
  return at::bmm(product, x);
}

}  // namespace

Tensor orthogonalised(Tensor x) {
  x.div_(at::linalg_vector_norm(x, 2, {1, 2}, /*keepdim=*/true).add_(kSmallestNorm));
  // Per matrix 20 rows^2 cols + 10 rows^3 operations against 4 rows^2 cols + 34 rows^3.
  return 2 * x.size(2) >= 3 * x.size(1) ? by_gram(x) : by_matrix(std::move(x));
}

}  // namespace klab
