// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=compositional_mqar", "task.length=64", "task.vocab=32"};

// Reads the triples, then finds all positions where two consecutive words are a stored pair.
Expected replay(const std::vector<std::string>& words, int64_t grid) {
  const int64_t context = 3 * grid * grid;
  struct Entry {
    std::string value;
    int64_t position;
  };
  std::map<std::pair<std::string, std::string>, Entry> stored;
  std::set<std::string> firsts, seconds, values;
  for (int64_t i = 0; i < context; i += 3) {
    EXPECT_EQ(words[i][0], 'a');
    EXPECT_EQ(words[i + 1][0], 'b');
    EXPECT_EQ(words[i + 2][0], 'v');
    EXPECT_TRUE(stored.emplace(std::pair(words[i], words[i + 1]), Entry{words[i + 2], i + 2}).second);
    firsts.insert(words[i]);
    seconds.insert(words[i + 1]);
    values.insert(words[i + 2]);
  }
  // All grid x grid pairs occur: no single symbol determines a value.
  EXPECT_EQ(static_cast<int64_t>(firsts.size()), grid);
  EXPECT_EQ(static_cast<int64_t>(seconds.size()), grid);
  EXPECT_EQ(static_cast<int64_t>(values.size()), grid * grid);
  Expected expected;
  for (int64_t i = 0; i < static_cast<int64_t>(words.size()); ++i) {
    const auto queried = i > context ? stored.find({words[i - 1], words[i]}) : stored.end();
    if (queried == stored.end()) {
      expected.none();
      continue;
    }
    EXPECT_EQ((i - context) % 3, 1) << "slots are three tokens wide";
    expected.ask(queried->second.value, i - queried->second.position);
    stored.erase(queried);
  }
  EXPECT_TRUE(stored.empty()) << "not every pair is queried";
  return expected;
}

TEST(CompositionalMqar, AsksForEachPairOnce) {
  // Length, grid, vocabulary.
  const int64_t shapes[][3] = {{64, 2, 32}, {64, 3, 32}, {24, 2, 12}, {25, 2, 13}, {100, 4, 50}};
  for (const auto& [length, grid, vocab] : shapes) {
    const auto task =
        make_task({"task.name=compositional_mqar", fmt::format("task.length={}", length),
                   fmt::format("task.vocab={}", vocab), fmt::format("task.compositional_mqar.grid={}", grid)});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      expect_example(*task, drawn, length, replay(printed_inputs(*task, drawn), grid));
    }
  }
}

TEST(CompositionalMqar, FillersAreNoKeysOfTheSequence) {
  const auto task = make_task({"task.name=compositional_mqar", "task.length=64", "task.vocab=12"});
  std::set<std::string> fillers;
  for (int64_t index = 0; index < 300; ++index) {
    const Example drawn = task->example(1, Split::train, index);
    const auto words = printed_inputs(*task, drawn);
    const std::set<std::string> stored(words.begin(), words.begin() + 12);
    for (int64_t i = 12; i < 64; ++i) {
      const bool queried = drawn.labels[i] != kNoTarget || (i < 63 && drawn.labels[i + 1] != kNoTarget);
      if (queried) continue;
      EXPECT_TRUE(words[i][0] == 'v' || !stored.contains(words[i])) << words[i];
      fillers.insert(words[i]);
    }
  }
  EXPECT_EQ(fillers.size(), 12u);  // over many sequences every symbol is a filler in some
}

TEST(CompositionalMqar, StoresThePairsInAnyOrder) {
  const auto task = make_task({"task.name=compositional_mqar", "task.length=24", "task.vocab=12"});
  // Whether the second triple has the same first symbol as the first one, the same second symbol, or neither.
  int64_t counts[3] = {};
  for (int64_t index = 0; index < 3000; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    ++counts[words[0] == words[3] ? 0 : words[1] == words[4] ? 1 : 2];
  }
  // 1000 of each, with a standard deviation of 26.
  for (const int64_t count : counts) EXPECT_NEAR(count, 1000, 5 * 26);
}

TEST(CompositionalMqar, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0x701b4d0247a30bbbu);
}

TEST(CompositionalMqar, NamesItsTokens) {
  const auto task = make_task(kToy);
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 32);
  EXPECT_EQ(task->token_name(9), "a9");
  EXPECT_EQ(task->token_name(10 + 9), "b9");
  EXPECT_EQ(task->token_name(20 + 11), "v11");
  EXPECT_EQ(task->difficulty_name(), "gap");
}

TEST(CompositionalMqar, RefusesWhatDoesNotFit) {
  const std::string name = "task.name=compositional_mqar";
  EXPECT_EQ(refusal({name, "task.length=23"}),
            "task.length = 23 must be at least 24 for compositional_mqar: three tokens to store each of 4 pairs and a "
            "slot of three to query it");
  EXPECT_EQ(refusal({name, "task.vocab=11"}),
            "task.vocab = 11 must be at least 3 x grid^2 = 12 for compositional_mqar: a third of the symbols each are "
            "first keys, second keys and values");
  for (const char* grid : {"1", "0", "-3", "9000000000000000"}) {
    EXPECT_NE(refusal({name, fmt::format("task.compositional_mqar.grid={}", grid)}).find("must be between 2 and 4096"),
              std::string::npos);
  }
  EXPECT_NE(refusal({name, "task.compositional_mqar.power_a=2"}).find("must be between 0"), std::string::npos);
}

}  // namespace
}  // namespace klab
