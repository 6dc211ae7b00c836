// SPDX-License-Identifier: Apache-2.0
// Approximate orthogonalisation of matrices by a Newton-Schulz iteration.
#pragma once

#include <torch/types.h>

namespace klab {

/// x [n, rows, cols], rows <= cols, n matrices at once: each is divided by its Frobenius norm + 1e-7, then five steps
///     A = X X^T      X <- a X + (b A + c A A) X      (a, b, c) = (3.4445, -4.7750, 2.0315)
/// bring its singular values to about 1 (Jordan et al. 2024, "Muon"; Liu et al. 2025, "Muon is Scalable for LLM
/// Training"). For cols >= 3/2 rows the steps are done on the Gram matrix alone,
///     P = a + b A + c A A      Q <- P Q      A <- P A P      and at the end X <- Q X,
/// which is the same polynomial with fewer operations. May overwrite `x`; the result may share its storage.
torch::Tensor orthogonalised(torch::Tensor x);

}  // namespace klab
