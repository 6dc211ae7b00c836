// SPDX-License-Identifier: Apache-2.0
// Properties of all tasks: registry, config, numbering of examples, and the three splits.
#include "tasks/task.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/file.h"
#include "core/base/text.h"
#include "tasks/support.h"

namespace klab {
namespace {

TEST(Tasks, BeginWithThoseOfTheReport) {
  const std::vector<std::string> names = tasks().names();
  EXPECT_EQ(std::vector<std::string>(names.begin(), names.begin() + 3),
            (std::vector<std::string>{"palindrome", "mqar", "stack"}));
  for (const TaskEntry& entry : tasks().entries()) EXPECT_FALSE(entry.summary.empty());
}

// A JSON Lines file with 400 sums.
std::string write_sums() {
  std::string lines;
  for (int n = 0; n < 400; ++n) {
    lines += fmt::format(R"({{"prompt": "{}+{}=", "answer": "{}"}})", n, n, 2 * n) + "\n";
  }
  const std::string path = testing::TempDir() + "/klab_task_test.jsonl";
  write_file(path, lines);
  return path;
}

// Every task of the registry with its defaults; new ones are included automatically. Text needs files: these tests.
std::vector<std::string> settings_of(const std::string& name) {
  if (name == "jsonl") return {"task.name=jsonl", "task.jsonl.files=[\"" + write_sums() + "\"]"};
  if (name != "text") return {"task.name=" + name};
  const std::string here = std::filesystem::path(__FILE__).parent_path().string();
  return {"task.name=text", "task.text.files=[\"" + here + "\"]", "task.text.separator=\\n\\n"};
}

class EveryTask : public testing::TestWithParam<std::string> {
 protected:
  const std::unique_ptr<Task> task_ = make_task(settings_of(GetParam()));
};

TEST_P(EveryTask, HasWellFormedExamples) {
  for (const Split split : {Split::train, Split::test, Split::validation}) {
    for (int64_t i = 0; i < 20; ++i) {
      const Example drawn = task_->example(5, split, i);
      ASSERT_EQ(drawn.size(), 64);
      ASSERT_EQ(drawn.labels.size(), 64u);
      ASSERT_EQ(drawn.difficulty.size(), 64u);
      int64_t targets = 0;
      for (size_t t = 0; t < 64; ++t) {
        EXPECT_TRUE(drawn.inputs[t] >= 0 && drawn.inputs[t] < task_->vocabulary()) << drawn.inputs[t];
        if (drawn.labels[t] == kNoTarget) continue;
        ++targets;
        EXPECT_TRUE(drawn.labels[t] >= 0 && drawn.labels[t] < task_->vocabulary()) << drawn.labels[t];
        EXPECT_GE(drawn.difficulty[t], 0);
      }
      EXPECT_GT(targets, 0);
    }
  }
}

TEST_P(EveryTask, DrawsTheSameAgain) {
  EXPECT_EQ(golden(*task_, 3), golden(*task_, 3));
  EXPECT_NE(golden(*task_, 3), golden(*task_, 4));
}

TEST_P(EveryTask, NamesItsTokens) { expect_distinct_names(*task_); }

TEST_P(EveryTask, HasAnEndTokenIfOneIsNamedSo) {
  std::optional<int64_t> end;
  for (int64_t id = 0; id < task_->vocabulary(); ++id) {
    if (task_->token_name(id) == "<end>") end = id;
  }
  EXPECT_EQ(task_->end_token(), end);
}

INSTANTIATE_TEST_SUITE_P(Tasks, EveryTask, testing::ValuesIn(tasks().names()),
                         [](const auto& task) { return task.param; });

TEST(TaskConfig, ShowsTheOptionsOfTheNamedTaskOnly) {
  RootConfig root;
  EXPECT_EQ(Fields::of(root).keys(),
            (std::vector<std::string>{"task.name", "task.length", "task.vocab", "task.label", "task.mqar.protocol",
                                      "task.mqar.pairs", "task.mqar.power_a"}));
  root.task.name = "stack";
  EXPECT_EQ(Fields::of(root).keys(), (std::vector<std::string>{"task.name", "task.length", "task.vocab", "task.label",
                                                               "task.stack.stacks", "task.stack.pop_probability"}));
}

TEST(TaskConfig, RefusesUnknownNamesAndKeys) {
  EXPECT_EQ(refusal({"task.name=mqra"}), "unknown task 'mqra'; did you mean 'mqar'? Known: " + join(tasks().names()));
  EXPECT_EQ(refusal({"task.mqar.pars=3"}),
            "command line: unknown key 'task.mqar.pars'; did you mean 'task.mqar.pairs'?");
  EXPECT_NE(refusal({"task.name=palindrome", "task.mqar.pairs=3"}).find("unknown key"), std::string::npos);
}

TEST(TaskConfig, RefusesSizesBeyondReason) {
  EXPECT_NE(refusal({"task.length=0"}).find("task.length = 0 must be between 1"), std::string::npos);
  EXPECT_NE(refusal({"task.length=8e15"}).find("must be between 1"), std::string::npos);
  EXPECT_NE(refusal({"task.vocab=-2"}).find("task.vocab = -2 must be between 1"), std::string::npos);
}

TEST(TaskConfig, CopiesHaveOptionsOfTheirOwn) {
  const RootConfig root = configured({"task.name=stack", "task.stack.stacks=4", "task.stack.pop_probability=0.1"});
  RootConfig copy = root;
  assign(copy, {{"task.stack.stacks", "8", "test"}});
  EXPECT_EQ(root.task.make()->vocabulary(), 64 + 4 + 3);
  EXPECT_EQ(copy.task.make()->vocabulary(), 64 + 8 + 3);
  EXPECT_NE(to_yaml(copy).find("pop_probability: 0.1"), std::string::npos);
}

TEST(TaskConfig, ForgetsTheOptionsOfAnotherTask) {
  RootConfig root = configured({"task.mqar.pairs=3"});
  root.task.name = "stack";
  EXPECT_EQ(root.task.make()->vocabulary(), 64 + 64 + 3);
}

TEST(Example, DependsOnSeedSplitAndIndex) {
  const auto task = make_task({"task.name=mqar"});
  const auto inputs = [&](int64_t seed, Split split, int64_t index) {
    return task->example(seed, split, index).inputs;
  };
  const auto base = inputs(1, Split::train, 2);
  EXPECT_EQ(base, inputs(1, Split::train, 2));
  EXPECT_NE(base, inputs(2, Split::train, 2));
  EXPECT_NE(base, inputs(1, Split::test, 2));
  EXPECT_NE(base, inputs(1, Split::validation, 2));
  EXPECT_NE(inputs(1, Split::test, 2), inputs(1, Split::validation, 2));
  EXPECT_NE(base, inputs(1, Split::train, 3));
  EXPECT_NE(base, inputs(2, Split::train, 1));
}

TEST(Example, SaysWhenATaskIsTooSmallForThreeSplits) {
  // The task has only four sequences, and the hash assigns none of them to the test split.
  const auto task = make_task({"task.name=palindrome", "task.length=5", "task.vocab=2"});
  try {
    task->example(0, Split::test, 0);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("Make task.length or task.vocab larger"), std::string::npos);
  }
}

TEST(Example, OneSequenceInSixteenIsForTheTestAndOneForValidation) {
  // The hash must be uniform over similar sequences: counts how often the first draw is kept.
  const auto task = make_task({"task.name=palindrome", "task.length=13", "task.vocab=64"});
  for (const Split split : {Split::test, Split::validation}) {
    int64_t first_draw_fits = 0;
    for (uint64_t index = 0; index < 8000; ++index) {
      Random random{1, static_cast<uint64_t>(split), index, 0};
      first_draw_fits +=
          dynamic_cast<const GeneratedTask&>(*task).generate(random).inputs == task->example(1, split, index).inputs;
    }
    // 500 of 8000, with a standard deviation of 22.
    EXPECT_NEAR(first_draw_fits, 500, 5 * 22) << to_string(split);
  }
}

TEST(Split, HasNames) {
  for (const Split split : {Split::train, Split::test, Split::validation})
    EXPECT_EQ(split_named(to_string(split)), split);
  EXPECT_EQ(to_string(Split::validation), "validation");
  EXPECT_THROW(split_named("valid"), UsageError);
}

TEST(ExampleBatch, HoldsTheExamplesRowAfterRow) {
  const auto task = make_task({"task.name=palindrome", "task.length=9"});
  const ExampleBatch batch = example_batch(*task, 3, Split::test, 5, 4);
  EXPECT_EQ(batch.count, 4);
  EXPECT_EQ(batch.length, 9);
  ASSERT_EQ(batch.rows.inputs.size(), 36u);
  ASSERT_EQ(batch.rows.labels.size(), 36u);
  ASSERT_EQ(batch.rows.difficulty.size(), 36u);
  for (int64_t row = 0; row < 4; ++row) {
    const Example expected = task->example(3, Split::test, 5 + row);
    for (int64_t i = 0; i < 9; ++i) {
      EXPECT_EQ(batch.rows.inputs[row * 9 + i], expected.inputs[i]);
      EXPECT_EQ(batch.rows.labels[row * 9 + i], expected.labels[i]);
      EXPECT_EQ(batch.rows.difficulty[row * 9 + i], expected.difficulty[i]);
    }
  }
}

}  // namespace
}  // namespace klab
