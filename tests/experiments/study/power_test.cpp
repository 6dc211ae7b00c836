// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/power.h"

#include <gtest/gtest.h>

#include <cmath>

namespace klab {
namespace {

using Values = std::vector<double>;

// scipy 1.17: fisher_exact over all tables. Power of 3 of 3 against 0 of 3 at shares of 3.5/4 and 0.5/4: 0.749 for 7
// seeds, 0.870 for 8. Of 7 of 10 against 2 of 10: 0.771 for 21, 0.807 for 22.
TEST(SeedsForShares, IsTheExactNumber) {
  EXPECT_EQ(seeds_for_shares({3, 3}, {0, 3}, 0.05), 8);
  EXPECT_EQ(seeds_for_shares({0, 3}, {3, 3}, 0.05), 8);
  EXPECT_EQ(seeds_for_shares({7, 10}, {2, 10}, 0.05), 22);
}

TEST(SeedsForShares, GrowsAsTheLevelFalls) {
  EXPECT_GT(seeds_for_shares({3, 3}, {0, 3}, 0.05 / 9), 8);
  EXPECT_EQ(seeds_for_shares({5, 10}, {4, 10}, 0.05), std::nullopt) << "more than 200";
  EXPECT_EQ(seeds_for_shares({3, 3}, {3, 3}, 0.05), std::nullopt);
  EXPECT_EQ(seeds_for_shares({3, 3}, {2, 2}, 0.05), std::nullopt) << "no difference";
}

TEST(SeedsForMeans, IsAtLeastWhatPermutationsAllow) {
  EXPECT_EQ(seeds_for_means({0.9, 0.91, 0.92}, {0.1, 0.11, 0.12}, 0.05), 4);      // 2 / C(8, 4) = 0.029
  EXPECT_EQ(seeds_for_means({0.9, 0.91, 0.92}, {0.1, 0.11, 0.12}, 0.05 / 9), 6);  // 2 / C(10, 5) = 0.008 is too much
  EXPECT_EQ(seeds_for_pairs({0.9, 0.91, 0.92}, {0.1, 0.11, 0.12}, 0.05), 6);      // 2 / 2^6 = 0.031
}

// The number for normal values with a difference of d standard deviations: 2 ((1.960 + 0.842) / d)^2 + 1.960^2 /
// 4, 16.7 for one standard deviation (Guenther 1981).
TEST(SeedsForMeans, AgreesWithTheFormulaForNormalValues) {
  const Values x{-1.5465, -1.0005, -0.6554, -0.3755, -0.1226, 0.1226, 0.3755, 0.6554, 1.0005, 1.5465};
  Values y;
  for (const double value : x) y.push_back(value + std::sqrt(variance_of(x)));
  ASSERT_TRUE(seeds_for_means(x, y, 0.05));
  EXPECT_NEAR(*seeds_for_means(x, y, 0.05), 17, 2);
  EXPECT_EQ(seeds_for_means(y, x, 0.05).has_value(), true);
  EXPECT_EQ(seeds_for_means(x, x, 0.05), std::nullopt);
}

TEST(SeedsForMeans, IsDeterministic) {
  const Values x{0.5, 0.7, 0.2, 0.9}, y{0.4, 0.5, 0.1, 0.3};
  EXPECT_EQ(seeds_for_means(x, y, 0.05), seeds_for_means(x, y, 0.05));
  EXPECT_EQ(seeds_for_pairs(x, y, 0.05), seeds_for_pairs(x, y, 0.05));
}

// Differences by seed with a mean of one standard deviation: 7.85 + 1.96^2 / 2 = 9.8.
TEST(SeedsForPairs, AgreesWithTheFormulaForNormalValues) {
  Values x{-1.5465, -1.0005, -0.6554, -0.3755, -0.1226, 0.1226, 0.3755, 0.6554, 1.0005, 1.5465};
  const double deviation = std::sqrt(variance_of(x));
  for (double& value : x) value += deviation;
  ASSERT_TRUE(seeds_for_pairs(x, Values(10), 0.05));
  EXPECT_NEAR(*seeds_for_pairs(x, Values(10), 0.05), 10, 1);
}

TEST(SeedsForTimes, NeedsMoreWhereFewReach) {
  const std::vector<Time> early{{10, true}, {14, true}, {18, true}, {40, false}};
  const std::vector<Time> late{{30, true}, {38, true}, {40, false}, {40, false}};
  const std::vector<Time> never{{40, false}, {40, false}, {40, false}};
  const auto seeds = seeds_for_times(early, late, 0.05);
  ASSERT_TRUE(seeds);
  EXPECT_GT(*seeds, 6);
  EXPECT_LT(*seeds, 40);
  EXPECT_EQ(seeds_for_times(never, never, 0.05), std::nullopt);
  EXPECT_TRUE(seeds_for_times(early, never, 0.05));
  EXPECT_EQ(seeds_for_times({{1, true}, {2, true}, {3, true}}, {{14, true}, {15, true}, {16, true}}, 0.05), 4);
}

}  // namespace
}  // namespace klab
