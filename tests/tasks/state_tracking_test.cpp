// SPDX-License-Identifier: Apache-2.0
#include "tasks/state_tracking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=state_tracking", "task.length=32"};

std::string group_setting(const std::string& group) { return "task.state_tracking.group=" + group; }

bool is_permutation_group(const std::string& group) { return group[0] == 's' || group[0] == 'a'; }

// The product of two elements, computed from their names.
std::string multiply(const std::string& group, const std::string& left, const std::string& right) {
  if (!is_permutation_group(group)) {
    const int64_t order = group == "parity" ? 2 : 60;
    return std::to_string((std::stoll(left) + std::stoll(right)) % order);
  }
  // The image of each point under the left permutation, then the right one.
  std::string product;
  for (const char image : left) product += right[static_cast<size_t>(image - '1')];
  return product;
}

TEST(Group, TablesAreThoseOfTheNames) {
  const std::map<std::string, int64_t> orders = {{"parity", 2}, {"z60", 60}, {"s3", 6}, {"s5", 120}, {"a5", 60}};
  EXPECT_EQ(group_names().size(), orders.size());
  for (const std::string& name : group_names()) {
    const Group group = make_group(name);
    ASSERT_EQ(group.order(), orders.at(name)) << name;
    ASSERT_EQ(static_cast<int64_t>(group.table.size()), group.order() * group.order());
    for (int64_t a = 0; a < group.order(); ++a) {
      for (int64_t b = 0; b < group.order(); ++b) {
        ASSERT_EQ(group.names[group.product(a, b)], multiply(name, group.names[a], group.names[b])) << name;
      }
    }
  }
  EXPECT_THROW(make_group("m11"), Error);
}

TEST(Group, AxiomsHold) {
  for (const std::string& name : group_names()) {
    const Group group = make_group(name);
    for (int64_t a = 0; a < group.order(); ++a) {
      ASSERT_EQ(group.product(0, a), a);
      ASSERT_EQ(group.product(a, 0), a);
      std::set<int64_t> row, column;
      for (int64_t b = 0; b < group.order(); ++b) {
        row.insert(group.product(a, b));
        column.insert(group.product(b, a));
        // Every third element is enough to detect a wrong table, and keeps s5 fast.
        for (int64_t c = (a + b) % 3; c < group.order(); c += 3) {
          ASSERT_EQ(group.product(group.product(a, b), c), group.product(a, group.product(b, c))) << name;
        }
      }
      ASSERT_EQ(static_cast<int64_t>(row.size()), group.order()) << "no inverse";
      ASSERT_EQ(static_cast<int64_t>(column.size()), group.order()) << "no inverse";
    }
  }
}

TEST(Group, PermutationGroupsDoNotCommute) {
  for (const std::string& name : group_names()) {
    const Group group = make_group(name);
    int64_t commuting = 0;
    for (int64_t a = 0; a < group.order(); ++a) {
      for (int64_t b = 0; b < group.order(); ++b) commuting += group.product(a, b) == group.product(b, a);
    }
    // The number of commuting pairs is conjugacy classes times elements: 3 of s3, 7 of s5, 5 of a5.
    const std::map<std::string, int64_t> classes = {{"parity", 2}, {"z60", 60}, {"s3", 3}, {"s5", 7}, {"a5", 5}};
    EXPECT_EQ(commuting, classes.at(name) * group.order()) << name;
  }
}

TEST(StateTracking, AsksForTheRunningProduct) {
  for (const std::string& group : group_names()) {
    for (const int64_t length : {10, 257}) {
      const auto task =
          make_task({"task.name=state_tracking", fmt::format("task.length={}", length), group_setting(group)});
      for (int64_t index = 0; index < 20; ++index) {
        const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
        const auto words = printed_inputs(*task, drawn);
        Expected expected;
        std::string product = words[0];
        expected.ask(product, 1);
        for (int64_t i = 1; i < length; ++i) {
          product = multiply(group, product, words[i]);
          expected.ask(product, i + 1);
        }
        expect_example(*task, drawn, length, expected);
      }
    }
  }
}

TEST(StateTracking, AsksForTheLastProductOfSequencesOfSeveralLengths) {
  std::set<int64_t> lengths;
  for (const std::string& group : group_names()) {
    const auto task = make_task({"task.name=state_tracking", "task.length=20", group_setting(group),
                                 "task.state_tracking.targets=last", "task.state_tracking.min_length=5"});
    for (int64_t index = 0; index < 40; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const auto words = printed_inputs(*task, drawn);
      const int64_t length = std::find(words.begin(), words.end(), "<pad>") - words.begin();
      lengths.insert(length);
      std::string product = words[0];
      for (int64_t i = 1; i < length; ++i) product = multiply(group, product, words[i]);
      Expected expected;
      for (int64_t i = 0; i < 20; ++i) {
        if (i + 1 == length) {
          expected.ask(product, length);
        } else {
          expected.none();
        }
        ASSERT_EQ(words[i] == "<pad>", i >= length);
      }
      expect_example(*task, drawn, 20, expected);
    }
  }
  EXPECT_EQ(lengths.size(), 16u);  // 5 .. 20
  EXPECT_EQ(*lengths.begin(), 5);
}

TEST(StateTracking, DrawsElementsUniformly) {
  const auto task = make_task({"task.name=state_tracking", "task.length=60", group_setting("s3")});
  std::map<std::string, int64_t> factors, products;
  for (int64_t index = 0; index < 100; ++index) {
    const Example drawn = task->example(2, Split::train, index);
    for (const std::string& word : printed_inputs(*task, drawn)) ++factors[word];
    for (const std::string& word : printed_labels(*task, drawn)) ++products[word];
  }
  EXPECT_EQ(factors.size(), 6u);
  // 6000 elements: 1000 of each, with a standard deviation of 29.
  for (const auto& [word, count] : factors) EXPECT_NEAR(count, 1000, 5 * 29) << word;
  for (const auto& [word, count] : products) EXPECT_NEAR(count, 1000, 5 * 29) << word;
}

TEST(StateTracking, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0xe4a84e16c948b53au);
  EXPECT_EQ(golden(*make_task({"task.name=state_tracking", group_setting("parity")}), 5), 0xc40dac189a8b2d5eu);
}

TEST(StateTracking, BothSplitsExistAtTheSmallestLength) {
  const std::map<std::string, int64_t> shortest = {{"parity", 10}, {"z60", 2}, {"s3", 4}, {"s5", 2}, {"a5", 2}};
  for (const auto& [group, length] : shortest) {
    const auto task =
        make_task({"task.name=state_tracking", fmt::format("task.length={}", length), group_setting(group)});
    std::set<std::vector<int64_t>> train, test;
    for (int64_t index = 0; index < 200; ++index) {
      train.insert(task->example(0, Split::train, index).inputs);
      test.insert(task->example(1, Split::test, index).inputs);
    }
    for (const auto& sequence : test) EXPECT_FALSE(train.contains(sequence)) << group;
    EXPECT_GT(test.size(), 20u) << group;
  }
}

TEST(StateTracking, HasTheVocabularyOfTheGroup) {
  for (const char* vocab : {"task.vocab=64", "task.vocab=1"}) {
    for (const std::string& group : group_names()) {
      const auto task = make_task({"task.name=state_tracking", vocab, group_setting(group)});
      expect_distinct_names(*task);
      EXPECT_EQ(task->vocabulary(), make_group(group).order());
      EXPECT_EQ(task->token_name(0), group == "s3" ? "123" : is_permutation_group(group) ? "12345" : "0");
      EXPECT_EQ(task->difficulty_name(), "factors");
    }
  }
}

TEST(StateTracking, HasPaddingWithALeastLengthOnly) {
  const auto task = make_task({"task.name=state_tracking", "task.state_tracking.min_length=3"});
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 120 + 1);
  EXPECT_EQ(task->token_name(120), "<pad>");
  EXPECT_EQ(refusal({"task.name=state_tracking", "task.length=20", "task.state_tracking.min_length=21"}),
            "task.state_tracking.min_length = 21 must be 0 (always the full length) or between 1 and task.length = 20");
}

TEST(StateTracking, RefusesWhatHasTooFewSequences) {
  EXPECT_EQ(
      refusal({"task.name=state_tracking", "task.length=9", group_setting("parity")}),
      "task.length = 9 must be at least 10 for state_tracking with the group parity: it has 2 elements, and fewer "
      "than 1000 different sequences cannot be split into training and test");
  EXPECT_NE(refusal({"task.name=state_tracking", "task.length=1", group_setting("s5")}).find("must be at least 2"),
            std::string::npos);
  EXPECT_NE(refusal({"task.name=state_tracking", group_setting("s4")}).find("group = s4 must be one of"),
            std::string::npos);
}

}  // namespace
}  // namespace klab
