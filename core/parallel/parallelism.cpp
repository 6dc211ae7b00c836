// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/parallelism.h"

#include <fmt/format.h>

#include <numeric>

#include "core/base/config.h"

namespace klab {

Parallelism Parallelism::of(const std::shared_ptr<RankGroup>& ranks, int64_t context, bool shard_optimizer) {
  require(ranks->size() % context == 0, "--cp", fmt::format("{}", context),
          fmt::format("must divide the {} processes", ranks->size()));
  std::vector<int64_t> own(static_cast<size_t>(context));
  std::iota(own.begin(), own.end(), ranks->rank() / context * context);
  const auto group = ranks->of_ranks(own, fmt::format("context/{}", own[0]));
  return {ranks, group, shard_optimizer};
}

}  // namespace klab
