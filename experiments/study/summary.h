// Runs side by side: what each was and how it ended, and groups of runs that differ in their seed alone.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "experiments/study/statistics.h"
#include "experiments/sweep/folder.h"

namespace klab {

struct RunSummary {
  std::string folder;
  std::map<std::string, std::string> config;  ///< every field, as text
  RunRecord record;
};

/// The run in a folder, whether `klab train` or a sweep made it. Throws UsageError when it holds none, and Error when
/// it has not been evaluated yet.
RunSummary summarise(const std::string& folder);

/// The runs of a sweep that were evaluated, in the order of its file.
std::vector<RunSummary> summarise_sweep(const SweepFolder& sweep);

/// The runs in these folders, each of a run or of a sweep (of which those that were evaluated count).
std::vector<RunSummary> summarise_all(const std::vector<std::string>& folders);

/// Keys, in the config's order, in which runs differ, but for the seed.
std::vector<std::string> differing_keys(const std::vector<RunSummary>& runs);

/// Runs that agree in some keys.
struct RunGroup {
  std::vector<std::string> values;  ///< of the keys
  std::vector<const RunSummary*> runs;

  std::vector<double> metric(const std::string& name) const;
};

/// In the order in which they first appear.
std::vector<RunGroup> grouped(const std::vector<RunSummary>& runs, const std::vector<std::string>& keys);

/// Of the groups that differ in `over` alone (one of `keys`) the one with the best mean of the metric;
/// loss decides between equals.
std::vector<RunGroup> best_over(const std::vector<RunGroup>& groups, const std::vector<std::string>& keys,
                                const std::string& over, const std::string& metric);

/// A number of a record by its column in results.csv; throws UsageError for a name that is none.
double metric_of(const RunRecord& record, const std::string& name);

}  // namespace klab
