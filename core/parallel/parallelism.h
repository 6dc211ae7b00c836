// SPDX-License-Identifier: Apache-2.0
// How a run is shared by ranks.
#pragma once

#include <memory>

#include "core/parallel/rank_group.h"
#include "core/parallel/rank_layout.h"

namespace klab {

struct Parallelism {
  std::shared_ptr<RankGroup> ranks = std::make_shared<RankGroup>();    ///< all ranks of the run
  std::shared_ptr<RankGroup> context = std::make_shared<RankGroup>();  ///< the ranks that share this rank's sequences
  std::shared_ptr<RankGroup> experts = std::make_shared<RankGroup>();  ///< the ranks that share experts with this one
  std::shared_ptr<RankGroup> expert_replicas = nullptr;                ///< of this rank's experts; null: all ranks
  bool shard_optimizer = false;                                        ///< ZeRO-1, see GradientSums
  bool shard_checkpoints = false;                                      ///< see save_checkpoint()

  /// Ranks that share sequences, or experts, follow each other. Throws UsageError like layout.validate().
  static Parallelism of(const std::shared_ptr<RankGroup>& ranks, const RankLayout& layout);

  RankLayout layout() const {
    return {ranks->size(), context->size(), experts->size(), shard_optimizer, shard_checkpoints};
  }

  /// The shares of a batch, and which of them this rank computes, alone or with the others of its context.
  int64_t shares() const { return layout().shares(); }
  int64_t share() const { return ranks->rank() / context->size(); }

  /// The ranks with the same experts as this one.
  const std::shared_ptr<RankGroup>& replicas() const { return expert_replicas ? expert_replicas : ranks; }
};

}  // namespace klab
