// SPDX-License-Identifier: Apache-2.0
// Cycle navigation: the position on a cycle after moves to either side.
#pragma once

#include "tasks/padding.h"
#include "tasks/task.h"

namespace klab {

struct CycleNavigationOptions : Configurable {
  int64_t cycle = 5, min_length = 0;
  std::string targets = "last";

  void visit(Fields& fields) override;
};

/// After Deletang et al. 2023 (arXiv 2207.02098). Inputs m1 m2 .. are moves -1, 0 and +1, drawn uniformly, on a cycle
/// of `cycle` positions, from position p0; the target at the last move, or at every move, is the position after it. The
/// number of moves is uniform between `min_length` and task.length, and <pad> fills the rest. Positions never occur as
/// inputs.
///
/// This and modular_arithmetic, dyck and state_tracking (its group parity) are the formal languages on which models are
/// trained at short lengths and tested at longer ones: xLSTM (Beck et al. 2024, arXiv 2405.04517) and Grazzi et al.
/// 2024 (arXiv 2411.12537) train at 3 to 40 tokens and test at 40 to 256. Their lengths count the answer too, which
/// here is no input: with task.length L they are one more. They score (accuracy - chance) / (1 - chance), where chance
/// is that of a uniform guess, 1 / cycle here.
///
/// task.vocab has no effect.
class CycleNavigation : public GeneratedTask {
 public:
  CycleNavigation(const TaskShape& shape, const CycleNavigationOptions& options);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::vector<int64_t> split_key(const Example& example) const override { return without_padding(example, pad()); }
  std::string token_name(int64_t id) const override;
  /// The number of moves made so far.
  std::string difficulty_name() const override { return "moves"; }

 private:
  static constexpr int64_t kMoves = 3;  // token ids of the moves -1, 0, +1: 0, 1, 2
  int64_t pad() const { return kMoves + cycle_; }

  TaskShape shape_;
  int64_t cycle_, min_length_;
  bool every_;
};

}  // namespace klab
