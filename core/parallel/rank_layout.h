// SPDX-License-Identifier: Apache-2.0
// How many ranks share what: Parallelism in numbers, for predictions.
#pragma once

#include <cstdint>

namespace klab {

struct RankLayout {
  int64_t ranks = 1;
  int64_t context = 1;  ///< ranks that share each sequence
  int64_t experts = 1;  ///< ranks that share experts
  bool zero = false;    ///< ZeRO-1
  bool shard_checkpoints = false;

  /// Throws UsageError unless `context` and `experts` divide `ranks`.
  void validate() const;

  int64_t shares() const { return ranks / context; }    ///< of a batch
  int64_t replicas() const { return ranks / experts; }  ///< ranks with the same experts

  /// The parts into which a rank's share of a batch is cut: all shares together have at least `accumulate`.
  int64_t own_parts(int64_t accumulate) const { return (accumulate - 1) / shares() + 1; }
};

}  // namespace klab
