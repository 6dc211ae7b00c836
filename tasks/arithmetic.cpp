// SPDX-License-Identifier: Apache-2.0
#include "tasks/arithmetic.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "tasks/padding.h"

namespace klab {
namespace {

// Token ids; 0 to 9 are the digits.
enum Sign : int64_t { kAdd = 10, kSubtract, kMultiply, kEquals, kEnd, kPad, kTokens };

// Products of operands of up to 9 digits fit an int64_t.
constexpr int64_t kMostDigits = 9;

int64_t power_of_ten(int64_t exponent) {
  int64_t power = 1;
  for (int64_t i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// The digits of a number, highest first.
std::vector<int64_t> digits_of(int64_t number) {
  std::vector<int64_t> digits;
  do {
    digits.push_back(number % 10);
    number /= 10;
  } while (number > 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

int64_t result_of(int64_t operation, int64_t left, int64_t right) {
  if (operation == kAdd) return left + right;
  return operation == kSubtract ? left - right : left * right;
}

int64_t longest_result(const std::string& operation, int64_t digits) {
  if (operation == "subtract") return digits;
  return operation == "add" ? digits + 1 : 2 * digits;
}

}  // namespace

void ArithmeticOptions::visit(Fields& fields) {
  fields.choice("operation", operation, {"add", "subtract", "multiply", "mixed"},
                "the operation; mixed: one of the three, drawn for each problem");
  fields("digits", digits, {1, kMostDigits}, "maximum number of digits of an operand");
  fields.choice("result_order", result_order, {"highest_first", "lowest_first"},
                "order of the digits of results; operands are always highest first");
}

Arithmetic::Arithmetic(const TaskShape& shape, const ArithmeticOptions& options)
    : shape_(shape),
      operation_(options.operation),
      digits_(options.digits),
      lowest_first_(options.result_order == "lowest_first") {
  longest_problem_ = 2 * digits_ + longest_result(operation_, digits_) + 3;
  require(shape.length >= longest_problem_, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for arithmetic: the longest problem, with operands of {} digits",
                      longest_problem_, digits_));
}

int64_t Arithmetic::vocabulary() const { return kTokens; }

std::optional<int64_t> Arithmetic::end_token() const { return kEnd; }

int64_t Arithmetic::draw_operand(Random& random) const {
  const auto digits = 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(digits_)));
  const int64_t smallest = digits == 1 ? 0 : power_of_ten(digits - 1);
  return smallest + static_cast<int64_t>(random.below(static_cast<uint64_t>(power_of_ten(digits) - smallest)));
}

int64_t Arithmetic::draw_operation(Random& random) const {
  if (operation_ == "add") return kAdd;
  if (operation_ == "subtract") return kSubtract;
  if (operation_ == "multiply") return kMultiply;
  return kAdd + static_cast<int64_t>(random.below(3));
}

Example Arithmetic::generate(Random& random) const {
  Example example;
  while (example.size() + longest_problem_ <= shape_.length) append_problem(example, random);
  append_padding(example, shape_.length, kPad);
  return example;
}

void Arithmetic::append_problem(Example& example, Random& random) const {
  const int64_t operation = draw_operation(random);
  int64_t left = draw_operand(random);
  int64_t right = draw_operand(random);
  if (operation == kSubtract && left < right) std::swap(left, right);
  const std::vector<int64_t> left_digits = digits_of(left), right_digits = digits_of(right);
  for (const int64_t digit : left_digits) example.append(digit);
  example.append(operation);
  for (const int64_t digit : right_digits) example.append(digit);

  std::vector<int64_t> answer = digits_of(result_of(operation, left, right));
  if (lowest_first_) std::reverse(answer.begin(), answer.end());
  answer.push_back(kEnd);
  const auto digits = static_cast<int64_t>(std::max(left_digits.size(), right_digits.size()));
  int64_t input = kEquals;
  for (const int64_t token : answer) {
    example.append(input, token, digits);
    input = token;
  }
  example.append(input);
}

std::string Arithmetic::token_name(int64_t id) const {
  if (id < 0 || id >= kTokens) fail("arithmetic has no token {}: the ids are 0 to {}", id, kTokens - 1);
  if (id < kAdd) return fmt::format("{}", id);
  switch (id) {
    case kAdd: return "+";
    case kSubtract: return "-";
    case kMultiply: return "*";
    case kEquals: return "=";
    case kEnd: return "<end>";
    default: return "<pad>";
  }
}

TaskEntry arithmetic_task() {
  return task_entry<Arithmetic, ArithmeticOptions>("arithmetic",
                                                   "compute sums, differences and products digit by digit");
}

}  // namespace klab
