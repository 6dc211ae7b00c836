// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/permutation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/base/error.h"
#include "core/base/random.h"

namespace klab {
namespace {

// Statistics closer than this share of the largest value are equal: sums in another order differ by rounding.
constexpr double kTie = 1e-12;

double largest_magnitude(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

double binomial_coefficient(size_t n, size_t k) {
  double result = 1;
  for (size_t i = 1; i <= k; ++i) result *= static_cast<double>(n - k + i) / static_cast<double>(i);
  return result;
}

// sums[r]: the sums of all subsets of r values, r <= most, that extend `sum` of `size` values by values from `begin`
// on.
void append_subset_sums(const std::vector<double>& values, size_t begin, size_t size, size_t most, double sum,
                        std::vector<std::vector<double>>& sums) {
  sums[size].push_back(sum);
  if (size == most) return;
  for (size_t i = begin; i < values.size(); ++i)
    append_subset_sums(values, i + 1, size + 1, most, sum + values[i], sums);
}

std::vector<std::vector<double>> subset_sums(const std::vector<double>& values, size_t most) {
  std::vector<std::vector<double>> sums(most + 1);
  append_subset_sums(values, 0, 0, most, 0, sums);
  return sums;
}

}  // namespace

void PermutationTest::enumerate_exchanges(const std::vector<double>& x, const std::vector<double>& y) {
  const size_t most = std::min(x.size(), y.size());
  const auto of_x = subset_sums(x, most), of_y = subset_sums(y, most);
  for (size_t size = 1; size <= most; ++size) {
    for (const double a : of_x[size]) {
      for (const double b : of_y[size]) thresholds_.push_back((a - b) / static_cast<double>(size));
    }
  }
}

void PermutationTest::draw_exchanges(const std::vector<double>& x, const std::vector<double>& y,
                                     const Arrangements& how) {
  Random random{how.seed};
  std::vector<size_t> items(x.size() + y.size());
  std::iota(items.begin(), items.end(), size_t{0});
  for (int64_t draw = 0; draw < how.draws; ++draw) {
    for (size_t i = 0; i < x.size(); ++i) std::swap(items[i], items[i + random.below(items.size() - i)]);
    double sum = 0;
    int64_t size = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      const bool was_x = items[i] < x.size(), is_x = i < x.size();
      if (was_x && !is_x) sum += x[items[i]];
      if (was_x || !is_x) continue;
      sum -= y[items[i] - x.size()];
      ++size;
    }
    if (size == 0) {
      ++observed_;
    } else {
      thresholds_.push_back(sum / static_cast<double>(size));
    }
  }
}

void PermutationTest::enumerate_signs(const std::vector<double>& differences) {
  const auto sums = subset_sums(differences, differences.size());
  for (size_t size = 1; size < sums.size(); ++size) {
    for (const double sum : sums[size]) thresholds_.push_back(sum / static_cast<double>(size));
  }
}

void PermutationTest::draw_signs(const std::vector<double>& differences, const Arrangements& how) {
  Random random{how.seed};
  for (int64_t draw = 0; draw < how.draws; ++draw) {
    double sum = 0;
    int64_t size = 0;
    for (const double difference : differences) {
      if (random.below(2) == 0) continue;
      sum += difference;
      ++size;
    }
    if (size == 0) {
      ++observed_;
    } else {
      thresholds_.push_back(sum / static_cast<double>(size));
    }
  }
}

PermutationTest PermutationTest::two_sample(const std::vector<double>& x, const std::vector<double>& y,
                                            const Arrangements& how) {
  require_finite(x, "x");
  require_finite(y, "y");
  if (x.empty() || y.empty())
    refuse("a permutation test of {} and {} values: expected some of each", x.size(), y.size());
  PermutationTest test;
  test.difference_ = mean_of(x) - mean_of(y);
  test.tolerance_ = kTie * std::max(largest_magnitude(x), largest_magnitude(y));
  test.exact_ = binomial_coefficient(x.size() + y.size(), x.size()) <= static_cast<double>(how.limit);
  test.exact_ ? test.enumerate_exchanges(x, y) : test.draw_exchanges(x, y, how);
  return test;
}

PermutationTest PermutationTest::paired(const std::vector<double>& x, const std::vector<double>& y,
                                        const Arrangements& how) {
  require_finite(x, "x");
  require_finite(y, "y");
  if (x.empty() || x.size() != y.size()) refuse("{} and {} values do not form pairs", x.size(), y.size());
  std::vector<double> differences(x.size());
  std::transform(x.begin(), x.end(), y.begin(), differences.begin(), std::minus<>());
  PermutationTest test;
  test.difference_ = mean_of(differences);
  test.tolerance_ = kTie * std::max(largest_magnitude(x), largest_magnitude(y));
  test.exact_ = std::ldexp(1.0, static_cast<int>(x.size())) <= static_cast<double>(how.limit);
  test.exact_ ? test.enumerate_signs(differences) : test.draw_signs(differences, how);
  return test;
}

double PermutationTest::p_greater(double shift) const {
  const double bound = shift + tolerance_;
  const auto hits = std::count_if(thresholds_.begin(), thresholds_.end(), [&](double t) { return t <= bound; });
  return static_cast<double>(observed_ + hits) / total();
}

double PermutationTest::p_less(double shift) const {
  const double bound = shift - tolerance_;
  const auto hits = std::count_if(thresholds_.begin(), thresholds_.end(), [&](double t) { return t >= bound; });
  return static_cast<double>(observed_ + hits) / total();
}

double PermutationTest::p_two_sided(double shift) const {
  return std::min(1.0, 2 * std::min(p_greater(shift), p_less(shift)));
}

Interval PermutationTest::interval(double level) const {
  const double tail = (1 - level) / 2 * total() * (1 + 1e-9);
  const int64_t rank = static_cast<int64_t>(tail) - observed_;  // from either end, counted from 0
  if (rank < 0) return {-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  std::vector<double> sorted = thresholds_;
  std::sort(sorted.begin(), sorted.end());
  return {sorted[static_cast<size_t>(rank)], sorted[sorted.size() - 1 - static_cast<size_t>(rank)]};
}

}  // namespace klab
