// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=arithmetic", "task.length=64", "task.arithmetic.operation=mixed"};

bool is_digit(const std::string& word) { return word.size() == 1 && word[0] >= '0' && word[0] <= '9'; }

// One problem of a sequence.
struct Problem {
  std::string left, sign, right;
  int64_t equals = 0;               // position of the =
  std::vector<std::string> answer;  // including <end>
};

std::string read_number(const std::vector<std::string>& words, size_t& at) {
  std::string digits;
  while (at < words.size() && is_digit(words[at])) digits += words[at++];
  EXPECT_FALSE(digits.empty());
  EXPECT_TRUE(digits.size() == 1 || digits[0] != '0') << "a leading zero: " << digits;
  return digits;
}

std::vector<Problem> read_problems(const std::vector<std::string>& words) {
  std::vector<Problem> problems;
  size_t at = 0;
  while (at < words.size() && words[at] != "<pad>") {
    Problem problem;
    problem.left = read_number(words, at);
    problem.sign = words.at(at++);
    problem.right = read_number(words, at);
    problem.equals = static_cast<int64_t>(at);
    EXPECT_EQ(words.at(at++), "=");
    while (is_digit(words.at(at))) problem.answer.push_back(words[at++]);
    problem.answer.push_back(words.at(at));
    EXPECT_EQ(words.at(at++), "<end>");
    problems.push_back(problem);
  }
  for (; at < words.size(); ++at) EXPECT_EQ(words[at], "<pad>");
  return problems;
}

std::vector<std::string> work_out(const Problem& problem, bool lowest_first) {
  const int64_t left = std::stoll(problem.left), right = std::stoll(problem.right);
  int64_t result = -1;
  if (problem.sign == "+") result = left + right;
  if (problem.sign == "-") result = left - right;
  if (problem.sign == "*") result = left * right;
  EXPECT_GE(result, 0) << problem.left << problem.sign << problem.right;
  std::string digits = std::to_string(result);
  if (lowest_first) std::reverse(digits.begin(), digits.end());
  std::vector<std::string> answer;
  for (const char digit : digits) answer.emplace_back(1, digit);
  answer.emplace_back("<end>");
  return answer;
}

Expected replay(const std::vector<std::string>& words, bool lowest_first) {
  Expected expected;
  for (const Problem& problem : read_problems(words)) {
    while (static_cast<int64_t>(expected.labels.size()) < problem.equals) expected.none();
    const std::vector<std::string> answer = work_out(problem, lowest_first);
    EXPECT_EQ(problem.answer, answer) << "the inputs contain the answer";
    const auto digits = static_cast<int64_t>(std::max(problem.left.size(), problem.right.size()));
    for (const std::string& word : answer) expected.ask(word, digits);
    expected.none();
  }
  while (expected.labels.size() < words.size()) expected.none();
  return expected;
}

TEST(Arithmetic, AsksForTheDigitsOfResults) {
  for (const char* operation : {"add", "subtract", "multiply", "mixed"}) {
    for (const int64_t digits : {1, 2, 9}) {
      for (const bool lowest_first : {false, true}) {
        const auto task = make_task(
            {"task.name=arithmetic", "task.length=200", fmt::format("task.arithmetic.operation={}", operation),
             fmt::format("task.arithmetic.digits={}", digits),
             fmt::format("task.arithmetic.result_order={}_first", lowest_first ? "lowest" : "highest")});
        for (int64_t index = 0; index < 10; ++index) {
          const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
          expect_example(*task, drawn, 200, replay(printed_inputs(*task, drawn), lowest_first));
        }
      }
    }
  }
}

TEST(Arithmetic, FillsTheLengthWithProblems) {
  // The longest problem with two digits is 99+99=198<end>.
  for (const int64_t length : {10, 11, 20, 64}) {
    const auto task = make_task({"task.name=arithmetic", fmt::format("task.length={}", length)});
    for (int64_t index = 0; index < 100; ++index) {
      const auto words = printed_inputs(*task, task->example(1, Split::train, index));
      EXPECT_LT(std::count(words.begin(), words.end(), "<pad>"), 10);
      if (length == 10) {
        EXPECT_EQ(read_problems(words).size(), 1u);
      }
    }
  }
}

TEST(Arithmetic, DrawsSignsAndLengthsUniformly) {
  const auto task = make_task(kToy);
  std::map<std::string, int64_t> signs;
  std::map<size_t, int64_t> sizes;
  std::set<std::string> operands;
  int64_t problems = 0;
  for (int64_t index = 0; index < 600; ++index) {
    const auto all = read_problems(printed_inputs(*task, task->example(2, Split::train, index)));
    // Only the first ones: a sequence has more of the short problems.
    for (size_t i = 0; i < 3; ++i, ++problems) {
      ++signs[all.at(i).sign];
      for (const std::string& operand : {all[i].left, all[i].right}) {
        ++sizes[operand.size()];
        operands.insert(operand);
      }
    }
  }
  EXPECT_EQ(problems, 1800);
  EXPECT_EQ(signs.size(), 3u);
  // 600 of each sign and 1800 operands of each length, with standard deviations of 20 and 30.
  for (const auto& [sign, count] : signs) EXPECT_NEAR(count, 600, 5 * 20) << sign;
  for (const auto& [size, count] : sizes) EXPECT_NEAR(count, 1800, 5 * 30) << size;
  EXPECT_EQ(operands.size(), 100u);
}

TEST(Arithmetic, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0xed093d4686c6e499u);
}

TEST(Arithmetic, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=arithmetic", "task.length=7", "task.arithmetic.digits=1"}));
}

TEST(Arithmetic, NamesItsTokens) {
  for (const char* vocab : {"task.vocab=64", "task.vocab=2"}) {
    const auto task = make_task({"task.name=arithmetic", vocab});
    expect_distinct_names(*task);
    EXPECT_EQ(task->vocabulary(), 16);
    EXPECT_EQ(task->difficulty_name(), "digits");
  }
}

TEST(Arithmetic, RefusesWhatDoesNotFit) {
  const std::string name = "task.name=arithmetic";
  EXPECT_EQ(refusal({name, "task.length=9"}),
            "task.length = 9 must be at least 10 for arithmetic: the longest problem, with operands of 2 digits");
  EXPECT_NE(refusal({name, "task.length=10", "task.arithmetic.operation=multiply"}).find("must be at least 11"),
            std::string::npos);
  EXPECT_NE(refusal({name, "task.length=8", "task.arithmetic.operation=subtract"}).find("must be at least 9"),
            std::string::npos);
  for (const char* digits : {"0", "10", "-2"}) {
    EXPECT_EQ(refusal({name, fmt::format("task.arithmetic.digits={}", digits)}),
              fmt::format("command line: task.arithmetic.digits = {} must be between 1 and 9", digits));
  }
  EXPECT_NE(refusal({name, "task.arithmetic.operation=divide"}).find("operation = divide must be one of"),
            std::string::npos);
}

}  // namespace
}  // namespace klab
