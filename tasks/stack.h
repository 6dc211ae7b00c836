// SPDX-License-Identifier: Apache-2.0
// Stack: track many stacks and predict what each pop returns.
#pragma once

#include "tasks/task.h"

namespace klab {

struct StackOptions : Configurable {
  int64_t stacks = 64;
  double pop_probability = 0.5;

  void visit(Fields& fields) override;
};

/// Operations of three tokens, `<push> id elem` and `<pop> id elem`, on stacks that begin empty. At the id of
/// a pop the target is the element on top of that stack; it is then the third input token. While any stack is
/// not empty the next operation is a pop with the given probability, of a stack drawn uniformly among the
/// non-empty ones; so an empty stack is never popped. Pushes draw the stack and the element uniformly. A
/// sequence that would have no pop ends with one. Lengths that are not a multiple of three end with <pad>.
class Stack : public GeneratedTask {
 public:
  Stack(const TaskShape& shape, const StackOptions& options);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  int64_t stack_id(int64_t stack) const { return shape_.vocab + stack; }
  int64_t push() const { return shape_.vocab + stacks_; }
  int64_t pop() const { return push() + 1; }
  int64_t pad() const { return push() + 2; }

  TaskShape shape_;
  int64_t stacks_;
  double pop_probability_;
};

}  // namespace klab
