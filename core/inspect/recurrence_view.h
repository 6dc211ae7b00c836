// What happens inside a recurrence: which tokens an output is made of, and what the state looks like on the way.
#pragma once

#include <torch/types.h>

#include <vector>

#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Tokens [first, first + count) of the same inputs.
kernels::RecurrenceInputs tokens_between(kernels::RecurrenceInputs in, int64_t first, int64_t count);

/// The implicit attention matrix A [B, HV, T, T] of a linear mixer: o_t = sum over s <= t of A[t, s] v_s. Given q, k,
/// g, beta, a and b the recurrence is linear in v, so A is what it gives when v is the identity over time, in blocks of
/// columns: every member of the family by its own kernel. From a state of zeros, whatever initial_state holds. Gates
/// may be raw. float32 (float64 for float64); memory for all of A. Throws UsageError for packed sequences.
torch::Tensor implicit_attention(const kernels::RecurrenceInputs& in);

/// The state after each of these numbers of tokens (rising, from 1 to T): [n, B, HV, K, V]. Only what is between two of
/// them is run at once, and no other state is kept. Throws UsageError for packed sequences and for other numbers.
torch::Tensor states_after(const kernels::RecurrenceInputs& in, const std::vector<int64_t>& tokens);

/// Effective rank of matrices [.., K, V], [..] float64 on the CPU: exp of the entropy of the singular values over their
/// sum (Roy and Vetterli 2007). n for n equal singular values, 1 for a rank of one, 0 for a matrix of zeros.
torch::Tensor effective_rank(const torch::Tensor& matrices);

}  // namespace klab
