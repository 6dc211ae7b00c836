// SPDX-License-Identifier: Apache-2.0
#include "core/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace klab {
namespace {

// Runs must be reproducible by later versions on other machines: these values, computed independently with
// arbitrary-precision integers, never change.
TEST(Random, GoldenValues) {
  Random random({1, 2, 3});
  EXPECT_EQ(random.next(), 0x60a6874564614787u);
  EXPECT_EQ(random.next(), 0x369ae4c065157f2eu);
  EXPECT_EQ(random.next(), 0xfb630a237588be02u);
  EXPECT_EQ(random.below(1000), 190u);
  EXPECT_EQ(random.below(3), 0u);
  EXPECT_EQ(random.uniform(), 0x1.bd558d86386c9p-1);
  EXPECT_EQ(random.distinct(5, 10), (std::vector<int64_t>{2, 4, 0, 5, 9}));
}

TEST(Random, TheSameKeyGivesTheSameStream) {
  Random a({7, 1}), b({7, 1});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.next(), b.next());
}

TEST(Random, OrderLengthAndEveryWordOfTheKeyMatter) {
  std::set<uint64_t> first;
  const std::vector<Random> streams = {Random({}),     Random({0}),    Random({0, 0}), Random({1, 0}),
                                       Random({0, 1}), Random({1, 1}), Random({1}),    Random({uint64_t{1} << 63})};
  for (Random stream : streams) first.insert(stream.next());
  EXPECT_EQ(first.size(), streams.size());
}

TEST(Random, NeighbouringKeysAreUncorrelated) {
  // Each bit of the first words of streams i and i + 1 agrees half the time: 64 * 1000 trials, 6 sigma = 760.
  int64_t agree = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    agree += 64 - __builtin_popcountll(Random({5, i}).next() ^ Random({5, i + 1}).next());
  }
  EXPECT_NEAR(static_cast<double>(agree), 32000, 760);
}

double chi_square(const std::vector<int64_t>& counts) {
  const double expected = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0})) /
                          static_cast<double>(counts.size());
  double sum = 0;
  for (const int64_t count : counts) {
    sum += (static_cast<double>(count) - expected) * (static_cast<double>(count) - expected) / expected;
  }
  return sum;
}

TEST(Random, BelowIsUniformOnSmallRanges) {
  for (const uint64_t n : {2, 3, 7, 10, 100}) {
    Random random({11, n});
    std::vector<int64_t> counts(n);
    for (int i = 0; i < 100000; ++i) {
      const uint64_t value = random.below(n);
      ASSERT_LT(value, n);
      ++counts[value];
    }
    // Mean n - 1, standard deviation sqrt(2 (n - 1)); the bound is six of them.
    const double freedom = static_cast<double>(n - 1);
    EXPECT_LT(chi_square(counts), freedom + 6 * std::sqrt(2 * freedom)) << "n = " << n;
  }
}

TEST(Random, BelowIsUniformWhereTheRangeDoesNotDivideTheWord) {
  // With n = 3/4 of 2^64, a plain multiply or remainder returns one third of the range twice as often.
  const uint64_t n = uint64_t{3} << 62;
  Random random({12});
  std::vector<int64_t> residues(3), thirds(3);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t value = random.below(n);
    ASSERT_LT(value, n);
    ++residues[value % 3];
    ++thirds[value / (n / 3)];
  }
  EXPECT_LT(chi_square(residues), 2 + 6 * 2);
  EXPECT_LT(chi_square(thirds), 2 + 6 * 2);
}

TEST(Random, BelowOneIsZero) {
  Random random({13});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(random.below(1), 0u);
}

TEST(Random, UniformFillsItsInterval) {
  Random random({14});
  double sum = 0, low = 1, high = 0;
  for (int i = 0; i < 100000; ++i) {
    const double value = random.uniform();
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    sum += value;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  EXPECT_NEAR(sum / 100000, 0.5, 6 * 0.2887 / 316);
  EXPECT_LT(low, 1e-3);
  EXPECT_GT(high, 1 - 1e-3);
}

TEST(Random, DistinctIsThePrefixOfAPermutation) {
  const std::vector<int64_t> all = Random({15}).distinct(20, 20);
  std::vector<int64_t> sorted = all, numbers(20);
  std::sort(sorted.begin(), sorted.end());
  std::iota(numbers.begin(), numbers.end(), 0);
  EXPECT_EQ(sorted, numbers);
  EXPECT_NE(all, numbers);
  for (const int64_t count : {0, 1, 7, 19}) {
    const std::vector<int64_t> some = Random({15}).distinct(count, 20);
    EXPECT_EQ(some, std::vector<int64_t>(all.begin(), all.begin() + count));
  }
}

TEST(Random, DistinctGivesEveryOrderEqually) {
  std::vector<int64_t> counts(24);
  for (uint64_t i = 0; i < 24000; ++i) {
    std::vector<int64_t> order = Random({16, i}).distinct(4, 4);
    size_t rank = 0;
    while (std::prev_permutation(order.begin(), order.end())) ++rank;
    ++counts[rank];
  }
  EXPECT_LT(chi_square(counts), 23 + 6 * std::sqrt(2 * 23.0));
}

}  // namespace
}  // namespace klab
