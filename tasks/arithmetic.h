// SPDX-License-Identifier: Apache-2.0
// Arithmetic: predict the results of sums, differences and products, digit by digit.
#pragma once

#include "tasks/task.h"

namespace klab {

struct ArithmeticOptions : Configurable {
  std::string operation = "add";
  int64_t digits = 2;
  std::string result_order = "highest_first";

  void visit(Fields& fields) override;
};

/// Problems a + b = r <end>, one token per digit and sign. Problems are appended while the longest possible one fits;
/// <pad> fills the rest. The targets are the tokens after `=`, including <end>: the first digit is predicted at `=`,
/// each further token at the token before it. The number of digits of an operand is uniform in 1 .. `digits`, then the
/// operand is uniform among the numbers with that many digits. A difference has the larger operand first, so no result
/// is negative. Numbers have no leading zeros. `operation` is add, subtract, multiply, or mixed, which draws one of
/// the three for each problem. Operands are written with the highest digit first; results too, or with the lowest digit
/// first, so that carries can be computed left to right (Lee et al. 2023, arXiv 2307.03381).
///
/// The difficulty is the number of digits of the longer operand. The vocabulary always has the same 16 tokens;
/// task.vocab has no effect. Train and test share no sequence, but the same problem can occur in both unless a sequence
/// has only one problem.
class Arithmetic : public GeneratedTask {
 public:
  Arithmetic(const TaskShape& shape, const ArithmeticOptions& options);

  int64_t vocabulary() const override;
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "digits"; }
  std::optional<int64_t> end_token() const override;

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
