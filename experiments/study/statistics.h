// SPDX-License-Identifier: Apache-2.0
// Means over seeds and their confidence intervals.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace klab {

/// A mean and the half-width of its 95 % confidence interval.
struct Estimate {
  double mean = 0;
  double half_width = 0;  ///< infinite for a single value
  int64_t count = 0;
  double low() const { return mean - half_width; }
  double high() const { return mean + half_width; }
};

/// Student's t interval for the mean of independent values.
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

}  // namespace klab
