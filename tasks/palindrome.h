// SPDX-License-Identifier: Apache-2.0
// Palindrome: reverse a sequence.
#pragma once

#include "tasks/task.h"

namespace klab {

/// The palindrome task has no options.
struct PalindromeOptions : Configurable {
  void visit(Fields&) override {}
};

/// Inputs x1 .. xn <sep> xn .. x1, of n = (length - 1) / 2 symbols drawn with replacement. In the second half the
/// target at x(i) is x(i-1). <sep> has no target, because xn was read just before it, nor has the last x1: n - 1
/// targets. Even lengths end with <pad>.
class Palindrome : public GeneratedTask {
 public:
  explicit Palindrome(const TaskShape& shape);

  int64_t vocabulary() const override { return shape_.vocab + 2; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  int64_t items() const { return (shape_.length - 1) / 2; }
  int64_t separator() const { return shape_.vocab; }
  // Part of the vocabulary at odd lengths too, so that a model trained at one length can be evaluated at any other.
  int64_t pad() const { return shape_.vocab + 1; }

  TaskShape shape_;
};

}  // namespace klab
