// SPDX-License-Identifier: Apache-2.0
#include "tasks/prompt_answer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/text.h"
#include "tasks/support.h"

namespace klab {
namespace {

// The prompt and the answer of the first training example, as words.
std::pair<std::string, std::string> words_of(const std::vector<std::string>& settings) {
  const auto task = make_task(settings);
  const PromptAnswer tokens = prompt_and_answer(task->example(1, Split::train, 0));
  const auto words = [&](const std::vector<int64_t>& ids) {
    std::vector<std::string> names;
    for (const int64_t id : ids) names.push_back(task->token_name(id));
    return join(names, " ");
  };
  return {words(tokens.prompt), words(tokens.answer)};
}

std::string refusal_of(const Example& example) {
  try {
    prompt_and_answer(example);
  } catch (const UsageError& error) {
    return error.what();
  }
  ADD_FAILURE() << "not refused";
  return "";
}

std::string refusal_of_task(const std::vector<std::string>& settings) {
  return refusal_of(make_task(settings)->example(1, Split::train, 0));
}

std::vector<std::string> split_words(const std::string& text) { return split(text, ' '); }

Example example_of(std::vector<int64_t> inputs, std::vector<int64_t> labels) {
  return {.inputs = std::move(inputs),
          .labels = std::move(labels),
          .difficulty = {},
          .starts = {},
          .bytes = {},
          .surprisal = {}};
}

constexpr int64_t kNone = kNoTarget;

TEST(PromptAnswer, IsWhatComesBeforeAndAfterTheFirstTarget) {
  const PromptAnswer middle = prompt_and_answer(example_of({7, 8, 9, 4, 5, 0}, {kNone, kNone, 4, 5, 6, kNone}));
  EXPECT_EQ(middle.prompt, (std::vector<int64_t>{7, 8, 9}));
  EXPECT_EQ(middle.answer, (std::vector<int64_t>{4, 5, 6}));
  const PromptAnswer whole_row = prompt_and_answer(example_of({7, 4, 5}, {4, 5, 6}));
  EXPECT_EQ(whole_row.prompt, (std::vector<int64_t>{7}));
  EXPECT_EQ(whole_row.answer, (std::vector<int64_t>{4, 5, 6}));
  const PromptAnswer one_token = prompt_and_answer(example_of({7, 8}, {kNone, 3}));
  EXPECT_EQ(one_token.prompt, (std::vector<int64_t>{7, 8}));
  EXPECT_EQ(one_token.answer, (std::vector<int64_t>{3}));
}

TEST(PromptAnswer, TasksWithOneAnswerHaveOne) {
  for (const std::string length : {"17", "18"}) {
    const auto [copy, repeated] = words_of({"task.name=copy", "task.length=" + length});
    EXPECT_EQ(split_words(copy).size(), 9u);
    EXPECT_EQ(repeated + " <sep>", copy);
    // Of a palindrome, the first mirrored symbol is part of the prompt.
    const auto [prompt, answer] = words_of({"task.name=palindrome", "task.length=" + length});
    std::vector<std::string> symbols = split_words(prompt);
    ASSERT_EQ(symbols.size(), 10u) << prompt;
    EXPECT_EQ(symbols[8], "<sep>");
    EXPECT_EQ(symbols[9], symbols[7]);
    symbols.resize(7);
    std::reverse(symbols.begin(), symbols.end());
    EXPECT_EQ(split_words(answer), symbols);
  }
  const auto [prompt, answer] = words_of({"task.name=arithmetic", "task.length=10"});
  std::string sum = prompt, result = answer;
  std::erase(sum, ' ');
  std::erase(result, ' ');
  const size_t plus = sum.find('+');
  EXPECT_EQ(sum.back(), '=');
  EXPECT_EQ(result, std::to_string(std::stoi(sum) + std::stoi(sum.substr(plus + 1))) + "<end>") << sum;
}

TEST(PromptAnswer, RefusesRowsWithoutOneAnswer) {
  EXPECT_EQ(refusal_of(example_of({1, 2}, {kNone, kNone})), "the row has no target, so it has no answer");
  EXPECT_NE(refusal_of(example_of({1, 2, 3, 4}, {2, kNone, 4, kNone})).find("several separate answers"),
            std::string::npos);
  EXPECT_NE(refusal_of_task({"task.name=arithmetic", "task.length=64"}).find("give task.length a smaller value"),
            std::string::npos);
}

TEST(PromptAnswer, RefusesInputsThatDoNotRepeatTheAnswer) {
  EXPECT_NE(refusal_of_task({"task.name=state_tracking"}).find("as in state_tracking"), std::string::npos);
  for (const char* name : {"selective_copy", "mqar"}) {
    EXPECT_NE(refusal_of_task({std::string("task.name=") + name}).find("do not repeat the answer"), std::string::npos);
  }
  // Only the last input differs.
  EXPECT_NE(refusal_of(example_of({1, 2, 9}, {2, 3, 4})).find("do not repeat the answer"), std::string::npos);
}

TEST(PromptAnswer, RefusesPackedRows) {
  Example row = example_of({1, 2, 3, 4}, {2, 3, 4, 5});
  row.starts = {1, 0, 1, 0};
  EXPECT_NE(refusal_of(row).find("several packed sequences"), std::string::npos);
  row.starts = {1, 0, 0, 0};
  EXPECT_EQ(prompt_and_answer(row).answer, (std::vector<int64_t>{2, 3, 4, 5}));
}

TEST(PromptAnswer, RowsGiveTheirTokensBack) {
  const Example row = answered_row({{5, 6}, {7, 8}}, 6, 0, 3);
  EXPECT_EQ(row.inputs, (std::vector<int64_t>{5, 6, 7, 8, 0, 0}));
  EXPECT_EQ(row.labels, (std::vector<int64_t>{kNone, 7, 8, kNone, kNone, kNone}));
  EXPECT_EQ(row.difficulty, (std::vector<int64_t>{-1, 3, 3, -1, -1, -1}));
  EXPECT_EQ(prompt_and_answer(row).prompt, (std::vector<int64_t>{5, 6}));
  EXPECT_EQ(prompt_and_answer(row).answer, (std::vector<int64_t>{7, 8}));
  EXPECT_EQ(answered_row({{5, 6}, {7, 8}}, 4, 0, 3).inputs, (std::vector<int64_t>{5, 6, 7, 8}));
}

}  // namespace
}  // namespace klab
