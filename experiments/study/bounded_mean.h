// SPDX-License-Identifier: Apache-2.0
// Means of values in a known range, as accuracies are: intervals without any assumption on their distribution.
//
// Nothing that n values of 100 % show excludes a mixer that fails one seed in n. The mean of n sorted values in [0, 1]
// is therefore bounded by weighting them, and one more value at the end of the range, with the n + 1 gaps between n
// uniform random numbers: quantiles of the weighted mean are the bounds (Gaffke 2005; Learned-Miller and Thomas 2020,
// arXiv:1905.06208). This is a Bayesian bootstrap (Rubin 1981) with a worst case added. For values of 0 and 1 alone the
// bounds are Clopper and Pearson's. No case of lower coverage is known, but a proof is not either. In simulations with
// 3 to 10 seeds, 95 % intervals cover 98 to 100 %: they are wide, the more so for equal values near one end.
#pragma once

#include <cstdint>
#include <vector>

#include "experiments/study/statistics.h"

namespace klab {

/// Random weights that the bounds are computed from.
struct Weights {
  int64_t draws = 19999;
  uint64_t seed = 1;
};

/// The interval of a mean. The percentile bootstrap, which lacks the worst case, has no width for equal values and
/// covers 27 % instead of 95 % for three seeds of which each succeeds with 90 % (verdict_simulation_test.cpp).
Interval mean_interval(const std::vector<double>& values, const Interval& range, double level = 0.95,
                       const Weights& weights = {});

/// The interval of mean(x) - mean(y), from the lower bounds of one and the upper bounds of the other ("melding": Fay,
/// Proschan and Brittain 2015, who show that it agrees with Fisher's test for shares).
Interval mean_difference_interval(const std::vector<double>& x, const std::vector<double>& y, const Interval& range,
                                  double level = 0.95, const Weights& weights = {});

/// The p-value of the hypothesis that mean(x) - mean(y) is not inside (-margin, margin): the larger p of two one-sided
/// tests (Schuirmann 1987). Within 5 points, values of 50 % throughout need 47 seeds each to show it, values of 100 %
/// need 59, as a mixer that fails one seed in 20 shows no failure in 58 seeds with a probability of 5 %.
double p_means_differ(const std::vector<double>& x, const std::vector<double>& y, const Interval& range, double margin,
                      const Weights& weights = {});

/// The same for the mean of differences by seed.
double p_mean_nonzero(const std::vector<double>& differences, const Interval& range, double margin,
                      const Weights& weights = {});

}  // namespace klab
