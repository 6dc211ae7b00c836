// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/parallelism.h"

#include <fmt/format.h>

#include <numeric>

namespace klab {
namespace {

// The `count` ranks that follow each other and include this one. Every rank makes a group for the same parts.
std::shared_ptr<RankGroup> neighbours(const RankGroup& ranks, int64_t count, const char* name) {
  std::vector<int64_t> own(static_cast<size_t>(count));
  std::iota(own.begin(), own.end(), ranks.rank() / count * count);
  return ranks.of_ranks(own, fmt::format("{}/{}", name, own[0]));
}

}  // namespace

Parallelism Parallelism::of(const std::shared_ptr<RankGroup>& ranks, const RankLayout& layout) {
  layout.validate();
  Parallelism parallelism{ranks,
                          neighbours(*ranks, layout.context, "context"),
                          neighbours(*ranks, layout.experts, "experts"),
                          nullptr,
                          layout.zero,
                          layout.shard_checkpoints};
  if (layout.experts == 1) return parallelism;
  std::vector<int64_t> same;
  for (int64_t rank = ranks->rank() % layout.experts; rank < layout.ranks; rank += layout.experts) same.push_back(rank);
  parallelism.expert_replicas = ranks->of_ranks(same, fmt::format("replicas/{}", same[0]));
  return parallelism;
}

}  // namespace klab
