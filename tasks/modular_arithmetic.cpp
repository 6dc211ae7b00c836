// SPDX-License-Identifier: Apache-2.0
#include "tasks/modular_arithmetic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/error.h"

namespace klab {
namespace {

using Ids = std::vector<int64_t>;

// Token ids are the numbers, then these.
enum Sign : int64_t { kAdd, kSubtract, kMultiply, kOpen, kClose, kEquals, kPad, kSigns };
constexpr std::array<const char*, kSigns> kSignNames = {"+", "-", "*", "(", ")", "=", "<pad>"};

// Of expressions with brackets: the tokens of the shortest operation, and those that are not of its operands.
constexpr int64_t kShortestOperation = 5, kOwnTokens = 3;

// With fewer expressions than this all of them could be memorised, and the test split could be empty.
constexpr int64_t kFewestExpressions = 1000;

int64_t operators(const ModularArithmeticOptions& options) { return options.multiply ? 3 : 2; }

// Up to some more than kFewestExpressions: how many expressions without brackets have that many operands.
int64_t count_flat(const ModularArithmeticOptions& options, int64_t operands) {
  int64_t count = operands > 0 ? 1 : 0;
  for (int64_t i = 0; i < operands && count < kFewestExpressions; ++i) {
    count *= options.modulus * (i == 0 ? 1 : operators(options));
  }
  return count;
}

// Up to kFewestExpressions: how many expressions with brackets have that many tokens. With kEnoughTokens or more of
// them there are always that many, because there are at least four times as many as with four tokens less.
int64_t count_bracketed(const ModularArithmeticOptions& options, int64_t tokens) {
  constexpr int64_t kEnoughTokens = 40;
  Ids counts(1, 0);  // by the number of tokens
  for (int64_t length = 1; length <= std::min(tokens, kEnoughTokens); ++length) {
    int64_t count = length < kShortestOperation ? options.modulus : 0;
    for (int64_t left = 1; left + kOwnTokens < length && count < kFewestExpressions; ++left) {
      count += operators(options) * counts[static_cast<size_t>(left)] *
               counts[static_cast<size_t>(length - kOwnTokens - left)];
    }
    counts.push_back(std::min(count, kFewestExpressions));
  }
  return counts.back();
}

}  // namespace

void ModularArithmeticOptions::visit(Fields& fields) {
  fields("modulus", modulus, {2, 1000}, "numbers are 0 .. modulus - 1");
  fields("brackets", brackets, "a pair of brackets around each operation");
  fields("multiply", multiply, "the operators are + - *, else + and -");
  fields("min_length", min_length, {0, 1 << 24}, "least number of positions with the =; 0: task.length");
}

ModularArithmetic::ModularArithmetic(const TaskShape& shape, const ModularArithmeticOptions& options)
    : shape_(shape),
      modulus_(options.modulus),
      min_length_(options.min_length),
      brackets_(options.brackets),
      multiply_(options.multiply) {
  require(min_length_ != 1, "task.modular_arithmetic.min_length", "1", "must be 0 or at least 2: a number and =");
  require_least_length("task.modular_arithmetic.min_length", min_length_, shape.length);
  const int64_t expressions =
      brackets_ ? count_bracketed(options, shape.length - 1) : count_flat(options, shape.length / 2);
  require(expressions >= kFewestExpressions, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be larger for modular_arithmetic: there are only {} different expressions of that length, "
                      "and fewer than {} cannot be split into training and test",
                      expressions, kFewestExpressions));
}

int64_t ModularArithmetic::vocabulary() const { return modulus_ + kSigns; }

std::vector<int64_t> ModularArithmetic::split_key(const Example& example) const {
  return without_padding(example, modulus_ + kPad);
}

Example ModularArithmetic::generate(Random& random) const {
  Ids tokens;
  int64_t value = 0;
  if (brackets_) {
    value = append_bracketed(tokens, draw_length(min_length_, shape_.length, random) - 1, random);
  } else {
    const int64_t most = shape_.length / 2;  // operands, each with an operator or the = after it
    value = append_flat(tokens, draw_length(std::min((min_length_ + 1) / 2, most), most, random), random);
  }
  Example example;
  for (const int64_t token : tokens) example.append(token);
  example.append(modulus_ + kEquals, value, static_cast<int64_t>(tokens.size()));
  append_padding(example, shape_.length, modulus_ + kPad);
  return example;
}

int64_t ModularArithmetic::draw_operator(Random& random) const {
  return kAdd + static_cast<int64_t>(random.below(multiply_ ? 3 : 2));
}

int64_t ModularArithmetic::apply(int64_t sign, int64_t left, int64_t right) const {
  if (sign == kMultiply) return left * right % modulus_;
  return (sign == kAdd ? left + right : left - right + modulus_) % modulus_;
}

int64_t ModularArithmetic::append_number(Ids& tokens, int64_t length, Random& random) const {
  const auto number = static_cast<int64_t>(random.below(static_cast<uint64_t>(modulus_)));
  const bool negative = length % 2 == 0, bracketed = length > 2;
  if (bracketed) tokens.push_back(modulus_ + kOpen);
  if (negative) tokens.push_back(modulus_ + kSubtract);
  tokens.push_back(number);
  if (bracketed) tokens.push_back(modulus_ + kClose);
  return negative ? apply(kSubtract, 0, number) : number;
}

int64_t ModularArithmetic::append_flat(Ids& tokens, int64_t operands, Random& random) const {
  int64_t sum = 0, sign = kAdd;  // the terms before the current one, and what joins it to them
  int64_t term = append_number(tokens, 1, random);
  for (int64_t i = 1; i < operands; ++i) {
    const int64_t next = draw_operator(random);
    tokens.push_back(modulus_ + next);
    const int64_t number = append_number(tokens, 1, random);
    if (next == kMultiply) {
      term = apply(kMultiply, term, number);
      continue;
    }
    sum = apply(sign, sum, term);
    sign = next;
    term = number;
  }
  return apply(sign, sum, term);
}

int64_t ModularArithmetic::append_bracketed(Ids& tokens, int64_t length, Random& random) const {
  if (length < kShortestOperation) return append_number(tokens, length, random);
  const int64_t operands = length - kOwnTokens;
  const auto left_length = 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(operands - 1)));
  tokens.push_back(modulus_ + kOpen);
  const int64_t left = append_bracketed(tokens, left_length, random);
  const int64_t sign = draw_operator(random);
  tokens.push_back(modulus_ + sign);
  const int64_t right = append_bracketed(tokens, operands - left_length, random);
  tokens.push_back(modulus_ + kClose);
  return apply(sign, left, right);
}

std::string ModularArithmetic::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) {
    fail("modular_arithmetic has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  }
  return id < modulus_ ? fmt::format("{}", id) : kSignNames.at(static_cast<size_t>(id - modulus_));
}

TaskEntry modular_arithmetic_task() {
  return task_entry<ModularArithmetic, ModularArithmeticOptions>("modular_arithmetic",
                                                                 "evaluate an expression modulo 5 (formal languages)");
}

}  // namespace klab
