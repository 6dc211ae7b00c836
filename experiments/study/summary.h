// SPDX-License-Identifier: Apache-2.0
// Runs with their configs and results, and groups of runs with equal values of some keys.
#pragma once

#include <functional>
#include <map>
#include <optional>
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
  std::string id = {};  ///< hash of the whole config

  /// The value of a key, or null if the run does not have it (an option of another mixer).
  Value field(const std::string& key) const;
};

/// The loss over all targets of test data, and what of it is above the entropy of the source, in nats per token: of the
/// run's own task, and of the last variant in test.also.
struct LanguageLosses {
  double loss = 0, excess = 0, shifted = 0, shifted_excess = 0;
};

/// From the evaluations.csv of a run on the task `language`; none if it has not finished.
std::optional<LanguageLosses> language_losses(const RunSummary& run);

/// Reads the run in a folder, in any state. Throws UsageError if there is none.
RunSummary read_summary(const std::string& folder);

/// Reads the run in a folder. Throws UsageError if there is none, and Error if it has not been evaluated yet.
RunSummary summarise(const std::string& folder);

/// The evaluated runs of a sweep, in the order of its file.
std::vector<RunSummary> summarise_sweep(const SweepFolder& sweep);

/// The runs in some folders, each once.
struct RunSet {
  std::vector<RunSummary> runs;
  std::vector<RunSummary> missing;  ///< runs of sweeps that have not been evaluated
  int64_t shared = 0;               ///< number of runs that are in several places
};

/// Reads the runs in these folders of runs or sweeps. Of a run in several places the result after the most steps
/// counts. Throws UsageError if there is no run that has been evaluated.
RunSet summarise_all(const std::vector<std::string>& folders);

/// The keys in which the runs differ, except the seed.
std::vector<std::string> differing_keys(const std::vector<RunSummary>& runs,
                                        const std::vector<RunSummary>& more_runs = {});

/// Runs with equal values of some keys.
struct RunGroup {
  std::vector<Value> values;  ///< values of the keys
  std::vector<const RunSummary*> runs;

  std::vector<double> metric(const std::string& name) const;
};

/// Groups runs by the values of `keys`, in order of first appearance.
std::vector<RunGroup> grouped(const std::vector<RunSummary>& runs, const std::vector<std::string>& keys);

/// Splits groups by how their runs ended: by the state, and for runs that did not finish by the step.
std::vector<RunGroup> split_by_end(const std::vector<RunGroup>& groups);

/// The values as text, different for different values.
std::string group_name(const std::vector<Value>& values);

/// Of the groups that differ only in `over` (one of `keys`) keeps the one with the best mean of the metric; ties are
/// broken by the loss.
std::vector<RunGroup> best_over(const std::vector<RunGroup>& groups, const std::vector<std::string>& keys,
                                const std::string& over, const std::string& metric);

}  // namespace klab
