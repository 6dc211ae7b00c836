// SPDX-License-Identifier: Apache-2.0
// Modular arithmetic: the value of an expression, with or without brackets.
#pragma once

#include "tasks/padding.h"
#include "tasks/task.h"

namespace klab {

struct ModularArithmeticOptions : Configurable {
  int64_t modulus = 5, min_length = 0;
  bool brackets = false, multiply = true;

  void visit(Fields& fields) override;
};

/// After Deletang et al. 2023 (arXiv 2207.02098). Inputs: an expression, then `=`, whose target is the expression's
/// value modulo `modulus`. Numbers are 0 .. modulus - 1, drawn uniformly, as are the operators + - *, or + and -
/// without `multiply`.
///
///   without brackets   2 - 3 - 3 * 2 =      * is computed before + and -, which are computed left to right
///   brackets           ( ( - 3 ) * ( 4 + 1 ) ) =
///
/// An expression with brackets has one pair of them around each operation, so there is no precedence. Its number of
/// tokens n is given: with n < 5 it is the number `d`, `- d`, `( d )` or `( - d )`; otherwise it is `( left operator
/// right )`, where the number of tokens of `left` is uniform in 1 .. n - 4.
///
/// The number of positions with the `=` is uniform between `min_length` and task.length; without brackets, the number
/// of operands is, among those that fit. <pad> fills the rest. tasks/cycle_navigation.h says how the published results
/// are trained and scored. Deletang et al. have no * in expressions with brackets, Grazzi et al. both.
///
/// The vocabulary is the same with and without brackets and *; task.vocab has no effect.
class ModularArithmetic : public GeneratedTask {
 public:
  ModularArithmetic(const TaskShape& shape, const ModularArithmeticOptions& options);

  int64_t vocabulary() const override;
  Example generate(Random& random) const override;
  std::vector<int64_t> split_key(const Example& example) const override;
  std::string token_name(int64_t id) const override;
  /// The number of tokens of the expression.
  std::string difficulty_name() const override { return "tokens"; }

 private:
  // These append an expression and return its value.
  int64_t append_flat(std::vector<int64_t>& tokens, int64_t operands, Random& random) const;
  int64_t append_bracketed(std::vector<int64_t>& tokens, int64_t length, Random& random) const;
  int64_t append_number(std::vector<int64_t>& tokens, int64_t length, Random& random) const;
  int64_t draw_operator(Random& random) const;
  int64_t apply(int64_t sign, int64_t left, int64_t right) const;

  TaskShape shape_;
  int64_t modulus_, min_length_;
  bool brackets_, multiply_;
};

}  // namespace klab
