// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/parallelism.h"

#include <fmt/format.h>

#include <numeric>

#include "core/base/config.h"

namespace klab {
namespace {

// The `count` ranks that follow each other and include this one. Every rank makes a group for the same parts.
std::shared_ptr<RankGroup> neighbours(const RankGroup& ranks, int64_t count, const char* flag, const char* name) {
  require(ranks.size() % count == 0, flag, fmt::format("{}", count),
          fmt::format("must divide the {} processes", ranks.size()));
  std::vector<int64_t> own(static_cast<size_t>(count));
  std::iota(own.begin(), own.end(), ranks.rank() / count * count);
  return ranks.of_ranks(own, fmt::format("{}/{}", name, own[0]));
}

}  // namespace

Parallelism Parallelism::of(const std::shared_ptr<RankGroup>& ranks, int64_t context, int64_t experts,
                            bool shard_optimizer) {
  Parallelism parallelism;
  parallelism.ranks = ranks;
  parallelism.context = neighbours(*ranks, context, "--cp", "context");
  parallelism.experts = neighbours(*ranks, experts, "--ep", "experts");
  parallelism.shard_optimizer = shard_optimizer;
  return parallelism;
}

std::shared_ptr<RankGroup> Parallelism::replicas() const {
  if (experts->alone()) return ranks;
  std::vector<int64_t> same;
  for (int64_t rank = experts->rank(); rank < ranks->size(); rank += experts->size()) same.push_back(rank);
  return ranks->of_ranks(same, fmt::format("replicas/{}", same[0]));
}

}  // namespace klab
