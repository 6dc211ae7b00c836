// Arithmetic: write the results of sums, differences and products, digit by digit.
#pragma once

#include "tasks/task.h"

namespace klab {

struct ArithmeticOptions : Configurable {
  std::string operation = "add";
  int64_t digits = 2;
  std::string result_order = "highest_first";

  void visit(Fields& fields) override;
};

/// Problems a + b = r <end>, one token for each digit and sign, as many as fit: another one is begun while the largest
/// that there can be would fit; <pad> fills the rest. What stands behind `=` is to be predicted, the <end> included:
/// the first digit under `=`, each further token under the one before it. Operands have 1 .. `digits` digits, the
/// number drawn uniformly, then a number of so many digits; a difference has the larger one first, so no result is
/// negative. Numbers have no leading zeros. `operation` is add, subtract, multiply, or mixed, which draws one of the
/// three for each problem. Operands are written as people write them, results too, or with the lowest digit first,
/// in which order carries can be worked out while writing (Lee et al. 2023, arXiv 2307.03381).
///
/// The difficulty is the number of digits of the longer operand. The vocabulary is always the same 16 tokens, whatever
/// the options: task.vocab has no effect here. Train and test share no sequence; a single problem can stand in both,
/// unless the length is that of one problem only.
class Arithmetic : public Task {
 public:
  Arithmetic(const TaskShape& shape, const ArithmeticOptions& options);

  int64_t vocabulary() const override;
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "digits"; }

 private:
  int64_t draw_operand(Random& random) const;
  int64_t draw_operation(Random& random) const;
  void append_problem(Example& example, Random& random) const;

  TaskShape shape_;
  std::string operation_;
  int64_t digits_;
  bool lowest_first_;
  int64_t longest_problem_;
};

}  // namespace klab
