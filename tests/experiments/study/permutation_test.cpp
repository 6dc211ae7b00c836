// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/permutation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"

namespace klab {
namespace {

using Values = std::vector<double>;

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr Arrangements kRandom{0, 99999, 3};

void expect_p(const PermutationTest& test, double two_sided, double greater, double less, double tolerance) {
  EXPECT_NEAR(test.p_two_sided(), two_sided, tolerance);
  EXPECT_NEAR(test.p_greater(), greater, tolerance);
  EXPECT_NEAR(test.p_less(), less, tolerance);
}

// scipy 1.17: permutation_test of the difference of means with n_resamples=inf; its two-sided p is defined alike.
TEST(PermutationTest, HasScipysNumbersForTwoSamples) {
  const Values x{0.91, 0.84, 0.97, 0.88, 0.93}, y{0.79, 0.86, 0.81, 0.75, 0.90, 0.70};
  const PermutationTest test = PermutationTest::two_sample(x, y);
  EXPECT_TRUE(test.exact());
  EXPECT_NEAR(test.difference(), 0.906 - 4.81 / 6, 1e-12);
  expect_p(test, 0.025974025974025976, 0.012987012987012988, 0.9891774891774892, 1e-12);
  const PermutationTest random = PermutationTest::two_sample(x, y, kRandom);
  EXPECT_FALSE(random.exact());
  expect_p(random, 0.025974, 0.012987, 0.989177, 0.002);
}

TEST(PermutationTest, HasScipysNumbersForTies) {
  const PermutationTest test = PermutationTest::two_sample({1, 1, 1, 0, 1}, {0, 0, 1, 0, 0});
  expect_p(test, 0.20634920634920634, 0.10317460317460317, 0.996031746031746, 1e-12);
}

TEST(PermutationTest, HasScipysNumbersForPairs) {
  const Values x{0.91, 0.84, 0.97, 0.88, 0.93, 0.60, 0.7}, y{0.79, 0.86, 0.81, 0.75, 0.90, 0.55, 0.71};
  expect_p(PermutationTest::paired(x, y), 0.078125, 0.0390625, 0.9765625, 1e-12);
  expect_p(PermutationTest::paired(x, y, kRandom), 0.078125, 0.0390625, 0.9765625, 0.003);
}

// Sums of 0.1, 0.2, 0.3 and 0.6, of which 0.1 + 0.2 + 0.6 and 0.3 + 0.3 + 0.3 differ by rounding.
TEST(PermutationTest, CountsTiesUpToRounding) {
  const PermutationTest test = PermutationTest::two_sample({0.1, 0.2, 0.6}, {0.3, 0.3, 0.3});
  EXPECT_EQ(test.p_two_sided(), 1);
  EXPECT_DOUBLE_EQ(test.p_greater(), 0.55);  // 0.6 is in x, or the three 0.3 are: 10 + 1 of 20
  EXPECT_EQ(PermutationTest::two_sample({0.1 + 0.2, 0.3}, {0.3, 0.3}).p_greater(), 1) << "all are equal";
}

TEST(PermutationTest, HasTheLeastPValuesOfItsArrangements) {
  EXPECT_DOUBLE_EQ(PermutationTest::two_sample({7, 8, 9}, {1, 2, 3}).p_two_sided(), 0.1);
  EXPECT_DOUBLE_EQ(PermutationTest::two_sample({7, 8, 9, 9}, {1, 2, 3, 0}).p_two_sided(), 2.0 / 70);
  EXPECT_DOUBLE_EQ(PermutationTest::paired({7, 8, 9, 7, 7}, {1, 2, 3, 1, 1}).p_two_sided(), 2.0 / 32);
  EXPECT_DOUBLE_EQ(PermutationTest::paired({7, 8, 9, 7, 7, 7}, {1, 2, 3, 1, 1, 1}).p_two_sided(), 2.0 / 64);
}

TEST(PermutationTest, TestsShiftsAsShiftedSamples) {
  const Values x{3, 5, 8, 4}, y{1, 2, 4, 3, 2};
  Values moved = x;
  for (double& value : moved) value -= 1.5;
  const PermutationTest test = PermutationTest::two_sample(x, y), shifted = PermutationTest::two_sample(moved, y);
  EXPECT_DOUBLE_EQ(test.p_greater(1.5), shifted.p_greater());
  EXPECT_DOUBLE_EQ(test.p_less(1.5), shifted.p_less());
}

// The interval holds exactly the shifts that the tests do not reject.
TEST(PermutationTest, IntervalInvertsTheTest) {
  const Values x{0.91, 0.84, 0.97, 0.88, 0.93}, y{0.79, 0.86, 0.81, 0.75, 0.90};
  for (const auto& test : {PermutationTest::two_sample(x, y), PermutationTest::paired({1, 4, 2, 8, 5, 7}, Values(6)),
                           PermutationTest::two_sample(x, y, kRandom)}) {
    const Interval interval = test.interval();
    EXPECT_LT(interval.low, test.difference());
    EXPECT_GT(interval.high, test.difference());
    EXPECT_GT(test.p_greater(interval.low), 0.025);
    EXPECT_LE(test.p_greater(interval.low - 1e-9), 0.025);
    EXPECT_GT(test.p_less(interval.high), 0.025);
    EXPECT_LE(test.p_less(interval.high + 1e-9), 0.025);
  }
}

TEST(PermutationTest, IntervalIsInfiniteOrEmptyWhereTheDataSayNothing) {
  const Interval three = PermutationTest::two_sample({7, 8, 9}, {1, 2, 3}).interval();
  EXPECT_EQ(three.low, -kInfinite);
  EXPECT_EQ(three.high, kInfinite);
  EXPECT_EQ(PermutationTest::two_sample({7, 8, 9}, {1, 2, 3}).interval(0.9).low, 7 - 3);
  const Interval equal = PermutationTest::two_sample({1, 1, 1, 1}, {0, 0, 0, 0}).interval();
  EXPECT_EQ(equal.low, 1);
  EXPECT_EQ(equal.high, 1);
}

TEST(PermutationTest, IsDeterministic) {
  Values x, y;
  for (int i = 0; i < 20; ++i) {
    x.push_back(std::fmod(i * 0.37, 1));
    y.push_back(std::fmod(i * 0.61, 1) - 0.2);
  }
  const PermutationTest test = PermutationTest::two_sample(x, y);
  EXPECT_FALSE(test.exact());
  EXPECT_EQ(test.p_two_sided(), PermutationTest::two_sample(x, y).p_two_sided());
  EXPECT_NE(test.p_two_sided(), PermutationTest::two_sample(x, y, {200000, 19999, 2}).p_two_sided()) << "another seed";
}

TEST(PermutationTest, GoesThroughUnbalancedSamples) {
  const PermutationTest test = PermutationTest::two_sample({101, 102, 103}, [] {
    Values y;
    for (int i = 0; i < 97; ++i) y.push_back(i);
    return y;
  }());
  EXPECT_TRUE(test.exact());
  EXPECT_DOUBLE_EQ(test.p_greater(), 1.0 / 161700);  // C(100, 3)
}

TEST(PermutationTest, RefusesNaNNoValuesAndBrokenPairs) {
  EXPECT_THROW(PermutationTest::two_sample({1, std::nan("")}, {1}), UsageError);
  EXPECT_THROW(PermutationTest::two_sample({1}, {kInfinite}), UsageError);
  EXPECT_THROW(PermutationTest::two_sample({}, {1}), UsageError);
  EXPECT_THROW(PermutationTest::paired({1, 2}, {1}), UsageError);
  EXPECT_THROW(PermutationTest::paired({std::nan("")}, {1}), UsageError);
}

}  // namespace
}  // namespace klab
