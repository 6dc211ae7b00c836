// SPDX-License-Identifier: Apache-2.0
// Mano: the value of a nested expression in modular arithmetic, in one step.
#pragma once

#include "tasks/task.h"

namespace klab {

struct ManoOptions : Configurable {
  int64_t modulus = 23, operations = 10, min_operations = 1;

  void visit(Fields& fields) override;
};

/// "Knowledge manipulation" of the Canon suite (Allen-Zhu 2025, Physics of language models part 4.1, arXiv 2512.17351).
/// Inputs: problems <bos> <len_l> expression <ans> value, appended while the longest possible one fits; <pad> fills the
/// rest. The target at <ans> is the value, which is also an input. An expression has l operations, uniform in
/// min_operations .. operations, in prefix notation: `+ * a b - c d` is (a * b) + (c - d). Each operation is one of + -
/// *, drawn uniformly; of its other operations, a number drawn uniformly from none to all is in the first operand, the
/// rest in the second. Numbers are uniform in 0 .. modulus - 1, and everything is computed modulo `modulus`: the three
/// tables of its operations are the knowledge, and no intermediate result is written down.
///
/// Published sizes: 10, 13 and 16 operations, tested with min_operations = operations. Simplified: only values are
/// targets, where the paper trains on all tokens.
///
/// The difficulty is l. task.vocab has no effect. Train and test share no row, but the same problem can occur in both:
/// there are only 3 modulus^2 with one operation.
class Mano : public GeneratedTask {
 public:
  Mano(const TaskShape& shape, const ManoOptions& options);

  int64_t vocabulary() const override;
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "operations"; }

 private:
  void append_problem(Example& example, Random& random) const;
  /// Appends an expression and returns its value.
  int64_t append_expression(Example& example, int64_t operations, Random& random) const;

  TaskShape shape_;
  int64_t modulus_, operations_, min_operations_;
};

}  // namespace klab
