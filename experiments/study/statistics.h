// Means over seeds, and how sure one can be of them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace klab {

/// A mean and the half-width of its 95 % interval.
struct Estimate {
  double mean = 0;
  double half_width = 0;  ///< infinite for a single value
  int64_t count = 0;
  double low() const { return mean - half_width; }
  double high() const { return mean + half_width; }
};

/// Student's interval of the mean of independent values.
Estimate estimate(const std::vector<double>& values);

/// Of the mean of x minus the mean of y, which may spread differently (Welch 1947).
Estimate estimate_difference(const std::vector<double>& x, const std::vector<double>& y);

/// y = factor x^exponent: a straight line in log-log, as scaling laws without an irreducible term are.
struct PowerLaw {
  double factor = 0, exponent = 0;
  double half_width = 0;  ///< of the exponent's 95 % interval; infinite for two points

  double at(double x) const;
};

/// Least squares of log y on log x over points (x, y), all positive, with two different x at least.
PowerLaw fit_power_law(const std::vector<std::pair<double, double>>& points);

/// The 97.5 % quantile of Student's t; `freedom` > 0 need not be whole.
double t_quantile(double freedom);

}  // namespace klab
