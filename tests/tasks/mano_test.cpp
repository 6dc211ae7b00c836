// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

Words settings(const Words& more) {
  Words all = {"task.name=mano"};
  for (const std::string& one : more) all.push_back((one.starts_with("length=") ? "task." : "task.mano.") + one);
  return all;
}

// Reads an expression in prefix notation from right to left, with a stack. Returns its value.
int64_t evaluate(const Words& expression, int64_t modulus) {
  std::vector<int64_t> stack;
  for (auto word = expression.rbegin(); word != expression.rend(); ++word) {
    if (*word != "+" && *word != "-" && *word != "*") {
      stack.push_back(std::stoll(*word));
      continue;
    }
    EXPECT_GE(stack.size(), 2u);
    const int64_t left = stack.back(), right = stack.at(stack.size() - 2);
    stack.resize(stack.size() - 2);
    const int64_t value = *word == "+" ? left + right : *word == "-" ? left - right : left * right;
    stack.push_back(((value % modulus) + modulus) % modulus);
  }
  EXPECT_EQ(stack.size(), 1u);
  return stack.at(0);
}

struct Problem {
  Words expression;
  int64_t operations = 0, position = 0;  // of <ans>
};

std::vector<Problem> read_problems(const Words& words) {
  std::vector<Problem> problems;
  size_t at = 0;
  while (at < words.size() && words[at] != "<pad>") {
    EXPECT_EQ(words.at(at), "<bos>");
    EXPECT_TRUE(words.at(at + 1).starts_with("<len_"));
    const auto first = words.begin() + static_cast<int64_t>(at) + 2, ans = std::find(first, words.end(), "<ans>");
    problems.push_back({{first, ans}, std::stoll(words[at + 1].substr(5)), ans - words.begin()});
    at = static_cast<size_t>(ans - words.begin()) + 2;
  }
  for (; at < words.size(); ++at) EXPECT_EQ(words[at], "<pad>");
  return problems;
}

Expected replay(const Words& words, int64_t modulus) {
  Expected expected;
  for (const Problem& problem : read_problems(words)) {
    EXPECT_EQ(static_cast<int64_t>(problem.expression.size()), 2 * problem.operations + 1);
    while (static_cast<int64_t>(expected.labels.size()) < problem.position) expected.none();
    const std::string value = fmt::format("{}", evaluate(problem.expression, modulus));
    EXPECT_EQ(words.at(static_cast<size_t>(problem.position) + 1), value) << "the answer is an input";
    expected.ask(value, problem.operations);
  }
  while (expected.labels.size() < words.size()) expected.none();
  return expected;
}

TEST(Mano, TheEvaluatorKnowsPrefixNotation) {
  EXPECT_EQ(evaluate({"+", "*", "4", "5", "-", "2", "9"}, 23), (4 * 5 + 23 + 2 - 9) % 23);
  EXPECT_EQ(evaluate({"-", "1", "+", "2", "3"}, 23), 19);
}

TEST(Mano, AsksForTheValue) {
  for (const int64_t modulus : {2, 5, 23}) {
    for (const int64_t operations : {1, 4, 10}) {
      const auto task = make_task(
          settings({"length=66", fmt::format("modulus={}", modulus), fmt::format("operations={}", operations)}));
      for (int64_t index = 0; index < 30; ++index) {
        const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
        const Words words = printed_inputs(*task, drawn);
        expect_example(*task, drawn, 66, replay(words, modulus));
        EXPECT_LT(std::count(words.begin(), words.end(), "<pad>"), 2 * operations + 5) << "room for a problem";
      }
    }
  }
}

TEST(Mano, DrawsLengthsOperatorsAndShapesUniformly) {
  const auto task = make_task(settings({"length=11", "operations=3", "min_operations=2"}));
  std::map<size_t, int64_t> lengths;
  std::map<std::string, int64_t> first, shapes;
  for (int64_t index = 0; index < 1800; ++index) {
    const auto problems = read_problems(printed_inputs(*task, task->example(2, Split::train, index)));
    ASSERT_EQ(problems.size(), 1u);
    ++lengths[problems[0].expression.size()];
    ++first[problems[0].expression[0]];
    std::string shape;
    for (const std::string& word : problems[0].expression) shape += std::isdigit(word[0]) != 0 ? 'n' : 'o';
    if (shape.size() == 7) ++shapes[shape];
  }
  // 900 of each length and 600 of each operator, with standard deviations of 21 and 20.
  EXPECT_EQ(lengths.size(), 2u);
  for (const auto& [length, count] : lengths) EXPECT_NEAR(count, 900, 5 * 21) << length;
  EXPECT_EQ(first.size(), 3u);
  for (const auto& [word, count] : first) EXPECT_NEAR(count, 600, 5 * 20) << word;
  // Three operations: two in the left operand, in either shape, one in each, or two in the right one.
  EXPECT_EQ(shapes.size(), 5u);
  EXPECT_NEAR(shapes["oonnonn"], 300, 5 * 16);
  for (const char* shape : {"ooonnnn", "oononnn", "onoonnn", "onononn"})
    EXPECT_NEAR(shapes[shape], 150, 5 * 12) << shape;
}

TEST(Mano, TrainAndTestShareNoRow) {
  expect_disjoint_splits(*make_task(settings({"length=7", "operations=1", "modulus=11"})));
}

TEST(Mano, IsTheSameOnEveryMachine) {
  const auto task = make_task(settings({"length=64"}));
  EXPECT_EQ(golden(*task, 5), golden(*task, 5));
  EXPECT_NE(golden(*task, 5), golden(*task, 6));
  EXPECT_EQ(golden(*task, 5), 0x5b3ee01cab6fb76bu);
}

TEST(Mano, NamesItsTokens) {
  const auto task = make_task(settings({"operations=10"})), longer = make_task(settings({"operations=16"}));
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 23 + 6 + 10);
  for (int64_t id = 0; id < task->vocabulary(); ++id) EXPECT_EQ(task->token_name(id), longer->token_name(id));
  EXPECT_EQ(task->token_name(22), "22");
  EXPECT_EQ(task->token_name(23 + 6), "<len_1>");
  EXPECT_EQ(task->difficulty_name(), "operations");
}

TEST(Mano, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(settings({"length=24"})),
            "task.length = 24 must be at least 25 for mano: the longest problem, with 10 operations");
  EXPECT_EQ(refusal(settings({"operations=3", "min_operations=4"})),
            "task.mano.min_operations = 4 must be at most task.mano.operations = 3");
  EXPECT_NE(refusal(settings({"modulus=1"})).find("modulus = 1 must be between 2"), std::string::npos);
}

}  // namespace
}  // namespace klab
