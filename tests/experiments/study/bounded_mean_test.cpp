// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/bounded_mean.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"

namespace klab {
namespace {

using Values = std::vector<double>;

constexpr Interval kUnit{0, 1};

Values shares(int64_t successes, int64_t trials) {
  Values values(static_cast<size_t>(trials));
  std::fill_n(values.begin(), successes, 1.0);
  return values;
}

TEST(MeanInterval, IsClopperAndPearsonsForShares) {
  for (const Share share : {Share{0, 3}, Share{2, 3}, Share{3, 3}, Share{4, 10}, Share{10, 10}}) {
    const Interval interval = mean_interval(shares(share.successes, share.trials), kUnit);
    const Interval expected = clopper_pearson(share);
    EXPECT_NEAR(interval.low, expected.low, 0.012) << share.successes << " of " << share.trials;
    EXPECT_NEAR(interval.high, expected.high, 0.012) << share.successes << " of " << share.trials;
  }
}

TEST(MeanInterval, StaysInTheRangeAndFollowsItsScale) {
  const Interval interval = mean_interval({0.97, 0.99, 1, 1}, kUnit);
  EXPECT_LE(interval.high, 1);
  EXPECT_GE(interval.low, 0);
  const Interval scaled = mean_interval({97, 99, 100, 100}, {0, 100});
  EXPECT_NEAR(scaled.low, 100 * interval.low, 1e-9);
  EXPECT_NEAR(scaled.high, 100 * interval.high, 1e-9);
}

// One value 0.5: the lower bound is half a uniform number, the upper one 1 less half of one.
TEST(MeanInterval, OfOneValueIsAUniformQuantile) {
  const Interval interval = mean_interval({0.5}, kUnit, 0.8);
  EXPECT_NEAR(interval.low, 0.05, 0.01);
  EXPECT_NEAR(interval.high, 0.95, 0.01);
}

// scipy 1.17: the integral of beta(2 + 1, 10 - 3) etc., solved for a probability of 2.5 %; Fay, Proschan and Brittain's
// melded interval of 8 of 10 against 3 of 10.
TEST(MeanDifferenceInterval, IsTheMeldedOneForShares) {
  const Interval interval = mean_difference_interval(shares(8, 10), shares(3, 10), kUnit);
  EXPECT_NEAR(interval.low, -0.031056313628016752, 0.012);
  EXPECT_NEAR(interval.high, 0.831898838219797, 0.012);
}

TEST(MeanDifferenceInterval, ChangesItsSignWithTheSamples) {
  const Values x{0.9, 0.95, 1, 0.2}, y{0.5, 0.6, 0.1};
  const Interval a = mean_difference_interval(x, y, kUnit), b = mean_difference_interval(y, x, kUnit);
  EXPECT_NEAR(a.low, -b.high, 0.02);
  EXPECT_NEAR(a.high, -b.low, 0.02);
}

// A probability of 0.95^n that a share of 0.95 gives n successes.
TEST(MeansDiffer, NeedsFiftyNineSuccessesForFivePoints) {
  for (const int64_t n : {3, 10, 30, 59, 90}) {
    const double p = std::pow(0.95, n);
    EXPECT_NEAR(p_means_differ(shares(n, n), shares(n, n), kUnit, 0.05), p, 4 * std::sqrt(p / 19999) + 1e-4);
    EXPECT_NEAR(p_mean_nonzero(shares(0, n), {-1, 1}, 0.05), p, 4 * std::sqrt(p / 19999) + 1e-4);
  }
}

TEST(MeansDiffer, IsLeastForValuesInTheMiddle) {
  EXPECT_GT(p_means_differ(Values(45, 0.5), Values(45, 0.5), kUnit, 0.05), 0.05);
  EXPECT_LT(p_means_differ(Values(50, 0.5), Values(50, 0.5), kUnit, 0.05), 0.05);
  EXPECT_GT(p_means_differ(Values(50, 0.5), Values(50, 0.56), kUnit, 0.05), 0.5) << "outside the margin";
  EXPECT_GT(p_means_differ(Values(50, 0.56), Values(50, 0.5), kUnit, 0.05), 0.5);
}

TEST(BoundedMean, RefusesValuesOutsideNaNAndNoMargin) {
  EXPECT_THROW(mean_interval({1.1}, kUnit), UsageError);
  EXPECT_THROW(mean_interval({-0.1}, kUnit), UsageError);
  EXPECT_THROW(mean_interval({}, kUnit), UsageError);
  EXPECT_THROW(mean_interval({std::nan("")}, kUnit), UsageError);
  EXPECT_THROW(mean_interval({0.5}, kUnit, 0.95, {9, 1}), UsageError) << "too few draws";
  EXPECT_THROW(p_means_differ({0.5}, {0.5}, kUnit, 0), UsageError);
  EXPECT_THROW(p_means_differ({0.5}, {0.5}, kUnit, std::nan("")), UsageError);
}

}  // namespace
}  // namespace klab
