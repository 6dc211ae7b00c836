// SPDX-License-Identifier: Apache-2.0
// Copying: repeat a sequence.
#pragma once

#include "tasks/task.h"

namespace klab {

/// The copy task has no options.
struct CopyOptions : Configurable {
  void visit(Fields&) override {}
};

/// Inputs x1 .. xn <sep> x1 .. xn, of n = (length - 1) / 2 symbols drawn with replacement. The target at <sep> is x1,
/// and in the second half the target at x(i) is x(i+1); the last xn has none: n targets, each n tokens after the
/// symbol's first occurrence. A model given the tokens up to <sep> can therefore generate the copy autoregressively.
/// Even lengths end with <pad>.
class Copy : public GeneratedTask {
 public:
  explicit Copy(const TaskShape& shape);

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
