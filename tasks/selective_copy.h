// SPDX-License-Identifier: Apache-2.0
// Selective copying: repeat a few symbols that were spread among blanks.
#pragma once

#include "tasks/task.h"

namespace klab {

struct SelectiveCopyOptions : Configurable {
  int64_t items = 16;
  double mean_gap = 0;

  void visit(Fields& fields) override;
};

/// After Poli et al. 2024 (MAD, arXiv 2403.17844). Inputs: symbols x1 .. xn, drawn with replacement, at positions
/// drawn uniformly among blanks `_`; then <copy> and n blanks, where the target at the i-th blank is x(i). The answers
/// are not fed back, so the model has to count them itself. n is `items` at every length.
///
/// With a `mean_gap` the symbols arrive in continuous time: the time before each, in tokens, is an exponential variable
/// with that mean, of which as many blanks are seen as whole tokens have passed. A draw of all gaps that do not fit is
/// repeated. Symbols then stand at the same density everywhere, and the wait until <copy> differs; with mean_gap = 0,
/// positions are uniform among all those before <copy>.
///
/// Differences to the public code: there no blank follows xn, and the positions of the blanks do not depend on its
/// seed.
class SelectiveCopy : public GeneratedTask {
 public:
  SelectiveCopy(const TaskShape& shape, const SelectiveCopyOptions& options);

  int64_t vocabulary() const override { return shape_.vocab + 2; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  int64_t blank() const { return shape_.vocab; }
  int64_t copy() const { return shape_.vocab + 1; }
  int64_t prefix() const { return shape_.length - 1 - items_; }  // positions before <copy>
  std::vector<int64_t> draw_positions(Random& random) const;

  TaskShape shape_;
  int64_t items_;
  double mean_gap_;
};

}  // namespace klab
