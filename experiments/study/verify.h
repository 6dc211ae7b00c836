// SPDX-License-Identifier: Apache-2.0
// Repeats runs of a committed study and compares their results.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/study/study_file.h"

namespace klab {

/// A result of a repeated run beside the committed one.
struct VerifiedMetric {
  std::string name;
  double committed = 0, repeated = 0;
  bool equal = false;   ///< in every printed digit
  bool within = false;  ///< the committed seeds of the cell reach from `low` to `high`, and it is not farther outside
  double low = 0, high = 0;
};

struct VerifiedRun {
  std::string name;              ///< the keys in which the study's runs differ, and their values
  std::string version, machine;  ///< of the committed result: klab's with its commit
  bool same_origin = false;      ///< this version and kind of machine: then the results must be equal, else `within`
  std::vector<VerifiedMetric> metrics;

  bool passed() const;
};

/// Outside of the range of the cell's seeds, by at most this much, a repeated accuracy still passes for another version
/// of klab or kind of machine: there sums round differently, and a run becomes another sample of its cell, like another
/// seed.
constexpr double kVerifyTolerance = 0.1;

/// Repeats `count` runs of FOLDER/results.csv, drawn with `seed`, from FOLDER/study.yaml, in temporary folders. Throws
/// UsageError if the folder has no study, and Error if a run fails.
std::vector<VerifiedRun> verify_study(const std::string& folder, int64_t count, uint64_t seed, bool quiet);

}  // namespace klab
