// SPDX-License-Identifier: Apache-2.0
#include "tasks/support.h"

#include <map>
#include <set>

namespace klab {

RootConfig configured(const std::vector<std::string>& settings) {
  std::vector<Assignment> assignments;
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    assignments.push_back({setting.substr(0, equals), setting.substr(equals + 1), "command line"});
  }
  RootConfig root;
  assign(root, assignments);
  root.validate();
  return root;
}

std::unique_ptr<Task> make_task(const std::vector<std::string>& settings) { return configured(settings).task.make(); }

std::string refusal(const std::vector<std::string>& settings) {
  try {
    configured(settings);
  } catch (const UsageError& error) {
    return error.what();
  }
  ADD_FAILURE() << "not refused: " << testing::PrintToString(settings);
  return "";
}

std::vector<std::string> printed_inputs(const Task& task, const Example& example) {
  std::vector<std::string> words;
  for (const int64_t id : example.inputs) words.push_back(task.token_name(id));
  return words;
}

std::vector<std::string> printed_labels(const Task& task, const Example& example) {
  std::vector<std::string> words;
  for (const int64_t id : example.labels) words.push_back(id == kNoTarget ? "" : task.token_name(id));
  return words;
}

void expect_example(const Task& task, const Example& example, int64_t length, const Expected& expected) {
  ASSERT_EQ(static_cast<int64_t>(example.inputs.size()), length);
  for (const int64_t id : example.inputs) {
    ASSERT_GE(id, 0);
    ASSERT_LT(id, task.vocabulary());
  }
  ASSERT_EQ(printed_labels(task, example), expected.labels);
  ASSERT_EQ(example.difficulty, expected.gaps);
  ASSERT_GT(std::set<int64_t>(example.labels.begin(), example.labels.end()).size(), 1u) << "there is no target";
}

uint64_t golden(const Task& task, int64_t seed) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](const std::vector<int64_t>& values) {
    for (const int64_t value : values) hash = (hash ^ static_cast<uint64_t>(value)) * 0x100000001b3;
  };
  for (const Split split : {Split::train, Split::test, Split::validation}) {
    for (int64_t index = 0; index < 10; ++index) {
      const Example drawn = task.example(seed, split, index);
      add(drawn.inputs);
      add(drawn.labels);
      add(drawn.difficulty);
    }
  }
  return hash;
}

void expect_disjoint_splits(const Task& task) {
  std::map<std::vector<int64_t>, Split> seen;
  for (const Split split : {Split::train, Split::test, Split::validation}) {
    std::set<std::vector<int64_t>> different;
    for (const int64_t seed : {0, 1, 2, -7}) {
      for (int64_t index = 0; index < 500; ++index) different.insert(task.example(seed, split, index).inputs);
    }
    ASSERT_LT(different.size(), 500u) << "the task is too large for this test";
    for (const auto& sequence : different) {
      const auto [other, is_new] = seen.emplace(sequence, split);
      EXPECT_TRUE(is_new) << testing::PrintToString(sequence) << " is in " << to_string(other->second) << " and in "
                          << to_string(split);
    }
  }
}

void expect_every_symbol(const Task& task) {
  std::vector<int64_t> counts(8, 0);
  for (int64_t index = 0; index < 200; ++index) {
    const Example drawn = task.example(3, Split::train, index);
    for (int64_t i = 0; i < 16; ++i) ++counts[drawn.inputs[i]];
  }
  // 3200 draws: 400 each, with a standard deviation of 19.
  for (const int64_t count : counts) EXPECT_NEAR(count, 400, 5 * 19);
}

void expect_distinct_names(const Task& task) {
  std::set<std::string> names;
  for (int64_t id = 0; id < task.vocabulary(); ++id) names.insert(task.token_name(id));
  EXPECT_EQ(static_cast<int64_t>(names.size()), task.vocabulary());
  EXPECT_THROW(task.token_name(-1), Error);
  EXPECT_THROW(task.token_name(task.vocabulary()), Error);
}

}  // namespace klab
