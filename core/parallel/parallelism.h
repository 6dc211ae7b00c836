// SPDX-License-Identifier: Apache-2.0
// How a run is shared by ranks.
#pragma once

#include <memory>

#include "core/parallel/rank_group.h"

namespace klab {

struct Parallelism {
  std::shared_ptr<RankGroup> ranks = std::make_shared<RankGroup>();    ///< all ranks of the run
  std::shared_ptr<RankGroup> context = std::make_shared<RankGroup>();  ///< the ranks that share this rank's sequences
  bool shard_optimizer = false;                                        ///< ZeRO-1, see GradientOptions::sharded

  /// Ranks of which `context` follow each other share sequences. Throws UsageError unless it divides the ranks.
  static Parallelism of(const std::shared_ptr<RankGroup>& ranks, int64_t context, bool shard_optimizer);

  /// The shares of a batch, and which of them this rank computes, alone or with the others of its context.
  int64_t shares() const { return ranks->size() / context->size(); }
  int64_t share() const { return ranks->rank() / context->size(); }
};

}  // namespace klab
