// SPDX-License-Identifier: Apache-2.0
// Statistics of values over seeds: intervals, exact tests of shares, effect sizes, adjustment for many tests.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace klab {

/// Refuses (UsageError) values that are not finite; `name` is the argument that they were passed as.
void require_finite(const std::vector<double>& values, const char* name);

double mean_of(const std::vector<double>& values);

/// The unbiased variance of at least two values.
double variance_of(const std::vector<double>& values);

/// A closed interval; its ends may be infinite.
struct Interval {
  double low = 0, high = 0;
  bool contains(double value) const { return low <= value && value <= high; }
};

/// A mean and the half-width of its 95 % confidence interval.
struct Estimate {
  double mean = 0;
  double half_width = 0;  ///< infinite for a single value
  int64_t count = 0;
  double low() const { return mean - half_width; }
  double high() const { return mean + half_width; }
};

/// Student's t interval for the mean of independent normal values. Not for shares near 0 or 100 %, where it leaves the
/// range: see mean_interval in bounded_mean.h.
Estimate estimate(const std::vector<double>& values);

/// The difference mean(x) - mean(y) with Welch's interval (1947), which allows different variances.
Estimate estimate_difference(const std::vector<double>& x, const std::vector<double>& y);

/// y = factor x^exponent: a scaling law without an irreducible term, a straight line in log-log space.
struct PowerLaw {
  double factor = 0, exponent = 0;
  double half_width = 0;  ///< of the exponent's 95 % interval; infinite for two points

  double at(double x) const;
};

/// Least squares fit of log y over log x for positive points (x, y) with at least two different x.
PowerLaw fit_power_law(const std::vector<std::pair<double, double>>& points);

/// The 97.5 % quantile of Student's t; `freedom` > 0 need not be whole.
double t_quantile(double freedom);

/// `successes` of `trials` independent seeds.
struct Share {
  int64_t successes = 0, trials = 0;
};

/// The interval of a share that covers with at least this probability for every true share (Clopper and Pearson 1934).
Interval clopper_pearson(const Share& share, double level = 0.95);

/// Fisher's exact test (1935) of equal shares, two-sided: the probability of all tables with the same margins that are
/// no more probable than the observed one (Freeman and Halton 1951; the definition of R and scipy).
double fisher_test(const Share& x, const Share& y);

/// p-values adjusted for their number: rejecting those of at most a rejects a true hypothesis with a probability of at
/// most a, whatever their dependence (Holm 1979).
std::vector<double> holm(const std::vector<double>& p);

/// The median of all differences x_i - y_j (Hodges and Lehmann 1963): a shift that single outliers do not move.
double hodges_lehmann(const std::vector<double>& x, const std::vector<double>& y);

/// P(x > y) - P(x < y) over all pairs, in [-1, 1] (Cliff 1993); (1 + delta) / 2 is the probability of superiority.
double cliffs_delta(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace klab
