// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

Words settings(const Words& more) {
  Words all = {"task.name=modular_arithmetic"};
  for (const std::string& one : more) {
    all.push_back((one.starts_with("length=") ? "task." : "task.modular_arithmetic.") + one);
  }
  return all;
}

// A recursive-descent parser of ordinary arithmetic: * before + and -, brackets, and signs before a number. It checks
// the form on the way: with brackets there is exactly one operation, or none, inside each pair.
class Parser {
 public:
  Parser(const Words& words, int64_t modulus, bool brackets) : words_(words), modulus_(modulus), brackets_(brackets) {}

  int64_t value() {
    const int64_t value = sum();
    EXPECT_EQ(words_.at(at_), "=");
    return value;
  }
  size_t tokens() const { return at_; }

 private:
  bool take(const std::string& word) { return words_.at(at_) == word && ++at_ > 0; }
  int64_t reduced(int64_t value) const { return ((value % modulus_) + modulus_) % modulus_; }

  int64_t sum() {
    int64_t value = product();
    while (words_.at(at_) == "+" || words_.at(at_) == "-") {
      const bool add = words_[at_++] == "+";
      ++operations_;
      const int64_t right = product();
      value = reduced(add ? value + right : value - right);
    }
    return value;
  }

  int64_t product() {
    int64_t value = factor();
    while (take("*")) {
      ++operations_;
      value = reduced(value * factor());
    }
    return value;
  }

  int64_t factor() {
    if (take("-")) {
      EXPECT_TRUE(brackets_) << "a sign in an expression without brackets";
      return reduced(-factor());
    }
    if (!take("(")) return std::stoll(words_.at(at_++));
    EXPECT_TRUE(brackets_);
    const int64_t before = std::exchange(operations_, 0);
    const int64_t value = sum();
    EXPECT_LE(operations_, 1) << "needs precedence";
    operations_ = before;
    EXPECT_TRUE(take(")"));
    return value;
  }

  const Words& words_;
  int64_t modulus_;
  bool brackets_;
  size_t at_ = 0;
  int64_t operations_ = 0;  // inside the innermost brackets
};

Expected replay(const Words& words, int64_t modulus, bool brackets) {
  Parser parser(words, modulus, brackets);
  const int64_t value = parser.value();
  Expected expected;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i == parser.tokens()) {
      expected.ask(fmt::format("{}", value), static_cast<int64_t>(i));
    } else {
      expected.none();
    }
    EXPECT_TRUE(i <= parser.tokens() || words[i] == "<pad>");
  }
  return expected;
}

TEST(ModularArithmetic, AsksForTheValue) {
  for (const bool brackets : {false, true}) {
    for (const bool multiply : {false, true}) {
      for (const int64_t modulus : {2, 5, 23}) {
        for (const int64_t length : {40, 41}) {
          const auto task = make_task(
              settings({fmt::format("length={}", length), fmt::format("modulus={}", modulus),
                        fmt::format("brackets={}", brackets), fmt::format("multiply={}", multiply), "min_length=2"}));
          for (int64_t index = 0; index < 40; ++index) {
            const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
            const Words words = printed_inputs(*task, drawn);
            expect_example(*task, drawn, length, replay(words, modulus, brackets));
            EXPECT_TRUE(multiply || std::find(words.begin(), words.end(), "*") == words.end());
          }
        }
      }
    }
  }
}

// The expressions of the papers and of the class comment.
TEST(ModularArithmetic, TheParserKnowsTheConventions) {
  const auto value_of = [](const Words& words, bool brackets) { return Parser(words, 5, brackets).value(); };
  EXPECT_EQ(value_of({"1", "+", "2", "*", "3", "="}, false), 2);
  EXPECT_EQ(value_of({"1", "-", "1", "-", "1", "="}, false), 4);
  EXPECT_EQ(value_of({"0", "*", "1", "+", "4", "*", "3", "-", "2", "="}, false), 0);
  EXPECT_EQ(value_of({"2", "-", "3", "-", "3", "*", "2", "="}, false), 3);
  EXPECT_EQ(value_of({"(", "(", "-", "3", ")", "*", "(", "4", "+", "1", ")", ")", "="}, true), 0);
}

std::map<size_t, int64_t> expression_lengths(const Task& task, int64_t draws) {
  std::map<size_t, int64_t> lengths;
  for (int64_t index = 0; index < draws; ++index) {
    const Words words = printed_inputs(task, task.example(2, Split::train, index));
    ++lengths[static_cast<size_t>(std::find(words.begin(), words.end(), "=") - words.begin())];
  }
  return lengths;
}

TEST(ModularArithmetic, LengthsAreUniform) {
  // 1200 draws among 4 numbers of operands, and among 8 lengths: standard deviations of 15 and 12.
  const auto flat = expression_lengths(*make_task(settings({"length=17", "min_length=9"})), 1200);
  EXPECT_EQ(flat.size(), 4u);  // 5 to 8 operands: 9, 11, 13 and 15 tokens
  for (const auto& [length, count] : flat) {
    EXPECT_TRUE(length % 2 == 1 && length >= 9 && length <= 15) << length;
    EXPECT_NEAR(count, 300, 5 * 15) << length;
  }
  const auto nested = expression_lengths(*make_task(settings({"length=17", "min_length=10", "brackets=true"})), 1200);
  EXPECT_EQ(nested.size(), 8u);
  for (const auto& [length, count] : nested) EXPECT_NEAR(count, 150, 5 * 12) << length;
  EXPECT_EQ(expression_lengths(*make_task(settings({"length=16"})), 50), (std::map<size_t, int64_t>{{15, 50}}));
  EXPECT_EQ(expression_lengths(*make_task(settings({"length=7", "min_length=7"})), 50),
            (std::map<size_t, int64_t>{{5, 50}}));
}

TEST(ModularArithmetic, DrawsNumbersAndOperatorsUniformly) {
  const auto task = make_task(settings({"length=60"}));
  std::map<std::string, int64_t> counts;
  for (int64_t index = 0; index < 100; ++index) {
    for (const std::string& word : printed_inputs(*task, task->example(2, Split::train, index))) ++counts[word];
  }
  // 3000 numbers and 2900 operators, with standard deviations of 22 and 25 for each.
  for (const char* number : {"0", "1", "2", "3", "4"}) EXPECT_NEAR(counts[number], 600, 5 * 22) << number;
  for (const char* sign : {"+", "-", "*"}) EXPECT_NEAR(counts[sign], 2900.0 / 3, 5 * 25) << sign;
}

// The tokens of the operand that begins at `at`.
size_t operand_tokens(const Words& words, size_t at) {
  size_t end = at;
  int64_t open = 0;
  do {
    if (words.at(end) == "(") ++open;
    if (words.at(end) == ")") --open;
  } while (words.at(end++) == "-" || open > 0);
  return end - at;
}

TEST(ModularArithmetic, SplitsTokensUniformlyBetweenOperands) {
  const auto task = make_task(settings({"length=11", "brackets=true"}));
  std::map<size_t, int64_t> lengths;
  for (int64_t index = 0; index < 1200; ++index) {
    ++lengths[operand_tokens(printed_inputs(*task, task->example(2, Split::train, index)), 1)];
  }
  // 200 of each length from 1 to 6, with a standard deviation of 13.
  EXPECT_EQ(lengths.size(), 6u);
  for (const auto& [length, count] : lengths) EXPECT_NEAR(count, 200, 5 * 13) << length;
}

// All 7^3 * 2^2 expressions with three numbers, + and -.
TEST(ModularArithmetic, TrainAndTestShareNoSequence) {
  const auto task = make_task(settings({"length=6", "modulus=7", "multiply=false"}));
  std::set<std::vector<int64_t>> train, test;
  for (int64_t index = 0; index < 400; ++index) {
    train.insert(task->example(0, Split::train, index).inputs);
    test.insert(task->example(1, Split::test, index).inputs);
  }
  for (const auto& sequence : test) EXPECT_FALSE(train.contains(sequence));
  EXPECT_GT(test.size(), 20u);
  EXPECT_LT(test.size(), 400u) << "the task is too large for this test";
}

TEST(ModularArithmetic, IsTheSameOnEveryMachine) {
  const auto flat = make_task(settings({"length=40", "min_length=3"}));
  EXPECT_EQ(golden(*flat, 5), golden(*flat, 5));
  EXPECT_NE(golden(*flat, 5), golden(*flat, 6));
  EXPECT_EQ(golden(*flat, 5), 0xcac35cbec2e7cde1u);
  EXPECT_EQ(golden(*make_task(settings({"length=40", "min_length=3", "brackets=true"})), 5), 0xb53ac9865c59c908u);
}

TEST(ModularArithmetic, HasOneVocabularyWithAndWithoutBrackets) {
  for (const char* brackets : {"brackets=false", "brackets=true"}) {
    const auto task = make_task(settings({brackets}));
    expect_distinct_names(*task);
    EXPECT_EQ(task->vocabulary(), 5 + 7);
    EXPECT_EQ(task->token_name(4), "4");
    EXPECT_EQ(task->difficulty_name(), "tokens");
  }
}

TEST(ModularArithmetic, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(settings({"length=5"})),
            "task.length = 5 must be larger for modular_arithmetic: there are only 75 different expressions of that "
            "length, and fewer than 1000 cannot be split into training and test");
  make_task(settings({"length=6"}));
  EXPECT_NE(refusal(settings({"length=1"})).find("only 0 different"), std::string::npos);
  // ( left operator right ) with 5 tokens for the operands: 4 ways to split them, 3 operators, 5^2 numbers.
  EXPECT_NE(refusal(settings({"length=9", "brackets=true"})).find("only 300 different"), std::string::npos);
  make_task(settings({"length=10", "brackets=true"}));
  EXPECT_EQ(refusal(settings({"length=20", "min_length=21"})),
            "task.modular_arithmetic.min_length = 21 must be 0 (always the full length) or between 1 and task.length = "
            "20");
  EXPECT_EQ(refusal(settings({"min_length=1"})),
            "task.modular_arithmetic.min_length = 1 must be 0 or at least 2: a number and =");
  EXPECT_NE(refusal(settings({"modulus=1"})).find("modulus = 1 must be between 2"), std::string::npos);
}

}  // namespace
}  // namespace klab
