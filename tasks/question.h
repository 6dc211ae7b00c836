// SPDX-License-Identifier: Apache-2.0
// Questions: several kinds over one small alphabet, each with one answer that can be checked.
#pragma once

#include "tasks/group.h"
#include "tasks/task.h"

namespace klab {

struct QuestionOptions : Configurable {
  std::string kind = "copy", group = "s3", result_order = "highest_first";
  int64_t smallest = 1, largest = 5;

  void visit(Fields& fields) override;
};

/// One question per row, for supervised fine-tuning and reinforcement learning. `kind`:
///   copy            copy 3 1 4 = 3 1 4 <end>
///   palindrome      reverse 3 1 4 = 4 1 3 <end>
///   addition        1 2 + 3 4 = 4 6 <end>
///   state_tracking  product 2 5 1 = 2 3 5 <end>: the running products of elements of `group`, each an index into the
///                   group (tasks/group.h), which has at most 10 elements
/// The number of symbols, of digits of each operand, or of elements is uniform in `smallest` .. `largest`; then the
/// symbols, the numbers with that many digits, or the elements are uniform. Numbers have no leading zeros. Operands are
/// written with the highest digit first; sums too, or with the lowest digit first (tasks/arithmetic.h).
///
/// The targets are the tokens after `=`, including <end>: the first is predicted at `=`, each further one at the token
/// before it. <pad> fills the rest. The vocabulary always has the same 17 tokens, so that one model can be trained on a
/// mixture of kinds; task.vocab has no effect. The split depends on the question alone, not on task.length.
///
/// The difficulty is the number of symbols, of digits of the longer operand, or of elements.
class Question : public GeneratedTask {
 public:
  Question(const TaskShape& shape, const QuestionOptions& options);

  int64_t vocabulary() const override;
  Example generate(Random& random) const override;
  std::vector<int64_t> split_key(const Example& example) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "size"; }
  std::optional<int64_t> end_token() const override;

 private:
  int64_t draw_size(Random& random) const;
  std::vector<int64_t> draw_number(Random& random) const;
  Example symbols(Random& random) const;
  Example sum(Random& random) const;
  Example products(Random& random) const;

  TaskShape shape_;
  std::string kind_;
  int64_t smallest_, largest_;
  bool lowest_first_;
  Group group_;
};

}  // namespace klab
