// SPDX-License-Identifier: Apache-2.0
// How a run is shared by ranks.
#pragma once

#include <memory>

#include "core/parallel/rank_group.h"

namespace klab {

struct Parallelism {
  std::shared_ptr<RankGroup> ranks = std::make_shared<RankGroup>();    ///< all ranks of the run
  std::shared_ptr<RankGroup> context = std::make_shared<RankGroup>();  ///< the ranks that share this rank's sequences
  std::shared_ptr<RankGroup> experts = std::make_shared<RankGroup>();  ///< the ranks that share experts with this one
  bool shard_optimizer = false;                                        ///< ZeRO-1, see GradientSums

  /// `context` ranks that follow each other share sequences, `experts` such ranks share experts. Throws UsageError
  /// unless each divides the number of ranks.
  static Parallelism of(const std::shared_ptr<RankGroup>& ranks, int64_t context, int64_t experts,
                        bool shard_optimizer);

  /// The shares of a batch, and which of them this rank computes, alone or with the others of its context.
  int64_t shares() const { return ranks->size() / context->size(); }
  int64_t share() const { return ranks->rank() / context->size(); }

  /// The ranks with the same experts as this one: all if experts are not shared.
  std::shared_ptr<RankGroup> replicas() const;
};

}  // namespace klab
