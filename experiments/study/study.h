// SPDX-License-Identifier: Apache-2.0
// Comparisons of trained models: a learning rate search per model, then runs with new seeds at the best learning rate.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/reproduction.h"
#include "experiments/study/summary.h"

namespace klab {

struct Study {
  std::vector<RunSummary> search, measured;  ///< one seed at every learning rate; new seeds at the best one
  bool out_of_time = false;                  ///< runs are missing; repeating the command continues
};

struct StudyPlan {
  std::string figure;              ///< the folder under experiments/figures/ with SCALE.yaml
  std::vector<std::string> cells;  ///< keys; each combination of their values (cell) has its own learning rate
  std::string metric;              ///< metric for choosing the learning rate
  int64_t seeds = 3;               ///< number of new seeds
};

/// Runs experiments/figures/FIGURE/SCALE.yaml, then the best run of each cell with seeds that the search did not use:
/// results on the search's own seed would be biased by the selection. Runs are in OUT/runs-SCALE/, where a later call
/// continues; writes search.csv, results.csv, curves.csv and evaluations.csv to OUT. Throws Error when a run fails for
/// another reason than divergence.
Study run_study(const StudyPlan& plan, const ReproduceOptions& options);

/// The metric of all runs whose config has these values.
struct CellKey {
  std::string key;
  Value value;
};
std::vector<double> metric_of_cell(const std::vector<RunSummary>& runs, const std::vector<CellKey>& cell,
                                   const std::string& metric);
/// The distinct values of a key among runs; numbers sorted, others in order of appearance.
std::vector<Value> values_of_key(const std::vector<RunSummary>& runs, const std::string& key);

/// "98.4 ± 1.2" in percent; "-" for no values.
std::string percent(const std::vector<double>& shares);

/// Whether x exceeds y, by the 95 % interval of the difference: "held", "reversed", "not decided" (the interval
/// contains 0) or "not measured" (fewer than two values).
std::string verdict(const std::vector<double>& x, const std::vector<double>& y);

/// The difference in percentage points: "+1.2 [+0.3, +2.1]".
std::string difference(const std::vector<double>& x, const std::vector<double>& y);

/// Writes page.md.
void write_page(const ReproduceOptions& options, const std::vector<std::string>& lines);

}  // namespace klab
