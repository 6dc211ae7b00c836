// SPDX-License-Identifier: Apache-2.0
#include "tasks/capo.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

Words settings(const Words& more) {
  Words all = {"task.name=capo", "task.vocab=8", "task.capo.people=20", "task.capo.attributes=3", "task.capo.values=5"};
  for (const std::string& one : more) {
    all.push_back((one.starts_with("length=") || one.starts_with("vocab=") ? "task." : "task.capo.") + one);
  }
  return all;
}

using Table = std::map<std::string, std::map<std::string, std::string>>;  // by name and attribute

// Adds what a row says to the table; it must agree with what is known. Returns the expected targets.
Expected learn(const Words& words, int64_t attributes, size_t name_tokens, Table& table) {
  Expected expected;
  std::set<std::string> in_row;
  size_t at = 0;
  while (at < words.size() && words[at] != "<pad>") {
    EXPECT_EQ(words.at(at), "<bos>");
    std::string name;
    for (size_t i = 1; i <= name_tokens; ++i) {
      EXPECT_EQ(words.at(at + i)[0], 'n');
      name += words.at(at + i);
    }
    EXPECT_TRUE(in_row.insert(name).second) << "twice in a row";
    at += 1 + name_tokens;
    std::set<std::string> asked;
    for (int64_t i = 0; i < attributes; ++i, at += 2) {
      while (expected.labels.size() < at) expected.none();
      const std::string &attribute = words.at(at), &value = words.at(at + 1);
      EXPECT_TRUE(asked.insert(attribute).second);
      EXPECT_EQ("a" + value.substr(1, value.find('.') - 1), attribute);
      EXPECT_EQ(table[name].emplace(attribute, value).first->second, value) << name << " has changed";
      expected.ask(value, 1);
    }
  }
  while (expected.labels.size() < words.size()) expected.none();
  return expected;
}

Table table_of(const Words& more, int64_t seed, Split split) {
  const auto task = make_task(settings(more));
  Table table;
  for (int64_t index = 0; index < 100; ++index) {
    learn(printed_inputs(*task, task->example(seed, split, index)), 3, 3, table);
  }
  return table;
}

TEST(Capo, AsksForTheAttributesOfPeople) {
  const struct {
    Words more;
    int64_t length, attributes;
    size_t name_tokens;
  } cases[] = {{{"length=10"}, 10, 3, 3},
               {{"length=64"}, 64, 3, 3},
               {{"length=64", "name_tokens=2"}, 64, 3, 2},
               {{"length=64", "attributes=1"}, 64, 1, 3}};
  for (const auto& [more, length, attributes, name_tokens] : cases) {
    const auto task = make_task(settings(more));
    Table table;
    for (int64_t index = 0; index < 30; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const Words words = printed_inputs(*task, drawn);
      expect_example(*task, drawn, length, learn(words, attributes, name_tokens, table));
      EXPECT_LT(std::count(words.begin(), words.end(), "<pad>"),
                static_cast<int64_t>(name_tokens) + 1 + 2 * attributes);
    }
  }
}

TEST(Capo, TheTableIsTheSameInEveryExample) {
  const Table table = table_of({"length=64"}, 0, Split::train);
  EXPECT_EQ(table.size(), 20u);
  for (const auto& [name, values] : table) EXPECT_EQ(values.size(), 3u) << name;
  EXPECT_EQ(table, table_of({"length=64"}, 0, Split::test));
  EXPECT_EQ(table, table_of({"length=33"}, 9, Split::train));
  EXPECT_NE(table, table_of({"length=64", "table_seed=1"}, 0, Split::train));
}

TEST(Capo, ValuesAreUniform) {
  const auto task = make_task(settings({"length=100", "people=400", "vocab=16"}));
  Table table;
  for (int64_t index = 0; index < 600; ++index) {
    learn(printed_inputs(*task, task->example(1, Split::train, index)), 3, 3, table);
  }
  ASSERT_EQ(table.size(), 400u);
  std::map<std::string, int64_t> counts;
  for (const auto& [name, values] : table) {
    for (const auto& [attribute, value] : values) ++counts[value];
  }
  EXPECT_EQ(counts.size(), 15u);
  // 80 people with each value of each attribute, with a standard deviation of 8.
  for (const auto& [value, count] : counts) EXPECT_NEAR(count, 80, 5 * 8) << value;
}

TEST(Capo, CountsBits) {
  const auto task = make_task(settings({"length=64", "people=1000", "vocab=64", "attributes=6", "values=200"}));
  const auto& capo = dynamic_cast<const Capo&>(*task);
  EXPECT_NEAR(capo.bits(), 6000 * std::log2(200), 1e-6);
  EXPECT_NEAR(capo.bits_stored(0), capo.bits(), 1e-6);
  // A model that knows nothing gives each of the 200 values the same probability.
  EXPECT_NEAR(capo.bits_stored(std::log(200)), 0, 1e-6);
  EXPECT_EQ(capo.bits_stored(10), 0);
  // One that knows which half of the values it is has one bit of each.
  EXPECT_NEAR(capo.bits_stored(std::log(100)), 6000, 1e-6);
  EXPECT_EQ(capo.biographies(), 4);
}

TEST(Capo, TrainAndTestShareNoRow) {
  expect_disjoint_splits(*make_task(settings({"length=10", "people=30", "attributes=3"})));
}

TEST(Capo, IsTheSameOnEveryMachine) {
  const auto task = make_task(settings({"length=64"}));
  EXPECT_EQ(golden(*task, 5), golden(*task, 5));
  EXPECT_NE(golden(*task, 5), golden(*task, 6));
  EXPECT_EQ(golden(*task, 5), 0xb1d3eba315a89117u);
}

TEST(Capo, NamesItsTokens) {
  const auto task = make_task(settings({}));
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 8 + 3 + 3 * 5 + 2);
  EXPECT_EQ(task->token_name(8), "a0");
  EXPECT_EQ(task->token_name(8 + 3 + 5 + 2), "v1.2");
  EXPECT_EQ(task->difficulty_name(), "level");
}

TEST(Capo, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(settings({"length=9"})),
            "task.length = 9 must be at least 10 for capo: a biography of 3 attributes with a name of 3 symbols");
  EXPECT_EQ(refusal(settings({"vocab=3"})),
            "task.vocab = 3 must be larger for capo: names of 3 symbols must be able to name twice task.capo.people = "
            "20, but there are 27");
  EXPECT_NE(refusal(settings({"values=1"})).find("values = 1 must be between 2"), std::string::npos);
}

}  // namespace
}  // namespace klab
