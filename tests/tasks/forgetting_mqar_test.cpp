// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=forgetting_mqar", "task.length=64", "task.vocab=32"};

// A dictionary that is filled from the pairs and updates, and queried afterwards.
Expected replay(const std::vector<std::string>& words, int64_t pairs, int64_t updates) {
  struct Entry {
    std::string value;
    int64_t position;
  };
  std::map<std::string, Entry> dictionary;
  std::set<std::string> first_values, updated;
  Expected expected;
  for (int64_t i = 0; i < static_cast<int64_t>(words.size()); ++i) {
    const std::string& word = words[i];
    const bool storing = i < 2 * (pairs + updates);
    if (storing && i % 2 == 1) {
      EXPECT_EQ(word[0], 'v');
      if (i < 2 * pairs) {
        EXPECT_FALSE(dictionary.contains(words[i - 1])) << words[i - 1] << " is stored twice";
        EXPECT_TRUE(first_values.insert(word).second) << word << " is stored twice";
      } else {
        EXPECT_TRUE(updated.insert(words[i - 1]).second) << words[i - 1] << " is updated twice";
        EXPECT_NE(dictionary.at(words[i - 1]).value, word) << "an update changes nothing";
      }
      dictionary[words[i - 1]] = {word, i};
    }
    const auto entry = dictionary.find(word);
    if (!storing && entry != dictionary.end()) {
      EXPECT_EQ(i % 2, 0) << "slots are two tokens wide";
      expected.ask(entry->second.value, i - entry->second.position);
      dictionary.erase(entry);
    } else {
      expected.none();
    }
  }
  EXPECT_TRUE(dictionary.empty()) << "not every key is queried";
  return expected;
}

TEST(ForgettingMqar, AsksForTheLastValueOfEachKeyOnce) {
  // Length, pairs, updates.
  const int64_t shapes[][3] = {{64, 8, 4}, {64, 8, 8}, {6, 1, 1}, {64, 15, 2}, {48, 8, 8}};
  for (const auto& [length, pairs, updates] : shapes) {
    const auto task = make_task({"task.name=forgetting_mqar", fmt::format("task.length={}", length), "task.vocab=32",
                                 fmt::format("task.forgetting_mqar.pairs={}", pairs),
                                 fmt::format("task.forgetting_mqar.updates={}", updates)});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      expect_example(*task, drawn, length, replay(printed_inputs(*task, drawn), pairs, updates));
    }
  }
}

TEST(ForgettingMqar, UpdatesAnyKeyWithAnyOtherValue) {
  const auto task = make_task({"task.name=forgetting_mqar", "task.length=16", "task.vocab=8",
                               "task.forgetting_mqar.pairs=3", "task.forgetting_mqar.updates=1"});
  std::map<std::string, int64_t> keys, values;
  for (int64_t index = 0; index < 3000; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    for (int64_t pair = 0; pair < 3; ++pair) {
      if (words[2 * pair] == words[6]) ++keys[fmt::format("pair {}", pair)];
    }
    ++values[words[7]];
  }
  EXPECT_EQ(keys.size(), 3u);
  EXPECT_EQ(values.size(), 4u);
  // 1000 of each pair with a standard deviation of 26, 750 of each value with one of 24.
  for (const auto& [pair, count] : keys) EXPECT_NEAR(count, 1000, 5 * 26) << pair;
  for (const auto& [value, count] : values) EXPECT_NEAR(count, 750, 5 * 24) << value;
}

TEST(ForgettingMqar, AsksSoonWhenTheLawIsSteep) {
  const auto sum_of_positions = [](const std::string& power_a) {
    auto settings = kToy;
    settings.push_back("task.forgetting_mqar.power_a=" + power_a);
    const auto task = make_task(settings);
    int64_t sum = 0;
    for (int64_t index = 0; index < 200; ++index) {
      const Example drawn = task->example(2, Split::train, index);
      for (int64_t i = 0; i < 64; ++i) sum += drawn.labels[i] == kNoTarget ? 0 : i;
    }
    return sum;
  };
  EXPECT_LT(sum_of_positions("0.01"), 0.95 * sum_of_positions("1"));
}

TEST(ForgettingMqar, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0xc737d4de8b2c74eu);
}

TEST(ForgettingMqar, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=forgetting_mqar", "task.length=6", "task.vocab=6",
                                     "task.forgetting_mqar.pairs=1", "task.forgetting_mqar.updates=1"}));
}

TEST(ForgettingMqar, NamesItsTokens) {
  const auto task = make_task(kToy);
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 32);
  EXPECT_EQ(task->token_name(3), "k3");
  EXPECT_EQ(task->token_name(16 + 7), "v7");
  EXPECT_EQ(task->difficulty_name(), "gap");
}

TEST(ForgettingMqar, RefusesWhatDoesNotFit) {
  const std::string name = "task.name=forgetting_mqar";
  EXPECT_EQ(refusal({name, "task.length=4"}),
            "task.length = 4 must be even and at least 6 for forgetting_mqar: a pair, its update and a query in a slot "
            "of two tokens");
  EXPECT_NE(refusal({name, "task.length=63"}).find("task.length = 63 must be even"), std::string::npos);
  EXPECT_EQ(
      refusal({name, "task.forgetting_mqar.pairs=16"}),
      "task.forgetting_mqar.pairs = 16 must be between 1 and 15, the most that fit with their queries and one update "
      "into task.length = 64");
  EXPECT_NE(refusal({name, "task.forgetting_mqar.pairs=9000000000000000"}).find("between 1 and 16777216"),
            std::string::npos);
  EXPECT_NE(refusal({name, "task.forgetting_mqar.pairs=14", "task.forgetting_mqar.updates=5"}).find("between 1 and 4"),
            std::string::npos);
  EXPECT_NE(refusal({name, "task.forgetting_mqar.updates=9"}).find("between 1 and 8"), std::string::npos);
  EXPECT_NE(refusal({name, "task.forgetting_mqar.updates=0"}).find("must be between 1 and"), std::string::npos);
  EXPECT_NE(refusal({name, "task.vocab=14"}).find("task.vocab = 14 must be even and at least 16"), std::string::npos);
  EXPECT_NE(refusal({name, "task.forgetting_mqar.power_a=-1"}).find("must be between 0"), std::string::npos);
}

}  // namespace
}  // namespace klab
