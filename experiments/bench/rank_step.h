// SPDX-License-Identifier: Apache-2.0
// A training step on several ranks: what the sums of gradients cost, and how much of it the backward pass hides.
#pragma once

#include <cstdint>
#include <functional>

#include "core/parallel/parallelism.h"
#include "experiments/bench/training.h"

namespace klab {

/// Milliseconds per step, medians on the slowest rank.
struct RankStepTimes {
  double alone = 0;    ///< without sums over ranks
  double overlap = 0;  ///< gradients are sent in buckets during the backward pass (GradientSums)
  double after = 0;    ///< gradients are sent after the backward pass, all at once
  double reducer = 0;  ///< torch's Reducer, as in DistributedDataParallel: buckets and all-reduce
  double sending = 0;  ///< sums alone, without a step
  double sent = 0;     ///< bytes per step, the mean over ranks

  /// The share of the time of sending that is not added to the step.
  double hidden() const { return 1 - (overlap - alone) / sending; }
  double hidden_by_reducer() const { return 1 - (reducer - alone) / sending; }
};

/// Times forward and backward passes of `workload` on every rank, `workload.tokens` tokens on each, for about
/// `seconds`. An operation of all ranks, of which there must be several that share neither sequences nor experts.
RankStepTimes measure_rank_step(const TrainingWorkload& workload, const Parallelism& parallelism, double seconds);

}  // namespace klab
