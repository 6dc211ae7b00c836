// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/statistics.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/hypergeometric.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/base/error.h"

namespace klab {
namespace {

double squared_error_of_mean(const std::vector<double>& values) {
  return variance_of(values) / static_cast<double>(values.size());
}

void require_share(const Share& share) {
  if (share.trials >= 1 && share.successes >= 0 && share.successes <= share.trials) return;
  refuse("{} successes of {} trials: expected at least one trial, and no more successes than trials", share.successes,
         share.trials);
}

}  // namespace

void require_finite(const std::vector<double>& values, const char* name) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) refuse("{}[{}] is {}: statistics need finite values", name, i, values[i]);
  }
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double variance_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return sum / static_cast<double>(values.size() - 1);
}

double t_quantile(double freedom) { return quantile(boost::math::students_t(freedom), 0.975); }

Estimate estimate(const std::vector<double>& values) {
  Estimate result{mean_of(values), std::numeric_limits<double>::infinity(), static_cast<int64_t>(values.size())};
  if (values.size() > 1) {
    result.half_width = t_quantile(static_cast<double>(values.size() - 1)) * std::sqrt(squared_error_of_mean(values));
  }
  return result;
}

Estimate estimate_difference(const std::vector<double>& x, const std::vector<double>& y) {
  Estimate result{mean_of(x) - mean_of(y), std::numeric_limits<double>::infinity(),
                  static_cast<int64_t>(std::min(x.size(), y.size()))};
  if (x.size() < 2 || y.size() < 2) return result;
  const double a = squared_error_of_mean(x), b = squared_error_of_mean(y);
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

Interval clopper_pearson(const Share& share, double level) {
  using Binomial = boost::math::binomial_distribution<>;
  require_share(share);
  const auto n = static_cast<double>(share.trials), k = static_cast<double>(share.successes);
  const double tail = (1 - level) / 2;
  return {Binomial::find_lower_bound_on_p(n, k, tail), Binomial::find_upper_bound_on_p(n, k, tail)};
}

double fisher_test(const Share& x, const Share& y) {
  require_share(x);
  require_share(y);
  const int64_t all = x.trials + y.trials, successes = x.successes + y.successes;
  const boost::math::hypergeometric_distribution<> tables(static_cast<unsigned>(successes),
                                                          static_cast<unsigned>(x.trials), static_cast<unsigned>(all));
  const double observed = pdf(tables, static_cast<double>(x.successes));
  double p = 0;
  for (int64_t k = std::max<int64_t>(0, successes - y.trials); k <= std::min(successes, x.trials); ++k) {
    const double probability = pdf(tables, static_cast<double>(k));
    if (probability <= observed * (1 + 1e-7)) p += probability;  // equal ones differ by rounding
  }
  return std::min(p, 1.0);
}

std::vector<double> holm(const std::vector<double>& p) {
  require_finite(p, "p");
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, static_cast<double>(p.size() - i) * p[order[i]]));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

double hodges_lehmann(const std::vector<double>& x, const std::vector<double>& y) {
  require_finite(x, "x");
  require_finite(y, "y");
  if (x.empty() || y.empty()) refuse("a shift of {} and {} values: expected at least one each", x.size(), y.size());
  std::vector<double> differences;
  differences.reserve(x.size() * y.size());
  for (const double a : x) {
    for (const double b : y) differences.push_back(a - b);
  }
  std::sort(differences.begin(), differences.end());
  const size_t n = differences.size();
  return (differences[(n - 1) / 2] + differences[n / 2]) / 2;
}

double cliffs_delta(const std::vector<double>& x, const std::vector<double>& y) {
  require_finite(x, "x");
  require_finite(y, "y");
  if (x.empty() || y.empty())
    refuse("Cliff's delta of {} and {} values: expected at least one each", x.size(), y.size());
  double sum = 0;
  for (const double a : x) {
    for (const double b : y) sum += (a > b ? 1 : 0) - (a < b ? 1 : 0);
  }
  return sum / static_cast<double>(x.size() * y.size());
}

}  // namespace klab
