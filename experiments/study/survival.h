// SPDX-License-Identifier: Apache-2.0
// Times until an event, for example steps until a task is solved, of which some were not reached.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "experiments/study/permutation.h"

namespace klab {

/// The event was reached at `value`, or had not been when observation ended there (censored).
struct Time {
  double value = 0;
  bool reached = false;
};

/// The estimate from this time to the next step.
struct SurvivalStep {
  double time = 0;
  int64_t at_risk = 0, reached = 0;  ///< just before the time, and at it
  double survival = 1;               ///< P(T > time)
  Interval interval;                 ///< of the survival at this time
};

/// The product-limit estimate (Kaplan and Meier 1958), with a step at each distinct time that was reached. Runs
/// censored at such a time count as at risk. The pointwise intervals are beta product intervals (Fay, Brittain and
/// Proschan 2013, by the method of moments): Clopper and Pearson's without censoring, where Greenwood's cover too
/// little for few runs.
std::vector<SurvivalStep> kaplan_meier(const std::vector<Time>& times, double level = 0.95);

/// The first time at which survival is at most one half; none if that was not reached.
std::optional<double> median_time(const std::vector<Time>& times);

/// Times cut at a horizon up to which every run was observed: the earliest censored time, or else the last time. Their
/// means are the restricted mean survival times (Royston and Parmar 2013).
struct RestrictedTimes {
  std::vector<double> x, y;
  double horizon = 0;
};
RestrictedTimes restricted_times(const std::vector<Time>& x, const std::vector<Time>& y);

/// The log-rank scores of two samples (Peto and Peto 1972): the pooled cumulative hazard at a time, less one if it was
/// reached. Later times score higher; the sum over a sample is the number of events expected in it less that observed.
struct LogRankScores {
  std::vector<double> x, y;
};
LogRankScores log_rank_scores(const std::vector<Time>& x, const std::vector<Time>& y);

/// The log-rank test of equal hazards (Mantel 1966) as a permutation test of the scores, exact for few runs where the
/// chi-squared approximation is not, if both samples are censored alike, as by one training budget. p_greater is small
/// where x takes longer.
PermutationTest log_rank_test(const std::vector<Time>& x, const std::vector<Time>& y, const Arrangements& how = {});

}  // namespace klab
