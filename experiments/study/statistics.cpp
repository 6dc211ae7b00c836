// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/statistics.h"

#include <cmath>
#include <limits>
#include <numeric>

namespace klab {
namespace {

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// The squared standard error of the mean.
double squared_error(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  const auto n = static_cast<double>(values.size());
  return sum / (n - 1) / n;
}

// P(|T| < t), the integral of the density by Simpson's rule.
double two_sided(double t, double freedom) {
  const double scale =
      std::exp(std::lgamma((freedom + 1) / 2) - std::lgamma(freedom / 2)) / std::sqrt(freedom * std::acos(-1.0));
  const auto density = [&](double x) { return scale * std::pow(1 + x * x / freedom, -(freedom + 1) / 2); };
  constexpr int kPieces = 2000;
  const double h = t / kPieces;
  double sum = density(0) + density(t);
  for (int i = 1; i < kPieces; ++i) sum += density(i * h) * (i % 2 == 0 ? 2 : 4);
  return 2 * sum * h / 3;
}

}  // namespace

double t_quantile(double freedom) {
  double low = 0, high = 1;
  while (two_sided(high, freedom) < 0.95) high *= 2;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (two_sided(middle, freedom) < 0.95 ? low : high) = middle;
  }
  return (low + high) / 2;
}

Estimate estimate(const std::vector<double>& values) {
  Estimate result{mean_of(values), std::numeric_limits<double>::infinity(), static_cast<int64_t>(values.size())};
  if (values.size() > 1) {
    result.half_width = t_quantile(static_cast<double>(values.size() - 1)) * std::sqrt(squared_error(values));
  }
  return result;
}

Estimate estimate_difference(const std::vector<double>& x, const std::vector<double>& y) {
  Estimate result{mean_of(x) - mean_of(y), std::numeric_limits<double>::infinity(),
                  static_cast<int64_t>(std::min(x.size(), y.size()))};
  if (x.size() < 2 || y.size() < 2) return result;
  const double a = squared_error(x), b = squared_error(y);
  if (a + b == 0) {  // all values are equal
    result.half_width = 0;
    return result;
  }
  const double freedom =
      (a + b) * (a + b) / (a * a / static_cast<double>(x.size() - 1) + b * b / static_cast<double>(y.size() - 1));
  result.half_width = t_quantile(freedom) * std::sqrt(a + b);
  return result;
}

double PowerLaw::at(double x) const { return factor * std::pow(x, exponent); }

PowerLaw fit_power_law(const std::vector<std::pair<double, double>>& points) {
  const auto n = static_cast<double>(points.size());
  double mean_x = 0, mean_y = 0;
  for (const auto& [x, y] : points) {
    mean_x += std::log(x) / n;
    mean_y += std::log(y) / n;
  }
  double xx = 0, xy = 0;
  for (const auto& [x, y] : points) {
    xx += (std::log(x) - mean_x) * (std::log(x) - mean_x);
    xy += (std::log(x) - mean_x) * (std::log(y) - mean_y);
  }
  PowerLaw law;
  law.exponent = xy / xx;
  law.factor = std::exp(mean_y - law.exponent * mean_x);
  double rest = 0;
  for (const auto& [x, y] : points) rest += std::pow(std::log(y) - std::log(law.at(x)), 2);
  law.half_width =
      points.size() > 2 ? t_quantile(n - 2) * std::sqrt(rest / (n - 2) / xx) : std::numeric_limits<double>::infinity();
  return law;
}

}  // namespace klab
