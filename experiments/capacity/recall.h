// SPDX-License-Identifier: Apache-2.0
// Writing pairs into states, and reading them back.
#pragma once

#include <compare>
#include <vector>

#include "experiments/capacity/pairs.h"
#include "experiments/capacity/update_rule.h"
#include "kernels/common/implementation.h"

namespace klab {

/// The states after all writes, one per trial and candidate for the gates: [B, G, K, V].
at::Tensor written_states(const UpdateRule& rule, const std::vector<ConstantGates>& candidates, const Pairs& pairs,
                          kernels::Implementation implementation = kernels::Implementation::automatic);

/// The state with the smallest squared error over the pairs that are asked for, of those the one with the smallest
/// norm: [B, 1, K, V]. Exact for up to K independent keys. It knows which writes count, so it has no outdated values
/// and no distractors.
///
/// The optimal linear associative memory of Kohonen and Ruohonen (IEEE Trans. Computers C-22, 1973), S = K^+ V.
at::Tensor least_squares_states(const Pairs& pairs);

/// How well pairs are recovered; ordered by the share, then by the cosine.
struct Recall {
  double share;   ///< of pairs whose value is recovered: S^T k is nearest to it among the vocabulary
  double cosine;  ///< mean cosine between S^T k and the value

  auto operator<=>(const Recall&) const = default;
};

/// For each candidate, the recall of the pairs that are asked for from `states` [B, G, K, V]. The vectors of the
/// vocabulary have unit length, so the nearest one has the largest inner product, for any scale of S.
std::vector<Recall> recall(const at::Tensor& states, const Pairs& pairs);

}  // namespace klab
