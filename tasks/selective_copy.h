// SPDX-License-Identifier: Apache-2.0
// Selective copying: repeat a few symbols that were spread among blanks.
#pragma once

#include "tasks/task.h"

namespace klab {

struct SelectiveCopyOptions : Configurable {
  int64_t items = 16;

  void visit(Fields& fields) override;
};

/// After Poli et al. 2024 (MAD, arXiv 2403.17844). Inputs: symbols x1 .. xn, drawn with replacement, at positions
/// drawn uniformly among blanks `_`; then <copy> and n blanks, where the target at the i-th blank is x(i). The answers
/// are not fed back, so the model has to count them itself. n is `items` at every length.
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

  TaskShape shape_;
  int64_t items_;
};

}  // namespace klab
