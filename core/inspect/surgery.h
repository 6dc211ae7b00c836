// SPDX-License-Identifier: Apache-2.0
// Reading, overwriting and erasing one association in the state of a linear mixer.
//
// A state S [.., K, V] holds the value v = S^T k / |k|^2 under a key k: the v that one write k v^T into an empty state
// leaves there, for a key of any length. The keys need not be orthogonal, so a value read this way also has a part of
// the values of other keys.
#pragma once

#include <torch/types.h>

namespace klab {

/// The values S^T k / |k|^2 under each of N keys [.., N, K] in states S [.., K, V]: [.., N, V]. 0 under a key of zeros.
torch::Tensor values_under(const torch::Tensor& S, const torch::Tensor& keys);

/// The states [.., K, V] in which the value under `key` [.., K] is `value` [.., V]: one step of the delta rule
/// (recurrence_kind.h) with beta = 1 and no decay,
///     S' = S + k (v - S^T k / |k|^2)^T
/// Of all states with that value it is the nearest to S: the change has the smallest Frobenius norm. The value under
/// any other key k' changes by (k . k') / |k'|^2 (v - S^T k / |k|^2). A key of zeros changes nothing.
torch::Tensor overwritten_state(const torch::Tensor& S, const torch::Tensor& key, const torch::Tensor& value);

/// The states in which the value under `key` [.., K] is 0.
torch::Tensor erased_state(const torch::Tensor& S, const torch::Tensor& key);

/// |after - before| / |before|, over all N rows of [.., N, V] together: [..]. The rows count by their length, so that a
/// row near 0 does not make the ratio large. 0 where nothing changed, also if `before` is 0; then infinite for a
/// change.
torch::Tensor relative_change(const torch::Tensor& before, const torch::Tensor& after);

/// The root mean square of the cosines between `key` [.., K] and the N keys `others` [.., N, K]: [..]. K^-0.5 for
/// random directions.
torch::Tensor key_overlap(const torch::Tensor& key, const torch::Tensor& others);

}  // namespace klab
