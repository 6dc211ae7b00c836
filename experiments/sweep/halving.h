// Which runs of a sweep go on, by what all runs before them reported.
#pragma once

#include <optional>
#include <vector>

#include "experiments/sweep/plan.h"

namespace klab {

enum class Verdict { go_on, stop, wait };

/// What a run said at the steps of the halving, in their order: fewer when it has not got so far.
struct Reports {
  std::vector<double> values;
  bool over = false;  ///< it will say no more
};

/// Whether run number `run`, which has reported at step number `rung`, goes on: when it is among the best 1/factor
/// (rounded up) of the runs of its group up to itself in the plan that reported there. `wait` while one before it may
/// still report. As in asynchronous successive halving (Li et al. 2020) nobody waits for the whole group, but what
/// counts is the plan's order, not who was faster: the same sweep has the same outcome on any number of workers.
Verdict judge(const Plan& plan, const std::vector<Reports>& reports, size_t run, size_t rung);

}  // namespace klab
