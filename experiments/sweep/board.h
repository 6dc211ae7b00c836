// SPDX-License-Identifier: Apache-2.0
// The progress display of a sweep.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "experiments/sweep/folder.h"

namespace klab {

/// On a terminal a table that is redrawn in place; otherwise a line for each run that ends and a periodic summary.
class SweepBoard {
 public:
  SweepBoard(const Plan& plan, const std::vector<RunRecord>& before, bool quiet);

  void draw(const std::vector<RunRecord>& records, int64_t workers);
  /// Prints a permanent line.
  void note(const std::string& line);

 private:
  using Clock = std::chrono::steady_clock;

  std::string summary(const std::vector<RunRecord>& records, int64_t workers) const;
  std::string running_table(const std::vector<RunRecord>& records) const;
  std::string name_of(size_t run) const;
  void tell_endings(const std::vector<RunRecord>& records);
  void erase();

  const Plan& plan_;
  std::vector<RunState> told_;
  double tokens_before_;
  bool quiet_, terminal_;
  long lines_ = 0;
  Clock::time_point begin_, last_;
};

}  // namespace klab
