// SPDX-License-Identifier: Apache-2.0
// Dyck words: which bracket must be closed next.
#pragma once

#include "tasks/task.h"

namespace klab {

struct DyckOptions : Configurable {
  int64_t kinds = 2, depth = 8;
  double open = 0.5;

  void visit(Fields& fields) override;
};

/// Well-nested brackets of `kinds` kinds, at most `depth` of them open: Dyck-(k, m) (Hewitt et al. 2020, arXiv
/// 2010.07515). Each input is an opening bracket with probability `open`, of a kind drawn uniformly, or else the
/// closing bracket of the innermost open one; it is an opening one if none is open, and a closing one if `depth` are.
/// The target at every position is the only closing bracket that may follow: that of the innermost open bracket, or
/// <none> if none is open. So there is one right answer at every position, unlike the set of tokens that may follow.
///
/// Sequences are the first task.length tokens of such a word, whose end is not included. Since every position has a
/// target, a row also contains all shorter lengths, and there is no least length. tasks/cycle_navigation.h has the
/// other formal languages.
///
/// The difficulty is the number of open brackets. task.vocab has no effect.
class Dyck : public GeneratedTask {
 public:
  Dyck(const TaskShape& shape, const DyckOptions& options);

  int64_t vocabulary() const override { return none() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "depth"; }

 private:
  // Token ids are the opening brackets of all kinds, then the closing ones.
  int64_t none() const { return 2 * kinds_; }
  bool draw_opening(size_t opened, Random& random) const;

  TaskShape shape_;
  int64_t kinds_, depth_;
  double open_;
};

}  // namespace klab
