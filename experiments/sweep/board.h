// What people see of a sweep while it runs.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "experiments/sweep/folder.h"

namespace klab {

/// Redraws a table in place on a terminal; elsewhere a line for each run that ends, and now and then a summary.
class SweepBoard {
 public:
  SweepBoard(const Plan& plan, const std::vector<RunRecord>& before, bool quiet);

  void draw(const std::vector<RunRecord>& records, int64_t workers);
  /// Prints a line that stays.
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
