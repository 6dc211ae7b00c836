// SPDX-License-Identifier: Apache-2.0
// Successive halving: which runs of a sweep are promoted, by the results of the runs before them.
#pragma once

#include <optional>
#include <vector>

#include "experiments/sweep/plan.h"

namespace klab {

enum class Promotion { go_on, stop, wait };

/// The metric of a run at the rungs it has reached, in order.
struct Reports {
  std::vector<double> values;
  bool over = false;  ///< the run has ended and will report no further rungs
};

/// Whether run number `run`, which has reported at rung number `rung`, is promoted: if it is among the best 1/factor
/// (rounded up) of the runs of its group, up to itself in the plan's order, that reported at this rung. `wait` while an
/// earlier run may still report. As in asynchronous successive halving (Li et al. 2020) a run does not wait for the
/// whole group, but promotion follows the plan's order, not completion order: a sweep has the same outcome with any
/// number of workers.
Promotion judge(const Plan& plan, const std::vector<Reports>& reports, size_t run, size_t rung);

}  // namespace klab
