// SPDX-License-Identifier: Apache-2.0
// Analysis of a recurrence: implicit attention and intermediate states.
#pragma once

#include <torch/types.h>

#include <vector>

#include "kernels/recurrence/recurrence.h"

namespace klab {

/// The implicit attention matrix A [B, HV, T, TW] of a linear mixer, with TW = T * writes: o_t = sum of A[t, s] v_s
/// over the writes s up to token t. For given q, k, g, beta, a and b the recurrence is linear in v, so A is its output
/// for v = identity over time, computed by the kernel in blocks of columns. Ignores initial_state (starts from zeros).
/// Gates may be raw. float32 (float64 for float64). Materialises all of A. Throws UsageError for packed sequences.
torch::Tensor implicit_attention(const kernels::RecurrenceInputs& in);

/// The states after the given numbers of tokens (increasing, in 1..T): [n, B, HV, K, V]. Runs the tokens between two
/// numbers at a time and stores no other states. Throws UsageError for packed sequences and invalid numbers.
torch::Tensor states_after(const kernels::RecurrenceInputs& in, const std::vector<int64_t>& tokens);

/// Effective rank of matrices [.., K, V], as [..] float64 on the CPU: exp of the entropy of the singular values divided
/// by their sum (Roy and Vetterli 2007). n for n equal singular values, 1 for a rank-1 matrix, 0 for a zero matrix.
torch::Tensor effective_rank(const torch::Tensor& matrices);

}  // namespace klab
