// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=selective_copy", "task.length=32", "task.vocab=8",
                                       "task.selective_copy.items=5"};

// Collects the non-blank words before <copy>; they are the targets after it.
Expected replay(const std::vector<std::string>& words) {
  std::vector<std::pair<std::string, int64_t>> symbols;
  size_t answered = 0;
  bool copying = false;
  Expected expected;
  for (int64_t i = 0; i < static_cast<int64_t>(words.size()); ++i) {
    if (copying && answered < symbols.size()) {
      EXPECT_EQ(words[i], "_") << "answers are not inputs";
      expected.ask(symbols[answered].first, i - symbols[answered].second);
      ++answered;
      continue;
    }
    expected.none();
    if (words[i] == "<copy>") copying = true;
    if (words[i][0] == 'x') symbols.emplace_back(words[i], i);
  }
  EXPECT_EQ(answered, symbols.size());
  return expected;
}

TEST(SelectiveCopy, SaysTheSymbolsAgainAtTheEnd) {
  // Length, items.
  const int64_t shapes[][2] = {{4, 1}, {32, 5}, {32, 15}, {33, 15}, {256, 16}};
  for (const auto& [length, items] : shapes) {
    const auto task = make_task({"task.name=selective_copy", fmt::format("task.length={}", length), "task.vocab=8",
                                 fmt::format("task.selective_copy.items={}", items)});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const auto words = printed_inputs(*task, drawn);
      ASSERT_EQ(words[length - 1 - items], "<copy>");
      expect_example(*task, drawn, length, replay(words));
      EXPECT_EQ(std::count_if(words.begin(), words.end(), [](const std::string& word) { return word[0] == 'x'; }),
                items);
    }
  }
}

TEST(SelectiveCopy, SymbolsStandAnywhere) {
  const auto task = make_task(kToy);
  std::vector<int64_t> counts(32 - 1 - 5, 0);
  for (int64_t index = 0; index < 1000; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += words[i] != "_";
  }
  const double share = 5.0 / static_cast<double>(counts.size());
  for (const int64_t count : counts) EXPECT_NEAR(count, 1000 * share, 5 * std::sqrt(1000 * share * (1 - share)));
}

TEST(SelectiveCopy, RepeatsSymbolsAfterExponentialGaps) {
  // Length, items, mean gap; the last is the largest that is allowed.
  const struct {
    int64_t length, items;
    double mean_gap;
  } shapes[] = {{256, 4, 8}, {64, 3, 0.5}, {64, 9, 5}};
  for (const auto& [length, items, mean_gap] : shapes) {
    const auto task = make_task({"task.name=selective_copy", fmt::format("task.length={}", length), "task.vocab=8",
                                 fmt::format("task.selective_copy.items={}", items),
                                 fmt::format("task.selective_copy.mean_gap={}", mean_gap)});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const auto words = printed_inputs(*task, drawn);
      ASSERT_EQ(words[length - 1 - items], "<copy>");
      expect_example(*task, drawn, length, replay(words));
    }
  }
}

// The share of gaps of at least k tokens is exp(-k / mean). The row is so long that no draw is repeated.
TEST(SelectiveCopy, GapsAreExponential) {
  const auto task = make_task({"task.name=selective_copy", "task.length=512", "task.vocab=8",
                               "task.selective_copy.items=5", "task.selective_copy.mean_gap=1.5"});
  std::vector<int64_t> at_least(12, 0);
  int64_t gaps = 0;
  for (int64_t index = 0; index < 600; ++index) {
    size_t gap = 0;
    for (const std::string& word : printed_inputs(*task, task->example(2, Split::train, index))) {
      if (word == "<copy>") break;
      if (word == "_" && ++gap > 0) continue;
      ++gaps;
      for (size_t k = 0; k <= std::min<size_t>(gap, at_least.size() - 1); ++k) ++at_least[k];
      gap = 0;
    }
  }
  EXPECT_EQ(gaps, 3000);
  for (size_t k = 0; k < at_least.size(); ++k) {
    const double share = std::exp(-static_cast<double>(k) / 1.5);
    EXPECT_NEAR(at_least[k], 3000 * share, 5 * std::sqrt(3000 * share * (1 - share)) + 1e-9) << k;
  }
}

TEST(SelectiveCopy, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0xa5a7f0ecbf898631u);
}

TEST(SelectiveCopy, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(
      *make_task({"task.name=selective_copy", "task.length=6", "task.vocab=6", "task.selective_copy.items=2"}));
}

TEST(SelectiveCopy, NamesItsTokens) {
  const auto task = make_task(kToy);
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 8 + 2);
  EXPECT_EQ(task->token_name(7), "x7");
  EXPECT_EQ(task->difficulty_name(), "gap");
}

TEST(SelectiveCopy, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal({"task.name=selective_copy", "task.length=3"}),
            "task.length = 3 must be at least 4 for selective_copy: a symbol, a blank, <copy>, the answer");
  EXPECT_EQ(
      refusal({"task.name=selective_copy", "task.length=32"}),
      "task.selective_copy.items = 16 must be between 1 and 15, the most that fit twice, with <copy> and a blank, "
      "into task.length = 32");
  EXPECT_NE(refusal({"task.name=selective_copy", "task.selective_copy.items=0"}).find("must be between 1 and"),
            std::string::npos);
  EXPECT_EQ(
      refusal({"task.name=selective_copy", "task.length=64", "task.selective_copy.items=9",
               "task.selective_copy.mean_gap=5.1"}),
      "task.selective_copy.mean_gap = 5.1 must be at most 5.00: with that mean 9 symbols and the gaps before them "
      "fill the 54 positions before <copy>");
  EXPECT_NE(refusal({"task.name=selective_copy", "task.vocab=1"}).find("task.vocab = 1 must be at least 2"),
            std::string::npos);
}

}  // namespace
}  // namespace klab
