// SPDX-License-Identifier: Apache-2.0
// Scaling laws: the published points, laws that are known, and the intervals by simulation.
#include "experiments/study/scaling.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"

namespace klab {
namespace {

// Read off figure 5 of arXiv 2510.26692: PFLOP/s-days and loss.
const ScalingCurve kMla = {{{1.70, 2.250}}, {{3.50, 2.152}}, {{6.45, 2.088}}, {{9.39, 2.051}}, {{14.6, 2.002}}};
const ScalingCurve kKimiLinear = {{{1.76, 2.226}}, {{3.64, 2.131}}, {{6.76, 2.067}}, {{9.87, 2.031}}, {{15.4, 1.983}}};

TEST(Scaling, FitsThePublishedPoints) {
  const ScalingComparison found = compare_scaling(kMla, kKimiLinear).value();
  EXPECT_NEAR(found.reference.factor, 2.3093, 1e-4);
  EXPECT_NEAR(found.reference.exponent, -0.0535, 1e-4);
  EXPECT_NEAR(found.other.factor, 2.2880, 1e-4);
  EXPECT_NEAR(found.other.exponent, -0.0526, 1e-4);
  EXPECT_NEAR(compute_ratio(found.reference, found.other, 2.1), 1.157, 3e-3);
  // One run per size: nothing to resample.
  EXPECT_DOUBLE_EQ(found.ratio.interval.low, found.ratio.value);
  EXPECT_DOUBLE_EQ(found.ratio.interval.high, found.ratio.value);
}

std::vector<std::pair<double, double>> points_on(double irreducible, double factor, double exponent) {
  std::vector<std::pair<double, double>> points;
  for (const double compute : {1e15, 4e15, 2e16, 7e16, 3e17, 2e18}) {
    points.emplace_back(compute, irreducible + factor * std::pow(compute, exponent));
  }
  return points;
}

class SaturatingLawTest : public testing::TestWithParam<std::array<double, 3>> {};

TEST_P(SaturatingLawTest, FindsALawThatHolds) {
  const auto [irreducible, at_1e16, exponent] = GetParam();
  const double factor = at_1e16 * std::pow(1e16, -exponent);
  const SaturatingLaw found = fit_saturating_law(points_on(irreducible, factor, exponent)).value();
  EXPECT_NEAR(found.irreducible, irreducible, 1e-4 * irreducible);
  EXPECT_NEAR(found.exponent, exponent, 1e-4);
  EXPECT_NEAR(found.at(1e16), irreducible + at_1e16, 1e-6);
  EXPECT_LT(found.objective, 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Laws, SaturatingLawTest,
                         testing::Values(std::array{1.5, 1.0, -0.15}, std::array{0.3, 2.0, -0.08},
                                         std::array{2.0, 0.2, -0.5}, std::array{1.0, 1.0, -0.3}));

TEST(SaturatingLaw, OneWrongPointChangesLittle) {
  auto points = points_on(1.5, std::pow(1e16, 0.15), -0.15);
  points.emplace_back(5e16, 4.0);  // a run that diverged: least squares would follow it
  const SaturatingLaw found = fit_saturating_law(points).value();
  EXPECT_NEAR(found.irreducible, 1.5, 0.05);
  EXPECT_NEAR(found.exponent, -0.15, 0.02);
}

TEST(SaturatingLaw, RefusesWhatItCannotFit) {
  EXPECT_THROW(fit_saturating_law({{1, 2}, {2, 1.9}}), UsageError);
  EXPECT_THROW(fit_saturating_law({{1, 2}, {2, 1.9}, {4, -1}}), UsageError);
  EXPECT_THROW(fit_scaling({{{1, 2}, {1, 1.9}}}), UsageError);
  EXPECT_THROW(compare_scaling({{{1, 2}}, {{2, 1.9}}}, {}), UsageError);
}

TEST(Scaling, WhatHasNoAnswerIsNone) {
  EXPECT_FALSE(fit_saturating_law({{1, 2}, {2, 2.1}, {4, 2.3}})) << "the loss grows";
  EXPECT_FALSE(compare_scaling({{{1, 2}}, {{2, 1.9}}}, {{{1, 1}}, {{2, 0.9}}})) << "no loss in common";
}

TEST(Scaling, TheExponentsIntervalIsThatOfTheSeeds) {
  const ScalingFit found = fit_scaling({{{1, 2}, {1, 2.2}}, {{4, 1}, {4, 1.1}}});
  EXPECT_NEAR(found.exponent.value, -0.5, 1e-12);
  // The steepest and the flattest of 16 equally frequent resamples: from the larger loss to the smaller, and reverse.
  EXPECT_NEAR(found.exponent.interval.low, -0.5 - std::log(1.1) / std::log(4), 1e-12);
  EXPECT_NEAR(found.exponent.interval.high, -0.5 + std::log(1.1) / std::log(4), 1e-12);
  EXPECT_TRUE(found.decreases());
  EXPECT_FALSE(fit_scaling({{{1, 2}, {1, 2.2}}, {{4, 2}, {4, 2.1}}}).decreases());
}

TEST(Scaling, CurvesAreResampledApart) {
  const ScalingCurve curve = {{{1, 2}, {1, 2.2}}, {{4, 1}, {4, 1.1}}};
  const Bootstrapped ratio = compare_scaling(curve, curve).value().ratio;  // of an architecture and itself
  EXPECT_DOUBLE_EQ(ratio.value, 1);
  EXPECT_LT(ratio.interval.low, 0.9);
  EXPECT_GT(ratio.interval.high, 1.1);
}

// Curves with a known ratio of 1.3 and noise between seeds: the interval must hold it in about 95 % of simulations. Few
// seeds make a bootstrap too narrow: with six, 90 % is the least to expect.
TEST(Scaling, IntervalsCoverTheRatio) {
  constexpr int kSimulations = 200, kSeeds = 6;
  int covered = 0;
  for (uint64_t simulation = 0; simulation < kSimulations; ++simulation) {
    Random random{7, simulation};
    const auto noise = [&] {
      double sum = 0;
      for (int i = 0; i < 12; ++i) sum += random.uniform() - 0.5;  // variance 1
      return 0.01 * sum;
    };
    const auto curve = [&](double advantage) {
      ScalingCurve sizes;
      for (const double compute : {1.0, 2.0, 4.0, 8.0, 16.0}) {
        SizeRuns runs;
        for (int seed = 0; seed < kSeeds; ++seed) {
          runs.emplace_back(compute, 3 * std::pow(compute * advantage, -0.1) * std::exp(noise()));
        }
        sizes.push_back(runs);
      }
      return sizes;
    };
    covered += compare_scaling(curve(1), curve(1.3), 400, simulation).value().ratio.interval.contains(1.3);
  }
  EXPECT_GE(covered, 0.87 * kSimulations);
  EXPECT_LT(covered, kSimulations);
}

}  // namespace
}  // namespace klab
