// SPDX-License-Identifier: Apache-2.0
// Associations of examples by hand, and of the tasks.
#include "experiments/inspect/associations.h"

#include <gtest/gtest.h>

#include "core/base/support.h"
#include "experiments/run/run_config.h"

namespace klab {
namespace {

constexpr int64_t kSeparator = 16;

// Tokens with a target where the second number is not negative.
Example example_of(const std::vector<std::pair<int64_t, int64_t>>& tokens) {
  Example example;
  for (const auto& [input, label] : tokens) example.append(input, label < 0 ? kNoTarget : label, 0);
  return example;
}

std::vector<Example> examples_of_task(const std::string& name, const std::vector<Assignment>& more = {}) {
  std::vector<Assignment> all{{"task.name", name, ""}, {"task.length", 63, ""}};
  all.insert(all.end(), more.begin(), more.end());
  const auto task = make_run_config(all).task.make();
  std::vector<Example> examples;
  for (int64_t i = 0; i < 32; ++i) examples.push_back(task->example(1, Split::test, i));
  return examples;
}

void expect_pair(const Association& pair, const std::vector<int64_t>& key, int64_t value, int64_t position) {
  EXPECT_EQ(pair.key, key);
  EXPECT_EQ(pair.value, value);
  EXPECT_EQ(pair.position, position);
}

// The task's message.
std::string refusal_of(const std::vector<Example>& examples) {
  return message_of<UsageError>([&] { associations_of(examples, "mine"); });
}

TEST(Associations, AreKeysThatValuesFollow) {
  const std::vector<Associations> found = associations_of(
      {example_of({{0, -1}, {8, -1}, {1, -1}, {9, -1}, {2, -1}, {10, -1}, {kSeparator, -1}, {1, 9}, {2, 10}}),
       example_of({{0, -1}, {11, -1}, {1, -1}, {8, -1}, {kSeparator, -1}, {0, 11}, {1, 8}})},
      "mine");
  ASSERT_EQ(found.size(), 2u);
  ASSERT_EQ(found[0].written.size(), 3u) << "with key 0, which only the other example asks for";
  expect_pair(found[0].written[0], {0}, 8, 1);
  expect_pair(found[0].written[1], {1}, 9, 3);
  expect_pair(found[0].written[2], {2}, 10, 5);
  EXPECT_EQ(found[0].separator, std::vector<int64_t>{kSeparator});
  ASSERT_EQ(found[0].questions.size(), 2u);
  EXPECT_EQ(found[0].questions[1].position, 8);
  EXPECT_EQ(found[0].questions[1].value_position, 5);
  EXPECT_EQ(found[0].keys(), 3);
  EXPECT_EQ(found[0].first(2).size(), 2u);
  EXPECT_EQ(found[1].keys(), 2);
}

TEST(Associations, EndWithTheLastOneThatIsAskedFor) {
  const std::vector<Associations> found = associations_of(
      {example_of({{0, -1}, {8, -1}, {1, -1}, {9, -1}, {0, 8}}), example_of({{1, -1}, {9, -1}, {1, 9}})}, "mine");
  ASSERT_EQ(found[0].written.size(), 1u);
  expect_pair(found[0].written[0], {0}, 8, 1);
  EXPECT_TRUE(found[0].separator.empty());
}

TEST(Associations, LaterValuesReplaceEarlierOnes) {
  const std::vector<Associations> found =
      associations_of({example_of({{0, -1}, {8, -1}, {1, -1}, {9, -1}, {0, -1}, {10, -1}, {0, 10}, {1, 9}}),
                       example_of({{0, -1}, {8, -1}, {0, 8}})},
                      "mine");
  EXPECT_EQ(found[0].written.size(), 3u);
  EXPECT_EQ(found[0].keys(), 2);
  const std::vector<Association> one = found[0].first(1), two = found[0].first(2);
  ASSERT_EQ(one.size(), 1u);
  expect_pair(one[0], {0}, 8, 1);
  ASSERT_EQ(two.size(), 2u);
  expect_pair(two[0], {0}, 10, 5);
  expect_pair(two[1], {1}, 9, 3);
}

TEST(Associations, KeysMayBePairsOfSymbols) {
  const std::vector<Associations> found = associations_of(
      {example_of({{0, -1}, {5, -1}, {8, -1}, {1, -1}, {5, -1}, {9, -1}, {1, -1}, {5, 9}, {0, -1}, {5, 8}})}, "mine");
  ASSERT_EQ(found[0].written.size(), 2u);
  expect_pair(found[0].written[0], {0, 5}, 8, 2);
  expect_pair(found[0].written[1], {1, 5}, 9, 5);
  EXPECT_TRUE(found[0].separator.empty());
}

TEST(Associations, RefuseWhatIsNoRecall) {
  EXPECT_CONTAINS(refusal_of({example_of({{0, -1}, {8, -1}})}), "task.name = mine has no associations");
  EXPECT_CONTAINS(refusal_of({example_of({{0, -1}, {8, -1}})}), "there are no targets");
  EXPECT_CONTAINS(refusal_of({example_of({{0, 1}, {1, 0}})}), "the same tokens are asked for and are answers");
  EXPECT_CONTAINS(refusal_of({example_of({{0, -1}, {8, -1}, {1, 8}})}), "is not a value that followed its key");
  const Example outdated = example_of({{0, -1}, {8, -1}, {0, -1}, {9, -1}, {0, 8}}),
                current = example_of({{0, -1}, {9, -1}, {0, 9}});
  EXPECT_CONTAINS(refusal_of({outdated, current}), "is not the value that last followed its key");
}

TEST(Associations, OfTheTasks) {
  const auto found_in = [](const std::string& task, const std::vector<Assignment>& more = {}) {
    const std::vector<Example> examples = examples_of_task(task, more);
    const std::vector<Associations> found = associations_of(examples, task);
    for (size_t i = 0; i < found.size(); ++i) {
      const Example& example = examples[i];
      for (const RecallQuestion& question : found[i].questions) {
        EXPECT_EQ(example.inputs[static_cast<size_t>(question.value_position)],
                  example.labels[static_cast<size_t>(question.position)]);
      }
      for (const Association& pair : found[i].written) {
        EXPECT_EQ(example.inputs[static_cast<size_t>(pair.position)], pair.value);
      }
    }
    return found;
  };
  for (const Associations& one : found_in("mqar")) {
    EXPECT_EQ(one.separator, std::vector<int64_t>{64});
    EXPECT_GT(one.keys(), 10);
    EXPECT_LE(one.keys(), 15);
  }
  for (const Associations& one : found_in("mqar", {{"task.mqar.protocol", "zoology", ""}, {"task.length", 64, ""}})) {
    EXPECT_EQ(one.keys(), 16);
  }
  for (const Associations& one : found_in("forgetting_mqar", {{"task.length", 64, ""}})) {
    EXPECT_EQ(one.keys(), 8);
    EXPECT_EQ(one.written.size(), 12u);
  }
  for (const Associations& one : found_in("compositional_mqar", {{"task.compositional_mqar.grid", 3, ""}})) {
    EXPECT_EQ(one.keys(), 9);
    EXPECT_EQ(one.written.front().key.size(), 2u);
  }
  for (const char* task : {"in_context_recall", "noisy_recall"}) {
    for (const Associations& one : found_in(task)) EXPECT_GE(one.keys(), 2) << task;
  }
}

TEST(Associations, OtherTasksAreRefused) {
  for (const char* task : {"copy", "palindrome", "stack", "fuzzy_recall", "memorization", "selective_copy"}) {
    const std::vector<Example> examples = examples_of_task(task);
    EXPECT_CONTAINS(message_of<UsageError>([&] { associations_of(examples, task); }),
                    std::string("task.name = ") + task + " has no associations");
  }
}

}  // namespace
}  // namespace klab
