// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=memorization", "task.length=32", "task.vocab=16"};

using Table = std::map<std::string, std::string>;

// Adds the key-value pairs of one sequence to the table; they must agree with earlier ones.
void learn(const Task& task, const Example& drawn, Table& table) {
  const auto words = printed_inputs(task, drawn), labels = printed_labels(task, drawn);
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    ASSERT_EQ(words[i][0], 'k');
    ASSERT_EQ(labels[i + 1][0], 'v');
    EXPECT_EQ(table.emplace(words[i], labels[i + 1]).first->second, labels[i + 1]) << words[i] << " has changed";
  }
}

Table table_of(const std::vector<std::string>& settings, int64_t seed, Split split) {
  const auto task = make_task(settings);
  Table table;
  for (int64_t index = 0; index < 50; ++index) learn(*task, task->example(seed, split, index), table);
  return table;
}

Expected replay(const std::vector<std::string>& words, const Table& table) {
  Expected expected;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "<insert>") {
      expected.ask(table.at(words[i - 1]), 1);
    } else {
      expected.none();
    }
  }
  return expected;
}

TEST(Memorization, AsksForTheTableAndNeverSaysIt) {
  const Table table = table_of(kToy, 0, Split::train);
  for (const int64_t length : {4, 5, 32}) {
    const auto task = make_task({"task.name=memorization", fmt::format("task.length={}", length), "task.vocab=16"});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const auto words = printed_inputs(*task, drawn);
      for (int64_t i = 0; i + 1 < length; i += 2) ASSERT_EQ(words[i + 1], "<insert>");
      for (const std::string& word : words) ASSERT_NE(word[0], 'v');
      ASSERT_EQ(words.back() == "<pad>", length % 2 == 1);
      expect_example(*task, drawn, length, replay(words, table));
    }
  }
}

TEST(Memorization, TheTableIsTheSameInEveryExample) {
  const Table table = table_of(kToy, 0, Split::train);
  std::set<std::string> values;
  for (const auto& [key, value] : table) values.insert(value);
  EXPECT_EQ(table.size(), 8u);
  EXPECT_EQ(values.size(), 8u) << "one to one";
  auto other = kToy;
  other.push_back("task.memorization.table_seed=1");
  EXPECT_EQ(table, table_of(kToy, 0, Split::test));
  EXPECT_EQ(table, table_of(kToy, 9, Split::train));
  EXPECT_NE(table, table_of(other, 0, Split::train));
}

TEST(Memorization, DrawsKeysUniformly) {
  const auto task = make_task(kToy);
  std::map<std::string, int64_t> keys;
  for (int64_t index = 0; index < 200; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    for (size_t i = 0; i < 32; i += 2) ++keys[words[i]];
  }
  // 3200 keys: 400 of each, with a standard deviation of 19.
  for (const auto& [key, count] : keys) EXPECT_NEAR(count, 400, 5 * 19) << key;
}

TEST(Memorization, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0x8ac5e26446d849e7u);
}

TEST(Memorization, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=memorization", "task.length=4", "task.vocab=16"}));
}

TEST(Memorization, NamesItsTokens) {
  const auto task = make_task(kToy);
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 16 + 2);
  EXPECT_EQ(task->token_name(7), "k7");
  EXPECT_EQ(task->token_name(8 + 3), "v3");
  EXPECT_EQ(task->difficulty_name(), "level");
}

TEST(Memorization, RefusesShapesWithoutATarget) {
  EXPECT_EQ(refusal({"task.name=memorization", "task.length=1"}),
            "task.length = 1 must be at least 2 for memorization: a key and <insert>");
  for (const char* vocab : {"2", "9"}) {
    EXPECT_EQ(refusal({"task.name=memorization", fmt::format("task.vocab={}", vocab)}),
              fmt::format("task.vocab = {} must be even and at least 4 for memorization: the first half are keys, the "
                          "second values",
                          vocab));
  }
}

}  // namespace
}  // namespace klab
