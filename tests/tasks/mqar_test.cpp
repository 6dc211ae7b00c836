// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kReport = {"task.name=mqar", "task.length=65", "task.vocab=64"};
const std::vector<std::string> kZoology = {"task.name=mqar", "task.length=64", "task.vocab=128",
                                           "task.mqar.protocol=zoology", "task.mqar.pairs=4"};

// A dictionary that is filled from the first 2 x pairs words and queried afterwards.
struct Dictionary {
  std::map<std::string, std::string> value_of;
  std::map<std::string, int64_t> stored_at;  // position of the value
};

Dictionary read_pairs(const std::vector<std::string>& words, int64_t pairs) {
  Dictionary dictionary;
  std::set<std::string> values;
  for (int64_t i = 0; i < 2 * pairs; i += 2) {
    EXPECT_EQ(words[i][0], 'k');
    EXPECT_EQ(words[i + 1][0], 'v');
    EXPECT_TRUE(dictionary.value_of.emplace(words[i], words[i + 1]).second) << words[i] << " is stored twice";
    EXPECT_TRUE(values.insert(words[i + 1]).second) << words[i + 1] << " is stored twice";
    dictionary.stored_at[words[i]] = i + 1;
  }
  return dictionary;
}

Expected replay(const std::vector<std::string>& words, int64_t pairs) {
  const Dictionary dictionary = read_pairs(words, pairs);
  Expected expected;
  for (int64_t i = 0; i < static_cast<int64_t>(words.size()); ++i) {
    const bool queried = i >= 2 * pairs && dictionary.value_of.contains(words[i]);
    if (queried) {
      expected.ask(dictionary.value_of.at(words[i]), i - dictionary.stored_at.at(words[i]));
    } else {
      expected.none();
    }
  }
  return expected;
}

TEST(Mqar, ReportAsksOnlyStoredKeysAfterTheSeparator) {
  // Length, value of the option `pairs`, number of pairs.
  const int64_t shapes[][3] = {{65, 0, 16}, {64, 0, 16}, {4, 0, 1}, {4, 1, 1}, {65, 31, 31}, {64, 31, 31}, {33, 5, 5}};
  for (const auto& [length, option, pairs] : shapes) {
    const auto task = make_task({"task.name=mqar", fmt::format("task.length={}", length), "task.vocab=64",
                                 fmt::format("task.mqar.pairs={}", option)});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const auto words = printed_inputs(*task, drawn);
      ASSERT_EQ(words[2 * pairs], "<sep>");
      const Expected expected = replay(words, pairs);
      expect_example(*task, drawn, length, expected);
      for (int64_t i = 2 * pairs + 1; i < length; ++i) ASSERT_NE(expected.labels[i], "") << "position " << i;
    }
  }
}

TEST(Mqar, ReportAsksPairsUniformlyWithReplacement) {
  const auto task = make_task({"task.name=mqar", "task.length=64", "task.vocab=64", "task.mqar.pairs=4"});
  std::map<int64_t, int64_t> counts;
  for (int64_t index = 0; index < 200; ++index) {
    const Example drawn = task->example(2, Split::train, index);
    for (int64_t i = 9; i < 64; ++i) ++counts[i - drawn.difficulty[i]];
  }
  ASSERT_EQ(counts.size(), 4u);
  // 11000 queries: 2750 of each pair, with a standard deviation of 45.
  for (const auto& [pair, count] : counts) EXPECT_NEAR(count, 2750, 5 * 45) << pair;
}

TEST(Mqar, ZoologyAsksEachKeyOnceAtASlot) {
  const int64_t shapes[][2] = {{64, 4}, {64, 16}, {4, 1}, {66, 16}};
  for (const auto& [length, pairs] : shapes) {
    const auto task = make_task({"task.name=mqar", fmt::format("task.length={}", length), "task.vocab=32",
                                 "task.mqar.protocol=zoology", fmt::format("task.mqar.pairs={}", pairs)});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const auto words = printed_inputs(*task, drawn);
      const Expected expected = replay(words, pairs);
      expect_example(*task, drawn, length, expected);
      std::set<std::string> queried;
      for (int64_t i = 0; i < length; ++i) {
        if (expected.labels[i].empty()) continue;
        EXPECT_EQ(i % 2, 0) << "slots are two tokens wide";
        EXPECT_TRUE(queried.insert(words[i]).second) << words[i] << " is queried twice";
      }
      EXPECT_EQ(static_cast<int64_t>(queried.size()), pairs);
    }
  }
}

TEST(Mqar, ZoologySlotsFollowThePowerLaw) {
  for (const double a : {0.01, 1.0}) {
    auto settings = kZoology;
    settings.push_back(fmt::format("task.mqar.power_a={}", a));
    const auto task = make_task(settings);
    const int64_t draws = 8000, slots = (64 - 2 * 4) / 2;
    std::vector<int64_t> counts(slots, 0);
    for (int64_t index = 0; index < draws; ++index) {
      const Example drawn = task->example(4, Split::train, index);
      // The slot of the first pair is drawn first, so it follows the power law exactly.
      for (int64_t i = 8; i < 64; i += 2) counts[(i - 8) / 2] += i - drawn.difficulty[i] == 1;
    }
    double total = 0;
    for (int64_t i = 1; i <= slots; ++i) total += std::pow(i, a - 1);
    for (int64_t i = 1; i <= slots; ++i) {
      const double share = std::pow(i, a - 1) / total;
      EXPECT_NEAR(counts[i - 1], draws * share, 5 * std::sqrt(draws * share)) << "a = " << a << ", slot " << i;
    }
  }
}

TEST(Mqar, ZoologyFillersAreAnySymbolsButTheKeys) {
  const auto task = make_task(
      {"task.name=mqar", "task.length=64", "task.vocab=8", "task.mqar.protocol=zoology", "task.mqar.pairs=2"});
  std::set<std::string> fillers;
  for (int64_t index = 0; index < 200; ++index) {
    const Example drawn = task->example(1, Split::train, index);
    const auto words = printed_inputs(*task, drawn);
    for (size_t i = 4; i < words.size(); ++i) {
      if (drawn.labels[i] != kNoTarget) continue;
      EXPECT_TRUE(words[i] != words[0] && words[i] != words[2]) << words[i];
      fillers.insert(words[i]);
    }
  }
  EXPECT_EQ(fillers.size(), 8u);  // over many sequences every symbol is a filler in some
}

TEST(Mqar, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kReport), 5), golden(*make_task(kReport), 5));
  EXPECT_NE(golden(*make_task(kReport), 5), golden(*make_task(kReport), 6));
  EXPECT_EQ(golden(*make_task(kReport), 5), 0xea9c4827306271c8u);
  EXPECT_EQ(golden(*make_task(kZoology), 5), 0x21bfa043c60f8501u);
  EXPECT_EQ(golden(*make_task({"task.name=mqar", "task.length=1024", "task.vocab=8192", "task.mqar.protocol=zoology",
                               "task.mqar.pairs=128"}),
                   5),
            0xe626656c6cb18a7bu);
}

TEST(Mqar, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=mqar", "task.length=6", "task.vocab=10", "task.mqar.pairs=1"}));
  expect_disjoint_splits(*make_task(
      {"task.name=mqar", "task.length=4", "task.vocab=6", "task.mqar.pairs=1", "task.mqar.protocol=zoology"}));
}

TEST(Mqar, NamesItsTokens) {
  const auto report = make_task(kReport);
  expect_distinct_names(*report);
  EXPECT_EQ(report->vocabulary(), 64 + 1);
  EXPECT_EQ(report->token_name(3), "k3");
  EXPECT_EQ(report->token_name(32 + 7), "v7");
  EXPECT_EQ(report->token_name(64), "<sep>");
  EXPECT_EQ(report->difficulty_name(), "gap");
  const auto zoology = make_task(kZoology);
  expect_distinct_names(*zoology);
  EXPECT_EQ(zoology->vocabulary(), 128);
}

TEST(Mqar, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal({"task.vocab=30"}),
            "task.vocab = 30 must be even and at least 2 x pairs = 32 for mqar: the first half are keys, the "
            "second "
            "values");
  EXPECT_NE(refusal({"task.vocab=65"}).find("task.vocab = 65 must be even"), std::string::npos);
  EXPECT_EQ(refusal({"task.mqar.pairs=32"}),
            "task.mqar.pairs = 32 must be 0 (a quarter of the length) or between 1 and 31, the most that fit into "
            "task.length = 64");
  EXPECT_NE(refusal({"task.mqar.pairs=-1"}).find("task.mqar.pairs = -1 must"), std::string::npos);
  EXPECT_NE(refusal({"task.mqar.pairs=9000000000000000"}).find("must"), std::string::npos);
  EXPECT_EQ(refusal({"task.length=3"}), "task.length = 3 must be at least 4 for mqar: one pair and one query");
  EXPECT_NE(refusal({"task.mqar.protocol=zoology", "task.length=65"}).find("task.length = 65 must be even"),
            std::string::npos);
  EXPECT_NE(refusal({"task.mqar.protocol=zoology", "task.mqar.pairs=17"}).find("between 1 and 16"), std::string::npos);
  EXPECT_NE(refusal({"task.mqar.power_a=1.5"}).find("task.mqar.power_a = 1.5 must be between 0"), std::string::npos);
  EXPECT_NE(refusal({"task.mqar.protocol=zoo"}).find("protocol = zoo must be one of: report, zoology"),
            std::string::npos);
}

}  // namespace
}  // namespace klab
