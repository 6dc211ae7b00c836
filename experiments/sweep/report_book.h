// SPDX-License-Identifier: Apache-2.0
// What the runs of a sweep have reported at the rungs of halving, from their folders.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "experiments/sweep/folder.h"
#include "experiments/sweep/halving.h"

namespace klab {

/// Reads files of runs only when they have changed, and goes over the runs before one only once per rung.
class ReportBook {
 public:
  ReportBook(const SweepFolder& folder, const Plan& plan)
      : folder_(folder), plan_(plan), book_(plan.runs.size()), seen_(book_.size()), settled_(book_.size()) {}

  /// What judge() needs for a run at a rung: its own reports, and those of its group before it up to the first run that
  /// it has to wait for.
  const std::vector<Reports>& for_judging(size_t run, size_t rung);

 private:
  // The number of runs at the plan's beginning that a run does not have to wait for at a rung.
  struct Settled {
    size_t rung = 0, runs = 0;
  };

  bool has_told(size_t run, size_t rung);
  void read(size_t run);
  std::vector<double> rung_values(const std::string& path) const;

  const SweepFolder& folder_;
  const Plan& plan_;
  std::vector<Reports> book_;
  std::vector<std::pair<FileStamp, FileStamp>> seen_;  // record and metrics when they were read
  std::vector<Settled> settled_;
};

}  // namespace klab
