// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/bounded_mean.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/random.h"

namespace klab {
namespace {

// Draws from the distributions of the lower and the upper bound of the mean.
struct BoundDraws {
  std::vector<double> low, high;
};

std::vector<double> sorted_within(std::vector<double> values, const Interval& range, const char* name) {
  require_finite(values, name);
  if (values.empty()) refuse("{} has no values", name);
  std::sort(values.begin(), values.end());
  if (values.front() < range.low || values.back() > range.high) {
    refuse("{} has values in [{}, {}]: expected [{}, {}]", name, values.front(), values.back(), range.low, range.high);
  }
  return values;
}

// With u[0] < ... < u[n-1], the middle gaps weight values 1 to n-1 for either bound; the first gap goes to the low end
// (and the last to value n) for the lower bound, for the upper bound the first to value 1 and the last to the high end.
BoundDraws draw_bounds(const std::vector<double>& unsorted, const Interval& range, const char* name,
                       const Weights& weights, uint64_t stream) {
  const std::vector<double> values = sorted_within(unsorted, range, name);
  Random random{weights.seed, stream};
  std::vector<double> u(values.size());
  BoundDraws draws;
  for (int64_t draw = 0; draw < weights.draws; ++draw) {
    for (double& one : u) one = random.uniform();
    std::sort(u.begin(), u.end());
    // Sums of values times gaps, as sums of steps between values times the uniform numbers.
    double low = values.back(), high = range.high;
    for (size_t i = 0; i < values.size(); ++i) {
      low -= u[i] * (values[i] - (i == 0 ? range.low : values[i - 1]));
      high -= u[i] * ((i + 1 == values.size() ? range.high : values[i + 1]) - values[i]);
    }
    draws.low.push_back(low);
    draws.high.push_back(high);
  }
  return draws;
}

// Differences of the bounds' draws; those of x and y are independent.
BoundDraws draw_difference_bounds(const std::vector<double>& x, const std::vector<double>& y, const Interval& range,
                                  const Weights& weights) {
  BoundDraws a = draw_bounds(x, range, "x", weights, 0);
  const BoundDraws b = draw_bounds(y, range, "y", weights, 1);
  for (size_t i = 0; i < a.low.size(); ++i) {
    a.low[i] -= b.high[i];
    a.high[i] -= b.low[i];
  }
  return a;
}

Interval bounds_of(BoundDraws draws, double level) {
  const auto rank =
      static_cast<ptrdiff_t>((1 - level) / 2 * static_cast<double>(draws.low.size() + 1) * (1 + 1e-9)) - 1;
  if (rank < 0) refuse("{} draws do not have the quantiles of a {} interval", draws.low.size(), level);
  const auto low = draws.low.begin() + rank, high = draws.high.end() - 1 - rank;
  std::nth_element(draws.low.begin(), low, draws.low.end());
  std::nth_element(draws.high.begin(), high, draws.high.end());
  return {*low, *high};
}

double p_outside(const BoundDraws& draws, double margin) {
  if (!(margin > 0)) refuse("margin = {}: equality needs a margin above 0", margin);
  const auto below = std::count_if(draws.low.begin(), draws.low.end(), [&](double low) { return low <= -margin; });
  const auto above = std::count_if(draws.high.begin(), draws.high.end(), [&](double high) { return high >= margin; });
  return static_cast<double>(1 + std::max(below, above)) / static_cast<double>(1 + draws.low.size());
}

}  // namespace

Interval mean_interval(const std::vector<double>& values, const Interval& range, double level, const Weights& weights) {
  return bounds_of(draw_bounds(values, range, "values", weights, 0), level);
}

Interval mean_difference_interval(const std::vector<double>& x, const std::vector<double>& y, const Interval& range,
                                  double level, const Weights& weights) {
  return bounds_of(draw_difference_bounds(x, y, range, weights), level);
}

double p_means_differ(const std::vector<double>& x, const std::vector<double>& y, const Interval& range, double margin,
                      const Weights& weights) {
  return p_outside(draw_difference_bounds(x, y, range, weights), margin);
}

double p_mean_nonzero(const std::vector<double>& differences, const Interval& range, double margin,
                      const Weights& weights) {
  return p_outside(draw_bounds(differences, range, "differences", weights, 0), margin);
}

}  // namespace klab
