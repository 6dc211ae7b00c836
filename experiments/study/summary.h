// Runs with their configs and results, and groups of runs that differ in their seed alone.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "experiments/study/statistics.h"
#include "experiments/sweep/folder.h"

namespace klab {

struct RunSummary {
  std::string folder;
  std::map<std::string, Value> config;  ///< every field by its key
  RunRecord record;

  /// A field, null where the run has no such key (an option of another mixer).
  Value field(const std::string& key) const;
};

/// The run in a folder. Throws UsageError when it holds none, and Error when it has not been evaluated yet.
RunSummary summarise(const std::string& folder);

/// The runs of a sweep that were evaluated, in the order of its file.
std::vector<RunSummary> summarise_sweep(const SweepFolder& sweep);

/// The runs in these folders, each of a run or of a sweep (of which those that were evaluated count).
std::vector<RunSummary> summarise_all(const std::vector<std::string>& folders);

/// Keys, in the config's order, in which runs differ, but for the seed.
std::vector<std::string> differing_keys(const std::vector<RunSummary>& runs);

/// Runs that agree in some keys.
struct RunGroup {
  std::vector<Value> values;  ///< of the keys
  std::vector<const RunSummary*> runs;

  std::vector<double> metric(const std::string& name) const;
};

/// In the order in which they first appear.
std::vector<RunGroup> grouped(const std::vector<RunSummary>& runs, const std::vector<std::string>& keys);

/// Of the groups that differ in `over` alone (one of `keys`) the one with the best mean of the metric; the loss decides
/// between equals.
std::vector<RunGroup> best_over(const std::vector<RunGroup>& groups, const std::vector<std::string>& keys,
                                const std::string& over, const std::string& metric);

}  // namespace klab
