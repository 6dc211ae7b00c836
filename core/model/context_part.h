// SPDX-License-Identifier: Apache-2.0
// Context parallelism: the tokens of sequences cut into consecutive parts, one per rank.
#pragma once

#include <torch/types.h>

#include <limits>
#include <memory>
#include <vector>

#include "core/model/state.h"
#include "core/parallel/rank_group.h"

namespace klab {

/// One row of packed sequences, of which each rank of a group has consecutive tokens. Only the first sequence of a part
/// can have begun on an earlier rank.
struct ContextPart {
  std::shared_ptr<RankGroup> ranks;
  std::vector<int64_t> cuts;     ///< [ranks + 1]: rank r has the tokens [cuts[r], cuts[r + 1]) of the row, at least one
  std::vector<int64_t> offsets;  ///< [N + 1], cu_seqlens of the whole row

  int64_t begin() const { return cuts[static_cast<size_t>(ranks->rank())]; }
  int64_t end() const { return cuts[static_cast<size_t>(ranks->rank()) + 1]; }

  /// The number of tokens of a rank's first sequence that earlier ranks have.
  int64_t past(int64_t rank) const;
  int64_t past() const { return past(ranks->rank()); }
};

/// The part of this rank, of nearly equal parts of a row. Throws UsageError if there are fewer tokens than ranks.
std::shared_ptr<const ContextPart> context_part(const std::shared_ptr<RankGroup>& ranks, std::vector<int64_t> offsets);

/// The sequences of this rank's tokens.
Sequences sequences_of(const std::shared_ptr<const ContextPart>& part, const torch::Device& device);

/// The last rows of x before this rank's part, up to `most`, that belong to its first sequence: [1, rows, ..] of
/// x [1, T, ..] on every rank. Differentiable; an operation of all ranks, see exchange() of
/// core/parallel/collectives.h.
torch::Tensor past_rows(const ContextPart& part, const torch::Tensor& x,
                        int64_t most = std::numeric_limits<int64_t>::max());

/// Of the rows that past_rows() gives those which `owner` has; not differentiable. An operation of all ranks.
torch::Tensor past_rows_of(const ContextPart& part, const torch::Tensor& x, int64_t owner);

/// Its backward pass: adds every rank's gradients d_rows [1, rows, ..] of those rows to d_x [1, T, ..] on `owner`, in
/// the order of ranks. An operation of all ranks.
void add_gradients_of_past_rows(const ContextPart& part, const torch::Tensor& d_rows, int64_t owner,
                                const torch::Tensor& d_x);

/// The keys or values of a span's queries: those of x [1, T, ..], for the part's first sequence after its `past`.
torch::Tensor with_past(const Span& span, const torch::Tensor& x, const torch::Tensor& past);

/// The initial state of a convolution over the `count` preceding inputs, [N, count, D] for the N sequences of a part:
/// those of earlier ranks for the first, zeros for the others.
torch::Tensor preceding_inputs(const Sequences& sequences, const torch::Tensor& x, int64_t count);

/// The memory [HV, K, V] at the begin of this rank's first sequence. Every rank gives the effect of its tokens of its
/// last sequence on the memory, S -> transition S + written: transition [HV, K, K], written [HV, K, V]. Zeros if the
/// sequence begins on this rank. Only these summaries are sent (arXiv 2510.26692 calls the scheme KCP).
torch::Tensor memory_before(const ContextPart& part, const torch::Tensor& transition, const torch::Tensor& written);

}  // namespace klab
