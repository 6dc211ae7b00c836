// SPDX-License-Identifier: Apache-2.0
#include "tasks/mano.h"

#include <fmt/format.h>

#include <array>

#include "core/base/error.h"
#include "tasks/padding.h"

namespace klab {
namespace {

// Token ids are the numbers, then these, then <len_1> <len_2> ..: the last ids, so that all others are the same for all
// numbers of operations.
enum Sign : int64_t { kAdd, kSubtract, kMultiply, kBos, kAns, kPad, kSigns };
constexpr std::array<const char*, kSigns> kSignNames = {"+", "-", "*", "<bos>", "<ans>", "<pad>"};

// The tokens of a problem with that many operations: an operation and a number for each, one more number, and <bos>,
// <len>, <ans> and the value.
constexpr int64_t tokens_of(int64_t operations) { return 2 * operations + 5; }

}  // namespace

void ManoOptions::visit(Fields& fields) {
  fields("modulus", modulus, {2, 1 << 20}, "numbers are 0 .. modulus - 1");
  fields("operations", operations, {1, 1000}, "the most operations of an expression");
  fields("min_operations", min_operations, {1, 1000}, "the fewest; their number is uniform");
}

Mano::Mano(const TaskShape& shape, const ManoOptions& options)
    : shape_(shape),
      modulus_(options.modulus),
      operations_(options.operations),
      min_operations_(options.min_operations) {
  require(min_operations_ <= operations_, "task.mano.min_operations", fmt::format("{}", min_operations_),
          fmt::format("must be at most task.mano.operations = {}", operations_));
  const int64_t longest = tokens_of(operations_);
  require(shape.length >= longest, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for mano: the longest problem, with {} operations", longest, operations_));
}

int64_t Mano::vocabulary() const { return modulus_ + kSigns + operations_; }

Example Mano::generate(Random& random) const {
  Example example;
  while (example.size() + tokens_of(operations_) <= shape_.length) append_problem(example, random);
  append_padding(example, shape_.length, modulus_ + kPad);
  return example;
}

void Mano::append_problem(Example& example, Random& random) const {
  const int64_t operations = draw_length(min_operations_, operations_, random);
  example.append(modulus_ + kBos);
  example.append(modulus_ + kSigns + operations - 1);
  const int64_t value = append_expression(example, operations, random);
  example.append(modulus_ + kAns, value, operations);
  example.append(value);
}

int64_t Mano::append_expression(Example& example, int64_t operations, Random& random) const {
  if (operations == 0) {
    example.append(static_cast<int64_t>(random.below(static_cast<uint64_t>(modulus_))));
    return example.inputs.back();
  }
  const auto sign = kAdd + static_cast<int64_t>(random.below(3));
  example.append(modulus_ + sign);
  const auto in_left = static_cast<int64_t>(random.below(static_cast<uint64_t>(operations)));
  const int64_t left = append_expression(example, in_left, random);
  const int64_t right = append_expression(example, operations - 1 - in_left, random);
  if (sign == kMultiply) return left * right % modulus_;
  return (sign == kAdd ? left + right : left - right + modulus_) % modulus_;
}

std::string Mano::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) fail("mano has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  if (id < modulus_) return fmt::format("{}", id);
  const int64_t sign = id - modulus_;
  return sign < kSigns ? kSignNames.at(static_cast<size_t>(sign)) : fmt::format("<len_{}>", sign - kSigns + 1);
}

TaskEntry mano_task() {
  return task_entry<Mano, ManoOptions>("mano", "evaluate nested expressions modulo 23 (Canon suite)");
}

}  // namespace klab
