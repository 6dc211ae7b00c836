// SPDX-License-Identifier: Apache-2.0
// Products under decay within chunks of tokens, composed of ATen operators. Internal to kernels/.
//
// With G the cumulative sum of g inside a chunk, the decay between token j and a later token i is exp(G_i - G_j). This
// difference of two sums, or a split of it around one reference token, loses precision or overflows for strong gates.
// Here no sums are subtracted. The C x C matrix is split recursively into halves: where row i is in the right half of a
// block and column j in its left half, the exponent is
//     (sum of g from the boundary to row i)  +  (sum of g from column j to the boundary),
// two sums of numbers <= 0 over disjoint tokens, each exponentiated into a factor in [0, 1]. So the form is numerically
// stable for any gate, including -infinity, and after a hard reset, and a row does not depend on later tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace klab::kernels {

/// The chunk size C for T tokens, a power of two: the largest among those that pad T the least, which makes fewer
/// sequential steps for the same work.
int64_t chunk_size(int64_t T);

/// [N, T, HV, D] as chunks [N * HV, T / C, C, D], zero-padded at the end, and back.
at::Tensor to_chunks(const at::Tensor& x, int64_t C);
at::Tensor from_chunks(const at::Tensor& x, int64_t N, int64_t T);

/// Cumulative sums over the tokens of a chunk (dimension -2): through token i, before it (exclusive), and after it
/// (exclusive).
at::Tensor sum_through(const at::Tensor& g);
at::Tensor sum_before(const at::Tensor& g);
at::Tensor sum_after(const at::Tensor& g);

/// The decays of one gate g [.., C, 1] between tokens, [.., C, C]: exp(sum of g over (j, i]) for j < i, else 0.
at::Tensor decay_between(const at::Tensor& g);

/// A left operand of decayed products. A row reads the state before or after its own token's decay.
struct DecayedRows {
  at::Tensor x;  ///< [.., C, K]
  bool before_decay = false;
};

/// All products of `rows` with `columns` [.., C, K] under the decay between them, strictly below the diagonal:
///     P[i, j] = sum_d rows[i, d] columns[j, d] exp(sum of g over (j, i])  for j < i, else 0
/// (over (j, i) for rows before their decay). Gives result[r][c], each [.., C, C]. g undefined or [.., C, 1 or K].
using DecayedProducts = std::vector<std::vector<at::Tensor>>;
DecayedProducts decayed_products(const std::vector<DecayedRows>& rows, const std::vector<at::Tensor>& columns,
                                 const at::Tensor& g);

/// Sums of earlier values under the decay of their channels, [.., C, V]:
///     y[i, d] = sum over j < i of weights[i, j] exp(sum of g[., d] over (j, i]) values[j, d]
/// for weights [.., C, C], of which only what is below the diagonal is read, and values and g [.., C, V].
at::Tensor decayed_sums(const at::Tensor& weights, const at::Tensor& values, const at::Tensor& g);

/// Adds the diagonal, which has no decay: sum_d x[i, d] y[i, d].
at::Tensor with_diagonal(const at::Tensor& below, const at::Tensor& x, const at::Tensor& y);

/// The solution of (I + strictly_lower) x = right.
at::Tensor solve_unit_lower(const at::Tensor& strictly_lower, const at::Tensor& right);

}  // namespace klab::kernels
