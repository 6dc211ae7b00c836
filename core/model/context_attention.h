// SPDX-License-Identifier: Apache-2.0
// Softmax attention over a rank's part of sequences that are cut over ranks.
#pragma once

#include <torch/types.h>

#include <functional>

#include "core/model/context_part.h"
#include "kernels/attention/attention.h"

namespace klab {

/// Causal attention of the queries of this rank's first sequence, which may have begun on earlier ranks:
/// o [1, first, H, V]. q [1, T, H, K], k [1, T, HK, K] and v [1, T, HK, V] are of all tokens of this rank, the first
/// `first` of them of that sequence. Keys and values of earlier ranks come rank by rank, in the backward pass once
/// more, so that those of one rank are in memory at a time. `seen`, if any, is called with each of these sets of keys
/// and this rank's own. On the CPU, without forget gates. Differentiable; an operation of all ranks.
torch::Tensor context_attention(const std::shared_ptr<const ContextPart>& part, const kernels::AttentionInputs& in,
                                int64_t first, const std::function<void(const kernels::AttentionInputs&)>& seen);

}  // namespace klab
