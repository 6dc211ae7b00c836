// SPDX-License-Identifier: Apache-2.0
#include "core/model/context_part.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "core/parallel/collectives.h"

namespace klab {

using torch::Tensor;

int64_t ContextPart::past(int64_t rank) const {
  const int64_t begin = cuts[static_cast<size_t>(rank)];
  return begin - *(std::upper_bound(offsets.begin(), offsets.end(), begin) - 1);
}

std::shared_ptr<const ContextPart> context_part(const std::shared_ptr<RankGroup>& ranks, std::vector<int64_t> offsets) {
  const int64_t tokens = offsets.back(), count = ranks->size();
  if (tokens < count) refuse("{} tokens cannot be cut into {} parts, one per rank", tokens, count);
  std::vector<int64_t> cuts;
  for (int64_t rank = 0; rank <= count; ++rank) cuts.push_back(rank * tokens / count);
  return std::make_shared<const ContextPart>(ContextPart{ranks, std::move(cuts), std::move(offsets)});
}

Sequences sequences_of(const std::shared_ptr<const ContextPart>& part, const torch::Device& device) {
  std::vector<int64_t> own{0};
  for (const int64_t offset : part->offsets) {
    if (offset > part->begin() && offset < part->end()) own.push_back(offset - part->begin());
  }
  own.push_back(part->end() - part->begin());
  return {torch::tensor(own, torch::kLong).to(device), part};
}

namespace {

// The tokens of the row that `rank` needs from earlier ranks.
std::pair<int64_t, int64_t> needed_by(const ContextPart& part, int64_t rank, int64_t most) {
  const int64_t begin = part.cuts[static_cast<size_t>(rank)];
  return {begin - std::min(most, part.past(rank)), begin};
}

// How many of these `owner` has, and the first of them.
std::pair<int64_t, int64_t> held_by(const ContextPart& part, int64_t owner, std::pair<int64_t, int64_t> needed) {
  const int64_t first = std::max(needed.first, part.cuts[static_cast<size_t>(owner)]);
  const int64_t last = std::min(needed.second, part.cuts[static_cast<size_t>(owner) + 1]);
  return {std::max<int64_t>(0, last - first), first};
}

}  // namespace

Tensor past_rows(const ContextPart& part, const Tensor& x, int64_t most) {
  const int64_t own = part.ranks->rank();
  const Tensor rows = x.squeeze(0);
  std::vector<int64_t> sent, received;
  std::vector<Tensor> pieces;
  for (int64_t rank = 0; rank < part.ranks->size(); ++rank) {
    const auto [count, first] = held_by(part, own, needed_by(part, rank, most));
    sent.push_back(count);
    received.push_back(held_by(part, rank, needed_by(part, own, most)).first);
    pieces.push_back(rows.narrow(0, count > 0 ? first - part.begin() : 0, count));
  }
  return exchange(part.ranks, torch::cat(pieces), sent, received).unsqueeze(0);
}

namespace {

constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

// How many rows of `owner` each rank needs, on `owner`; on the others none.
std::vector<int64_t> rows_given(const ContextPart& part, int64_t owner) {
  std::vector<int64_t> counts(static_cast<size_t>(part.ranks->size()), 0);
  for (int64_t rank = owner + 1; part.ranks->rank() == owner && rank < part.ranks->size(); ++rank) {
    counts[static_cast<size_t>(rank)] = held_by(part, owner, needed_by(part, rank, kAll)).first;
  }
  return counts;
}

// How many of them this rank needs, from `owner` alone.
std::vector<int64_t> rows_taken(const ContextPart& part, int64_t owner) {
  std::vector<int64_t> counts(static_cast<size_t>(part.ranks->size()), 0);
  const int64_t own = part.ranks->rank();
  if (owner < own) counts[static_cast<size_t>(owner)] = held_by(part, owner, needed_by(part, own, kAll)).first;
  return counts;
}

}  // namespace

Tensor past_rows_of(const ContextPart& part, const Tensor& x, int64_t owner) {
  const std::vector<int64_t> given = rows_given(part, owner);
  const Tensor rows = x.squeeze(0);
  std::vector<Tensor> pieces{rows.narrow(0, 0, 0)};
  for (const int64_t count : given) pieces.push_back(rows.narrow(0, rows.size(0) - count, count));  // the last ones
  return part.ranks->exchange(torch::cat(pieces), given, rows_taken(part, owner)).unsqueeze(0);
}

void add_gradients_of_past_rows(const ContextPart& part, const Tensor& d_rows, int64_t owner, const Tensor& d_x) {
  const std::vector<int64_t> given = rows_given(part, owner);
  const Tensor sums = part.ranks->exchange(d_rows.squeeze(0).contiguous(), rows_taken(part, owner), given);
  int64_t begin = 0;
  for (const int64_t count : given) {
    d_x.squeeze(0).narrow(0, d_x.size(1) - count, count).add_(sums.narrow(0, begin, count));
    begin += count;
  }
}

Tensor with_past(const Span& span, const Tensor& x, const Tensor& past) {
  return span.start == 0 && past.defined() ? torch::cat({past, span.of(x)}, 1) : span.of(x);
}

Tensor preceding_inputs(const Sequences& sequences, const Tensor& x, int64_t count) {
  const Tensor past = past_rows(*sequences.part, x, count);
  return torch::constant_pad_nd(past, {0, 0, count - past.size(1), 0, 0, sequences.cu_seqlens.numel() - 2});
}

Tensor memory_before(const ContextPart& part, const Tensor& transition, const Tensor& written) {
  const Tensor all = gather(part.ranks, torch::cat({transition, written}, -1));  // [ranks, HV, K, K + V]
  const int64_t K = transition.size(-1), V = written.size(-1);
  // Every rank uses all of `all`, if only an empty part of it, for the backward pass.
  Tensor memory = torch::zeros_like(written) + all.narrow(-1, 0, 0).sum();
  const int64_t begin = part.begin() - part.past();
  for (int64_t rank = 0; rank < part.ranks->rank(); ++rank) {
    const int64_t first = part.cuts[static_cast<size_t>(rank)], last = part.cuts[static_cast<size_t>(rank) + 1];
    if (last <= begin) continue;  // of earlier sequences alone
    const Tensor added = all[rank].narrow(-1, K, V);
    memory = first <= begin ? memory + added : torch::matmul(all[rank].narrow(-1, 0, K), memory) + added;
  }
  return memory;
}

}  // namespace klab
