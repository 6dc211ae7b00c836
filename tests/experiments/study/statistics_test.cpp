// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace klab {
namespace {

constexpr double kPi = std::numbers::pi;

// P(|T| < t) by the substitution x = sqrt(freedom) tan(angle), which gives powers of a cosine on a bounded
// interval, and the midpoint rule.
double coverage(double t, double freedom) {
  const double scale = std::exp(std::lgamma((freedom + 1) / 2) - std::lgamma(freedom / 2)) / std::sqrt(kPi);
  const double end = std::atan(t / std::sqrt(freedom));
  constexpr int kPieces = 20000;
  double sum = 0;
  for (int i = 0; i < kPieces; ++i) sum += std::pow(std::cos(end * (i + 0.5) / kPieces), freedom - 1);
  return 2 * scale * sum * end / kPieces;
}

TEST(TQuantile, HasTheClosedFormsOfOneTwoAndFourDegreesOfFreedom) {
  constexpr double p = 0.975, a = 4 * p * (1 - p);
  EXPECT_NEAR(t_quantile(1), std::tan(kPi * (p - 0.5)), 1e-6);
  EXPECT_NEAR(t_quantile(2), (2 * p - 1) * std::sqrt(2 / a), 1e-8);
  EXPECT_NEAR(t_quantile(4), 2 * std::sqrt(std::cos(std::acos(std::sqrt(a)) / 3) / std::sqrt(a) - 1), 1e-8);
}

// Tables of Student's t.
TEST(TQuantile, HasThePublishedValues) {
  EXPECT_NEAR(t_quantile(3), 3.182446, 1e-6);
  EXPECT_NEAR(t_quantile(10), 2.228139, 1e-6);
  EXPECT_NEAR(t_quantile(30), 2.042272, 1e-6);
  EXPECT_NEAR(t_quantile(120), 1.979930, 1e-6);
  EXPECT_NEAR(t_quantile(1e6), 1.959964 + 2.37e-6, 1e-6);  // the normal quantile and the first correction, of order 1/n
}

TEST(TQuantile, CoversNinetyFivePercentForFractionsOfADegree) {
  for (const double freedom : {1.0, 1.3, 2.5, 3.53, 7.9, 40.2}) {
    EXPECT_NEAR(coverage(t_quantile(freedom), freedom), 0.95, 1e-6) << freedom;
  }
}

TEST(Estimate, IsStudentsInterval) {
  const Estimate e = estimate({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(e.mean, 2.5);
  EXPECT_EQ(e.count, 4);
  EXPECT_NEAR(e.half_width, 3.182446305 * std::sqrt(5.0 / 3 / 4), 1e-7);  // three degrees, variance 5/3
  EXPECT_DOUBLE_EQ(e.low(), e.mean - e.half_width);
  EXPECT_DOUBLE_EQ(e.high(), e.mean + e.half_width);
}

TEST(Estimate, OfOneValueIsKnownToNoPrecision) {
  const Estimate e = estimate({0.7});
  EXPECT_DOUBLE_EQ(e.mean, 0.7);
  EXPECT_EQ(e.half_width, std::numeric_limits<double>::infinity());
  EXPECT_EQ(e.count, 1);
}

TEST(Estimate, OfEqualValuesHasNoWidth) {
  const Estimate e = estimate({0.5, 0.5, 0.5});
  EXPECT_DOUBLE_EQ(e.mean, 0.5);
  EXPECT_DOUBLE_EQ(e.half_width, 0);
}

// With equal numbers of values and equal variances, Welch's degrees of freedom equal Student's.
TEST(EstimateDifference, OfEqualSpreadsIsStudentsTest) {
  const Estimate e = estimate_difference({1, 2, 3}, {11, 13, 12});
  EXPECT_DOUBLE_EQ(e.mean, -10);
  EXPECT_NEAR(e.half_width, 2.776445105 * std::sqrt(2.0 / 3), 1e-7);  // four degrees
  EXPECT_EQ(e.count, 3);
}

// Squared standard errors of 1 on both sides: (1 + 1)^2 / (1 / 1 + 1 / 3) = 3 degrees of freedom; a test with a common
// variance would have 4.
TEST(EstimateDifference, OfUnequalSpreadsIsWelchsTest) {
  const double s = std::sqrt(3.0);
  const Estimate e = estimate_difference({9, 11}, {-s, -s, s, s});
  EXPECT_DOUBLE_EQ(e.mean, 10);
  EXPECT_NEAR(e.half_width, 3.182446305 * std::sqrt(2.0), 1e-7);
  EXPECT_EQ(e.count, 2);
}

TEST(EstimateDifference, OneSideWithoutSpreadLeavesTheOther) {
  const Estimate alone = estimate({1, 2, 4});
  const Estimate e = estimate_difference({5, 5, 5, 5}, {1, 2, 4});
  EXPECT_DOUBLE_EQ(e.mean, 5 - alone.mean);
  EXPECT_NEAR(e.half_width, alone.half_width, 1e-12);
}

TEST(EstimateDifference, WithoutAnySpreadOrWithASingleValue) {
  EXPECT_DOUBLE_EQ(estimate_difference({2, 2}, {1, 1}).half_width, 0);
  EXPECT_DOUBLE_EQ(estimate_difference({2, 2}, {1, 1}).mean, 1);
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  EXPECT_EQ(estimate_difference({2}, {1, 3}).half_width, kInfinite);
  EXPECT_EQ(estimate_difference({1, 3}, {2}).half_width, kInfinite);
  EXPECT_DOUBLE_EQ(estimate_difference({2}, {1, 5}).mean, -1);
}

TEST(FitPowerLaw, RecoversAnExactLaw) {
  std::vector<std::pair<double, double>> points;
  for (const double x : {0.5, 2.0, 7.0, 100.0}) points.emplace_back(x, 3 / std::sqrt(x));
  const PowerLaw law = fit_power_law(points);
  EXPECT_NEAR(law.factor, 3, 1e-12);
  EXPECT_NEAR(law.exponent, -0.5, 1e-12);
  EXPECT_NEAR(law.half_width, 0, 1e-9);
  EXPECT_NEAR(law.at(9), 1, 1e-12);
}

TEST(FitPowerLaw, GoesThroughTwoPointsWithoutAnInterval) {
  const PowerLaw law = fit_power_law({{1, 2}, {10, 200}});
  EXPECT_NEAR(law.factor, 2, 1e-12);
  EXPECT_NEAR(law.exponent, 2, 1e-12);
  EXPECT_EQ(law.half_width, std::numeric_limits<double>::infinity());
}

// Logarithms of x are -1, 0, 1 and of y 0, 0.3, 0: a flat line at 0.1 with residuals -0.1, 0.2, -0.1. One degree of
// freedom is left, and the squared standard error of the slope is 0.06 / 1 / 2.
TEST(FitPowerLaw, TakesTheIntervalFromTheResiduals) {
  const double e = std::exp(1.0);
  const PowerLaw law = fit_power_law({{1 / e, 1}, {1, std::exp(0.3)}, {e, 1}});
  EXPECT_NEAR(law.exponent, 0, 1e-12);
  EXPECT_NEAR(law.factor, std::exp(0.1), 1e-12);
  EXPECT_NEAR(law.half_width, std::tan(0.475 * kPi) * std::sqrt(0.03), 1e-6);
}

}  // namespace
}  // namespace klab
