// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/base/error.h"

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
  const double unbounded = std::numeric_limits<double>::infinity();
  EXPECT_EQ(estimate_difference({2}, {1, 3}).half_width, unbounded);
  EXPECT_EQ(estimate_difference({1, 3}, {2}).half_width, unbounded);
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

// scipy 1.17: binomtest(k, n).proportion_ci(level).
TEST(ClopperPearson, HasScipysNumbers) {
  const auto check = [](const Share& share, double level, double low, double high) {
    const Interval interval = clopper_pearson(share, level);
    EXPECT_NEAR(interval.low, low, 1e-9);
    EXPECT_NEAR(interval.high, high, 1e-9);
  };
  check({0, 3}, 0.95, 0, 0.7075982261787133);
  check({3, 3}, 0.95, 0.2924017738212867, 1);
  check({2, 3}, 0.95, 0.09429932405071303, 0.9915962413403874);
  check({7, 10}, 0.95, 0.3475471499399921, 0.9332604888222655);
  check({7, 10}, 0.9, 0.39337578389442357, 0.9127355660858497);
}

// The exact probability, over all outcomes, that the interval holds the true share.
TEST(ClopperPearson, CoversAtLeastItsLevelForEveryShare) {
  for (const int64_t n : {3, 5, 10, 20}) {
    for (int step = 1; step < 100; ++step) {
      const double share = step / 100.0;
      double probability = std::pow(1 - share, n), covered = 0;
      for (int64_t k = 0; k <= n; ++k) {
        if (clopper_pearson({k, n}).contains(share)) covered += probability;
        probability *= static_cast<double>(n - k) / static_cast<double>(k + 1) * share / (1 - share);
      }
      EXPECT_GE(covered, 0.95) << n << " trials, share " << share;
    }
  }
}

// scipy 1.17: fisher_exact, whose definition of two-sided is the same.
TEST(FisherTest, HasScipysNumbers) {
  EXPECT_NEAR(fisher_test({3, 3}, {0, 3}), 0.1, 1e-12);
  EXPECT_NEAR(fisher_test({5, 5}, {1, 5}), 0.047619047619047616, 1e-12);
  EXPECT_NEAR(fisher_test({8, 10}, {1, 6}), 0.034965034965034975, 1e-12);
  EXPECT_NEAR(fisher_test({3, 12}, {4, 6}), 0.1414027149321267, 1e-12);
  EXPECT_NEAR(fisher_test({10, 17}, {1, 20}), 0.0006658493866502765, 1e-12);
  EXPECT_EQ(fisher_test({4, 4}, {4, 4}), 1);
}

TEST(FisherTest, RefusesImpossibleShares) {
  EXPECT_THROW(fisher_test({4, 3}, {0, 3}), UsageError);
  EXPECT_THROW(fisher_test({0, 3}, {0, 0}), UsageError);
  EXPECT_THROW(clopper_pearson({-1, 3}), UsageError);
}

// By hand: 5 x 0.005, 4 x 0.01, 3 x 0.03, then 2 x 0.04, which is raised to its predecessor's, and 0.5.
TEST(Holm, StepsDown) {
  const std::vector<double> adjusted = holm({0.01, 0.04, 0.03, 0.005, 0.5});
  const std::vector<double> expected{0.04, 0.09, 0.09, 0.025, 0.5};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(adjusted[i], expected[i], 1e-15);
  EXPECT_EQ(holm({0.6, 0.7}), (std::vector<double>{1, 1}));
  EXPECT_EQ(holm({}), std::vector<double>{});
}

TEST(EffectSizes, AreMediansAndSharesOfPairs) {
  EXPECT_DOUBLE_EQ(hodges_lehmann({1, 2, 9}, {0, 1, 2}), 1);  // differences -1 0 0 1 1 2 7 8 9
  EXPECT_DOUBLE_EQ(hodges_lehmann({3, 5}, {1}), 3);
  EXPECT_DOUBLE_EQ(cliffs_delta({1, 2, 9}, {0, 1, 2}), 5.0 / 9);  // six greater, one less, two ties
  EXPECT_DOUBLE_EQ(cliffs_delta({5, 6}, {1, 2}), 1);
  EXPECT_DOUBLE_EQ(cliffs_delta({1}, {1}), 0);
}

TEST(EffectSizes, RefuseNoValuesAndNaN) {
  EXPECT_THROW(hodges_lehmann({}, {1}), UsageError);
  EXPECT_THROW(cliffs_delta({1}, {}), UsageError);
  EXPECT_THROW(hodges_lehmann({1}, {std::nan("")}), UsageError);
  try {
    cliffs_delta({1, std::nan("")}, {1});
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "x[1] is nan: statistics need finite values");
  }
}

}  // namespace
}  // namespace klab
